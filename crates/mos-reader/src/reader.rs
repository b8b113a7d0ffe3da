//! The readers: one pipeline, of which each kind uses its part.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::memory::SourceMessage;
use mos_core::{
    ChatModel, Clock, Fetcher, MemReader, MemoryError, MemoryItem, MemoryType, Outcome, ReadInput, ReadMode, Reading,
    Role,
};
use serde_json::{Map, json};

use crate::breaker::Breaker;
use crate::chunk::{Chunker, EstimatedTokens, TokenCounter};
use crate::file::data::Loader;
use crate::file::{FileReader, FileReading, Looking};
use crate::fine::{Asking, draw};
use crate::identity::{content_name, request_key};
use crate::image::{ImageReader, NO_MODEL, audio_reference};
use crate::item::{Maker, derived_key};
use crate::options::{ReaderKind, ReaderOptions};
use crate::parse::ParseLimits;
use crate::place::{Log, Place};
use crate::quarantine::{checked, kept_apart, reason_of_turn};
use crate::skill::{SkillLimits, SkillReader, UPLOADED, read_archive};
use crate::sorted::{FilePart, Sorted, sort};
use crate::tools::{TrajectoryReader, check_calls, tool_schemas};
use crate::turn::{Turn, language_code, language_of};
use crate::window::{Window, windows};

/// The most windows of one input that a model is asked about.
const MAX_WINDOWS: usize = 20_000;

/// How many of the files that are not kept of a skill are named.
const MAX_NAMED_FILES: usize = 5;

/// What a reader works with.
#[derive(Clone)]
pub struct ReaderParts {
    /// Reads conversations; without it only [`ReadMode::Fast`] is possible.
    pub model: Option<Arc<dyn ChatModel>>,
    /// Reads documents; without it `model` does.
    pub document_model: Option<Arc<dyn ChatModel>>,
    /// Draws experience and skills from conversations, and looks a second time at what was drawn from them; without it
    /// `model` does.
    pub general_model: Option<Arc<dyn ChatModel>>,
    /// Looks at images; without it they are kept as references.
    pub image_model: Option<Arc<dyn ChatModel>>,
    /// Cuts documents and long messages.
    pub chunker: Arc<dyn Chunker>,
    /// Fetches URLs; without it they are kept as references.
    pub fetcher: Option<Arc<dyn Fetcher>>,
    /// Bounds what parsers do.
    pub parse_limits: Arc<ParseLimits>,
    /// Bounds what is unpacked of archives of skills.
    pub skill_limits: SkillLimits,
    /// Measures windows.
    pub tokens: Arc<dyn TokenCounter>,
    /// The time of the memories' making.
    pub clock: Arc<dyn Clock>,
}

impl ReaderParts {
    /// Returns parts without models and without fetching.
    pub fn new(chunker: Arc<dyn Chunker>, clock: Arc<dyn Clock>) -> Self {
        Self {
            model: None,
            document_model: None,
            general_model: None,
            image_model: None,
            chunker,
            fetcher: None,
            parse_limits: Arc::new(ParseLimits::default()),
            skill_limits: SkillLimits::default(),
            tokens: Arc::new(EstimatedTokens),
            clock,
        }
    }
}

impl fmt::Debug for ReaderParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderParts")
            .field("model", &self.model)
            .field("document_model", &self.document_model)
            .field("general_model", &self.general_model)
            .field("image_model", &self.image_model)
            .field("chunker", &self.chunker)
            .field("fetcher", &self.fetcher)
            .finish_non_exhaustive()
    }
}

/// Makes memories of raw input; see the crate's documentation.
#[derive(Clone, Debug)]
pub struct Reader {
    kind: ReaderKind,
    options: ReaderOptions,
    parts: ReaderParts,
}

impl Reader {
    /// Returns a reader.
    ///
    /// Of the limits of parsing, the number of images is that of the options.
    pub fn new(kind: ReaderKind, options: ReaderOptions, mut parts: ReaderParts) -> Self {
        Arc::make_mut(&mut parts.parse_limits).max_images = options.max_document_images;
        Self { kind, options, parts }
    }

    /// Returns the reader with models that are given up when they fail again and again, for one input: thousands of questions
    /// may be asked about it.
    fn for_one_input(&self) -> Self {
        let mut reader = self.clone();
        let parts = &mut reader.parts;
        let models = [&mut parts.model, &mut parts.document_model, &mut parts.general_model, &mut parts.image_model];
        for model in models.into_iter().flatten() {
            *model = Breaker::around(Arc::clone(model));
        }
        reader
    }

