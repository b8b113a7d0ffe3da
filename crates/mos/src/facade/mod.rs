//! The facade: every operation checks rights first, then speaks to the rooms.

mod activation;
mod chat;
mod cubes;
mod deleting;
mod documents;
mod erase;
mod erase_named;
mod erase_notes;
mod erase_rows;
mod feedback;
mod found;
mod kept;
mod keys;
mod looking;
mod memories;
mod mixing;
mod observe;
mod organize;
mod plugins;
mod preferences;
mod pro;
mod promoting;
mod quarantine;
mod registering;
mod remember;
mod returning;
mod rewrite;
mod rights;
mod scheduling;
mod search;
mod sending;
mod skills;
mod unreadable;
mod updating;
mod users;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use mos_config::Settings;
use mos_core::{
    Access, ChatModel, Clock, Cube, CubeId, Embedder, IdSource, JobQueue, KeyStore, ParametricMemory, PreferenceMemory,
    RecordStore, Scope, StateStore, TextMemory, UserId, UserStore, VectorStore,
};
use mos_memory::{AddLocks, NoText};
use mos_scheduler::{EventSink, Registration, Scheduler};

pub use activation::{CubeActivation, CubeCaches};
pub use chat::{Chat, ChatReply};
pub use cubes::{CubeShare, NewCube};
pub(crate) use cubes::{KNOWLEDGE_BASE, is_knowledge_base};
pub use documents::{DocumentFiles, ReadDocument, ReadDocuments, document_files};
pub use erase::{EraseOptions, Erased, InShared};
pub use found::{CubeHits, FoundMemory, SearchResult, SkippedCube};
pub use kept::{CubeKept, KeptItem, KeptState};
pub use looking::{KeptCache, KeptCaches};
pub use memories::{Add, Added, CubeGraph, CubeMemories, MemoryListing};
pub use organize::{Organize, OrganizeModel};
pub use preferences::PREFERENCE_NOTE;
pub(crate) use preferences::{MAX_LEARNING, lists as preference_lists};
pub use pro::{Decomposition, MAX_SUB_QUESTIONS, SubAnswer};
pub use promoting::PromotedCache;
pub use registering::CubeSource;
pub(crate) use registering::{load_activation, read_dump};
pub use remember::{Remember, Remembered};
pub use rewrite::RewrittenQuery;
pub use search::Search;
pub(crate) use updating::Turns;
pub use users::{AccessibleCube, UserInfo};

use mos_memory::{Recall, TreeShelves};
use mos_stores::{QdrantVectors, SqliteStore};

use crate::activation::Activations;
use crate::embed_cache::CachedEmbedder;
use crate::error::{Error, Result};
use crate::factories::{Factories, PreferenceMemoryParts, TextMemoryParts};
use crate::lazy::Lazy;
use crate::organizing::Organizing;
use crate::plugin::{PluginInfo, Plugins};
use crate::reading::ReadingModels;
use crate::retrieving::Retrieving;
use crate::scheduling::Keeper;
use crate::tasks::Tasks;
use crate::transcript::Transcripts;
use crate::usage::{Payer, Usage, UsageMeter};

/// A memory operating system: users, cubes, memories, chat.
///
/// Cheap to clone; clones share everything. Made by [`Mos::builder`](crate::MosBuilder).
///
/// ```no_run
/// # use mos::{Add, Mos, Search, Settings};
/// # async fn run() -> mos::Result<()> {
/// let mos = Mos::builder(Settings::default()).data_dir("./data").build().await?;
/// let ann = mos_core::UserId::from("ann");
/// mos.ensure_user(&ann).await?;
/// let cube = mos.ensure_default_cube(&ann).await?;
/// mos.add(Add::text("I take my tea without sugar").user("ann").cube(cube)).await?;
/// let found = mos.search(Search::new("How do I drink tea?").user("ann")).await?;
/// println!("{} memories", found.best().len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Mos {
    pub(crate) parts: Arc<Parts>,
    /// The scheduler stops with the last facade that has one; those of handlers have none.
    _keeper: Option<Arc<Keeper>>,
}

impl Mos {
    /// Returns the facade that a program gets.
    pub(crate) fn new(parts: Parts) -> Self {
        let keeper = Keeper { scheduler: Arc::clone(&parts.scheduler) };
        Self { parts: Arc::new(parts), _keeper: Some(Arc::new(keeper)) }
    }

