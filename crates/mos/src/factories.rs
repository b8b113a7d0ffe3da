//! The table from backend key to constructor.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use mos_config::{
    ChatModelConfig, EmbedderConfig, GeneralMemCubeConfig, InternetRetrieverConfig, MemReaderConfig, RerankerConfig,
    Secrets, Setting, Settings, UserManagerConfig,
};
use mos_core::{
    ChatModel, Clock, CubeId, Embedder, Fetcher, IdSource, InternetRetriever, MemReader, MemoryError, ModelError,
    ParametricMemory, PreferenceMemory, RecordStore, Reranker, Scope, ScopeLifecycle, StoreError, TextMemory, UserId,
    UserStore, VectorStore,
};
use mos_memory::retrieve::Retrieval;
use mos_memory::{
    AddLocks, AddMode, DEFAULT_FILE_NAME, Extractor, GeneralText, GeneralTextParts, LoraPlaceholder, NaiveText,
    PREFERENCE_FILE_NAME, PrefText, PrefTextParts, Recall, Shelf, TreeShelves,
};
use serde::Serialize;
use serde_json::Value;

use crate::activation::{ActivationBackend, ActivationParts, Activations};
use crate::error::{Error, Result};

mod devices;
mod embedders;
mod models;
mod readers;
mod retrieval;
mod trees;
pub(crate) mod users;
pub(crate) mod vectors;

pub use devices::compute_device;
pub(crate) use models::as_configured;
pub(crate) use readers::fetcher;

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

/// Constructors by backend key. Starts with everything this build has; a program may add and replace entries.
#[derive(Clone)]
pub struct Factories {
    chat_models: BTreeMap<String, ChatModelFactory>,
    embedders: BTreeMap<String, EmbedderFactory>,
    rerankers: BTreeMap<String, RerankerFactory>,
    internet_retrievers: BTreeMap<String, InternetRetrieverFactory>,
    mem_readers: BTreeMap<String, MemReaderFactory>,
    text_memories: BTreeMap<String, TextMemoryFactory>,
    preference_memories: BTreeMap<String, PreferenceMemoryFactory>,
    parametric_memories: BTreeMap<String, ParametricMemoryFactory>,
    activation_memories: BTreeMap<String, ActivationMemoryFactory>,
    user_stores: BTreeMap<String, UserStoreFactory>,
}

impl fmt::Debug for Factories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factories")
            .field("chat_models", &self.chat_models.keys())
            .field("embedders", &self.embedders.keys())
            .field("rerankers", &self.rerankers.keys())
            .field("internet_retrievers", &self.internet_retrievers.keys())
            .field("mem_readers", &self.mem_readers.keys())
            .field("text_memories", &self.text_memories.keys())
            .field("preference_memories", &self.preference_memories.keys())
            .field("parametric_memories", &self.parametric_memories.keys())
            .field("activation_memories", &self.activation_memories.keys())
            .field("user_stores", &self.user_stores.keys())
            .finish()
    }
}

impl Default for Factories {
    fn default() -> Self {
        let mut factories = Self {
            chat_models: BTreeMap::new(),
            embedders: BTreeMap::new(),
            rerankers: BTreeMap::new(),
            internet_retrievers: BTreeMap::new(),
            mem_readers: BTreeMap::new(),
            text_memories: BTreeMap::new(),
            preference_memories: BTreeMap::new(),
            parametric_memories: BTreeMap::new(),
            activation_memories: BTreeMap::new(),
            user_stores: BTreeMap::new(),
        };
        models::add_chat_models(&mut factories);
        embedders::add_embedders(&mut factories);
        retrieval::add_rerankers(&mut factories);
        retrieval::add_internet_retrievers(&mut factories);
        readers::add_mem_readers(&mut factories);
        factories.add_text_memory(
            "naive_text",
            Arc::new(|parts, file_name| {
                Arc::new(NaiveText::new(shelf(&parts, file_name)).with_extractor(extractor(&parts)))
            }),
        );
        factories.add_text_memory(
            "general_text",
            Arc::new(|parts, file_name| {
                let (shelf, extractor) = (shelf(&parts, file_name), extractor(&parts));
                let TextMemoryParts { recall, embedder, retrieval, .. } = parts;
                let memory = GeneralText::new(GeneralTextParts { shelf, recall, embedder });
                Arc::new(memory.with_extractor(extractor).with_retrieval(retrieval))
            }),
        );
        factories
            .add_preference_memory("pref_text", Arc::new(|parts, file_name| Arc::new(pref_text(parts, file_name))));
        factories.add_parametric_memory("lora", Arc::new(|file_name| Arc::new(LoraPlaceholder::new(file_name))));
        trees::add_tree_memory(&mut factories);
        models::add_activation_memories(&mut factories);
        users::add_user_stores(&mut factories);
        factories
    }
}