    async fn read_all(&self, input: ReadInput, mode: ReadMode) -> Result<Reading, MemoryError> {
        self.check(&input, mode)?;
        let mut log = Log::default();
        let sorted = sort(&input, self.kind, self.parts.clock.as_ref(), &mut log);
        let reasons = self.reasons_to_part(&sorted.turns);
        let windows = self.windows_of(&sorted, &reasons)?;
        let maker = Maker::new(&input, self.parts.clock.as_ref());
        let work = Work { input: &input, mode, sorted: &sorted, reasons: &reasons, maker: &maker };
        let mut reading = Reading::default();
        let mut contents = Vec::new();
        self.texts(&work, &mut reading, &mut log).await;
        self.files(&work, &mut reading, &mut contents, &mut log).await;
        self.images(&work, &mut reading, &mut log).await;
        self.conversation(&work, &windows, &mut reading, &mut log).await;
        self.parted(&work, &mut reading);
        if self.kind == ReaderKind::MultiModal {
            self.tools(&work, &windows, &mut reading, &mut log).await;
        }
        self.archives(&work, &mut reading, &mut contents, &mut log).await;
        distinct(&mut reading);
        reading.idempotency_key = request_key(self.kind.key(), &input, mode, &contents);
        reading.report = log.into_report();
        if self.options.quarantine { checked(reading).await } else { Ok(reading) }
    }

