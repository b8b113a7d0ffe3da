//! The one door for writes, and what the record tells about them.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::RecordArchive;
use crate::embed::EmbeddingSpace;
use crate::error::StoreError;
use crate::filter::Filter;
use crate::graph::{Edge, Graph, GraphStore, Paging};
use crate::id::{CubeId, MemoryId};
use crate::memory::{MemoryItem, Status};
use crate::queue::NewJob;
use crate::vector::VectorPoint;

/// Whose memories are meant: one cube. The wall between tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The cube.
    pub cube: CubeId,
}

impl Scope {
    /// Returns the scope of a cube.
    pub fn of(cube: &CubeId) -> Self {
        Self { cube: cube.clone() }
    }
}

/// Who changes something, and why; kept with every version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The user, or the name of a background part.
    pub actor: String,
    /// For example `add`, `update`, `load`.
    pub reason: String,
    /// The message that caused it, when there is one.
    pub message_id: Option<String>,
}

impl Origin {
    /// Returns an origin without a message.
    pub fn new(actor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { actor: actor.into(), reason: reason.into(), message_id: None }
    }
}

/// Embeddings to write, all from one model.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingWrite {
    /// The model. It must be the cube's; the first write decides a cube's.
    pub space: EmbeddingSpace,
    /// Memory and vector, `f32[dimension]`; the store keeps them at unit length.
    pub vectors: Vec<(MemoryId, Vec<f32>)>,
    /// The texts that the vectors were made of, in the same order. With them, a memory that is gone or says something
    /// else by now is passed over; without them, a memory that is gone is an error.
    pub made_of: Option<Vec<String>>,
    /// Writes beside the cube's embeddings while a cube is embedded anew; searches do not see them until
    /// [`RecordStore::adopt_space`].
    pub aside: bool,
}

/// Changes that happen together or not at all. Parts are applied in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteBatch {
    /// Who and why.
    pub origin: Origin,
    /// A second batch with the same key changes nothing and returns the first one's receipt.
    pub idempotency_key: Option<String>,
    /// Ids that no memory may have before the batch.
    pub absent: Vec<MemoryId>,
    /// Memories as they were read: each must still be exactly so before the batch. Embeddings are not compared.
    pub unchanged: Vec<MemoryItem>,
    /// Removes every memory and edge of the scope; the cube's embedding space is forgotten too.
    pub clear: bool,
    /// Memories to remove, with their edges and embeddings; unknown ids are no error.
    pub delete: Vec<MemoryId>,
    /// Memories to write whole. A known id keeps its place in the order and its earlier state goes to the
    /// history; `metadata.version` is set by the caller. Embeddings inside items are ignored.
    pub put: Vec<MemoryItem>,
    /// Edges to remove; unknown ones are no error.
    pub remove_edges: Vec<Edge>,
    /// Edges to write; both ends must exist, a known edge stays.
    pub put_edges: Vec<Edge>,
    /// Embeddings of memories that exist or are in `put`. A put memory whose text changed and that has no
    /// vector here loses its embedding.
    pub embeddings: Option<EmbeddingWrite>,
    /// Jobs to push, as [`JobQueue::push`](crate::JobQueue::push) does: they are in the queue when the batch is on disk,
    /// and only then.
    pub jobs: Vec<NewJob>,
}

impl WriteBatch {
    /// Returns an empty batch.
    pub fn new(origin: Origin) -> Self {
        Self { origin, ..Self::default() }
    }

    /// Returns a batch that writes a graph; memories with known ids are replaced.
    pub fn import(origin: Origin, graph: Graph) -> Self {
        Self { put: graph.nodes, put_edges: graph.edges, ..Self::new(origin) }
    }
}

/// Proof that a batch is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of the last change of the batch in the store's feed.
    pub sequence: u64,
    /// The memories that were put, in order.
    pub put: Vec<MemoryId>,
    /// How many memories were removed.
    pub n_deleted: usize,
    /// Whether an earlier batch with the same key had done it already.
    pub replayed: bool,
}