/// The key of users that are kept in the record itself.
const RECORD_USERS: &str = "sqlite";

fn shelf(parts: &TextMemoryParts, file_name: String) -> Shelf {
    Shelf { scope: parts.scope.clone(), record: Arc::clone(&parts.record), clock: Arc::clone(&parts.clock), file_name }
}

fn extractor(parts: &TextMemoryParts) -> Extractor {
    Extractor { model: Arc::clone(&parts.model), ids: Arc::clone(&parts.ids), clock: Arc::clone(&parts.clock) }
}

fn pref_text(parts: PreferenceMemoryParts, file_name: String) -> PrefText {
    PrefText::new(PrefTextParts {
        shelf: Shelf { scope: parts.scope, record: parts.record, clock: parts.clock, file_name },
        vectors: parts.vectors,
        embedder: parts.embedder,
        reranker: parts.reranker,
        model: Some(parts.model),
        mode: if parts.is_fine { AddMode::Fine } else { AddMode::Fast },
        ids: parts.ids,
        locks: parts.locks,
    })
}

impl Factories {
    /// Adds or replaces the constructor of a chat model.
    pub fn add_chat_model(&mut self, key: impl Into<String>, factory: ChatModelFactory) {
        self.chat_models.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of an encoder.
    pub fn add_embedder(&mut self, key: impl Into<String>, factory: EmbedderFactory) {
        self.embedders.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of a reranker.
    pub fn add_reranker(&mut self, key: impl Into<String>, factory: RerankerFactory) {
        self.rerankers.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of an internet retriever.
    pub fn add_internet_retriever(&mut self, key: impl Into<String>, factory: InternetRetrieverFactory) {
        self.internet_retrievers.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of a reader.
    pub fn add_mem_reader(&mut self, key: impl Into<String>, factory: MemReaderFactory) {
        self.mem_readers.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of a textual memory.
    pub fn add_text_memory(&mut self, key: impl Into<String>, factory: TextMemoryFactory) {
        self.text_memories.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of a preference memory.
    pub fn add_preference_memory(&mut self, key: impl Into<String>, factory: PreferenceMemoryFactory) {
        self.preference_memories.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of a parametric memory.
    pub fn add_parametric_memory(&mut self, key: impl Into<String>, factory: ParametricMemoryFactory) {
        self.parametric_memories.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of an activation memory.
    pub fn add_activation_memory(&mut self, key: impl Into<String>, factory: ActivationMemoryFactory) {
        self.activation_memories.insert(key.into(), factory);
    }

    /// Adds or replaces the constructor of a store of users. Without one of its key, `sqlite` is the record itself.
    pub fn add_user_store(&mut self, key: impl Into<String>, factory: UserStoreFactory) {
        self.user_stores.insert(key.into(), factory);
    }

    /// Returns the store of users that the settings name; `None` when that is the record itself.
    pub(crate) async fn user_store(&self, parts: UserStoreParts) -> Result<Option<Arc<dyn UserStore>>> {
        let key = parts.config.backend();
        match self.user_stores.get(key) {
            Some(factory) => Ok(Some(factory(parts).await?)),
            None if key == RECORD_USERS => Ok(None),
            None => {
                let record = RECORD_USERS.to_owned();
                let known = self.user_stores.keys().chain([&record]);
                Err(Error::Invalid(not_built("user manager", key, known)))
            }
        }
    }

    /// Returns the activation memories of all keys. With a chat model of the program's own nothing is known of where
    /// it computes, so no cube has one that its configuration does not name.
    pub(crate) fn activation_memories(&self, parts: &ActivationParts, has_own_model: bool) -> Activations {
        let made = self.activation_memories.iter().map(|(key, factory)| (key.clone(), factory(parts)));
        Activations::by_key(made.collect(), &parts.settings.chat_model, has_own_model)
    }

    /// Returns the chat model that a configuration names. A model behind a server is not asked yet.
    ///
    /// # Errors
    /// [`ModelError`] when there is no constructor of its key, or the model cannot be opened.
    pub async fn chat_model(
        &self,
        config: ChatModelConfig,
        context: ModelContext,
    ) -> std::result::Result<Arc<dyn ChatModel>, ModelError> {
        match self.chat_models.get(config.backend()) {
            Some(factory) => factory(config, context).await,
            None => Err(ModelError::NotFound(not_built("chat model", config.backend(), self.chat_models.keys()))),
        }
    }

    /// Returns the encoder that a configuration names. One behind a server is not asked yet.
    ///
    /// # Errors
    /// [`ModelError`] when there is no constructor of its key, or the encoder cannot be opened.
    pub async fn embedder(
        &self,
        config: EmbedderConfig,
        context: ModelContext,
    ) -> std::result::Result<Arc<dyn Embedder>, ModelError> {
        match self.embedders.get(config.backend()) {
            Some(factory) => factory(config, context).await,
            None => Err(ModelError::NotFound(not_built("embedder", config.backend(), self.embedders.keys()))),
        }
    }

    /// Returns the reranker that a configuration names.
    ///
    /// # Errors
    /// [`ModelError`] when there is no constructor of its key, or its model cannot be opened.
    pub async fn reranker(
        &self,
        config: RerankerConfig,
        parts: RerankerParts,
    ) -> std::result::Result<Arc<dyn Reranker>, ModelError> {
        match self.rerankers.get(config.backend()) {
            Some(factory) => factory(config, parts).await,
            None => Err(ModelError::NotFound(not_built("reranker", config.backend(), self.rerankers.keys()))),
        }
    }

    /// Returns the internet retriever that a configuration names. No request is made.
    ///
    /// # Errors
    /// [`ModelError`] when there is no constructor of its key, or its configuration cannot work.
    pub fn internet_retriever(
        &self,
        config: InternetRetrieverConfig,
    ) -> std::result::Result<Arc<dyn InternetRetriever>, ModelError> {
        let known = self.internet_retrievers.keys();
        match self.internet_retrievers.get(config.backend()) {
            Some(factory) => factory(config),
            None => Err(ModelError::NotFound(not_built("internet retriever", config.backend(), known))),
        }
    }

    /// Returns the reader that a configuration names; without one, a reader of everything that can be read.
    pub(crate) fn mem_reader(
        &self,
        config: Option<MemReaderConfig>,
        parts: MemReaderParts,
    ) -> Result<Arc<dyn MemReader>> {
        let Some(config) = config else { return Ok(readers::default_reader(parts)) };
        match self.mem_readers.get(config.backend()) {
            Some(factory) => Ok(factory(config, parts)?),
            None => Err(Error::Invalid(not_built("reader", config.backend(), self.mem_readers.keys()))),
        }
    }

    /// Returns the textual memory that a cube's configuration names.
    pub(crate) fn text_memory(&self, config: &Value, mut parts: TextMemoryParts) -> Result<Arc<dyn TextMemory>> {
        let backend = config.pointer("/text_mem/backend").and_then(Value::as_str).unwrap_or("uninitialized");
        if backend == "uninitialized" {
            return Err(Error::Invalid(format!(
                "cube `{}` has no textual memory; set text_mem in its configuration",
                parts.scope.cube
            )));
        }
        let name =
            config.pointer("/text_mem/config/memory_filename").and_then(Value::as_str).unwrap_or(DEFAULT_FILE_NAME);
        let name = plain_file_name(name)?;
        parts.config = config.pointer("/text_mem/config").cloned().unwrap_or_default();
        match self.text_memories.get(backend) {
            Some(factory) => Ok(factory(parts, name.to_owned())),
            None => Err(Error::Invalid(not_built("text memory", backend, self.text_memories.keys()))),
        }
    }

    /// Returns the preference memory that a cube's configuration names; `None` when it names none.
    pub(crate) fn preference_memory(
        &self,
        config: &Value,
        parts: PreferenceMemoryParts,
    ) -> Result<Option<Arc<dyn PreferenceMemory>>> {
        let Some(backend) = named_backend(config, "pref_mem") else { return Ok(None) };
        let text_file = file_name_of(config, "text_mem").unwrap_or(DEFAULT_FILE_NAME);
        // MemOS' default is the name of the textual memory's file, which two memories cannot have.
        let name = file_name_of(config, "pref_mem").filter(|name| *name != text_file).unwrap_or(PREFERENCE_FILE_NAME);
        let name = plain_file_name(name)?;
        match self.preference_memories.get(backend) {
            Some(factory) => Ok(Some(factory(parts, name.to_owned()))),
            None => Err(Error::Invalid(not_built("preference memory", backend, self.preference_memories.keys()))),
        }
    }

    /// Returns the parametric memory that a cube's configuration names; `None` when it names none.
    pub(crate) fn parametric_memory(&self, config: &Value) -> Result<Option<Arc<dyn ParametricMemory>>> {
        let Some(backend) = named_backend(config, "para_mem") else { return Ok(None) };
        let name = plain_file_name(file_name_of(config, "para_mem").unwrap_or(PARAMETRIC_FILE_NAME))?;
        match self.parametric_memories.get(backend) {
            Some(factory) => Ok(Some(factory(name.to_owned()))),
            None => Err(Error::Invalid(not_built("parametric memory", backend, self.parametric_memories.keys()))),
        }
    }

    /// The configuration of a cube that is made without one. It names no models: those of the settings are used.
    pub(crate) fn default_cube_config(&self, settings: &Settings, owner: &UserId, cube: &CubeId) -> Value {
        let mut config = GeneralMemCubeConfig::new(owner.as_str(), cube.as_str(), settings.text_memory());
        config.pref_mem = settings.preference_memory();
        config.to_json(Secrets::Omitted)
    }
}

/// The name of a parametric memory's file in a dump, unless configured otherwise.
const PARAMETRIC_FILE_NAME: &str = "parametric_memory.adapter";

/// The backend of one of a cube's memories; `None` for no memory.
fn named_backend<'a>(config: &'a Value, slot: &str) -> Option<&'a str> {
    let backend = config.pointer(&format!("/{slot}/backend")).and_then(Value::as_str);
    backend.filter(|backend| *backend != "uninitialized")
}

fn file_name_of<'a>(config: &'a Value, slot: &str) -> Option<&'a str> {
    config.pointer(&format!("/{slot}/config/memory_filename")).and_then(Value::as_str)
}

/// Returns a `memory_filename` as it is. It comes from a file that somebody else may have written, and must not lead out
/// of the directory.
pub(crate) fn plain_file_name(name: &str) -> Result<&str> {
    if Path::new(name).file_name().and_then(|file| file.to_str()) == Some(name) {
        return Ok(name);
    }
    Err(Error::Invalid(format!("memory_filename must be a plain file name, not `{name}`")))
}

pub(crate) fn not_built<'a>(kind: &str, key: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    format!("this build cannot run the {kind} backend `{key}`; use one of {}", known.join(", "))
}

/// A backend that settings may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// The kind of part, for example `chat_model`.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Whether this build can run it; otherwise its settings are read and checked only.
    pub is_built: bool,
}

/// Returns every backend that settings may name, and which of them this build can run.
pub fn backends() -> Vec<Backend> {
    let factories = Factories::default();
    let is_built = |kind: &str, key: &str| match kind {
        "chat_model" => factories.chat_models.contains_key(key),
        "embedder" => factories.embedders.contains_key(key),
        "reranker" => factories.rerankers.contains_key(key),
        "internet_retriever" => factories.internet_retrievers.contains_key(key),
        "mem_reader" => factories.mem_readers.contains_key(key),
        "memory" => {
            factories.text_memories.contains_key(key)
                || factories.preference_memories.contains_key(key)
                || factories.parametric_memories.contains_key(key)
                || factories.activation_memories.contains_key(key)
        }
        "vector_db" => vectors::is_built(key),
        "store" | "queue" => true,
        "user_manager" => users::is_built(key),
        _ => false,
    };
    let mut table = Vec::new();
    for kind in mos_config::backends() {
        let row = |key: &&str| Backend {
            kind: kind.kind.to_owned(),
            key: (*key).to_owned(),
            is_built: is_built(kind.kind, key),
        };
        table.extend(kind.keys.iter().map(row));
    }
    table
}
