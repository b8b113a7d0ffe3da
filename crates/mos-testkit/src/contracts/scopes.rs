//! What every [`ScopeLifecycle`] must do.

use std::sync::Arc;

use mos_core::{Filter, JobQueue, NewJob, QueueStats, RecordStore, ScopeLifecycle, StoreError, WriteBatch};

use super::samples::{apply, batch, edge, embedded, puts, refused, scope, space};

/// A record, seen as all that the suite needs.
pub type Seen = (Arc<dyn ScopeLifecycle>, Arc<dyn RecordStore>, Arc<dyn JobQueue>);

/// Runs the suite; `make` returns a fresh, empty record.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> Seen) {
    jobs_go_with_the_scope(make().await).await;
    run_without_jobs(async || {
        let (scopes, record, _) = make().await;
        (scopes, record)
    })
    .await;
}

/// Runs what of the suite a record can keep that takes no jobs.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run_without_jobs(make: impl AsyncFn() -> (Arc<dyn ScopeLifecycle>, Arc<dyn RecordStore>)) {
    let (scopes, record) = make().await;
    a_closed_scope_is_empty_and_takes_nothing(&*scopes, &*record).await;
    let (scopes, record) = make().await;
    an_opened_scope_is_new(&*scopes, &*record).await;
    let (scopes, record) = make().await;
    who_comes_late_touches_no_later_cube(&*scopes, &*record).await;
    let (scopes, record) = make().await;
    only_an_empty_scope_is_discarded(&*scopes, &*record).await;
    let (scopes, _) = make().await;
    the_generation_is_that_of_the_last_change(&*scopes).await;
}

async fn count(record: &dyn RecordStore, cube: &str) -> usize {
    record.count(&scope(cube), &Filter::Everything).await.expect("count")
}

async fn assert_takes_nothing(record: &dyn RecordStore, cube: &str) {
    let error = refused(record, &scope(cube), puts(&[("late", "text")])).await;
    assert!(matches!(error, StoreError::NotFound { what: "cube", .. }), "{error}");
}

async fn a_closed_scope_is_empty_and_takes_nothing(scopes: &dyn ScopeLifecycle, record: &dyn RecordStore) {
    let (ours, mini) = (scope("c"), space("mini", 2));
    scopes.open_scope(&ours, 5).await.expect("open");
    let memories: [(&str, &str, &[f32]); 2] = [("a", "red dog", &[1.0, 0.0]), ("b", "blue", &[0.0, 1.0])];
    for cube in ["c", "d"] {
        let write = WriteBatch { put_edges: vec![edge("a", "X", "b")], ..embedded(&mini, &memories) };
        apply(record, &scope(cube), WriteBatch { idempotency_key: Some("key".to_owned()), ..write }).await;
    }
    for _ in 0..2 {
        scopes.close_scope(&ours, 5).await.expect("closing a second time is no error");
        assert_eq!((count(record, "c").await, count(record, "d").await), (0, 2), "other scopes stay");
        assert_eq!(record.all_edges(&ours).await.expect("edges"), []);
        assert_eq!(record.history(&ours, &"a".into()).await.expect("history"), []);
        assert_eq!(record.embedding_space(&ours).await.expect("space"), None);
        assert_eq!(record.full_text(&ours, "dog", 9, &Filter::Everything).await.expect("full text"), []);
        assert_takes_nothing(record, "c").await;
    }
    let told = record.changes(&ours, 0, 100).await.expect("changes");
    assert!(told.len() == 2 && told.iter().all(|one| matches!(one, mos_core::Change::Deleted { .. })), "{told:?}");
    scopes.close_scope(&scope("never seen"), 1).await.expect("close");
    assert_takes_nothing(record, "never seen").await;
}

async fn an_opened_scope_is_new(scopes: &dyn ScopeLifecycle, record: &dyn RecordStore) {
    let ours = scope("c");
    let keyed = || WriteBatch { idempotency_key: Some("key".to_owned()), ..puts(&[("a", "text")]) };
    apply(record, &ours, keyed()).await;
    scopes.open_scope(&ours, 1).await.expect("open");
    assert_eq!(count(record, "c").await, 0, "what was there before belongs to nobody");
    assert!(!apply(record, &ours, keyed()).await.replayed, "keys go too");
    scopes.open_scope(&ours, 1).await.expect("a second time changes nothing");
    assert_eq!(count(record, "c").await, 1);
    scopes.close_scope(&ours, 1).await.expect("close");
    scopes.open_scope(&ours, 2).await.expect("open");
    apply(record, &ours, keyed()).await;
    assert_eq!(count(record, "c").await, 1);
}