/// A memory that changed, for indexes that follow the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It was written; the point is absent when it has no embedding.
    Put {
        /// Number of the change.
        sequence: u64,
        /// Numbers the first writes of a scope in their order, which is that of [`GraphStore::list`], with gaps. A memory
        /// keeps its number when it is written again; no two memories of a scope have the same.
        arrival: u64,
        /// The memory.
        id: MemoryId,
        /// Its vector and metadata.
        point: Option<VectorPoint>,
    },
    /// It was removed.
    Deleted {
        /// Number of the change.
        sequence: u64,
        /// The memory.
        id: MemoryId,
    },
}

/// A memory that changed, with some fields of its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedFields {
    /// Number of the change.
    pub sequence: u64,
    /// The memory.
    pub id: MemoryId,
    /// `None` when it was removed.
    pub state: Option<FieldsOf>,
}

/// Some fields of a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldsOf {
    /// Its number among the first writes, as in [`Change::Put`].
    pub arrival: u64,
    /// The values in the order in which they were asked for; null for an absent one.
    pub values: Vec<Value>,
}

/// What a reader that follows the feed asks before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Whether there are changes that it does not know.
    pub is_behind: bool,
    /// Whether the scope may have edges; false only when it has none.
    pub may_have_edges: bool,
    /// The model of the scope's embeddings, as [`RecordStore::embedding_space`] tells it. Where nothing has changed after
    /// this, the embeddings that the reader knows are of this model.
    pub space: Option<EmbeddingSpace>,
}

/// One state of a memory, now or earlier.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Counts changes of this memory from 1.
    pub number: u64,
    /// The memory after the change; `None` when the change removed it.
    pub item: Option<MemoryItem>,
    /// The edges that a removal took away with the memory, sorted by source, target and type; none for other changes.
    pub edges: Vec<Edge>,
    /// Who and why.
    pub origin: Origin,
    /// When, ISO 8601.
    pub at: String,
}

/// The record: every write goes through [`RecordStore::apply`], everything else is a view or a copy of it.
#[async_trait]
pub trait RecordStore: GraphStore {
    /// Applies a batch as one transaction and returns once it is durable.
    ///
    /// # Errors
    /// [`StoreError::EmbeddingSpace`], [`StoreError::Dimension`], [`StoreError::Invalid`] (a vector that is not
    /// finite or of zero length, an edge or embedding without its memory), [`StoreError::Conflict`] (what must be
    /// absent or unchanged is not), [`StoreError::NotFound`] (the scope's cube was deleted), [`StoreError::Full`] (no
    /// room for its jobs), [`StoreError::Storage`], [`StoreError::Busy`]. Nothing of the batch is kept then.
    async fn apply(&self, scope: &Scope, batch: WriteBatch) -> Result<Receipt, StoreError>;

    /// Returns the model that the scope's embeddings were made with; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn embedding_space(&self, scope: &Scope) -> Result<Option<EmbeddingSpace>, StoreError>;

