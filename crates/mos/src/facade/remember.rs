//! Reading raw input and remembering what comes of it.

use std::sync::Arc;

use mos_config::reader::CommonReader;
use mos_config::{ChatModelConfig, MemReaderConfig};
use mos_core::{CubeId, MemReader, MemoryId, Origin, ReadInput, ReadMode, ReadReport, Reading, SessionId, UserId};

use super::Mos;
use crate::error::Result;
use crate::factories::{MemReaderParts, fetcher};

/// Raw input that is read: conversations, texts, files.
#[derive(Clone, Debug)]
pub struct Remember {
    input: ReadInput,
    cube: Option<CubeId>,
    mode: ReadMode,
}

impl Remember {
    /// Reads this input in fast mode. What it says of the cube is not heeded.
    pub fn new(input: ReadInput) -> Self {
        Self { input, cube: None, mode: ReadMode::Fast }
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
        let cube = self.target(&user, what.cube.as_ref()).await?;
        self.read_for(&user, &cube.info().cube_id, what).await
    }

    /// Reads conversations, texts and files, and stores what comes of them, durably when this returns. Reading the same
    /// again changes nothing. One bad item does not spoil the others: the report names it.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`](crate::Error::Invalid) for input without items; store errors and errors of the encoder.
    /// Errors of models that refine what was read are in the report.
    pub async fn remember(&self, what: Remember) -> Result<Remembered> {
        let user = self.user_or_default(what.input.user.as_ref());
        let cube = self.target(&user, what.cube.as_ref()).await?;
        let cube_id = cube.info().cube_id.clone();
        let mut reading = self.read_for(&user, &cube_id, what).await?;
        let report = std::mem::take(&mut reading.report);
        let origin = Origin::new(user.as_str(), "remember");
        let stored = mos_reader::store(reading, cube.text_mem().as_ref(), &origin).await?;
        self.has_changed(&cube_id);
        Ok(Remembered { ids: stored.ids, raw_files: stored.raw_files, n_known: stored.n_known, report })
    }

    async fn read_for(&self, user: &UserId, cube: &CubeId, what: Remember) -> Result<Reading> {
        let mut input = what.input;
        input.user = Some(user.clone());
        input.cube = Some(cube.clone());
        if input.session.is_none() {
            input.session = self.parts.settings.session_id.as_deref().map(SessionId::new);
        }
        Ok(self.mem_reader(user, cube)?.read(input, what.mode).await?)
    }

    /// The reader that the settings name, else one for everything that can be read. What its models take is counted for
    /// the user and the cube.
    fn mem_reader(&self, user: &UserId, cube: &CubeId) -> Result<Arc<dyn MemReader>> {
        let (settings, models) = (&self.parts.settings, &self.parts.reading);
        let common = settings.mem_reader.as_ref().map(common);
        let counted = |model| self.metered(model, user, Some(cube));
        let named = |config: Option<&ChatModelConfig>| config.map(|config| counted(models.of_config(config)));
        let parts = MemReaderParts {
            model: named(common.map(|common| &common.llm)).or_else(|| Some(counted(models.of_settings()))),
            document_model: named(common.and_then(|common| common.document_parser_llm.as_ref())),
            image_model: named(common.and_then(|common| common.image_parser_llm.as_ref())),
            fetcher: fetcher(&settings.fetch)?,
            clock: Arc::clone(&self.parts.clock),
        };
        self.parts.factories.mem_reader(settings.mem_reader.clone(), parts)
    }
}

fn common(config: &MemReaderConfig) -> &CommonReader {
    match config {
        MemReaderConfig::Simple(reader) => &reader.common,
        MemReaderConfig::MultiModal(reader) => &reader.common,
        MemReaderConfig::Strategy(reader) => &reader.common,
    }
}
