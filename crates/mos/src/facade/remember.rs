//! Reading raw input and remembering what comes of it.

use std::sync::Arc;

use mos_config::ChatModelConfig;
use mos_core::{
    ChatModel, CubeId, MemReader, MemoryId, MemoryItem, Message, Origin, RawItem, ReadInput, ReadMode, ReadReport,
    Reading, Scope, SessionId, Sources, UserId,
};
use mos_reader::{Held, lasting_id, store_over};
use serde_json::{Map, Value};

use super::sending::Told;
use super::{CubeHandle, Mos};
use crate::error::Result;
use crate::factories::{MemReaderParts, fetcher};
use crate::plugin::HookContext;
use crate::reading::common_part;

/// Raw input that is read: conversations, texts, files.
///
/// ```no_run
/// # use mos::{Mos, Remember};
/// # use mos_core::{Message, ReadInput, ReadMode};
/// # async fn run(mos: Mos) -> mos::Result<()> {
/// let conversation = ReadInput::messages(vec![Message::user("I live in Paris and have a dog called Max")]);
/// let what = Remember::new(conversation).user("ann").mode(ReadMode::Fine);
/// println!("would be remembered: {:?}", mos.read(what.clone()).await?.report);
/// println!("remembered: {:?}", mos.remember(what).await?.ids);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Remember {
    input: ReadInput,
    cube: Option<CubeId>,
    mode: ReadMode,
    tags: Vec<String>,
    refined: Option<bool>,
    task: Option<String>,
    is_told_anew: bool,
}

impl Default for Remember {
    /// Of nothing yet, for [`Mos::remember_documents`].
    fn default() -> Self {
        Self::new(ReadInput::default())
    }
}

impl Remember {
    /// Reads this input in fast mode. What it says of the cube is not heeded.
    pub fn new(input: ReadInput) -> Self {
        let mode = ReadMode::Fast;
        Self { input, cube: None, mode, tags: Vec::new(), refined: None, task: None, is_told_anew: false }
    }

    /// Whose memory it is; without this the settings' user.
    #[must_use]
    pub fn user(mut self, user: impl Into<UserId>) -> Self {
        self.input.user = Some(user.into());
        self
    }

    /// The cube; without this the user's default cube.
    #[must_use]
    pub fn cube(mut self, cube: impl Into<CubeId>) -> Self {
        self.cube = Some(cube.into());
        self
    }

    /// What was removed, or marked as deleted, since it was told before is told anew and found again. Without this it stays as it
    /// is: an import that is repeated brings nothing back.
    #[must_use]
    pub fn told_anew(mut self, is_told_anew: bool) -> Self {
        self.is_told_anew = is_told_anew;
        self
    }

    /// The conversation it belongs to.
    #[must_use]
    pub fn session(mut self, session: impl Into<SessionId>) -> Self {
        self.input.session = Some(session.into());
        self
    }

    /// How thoroughly it is read.
    #[must_use]
    pub fn mode(mut self, mode: ReadMode) -> Self {
        self.mode = mode;
        self
    }

    /// Labels that every memory gets besides its own; a model that labels memories prefers them.
    #[must_use]
    pub fn custom_tags(mut self, tags: impl IntoIterator<Item = String>) -> Self {
        self.tags = tags.into_iter().collect();
        self.input.custom_tags.clone_from(&self.tags);
        self
    }

    /// Data of the application, noted in every memory.
    #[must_use]
    pub fn info(mut self, info: Map<String, Value>) -> Self {
        self.input.info = info;
        self
    }

    /// Whether a scheduler has a model refine what was read in fast mode, and learns preferences from it, where it may; without
    /// this it refines as the cube is configured, and learns none.
    #[must_use]
    pub fn refined_later(mut self, refined: bool) -> Self {
        self.refined = Some(refined);
        self
    }

    /// The same of other input.
    pub(super) fn instead(mut self, items: Vec<RawItem>, sources: Sources) -> Self {
        (self.input.items, self.input.sources) = (items, sources);
        self
    }

    /// The task of the application that it belongs to: [`Scheduler::task_status`](mos_scheduler::Scheduler::task_status) tells
    /// how far the work in the background is that follows from it.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }
}

/// What came of a [`Remember`].
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The ids under which the memories are known: first those of what was given, then those of what a model drew.
    pub ids: Vec<MemoryId>,
    /// The ids of chunks of files.
    pub raw_files: Vec<MemoryId>,
    /// How many of both were there before.
    pub n_known: usize,
    /// The memories that were removed because a file that was read before no longer says what they say; their history stays.
    pub removed: Vec<MemoryId>,
    /// The preferences that a model found in the messages; none in fast mode, nor unless preference memory is enabled and the
    /// cube has one. The report tells when they could not be learned.
    pub preferences: Vec<MemoryId>,
    /// What was kept, what was not, and why.
    pub report: ReadReport,
}