    /// Returns at most `limit` memories that have no embedding in `space`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn without_embedding(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        limit: usize,
    ) -> Result<Vec<MemoryItem>, StoreError>;

    /// Makes `space` the scope's: embeddings written aside become the ones that are searched, the old ones go.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a memory has an old embedding but none in `space` yet; embed the rest and
    /// call again.
    async fn adopt_space(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<(), StoreError>;

    /// Returns at most `limit` changes of the scope after `after`, in order. Only the last change of each memory
    /// is told; a feed read from 0 gives the present state.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn changes(&self, scope: &Scope, after: u64, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// Returns whether the scope has changed after `after`, of which model its embeddings are, and whether it may have edges;
    /// cheap, whatever the scope holds.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn news(&self, scope: &Scope, after: u64) -> Result<News, StoreError> {
        // In this order: another model shows in the feed.
        let space = self.embedding_space(scope).await?;
        let is_behind = !self.changes(scope, after, 1).await?.is_empty();
        Ok(News { is_behind, may_have_edges: true, space })
    }

    /// As [`RecordStore::changes`], with nothing of a memory but some fields of its metadata (those on its first level): for
    /// readers that follow large scopes and need little of each memory.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn changed_fields(
        &self,
        scope: &Scope,
        fields: &[&str],
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChangedFields>, StoreError> {
        let page = self.changes(scope, after, limit).await?;
        projection::project(self, scope, fields, page).await
    }

    /// Returns the embeddings of those among `ids` that have one, in the order asked, at unit length.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn embeddings(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError>;

    /// Returns every state of a memory, oldest first; empty for an unknown id. Only the present state has its
    /// `metadata.history`: the earlier ones are that history.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn history(&self, scope: &Scope, id: &MemoryId) -> Result<Vec<Version>, StoreError>;

    /// Returns what there is to know of a record on a server: names and values, for example its version. Asks the server,
    /// so that an error tells why it cannot be used.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn facts(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(Vec::new())
    }

    /// Returns what moves the store's scopes elsewhere and others' here; `None` when it cannot.
    fn archive(&self) -> Option<&dyn RecordArchive> {
        None
    }

    /// Marks the memories that pass the filter and are not deleted already as deleted, in one write, and returns how many
    /// there were. They stay where they are, with edges and embeddings, and no search that looks at activated memories
    /// finds them. `record` names this deletion for [`RecordStore::recover`]; `at` is its time, ISO 8601.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of them was changed meanwhile; as [`RecordStore::apply`].
    async fn soft_delete(
        &self,
        scope: &Scope,
        filter: &Filter,
        record: &str,
        at: &str,
        origin: Origin,
    ) -> Result<usize, StoreError> {
        let alive = Filter::Not(Box::new(Filter::equals("status", "deleted"))).and(filter.clone());
        let unchanged = self.list(scope, &alive, Paging::ALL).await?.entries;
        soft_deletion::replace(self, scope, unchanged, origin, |item| soft_deletion::mark(item, record, at)).await
    }

    /// Takes back what [`RecordStore::soft_delete`] did under the same name, in one write, and returns how many memories
    /// have the status that they had before.
    ///
    /// # Errors
    /// As [`RecordStore::soft_delete`].
    async fn recover(&self, scope: &Scope, record: &str, origin: Origin) -> Result<usize, StoreError> {
        let deleted = Filter::equals("status", "deleted").and(Filter::equals(soft_deletion::RECORD, record));
        let unchanged = self.list(scope, &deleted, Paging::ALL).await?.entries;
        soft_deletion::replace(self, scope, unchanged, origin, soft_deletion::unmark).await
    }

    /// Activates those of these memories that are marked as deleted, under whichever name, in one write, and returns how many
    /// there were. Those that were kept apart before are kept apart again; others and unknown ids are left alone. Raw memories
    /// among them no longer say what was drawn from them.
    ///
    /// # Errors
    /// As [`RecordStore::soft_delete`].
    async fn reactivate(&self, scope: &Scope, ids: &[MemoryId], origin: Origin) -> Result<usize, StoreError> {
        let mut unchanged = self.nodes(scope, ids).await?;
        unchanged.retain(|item| item.metadata.status == Some(Status::Deleted));
        soft_deletion::replace(self, scope, unchanged, origin, soft_deletion::activate).await
    }
}

/// Fields of memories that a store reads whole.
mod projection {
    use std::collections::HashMap;

    use serde_json::{Map, Value};

    use super::{Change, ChangedFields, FieldsOf, MemoryId, RecordStore, Scope, StoreError};

    pub(super) async fn project<S: RecordStore + ?Sized>(
        store: &S,
        scope: &Scope,
        fields: &[&str],
        page: Vec<Change>,
    ) -> Result<Vec<ChangedFields>, StoreError> {
        // The feed tells nothing of memories without an embedding but that they changed.
        let bare = |change: &Change| match change {
            Change::Put { id, point: None, .. } => Some(id.clone()),
            Change::Put { .. } | Change::Deleted { .. } => None,
        };
        let bare: Vec<MemoryId> = page.iter().filter_map(bare).collect();
        let mut read: HashMap<MemoryId, Map<String, Value>> = HashMap::new();
        if !bare.is_empty() {
            let found = store.nodes(scope, &bare).await?;
            read.extend(found.into_iter().map(|item| (item.id.clone(), item.metadata.to_map())));
        }
        let values = |metadata: Option<&Map<String, Value>>| -> Vec<Value> {
            let value = |field: &&str| metadata.and_then(|metadata| metadata.get(*field)).cloned().unwrap_or_default();
            fields.iter().map(value).collect()
        };
        let projected = page.into_iter().map(|change| match change {
            Change::Deleted { sequence, id } => ChangedFields { sequence, id, state: None },
            Change::Put { sequence, arrival, id, point } => {
                // One that is gone by now has no fields: a later change tells of it.
                let values = match &point {
                    Some(point) => values(Some(&*point.metadata)),
                    None => values(read.get(&id)),
                };
                ChangedFields { sequence, id, state: Some(FieldsOf { arrival, values }) }
            }
        });
        Ok(projected.collect())
    }
}

