//! How fast the stores are: `cargo run --release -p mos-stores --example store_speed -- DIRECTORY N`.
//!
//! Prints one JSON line per measurement. `DIRECTORY` (default: a temporary one) decides which disk is measured; `N`
//! (default 10,000) is the number of memories, each with an embedding of 384 dimensions.

#![allow(clippy::print_stdout, reason = "the lines are what the program is for")]

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mos_core::{
    EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, MemoryId, MemoryItem, Origin, RecordStore, Scope, SystemClock,
    VectorStore, WriteBatch,
};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore};
use serde_json::json;

const DIMENSION: usize = 384;
const N_SAMPLES: usize = 300;
const N_WRITERS: usize = 32;
const WORDS: [&str; 40] = [
    "dog",
    "park",
    "coffee",
    "train",
    "meeting",
    "garden",
    "music",
    "river",
    "winter",
    "holiday",
    "doctor",
    "recipe",
    "football",
    "mountain",
    "letter",
    "brother",
    "kitchen",
    "window",
    "airport",
    "museum",
    "birthday",
    "camera",
    "library",
    "market",
    "neighbour",
    "orange",
    "painting",
    "question",
    "restaurant",
    "school",
    "teacher",
    "umbrella",
    "village",
    "weather",
    "yellow",
    "zebra",
    "bicycle",
    "castle",
    "dentist",
    "engine",
];

/// A small generator, so that every run measures the same data.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSION).map(|_| (self.next() % 2001) as f32 / 1000.0 - 1.0).collect()
    }

    fn text(&mut self) -> String {
        (0..12).map(|_| WORDS[(self.next() % WORDS.len() as u64) as usize]).collect::<Vec<_>>().join(" ")
    }
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace { model: "speed".to_owned(), dimension: DIMENSION }
}

fn batch(numbers: &mut Numbers, names: impl Iterator<Item = String>) -> WriteBatch {
    let mut batch = WriteBatch::new(Origin::new("speed", "add"));
    let mut vectors = Vec::new();
    for name in names {
        let id = MemoryId::new(name);
        vectors.push((id.clone(), numbers.vector()));
        batch.put.push(MemoryItem::new(id, numbers.text()));
    }
    batch.embeddings = Some(EmbeddingWrite { space: space(), vectors, made_of: None, aside: false });
    batch
}

fn report(what: &str, n: usize, mut times: Vec<Duration>) {
    times.sort();
    let ms = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{}",
        json!({"what": what, "n_memories": n, "n_samples": times.len(), "p50_ms": ms(0.5), "p95_ms": ms(0.95)})
    );
}

/// What the disk itself takes for a small durable write; in a file that grows its new length must be made durable too.
fn bare_syncs(folder: &Path, grows: bool) -> std::io::Result<Vec<Duration>> {
    let path = folder.join("bare-sync");
    let mut file = File::create(&path)?;
    let block = [7; 4096];
    if !grows {
        file.write_all(&block.repeat(N_SAMPLES))?;
        file.sync_all()?;
        file.rewind()?;
    }
    let mut times = Vec::new();
    for _ in 0..N_SAMPLES {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(times)
}

async fn concurrent_adds(store: &Arc<SqliteStore>, scope: &Scope) -> f64 {
    let per_writer = 40;
    let start = Instant::now();
    let writers = (0..N_WRITERS).map(|writer| {
        let (store, scope) = (Arc::clone(store), scope.clone());
        tokio::spawn(async move {
            let mut numbers = Numbers(writer as u64 + 1);
            for number in 0..per_writer {
                let batch = batch(&mut numbers, std::iter::once(format!("w{writer}-{number}")));
                store.apply(&scope, batch).await.expect("an add");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    (N_WRITERS * per_writer) as f64 / start.elapsed().as_secs_f64()
}

async fn measure(folder: &Path, n: usize) -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock))?;
    let index = ExactVectors::following(Arc::clone(&store) as Arc<dyn RecordStore>);
    let (scope, space, mut numbers) = (Scope { cube: "speed".into() }, space(), Numbers(42));
    let start = Instant::now();
    for first in (0..n).step_by(100) {
        let names = (first..n.min(first + 100)).map(|number| format!("m{number:08}"));
        store.apply(&scope, batch(&mut numbers, names)).await?;
    }
    println!(
        "{}",
        json!({"what": "adds/s in batches of 100", "n_memories": n, "per_s": n as f64 / start.elapsed().as_secs_f64()})
    );

    report("bare write and fdatasync of 4 KiB, in place", 0, bare_syncs(folder, false)?);
    report("bare write and fdatasync of 4 KiB, file grows", 0, bare_syncs(folder, true)?);
    let mut times = Vec::new();
    for number in 0..N_SAMPLES {
        let batch = batch(&mut numbers, std::iter::once(format!("single{number}")));
        let start = Instant::now();
        store.apply(&scope, batch).await?;
        times.push(start.elapsed());
    }
    report("add, durable", n, times);
    let per_s = concurrent_adds(&store, &scope).await;
    println!("{}", json!({"what": "adds/s", "n_writers": N_WRITERS, "n_memories": n, "per_s": per_s}));

    let start = Instant::now();
    let n_vectors = index.count(&scope).await?;
    println!(
        "{}",
        json!({"what": "vector index, first load", "n_memories": n_vectors, "ms": start.elapsed().as_secs_f64() * 1e3})
    );
    let active = Filter::equals("status", "activated");
    let mut times = Vec::new();
    for _ in 0..N_SAMPLES {
        let query = numbers.vector();
        let start = Instant::now();
        index.nearest(&scope, &space, &query, 10, &active).await?;
        times.push(start.elapsed());
    }
    report("vector search, top 10, filtered", n_vectors, times);
    let mut times = Vec::new();
    for _ in 0..N_SAMPLES {
        let query = format!("{} {}", WORDS[(numbers.next() % 40) as usize], WORDS[(numbers.next() % 40) as usize]);
        let start = Instant::now();
        store.full_text(&scope, &query, 10, &active).await?;
        times.push(start.elapsed());
    }
    report("full text, 2 words that about a quarter of the memories hold, top 10, filtered", n_vectors, times);
    println!("{}", serde_json::to_string(&store.statistics().await?)?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let n = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let folder = parent.join(format!("mos-speed-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder, n).await;
    std::fs::remove_dir_all(&folder)?;
    result
}