impl Mos {
    /// Reads input as [`Mos::remember`] does and returns what would be remembered. Nothing is stored.
    ///
    /// # Errors
    /// As [`Mos::remember`].
    pub async fn read(&self, what: Remember) -> Result<Reading> {
        let user = self.user_or_default(what.input.user.as_ref());
        let cube = self.target_to_read(&user, what.cube.as_ref()).await?;
        let place = self.hook_context_of(&user, &cube, what.input.session.as_ref());
        let what = self.before_remember(place.as_ref(), what).await?;
        let held = self.held(&user, &cube, &what.input).await?;
        let mut reading = self.read_for(&user, &cube.info().cube_id, what, &held).await?;
        self.before_store_reading(place.as_ref(), &mut reading).await?;
        Ok(reading)
    }

    /// Reads conversations, texts and files, and stores what comes of them, durably when this returns. Reading the same
    /// again changes nothing. Of a file that has changed since it was read before, what is new is stored and then what it no
    /// longer says is removed. In fine mode preferences are learned from messages as by [`Mos::add_and_learn`]. One bad item does not spoil the others: the report names it.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`](crate::Error::Invalid) for input without items; store errors and errors of the encoder.
    /// Errors of models that refine what was read are in the report.
    pub async fn remember(&self, what: Remember) -> Result<Remembered> {
        let user = self.user_or_default(what.input.user.as_ref());
        let cube = self.target(&user, what.cube.as_ref()).await?;
        self.remember_in(&cube, what).await
    }

    /// As [`Mos::remember`], in a cube that was made ready for the user that is meant; the one that is named is not looked up.
    pub(crate) async fn remember_in(&self, cube: &CubeHandle, what: Remember) -> Result<Remembered> {
        let user = self.user_or_default(what.input.user.as_ref());
        self.check_remembering(cube)?;
        let cube_id = cube.info().cube_id.clone();
        let place = self.hook_context_of(&user, cube, what.input.session.as_ref());
        let what = self.before_remember(place.as_ref(), what).await?;
        let held = self.held(&user, cube, &what.input).await?;
        let session = what.input.session.clone().or_else(|| self.session_of_settings());
        let learns_now = what.mode == ReadMode::Fine;
        let learns = self.parts.settings.enable_preference_memory && (learns_now || what.refined == Some(true));
        let messages = if learns { messages(&what.input) } else { Vec::new() };
        let (tags, refined, task) = (what.tags.clone(), what.refined, what.task.clone());
        let is_told_anew = what.is_told_anew;
        let mut reading = self.read_for(&user, &cube_id, what, &held).await?;
        self.before_store_reading(place.as_ref(), &mut reading).await?;
        let origin = Origin::new(user.as_str(), "remember");
        let is_whole = is_told_anew && self.name_anew_what_returns(cube, &mut reading, &origin).await?;
        let mut report = std::mem::take(&mut reading.report);
        let mut told_key = reading.idempotency_key.clone();
        let stored = match is_told_anew {
            true => self.store_anew(cube, reading, &held, &origin, &mut told_key, is_whole).await?,
            false => store_over(reading, cube.text_mem().as_ref(), &held, &origin).await?,
        };
        self.has_changed(&cube_id);
        let told = Told {
            session: session.as_ref(),
            ids: &stored.ids,
            key: &told_key,
            refined,
            task: task.as_deref(),
            tags: &tags,
            conversation: if learns_now { &[] } else { messages.as_slice() },
        };
        self.tell_of_remembered(cube, &user, told).await?;
        if stored.n_known < stored.ids.len() + stored.raw_files.len() {
            self.organize_added(cube, &stored.ids);
        }
        let mos_reader::Stored { ids, raw_files, n_known, removed } = stored;
        let quarantined = std::mem::take(&mut report.quarantined);
        report.quarantined = self.still_quarantined(cube, quarantined).await?;
        let mut preferences = Vec::new();
        if learns_now && !messages.is_empty() {
            let key = format!("{told_key}-preferences");
            match self.learn(cube, &user, session.as_ref(), &messages, Some(key)).await {
                Ok(learned) => preferences = learned,
                Err(error) => report.warnings.push(format!("no preferences could be learned: {error}")),
            }
        }
        let remembered = Remembered { ids, raw_files, n_known, removed, preferences, report };
        if let Some(place) = place {
            self.parts.plugins.after_remember(place, remembered.clone()).await;
        }
        Ok(remembered)
    }

