//! How long submitting takes, in memory and on disk, and how long a tenant waits behind one with much to do.
//!
//! `scheduler_speed FOLDER` prints what it measured, and ends with an error when a target is missed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mos_core::{
    Clock, Cube, CubeId, JobQueue, MemoryError, MemoryId, RandomIds, Reading, RecordStore, Scope, StateStore,
    SystemClock, UserId,
};
use mos_memory::{NaiveText, Shelf};
use mos_scheduler::{
    CubeWork, Cubes, HandlerContext, OpenError, Organized, Registration, ScheduleMessage, Scheduler, SchedulerCube,
    SchedulerOptions, SchedulerParts, StoredReading,
};
use mos_stores::{InMemoryStore, SqliteOptions, SqliteStore};
use mos_testkit::embedder::WordEmbedder;

/// Messages a second, and for how many seconds.
const RATE: u32 = 1_000;
const SECONDS: u32 = 5;

/// Messages of the tenant with much to do.
const MUCH: usize = 100_000;

/// How long its handler takes for one.
const WORK: Duration = Duration::from_millis(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A cube without memories.
#[derive(Debug)]
struct Bare {
    record: Arc<dyn RecordStore>,
}

#[async_trait]
impl Cubes for Bare {
    async fn open(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, OpenError> {
        let shelf = Shelf {
            scope: Scope::of(cube),
            record: Arc::clone(&self.record),
            clock: Arc::new(SystemClock),
            file_name: "textual_memory.json".to_owned(),
        };
        let info = Cube {
            cube_id: cube.clone(),
            cube_name: cube.to_string(),
            cube_path: None,
            owner_id: user.clone(),
            created_at: SystemClock.now_text(),
            is_registered: true,
            config: serde_json::Value::Null,
        };
        Ok(Arc::new(SchedulerCube {
            info,
            user: user.clone(),
            text: Arc::new(NaiveText::new(shelf)),
            preferences: None,
            activation: None,
            reader: None,
            work: Arc::new(NoWork),
            model: None,
            embedder: Arc::new(WordEmbedder::new("words", 16)),
        }))
    }
}

#[derive(Debug)]
struct NoWork;

#[async_trait]
impl CubeWork for NoWork {
    async fn store(&self, _: Reading, _: &str) -> Result<StoredReading, MemoryError> {
        Err(MemoryError::Unsupported("nothing is stored here".to_owned()))
    }

    async fn organize(&self, _: Option<&[MemoryId]>) -> Result<Organized, MemoryError> {
        Err(MemoryError::Unsupported("nothing is organised here".to_owned()))
    }
}

fn scheduler<S: JobQueue + StateStore + RecordStore + 'static>(store: &Arc<S>, workers: usize) -> Scheduler {
    Scheduler::new(SchedulerParts {
        queue: store.clone(),
        state: store.clone(),
        cubes: Arc::new(Bare { record: store.clone() }),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        sinks: Vec::new(),
        options: SchedulerOptions { workers, drain: Duration::ZERO, ..SchedulerOptions::default() },
    })
}

fn message(cube: &str) -> ScheduleMessage {
    ScheduleMessage::new("add", "ann", cube, "[\"a memory\"]", &SystemClock, &RandomIds)
}

/// The value that 99 of 100 do not exceed.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Submits at a steady rate while handlers work; returns how long each took to be accepted.
async fn submit_steadily(scheduler: &Scheduler) -> Result<Vec<Duration>, Failure> {
    scheduler.register_handlers([("add", Registration::new(|_: HandlerContext, _: Vec<_>| async { Ok(()) }))])?;
    scheduler.start();
    let mut submits = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    for number in 0..RATE * SECONDS {
        ticks.tick().await;
        let (scheduler, message) = (scheduler.clone(), message(&format!("cube {}", number % 8)));
        submits.push(tokio::spawn(async move {
            let began = Instant::now();
            scheduler.submit_messages(vec![message]).await.map(|_| began.elapsed())
        }));
    }
    let mut times = Vec::new();
    for submit in submits {
        times.push(submit.await??);
    }
    if !scheduler.wait_until_idle(Duration::from_secs(60)).await? {
        return Err("not all messages were handled within a minute".into());
    }
    scheduler.stop().await;
    Ok(times)
}

/// How long it takes to append a little to a file and have it on the disk.
fn bare_syncs(folder: &Path) -> Result<Vec<Duration>, Failure> {
    let mut file = std::fs::File::create(folder.join("bare"))?;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Returns how long handlers of a tenant with much to do work between the first message of another and its handling.
async fn delay_behind_much<S>(store: &Arc<S>) -> Result<Duration, Failure>
where
    S: JobQueue + StateStore + RecordStore + 'static,
{
    let scheduler = scheduler(store, 2);
    let (n_begun, delay) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let (begun, seen) = (Arc::clone(&n_begun), Arc::clone(&delay));
    let handler = move |_: HandlerContext, messages: Vec<ScheduleMessage>| {
        let (begun, seen) = (Arc::clone(&begun), Arc::clone(&seen));
        async move {
            if messages[0].mem_cube_id.as_str() == "small" {
                seen.store(begun.load(Ordering::SeqCst), Ordering::SeqCst);
                return Ok(());
            }
            begun.fetch_add(messages.len(), Ordering::SeqCst);
            tokio::time::sleep(WORK * u32::try_from(messages.len()).unwrap_or(u32::MAX)).await;
            Ok(())
        }
    };
    scheduler.register_handlers([("add", Registration::new(handler))])?;
    let users = 100;
    for part in 0..MUCH / 1_000 {
        let of_user = |number: usize| {
            let mut message = message("much");
            message.user_id = UserId::new(format!("user {}", (part + number) % users));
            message
        };
        scheduler.submit_messages((0..1_000).map(of_user).collect()).await?;
    }
    scheduler.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = n_begun.load(Ordering::SeqCst);
    scheduler.submit_messages(vec![message("small")]).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while delay.load(Ordering::SeqCst) == usize::MAX {
        if Instant::now() > deadline {
            return Err("the other tenant was not served within a minute".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    scheduler.crash().await;
    let n_between = delay.load(Ordering::SeqCst).saturating_sub(before);
    Ok(WORK * u32::try_from(n_between)?)
}

async fn measure(folder: &Path) -> Result<bool, Failure> {
    let in_memory = p99(submit_steadily(&scheduler(&InMemoryStore::new(Arc::new(SystemClock)), 4)).await?);
    let open = |name: &str| SqliteStore::open(SqliteOptions::at(folder.join(name)), Arc::new(SystemClock));
    let mut syncs = bare_syncs(folder)?;
    let durable = p99(submit_steadily(&scheduler(&open("steady.db")?, 4)).await?);
    syncs.extend(bare_syncs(folder)?);
    let sync = p99(syncs);
    let limit = 4 * sync + Duration::from_millis(4);
    println!("submitting at {RATE} messages a second, p99:");
    println!("  in memory  {in_memory:?} (at most 1 ms)");
    println!("  on disk    {durable:?} (at most {limit:?}: 4 bare syncs of {sync:?} and 4 ms)");
    let behind = [
        ("in memory", delay_behind_much(&InMemoryStore::new(Arc::new(SystemClock))).await?),
        ("on disk", delay_behind_much(&open("much.db")?).await?),
    ];
    println!("behind a tenant with {MUCH} messages, handler time of others (at most 100 ms):");
    for (place, delay) in behind {
        println!("  {place}: {delay:?}");
    }
    let is_fair = behind.iter().all(|(_, delay)| *delay < Duration::from_millis(100));
    Ok(in_memory < Duration::from_millis(1) && durable <= limit && is_fair)
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("name a folder that may be written to");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(measure(Path::new(&folder))),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(true) => {
            println!("all targets met");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("a target was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
