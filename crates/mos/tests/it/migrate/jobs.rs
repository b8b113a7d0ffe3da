//! Jobs, documents and logs of cubes that move.

use std::path::Path;
use std::time::Duration;

use mos::Settings;
use mos::config::Setting;
use mos::migrate::{Background, Endpoint, MigrateOptions, MigrateReport, Missing, Outcome, migrate};
use mos_core::{
    ClaimRequest, Claimed, CubeId, Expected, JobQueue, JobState, NewJob, Paging, Scope, StateStore, UserId, UserStore,
    Weights,
};
use mos_stores::SqliteStore;
use mos_testkit::services;
use serde_json::{Value, json};

use super::{Names, assert_same, fill, folder, outcomes, run, sqlite};
use crate::servers::servers;

/// How many documents there are: more than one page.
const N_DOCUMENTS: u64 = 510;

/// Jobs in every state, documents and a log of a cube.
async fn work_on(folder: &Path, cube: &str) {
    let (store, scope) = (sqlite(folder), Scope::of(&CubeId::new(cube)));
    let job = |id: &str, group: Option<&str>| NewJob {
        group: group.map(str::to_owned),
        ..NewJob::new(id.into(), "label", json!({"of": id, "trace_id": "00-记"}))
    };
    let late = NewJob { not_before: Some("2100-01-01T00:00:00Z".parse().unwrap()), ..job("late", None) };
    let jobs = vec![job("done", None), job("dead", None), job("a", Some("g")), job("b", Some("g")), late];
    store.push(&scope, jobs).await.unwrap();
    let claimed = claim(&store).await;
    assert_eq!(names(&claimed), ["done", "dead", "a"]);
    store.complete(&claimed[0].ticket).await.unwrap();
    store.fail(&claimed[1].ticket, "it is broken", None).await.unwrap();
    let state: &dyn StateStore = &*store;
    let write = |number: u64| {
        let scope = &scope;
        async move {
            let (key, value) = (format!("monitor/{number} 记"), json!({"n": number}));
            state.write(scope, &key, &value, Expected::Absent).await.unwrap()
        }
    };
    for begin in (0..N_DOCUMENTS).step_by(64) {
        futures::future::join_all((begin..(begin + 64).min(N_DOCUMENTS)).map(write)).await;
    }
    let entries: Vec<Value> = (1..=40).map(|number| json!({"event": number})).collect();
    state.append(&scope, "scheduler/events", &entries, 30).await.unwrap();
}

async fn claim(store: &SqliteStore) -> Vec<Claimed> {
    let lease = Duration::from_secs(600);
    let request = ClaimRequest { consumer: "worker".to_owned(), limit: 9, lease, weights: Weights::default() };
    store.claim(&request).await.unwrap()
}

fn names(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|one| one.job.id.as_str()).collect()
}

fn counts(background: &Background) -> [u64; 5] {
    let Background { jobs, dead, finished, documents, entries } = background;
    [jobs, dead, finished, documents, entries].map(|part| part.count)
}

