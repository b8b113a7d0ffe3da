//! Everything that a store keeps, page by page, so that it can move to another store and be the same there.
//!
//! What is exported has the numbers, origins and times that it got when it was written, and is imported with them: no
//! change is made, one is repeated. Numbers of a feed are each store's own and do not move.
//!
//! Not here: in which order things move, and what is compared in the end (the facade's migration).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::embed::EmbeddingSpace;
use crate::error::StoreError;
use crate::id::{CubeId, MemoryId, UserId};
use crate::record::{Receipt, RecordStore, Scope, Version};
use crate::users::{Access, Cube, User, UserStore};

/// The present state of a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedMemory {
    /// Its place in the order of first writes; of two memories of a scope the later one has the larger number.
    pub order: u64,
    /// The id.
    pub id: MemoryId,
    /// Its last version, whose `item` is there.
    pub version: Version,
}

/// A state of a memory that is over: an earlier one, or its removal.
#[derive(Clone, Debug, PartialEq)]
pub struct PastVersion {
    /// The memory.
    pub id: MemoryId,
    /// The state, and who made it when.
    pub version: Version,
}

/// What a scope remembers of a write with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedReceipt {
    /// Its place in the order of keys.
    pub order: u64,
    /// The key.
    pub key: String,
    /// What was answered. Its `sequence` is one of the store that it comes from.
    pub receipt: Receipt,
    /// When, in seconds since 1970.
    pub at_s: i64,
}

/// A part of another store's scope, to be written as it is. Parts are applied in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArchiveBatch {
    /// The model of the scope's embeddings.
    pub space: Option<EmbeddingSpace>,
    /// Memories that are there no longer. Their removals are among the versions of this batch or a later one.
    pub remove: Vec<MemoryId>,
    /// Memories as they are now. A known one keeps its place, others come last, in this order.
    pub memories: Vec<ArchivedMemory>,
    /// Embeddings of `memories`, in `space`; one that has none here has none.
    pub vectors: Vec<(MemoryId, Vec<f32>)>,
    /// What is over; known versions are written anew.
    pub versions: Vec<PastVersion>,
    /// Idempotency keys; known ones stay.
    pub receipts: Vec<ArchivedReceipt>,
}

/// A record whose scopes can move. Edges move through [`GraphStore::edges`](crate::GraphStore::edges) and
/// [`RecordStore::apply`], embeddings are read through [`RecordStore::embeddings`].
#[async_trait]
pub trait RecordArchive: RecordStore {
    /// Returns the number of the last change of the scope in the store's feed; 0 before the first. Edges and keys alone
    /// do not change it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn position(&self, scope: &Scope) -> Result<u64, StoreError>;

    /// Returns at most `limit` memories that come after the one of order `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_memories(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedMemory>, StoreError>;

    /// Returns those memories that exist among `ids`, in any order.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_memories_of(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<ArchivedMemory>, StoreError>;

    /// Returns at most `limit` states that are over, after the one of this memory and number. They come in an order of
    /// the store's own in which those of one memory follow each other with rising numbers.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_versions(
        &self,
        scope: &Scope,
        after: Option<(&MemoryId, u64)>,
        limit: usize,
    ) -> Result<Vec<PastVersion>, StoreError>;

    /// Returns at most `limit` idempotency keys that come after the one of order `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_receipts(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedReceipt>, StoreError>;

    /// Writes a part of another store's scope, as one transaction; returns once it is durable. Doing it again changes
    /// nothing that is read.
    ///
    /// # Errors
    /// What a write can meet; [`StoreError::Invalid`] for a memory without its item, a vector whose memory is not in the
    /// batch, or vectors without their space. Nothing of the batch is kept then.
    async fn import(&self, scope: &Scope, batch: ArchiveBatch) -> Result<(), StoreError>;
}

/// A store of users, cubes and shares that can move.
#[async_trait]
pub trait UserArchive: UserStore {
    /// Returns every user, deactivated ones too, in the order they were made.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_users(&self) -> Result<Vec<User>, StoreError>;

    /// Keeps a user exactly as given, unless there is one of this id and name: that one stays as it is. Returns whether it
    /// is new.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the id or the name belongs to another user.
    async fn import_user(&self, user: &User) -> Result<bool, StoreError>;

    /// Makes a cube, as [`UserStore::create_cube`] does, also for an owner that was deactivated.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the id exists; [`StoreError::NotFound`] for the owner.
    async fn import_cube(&self, cube: &Cube) -> Result<(), StoreError>;

    /// Returns with whom a cube is shared and with which right, deactivated users too, without its owner, by id.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_shares(&self, cube: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError>;

    /// Shares a cube as [`UserStore::share`] does, also with a user that was deactivated.
    ///
    /// # Errors
    /// As [`UserStore::share`].
    async fn import_share(&self, cube: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError>;
}
