//! The name of the request that work belongs to: what is sent to the scheduler meanwhile carries it.

use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static TRACE_ID: Arc<str>;
}

/// Runs a future for a request of this name. What it sends to the scheduler, and what follows from that, has the name as its
/// trace; tasks that it spawns do not.
pub async fn with_trace_id<F: Future>(trace_id: Arc<str>, work: F) -> F::Output {
    TRACE_ID.scope(trace_id, work).await
}

/// Runs a function for a request of this name; see [`with_trace_id`].
pub fn in_trace<T>(trace_id: &Arc<str>, work: impl FnOnce() -> T) -> T {
    TRACE_ID.sync_scope(Arc::clone(trace_id), work)
}

/// Returns the name of the request that the caller works for.
pub(crate) fn trace_id() -> Option<String> {
    TRACE_ID.try_with(|trace_id| trace_id.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_name_is_that_of_the_innermost_request_and_ends_with_it() {
        assert_eq!(trace_id(), None);
        let inner = with_trace_id("one".into(), async {
            assert_eq!(in_trace(&"two".into(), trace_id).as_deref(), Some("two"));
            trace_id()
        });
        assert_eq!(inner.await.as_deref(), Some("one"));
        assert_eq!(trace_id(), None);
    }
}