/// How a deletion that can be taken back is written down, with MemOS' names for it.
mod soft_deletion {
    use serde_json::Value;

    use super::{MemoryItem, Origin, RecordStore, Scope, StoreError, WriteBatch};
    use crate::memory::{QUARANTINE, Status};

    pub(super) const RECORD: &str = "delete_record_id";
    const TIME: &str = "delete_time";
    const STATUS_BEFORE: &str = "status_before_delete";
    /// Where a raw memory names, in `internal_info`, what was drawn from it.
    const REFINED_TO: &str = "refined_to";

    pub(super) fn mark(item: &mut MemoryItem, record: &str, at: &str) {
        let metadata = &mut item.metadata;
        let before = metadata.status.replace(Status::Deleted);
        metadata.extra.insert(RECORD.to_owned(), Value::from(record));
        metadata.extra.insert(TIME.to_owned(), Value::from(at));
        metadata.extra.insert(STATUS_BEFORE.to_owned(), before.map_or(Value::Null, |status| status.as_str().into()));
    }

    pub(super) fn unmark(item: &mut MemoryItem) {
        let metadata = &mut item.metadata;
        let before = metadata.extra.shift_remove(STATUS_BEFORE);
        metadata.status = match &before {
            Some(Value::Null) => None,
            // MemOS does not say what it was; everything that it deletes was in use.
            other => other.as_ref().and_then(Value::as_str).and_then(Status::parse).or(Some(Status::Activated)),
        };
        metadata.extra.shift_remove(RECORD);
        metadata.extra.shift_remove(TIME);
    }

    pub(super) fn activate(item: &mut MemoryItem) {
        unmark(item);
        // Marked and told again is not looked at: what was kept apart stays so until somebody releases it.
        let is_apart = item.metadata.extra.get(QUARANTINE).is_some_and(Value::is_string);
        item.metadata.status = Some(if is_apart { Status::Archived } else { Status::Activated });
        // What was drawn from it may be gone as well: it is drawn anew.
        if let Some(info) = &mut item.metadata.internal_info {
            info.shift_remove(REFINED_TO);
        }
        item.metadata.internal_info.take_if(|info| info.is_empty());
    }

    pub(super) async fn replace<S: RecordStore + ?Sized>(
        store: &S,
        scope: &Scope,
        unchanged: Vec<MemoryItem>,
        origin: Origin,
        change: impl Fn(&mut MemoryItem) + Send,
    ) -> Result<usize, StoreError> {
        let mut put = unchanged.clone();
        put.iter_mut().for_each(change);
        let count = put.len();
        if count > 0 {
            store.apply(scope, WriteBatch { unchanged, put, ..WriteBatch::new(origin) }).await?;
        }
        Ok(count)
    }
}

/// How a record learns of cubes that are made and deleted in another store than its own.
///
/// A generation numbers the cubes that have had the same id, from 1, later ones with larger numbers. It keeps a call that
/// arrives late (its sender has lost the cube meanwhile) from touching the memories of a later cube.
#[async_trait]
pub trait ScopeLifecycle: fmt::Debug + Send + Sync {
    /// Returns the generation that a scope was opened or closed for last; 0 for none. The next cube of this id needs a
    /// larger one.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError>;

    /// Erases whatever a scope holds, jobs too, and lets writes in; the scope belongs to `generation` from now on. A second call
    /// with the same generation changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the scope belongs to a later generation, or this one was closed already; what a
    /// write can meet.
    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError>;

    /// Erases whatever a scope holds, jobs too; later writes are refused with [`StoreError::NotFound`] until it is
    /// opened. Leaves a scope alone that belongs to a later generation. A second time is no error.
    ///
    /// # Errors
    /// What a write can meet.
    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError>;

    /// As [`ScopeLifecycle::close_scope`], but only when the scope holds no memories, asked and done in one
    /// transaction. Returns false when it holds some; nothing was changed then.
    ///
    /// # Errors
    /// What a write can meet.
    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError>;
}
