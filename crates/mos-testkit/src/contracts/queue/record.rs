//! A queue that shares its transactions with the record.

use std::sync::Arc;

use mos_core::users::ROOT_USER;
use mos_core::{Cube, CubeId, Filter, JobQueue, MemoryId, RecordStore, StoreError, UserId, UserStore, WriteBatch};

use super::super::samples::{apply, batch, puts, refused, scope};
use super::{Bench, assert_ended, assert_full, job, jobs, names};
use crate::clock::SetClock;

/// Runs the suite; `make` returns a fresh, empty store that is a queue too, which goes by the clock it is given and takes
/// so many jobs per tenant.
///
/// # Panics
/// When a claim of the traits does not hold.
pub async fn run_with_record<S>(make: impl AsyncFn(Arc<SetClock>, usize) -> Arc<S>)
where
    S: RecordStore + UserStore + JobQueue + 'static,
{
    let fresh = async |limit: usize| {
        let clock = Arc::new(SetClock::default());
        let store = make(Arc::clone(&clock), limit).await;
        (Bench { queue: Arc::clone(&store) as Arc<dyn JobQueue>, clock }, store)
    };
    let (bench, store) = fresh(3).await;
    jobs_come_with_their_batch_or_not_at_all(&bench, &*store).await;
    let (bench, store) = fresh(100).await;
    a_deleted_cube_has_no_jobs(&bench, &*store).await;
}

/// The queue takes three jobs per tenant.
async fn jobs_come_with_their_batch_or_not_at_all(bench: &Bench, record: &dyn RecordStore) {
    let c = scope("c");
    let with_jobs = |memory: &str, names: &[&str]| WriteBatch { jobs: jobs(names), ..puts(&[(memory, "text")]) };
    let keyed = WriteBatch { idempotency_key: Some("key".to_owned()), ..with_jobs("m1", &["a", "b"]) };
    apply(record, &c, keyed.clone()).await;
    assert_eq!(bench.counts(&c).await, (2, 0, 0));
    let claimed = bench.claim(1).await;
    assert_eq!(names(&claimed), ["a"]);
    assert!(apply(record, &c, keyed).await.replayed);
    assert_eq!(bench.counts(&c).await, (1, 1, 0), "a replay pushes nothing");
    let refused_batch = WriteBatch { absent: vec![MemoryId::new("m1")], ..with_jobs("m2", &["c"]) };
    refused(record, &c, refused_batch).await;
    assert_eq!(bench.find(&c, "c").await, None, "a refused batch pushes nothing");
    assert_full(record.apply(&c, with_jobs("m2", &["c", "d"])).await, 3);
    let bad = WriteBatch { jobs: vec![mos_core::NewJob { max_attempts: 0, ..job("bad") }], ..puts(&[("m2", "text")]) };
    let error = refused(record, &c, bad).await;
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(record.count(&c, &Filter::Everything).await.expect("count"), 1, "jobs without room keep memories out");
    assert_eq!(bench.counts(&c).await, (1, 1, 0));
    apply(record, &c, with_jobs("m2", &["a", "c"])).await;
    assert_eq!(bench.counts(&c).await, (2, 1, 0), "known ones are passed over");
    apply(record, &c, WriteBatch { jobs: Vec::new(), ..batch() }).await;
}

async fn a_deleted_cube_has_no_jobs<S: RecordStore + UserStore>(bench: &Bench, store: &S) {
    let cube = |name: &str| Cube {
        cube_id: CubeId::new(name),
        cube_name: name.to_owned(),
        cube_path: None,
        owner_id: UserId::new(ROOT_USER),
        created_at: "2026".to_owned(),
        is_registered: true,
        config: serde_json::Value::Null,
    };
    let (c, d) = (scope("c"), scope("d"));
    for name in ["c", "d"] {
        store.create_cube(&cube(name)).await.expect("a new cube");
        bench.push(&scope(name), jobs(&["a", "b"])).await;
    }
    let claimed = bench.claim(1).await;
    assert_eq!(claimed[0].job.scope, c);
    store.delete_cube(&c.cube).await.expect("delete");
    assert_eq!(bench.counts(&c).await, (0, 0, 0));
    assert_eq!(bench.counts(&d).await, (2, 0, 0), "the other cube keeps its jobs");
    assert_ended(bench.queue.complete(&claimed[0].ticket).await);
    let error = bench.queue.push(&c, jobs(&["late"])).await.expect_err("the cube is deleted");
    assert!(matches!(error, StoreError::NotFound { what: "cube", .. }), "{error}");
    store.create_cube(&cube("c")).await.expect("made again");
    bench.push(&c, jobs(&["a"])).await;
    assert_eq!(bench.claim(10).await.len(), 3);
}