    /// Returns a facade for work in the background, which does not keep the scheduler running.
    pub(crate) fn within(parts: Arc<Parts>) -> Self {
        Self { parts, _keeper: None }
    }
}

/// What a facade is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) data_dir: PathBuf,
    pub(crate) factories: Factories,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) record: Arc<dyn RecordStore>,
    pub(crate) users: Arc<dyn UserStore>,
    /// The program's own store of keys; without one they are kept with the users.
    pub(crate) keys: Option<Arc<dyn KeyStore>>,
    /// Whether every user may read and write every cube; work in the background heeds it too.
    pub(crate) is_open: AtomicBool,
    /// Whether users and cubes are kept elsewhere than the record.
    pub(crate) has_users_apart: bool,
    pub(crate) sqlite: Option<Arc<SqliteStore>>,
    /// Where the record is, for people.
    pub(crate) store_name: String,
    /// Jobs for later, when the settings name a queue or the record is one.
    pub(crate) queue: Option<Arc<dyn JobQueue>>,
    /// What work in the background must know after a restart; where there is a queue.
    pub(crate) state: Option<Arc<dyn StateStore>>,
    pub(crate) vectors: Arc<dyn VectorStore>,
    pub(crate) recall: Arc<Recall>,
    pub(crate) shelves: Arc<TreeShelves>,
    /// `vectors`, when they are on a Qdrant server.
    pub(crate) qdrant: Option<Arc<QdrantVectors>>,
    pub(crate) embedder: Arc<dyn Embedder>,
    /// What `embedder` remembers of texts.
    pub(crate) embed_cache: Arc<CachedEmbedder>,
    pub(crate) chat_model: Arc<Lazy<dyn ChatModel>>,
    /// Models that read conversations.
    pub(crate) reading: ReadingModels,
    /// Rerankers and internet retrievers.
    pub(crate) retrieving: Retrieving,
    /// Lets one adder of preferences at a time into a cube.
    pub(crate) preference_locks: Arc<AddLocks>,
    /// Whose turn it is to change a memory.
    pub(crate) changing: Turns,
    /// Whose turn it is to organise a cube, and what waits for it.
    pub(crate) organizing: Organizing,
    /// Preferences that are being learned from chats.
    pub(crate) learning: Tasks,
    /// The work in the background, once it was asked for.
    pub(crate) scheduler: Arc<OnceLock<Scheduler>>,
    /// The program's own handlers, and where it wants to hear of events.
    pub(crate) handlers: Vec<(String, Registration)>,
    pub(crate) event_sinks: Vec<Arc<dyn EventSink>>,
    /// Messages of chats on their way into the queue, and the count of what chats began with.
    pub(crate) sending: Tasks,
    pub(crate) activation: Activations,
    pub(crate) transcripts: Transcripts,
    /// Counts what models took.
    pub(crate) usage: Arc<UsageMeter>,
    /// What looks at operations, and may change them.
    pub(crate) plugins: Arc<Plugins>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("data_dir", &self.data_dir).field("record", &self.record).finish_non_exhaustive()
    }
}

