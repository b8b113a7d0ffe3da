//! Measures `mos serve` under load: `server_load MOS FOLDER [--seconds N] [--minutes N] [--memories N] [--clients N] [--users N]
//! [--server-cores others|all]`.
//!
//! `MOS` is the program as it is released. It is started over an empty data folder with the usual encoder and without limits
//! of requests, and filled through its own interface. Then clients search (80 of 100 requests) and add (20) at the same time:
//! first each question is a new one, which the encoder must look at, then the same few are asked again and again, whose vectors
//! the server remembers. Each added text has a word that no other one has; in the end every one that was acknowledged must
//! be in a listing. The bare encoder is measured in the same run, before and after, on the cores that the server has.
//!
//! Where there are several cores and `taskset`, the clients have one of them and the server the others (or all of them).
//! `--minutes` loads the server for so long once more, with new questions, and watches its memory.
//!
//! Prints JSON lines, and fails when a request fails, an addition is lost, or memory grows.
#![allow(clippy::print_stdout, reason = "this program prints figures")]

mod arguments;
mod client;
mod cores;
mod encoder;
mod load;
mod report;
mod resident;
mod serving;
mod stored;
mod texts;

use std::error::Error;
use std::time::Duration;

use arguments::{Mode, Options};
use cores::Cores;
use load::{Load, Measured, Phase, Questions};
use serving::Serving;

type Failure = Box<dyn Error + Send + Sync>;

/// How long the encoder is measured in each of its three ways, in seconds.
const ENCODER_SECONDS: f64 = 5.0;

fn main() -> Result<(), Failure> {
    match Mode::parse(std::env::args().skip(1))? {
        Mode::Encoder { seconds, n_callers } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(encoder::measure(Duration::from_secs_f64(seconds), n_callers))
        }
        Mode::Load(options) => run(&options),
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // Before there are other threads: they stay where this one is.
    let cores = Cores::divide(options.server_has_all_cores)?;
    println!("{}", cores.told());
    let before = encoder::measure_in_child(&cores, ENCODER_SECONDS, options.n_clients, "before")?;
    let server = Serving::start(&options.program, &options.folder, &cores)?;
    // One thread: the clients have one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Outcome { phases, missed } = runtime.block_on(load_all(options, &server))?;
    server.end()?;
    let after = encoder::measure_in_child(&cores, ENCODER_SECONDS, options.n_clients, "after")?;
    let limit = f64::midpoint(before, after);
    for (phase, measured) in &phases {
        report::beside_encoder(phase, measured, limit);
    }
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ").into()) }
}

/// What came of a run.
struct Outcome {
    phases: Vec<(Phase, Measured)>,
    /// What went wrong, a sentence each.
    missed: Vec<String>,
}

/// Fills the server and loads it, phase by phase, and looks for what was added.
async fn load_all(options: &Options, server: &Serving) -> Result<Outcome, Failure> {
    load::fill(server, options.n_memories, options.n_users).await?;
    let load = Load::new(server, options.n_clients, options.n_users);
    let (mut measured, mut missed) = (Vec::new(), Vec::new());
    for phase in phases(options) {
        let of_phase = load.run(phase).await?;
        report::requests(&phase, &of_phase);
        missed.extend(report::failures(&phase, &of_phase));
        missed.extend(report::memory(&phase, &of_phase));
        measured.push((phase, of_phase));
    }
    let acknowledged = load.acknowledged();
    let lost = stored::lost(server, &acknowledged, options.n_users).await?;
    println!("{{\"what\": \"acknowledged additions\", \"n\": {}, \"lost\": {}}}", acknowledged.len(), lost.len());
    if let Some(first) = lost.first() {
        missed.push(format!("{} acknowledged additions are lost, the first is {first}", lost.len()));
    }
    Ok(Outcome { phases: measured, missed })
}

fn phases(options: &Options) -> Vec<Phase> {
    let short = Duration::from_secs(options.seconds);
    let mut phases = vec![
        Phase { name: "cold", questions: Questions::New, length: short, is_watched: false },
        Phase { name: "warm", questions: Questions::Repeated, length: short, is_watched: false },
    ];
    if let Some(minutes) = options.minutes {
        let length = Duration::from_secs(minutes * 60);
        phases.push(Phase { name: "long", questions: Questions::New, length, is_watched: true });
    }
    phases
}