    fn loader(&self, input: &ReadInput) -> Loader<'_> {
        Loader {
            fetcher: self.parts.fetcher.as_deref(),
            sources: input.sources,
            max_bytes: self.options.max_file_bytes,
        }
    }

    /// Returns what questions are asked with, when there is a model for them.
    fn asking<'a>(&'a self, model: Option<&'a Arc<dyn ChatModel>>, input: &'a ReadInput) -> Option<Asking<'a>> {
        Some(Asking {
            model: model?.as_ref(),
            attempts: self.options.attempts,
            with_example: !self.options.remove_prompt_example,
            tags: &input.custom_tags,
            parallel: self.options.parallel,
        })
    }

    fn general_model(&self) -> Option<&Arc<dyn ChatModel>> {
        self.parts.general_model.as_ref().or(self.parts.model.as_ref())
    }

    fn check(&self, input: &ReadInput, mode: ReadMode) -> Result<(), MemoryError> {
        if input.items.is_empty() {
            return Err(MemoryError::Invalid("there is nothing to read; give at least one message or file".to_owned()));
        }
        if input.items.len() > self.options.max_items {
            return Err(MemoryError::Invalid(format!(
                "{} items are too many at once; give at most {}",
                input.items.len(),
                self.options.max_items
            )));
        }
        if mode == ReadMode::Fine && self.parts.model.is_none() {
            return Err(MemoryError::Unsupported(format!(
                "`{}` has no language model to draw memories with; configure `llm`, or read in fast mode",
                self.kind.key()
            )));
        }
        Ok(())
    }

    /// Returns the windows of a conversation. What tools returned in the manner of instructions is not among them.
    fn windows_of(&self, sorted: &Sorted, reasons: &[Option<String>]) -> Result<Vec<Window>, MemoryError> {
        let turns = sorted.turns.iter().zip(reasons);
        let windows = self.cut(turns.filter(|(_, reason)| reason.is_none()).map(|(turn, _)| turn.clone()).collect());
        if windows.len() > MAX_WINDOWS {
            return Err(MemoryError::Invalid(format!(
                "the conversation takes {} windows; give it in parts of at most {MAX_WINDOWS}",
                windows.len()
            )));
        }
        Ok(windows)
    }

    fn cut(&self, turns: Vec<Turn>) -> Vec<Window> {
        windows(turns, &self.options.cut, self.parts.tokens.as_ref(), self.parts.chunker.as_ref())
    }

    /// Why each turn does not stand in windows with others; `None` for most.
    fn reasons_to_part(&self, turns: &[Turn]) -> Vec<Option<String>> {
        turns.iter().map(|turn| if self.options.quarantine { reason_of_turn(turn) } else { None }).collect()
    }

    /// Keeps what tools returned in the manner of instructions by itself, so that what others said stands without it. No model
    /// reads it.
    fn parted(&self, work: &Work<'_>, reading: &mut Reading) {
        for (turn, reason) in work.sorted.turns.iter().zip(work.reasons) {
            let Some(reason) = reason else { continue };
            for window in self.cut(vec![turn.clone()]) {
                let mut item = work.maker.window(&window);
                kept_apart(&mut item, reason);
                reading.raw.push(item);
            }
        }
    }

    async fn conversation(&self, work: &Work<'_>, windows: &[Window], reading: &mut Reading, log: &mut Log) {
        let mut raw: Vec<MemoryItem> = windows.iter().map(|window| work.maker.window(window)).collect();
        let Some(asking) = self.asking(self.parts.model.as_ref(), work.input).filter(|_| work.mode == ReadMode::Fine)
        else {
            reading.raw.append(&mut raw);
            return;
        };
        let general = self.asking(self.general_model(), work.input);
        let checking = general.filter(|_| self.options.check_with_model);
        let mut known: HashSet<String> = reading.memories.iter().map(|item| item.memory.clone()).collect();
        let drawn = draw(asking, work.maker, windows, &work.sorted.hidden, checking).await;
        for ((window, raw), mut drawn) in windows.iter().zip(&mut raw).zip(drawn) {
            if let Some(failure) = &drawn.failure {
                for turn in &window.turns {
                    log.set(turn.place, Outcome::Raw, failure.as_str());
                }
            }
            for (memory, reason) in drawn.dropped {
                log.dropped(memory, reason);
            }
            // Windows overlap: the same may be drawn from two.
            drawn.memories.retain(|item| known.insert(item.memory.clone()));
            note_refined(raw, &drawn.memories);
            for item in &mut drawn.memories {
                note_raw(item, raw);
            }
            reading.memories.append(&mut drawn.memories);
        }
        reading.raw.append(&mut raw);
    }

    async fn texts(&self, work: &Work<'_>, reading: &mut Reading, log: &mut Log) {
        let mut windows: Vec<Window> = Vec::new();
        for (place, text) in &work.sorted.texts {
            let chunks = self.parts.chunker.chunk_text(text);
            let parts: Vec<String> = match self.parts.tokens.count(text) {
                n if n <= self.options.cut.window_tokens.unwrap_or(usize::MAX) => vec![text.clone()],
                _ if chunks.is_empty() => vec![text.clone()],
                _ => chunks.into_iter().map(|chunk| chunk.text).collect(),
            };
            for (index, part) in parts.into_iter().enumerate() {
                windows.push(text_window(*place, index, part));
            }
        }
        let first = reading.raw.len();
        self.conversation(work, &windows, reading, log).await;
        // What nobody said in a conversation stands without a speaker.
        for (item, window) in reading.raw[first..].iter_mut().zip(&windows) {
            item.memory = window.said();
            item.metadata.key = Some(derived_key(&item.memory));
            if let Some(fields) = item.metadata.tree_mut() {
                fields.memory_type = MemoryType::LongTerm;
            }
        }
    }

    async fn files(&self, work: &Work<'_>, reading: &mut Reading, contents: &mut Vec<String>, log: &mut Log) {
        let model = self.parts.document_model.as_ref().or(self.parts.model.as_ref());
        let loader = self.loader(work.input);
        let looking = match self.asking(self.parts.image_model.as_ref(), work.input) {
            _ if work.mode == ReadMode::Fast => Looking::Not("fast mode does not look at images"),
            Some(asking) => Looking::With(asking),
            None => Looking::Not(NO_MODEL),
        };
        let reader = FileReader {
            // What the parser would refuse is not even read.
            loader: Loader { max_bytes: loader.max_bytes.min(self.parts.parse_limits.max_bytes), ..loader },
            chunker: &self.parts.chunker,
            limits: &self.parts.parse_limits,
            maker: work.maker,
            asking: self.asking(model, work.input).filter(|_| work.mode == ReadMode::Fine),
            save_raw_files: self.options.save_raw_files,
            known_chunks: &work.input.known_chunks,
            direct_hosts: &self.options.direct_markdown_hosts,
            looking,
        };
        for part in &work.sorted.files {
            let FileReading { raw, memories, raw_files, content, version } = reader.read(part, log).await;
            contents.extend(content);
            reading.raw.extend(raw);
            reading.memories.extend(memories);
            reading.raw_files.extend(raw_files);
            reading.files.extend(version);
        }
    }

    async fn images(&self, work: &Work<'_>, reading: &mut Reading, log: &mut Log) {
        let reader = ImageReader {
            loader: self.loader(work.input),
            maker: work.maker,
            asking: self.asking(self.parts.image_model.as_ref(), work.input),
            language: language_of(&work.sorted.turns),
        };
        for image in &work.sorted.images {
            reading.raw.push(reader.reference(image));
            if work.mode == ReadMode::Fine
                && let Some(item) = reader.described(image, log).await
            {
                reading.memories.push(item);
            } else if work.mode == ReadMode::Fast {
                log.set(image.place, Outcome::Reference, "fast mode does not look at images");
            }
        }
        for audio in &work.sorted.audio {
            reading.raw.push(audio_reference(audio, work.maker, log));
        }
    }

    async fn tools(&self, work: &Work<'_>, windows: &[Window], reading: &mut Reading, log: &mut Log) {
        check_calls(&work.sorted.turns, log);
        let asking = self.asking(self.general_model(), work.input).filter(|_| work.mode == ReadMode::Fine);
        let Some(asking) = asking else { return };
        reading.memories.extend(tool_schemas(&work.sorted.systems, work.maker, log));
        let trajectories = TrajectoryReader { maker: work.maker, asking };
        reading.memories.extend(trajectories.read(&work.sorted.turns, log).await);
        if self.options.extract_skills {
            let skills = SkillReader { maker: work.maker, asking };
            reading.memories.extend(skills.read(windows, log).await);
        }
    }

    async fn archives(&self, work: &Work<'_>, reading: &mut Reading, contents: &mut Vec<String>, log: &mut Log) {
        for part in &work.sorted.skills {
            match self.archive(work, part, log).await {
                Ok((content, items)) => {
                    contents.push(content);
                    reading.memories.extend(items);
                }
                Err(reason) => log.set(part.place, Outcome::NotKept, reason),
            }
        }
    }

    async fn archive(
        &self,
        work: &Work<'_>,
        part: &FilePart,
        log: &mut Log,
    ) -> Result<(String, Vec<MemoryItem>), String> {
        let loaded = self.loader(work.input).load(&part.file.data).await.map_err(|error| error.reason)?;
        let limits = self.parts.skill_limits;
        let unpacked = tokio::task::spawn_blocking(move || {
            let content = content_name(&loaded.bytes);
            read_archive(&loaded.bytes, &limits).map(|skills| (content, skills)).map_err(|error| error.to_string())
        });
        let (content, skills) = unpacked.await.map_err(|_| "it is damaged".to_owned())??;
        let source = SourceMessage {
            kind: "file".to_owned(),
            doc_path: part.file.name.clone().or_else(|| part.file.id.clone()),
            ..SourceMessage::default()
        };
        for skill in skills.iter().filter(|skill| !skill.left_out.is_empty()) {
            let shown = skill.left_out.iter().take(MAX_NAMED_FILES).map(String::as_str).collect::<Vec<_>>().join(", ");
            let n_files = skill.left_out.len();
            log.warn(format!("{n_files} files of the skill {:?} are no text and are not kept: {shown}", skill.name));
        }
        let items = skills.into_iter().map(|skill| skill.into_item(work.maker, UPLOADED, vec![source.clone()]));
        Ok((content, items.collect()))
    }
}

