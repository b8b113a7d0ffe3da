//! The queue in the database file: shared by processes, kept over a restart, and safe on a bad disk.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{JobQueue, JobState, NewJob, Paging, Scope, StoreError};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::power_loss::{Disk, WriteFault};
use serde_json::json;

use super::support::{job, request};

fn scope() -> Scope {
    Scope { cube: "c".into() }
}

fn open(options: SqliteOptions) -> Arc<SqliteStore> {
    SqliteStore::open(options, Arc::new(SetClock::default())).unwrap()
}

#[tokio::test]
async fn jobs_survive_a_restart_with_their_tickets() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SqliteOptions::at(folder.path().join("mos.db"));
    let store = open(options());
    store.push(&scope(), ["a", "b", "c"].map(job).to_vec()).await.unwrap();
    let claimed = store.claim(&request(2)).await.unwrap();
    store.complete(&claimed[0].ticket).await.unwrap();
    drop(store);
    let store = open(options());
    assert_eq!(store.find(&scope(), &"a".into()).await.unwrap(), Some(JobState::Finished));
    assert!(matches!(store.find(&scope(), &"b".into()).await.unwrap(), Some(JobState::Claimed { .. })));
    store.complete(&claimed[1].ticket).await.unwrap();
    let rest = store.claim(&request(10)).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert!(rest[0].ticket.claim > claimed[1].ticket.claim, "numbers of claims are never used twice");
    let findings = store.check().await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_opened_the_file_never_get_the_same_job() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SqliteOptions::at(folder.path().join("mos.db"));
    let stores = [open(options()), open(options())];
    let names: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    stores[0].push(&scope(), names.iter().map(|name| job(name)).collect()).await.unwrap();
    let workers = stores.iter().map(|store| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut done = Vec::new();
            loop {
                let claimed = store.claim(&request(3)).await.unwrap();
                if claimed.is_empty() {
                    return done;
                }
                for one in claimed {
                    store.complete(&one.ticket).await.unwrap();
                    done.push(one.job.id.to_string());
                }
            }
        })
    });
    let mut done = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        done.extend(worker.await.unwrap());
    }
    done.sort_unstable();
    let mut all = names;
    all.sort_unstable();
    assert_eq!(done, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_notices_what_another_process_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SqliteOptions::at(folder.path().join("mos.db"));
    let (one, other) = (open(options()), open(options()));
    let waiting = tokio::spawn(async move { one.wait(Duration::from_secs(3600)).await.unwrap() });
    other.push(&scope(), vec![job("a")]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the wait ends").unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_jobs_and_loses_none() {
    let disk = Disk::new();
    let options = || SqliteOptions { vfs: Some(disk.vfs().to_owned()), ..SqliteOptions::at("/mos.db") };
    let store = open(options());
    store.push(&scope(), vec![job("a"), job("b")]).await.unwrap();
    let claimed = store.claim(&request(1)).await.unwrap();
    disk.fail_writes(Some(WriteFault::Full));
    let error = store.push(&scope(), vec![job("c")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error}");
    store.complete(&claimed[0].ticket).await.unwrap_err();
    store.claim(&request(1)).await.unwrap_err();
    disk.fail_writes(None);
    store.complete(&claimed[0].ticket).await.unwrap();
    drop(store);
    disk.restart(1);
    let store = open(options());
    let state = async |name: &str| store.find(&scope(), &name.into()).await.unwrap();
    assert_eq!([state("a").await, state("b").await], [Some(JobState::Finished), Some(JobState::Waiting)]);
    assert_eq!(state("c").await, None);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_dies_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(SqliteOptions::at(&path));
    let grouped = |name: &str| NewJob { group: Some("g".to_owned()), ..job(name) };
    store.push(&scope(), vec![grouped("a"), grouped("b"), job("c")]).await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE jobs SET payload = '{' WHERE id = 'a'", []).unwrap();
    let claimed = store.claim(&request(10)).await.unwrap();
    assert_eq!(claimed.iter().map(|one| one.job.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    let dead = store.dead(&scope(), Paging::ALL).await.unwrap();
    assert_eq!((dead.total, &dead.entries[0].job.payload), (1, &json!("{")));
    assert!(dead.entries[0].reason.contains("cannot be read"), "{}", dead.entries[0].reason);
}

#[tokio::test]
async fn a_following_job_that_cannot_be_read_dies_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(SqliteOptions::at(&path));
    let grouped = |name: &str| NewJob { group: Some("g".to_owned()), ..job(name) };
    store.push(&scope(), ["a", "b", "c"].map(grouped).to_vec()).await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE jobs SET payload = '{' WHERE id = 'b'", []).unwrap();
    let first = store.claim(&request(10)).await.unwrap().remove(0);
    let following = store.claim_following(&first.ticket, 5, Duration::from_secs(60)).await.unwrap();
    assert_eq!(following.iter().map(|one| one.job.id.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(store.dead(&scope(), Paging::ALL).await.unwrap().entries[0].job.id.as_str(), "b");
    store.complete(&first.ticket).await.unwrap();
    drop(store);
    let store = open(SqliteOptions::at(&path));
    assert_eq!(store.claim(&request(10)).await.unwrap(), [], "the last one is claimed after a restart too");
    store.complete(&following[0].ticket).await.unwrap();
    let findings = store.check().await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}
