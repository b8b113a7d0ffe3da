//! `kill -9` of a worker at any moment: every message that was accepted is done in the end, and has its effect once.
//!
//! The child is this test binary itself: [`child`] is a test that only works when it is told a folder.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mos_core::graph::Paging;
use mos_core::{
    Clock, Cube, CubeId, Filter, JobQueue, MemoryId, MemoryItem, Origin, RandomIds, RecordStore, Scope, StateStore,
    SystemClock, UserId, UserStore, WriteBatch,
};
use mos_scheduler::{
    HandlerContext, HandlerError, ItemState, Registration, ScheduleMessage, Scheduler, SchedulerOptions, SchedulerParts,
};
use mos_stores::{RedisOptions, RedisQueue, SqliteOptions, SqliteStore};
use mos_testkit::services;

use crate::support::BareCubes;

const FOLDER: &str = "MOS_SCHEDULER_KILL_FOLDER";
const ROUND: &str = "MOS_SCHEDULER_KILL_ROUND";
const REDIS: &str = "MOS_SCHEDULER_KILL_REDIS";
const PREFIX: &str = "MOS_SCHEDULER_KILL_PREFIX";

/// Short, so that what a killed worker had is soon done by the next one.
const LEASE: Duration = Duration::from_millis(500);

/// A Redis server, and what the keys of a test begin with.
#[derive(Clone, Debug)]
struct Redis {
    url: String,
    prefix: String,
}

fn n_rounds() -> u64 {
    if std::env::var_os("MOS_TEST_LONG").is_some() { 200 } else { 6 }
}

fn cube(number: u64) -> CubeId {
    CubeId::new(format!("c{}", number % 3))
}

/// A scheduler whose handler writes a memory with a random id for each message: done twice it would be two.
async fn scheduler(folder: &Path, redis: Option<&Redis>) -> (Scheduler, Arc<SqliteStore>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::clone(&clock)).unwrap();
    let (queue, state): (Arc<dyn JobQueue>, Arc<dyn StateStore>) = match redis {
        None => (store.clone(), store.clone()),
        Some(Redis { url, prefix }) => {
            let mut options = RedisOptions::from_url(url).unwrap();
            options.prefix.clone_from(prefix);
            let queue = RedisQueue::open(options, Arc::clone(&clock)).await.unwrap();
            let state = queue.state();
            (queue, state)
        }
    };
    let record: Arc<dyn RecordStore> = store.clone();
    let scheduler = Scheduler::new(SchedulerParts {
        queue,
        state,
        cubes: Arc::new(BareCubes::new(Arc::clone(&record), Arc::clone(&clock))),
        clock,
        ids: Arc::new(RandomIds),
        sinks: Vec::new(),
        options: SchedulerOptions {
            lease: LEASE,
            max_attempts: 1_000,
            first_retry: Duration::from_millis(10),
            longest_retry: Duration::from_millis(50),
            ..SchedulerOptions::default()
        },
    });
    let handler = move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        let record = Arc::clone(&record);
        async move { remember(&*record, &context, &messages).await }
    };
    scheduler.register_handlers([("add", Registration::new(handler))]).unwrap();
    (scheduler, store)
}

async fn remember(
    record: &dyn RecordStore,
    context: &HandlerContext,
    messages: &[ScheduleMessage],
) -> Result<(), HandlerError> {
    for message in messages {
        let item = MemoryItem::new(MemoryId::new(context.ids.next_uuid()), message.content.clone());
        let batch = WriteBatch {
            idempotency_key: Some(context.key(message, "memory")),
            put: vec![item],
            ..WriteBatch::new(Origin::new("test", "add"))
        };
        record.apply(&context.cube.scope(), batch).await?;
    }
    Ok(())
}

/// Submits messages and handles them, and prints what was accepted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of the tests that kill workers"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let round = std::env::var(ROUND).unwrap();
    let redis = std::env::var(REDIS).ok().map(|url| Redis { url, prefix: std::env::var(PREFIX).unwrap() });
    let (scheduler, _store) = scheduler(Path::new(&folder), redis.as_ref()).await;
    scheduler.start();
    for number in 0.. {
        let name = format!("{round}.{number}");
        let mut message = ScheduleMessage::new("add", "ann", cube(number), &*name, &SystemClock, &RandomIds);
        message.item_id = name;
        let (item, cube) = (message.item_id.clone(), message.mem_cube_id.clone());
        scheduler.submit_messages(vec![message]).await.unwrap();
        println!("accepted {cube} {item}.");
    }
}