async fn who_comes_late_touches_no_later_cube(scopes: &dyn ScopeLifecycle, record: &dyn RecordStore) {
    let ours = scope("c");
    scopes.open_scope(&ours, 10).await.expect("open");
    apply(record, &ours, puts(&[("a", "text")])).await;
    scopes.close_scope(&ours, 9).await.expect("an earlier cube's memories are gone already");
    assert!(scopes.close_empty_scope(&ours, 9).await.expect("the same"));
    for late in [9, 1] {
        let error = scopes.open_scope(&ours, late).await.expect_err("the scope is another cube's");
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    }
    assert_eq!(count(record, "c").await, 1);
    apply(record, &ours, batch()).await;
    scopes.close_scope(&ours, 10).await.expect("close");
    let error = scopes.open_scope(&ours, 10).await.expect_err("a cube is made once");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    assert_takes_nothing(record, "c").await;
}

async fn only_an_empty_scope_is_discarded(scopes: &dyn ScopeLifecycle, record: &dyn RecordStore) {
    let ours = scope("c");
    scopes.open_scope(&ours, 1).await.expect("open");
    apply(record, &ours, puts(&[("a", "text")])).await;
    assert!(!scopes.close_empty_scope(&ours, 1).await.expect("close"));
    apply(record, &ours, puts(&[("b", "text")])).await;
    assert_eq!(count(record, "c").await, 2, "nothing was changed");
    apply(record, &ours, WriteBatch { clear: true, ..batch() }).await;
    for _ in 0..2 {
        assert!(scopes.close_empty_scope(&ours, 1).await.expect("close"));
        assert_takes_nothing(record, "c").await;
    }
}

/// Memories of a scope, and a job for them.
fn with_a_job() -> WriteBatch {
    let job = NewJob::new("job".into(), "mem_read", serde_json::json!({"ids": ["a"]}));
    WriteBatch { jobs: vec![job], ..puts(&[("a", "text")]) }
}

async fn jobs_go_with_the_scope((scopes, record, jobs): Seen) {
    let (ours, other) = (scope("c"), scope("d"));
    for one in [&ours, &other] {
        scopes.open_scope(one, 5).await.expect("open");
        apply(&*record, one, with_a_job()).await;
    }
    scopes.open_scope(&ours, 5).await.expect("a second time changes nothing");
    scopes.close_scope(&ours, 4).await.expect("an earlier cube's are gone already");
    assert!(!scopes.close_empty_scope(&ours, 5).await.expect("it is not empty"));
    assert_eq!(jobs.stats(&ours).await.expect("stats").waiting, 1);
    for generation in 5..8 {
        match generation {
            5 => scopes.close_scope(&ours, 5).await.expect("close"),
            // Whatever an earlier cube left must not be done with a later one's memories.
            6 => {
                scopes.open_scope(&ours, 6).await.expect("open");
                apply(&*record, &ours, with_a_job()).await;
                scopes.open_scope(&ours, 7).await.expect("open");
            }
            _ => {
                let only_a_job = WriteBatch { put: Vec::new(), ..with_a_job() };
                apply(&*record, &ours, only_a_job).await;
                assert!(scopes.close_empty_scope(&ours, 7).await.expect("a job is no memory"));
            }
        }
        assert_eq!(jobs.stats(&ours).await.expect("stats"), QueueStats::default(), "{generation}");
    }
    assert_eq!(jobs.stats(&other).await.expect("stats").waiting, 1, "other scopes stay");
    assert_eq!(record.count(&other, &Filter::Everything).await.expect("count"), 1);
}

async fn the_generation_is_that_of_the_last_change(scopes: &dyn ScopeLifecycle) {
    let ours = scope("c");
    assert_eq!(scopes.generation(&ours).await.expect("generation"), 0, "nobody has opened it");
    scopes.open_scope(&ours, 5).await.expect("open");
    assert_eq!(scopes.generation(&ours).await.expect("generation"), 5);
    scopes.close_scope(&ours, 4).await.expect("close");
    assert_eq!(scopes.generation(&ours).await.expect("generation"), 5);
    scopes.close_scope(&ours, 6).await.expect("close");
    assert_eq!(scopes.generation(&ours).await.expect("generation"), 6);
    assert!(scopes.close_empty_scope(&ours, 7).await.expect("close"));
    assert_eq!(scopes.generation(&ours).await.expect("generation"), 7);
    assert_eq!(scopes.generation(&scope("another")).await.expect("generation"), 0);
}
