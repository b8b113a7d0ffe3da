//! Putting the parts together.

mod models;
mod ranking;
pub(crate) mod stores;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mos_config::{Settings, StoreConfig};
use mos_core::{
    ActivationMemory, ChatModel, Clock, CubeId, Embedder, IdSource, KeyStore, MemoryError, RandomIds, StoreError,
    SystemClock, UserId, UserStore,
};
use mos_memory::Recall;
use mos_scheduler::{EventSink, Registration};
use mos_stores::TextAnalyzer;

use crate::activation::{ActivationBackend, ActivationParts, Activations};
use crate::embed_cache::CachedEmbedder;
use crate::error::{Error, Result};
use crate::facade::{MAX_LEARNING, Mos, NewCube, Parts, Turns, default_cube_id};
use crate::factories::{Factories, ModelContext, UserStoreParts, vectors};
use crate::folders;
use crate::organizing::Organizing;
use crate::plugin::{self, Plugin, PluginContext, PluginSink, Plugins};
use crate::reading::ReadingModels;
use crate::retrieving::{Making, Retrieving};
use crate::scheduling;
use crate::tasks::Tasks;
use crate::transcript::Transcripts;
use crate::usage::UsageMeter;
use models::{lazy_chat_model, lazy_embedder};
use ranking::recall_options;

pub(crate) use stores::{LeftJobs, Stores, database_path, neo4j_options, open_stores, redis_options, redis_place};

/// Builds a [`Mos`] from settings, with parts of your own where you give them.
///
/// ```no_run
/// # async fn run() -> mos::Result<()> {
/// use mos::{Mos, Settings};
///
/// let file = std::path::Path::new("configs/embedded.yaml");
/// let settings = Settings::load(Some(file), std::env::vars())?.settings;
/// let mos = Mos::builder(settings).data_dir("./data").build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MosBuilder {
    settings: Settings,
    data_dir: Option<PathBuf>,
    usage_dir: Option<PathBuf>,
    factories: Factories,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    chat_model: Option<Arc<dyn ChatModel>>,
    embedder: Option<Arc<dyn Embedder>>,
    activation: Option<Arc<dyn ActivationMemory>>,
    users: Option<Arc<dyn UserStore>>,
    keys: Option<Arc<dyn KeyStore>>,
    handlers: Vec<(String, Registration)>,
    event_sinks: Vec<Arc<dyn EventSink>>,
    plugins: Vec<Arc<dyn Plugin>>,
    plugin_time_limit: Duration,
    starts_scheduler: bool,
}

impl Mos {
    /// Starts building from settings.
    pub fn builder(settings: Settings) -> MosBuilder {
        MosBuilder {
            settings,
            data_dir: None,
            usage_dir: None,
            factories: Factories::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            chat_model: None,
            embedder: None,
            activation: None,
            users: None,
            keys: None,
            handlers: Vec::new(),
            event_sinks: Vec::new(),
            plugins: Vec::new(),
            plugin_time_limit: plugin::USUAL_LIMIT,
            starts_scheduler: true,
        }
    }

    /// Returns the user's default cube; makes one when the user owns none.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NotAllowed`] for a guest without a cube; store errors.
    pub async fn ensure_default_cube(&self, user: &UserId) -> Result<CubeId> {
        match self.default_cube(user).await {
            Err(Error::NoCube(_)) => {}
            found => return found,
        }
        let usual = default_cube_id(user);
        let is_own = match self.ensure_cube(user, &usual).await {
            Ok(_) => self.parts.users.cube(&usual).await?.is_some_and(|cube| cube.owner_id == *user),
            Err(Error::NoAccess { .. }) => false,
            Err(error) => return Err(error),
        };
        if is_own {
            return Ok(usual);
        }
        // Somebody else has a cube of that id, shared with the user or not: the user gets one of another.
        let other = CubeId::new(format!("{usual}_{}", self.parts.ids.next_uuid()));
        self.create_cube(user, NewCube::new(other.clone())).await?;
        Ok(other)
    }