impl Mos {
    /// The settings it was built with; secrets print masked.
    pub fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// The folder that holds the data.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.parts.data_dir
    }

    /// The file of the embedded database, which the settings may keep elsewhere than in the folder of the data; `None` where
    /// memories are on a server or end with the program.
    pub fn database(&self) -> Option<&std::path::Path> {
        self.parts.sqlite.as_ref().map(|store| store.path())
    }

    /// Returns the plugins of the program: those that are on in the order in which they are called, then the others.
    pub fn plugins(&self) -> Vec<PluginInfo> {
        self.parts.plugins.infos()
    }

    /// Returns the queue of jobs for later; `None` when the record is on a server and the settings name no queue.
    pub fn queue(&self) -> Option<Arc<dyn JobQueue>> {
        self.parts.queue.clone()
    }

    /// Returns the chat model, loading it first when needed.
    ///
    /// # Errors
    /// [`Error::Memory`] with the model's error.
    pub async fn chat_model(&self) -> Result<Arc<dyn ChatModel>> {
        Ok(self.parts.chat_model.get().await?)
    }

    /// Returns the encoder; it loads itself at its first use.
    pub fn embedder(&self) -> Arc<dyn Embedder> {
        Arc::clone(&self.parts.embedder)
    }

    /// Returns the memories of a cube to somebody who may write to it. Whoever may only read it uses [`Mos::get`],
    /// [`Mos::get_all`], [`Mos::search`] and the like.
    ///
    /// # Errors
    /// [`Error::UnknownUser`], [`Error::NoAccess`], [`Error::NotWriter`], [`Error::NotAllowed`] for guests,
    /// [`Error::NotRegistered`].
    pub async fn cube(&self, user: &UserId, cube: &CubeId) -> Result<CubeHandle> {
        let (cube, access) = self.writable_cube(user, cube).await?;
        self.handle(user, cube, access)
    }

    /// The memories of a cube whose rights were checked.
    fn handle(&self, user: &UserId, cube: Cube, access: Access) -> Result<CubeHandle> {
        if !cube.is_registered {
            return Err(Error::NotRegistered(cube.cube_id));
        }
        let text = self.text_memory_for(user, &cube)?;
        let activation = self.activation(&cube)?;
        let (preference, parametric) = (self.preference_memory_for(user, &cube)?, self.parametric_memory(&cube)?);
        let why_no_caches = self.parts.activation.why_none();
        Ok(CubeHandle { cube, access, text, activation, preference, parametric, why_no_caches })
    }

    /// Returns the cube that is meant when none is named: `cube_<user>` when it is registered, else the newest one the
    /// user owns. A cube that was shared with the user is never meant, and no knowledge base.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NoCube`].
    pub async fn default_cube(&self, user: &UserId) -> Result<CubeId> {
        self.checked_user(user).await?;
        let mut cubes = self.parts.users.cubes(Some(user)).await?;
        cubes.retain(|cube| cube.is_registered);
        let own = default_cube_id(user);
        let named = cubes.iter().find(|cube| cube.cube_id == own && cube.owner_id == *user);
        // Never one that was shared with the user: its owner would read what the user tells.
        let is_own = |cube: &&Cube| cube.owner_id == *user && !is_knowledge_base(&cube.cube_id);
        let chosen = named.or_else(|| cubes.iter().find(is_own));
        chosen.map(|cube| cube.cube_id.clone()).ok_or_else(|| Error::NoCube(user.clone()))
    }

    /// The activation memory of a cube, when it has one.
    pub(crate) fn activation(&self, cube: &Cube) -> Result<Option<CubeActivation>> {
        let backend = self.parts.activation.of(cube)?;
        Ok(backend.map(|backend| CubeActivation::new(backend.clone(), cube, Arc::clone(&self.parts.users))))
    }

    /// Has the index of vectors learn soon that a cube was written to. It would learn it at the next search anyway.
    pub(crate) fn has_changed(&self, cube: &CubeId) {
        if let Some(qdrant) = &self.parts.qdrant {
            qdrant.notice(&Scope::of(cube));
        }
    }

    /// Returns the tokens that models took for a user: in chats, while they read for the user's memories and searched them,
    /// and to embed texts.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn usage(&self, user: &UserId) -> Result<Usage> {
        self.checked_user(user).await?;
        Ok(self.parts.usage.of_user(user))
    }

    /// Returns a model whose answers are counted for a user, and for a cube when there is one.
    pub(crate) fn metered(
        &self,
        model: Arc<dyn ChatModel>,
        user: &UserId,
        cube: Option<&CubeId>,
    ) -> Arc<dyn ChatModel> {
        self.parts.usage.metered(model, Payer { user: user.clone(), cube: cube.cloned() })
    }

    /// Returns the encoder, whose tokens are counted for a user and a cube.
    pub(crate) fn metered_embedder(&self, user: &UserId, cube: &CubeId) -> Arc<dyn Embedder> {
        let payer = Payer { user: user.clone(), cube: Some(cube.clone()) };
        self.parts.usage.metered_embedder(Arc::clone(&self.parts.embedder), payer)
    }

    /// Builds the textual memory that a cube's configuration names. Its owner uses it.
    pub(crate) fn text_memory(&self, cube: &Cube) -> Result<Arc<dyn TextMemory>> {
        self.text_memory_for(&cube.owner_id, cube)
    }

    /// Builds the textual memory of a cube for a user, who pays for what models take.
    pub(crate) fn text_memory_for(&self, user: &UserId, cube: &Cube) -> Result<Arc<dyn TextMemory>> {
        let embedder = self.metered_embedder(user, &cube.cube_id);
        let parts = TextMemoryParts {
            scope: Scope::of(&cube.cube_id),
            record: Arc::clone(&self.parts.record),
            vectors: Arc::clone(&self.parts.vectors),
            recall: Arc::clone(&self.parts.recall),
            shelves: Arc::clone(&self.parts.shelves),
            embedder: Arc::clone(&embedder),
            clock: Arc::clone(&self.parts.clock),
            ids: Arc::clone(&self.parts.ids),
            model: self.metered(self.parts.reading.of(&cube.config, "text_mem"), user, Some(&cube.cube_id)),
            retrieval: self.parts.retrieving.of(
                &cube.config,
                self.metered(self.parts.reading.of_searches(&cube.config), user, Some(&cube.cube_id)),
                embedder,
            ),
            config: serde_json::Value::Null,
        };
        self.parts.factories.text_memory(&cube.config, parts)
    }

    /// Builds the preference memory that a cube's configuration names; `None` when it names none. Its owner uses it.
    pub(crate) fn preference_memory(&self, cube: &Cube) -> Result<Option<Arc<dyn PreferenceMemory>>> {
        self.preference_memory_for(&cube.owner_id, cube)
    }

    fn preference_memory_for(&self, user: &UserId, cube: &Cube) -> Result<Option<Arc<dyn PreferenceMemory>>> {
        let parts = PreferenceMemoryParts {
            scope: Scope::of(&cube.cube_id),
            record: Arc::clone(&self.parts.record),
            vectors: Arc::clone(&self.parts.vectors),
            embedder: self.metered_embedder(user, &cube.cube_id),
            clock: Arc::clone(&self.parts.clock),
            ids: Arc::clone(&self.parts.ids),
            model: self.metered(
                self.parts.reading.of_preferences(&cube.config, self.parts.settings.mem_reader.as_ref()),
                user,
                Some(&cube.cube_id),
            ),
            reranker: self.parts.retrieving.reranker(&cube.config, "pref_mem"),
            is_fine: self.parts.settings.preference_adder_mode.as_deref() == Some("fine"),
            locks: Arc::clone(&self.parts.preference_locks),
        };
        self.parts.factories.preference_memory(&cube.config, parts)
    }

    /// Builds the parametric memory that a cube's configuration names; `None` when it names none.
    pub(crate) fn parametric_memory(&self, cube: &Cube) -> Result<Option<Arc<dyn ParametricMemory>>> {
        self.parts.factories.parametric_memory(&cube.config)
    }
}

