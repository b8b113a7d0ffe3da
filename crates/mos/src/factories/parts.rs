//! What constructors are given, and their types.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use mos_config::{
    ChatModelConfig, EmbedderConfig, InternetRetrieverConfig, MemReaderConfig, RerankerConfig, UserManagerConfig,
};
use mos_core::{
    ChatModel, Clock, Embedder, Fetcher, IdSource, InternetRetriever, MemReader, MemoryError, ModelError,
    ParametricMemory, PreferenceMemory, RecordStore, Reranker, Scope, ScopeLifecycle, StoreError, TextMemory,
    UserStore, VectorStore,
};
use mos_memory::retrieve::Retrieval;
use mos_memory::{AddLocks, Recall, TreeShelves};
use serde_json::Value;

use crate::activation::{ActivationBackend, ActivationParts};

/// What a constructor of a model may look at besides its configuration.
#[derive(Clone, Debug)]
pub struct ModelContext {
    /// The folder of fetched models.
    pub models_dir: PathBuf,
}

/// What a textual memory is made of.
#[derive(Clone, Debug)]
pub struct TextMemoryParts {
    /// The cube.
    pub scope: Scope,
    /// Where its memories are.
    pub record: Arc<dyn RecordStore>,
    /// Finds near vectors.
    pub vectors: Arc<dyn VectorStore>,
    /// Ranks memories for a question; one for all cubes.
    pub recall: Arc<Recall>,
    /// What stands on the shelves of trees; one for all cubes.
    pub shelves: Arc<TreeShelves>,
    /// Turns texts into vectors.
    pub embedder: Arc<dyn Embedder>,
    /// The time of changes.
    pub clock: Arc<dyn Clock>,
    /// Names new memories.
    pub ids: Arc<dyn IdSource>,
    /// Reads conversations; loads itself at its first use.
    pub model: Arc<dyn ChatModel>,
    /// What takes part in searches beside recall; all of it opens itself at its first use.
    pub retrieval: Retrieval,
    /// The memory's own configuration in the cube's: `text_mem.config`.
    pub config: Value,
}

/// What a preference memory is made of.
#[derive(Clone, Debug)]
pub struct PreferenceMemoryParts {
    /// The cube.
    pub scope: Scope,
    /// Where its memories are.
    pub record: Arc<dyn RecordStore>,
    /// Finds near vectors.
    pub vectors: Arc<dyn VectorStore>,
    /// Turns texts into vectors.
    pub embedder: Arc<dyn Embedder>,
    /// The time of changes.
    pub clock: Arc<dyn Clock>,
    /// Names new preferences.
    pub ids: Arc<dyn IdSource>,
    /// Reads conversations and compares preferences; loads itself at its first use.
    pub model: Arc<dyn ChatModel>,
    /// Orders what was found, when one is configured; opens itself at its first use.
    pub reranker: Option<Arc<dyn Reranker>>,
    /// Whether a new preference is compared with all near ones, not only with the nearest.
    pub is_fine: bool,
    /// Lets one adder at a time into a cube.
    pub locks: Arc<AddLocks>,
}

/// What a store of users is made of.
#[derive(Clone, Debug)]
pub struct UserStoreParts {
    /// Its configuration.
    pub config: UserManagerConfig,
    /// The record of the cubes' memories, which must learn of cubes that are made and deleted.
    pub record: Arc<dyn ScopeLifecycle>,
    /// The time of changes.
    pub clock: Arc<dyn Clock>,
}

/// What a reranker is made of.
#[derive(Clone, Debug)]
pub struct RerankerParts {
    /// Where models are.
    pub context: ModelContext,
    /// Turns texts without vectors into vectors.
    pub embedder: Option<Arc<dyn Embedder>>,
}

/// What a reader is made of. Models are loaded when they are first needed.
#[derive(Clone, Debug)]
pub struct MemReaderParts {
    /// Reads conversations.
    pub model: Option<Arc<dyn ChatModel>>,
    /// Reads documents; without it `model` does.
    pub document_model: Option<Arc<dyn ChatModel>>,
    /// Draws experience and skills from conversations; without it `model` does.
    pub general_model: Option<Arc<dyn ChatModel>>,
    /// Looks at images; without it they stay references.
    pub image_model: Option<Arc<dyn ChatModel>>,
    /// Fetches files at addresses; without it they stay references.
    pub fetcher: Option<Arc<dyn Fetcher>>,
    /// How many tokens of a memory the encoder reads ([`Embedder::max_tokens`]); pieces should not be longer. `None` when that
    /// is not known.
    pub max_tokens: Option<usize>,
    /// Keeps apart what strangers say in the manner of instructions to a model.
    pub quarantine: bool,
    /// The time of the memories' making.
    pub clock: Arc<dyn Clock>,
}

/// Makes a reader. No model is asked.
pub type MemReaderFactory =
    Arc<dyn Fn(MemReaderConfig, MemReaderParts) -> std::result::Result<Arc<dyn MemReader>, MemoryError> + Send + Sync>;

/// Makes a chat model.
pub type ChatModelFactory = Arc<
    dyn Fn(ChatModelConfig, ModelContext) -> BoxFuture<'static, std::result::Result<Arc<dyn ChatModel>, ModelError>>
        + Send
        + Sync,
>;

/// Makes an encoder.
pub type EmbedderFactory = Arc<
    dyn Fn(EmbedderConfig, ModelContext) -> BoxFuture<'static, std::result::Result<Arc<dyn Embedder>, ModelError>>
        + Send
        + Sync,
>;

/// Makes a reranker.
pub type RerankerFactory = Arc<
    dyn Fn(RerankerConfig, RerankerParts) -> BoxFuture<'static, std::result::Result<Arc<dyn Reranker>, ModelError>>
        + Send
        + Sync,
>;

/// Makes an internet retriever. No request is made.
pub type InternetRetrieverFactory =
    Arc<dyn Fn(InternetRetrieverConfig) -> std::result::Result<Arc<dyn InternetRetriever>, ModelError> + Send + Sync>;

/// Makes a textual memory whose file in a dump has the given name.
pub type TextMemoryFactory = Arc<dyn Fn(TextMemoryParts, String) -> Arc<dyn TextMemory> + Send + Sync>;

/// Makes a preference memory whose file in a dump has the given name.
pub type PreferenceMemoryFactory =
    Arc<dyn Fn(PreferenceMemoryParts, String) -> Arc<dyn PreferenceMemory> + Send + Sync>;

/// Makes a parametric memory whose file in a dump has the given name.
pub type ParametricMemoryFactory = Arc<dyn Fn(String) -> Arc<dyn ParametricMemory> + Send + Sync>;

/// Makes an activation memory for all cubes whose configuration names its key. Nothing is opened before it is used.
pub type ActivationMemoryFactory = Arc<dyn Fn(&ActivationParts) -> ActivationBackend + Send + Sync>;

/// Opens a store of users.
pub type UserStoreFactory = Arc<
    dyn Fn(UserStoreParts) -> BoxFuture<'static, std::result::Result<Arc<dyn UserStore>, StoreError>> + Send + Sync,
>;