/// What [`work_on`] left goes on here.
async fn assert_goes_on(folder: &Path, cube: &str) {
    let (store, scope) = (sqlite(folder), Scope::of(&CubeId::new(cube)));
    let stats = store.stats(&scope).await.unwrap();
    assert_eq!((stats.waiting, stats.claimed, stats.dead), (3, 0, 1), "what a consumer had waits again");
    assert_eq!(store.find(&scope, &"done".into()).await.unwrap(), Some(JobState::Finished));
    let dead = store.dead(&scope, Paging::ALL).await.unwrap().entries.remove(0);
    assert_eq!((dead.job.id.as_str(), dead.job.attempt, dead.reason.as_str()), ("dead", 1, "it is broken"));
    for name in ["a", "b"] {
        let claimed = claim(&store).await;
        assert_eq!((names(&claimed), claimed[0].job.attempt), (vec![name], 1), "in the order of the group");
        assert_eq!(claimed[0].job.payload, json!({"of": name, "trace_id": "00-记"}));
        store.complete(&claimed[0].ticket).await.unwrap();
    }
    assert!(claim(&store).await.is_empty(), "what is for later waits for its time");
    let state: &dyn StateStore = &*store;
    assert_eq!(state.keys(&scope, "", None, 1000).await.unwrap().len() as u64, N_DOCUMENTS);
    assert_eq!(state.read(&scope, "monitor/7 记").await.unwrap().unwrap().value, json!({"n": 7}));
    let entries = state.entries(&scope, "scheduler/events", 0, 100).await.unwrap();
    let (first, last) = (&entries[0], &entries[29]);
    assert_eq!((entries.len(), first.sequence, last.sequence), (30, 11, 40), "entries keep their numbers");
    assert_eq!(last.value, json!({"event": 40}));
    assert_eq!(state.append(&scope, "scheduler/events", &[Value::Null], 30).await.unwrap(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_what_the_scheduler_noted_come_along() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 5).await;
    work_on(here.path(), "notes").await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    let notes = |report: &MigrateReport| {
        let cube = report.cubes.iter().find(|cube| cube.cube.as_str() == "notes").unwrap();
        (cube.outcome, counts(&cube.background), cube.n_jobs_left)
    };
    let look = MigrateOptions { dry_run: true, ..MigrateOptions::default() };
    let all = [3, 1, 1, N_DOCUMENTS, 31];
    assert_eq!(notes(&migrate(&from, &to, &look, |_| ()).await.unwrap()), (Outcome::ToMove, all, 0));
    assert!(sqlite(there.path()).tenants().await.unwrap().is_empty(), "nothing was written");
    assert_eq!(notes(&run(&from, &to).await.unwrap()), (Outcome::Moved, all, 0));
    assert_goes_on(there.path(), "notes").await;
    let again = run(&from, &to).await.unwrap();
    assert_eq!(notes(&again), (Outcome::SameAlready, [0; 5], 0), "what was done there does not come again");
    assert!(claim(&sqlite(there.path())).await.is_empty());
    let stats = sqlite(here.path()).stats(&Scope::of(&CubeId::new("notes"))).await.unwrap();
    assert_eq!((stats.waiting, stats.claimed, stats.dead), (2, 1, 1), "the source is only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_were_only_begun_in_a_cube_in_use_are_finished_and_others_stay() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), &Names::new(""), 5).await;
    let (from, to) = (folder(here.path()).await, folder(there.path()).await);
    run(&from, &to).await.unwrap();
    let (source, target) = (sqlite(here.path()), sqlite(there.path()));
    let (source, target): (&dyn StateStore, &dyn StateStore) = (&*source, &*target);
    let scope = Scope::of(&CubeId::new("notes"));
    let entries: Vec<Value> = (1..=40).map(|number| json!({"event": number})).collect();
    let archive = target.state_archive().unwrap();
    for log in ["begun", "half", "own"] {
        source.append(&scope, log, &entries, 30).await.unwrap();
    }
    // As an interrupted call leaves them: without entries, and with one page of them.
    archive.begin_log(&scope, "begun", 10).await.unwrap();
    archive.begin_log(&scope, "half", 10).await.unwrap();
    target.append(&scope, "half", &entries[10..26], usize::MAX).await.unwrap();
    let own: Vec<Value> = (1..=12).map(|number| json!({"own": number})).collect();
    target.append(&scope, "own", &own, usize::MAX).await.unwrap();
    let report = run(&from, &to).await.unwrap();
    let notes = report.cubes.iter().find(|cube| cube.cube.as_str() == "notes").unwrap();
    assert_eq!((notes.outcome, notes.background.entries.count), (Outcome::SameAlready, 31 + 15));
    for log in ["begun", "half"] {
        let (here, there) =
            (source.entries(&scope, log, 0, 100).await.unwrap(), target.entries(&scope, log, 0, 100).await.unwrap());
        assert_eq!((here.len(), &here), (30, &there), "{log}");
    }
    let kept: Vec<Value> =
        target.entries(&scope, "own", 0, 100).await.unwrap().into_iter().map(|entry| entry.value).collect();
    assert_eq!(kept, own, "what is in use stays as it is");
    let again = run(&from, &to).await.unwrap();
    assert!(again.cubes.iter().all(|cube| cube.background.entries.count == 0), "nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_were_on_their_way_come_once() {
    let here = tempfile::tempdir().unwrap();
    fill(here.path(), &Names::new(""), 5).await;
    work_on(here.path(), "notes").await;
    let from = folder(here.path()).await;
    for part in ["documents", "comparing jobs"] {
        let there = tempfile::tempdir().unwrap();
        let to = folder(there.path()).await;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let mut stop = Some(stop);
        let options = MigrateOptions::default();
        let moving = migrate(&from, &to, &options, |progress| {
            if (progress.cube.as_str(), progress.part) == ("notes", part)
                && let Some(stop) = stop.take()
            {
                stop.send(()).unwrap();
            }
        });
        let is_whole = tokio::select! {
            biased;
            _ = stopped => false,
            _ = moving => true,
        };
        assert!(!is_whole, "it was interrupted at {part}");
        let store = sqlite(there.path());
        let scope = Scope::of(&CubeId::new("notes"));
        assert!(store.stats(&scope).await.unwrap().waiting > 0, "jobs had come");
        assert!(!store.cube(&scope.cube).await.unwrap().unwrap().is_registered, "and nobody uses the cube");
        drop(store);
        assert!(outcomes(&run(&from, &to).await.unwrap()).iter().all(|outcome| *outcome != Outcome::ToGoOn));
        drop(to);
        assert_goes_on(there.path(), "notes").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_to_redis_and_come_back() {
    let (Some((store, users, name)), Some(url)) = (servers("migrate_jobs"), services::address("REDIS_URL")) else {
        return;
    };
    let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = Names::new(name.as_str());
    fill(here.path(), &names, 5).await;
    work_on(here.path(), &names.notes).await;
    let queue = json!({"backend": "redis", "config": {"url": url, "prefix": name.as_str()}});
    let settings = Settings::from_json(&json!({"store": store, "user_manager": users, "queue": queue})).unwrap();
    let servers = Endpoint::open(&settings, None, Missing::Make).await.unwrap();
    let first = run(&folder(here.path()).await, &servers).await.unwrap();
    let second = run(&servers, &folder(back.path()).await).await.unwrap();
    for (first, second) in first.cubes.iter().zip(&second.cubes) {
        assert_eq!((&first.contents, &first.background), (&second.contents, &second.background));
    }
    assert_eq!(first.cubes.iter().map(|cube| cube.background.n_jobs()).sum::<u64>(), 4);
    assert_same(here.path(), back.path()).await;
    assert_goes_on(back.path(), &names.notes).await;
    let mos = mos::Mos::builder(settings).data_dir(back.path().join("unused")).build().await.unwrap();
    let (ann, notes) = (UserId::new("ann"), CubeId::new(names.notes));
    mos.delete_cube(&ann, &notes).await.unwrap();
    mos.stop().await;
    // The servers know that an earlier cube of the id was deleted, and take this one.
    let third = run(&folder(here.path()).await, &servers).await.unwrap();
    let moved = |report: &MigrateReport| {
        let cube = report.cubes.iter().find(|cube| cube.cube == notes).unwrap();
        (cube.outcome, cube.background.clone())
    };
    assert_eq!(moved(&third), moved(&first));
    assert_eq!(moved(&third).1.documents.count, N_DOCUMENTS);
    mos.delete_cube(&ann, &notes).await.unwrap();
}
