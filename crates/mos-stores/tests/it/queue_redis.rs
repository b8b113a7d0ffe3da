//! The queue on a Redis server: the contract, and everything that can go wrong with a server.
//!
//! The contract runs on the server that `REDIS_URL` names, else on one that the test starts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mos_core::{Clock, JobQueue, JobState, NewJob, Paging, Scope, StoreError, SystemClock};
use mos_stores::{RedisOptions, RedisQueue};
use mos_testkit::clock::SetClock;
use mos_testkit::contracts;
use serde_json::json;

use super::redis_server::{PASSWORD, RedisServer};
use super::support::{full_text, job, request};

fn scope() -> Scope {
    Scope { cube: "c".into() }
}

async fn open(url: &str) -> Result<Arc<RedisQueue>, StoreError> {
    open_at(url, Arc::new(SetClock::default())).await
}

async fn open_at(url: &str, clock: Arc<dyn Clock>) -> Result<Arc<RedisQueue>, StoreError> {
    RedisQueue::open(RedisOptions::from_url(url)?, clock).await
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>, advice: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { backend: "redis", .. }), "{}", full_text(&error));
    let text = full_text(&error);
    assert!(text.contains(advice), "{advice}: {text}");
    assert!(!text.contains(PASSWORD), "no secret is shown: {text}");
}

