//! The table from backend key to constructor.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use mos_config::{
    ChatModelConfig, EmbedderConfig, GeneralMemCubeConfig, InternetRetrieverConfig, MemReaderConfig, RerankerConfig,
    Secrets, Setting, Settings,
};
use mos_core::{
    ChatModel, CubeId, Embedder, InternetRetriever, MemReader, ModelError, ParametricMemory, PreferenceMemory,
    Reranker, TextMemory, UserId, UserStore,
};
use mos_memory::{
    AddMode, DEFAULT_FILE_NAME, Extractor, GeneralText, GeneralTextParts, LoraPlaceholder, NaiveText, NoText,
    PREFERENCE_FILE_NAME, PrefText, PrefTextParts, Shelf,
};
use serde_json::Value;

use crate::activation::{ActivationParts, Activations};
use crate::error::{Error, Result};

mod devices;
mod embedders;
mod known_backends;
mod models;
mod parts;
mod readers;
mod retrieval;
mod trees;
pub(crate) mod users;
pub(crate) mod vectors;

pub use devices::compute_device;
pub use known_backends::{Backend, backends};
pub(crate) use models::as_configured;
pub use parts::{
    ActivationMemoryFactory, ChatModelFactory, EmbedderFactory, InternetRetrieverFactory, MemReaderFactory,
    MemReaderParts, ModelContext, ParametricMemoryFactory, PreferenceMemoryFactory, PreferenceMemoryParts,
    RerankerFactory, RerankerParts, TextMemoryFactory, TextMemoryParts, UserStoreFactory, UserStoreParts,
};
pub(crate) use readers::fetcher;

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

    /// Returns the textual memory that a cube's configuration names; one that refuses texts when it names none.
    pub(crate) fn text_memory(&self, config: &Value, mut parts: TextMemoryParts) -> Result<Arc<dyn TextMemory>> {
        let Some(backend) = named_backend(config, "text_mem") else {
            return Ok(Arc::new(NoText::new(parts.scope.cube)));
        };
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
pub(crate) fn named_backend<'a>(config: &'a Value, slot: &str) -> Option<&'a str> {
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
