//! `kill -9` of a worker at any moment: every job that was acknowledged is done in the end, and none that was
//! acknowledged as done is given again.
//!
//! The child is this test binary itself: [`child`] is a test that only works when it is told a folder.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mos_core::{ClaimRequest, Clock, JobQueue, JobState, NewJob, Scope, SystemClock};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use serde_json::json;

const FOLDER: &str = "MOS_STORES_QUEUE_KILL_FOLDER";
const ROUND: &str = "MOS_STORES_QUEUE_KILL_ROUND";
const LEASE: Duration = Duration::from_secs(3600);

fn open(folder: &Path, clock: Arc<dyn Clock>) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), clock).unwrap()
}

fn scope(number: usize) -> Scope {
    Scope { cube: format!("c{}", number % 3).as_str().into() }
}

fn request(limit: usize) -> ClaimRequest {
    ClaimRequest { consumer: "worker".to_owned(), limit, lease: LEASE, weights: mos_core::Weights::default() }
}

/// Pushes jobs and does them, several at a time, and prints what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of `what_was_pushed_is_done_although_workers_are_killed`"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let round = std::env::var(ROUND).unwrap();
    let store = open(Path::new(&folder), Arc::new(SystemClock));
    let pusher = Arc::clone(&store);
    let pushing = tokio::spawn(async move {
        for number in 0.. {
            let name = format!("{round}.{number}");
            let group = (number % 2 == 0).then(|| format!("group {}", number % 5));
            let job = NewJob { group, ..NewJob::new(name.as_str().into(), "label", json!(number)) };
            pusher.push(&scope(number), vec![job]).await.unwrap();
            println!("pushed {} {name}.", scope(number).cube);
        }
    });
    let workers = (0..3).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..u64::MAX {
                for claimed in store.claim(&request(2)).await.unwrap() {
                    store.complete(&claimed.ticket).await.unwrap();
                    println!("done {} {}.", claimed.job.scope.cube, claimed.job.id);
                }
                tokio::task::yield_now().await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    pushing.await.unwrap();
}

#[derive(Debug, Default)]
struct Acknowledged {
    pushed: BTreeSet<(String, String)>,
    done: BTreeSet<(String, String)>,
}

impl Acknowledged {
    /// A line that was torn off has no full stop and does not count.
    fn note(&mut self, line: &str) {
        let mut words = line.split_whitespace().skip_while(|word| !["pushed", "done"].contains(word));
        let (Some(what), Some(cube), Some(id)) = (words.next(), words.next(), words.next()) else { return };
        let Some(id) = id.strip_suffix('.') else { return };
        let set = if what == "pushed" { &mut self.pushed } else { &mut self.done };
        set.insert((cube.to_owned(), id.to_owned()));
    }
}

fn work_and_kill(folder: &Path, round: u64) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "queue_kill::child", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Acknowledged::default();
    let n_before_the_kill = 20 + (round * 37 % 150) as usize;
    for line in lines.by_ref().map_while(Result::ok) {
        acknowledged.note(&line);
        if acknowledged.pushed.len() >= n_before_the_kill {
            break;
        }
    }
    std::thread::sleep(Duration::from_micros(round * 977 % 5000));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).for_each(|line| acknowledged.note(&line));
    acknowledged
}

/// Does everything that is left, after the leases of those who were killed.
async fn do_the_rest(store: &SqliteStore, acknowledged: &Acknowledged) {
    loop {
        let claimed = store.claim(&request(50)).await.unwrap();
        if claimed.is_empty() {
            return;
        }
        for one in claimed {
            let name = (one.job.scope.cube.to_string(), one.job.id.to_string());
            assert!(!acknowledged.done.contains(&name), "{name:?} was acknowledged as done and comes again");
            store.complete(&one.ticket).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_pushed_is_done_although_workers_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let n_rounds = if std::env::var_os("MOS_TEST_LONG").is_some() { 200 } else { 6 };
    for round in 0..n_rounds {
        let path = folder.path().to_owned();
        let acknowledged = tokio::task::spawn_blocking(move || work_and_kill(&path, round)).await.unwrap();
        assert!(acknowledged.pushed.len() >= 20, "the child pushed jobs before it was killed");
        let after_the_leases = SystemClock.now().as_second() + 2 * LEASE.as_secs() as i64;
        let store = open(folder.path(), Arc::new(SetClock::at_unix_s(after_the_leases)));
        let findings = store.check().await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        for (cube, id) in &acknowledged.done {
            let state = store.find(&Scope { cube: cube.as_str().into() }, &id.as_str().into()).await.unwrap();
            assert_eq!(state, Some(JobState::Finished), "{cube} {id}");
        }
        do_the_rest(&store, &acknowledged).await;
        for (cube, id) in &acknowledged.pushed {
            let state = store.find(&Scope { cube: cube.as_str().into() }, &id.as_str().into()).await.unwrap();
            assert_eq!(state, Some(JobState::Finished), "{cube} {id}");
        }
        let findings = store.check().await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    }
}