/// One input that is being read.
struct Work<'a> {
    input: &'a ReadInput,
    mode: ReadMode,
    sorted: &'a Sorted,
    /// Why each turn does not stand in windows with others.
    reasons: &'a [Option<String>],
    maker: &'a Maker<'a>,
}

/// Returns a part of a text as a window of its own, so that it is read as conversations are.
fn text_window(place: Place, index: usize, text: String) -> Window {
    let mut extra = Map::new();
    extra.insert("lang".to_owned(), language_code(&text));
    let source =
        SourceMessage { kind: "doc".to_owned(), content: Some(text.clone()), extra, ..SourceMessage::default() };
    let turn = Turn {
        place,
        index,
        role: Role::User,
        name: None,
        time: None,
        has_own_time: false,
        message_id: None,
        text,
        calls: Vec::new(),
        answers: None,
        sources: vec![source],
    };
    Window { turns: vec![turn] }
}

/// Notes which memories were drawn from a raw one, so that nobody refines it again.
fn note_refined(raw: &mut MemoryItem, memories: &[MemoryItem]) {
    if memories.is_empty() {
        return;
    }
    let ids: Vec<&str> = memories.iter().map(|item| item.id.as_str()).collect();
    let info = raw.metadata.internal_info.get_or_insert_default();
    info.insert("refined_to".to_owned(), json!(ids));
}

/// Notes in the sources of a memory which raw one holds them.
fn note_raw(item: &mut MemoryItem, raw: &MemoryItem) {
    let Some(fields) = item.metadata.tree_mut() else { return };
    for source in fields.sources.iter_mut().flatten() {
        source.extra.insert("node_id".to_owned(), json!(raw.id.as_str()));
    }
}

#[async_trait]
impl MemReader for Reader {
    fn backend(&self) -> &'static str {
        self.kind.key()
    }

    async fn read(&self, input: ReadInput, mode: ReadMode) -> Result<Reading, MemoryError> {
        self.for_one_input().read_all(input, mode).await
    }
}

/// Keeps one of what was given twice: its ids are the same.
fn distinct(reading: &mut Reading) {
    let mut seen = HashSet::new();
    for items in [&mut reading.raw, &mut reading.memories, &mut reading.raw_files] {
        items.retain(|item| seen.insert(item.id.clone()));
    }
}
