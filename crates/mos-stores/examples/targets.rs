//! Measures what the embedded stores are held to: `cargo run --release -p mos-stores --example targets -- DIRECTORY`.
//!
//! 100,000 memories of 384 dimensions in one cube: searches, without and with a filter that keeps 1 %; 1,000 prepared
//! memories added in one call; a user with 10,000 memories deleted. Each figure stands beside its target and beside what
//! the machine needs for the bare work in the same run. Ends with exit code 1 when a target is missed. `DIRECTORY`
//! (default: a temporary one) decides which disk is measured; a second argument gives another number of memories.

#![allow(clippy::print_stdout, reason = "the lines are what the program is for")]

#[path = "support/clustered.rs"]
mod clustered;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clustered::{Clustered, Numbers};
use mos_core::{
    Clock, Cube, CubeId, Edge, EmbeddingSpace, EmbeddingWrite, Filter, MemoryId, MemoryItem, Origin, RecordStore,
    Scope, Scored, Status, StoreError, SystemClock, UserId, UserRole, UserStore, VectorStore, WriteBatch,
};
use mos_stores::{ExactVectors, SqliteOptions, SqliteStore};
use serde_json::json;

const DIMENSION: usize = 384;
const N_QUERIES: u64 = 500;
const N_CHECKED: u64 = 100;
const N_NEAREST: usize = 10;
const N_PARTS: usize = 100;
const N_OF_USER: usize = 10_000;
const PER_CALL: usize = 1000;
const N_CALLS: usize = 10;

const WORDS: [&str; 24] = [
    "dog", "park", "coffee", "train", "meeting", "garden", "music", "river", "winter", "holiday", "doctor", "recipe",
    "football", "mountain", "letter", "brother", "kitchen", "window", "airport", "museum", "birthday", "camera",
    "library", "market",
];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What was measured, next to what is asked.
struct Report {
    n_missed: usize,
}

impl Report {
    /// `beside`: the bare work of the same run, in words.
    fn add(&mut self, what: &str, figure: f64, unit: &str, is_met: bool, target: &str, beside: &str) {
        let verdict = if is_met { "met" } else { "MISSED" };
        self.n_missed += usize::from(!is_met);
        println!("{what:<58} {figure:>9.3} {unit:<2}  target {target:<9} {verdict:<6}  {beside}");
    }

    fn note(what: &str, figure: f64, unit: &str, beside: &str) {
        println!("{what:<58} {figure:>9.3} {unit:<2}  {:<23}  {beside}", "");
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace { model: "targets".to_owned(), dimension: DIMENSION }
}

/// A memory as the product writes it: a sentence of a conversation with tags, a session and times.
fn memory(id: MemoryId, number: usize) -> MemoryItem {
    let mut numbers = Numbers::new(number as u64 + 7);
    let mut word = || WORDS[numbers.below(WORDS.len() as u64) as usize];
    let text = (0..20).map(|_| word()).collect::<Vec<_>>().join(" ");
    let (first, second) = (word(), word());
    let mut item = MemoryItem::new(id, text);
    item.metadata.key = Some(first.to_owned());
    item.metadata.tags = Some(vec![first.to_owned(), second.to_owned()]);
    // One part in a hundred, whatever the vectors are.
    item.metadata.session_id = Some(part(numbers.below(N_PARTS as u64) as usize));
    item.metadata.updated_at = Some(format!("2026-01-{:02}T10:{:02}:00+00:00", 1 + number % 28, number % 60));
    item.metadata.extra.insert("number".to_owned(), json!(number));
    item
}

fn part(number: usize) -> String {
    format!("session-{number:03}")
}

/// Everything about a batch that is done before the call.
fn batch(source: &Clustered, prefix: &str, numbers: std::ops::Range<usize>) -> WriteBatch {
    let mut batch = WriteBatch::new(Origin::new("targets", "add"));
    let mut vectors = Vec::new();
    for number in numbers {
        let id = MemoryId::new(format!("{prefix}-{number:08}"));
        vectors.push((id.clone(), source.vector(number as u64)));
        batch.put.push(memory(id, number));
    }
    batch.embeddings = Some(EmbeddingWrite { space: space(), vectors, made_of: None, aside: false });
    batch
}

/// What the disk takes for as many bytes, written in one piece and synced.
fn bare_write(folder: &Path, n_bytes: usize) -> std::io::Result<Duration> {
    let path = folder.join("bare");
    let bytes = vec![7_u8; n_bytes];
    let mut file = std::fs::File::create(&path)?;
    let start = Instant::now();
    file.write_all(&bytes)?;
    file.sync_data()?;
    let time = start.elapsed();
    std::fs::remove_file(path)?;
    Ok(time)
}

struct World {
    folder: PathBuf,
    store: Arc<SqliteStore>,
    scope: Scope,
    source: Clustered,
    n: usize,
}

impl World {
    fn open(&self) -> Result<Arc<SqliteStore>, StoreError> {
        SqliteStore::open(SqliteOptions::at(self.folder.join("mos.db")), Arc::new(SystemClock))
    }

