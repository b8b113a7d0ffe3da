//! What every [`StateStore`] must do that is told of cubes, which other stores keep.

use std::sync::Arc;

use mos_core::{Expected, ScopeLifecycle, StateStore, StoreError};
use serde_json::json;

use super::samples::scope;
use super::state::{
    a_closed_scope_holds_and_takes_nothing, assert_takes_nothing, document, entries, fill, keys, numbered, read,
};

/// A store of documents, and what tells it of cubes.
pub type Told = (Arc<dyn StateStore>, Arc<dyn ScopeLifecycle>);

/// Runs what a store must do that is told of cubes which others keep; `make` returns a fresh, empty one.
///
/// # Panics
/// When a claim of the traits does not hold.
pub async fn run(make: impl AsyncFn() -> Told) {
    let (store, scopes) = make().await;
    a_closed_scope_holds_and_takes_nothing(&*store, &*scopes).await;
    let (store, scopes) = make().await;
    who_comes_late_touches_no_documents_of_a_later_cube(&*store, &*scopes).await;
    let (store, scopes) = make().await;
    deleting_and_making_at_once_leaves_the_later_cube(store, scopes).await;
}

/// As when two programs delete and make cubes of one id, and one of them is held up.
async fn who_comes_late_touches_no_documents_of_a_later_cube(store: &dyn StateStore, scopes: &dyn ScopeLifecycle) {
    let c = scope("c");
    assert_eq!(scopes.generation(&c).await.expect("generation"), 0);
    scopes.open_scope(&c, 5).await.expect("open");
    fill(store, &c).await;
    scopes.open_scope(&c, 5).await.expect("a second time changes nothing");
    let late = scopes.open_scope(&c, 4).await.expect_err("an earlier cube");
    assert!(matches!(late, StoreError::Conflict(_)), "{late}");
    scopes.close_scope(&c, 4).await.expect("the earlier cube is gone already");
    assert!(scopes.close_empty_scope(&c, 4).await.expect("so it is"));
    assert_eq!(read(store, &c, "a").await, document(json!(1), 1));
    assert_eq!(entries(store, &c, "log").await, numbered(1, &["a", "b"]));
    scopes.close_scope(&c, 5).await.expect("close");
    assert_takes_nothing(store, &c).await;
    let over = scopes.open_scope(&c, 5).await.expect_err("this cube is over");
    assert!(matches!(over, StoreError::Conflict(_)), "{over}");
    // As large as numbers of cubes are that count microseconds.
    let later = 1_800_000_000_000_001;
    scopes.open_scope(&c, later).await.expect("open");
    assert_eq!(scopes.generation(&c).await.expect("generation"), later);
    fill(store, &c).await;
    scopes.close_scope(&c, later - 1).await.expect("close");
    assert_eq!(keys(store, &c, "").await, ["a"]);
}

/// Each program makes a cube of its own generation and deletes it; whoever made the last one finds its documents.
async fn deleting_and_making_at_once_leaves_the_later_cube(
    store: Arc<dyn StateStore>,
    scopes: Arc<dyn ScopeLifecycle>,
) {
    let programs = [0_u64, 1].map(|program| {
        let (store, scopes) = (Arc::clone(&store), Arc::clone(&scopes));
        tokio::spawn(async move {
            for generation in (1..20).map(|round| 2 * round + program) {
                // Refused when the other one was faster.
                if scopes.open_scope(&scope("c"), generation).await.is_ok() {
                    let written = store.write(&scope("c"), "a", &json!(generation), Expected::Anything).await;
                    assert!(matches!(written, Ok(_) | Err(StoreError::NotFound { .. })), "{written:?}");
                }
                scopes.close_scope(&scope("c"), generation).await.expect("close");
            }
        })
    });
    for program in programs {
        program.await.expect("a program");
    }
    assert_takes_nothing(&*store, &scope("c")).await;
    scopes.open_scope(&scope("c"), 100).await.expect("open");
    fill(&*store, &scope("c")).await;
    scopes.close_scope(&scope("c"), 39).await.expect("close");
    assert_eq!(read(&*store, &scope("c"), "a").await, document(json!(1), 1));
}