/// The id of the cube that a user gets without asking.
pub fn default_cube_id(user: &UserId) -> CubeId {
    CubeId::new(format!("cube_{user}"))
}

/// A cube that its holder may use. Rights are those of the moment it was asked for: who keeps a handle keeps them until it
/// is dropped, but a deleted cube takes no more writes.
#[derive(Clone, Debug)]
pub struct CubeHandle {
    cube: Cube,
    access: Access,
    text: Arc<dyn TextMemory>,
    activation: Option<CubeActivation>,
    preference: Option<Arc<dyn PreferenceMemory>>,
    parametric: Option<Arc<dyn ParametricMemory>>,
    why_no_caches: String,
}

impl CubeHandle {
    /// What the user database knows about the cube.
    pub fn info(&self) -> &Cube {
        &self.cube
    }

    /// What the holder may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The cube's activation memory: the one that was given to [`MosBuilder::activation_memory`](crate::MosBuilder),
    /// else what the cube's configuration names, else caches of the chat model when that computes in this process.
    pub fn act_mem(&self) -> Option<&CubeActivation> {
        self.activation.as_ref()
    }

    /// The cube's preference memory, when its configuration names one.
    pub fn pref_mem(&self) -> Option<&Arc<dyn PreferenceMemory>> {
        self.preference.as_ref()
    }

    /// The cube's parametric memory, when its configuration names one.
    pub fn para_mem(&self) -> Option<&Arc<dyn ParametricMemory>> {
        self.parametric.as_ref()
    }

    /// The scope of the cube's memories.
    pub fn scope(&self) -> Scope {
        Scope::of(&self.cube.cube_id)
    }

    /// The cube's textual memory.
    pub fn text_mem(&self) -> &Arc<dyn TextMemory> {
        &self.text
    }

    /// Whether the cube has a textual memory, not only what stands in the place of one.
    pub(crate) fn has_texts(&self) -> bool {
        self.text.backend() != NoText::BACKEND
    }
}