/// Returns the messages that were accepted: cube and id. A line that was torn off has no full stop and does not count.
fn work_and_kill(folder: &Path, redis: Option<&Redis>, round: u64) -> BTreeSet<(String, String)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "killed::child", "--nocapture"]);
    command.env(FOLDER, folder).env(ROUND, round.to_string());
    if let Some(Redis { url, prefix }) = redis {
        command.env(REDIS, url).env(PREFIX, prefix);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut accepted = BTreeSet::new();
    let mut note = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "accepted").skip(1);
        let (Some(cube), Some(item)) = (words.next(), words.next()) else { return 0 };
        let Some(item) = item.strip_suffix('.') else { return 0 };
        accepted.insert((cube.to_owned(), item.to_owned()));
        accepted.len()
    };
    let n_before_the_kill = 5 + (round * 37 % 60) as usize;
    for line in lines.by_ref().map_while(Result::ok) {
        if note(&line) >= n_before_the_kill {
            break;
        }
    }
    std::thread::sleep(Duration::from_micros(round * 977 % 9000));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).for_each(|line| {
        note(&line);
    });
    accepted
}

/// Makes the cubes; memories of others would be nobody's.
async fn make_cubes(folder: &Path) {
    let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock)).unwrap();
    let owner = UserId::from("ann");
    store.ensure_user(&owner).await.unwrap();
    for number in 0..3 {
        let cube = Cube {
            cube_id: cube(number),
            cube_name: cube(number).to_string(),
            cube_path: None,
            owner_id: owner.clone(),
            created_at: SystemClock.now_text(),
            is_registered: true,
            config: serde_json::json!({}),
        };
        store.create_cube(&cube).await.unwrap();
    }
}

async fn nothing_is_lost(redis: Option<Redis>) {
    let folder = tempfile::tempdir().unwrap();
    make_cubes(folder.path()).await;
    let mut accepted = BTreeSet::new();
    for round in 0..n_rounds() {
        let (path, redis) = (folder.path().to_owned(), redis.clone());
        let of_round = tokio::task::spawn_blocking(move || work_and_kill(&path, redis.as_ref(), round)).await.unwrap();
        assert!(of_round.len() >= 5, "the child submitted messages before it was killed");
        accepted.extend(of_round);
    }
    let (scheduler, store) = scheduler(folder.path(), redis.as_ref()).await;
    scheduler.start();
    assert!(scheduler.wait_until_idle(Duration::from_secs(120)).await.unwrap(), "the rest is done");
    scheduler.stop().await;
    for (cube, item) in &accepted {
        let status = scheduler.item_status(&Scope::of(&CubeId::new(cube.as_str())), item).await.unwrap();
        assert_eq!(status.map(|status| status.status), Some(ItemState::Completed), "{cube} {item}");
    }
    let mut effects = Vec::new();
    for number in 0..3 {
        let cube = cube(number);
        let page =
            mos_core::GraphStore::list(&*store, &Scope::of(&cube), &Filter::Everything, Paging::ALL).await.unwrap();
        effects.extend(page.entries.into_iter().map(|item| (cube.to_string(), item.memory)));
        scheduler.queue().remove_tenant(&Scope::of(&cube)).await.unwrap();
        scheduler.state().remove_scope(&Scope::of(&cube)).await.unwrap();
    }
    let once: BTreeSet<(String, String)> = effects.iter().cloned().collect();
    assert_eq!(once.len(), effects.len(), "no message had its effect twice");
    let missing: Vec<_> = accepted.difference(&once).collect();
    assert!(missing.is_empty(), "accepted and without effect: {missing:?}");
    let findings = store.check().await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_on_sqlite_lose_nothing_when_they_are_killed() {
    nothing_is_lost(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_on_redis_lose_nothing_when_they_are_killed() {
    let Some(url) = services::address("REDIS_URL") else { return };
    let prefix = format!("mos-test-kill-{}", std::process::id());
    nothing_is_lost(Some(Redis { url, prefix })).await;
}