fn keys(connection: &mut redis::Connection, pattern: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(pattern).query(connection).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_queue_contract() {
    let given = std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    let own = if given.is_none() { RedisServer::start(&[]) } else { None };
    let Some(url) = given.or_else(|| own.as_ref().map(RedisServer::url)) else { return };
    let (run, n_made) = (format!("mos-test-{}", std::process::id()), AtomicU64::new(0));
    let make = async |clock: Arc<SetClock>, max_jobs_per_tenant: usize| {
        let number = n_made.fetch_add(1, Ordering::SeqCst);
        let mut options = RedisOptions::from_url(&url).unwrap();
        options.prefix = format!("{run}-{number}");
        options.limits.max_jobs_per_tenant = max_jobs_per_tenant;
        RedisQueue::open(options, clock).await.unwrap() as Arc<dyn JobQueue>
    };
    contracts::queue::run(make).await;
    let mut connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let ours = keys(&mut connection, &format!("{{{run}-*"));
    assert!(!ours.is_empty());
    if own.is_some() {
        assert_eq!(keys(&mut connection, "*").len(), ours.len(), "there are no keys without the prefix");
    }
    for chunk in ours.chunks(500) {
        redis::cmd("DEL").arg(chunk).query::<i64>(&mut connection).unwrap();
    }
}

#[tokio::test]
async fn what_is_done_leaves_nothing_but_the_ids() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let clock = Arc::new(SetClock::default());
    let mut options = RedisOptions::from_url(&server.url()).unwrap();
    options.limits.max_finished_ids = 10;
    let queue = RedisQueue::open(options, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    for round in 0..40 {
        let grouped = NewJob { group: Some(format!("g{round}")), ..job(&format!("{round}-b")) };
        queue.push(&scope(), vec![job(&format!("{round}-a")), grouped, job(&format!("{round}-c"))]).await.unwrap();
        let claimed = queue.claim(&request(3)).await.unwrap();
        for one in &claimed[..2] {
            queue.complete(&one.ticket).await.unwrap();
        }
        queue.fail(&claimed[2].ticket, "broken", None).await.unwrap();
        queue.remove(&scope(), &[claimed[2].job.id.clone()]).await.unwrap();
        clock.advance(Duration::from_millis(1));
    }
    let mut connection = server.connect();
    let mut left = keys(&mut connection, "*");
    left.sort();
    let key = |name: &str| format!("{{mos}}:queue:{name}");
    assert_eq!(left, [key("finished:c"), key("finished_at:c"), key("meta")]);
    let n_finished: usize = redis::cmd("HLEN").arg(key("finished:c")).query(&mut connection).unwrap();
    assert_eq!(n_finished, 10, "the oldest ids are forgotten");
    assert_eq!(queue.find(&scope(), &"39-a".into()).await.unwrap(), Some(JobState::Finished));
    assert_eq!(queue.find(&scope(), &"0-a".into()).await.unwrap(), None);
}

#[tokio::test]
async fn the_server_shows_what_is_claimed_and_dead() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let queue = open(&server.url()).await.unwrap();
    queue.push(&scope(), vec![job("a"), job("b"), job("d")]).await.unwrap();
    let claimed = queue.claim(&request(2)).await.unwrap();
    queue.fail(&claimed[1].ticket, "broken", None).await.unwrap();
    let mut connection = server.connect();
    let pending: redis::Value =
        redis::cmd("XPENDING").arg("{mos}:queue:jobs:c").arg("workers").query(&mut connection).unwrap();
    let redis::Value::Array(pending) = pending else { panic!("{pending:?}") };
    assert_eq!(pending[0], redis::Value::Int(1), "one is in the hands of a consumer");
    let length = |connection: &mut redis::Connection, key: &str| -> usize {
        redis::cmd("XLEN").arg(format!("{{mos}}:queue:{key}:c")).query(connection).unwrap()
    };
    assert_eq!((length(&mut connection, "jobs"), length(&mut connection, "dead")), (2, 1));
    // Somebody trims the stream by hand: what has lost its payload is not given, and nothing else suffers.
    let _: usize = redis::cmd("XDEL").arg("{mos}:queue:jobs:c").arg("3-0").query(&mut connection).unwrap();
    queue.push(&scope(), vec![job("e")]).await.unwrap();
    let rest = queue.claim(&request(5)).await.unwrap();
    assert_eq!(rest.iter().map(|one| one.job.id.as_str()).collect::<Vec<_>>(), ["e"]);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_dies_and_holds_nobody_up() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let queue = open(&server.url()).await.unwrap();
    let grouped = |name: &str| NewJob { group: Some("g".to_owned()), ..job(name) };
    queue.push(&scope(), vec![job("a"), job("c")]).await.unwrap();
    let mut connection = server.connect();
    queue.push(&scope(), vec![grouped("b")]).await.unwrap();
    // An entry of a stream cannot be changed, but the last one can be written anew.
    let spoil = redis::Script::new(
        "redis.call('XDEL', KEYS[1], '3-0') redis.call('XSETID', KEYS[1], '2-0')
         redis.call('XADD', KEYS[1], '3-0', 'id', 'b', 'kind', 'label', 'payload', '{', 'group', 'g', 'priority', '100',
                    'max_attempts', '5', 'pushed_ms', '0')",
    );
    spoil.key("{mos}:queue:jobs:c").invoke::<()>(&mut connection).unwrap();
    queue.push(&scope(), vec![grouped("d")]).await.unwrap();
    let claimed = queue.claim(&request(10)).await.unwrap();
    assert_eq!(claimed.iter().map(|one| one.job.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(queue.claim(&request(10)).await.unwrap()[0].job.id.as_str(), "d");
    let dead = queue.dead(&scope(), Paging::ALL).await.unwrap();
    assert_eq!((dead.total, &dead.entries[0].job.payload), (1, &json!("{")));
    assert!(dead.entries[0].reason.contains("cannot be read"), "{}", dead.entries[0].reason);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_or_refuses_us_is_named() {
    assert_unavailable(open("redis://127.0.0.1:1/0").await, "nothing answers at 127.0.0.1:1");
    let Some(server) = RedisServer::start(&[]) else { return };
    let port = server.port();
    assert_unavailable(open(&format!("redis://127.0.0.1:{port}/0")).await, "refuses the user name or password");
    assert_unavailable(open(&format!("redis://:wrong@127.0.0.1:{port}/0")).await, "refuses the user name or password");
    let by_parts = RedisOptions::at("127.0.0.1", port, 0, None, Some(PASSWORD));
    RedisQueue::open(by_parts, Arc::new(SystemClock)).await.unwrap();
    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let evicting = RedisServer::start(&evicting).unwrap();
    let error = open(&evicting.url()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(text) if text.contains("noeviction")), "{error}");
}

#[tokio::test]
async fn a_read_only_server_is_named_and_can_be_read() {
    let Some(main) = RedisServer::start(&[]) else { return };
    let queue = open(&main.url()).await.unwrap();
    queue.push(&scope(), vec![job("a")]).await.unwrap();
    let port = main.port().to_string();
    let copy = RedisServer::start(&["--replicaof", "127.0.0.1", &port, "--masterauth", PASSWORD]).unwrap();
    let reader = open(&copy.url()).await.unwrap();
    while reader.stats(&scope()).await.ok().is_none_or(|stats| stats.waiting == 0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(reader.find(&scope(), &"a".into()).await.unwrap(), Some(JobState::Waiting));
    assert_unavailable(reader.push(&scope(), vec![job("b")]).await, "read-only copy");
    assert_unavailable(reader.claim(&request(1)).await, "read-only copy");
}

#[tokio::test]
async fn a_server_without_memory_takes_no_jobs_but_gives_them_out() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let queue = open(&server.url()).await.unwrap();
    queue.push(&scope(), vec![job("a"), job("b")]).await.unwrap();
    let mut connection = server.connect();
    let mut limit = |bytes: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query::<()>(&mut connection).unwrap();
    };
    limit("100kb");
    assert_unavailable(queue.push(&scope(), vec![job("c")]).await, "memory");
    let claimed = queue.claim(&request(2)).await.unwrap();
    queue.complete(&claimed[0].ticket).await.unwrap();
    queue.fail(&claimed[1].ticket, "broken", None).await.unwrap();
    assert_eq!(queue.find(&scope(), &"c".into()).await.unwrap(), None);
    limit("0");
    queue.push(&scope(), vec![job("c")]).await.unwrap();
    assert_eq!(queue.stats(&scope()).await.unwrap().waiting, 1);
}

#[tokio::test]
async fn a_lost_connection_is_made_anew() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let queue = open(&server.url()).await.unwrap();
    queue.push(&scope(), vec![job("a")]).await.unwrap();
    let mut connection = server.connect();
    for name in ["b", "c"] {
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query::<i64>(&mut connection).unwrap();
        queue.push(&scope(), vec![job(name)]).await.unwrap();
    }
    server.kill();
    assert_unavailable(queue.push(&scope(), vec![job("d")]).await, &server.port().to_string());
    assert_unavailable(queue.claim(&request(1)).await, &server.port().to_string());
    server.start_again();
    // A claim is not repeated by itself, so the first one may still meet the dead connection.
    let mut claimed = Vec::new();
    while claimed.is_empty() {
        claimed = queue.claim(&request(10)).await.unwrap_or_default();
    }
    assert_eq!(claimed.len(), 3, "the queue goes on with all that was acknowledged");
    for one in &claimed {
        queue.complete(&one.ticket).await.unwrap();
    }
    let another = open(&server.url()).await.unwrap();
    assert_eq!(another.find(&scope(), &"a".into()).await.unwrap(), Some(JobState::Finished), "seen by everybody");
}

