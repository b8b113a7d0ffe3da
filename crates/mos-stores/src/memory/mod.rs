//! Record, users and jobs in memory: a real store that keeps the same contracts, and forgets everything at its end.

mod jobs;
mod scope;
mod users;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use mos_core::{
    Access, Change, Clock, Cube, CubeId, Direction, Edge, EmbeddingSpace, Filter, GraphStore, MemoryId, MemoryItem,
    Page, Paging, Receipt, RecordStore, Scope, Scored, StoreError, User, UserId, UserRole, UserStore, Version,
    WriteBatch,
};
use serde_json::Value;

use crate::TextAnalyzer;
use crate::bm25::query_terms;
use crate::prepare::{check_space, prepare};
use crate::queue::memory::QueueState;
use crate::queue::{Bell, QueueLimits};
use scope::ScopeState;
use users::UsersState;

/// Keeps record, users and jobs in memory.
#[derive(Debug)]
pub struct InMemoryStore {
    clock: Arc<dyn Clock>,
    analyzer: TextAnalyzer,
    queue_limits: QueueLimits,
    state: RwLock<State>,
    bell: Bell,
}

#[derive(Debug)]
struct State {
    /// Number of the last change, of all scopes.
    sequence: u64,
    scopes: HashMap<Scope, ScopeState>,
    users: UsersState,
    queue: QueueState,
}

impl InMemoryStore {
    /// Returns an empty store, in which only the user `root` exists.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::with_queue_limits(clock, QueueLimits::default())
    }

    /// Returns an empty store whose queue of jobs takes so much.
    pub fn with_queue_limits(clock: Arc<dyn Clock>, queue_limits: QueueLimits) -> Arc<Self> {
        let users = UsersState::new(clock.now_text());
        let state = State { sequence: 0, scopes: HashMap::new(), users, queue: QueueState::default() };
        let (analyzer, bell) = (TextAnalyzer::new(), Bell::default());
        Arc::new(Self { clock, analyzer, queue_limits, state: RwLock::new(state), bell })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers from a scope; an unknown one is an empty one.
    fn view<T: Default>(&self, scope: &Scope, look: impl FnOnce(&ScopeState) -> T) -> T {
        self.read().scopes.get(scope).map(look).unwrap_or_default()
    }
}

#[async_trait]
impl GraphStore for InMemoryStore {
    async fn nodes(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.view(scope, |state| ids.iter().filter_map(|id| state.item(id)).cloned().collect()))
    }

    async fn list(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, StoreError> {
        let (entries, total) = self.view(scope, |state| {
            let page = state.passing(filter).skip(paging.offset).take(paging.limit).cloned().collect();
            (page, state.passing(filter).count())
        });
        Ok(Page { entries, total })
    }

    async fn count(&self, scope: &Scope, filter: &Filter) -> Result<usize, StoreError> {
        Ok(self.view(scope, |state| state.passing(filter).count()))
    }

    async fn edges(
        &self,
        scope: &Scope,
        id: &MemoryId,
        direction: Direction,
        kind: Option<&str>,
    ) -> Result<Vec<Edge>, StoreError> {
        let touches = |edge: &&Edge| match direction {
            Direction::Outgoing => edge.source == *id,
            Direction::Incoming => edge.target == *id,
            Direction::Any => edge.source == *id || edge.target == *id,
        };
        let of_kind = |edge: &&Edge| kind.is_none_or(|kind| edge.kind == kind);
        Ok(self.view(scope, |state| state.edges().filter(touches).filter(of_kind).cloned().collect()))
    }

    async fn all_edges(&self, scope: &Scope) -> Result<Vec<Edge>, StoreError> {
        Ok(self.view(scope, |state| state.edges().cloned().collect()))
    }

    async fn full_text(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        let terms = query_terms(self.analyzer.terms(query));
        Ok(self.view(scope, |state| state.full_text(&terms, limit, filter)))
    }
}

#[async_trait]
impl RecordStore for InMemoryStore {
    async fn apply(&self, scope: &Scope, batch: WriteBatch) -> Result<Receipt, StoreError> {
        let mut batch = prepare(batch, &self.analyzer, self.clock.now_text(), &self.queue_limits)?;
        let jobs = std::mem::take(&mut batch.jobs);
        let now_ms = self.clock.now().as_millisecond();
        let State { sequence, scopes, queue, .. } = &mut *self.write();
        let state = scopes.entry(scope.clone()).or_default();
        if !state.has_done(&batch) {
            queue.check_room(scope, &jobs, &self.queue_limits, now_ms)?;
        }
        let receipt = state.apply(scope, batch, sequence)?;
        if !receipt.replayed && !jobs.is_empty() {
            queue.push(scope, jobs, &self.queue_limits, now_ms)?;
            self.bell.ring();
        }
        Ok(receipt)
    }

