//! What handlers may use of a cube.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    ActivationId, ActivationStats, ChatModel, Cube, CubeId, Embedder, MemReader, MemoryError, MemoryId, MemoryItem,
    Message, PreferenceMemory, Reading, Scope, TextMemory, UserId,
};

/// A cube as a handler gets it: that of its message, opened for the message's user.
#[derive(Clone)]
pub struct SchedulerCube {
    /// What the user database knows about it.
    pub info: Cube,
    /// For whom it was opened.
    pub user: UserId,
    /// Its textual memory.
    pub text: Arc<dyn TextMemory>,
    /// Its preference memory, when it has one.
    pub preferences: Option<Arc<dyn PreferenceMemory>>,
    /// Its activation memory, when it has one.
    pub activation: Option<Arc<dyn CubeActivation>>,
    /// Reads raw input for it.
    pub reader: Option<Arc<dyn MemReader>>,
    /// Stores what was read, and organises.
    pub work: Arc<dyn CubeWork>,
    /// The model that judges and writes in the background; `None` when none may.
    pub model: Option<Arc<dyn ChatModel>>,
    /// Turns texts into vectors.
    pub embedder: Arc<dyn Embedder>,
}

impl SchedulerCube {
    /// The scope of its memories.
    pub fn scope(&self) -> Scope {
        Scope::of(&self.info.cube_id)
    }
}

impl fmt::Debug for SchedulerCube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cube, user) = (&self.info.cube_id, &self.user);
        f.debug_struct("SchedulerCube").field("cube", cube).field("user", user).finish_non_exhaustive()
    }
}

/// What was stored of a [`Reading`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredReading {
    /// The ids under which its memories are known, in order.
    pub ids: Vec<MemoryId>,
    /// The ids of chunks of files.
    pub raw_files: Vec<MemoryId>,
}

/// What only the owner of all parts can do for a cube.
#[async_trait]
pub trait CubeWork: fmt::Debug + Send + Sync {
    /// Stores what a reader made, durably when this returns; a second time with the same key changes nothing. What strangers
    /// wrote in the manner of instructions, as its sources say, may be kept apart.
    ///
    /// # Errors
    /// Store errors and errors of the encoder.
    async fn store(&self, reading: Reading, key: &str) -> Result<StoredReading, MemoryError>;

    /// Organises memories (all with `None`), and returns the ids of those that were merged, archived or made. A second
    /// time changes nothing.
    ///
    /// # Errors
    /// [`MemoryError::Unsupported`] for a cube that cannot be organised; store and model errors.
    async fn organize(&self, ids: Option<&[MemoryId]>) -> Result<Organized, MemoryError>;

    /// Returns a memory as it is to be stored: a new one, or the next state of `known`. What reads like instructions and rests on
    /// what strangers wrote may be kept apart ([`MemoryItem::quarantine`]).
    ///
    /// # Errors
    /// [`MemoryError::Unsupported`] when the program is ending.
    async fn looked_at(&self, _known: Option<&MemoryItem>, next: MemoryItem) -> Result<MemoryItem, MemoryError> {
        Ok(next)
    }

    /// Returns the activation memory of a cube whose memories are promoted no more, so that what was promoted before can be taken
    /// back; `None` when it cannot be reached.
    ///
    /// # Errors
    /// Store errors.
    async fn former_activation(&self) -> Result<Option<Arc<dyn CubeActivation>>, MemoryError> {
        Ok(None)
    }
}

/// What organising changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Organized {
    /// Memories that took the place of others.
    pub merged: Vec<MemoryId>,
    /// Memories that others took the place of.
    pub archived: Vec<MemoryId>,
    /// Whether there is more to do than one run does.
    pub is_unfinished: bool,
}

/// Activation memory of one cube; other cubes' is out of reach.
#[async_trait]
pub trait CubeActivation: fmt::Debug + Send + Sync {
    /// Computes and keeps the state after `messages` and returns its name; see
    /// [`ActivationMemory::promote`](mos_core::ActivationMemory::promote).
    ///
    /// # Errors
    /// As there; [`MemoryError::Invalid`] when the cube was deleted.
    async fn promote(&self, messages: &[Message]) -> Result<ActivationId, MemoryError>;

    /// Returns the messages with which conversations of this cube begin when `texts` are its activation memory: what
    /// [`CubeActivation::promote`] is to be called with, so that the next chat begins with exactly that.
    fn beginning(&self, texts: &[String]) -> Vec<Message>;

    /// Whether it keeps states of this user alone, so that users who promote the same have one each. Else the users of a cube
    /// share them.
    fn is_of_one_user(&self) -> bool {
        false
    }

    /// Makes chats of the cube begin with a promoted state, or with none.
    ///
    /// # Errors
    /// Store errors.
    async fn use_in_chats(&self, id: Option<&ActivationId>) -> Result<(), MemoryError>;

    /// Forgets a state and returns whether it was there.
    ///
    /// # Errors
    /// [`MemoryError`] when files cannot be removed.
    async fn delete(&self, id: &ActivationId) -> Result<bool, MemoryError>;

    /// Returns what it holds.
    ///
    /// # Errors
    /// [`MemoryError`] when it cannot be read.
    async fn stats(&self) -> Result<ActivationStats, MemoryError>;
}

/// Opens cubes for messages.
#[async_trait]
pub trait Cubes: fmt::Debug + Send + Sync {
    /// Opens a cube for a user; the user's rights are checked now, not when the message was sent.
    ///
    /// # Errors
    /// [`OpenError::Gone`] when the cube or the right is gone: the message is given up. [`OpenError::Failed`] when it may
    /// work later.
    async fn open(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, OpenError>;

    /// As [`Cubes::open`], for somebody who only searches: the right to read is enough. Whoever calls this writes nothing to it.
    ///
    /// # Errors
    /// As [`Cubes::open`].
    async fn open_to_read(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, OpenError> {
        self.open(user, cube).await
    }

    /// Why no texts are found in any cube; `None` when they are.
    fn why_no_texts(&self) -> Option<String> {
        None
    }
}

/// Why a cube cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It will not work later either.
    #[error("{0}")]
    Gone(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
}
