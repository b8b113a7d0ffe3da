//! Every store keeps the contracts of its traits.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{
    ClaimRequest, JobQueue, NewJob, RecordStore, Scope, ScopeLifecycle, StateStore, UserStore, VectorStore,
};
use mos_stores::{
    ExactVectors, ExactVectorsOptions, InMemoryStore, QueueLimits, RecordAndState, SqliteOptions, SqliteStore,
};
use mos_testkit::clock::SetClock;
use mos_testkit::contracts;

fn sqlite(folder: &tempfile::TempDir) -> Arc<SqliteStore> {
    sqlite_queue(folder, Arc::new(SetClock::default()), usize::MAX)
}

fn sqlite_queue(folder: &tempfile::TempDir, clock: Arc<SetClock>, max_jobs: usize) -> Arc<SqliteStore> {
    // Each call a database of its own, in a folder that goes with the test.
    let n_before = std::fs::read_dir(folder.path()).unwrap().count();
    let path = folder.path().join(format!("{n_before}/mos.db"));
    let options = SqliteOptions { queue: queue_limits(max_jobs), ..SqliteOptions::at(path) };
    SqliteStore::open(options, clock).unwrap()
}

fn queue_limits(max_jobs_per_tenant: usize) -> QueueLimits {
    QueueLimits { max_jobs_per_tenant, ..QueueLimits::default() }
}

fn in_memory() -> Arc<InMemoryStore> {
    InMemoryStore::new(Arc::new(SetClock::default()))
}