/// What a worker of [`nothing_acknowledged_is_lost_when_the_server_is_killed`] was told.
#[derive(Debug, Default)]
struct Acknowledged {
    pushed: BTreeSet<String>,
    done: BTreeSet<String>,
}

/// A queue that forgets no finished job, however many there are: each is asked for in the end.
async fn open_remembering(url: &str, clock: Arc<dyn Clock>) -> Arc<RedisQueue> {
    let mut options = RedisOptions::from_url(url).unwrap();
    options.limits.max_finished_ids = 10_000_000;
    RedisQueue::open(options, clock).await.unwrap()
}

async fn work(queue: Arc<RedisQueue>, worker: usize, is_over: Arc<AtomicBool>) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("{worker}-{number}");
        // Errors are what this test is about: what is not acknowledged may or may not have happened.
        if queue.push(&scope(), vec![job(&name)]).await.is_ok() {
            acknowledged.pushed.insert(name);
        }
        for claimed in queue.claim(&request(2)).await.unwrap_or_default() {
            if queue.complete(&claimed.ticket).await.is_ok() {
                assert!(acknowledged.done.insert(claimed.job.id.to_string()), "done and given again");
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let n_kills = if std::env::var_os("MOS_TEST_LONG").is_some() { 100 } else { 3 };
    let clock = Arc::new(SetClock::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for worker in 0..4 {
        let queue = open_remembering(&server.url(), Arc::clone(&clock) as Arc<dyn Clock>).await;
        workers.push(tokio::spawn(work(queue, worker, Arc::clone(&is_over))));
    }
    for kill in 0..n_kills {
        tokio::time::sleep(Duration::from_millis(100 + kill * 37 % 200)).await;
        tokio::task::block_in_place(|| server.start_again());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, Ordering::SeqCst);
    let mut all = Acknowledged::default();
    for worker in workers {
        let told = worker.await.unwrap();
        let n_before = all.done.len();
        all.done.extend(told.done.iter().cloned());
        assert_eq!(all.done.len(), n_before + told.done.len(), "nothing was done by two workers");
        all.pushed.extend(told.pushed);
    }
    assert!(all.pushed.len() > 50, "the workers worked: {}", all.pushed.len());
    clock.advance(Duration::from_secs(60));
    let queue = open_remembering(&server.url(), clock).await;
    loop {
        let claimed = queue.claim(&request(100)).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        for one in claimed {
            assert!(!all.done.contains(one.job.id.as_str()), "{} was acknowledged as done", one.job.id);
            queue.complete(&one.ticket).await.unwrap();
        }
    }
    for name in &all.pushed {
        let state = queue.find(&scope(), &name.as_str().into()).await.unwrap();
        assert_eq!(state, Some(JobState::Finished), "{name}");
    }
}
