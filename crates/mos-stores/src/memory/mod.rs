//! Record, users, jobs, documents and logs in memory: a real store that keeps the same contracts, and forgets everything
//! at its end.

mod archive;
mod jobs;
mod keys;
mod scope;
mod scope_archive;
mod state;
mod users;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use mos_core::{
    Access, Change, Clock, Cube, CubeId, Direction, Edge, EmbeddingSpace, Filter, Graph, GraphPage, GraphStore,
    GroupCount, KeyStore, MemoryId, MemoryItem, News, Page, Paging, Receipt, RecordArchive, RecordStore, Scope,
    ScopeLifecycle, Scored, Standing, StoreError, Tagged, User, UserArchive, UserId, UserRole, UserStore, Version,
    WriteBatch,
};
use serde_json::{Map, Value};

use crate::TextAnalyzer;
use crate::bm25::query_terms;
use crate::graph::{self, GroupCounter};
use crate::prepare::{Opening, check_space, opening, prepare};
use crate::queue::memory::QueueState;
use crate::queue::{Bell, QueueLimits};
use keys::KeysState;
use scope::ScopeState;
use users::UsersState;

/// Keeps record, users, jobs, documents and logs in memory.
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
    keys: KeysState,
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
        let (keys, queue) = (KeysState::default(), QueueState::default());
        let state = State { sequence: 0, scopes: HashMap::new(), users, keys, queue };
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

    async fn latest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.view(scope, |state| {
            let passing: Vec<&MemoryItem> = state.passing(filter).collect();
            passing.into_iter().rev().skip(paging.offset).take(paging.limit).cloned().collect()
        }))
    }

    async fn newest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.view(scope, |state| {
            let mut keys = Vec::new();
            for (item, metadata) in state.passing_with_metadata(filter) {
                keys.push((item, item.id.clone(), graph::created_at(metadata)));
            }
            graph::export_page(keys, paging).into_iter().map(|(item, _)| item.clone()).collect()
        }))
    }

    async fn kept_apart(&self, scope: &Scope, limit: usize) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.view(scope, |state| {
            let is_meant = |item: &&MemoryItem| item.is_kept_apart();
            state.passing(&Filter::Everything).filter(is_meant).take(limit).cloned().collect()
        }))
    }

    async fn count(&self, scope: &Scope, filter: &Filter) -> Result<usize, StoreError> {
        Ok(self.view(scope, |state| state.passing(filter).count()))
    }

    async fn edges(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        direction: Direction,
        kind: Option<&str>,
    ) -> Result<Vec<Edge>, StoreError> {
        let ids: HashSet<&MemoryId> = ids.iter().collect();
        let touches = |edge: &&Edge| match direction {
            Direction::Outgoing => ids.contains(&edge.source),
            Direction::Incoming => ids.contains(&edge.target),
            Direction::Any => ids.contains(&edge.source) || ids.contains(&edge.target),
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

    async fn sharing_tags(
        &self,
        scope: &Scope,
        tags: &[String],
        min_shared: usize,
        except: &[MemoryId],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Tagged>, StoreError> {
        let tags: HashSet<&str> = tags.iter().map(String::as_str).collect();
        let mut found = self.view(scope, |state| -> Vec<Tagged> {
            let tagged = |(item, metadata): (&MemoryItem, &Map<String, Value>)| {
                let n_shared = graph::n_shared(metadata, &tags);
                let is_wanted = n_shared >= min_shared.max(1) && !except.contains(&item.id);
                is_wanted.then(|| Tagged { item: item.clone(), n_shared })
            };
            state.passing_with_metadata(filter).filter_map(tagged).collect()
        });
        found.sort_by(|left, right| (right.n_shared, &left.item.id).cmp(&(left.n_shared, &right.item.id)));
        found.truncate(limit);
        Ok(found)
    }

    async fn without_edges(
        &self,
        scope: &Scope,
        kind: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.view(scope, |state| {
            let of_kind = state.edges().filter(|edge| edge.kind == kind);
            let linked: HashSet<&MemoryId> = of_kind.flat_map(|edge| [&edge.source, &edge.target]).collect();
            state.passing(filter).filter(|item| !linked.contains(&item.id)).take(limit).cloned().collect()
        }))
    }

    async fn count_by(&self, scope: &Scope, fields: &[String], filter: &Filter) -> Result<Vec<GroupCount>, StoreError> {
        Ok(self.view(scope, |state| {
            let mut counter = GroupCounter::new(fields);
            state.passing_with_metadata(filter).for_each(|(item, metadata)| counter.add(&item.memory, metadata));
            counter.finish()
        }))
    }

    async fn export(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<GraphPage, StoreError> {
        let page = self.view(scope, |state| {
            let key = |(item, metadata): (&MemoryItem, _)| ((), item.id.clone(), graph::created_at(metadata));
            let keys: Vec<_> = state.passing_with_metadata(filter).map(key).collect();
            let passing: Vec<MemoryId> = keys.iter().map(|(_, id, _)| id.clone()).collect();
            let page = graph::export_page(keys, paging);
            let ids: HashSet<&MemoryId> = page.iter().map(|(_, id)| id).collect();
            let (edges, n_edges) = graph::export_edges(state.edges(), &passing.iter().collect(), &ids);
            let nodes = page.iter().filter_map(|(_, id)| state.item(id)).cloned().collect();
            Some(GraphPage { graph: Graph { nodes, edges }, n_nodes: passing.len(), n_edges })
        });
        Ok(page.unwrap_or(GraphPage { graph: Graph::default(), n_nodes: 0, n_edges: 0 }))
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

    async fn news(&self, scope: &Scope, after: u64) -> Result<News, StoreError> {
        Ok(self.view(scope, |state| state.news(after)))
    }

    async fn embeddings(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
        Ok(self
            .view(scope, |state| ids.iter().filter_map(|id| Some((id.clone(), state.vector(id)?.clone()))).collect()))
    }

    async fn history(&self, scope: &Scope, id: &MemoryId) -> Result<Vec<Version>, StoreError> {
        Ok(self.view(scope, |state| state.history(id)))
    }

    fn archive(&self) -> Option<&dyn RecordArchive> {
        Some(self)
    }
}

#[async_trait]
impl ScopeLifecycle for InMemoryStore {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        Ok(self.read().scopes.get(scope).map_or(0, ScopeState::generation))
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        let State { sequence, scopes, queue, .. } = &mut *self.write();
        let state = scopes.entry(scope.clone()).or_default();
        if opening(scope, (state.generation(), state.is_closed()), generation)? == Opening::Erase {
            state.open_for(generation, sequence);
            queue.remove_tenant(scope);
        }
        Ok(())
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        let State { sequence, scopes, queue, .. } = &mut *self.write();
        let state = scopes.entry(scope.clone()).or_default();
        if state.generation() <= generation {
            state.close_for(generation, sequence);
            queue.remove_tenant(scope);
        }
        Ok(())
    }

    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        let State { sequence, scopes, queue, .. } = &mut *self.write();
        let state = scopes.entry(scope.clone()).or_default();
        if state.generation() > generation {
            return Ok(true);
        }
        if state.passing(&Filter::Everything).next().is_some() {
            return Ok(false);
        }
        state.close_for(generation, sequence);
        queue.remove_tenant(scope);
        Ok(true)
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

    async fn known_user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        Ok(self.read().users.known_user(id).cloned())
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        Ok(self.read().users.users())
    }

    async fn delete_user(&self, id: &UserId) -> Result<(), StoreError> {
        self.write().users.delete_user(id)
    }

    async fn erase_user(&self, id: &UserId) -> Result<(), StoreError> {
        self.write().users.erase_user(id)
    }

    async fn set_role(&self, id: &UserId, role: UserRole) -> Result<User, StoreError> {
        self.write().users.set_role(id, role)
    }

    async fn create_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        let State { sequence, scopes, users, queue, .. } = &mut *self.write();
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
        let State { sequence, scopes, users, queue, .. } = &mut *self.write();
        users.delete_cube(id)?;
        queue.remove_tenant(&Scope::of(id));
        scopes.entry(Scope::of(id)).or_default().erase(sequence, true);
        Ok(())
    }

    async fn discard_cube(&self, id: &CubeId) -> Result<bool, StoreError> {
        let State { sequence, scopes, users, queue, .. } = &mut *self.write();
        let state = scopes.entry(Scope::of(id)).or_default();
        if users.cube(id).is_none_or(|cube| cube.is_registered) || state.passing(&Filter::Everything).next().is_some() {
            return Ok(false);
        }
        users.delete_cube(id)?;
        queue.remove_tenant(&Scope::of(id));
        state.erase(sequence, true);
        Ok(true)
    }

    async fn share(&self, id: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        self.write().users.share(id, user, access)
    }

    async fn shares(&self, id: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        self.read().users.shares(id)
    }

    async fn unshare(&self, id: &CubeId, user: &UserId) -> Result<(), StoreError> {
        self.write().users.unshare(id, user)
    }

    async fn access(&self, user: &UserId, cube: &CubeId) -> Result<Option<Access>, StoreError> {
        Ok(self.read().users.access(user, cube))
    }

    async fn standing(&self, user: &UserId, cube: &CubeId) -> Result<Standing, StoreError> {
        let state = self.read();
        let users = &state.users;
        let access = users.access(user, cube);
        Ok(Standing { user: users.user(user).cloned(), cube: users.cube(cube).cloned(), access })
    }

    fn key_store(&self) -> Option<&dyn KeyStore> {
        Some(self)
    }

    fn archive(&self) -> Option<&dyn UserArchive> {
        Some(self)
    }
}
