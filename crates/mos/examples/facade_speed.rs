//! Measures adding and searching through the facade, with the real encoder: `speed FOLDER N_MEMORIES`.
//!
//! Prints JSON lines. The p50 of a bare write with fsync in the same folder stands beside the times of adding, because
//! no durable write can be faster.
#![allow(clippy::print_stdout, reason = "this program prints figures")]

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use mos::{Add, Mos, NewCube, Search, Settings, config};
use mos_core::{Message, UserId};

const SUBJECTS: [&str; 10] =
    ["my dog", "the garden", "our team", "Tom", "the old car", "her sister", "the budget", "chess", "the lake", "work"];
const FACTS: [&str; 10] = [
    "needs attention on",
    "was mentioned on",
    "changed a lot since",
    "will be ready by",
    "made everybody laugh on",
    "was photographed on",
    "cost more than planned on",
    "is planned again for",
    "was repaired on",
    "starts early on",
];

fn text(n: usize) -> String {
    format!("{} {} day {} of project {}", SUBJECTS[n % 10], FACTS[n / 10 % 10], n % 365, n)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, n_memories] = arguments.as_slice() else { return Err("usage: speed FOLDER N_MEMORIES".into()) };
    let (folder, n_memories): (&Path, usize) = (folder.as_ref(), n_memories.parse()?);
    let settings = config::Settings::load(None, config::process_environment())?.settings;
    let mos = Mos::builder(Settings { data_dir: None, ..settings }).data_dir(folder).build().await?;
    let user = UserId::from("ann");
    mos.create_user("ann", None).await?;
    mos.create_cube(&user, NewCube::new("bench")).await?;
    fill(&mos, n_memories).await?;
    let adds = singles(&mos, n_memories).await?;
    let searches = searches(&mos).await?;
    let bare = bare_syncs(folder)?;
    report("fsync", &bare);
    report("add", &adds);
    report("search", &searches);
    println!(
        "{{\"what\": \"add over bare fsync, p50\", \"ratio\": {:.2}}}",
        percentile(&adds, 50).as_secs_f64() / percentile(&bare, 50).as_secs_f64()
    );
    Ok(())
}

async fn fill(mos: &Mos, n_memories: usize) -> mos::Result<()> {
    let start = Instant::now();
    let texts: Vec<Message> = (0..n_memories).map(|n| Message::user(text(n))).collect();
    for batch in texts.chunks(128) {
        mos.add(Add::messages(batch.to_vec()).user("ann")).await?;
    }
    let rate = n_memories as f64 / start.elapsed().as_secs_f64();
    println!("{{\"what\": \"add in batches of 128\", \"memories_per_s\": {rate:.1}}}");
    Ok(())
}

async fn singles(mos: &Mos, n_before: usize) -> mos::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for n in 0..200 {
        let start = Instant::now();
        mos.add(Add::text(text(n_before + n)).user("ann")).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

async fn searches(mos: &Mos) -> mos::Result<Vec<Duration>> {
    mos.search(Search::new("warm up").user("ann")).await?;
    let mut times = Vec::new();
    for n in 0..200 {
        let start = Instant::now();
        mos.search(Search::new(format!("what about {} on day {}", SUBJECTS[n % 10], n)).user("ann")).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn bare_syncs(folder: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = std::fs::File::create(folder.join("bare-sync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() - 1) * percent / 100]
}

fn report(what: &str, times: &[Duration]) {
    let milliseconds = |percent| percentile(times, percent).as_secs_f64() * 1e3;
    println!("{{\"what\": \"{what}\", \"p50_ms\": {:.3}, \"p95_ms\": {:.3}}}", milliseconds(50), milliseconds(95));
}