fn index(record: Arc<dyn RecordStore>) -> (Arc<dyn RecordStore>, Arc<dyn VectorStore>) {
    let index = ExactVectors::following(Arc::clone(&record));
    (record, index)
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_record_contract() {
    let folder = tempfile::tempdir().unwrap();
    contracts::record::run(async || sqlite(&folder) as Arc<dyn RecordStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_keeps_the_record_contract() {
    contracts::record::run(async || in_memory() as Arc<dyn RecordStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_users_contract() {
    let folder = tempfile::tempdir().unwrap();
    let make = async || {
        let store = sqlite(&folder);
        (Arc::clone(&store) as Arc<dyn UserStore>, store as Arc<dyn RecordStore>)
    };
    contracts::users::run(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_keeps_the_users_contract() {
    let make = async || {
        let store = in_memory();
        (Arc::clone(&store) as Arc<dyn UserStore>, store as Arc<dyn RecordStore>)
    };
    contracts::users::run(make).await;
}

#[tokio::test]
async fn users_in_sqlite_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let options = SqliteOptions::at(folder.path().join("mos.db"));
        let store = SqliteStore::open(options, Arc::new(SetClock::default())).unwrap();
        (Arc::clone(&store) as Arc<dyn UserStore>, store as Arc<dyn RecordStore>)
    };
    contracts::users::survives_reopening(open).await;
}

#[tokio::test]
async fn sqlite_keeps_the_scopes_contract() {
    let folder = tempfile::tempdir().unwrap();
    let make = async || {
        let store = sqlite(&folder);
        (
            Arc::clone(&store) as Arc<dyn ScopeLifecycle>,
            Arc::clone(&store) as Arc<dyn RecordStore>,
            store as Arc<dyn JobQueue>,
        )
    };
    contracts::scopes::run(make).await;
}

#[tokio::test]
async fn in_memory_keeps_the_scopes_contract() {
    let make = async || {
        let store = in_memory();
        (
            Arc::clone(&store) as Arc<dyn ScopeLifecycle>,
            Arc::clone(&store) as Arc<dyn RecordStore>,
            store as Arc<dyn JobQueue>,
        )
    };
    contracts::scopes::run(make).await;
}

#[tokio::test]
async fn exact_vectors_over_sqlite_keep_the_vectors_contract() {
    let folder = tempfile::tempdir().unwrap();
    contracts::vectors::run(async || index(sqlite(&folder))).await;
}

#[tokio::test]
async fn exact_vectors_over_memory_keep_the_vectors_contract() {
    contracts::vectors::run(async || index(in_memory())).await;
}

#[tokio::test]
async fn exact_vectors_without_room_keep_the_vectors_contract() {
    let make = async || {
        let record: Arc<dyn RecordStore> = in_memory();
        let options = ExactVectorsOptions { max_bytes: 1 };
        let index: Arc<dyn VectorStore> = ExactVectors::with_options(Arc::clone(&record), options);
        (record, index)
    };
    contracts::vectors::run(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_queue_contract() {
    let folder = tempfile::tempdir().unwrap();
    contracts::queue::run(async |clock, max_jobs| sqlite_queue(&folder, clock, max_jobs) as Arc<dyn JobQueue>).await;
    contracts::queue::run_with_record(async |clock, max_jobs| sqlite_queue(&folder, clock, max_jobs)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_keeps_the_queue_contract() {
    let make = |clock, max_jobs| InMemoryStore::with_queue_limits(clock, queue_limits(max_jobs));
    contracts::queue::run(async |clock, max_jobs| make(clock, max_jobs) as Arc<dyn JobQueue>).await;
    contracts::queue::run_with_record(async |clock, max_jobs| make(clock, max_jobs)).await;
}

/// The contract allows a queue to give none of them.
#[tokio::test]
async fn sqlite_and_memory_give_the_jobs_that_follow() {
    let folder = tempfile::tempdir().unwrap();
    let (scope, lease) = (Scope { cube: "c".into() }, Duration::from_secs(60));
    for queue in [sqlite(&folder) as Arc<dyn JobQueue>, in_memory()] {
        let job = |name: &str| NewJob {
            group: Some("group".to_owned()),
            ..NewJob::new(name.into(), "label", serde_json::json!(name))
        };
        queue.push(&scope, ["a", "b", "c"].map(job).to_vec()).await.unwrap();
        let request =
            ClaimRequest { consumer: "worker".to_owned(), limit: 10, lease, weights: mos_core::Weights::default() };
        let claimed = queue.claim(&request).await.unwrap();
        assert_eq!(queue.claim_following(&claimed[0].ticket, 10, lease).await.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_state_contract() {
    let folder = tempfile::tempdir().unwrap();
    contracts::state::run(async || sqlite(&folder) as Arc<dyn StateStore>).await;
    contracts::state::run_with_cubes(async || sqlite(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_keeps_the_state_contract() {
    contracts::state::run(async || in_memory() as Arc<dyn StateStore>).await;
    contracts::state::run_with_cubes(async || in_memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_memory_are_told_of_cubes() {
    let folder = tempfile::tempdir().unwrap();
    let in_sqlite = async || {
        let store = sqlite(&folder);
        (Arc::clone(&store) as Arc<dyn StateStore>, store as Arc<dyn ScopeLifecycle>)
    };
    contracts::state_scopes::run(in_sqlite).await;
    let within_memory = async || {
        let store = in_memory();
        (Arc::clone(&store) as Arc<dyn StateStore>, store as Arc<dyn ScopeLifecycle>)
    };
    contracts::state_scopes::run(within_memory).await;
}

/// A record on one server and documents on another are told of cubes as one store is.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_and_documents_beside_it_keep_the_contracts() {
    let beside = |record: Arc<InMemoryStore>| Arc::new(RecordAndState::new(record, in_memory()));
    contracts::state::run(async || beside(in_memory()) as Arc<dyn StateStore>).await;
    let told = async || {
        let both = beside(in_memory());
        (Arc::clone(&both) as Arc<dyn StateStore>, both as Arc<dyn ScopeLifecycle>)
    };
    contracts::state_scopes::run(told).await;
    let scopes = async || {
        let record = in_memory();
        let both: Arc<dyn ScopeLifecycle> = beside(Arc::clone(&record));
        (both, Arc::clone(&record) as Arc<dyn RecordStore>, record as Arc<dyn JobQueue>)
    };
    contracts::scopes::run(scopes).await;
}

#[tokio::test]
async fn state_in_sqlite_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let options = SqliteOptions::at(folder.path().join("mos.db"));
        SqliteStore::open(options, Arc::new(SetClock::default())).unwrap() as Arc<dyn StateStore>
    };
    contracts::state::survives_reopening(open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_archive_contract() {
    let folder = tempfile::tempdir().unwrap();
    contracts::archive::run(async || sqlite(&folder) as Arc<dyn RecordStore>).await;
    contracts::archive::run_users(async || sqlite(&folder) as Arc<dyn UserStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_keeps_the_archive_contract() {
    contracts::archive::run(async || in_memory() as Arc<dyn RecordStore>).await;
    contracts::archive::run_users(async || in_memory() as Arc<dyn UserStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_keys_contract() {
    let folder = tempfile::tempdir().unwrap();
    contracts::keys::run(async || sqlite(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_keeps_the_keys_contract() {
    contracts::keys::run(async || in_memory()).await;
}

#[tokio::test]
async fn keys_in_sqlite_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let options = SqliteOptions::at(folder.path().join("mos.db"));
        SqliteStore::open(options, Arc::new(SetClock::default())).unwrap()
    };
    contracts::keys::survives_reopening(open).await;
}