    async fn fill(&self) -> Result<(), StoreError> {
        let start = Instant::now();
        for first in (0..self.n).step_by(PER_CALL) {
            let batch = batch(&self.source, "m", first..self.n.min(first + PER_CALL));
            self.store.apply(&self.scope, batch).await?;
        }
        Report::note(&format!("filling the cube with {} memories", self.n), start.elapsed().as_secs_f64(), "s", "");
        Ok(())
    }

    /// The best by comparing everything in double precision.
    fn nearest_by_hand(&self, query: &[f32], passes: impl Fn(usize) -> bool, vectors: &[Vec<f32>]) -> Vec<String> {
        let mut scores: Vec<(f64, usize)> = (0..self.n)
            .filter(|number| passes(*number))
            .map(|number| {
                let score = query.iter().zip(&vectors[number]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                (score, number)
            })
            .collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        scores.iter().take(N_NEAREST).map(|(_, number)| format!("m-{number:08}")).collect()
    }
}

/// The searches of the product look only at memories in use.
fn active() -> Filter {
    Filter::equals("status", Status::Activated.as_str())
}

async fn adds(world: &World, report: &mut Report) -> Outcome<()> {
    let mut times = Vec::new();
    for call in 0..N_CALLS {
        let first = world.n + call * PER_CALL;
        let batch = batch(&world.source, "call", first..first + PER_CALL);
        let start = Instant::now();
        world.store.apply(&world.scope, batch).await?;
        times.push(start.elapsed());
    }
    let n_bytes = PER_CALL * (DIMENSION * size_of::<f32>() + 500);
    let bare = format!("writing and syncing {} KB: {:.1} ms", n_bytes / 1000, ms(bare_write(&world.folder, n_bytes)?));
    let slowest = percentile(&mut times, 100).as_secs_f64();
    report.add("add 1,000 prepared memories in one call, slowest of 10", slowest, "s", slowest < 1.0, "< 1 s", &bare);
    let added = (0..N_CALLS * PER_CALL).map(|at| MemoryId::new(format!("call-{:08}", world.n + at))).collect();
    let start = Instant::now();
    world
        .store
        .apply(&world.scope, WriteBatch { delete: added, ..WriteBatch::new(Origin::new("targets", "delete")) })
        .await?;
    let time = start.elapsed().as_secs_f64();
    report.add("delete 10,000 memories by id in one call", time, "s", time < 5.0, "< 5 s", "");
    Ok(())
}

/// A user with a cube of 10,000 memories, each changed once, with a way to three others.
async fn crowd(world: &World, user: &UserId, cube: &CubeId) -> Outcome<Scope> {
    world.store.create_user(user, user.as_str(), UserRole::User).await?;
    let cube = Cube {
        cube_id: cube.clone(),
        cube_name: cube.to_string(),
        cube_path: None,
        owner_id: user.clone(),
        created_at: SystemClock.now_text(),
        is_registered: true,
        config: json!({}),
    };
    world.store.create_cube(&cube).await?;
    let scope = Scope::of(&cube.cube_id);
    for first in (0..N_OF_USER).step_by(PER_CALL) {
        let written = batch(&world.source, "u", first..first + PER_CALL);
        let mut changed = written.clone();
        let ids: Vec<MemoryId> = written.put.iter().map(|item| item.id.clone()).collect();
        world.store.apply(&scope, written).await?;
        changed.put.iter_mut().for_each(|item| item.memory.push_str(" again"));
        let edge = |source: usize, away: usize| Edge {
            source: ids[source].clone(),
            target: ids[(source + away) % ids.len()].clone(),
            kind: "RELATE".to_owned(),
        };
        changed.put_edges = (0..ids.len()).flat_map(|source| [1, 7, 30].map(|away| edge(source, away))).collect();
        world.store.apply(&scope, changed).await?;
    }
    Ok(scope)
}

async fn deletions(world: &World, report: &mut Report) -> Outcome<()> {
    let (user, cube) = (UserId::from("leaving"), CubeId::from("cube of leaving"));
    crowd(world, &user, &cube).await?;
    let start = Instant::now();
    world.store.delete_cube(&cube).await?;
    world.store.delete_user(&user).await?;
    let time = start.elapsed().as_secs_f64();
    report.add("delete a user and the cube with 10,000 memories", time, "s", time < 5.0, "< 5 s", "");
    let (user, cube) = (UserId::from("clearing"), CubeId::from("cube of clearing"));
    let scope = crowd(world, &user, &cube).await?;
    let start = Instant::now();
    world
        .store
        .apply(&scope, WriteBatch { clear: true, ..WriteBatch::new(Origin::new("targets", "delete_all")) })
        .await?;
    let time = start.elapsed().as_secs_f64();
    report.add("delete all 10,000 memories of a cube, history kept", time, "s", time < 5.0, "< 5 s", "");
    Ok(())
}

/// Reads every number once, as a plain search must, on one thread.
fn bare_scan(vectors: &[Vec<f32>], query: &[f32]) -> Duration {
    let start = Instant::now();
    let dot = |vector: &Vec<f32>| vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
    let best = vectors.iter().map(dot).fold(f32::NEG_INFINITY, f32::max);
    let time = start.elapsed();
    assert!(best.is_finite(), "the result is used, so that the work is done");
    time
}

async fn searches(world: &World, report: &mut Report) -> Outcome<()> {
    // As after a start: nothing is in memory yet.
    let store = world.open()?;
    let index = ExactVectors::following(Arc::clone(&store) as Arc<dyn RecordStore>);
    let start = Instant::now();
    index.count(&world.scope).await?;
    Report::note("first search after a start: loading the index", ms(start.elapsed()), "ms", "");
    let vectors: Vec<Vec<f32>> = (0..world.n).map(|number| world.source.vector(number as u64)).collect();
    let sessions: Vec<String> = (0..world.n)
        .map(|number| memory(MemoryId::from("x"), number).metadata.session_id.unwrap_or_default())
        .collect();
    let bare = (0..3).map(|number| bare_scan(&vectors, &world.source.query(number))).min().unwrap_or_default();
    let bare = format!("comparing all f32 by plain code: {:.1} ms", ms(bare));
    for (name, one_percent) in [("search", false), ("search, filter keeps 1 %", true)] {
        let filter = |number: u64| {
            if !one_percent {
                return active();
            }
            active().and(Filter::equals("session_id", part(number as usize % N_PARTS)))
        };
        let search = async |number: u64| -> Result<(Vec<Scored>, Duration), StoreError> {
            let query = world.source.query(number);
            let filter = filter(number);
            let start = Instant::now();
            let found = index.nearest(&world.scope, &space(), &query, N_NEAREST, &filter).await?;
            Ok((found, start.elapsed()))
        };
        Report::note(&format!("{name}: the first that names the field"), ms(search(0).await?.1), "ms", "");
        let mut n_found = 0;
        for number in 0..N_CHECKED {
            let found = search(number).await?.0;
            let session = part(number as usize % N_PARTS);
            let passes = |memory: usize| !one_percent || sessions[memory] == session;
            let expected = world.nearest_by_hand(&world.source.query(number), passes, &vectors);
            n_found += found.iter().filter(|one| expected.iter().any(|id| id == one.id.as_str())).count();
        }
        let recall = n_found as f64 / (N_CHECKED as usize * N_NEAREST) as f64;
        report.add(&format!("{name}: recall@10"), recall, "", recall >= 0.98, ">= 0.98", "");
        let mut times = Vec::new();
        for number in 0..N_QUERIES {
            times.push(search(number).await?.1);
        }
        Report::note(&format!("{name}: p50"), ms(percentile(&mut times, 50)), "ms", "");
        let p95 = ms(percentile(&mut times, 95));
        report.add(&format!("{name}: p95"), p95, "ms", p95 < 10.0, "< 10 ms", &bare);
        Report::note(&format!("{name}: p99"), ms(percentile(&mut times, 99)), "ms", "");
    }
    Ok(())
}

async fn measure(folder: &Path, n: usize) -> Outcome<bool> {
    let source = Clustered::new(DIMENSION, n);
    let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock))?;
    let scope = Scope { cube: "targets".into() };
    let world = World { folder: folder.to_owned(), store, scope, source, n };
    let mut report = Report { n_missed: 0 };
    world.fill().await?;
    searches(&world, &mut report).await?;
    adds(&world, &mut report).await?;
    deletions(&world, &mut report).await?;
    Ok(report.n_missed == 0)
}

#[tokio::main]
async fn main() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let n = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let folder = parent.join(format!("mos-targets-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder, n).await;
    std::fs::remove_dir_all(&folder)?;
    Ok(if result? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