    async fn embedding_space(&self, scope: &Scope) -> Result<Option<EmbeddingSpace>, StoreError> {
        Ok(self.view(scope, |state| state.space.clone()))
    }

    async fn without_embedding(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        limit: usize,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.view(scope, |state| state.without_embedding(space).take(limit).cloned().collect()))
    }

    async fn adopt_space(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<(), StoreError> {
        check_space(space)?;
        let State { sequence, scopes, .. } = &mut *self.write();
        scopes.entry(scope.clone()).or_default().adopt_space(scope, space, sequence)
    }

    async fn changes(&self, scope: &Scope, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        Ok(self.view(scope, |state| state.changes(after, limit)))
    }

    async fn embeddings(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
        Ok(self
            .view(scope, |state| ids.iter().filter_map(|id| Some((id.clone(), state.vector(id)?.clone()))).collect()))
    }

    async fn history(&self, scope: &Scope, id: &MemoryId) -> Result<Vec<Version>, StoreError> {
        Ok(self.view(scope, |state| state.history(id)))
    }
}

#[async_trait]
impl UserStore for InMemoryStore {
    async fn create_user(&self, id: &UserId, name: &str, role: UserRole) -> Result<User, StoreError> {
        self.write().users.create(id, name, role, self.clock.now_text())
    }

    async fn ensure_user(&self, id: &UserId) -> Result<User, StoreError> {
        self.write().users.ensure(id, self.clock.now_text())
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        Ok(self.read().users.user(id).cloned())
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        Ok(self.read().users.users())
    }

    async fn delete_user(&self, id: &UserId) -> Result<(), StoreError> {
        self.write().users.delete_user(id)
    }

    async fn create_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        let State { sequence, scopes, users, queue } = &mut *self.write();
        users.create_cube(cube)?;
        // Whatever stands under this id without a cube must never become the new owner's.
        queue.remove_tenant(&Scope::of(&cube.cube_id));
        if let Some(state) = scopes.get_mut(&Scope::of(&cube.cube_id)) {
            state.erase(sequence, false);
        }
        Ok(())
    }

    async fn cube(&self, id: &CubeId) -> Result<Option<Cube>, StoreError> {
        Ok(self.read().users.cube(id).cloned())
    }

    async fn cubes(&self, user: Option<&UserId>) -> Result<Vec<Cube>, StoreError> {
        Ok(self.read().users.cubes(user))
    }

    async fn set_registered(&self, id: &CubeId, is_registered: bool) -> Result<(), StoreError> {
        self.write().users.cube_mut(id)?.is_registered = is_registered;
        Ok(())
    }

    async fn set_cube_config(&self, id: &CubeId, config: &Value) -> Result<(), StoreError> {
        self.write().users.cube_mut(id)?.config = config.clone();
        Ok(())
    }

    async fn delete_cube(&self, id: &CubeId) -> Result<(), StoreError> {
        let State { sequence, scopes, users, queue } = &mut *self.write();
        users.delete_cube(id)?;
        queue.remove_tenant(&Scope::of(id));
        scopes.entry(Scope::of(id)).or_default().erase(sequence, true);
        Ok(())
    }

    async fn discard_cube(&self, id: &CubeId) -> Result<bool, StoreError> {
        let State { sequence, scopes, users, queue } = &mut *self.write();
        let state = scopes.entry(Scope::of(id)).or_default();
        if users.cube(id).is_none_or(|cube| cube.is_registered) || state.passing(&Filter::Everything).next().is_some() {
            return Ok(false);
        }
        users.delete_cube(id)?;
        queue.remove_tenant(&Scope::of(id));
        state.erase(sequence, true);
        Ok(true)
    }

    async fn share(&self, id: &CubeId, user: &UserId) -> Result<(), StoreError> {
        self.write().users.share(id, user)
    }

    async fn unshare(&self, id: &CubeId, user: &UserId) -> Result<(), StoreError> {
        self.write().users.unshare(id, user)
    }

    async fn access(&self, user: &UserId, cube: &CubeId) -> Result<Option<Access>, StoreError> {
        Ok(self.read().users.access(user, cube))
    }
}
