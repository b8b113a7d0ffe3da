//! How one side's stores learn of cubes that come to it, and of those that go.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{Scope, ScopeLifecycle, StoreError};

/// Tells the record alone of cubes that are made, and all that keeps something of a cube of those that are deleted.
///
/// A cube that is made in the target may have its jobs and documents already: both sides may share their server. Deletions
/// that broke off are finished by whoever opens the users next, which may be a migration.
#[derive(Debug)]
pub(super) struct Arriving {
    record: Arc<dyn ScopeLifecycle>,
    all: Arc<dyn ScopeLifecycle>,
}

impl Arriving {
    /// Returns what tells `record` of new cubes, and `all`, of which it is a part, of deleted ones.
    pub(super) fn new(record: Arc<dyn ScopeLifecycle>, all: Arc<dyn ScopeLifecycle>) -> Self {
        Self { record, all }
    }

    /// Returns who must be told that a cube goes.
    async fn concerned(&self, scope: &Scope, generation: u64) -> Result<&dyn ScopeLifecycle, StoreError> {
        // A cube that broke off while it was made has nothing yet: what stands under its id is another's.
        let was_made = self.record.generation(scope).await? >= generation;
        Ok(if was_made { &*self.all } else { &*self.record })
    }
}

#[async_trait]
impl ScopeLifecycle for Arriving {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.all.generation(scope).await
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.record.open_scope(scope, generation).await
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.concerned(scope, generation).await?.close_scope(scope, generation).await
    }

    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        self.concerned(scope, generation).await?.close_empty_scope(scope, generation).await
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{CubeId, Expected, StateStore, SystemClock};
    use mos_stores::{InMemoryStore, RecordAndState};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn documents_are_there_before_their_cube_and_go_with_it() {
        let (record, state) = (InMemoryStore::new(Arc::new(SystemClock)), InMemoryStore::new(Arc::new(SystemClock)));
        let all = Arc::new(RecordAndState::new(record.clone(), state.clone()));
        let arriving = Arriving::new(record, all);
        let state: &dyn StateStore = &*state;
        let scope = Scope::of(&CubeId::new("c"));
        let is_there = async || state.read(&scope, "a").await.unwrap().is_some();
        state.write(&scope, "a", &json!(1), Expected::Anything).await.unwrap();
        arriving.close_scope(&scope, 4).await.unwrap();
        assert!(is_there().await, "that cube was not made");
        arriving.open_scope(&scope, 5).await.unwrap();
        assert!(is_there().await);
        arriving.close_scope(&scope, 5).await.unwrap();
        assert!(!is_there().await);
        assert_eq!(arriving.generation(&scope).await.unwrap(), 5);
    }
}