    /// Makes a registered `general_text` cube (or what the settings say) unless it exists and the user may read it.
    /// Returns whether it was made.
    ///
    /// # Errors
    /// Rights: a cube of this id that belongs to somebody else is refused.
    pub async fn ensure_cube(&self, user: &UserId, cube: &CubeId) -> Result<bool> {
        if self.parts.users.cube(cube).await?.is_some() {
            self.readable_cube(user, cube).await?;
            return Ok(false);
        }
        match self.create_cube(user, NewCube::new(cube.clone())).await {
            Ok(_) => Ok(true),
            // Another process made it since the question above.
            Err(Error::Memory(MemoryError::Store(StoreError::Conflict(_)))) => {
                self.readable_cube(user, cube).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the cube that is named, or the user's default one, when it exists. What making it, or writing to it, would refuse
    /// is refused; nothing is made, and one who was never seen counts as a new user.
    ///
    /// # Errors
    /// Rights, as [`Mos::ensure_cube`] and a write to the cube; store errors.
    pub async fn cube_to_write(&self, user: &UserId, cube: Option<&CubeId>) -> Result<Option<CubeId>> {
        let is_known = self.has_user(user).await?;
        let found = match cube {
            Some(cube) => self.has_cube(cube).await?.then(|| cube.clone()),
            None if is_known => match self.default_cube(user).await {
                Err(Error::NoCube(_)) => None,
                found => Some(found?),
            },
            None => None,
        };
        match &found {
            Some(cube) => self.check_writes(user, cube).await?,
            None if is_known => self.check_may_own(user).await?,
            None => {}
        }
        Ok(found)
    }
}

impl MosBuilder {
    /// The folder of the data, instead of the settings' one; a database path in the settings does not count then.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// The folder of the tokens that models took, also where nothing else is kept; without this `usage` in the folder of the
    /// data, and memory when nothing is kept.
    #[must_use]
    pub fn usage_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.usage_dir = Some(folder.into());
        self
    }

    /// The constructors by backend key, instead of this build's own.
    #[must_use]
    pub fn factories(mut self, factories: Factories) -> Self {
        self.factories = factories;
        self
    }

    /// The time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where new ids come from.
    #[must_use]
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// A chat model, instead of the one that the settings name.
    #[must_use]
    pub fn chat_model(mut self, model: Arc<dyn ChatModel>) -> Self {
        self.chat_model = Some(model);
        self
    }

    /// An encoder, instead of the one that the settings name.
    #[must_use]
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    /// An activation memory of your own for all cubes. Without one, cubes have what their configuration names, else
    /// `kv_cache` over the chat model of the settings when that computes in this process.
    #[must_use]
    pub fn activation_memory(mut self, activation: Arc<dyn ActivationMemory>) -> Self {
        self.activation = Some(activation);
        self
    }

    /// A store of users of your own, instead of the one that the settings name. Deleting a cube in it has to erase the
    /// cube's memories, and what is kept beside them; one that must tell the record so is better added to
    /// [`Factories::add_user_store`], whose constructors are given the record.
    #[must_use]
    pub fn users(mut self, users: Arc<dyn UserStore>) -> Self {
        self.users = Some(users);
        self
    }

    /// A store of keys of your own. Without one, keys are kept with the users.
    #[must_use]
    pub fn keys(mut self, keys: Arc<dyn KeyStore>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Handlers of your own for the scheduler, in addition to the built-in ones or in their place. They are there before the
    /// first message is handled; [`Scheduler::register_handlers`](mos_scheduler::Scheduler::register_handlers) adds others later.
    /// They work with the cube that they are given; one that holds a [`Mos`] of its own keeps it from ending.
    #[must_use]
    pub fn handlers(mut self, handlers: impl IntoIterator<Item = (impl Into<String>, Registration)>) -> Self {
        self.handlers.extend(handlers.into_iter().map(|(label, registration)| (label.into(), registration)));
        self
    }

    /// Where the scheduler's events go besides its log.
    #[must_use]
    pub fn event_sink(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.event_sinks.push(sink);
        self
    }

    /// A plugin, which is on unless it or the settings' `plugins` say otherwise.
    #[must_use]
    pub fn plugin(mut self, plugin: Arc<dyn Plugin>) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Several plugins.
    #[must_use]
    pub fn plugins(mut self, plugins: impl IntoIterator<Item = Arc<dyn Plugin>>) -> Self {
        self.plugins.extend(plugins);
        self
    }

    /// How long one hook of a plugin may take before the operation goes on without it; without this 5 seconds.
    #[must_use]
    pub fn plugin_time_limit(mut self, limit: Duration) -> Self {
        self.plugin_time_limit = limit;
        self
    }

    /// Whether a scheduler that the settings ask for begins to handle messages at once, as it does without this. If not, messages
    /// are taken, and handled after [`Mos::mem_scheduler_on`] or by another program.
    #[must_use]
    pub fn start_scheduler(mut self, start: bool) -> Self {
        self.starts_scheduler = start;
        self
    }

    /// Opens the stores. Models are loaded when they are first needed. An erasure that was interrupted is finished first
    /// ([`Mos::erase_user`]).
    ///
    /// # Errors
    /// Errors of the stores (a folder that cannot be written, data of a newer program ...); [`Error::Invalid`] when the settings
    /// ask for a scheduler that has no place for its jobs, for events to a broker that this build cannot reach, or for plugins
    /// that are not there, and for plugins that do not go together; [`Error::Plugin`] of one that does not load.
    pub async fn build(self) -> Result<Mos> {
        mos_models::install_crypto();
        scheduling::check_queue(&self.settings)?;
        let chosen = plugin::choose(self.plugins, &self.settings.plugins)?;
        let plugins = Arc::new(Plugins::new(chosen, self.plugin_time_limit));
        let handles = self.starts_scheduler && !scheduling::options::only_sends(&self.settings);
        let database = database_path(&self.settings, self.data_dir.as_deref())?;
        let data_dir = self.data_dir.map_or_else(|| folders::data_dir(&self.settings), Ok)?;
        let stores = open_stores(&self.settings, database, Arc::clone(&self.clock), LeftJobs::Brought).await?;
        let apart = match self.users {
            Some(users) => Some(users),
            None => {
                let config = self.settings.user_manager.clone();
                let clock = Arc::clone(&self.clock);
                self.factories.user_store(UserStoreParts { config, record: stores.lifecycle, clock }).await?
            }
        };
        let has_users_apart = apart.is_some();
        let users = apart.or(stores.users).ok_or_else(|| {
            Error::Invalid(format!(
                "the store `{}` keeps no users; set user_manager.backend to `postgres`, so that all programs that share \
                 the memories know the same users",
                self.settings.store.backend()
            ))
        })?;
        let vectors = vectors::open(&self.settings, &stores.record)?;
        let analyzer = Arc::new(TextAnalyzer::new());
        let (record, index) = (Arc::clone(&stores.record), Arc::clone(&vectors.index));
        let recall =
            Recall::following(record, index, analyzer, recall_options(&self.settings.recall, vectors.qdrant.is_some()));
        let context = ModelContext { models_dir: folders::models_dir(&self.settings)? };
        let embedder = match self.embedder {
            Some(embedder) => embedder,
            None => lazy_embedder(&self.settings, &self.factories, &context),
        };
        let embed_cache = Arc::new(CachedEmbedder::new(embedder));
        let embedder: Arc<dyn Embedder> = embed_cache.clone();
        let given_model = self.chat_model.clone();
        let has_own_model = given_model.is_some();
        let chat_model = Arc::new(lazy_chat_model(self.chat_model, &self.settings, &self.factories, &context));
        let reading = ReadingModels::new(
            &self.settings.chat_model,
            Arc::clone(&chat_model),
            given_model,
            self.factories.clone(),
            context.clone(),
        );
        let making = Making {
            factories: self.factories.clone(),
            context: context.clone(),
            embedder: Arc::clone(&embedder),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
        };
        let retrieving = Retrieving::new(&self.settings, making);
        let is_kept = !matches!(self.settings.store, StoreConfig::Memory(_));
        let activation_parts = ActivationParts {
            settings: self.settings.clone(),
            context,
            folder: is_kept.then(|| data_dir.join("activation")),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            chat_model: Arc::clone(&chat_model),
        };
        let activation = match self.activation {
            Some(memory) => Activations::own(ActivationBackend::Other(memory)),
            None => self.factories.activation_memories(&activation_parts, has_own_model),
        };
        let mut event_sinks = self.event_sinks;
        event_sinks.extend(scheduling::rabbitmq::sink(&self.settings).await?);
        if !plugins.is_empty() {
            event_sinks.push(Arc::new(PluginSink::new(Arc::clone(&plugins))));
        }
        let usage_folder = self.usage_dir.or_else(|| is_kept.then(|| folders::usage_dir(&data_dir)));
        let usage = UsageMeter::open(usage_folder, self.settings.model_budget.clone(), Arc::clone(&self.clock))?;
        let parts = Parts {
            settings: self.settings,
            data_dir,
            factories: self.factories,
            clock: self.clock,
            ids: self.ids,
            record: stores.record,
            users,
            keys: self.keys,
            is_open: AtomicBool::new(false),
            has_users_apart,
            sqlite: stores.sqlite,
            store_name: stores.name,
            vectors: vectors.index,
            recall,
            shelves: Arc::default(),
            qdrant: vectors.qdrant,
            queue: stores.queue,
            state: stores.state,
            embedder,
            embed_cache,
            chat_model,
            reading,
            retrieving,
            preference_locks: Arc::default(),
            changing: Turns::default(),
            organizing: Organizing::default(),
            learning: Tasks::new(MAX_LEARNING),
            activation,
            transcripts: Transcripts::default(),
            usage,
            plugins,
            scheduler: Arc::default(),
            handlers: self.handlers,
            event_sinks,
            // One for each answer at most.
            sending: Tasks::new(usize::MAX),
        };
        let mos = Mos::new(parts);
        mos.finish_erasing().await;
        mos.ensure_configured_user().await?;
        mos.parts.plugins.load(&PluginContext::new(&mos.parts)).await?;
        if mos.settings().enable_mem_scheduler {
            let scheduler = mos.open_scheduler()?;
            if handles {
                scheduler.start();
            }
        }
        Ok(mos)
    }
}

impl Mos {
    /// The user that the settings name exists from the start, as `root` does.
    async fn ensure_configured_user(&self) -> Result<()> {
        self.ensure_user(&self.user_or_default(None)).await.map(drop)
    }
}