    /// Refuses unless the user may store what is to be read where it says.
    pub(super) async fn check_remembers_to(&self, what: &Remember) -> Result<()> {
        let user = self.user_or_default(what.input.user.as_ref());
        let cube = self.target(&user, what.cube.as_ref()).await?;
        self.check_remembering(&cube)
    }

    /// Lets plugins see raw input.
    async fn before_remember(&self, place: Option<&HookContext>, mut what: Remember) -> Result<Remember> {
        if let Some(place) = place {
            what.input.items = self.parts.plugins.before_remember(place.clone(), what.input.items).await?;
        }
        Ok(what)
    }

    /// Returns what the cube holds of the files of an input.
    async fn held(&self, user: &UserId, cube: &CubeHandle, input: &ReadInput) -> Result<Held> {
        let mut files = Vec::new();
        for item in &input.items {
            if let RawItem::File(file) = item {
                files.extend(lasting_id(file, input.sources).await);
            }
        }
        if files.is_empty() {
            return Ok(Held::default());
        }
        let scope = Scope::of(&cube.info().cube_id);
        let ids = self.parts.reading.files.of(self.parts.record.as_ref(), &scope, &files).await?;
        Ok(Held::new(cube.text_mem().get_by_ids(&ids).await?, user))
    }

    async fn read_for(&self, user: &UserId, cube: &CubeId, what: Remember, held: &Held) -> Result<Reading> {
        let mut input = what.input;
        input.known_chunks = held.known_chunks();
        input.user = Some(user.clone());
        input.cube = Some(cube.clone());
        input.session = input.session.or_else(|| self.session_of_settings());
        let reader = self.mem_reader(user, cube, self.read_by_encoder().await)?;
        let mut reading = reader.read(input, what.mode).await?;
        for item in reading.raw.iter_mut().chain(&mut reading.memories).chain(&mut reading.raw_files) {
            label(item, &what.tags);
        }
        Ok(reading)
    }

    /// How many tokens of a memory the encoder reads; `None` when it does not tell.
    pub(crate) async fn read_by_encoder(&self) -> Option<usize> {
        match self.embedder().max_tokens().await {
            Ok(max_tokens) => max_tokens,
            // Whoever stores something is told why there is no encoder.
            Err(error) => {
                tracing::debug!(%error, "how much the encoder reads is not known");
                None
            }
        }
    }

    fn session_of_settings(&self) -> Option<SessionId> {
        self.parts.settings.session_id.as_deref().map(SessionId::new)
    }

    /// The reader that the settings name, else one for everything that can be read. What its models are asked is on the account
    /// of the user and the cube. `max_tokens`: what the encoder reads of each piece.
    pub(crate) fn mem_reader(
        &self,
        user: &UserId,
        cube: &CubeId,
        max_tokens: Option<usize>,
    ) -> Result<Arc<dyn MemReader>> {
        let (settings, models) = (&self.parts.settings, &self.parts.reading);
        let common = settings.mem_reader.as_ref().map(common_part);
        let metered = |model: Arc<dyn ChatModel>| self.metered(model, user, Some(cube));
        let of = |config: Option<&ChatModelConfig>| config.map(|config| metered(models.of_config(config)));
        let model = common.map_or_else(|| models.of_settings(), |common| models.of_config(&common.llm));
        let parts = MemReaderParts {
            model: Some(metered(model)),
            document_model: of(common.and_then(|common| common.document_parser_llm.as_ref())),
            general_model: of(common.and_then(|common| common.general_llm.as_ref())),
            image_model: of(common.and_then(|common| common.image_parser_llm.as_ref())),
            fetcher: fetcher(&settings.fetch)?,
            max_tokens,
            quarantine: settings.reader.quarantine,
            clock: Arc::clone(&self.parts.clock),
        };
        self.parts.factories.mem_reader(settings.mem_reader.clone(), parts)
    }
}

/// Gives a memory labels that it lacks.
fn label(item: &mut MemoryItem, tags: &[String]) {
    if tags.is_empty() {
        return;
    }
    let known = item.metadata.tags.get_or_insert_default();
    for tag in tags {
        if !known.contains(tag) {
            known.push(tag.clone());
        }
    }
}

/// Returns the messages among an input.
fn messages(input: &ReadInput) -> Vec<Message> {
    let messages = input.items.iter().filter_map(|item| match item {
        RawItem::Message(message) => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}
