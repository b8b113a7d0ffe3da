//! How a reader reads; plain data.

use mos_config::{ChunkerConfig, MemReaderConfig};
use serde_json::{Map, Value};

/// Which reader it is: the keys that MemOS knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReaderKind {
    /// Text alone: conversations and documents.
    #[default]
    Simple,
    /// Texts, files, images, tool calls and skills.
    MultiModal,
    /// As the simple one, with a configurable cutting of conversations.
    Strategy,
}

impl ReaderKind {
    /// The configuration key.
    pub fn key(self) -> &'static str {
        match self {
            Self::Simple => "simple_struct",
            Self::MultiModal => "multimodal_struct",
            Self::Strategy => "strategy_struct",
        }
    }
}

/// How conversations are cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationCut {
    /// Messages of a scene, and how many of them the next scene repeats; `None` takes a conversation as one scene.
    pub scene: Option<(usize, usize)>,
    /// The most tokens of a window; a longer message is cut. `None` makes a window of each scene.
    pub window_tokens: Option<usize>,
    /// How many tokens of a window the next one repeats, at most; whole messages only.
    pub overlap_tokens: usize,
}

/// The most images of a document that can be asked for: all of them are in memory at once.
const MAX_DOCUMENT_IMAGES: usize = 1_000;

/// How a reader reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ReaderOptions {
    /// How conversations are cut.
    pub cut: ConversationCut,
    /// Leaves the examples out of the prompts.
    pub remove_prompt_example: bool,
    /// Asks the model once more, about each window, which of its memories the turns support.
    pub check_with_model: bool,
    /// Looks for procedures that are worth keeping as skills, in conversations of at least two turns.
    pub extract_skills: bool,
    /// Keeps chunks of files as they are beside what a model draws from them.
    pub save_raw_files: bool,
    /// How many questions go to a model at once.
    pub parallel: usize,
    /// How often a model is asked the same until its answer can be read.
    pub attempts: usize,
    /// The largest file that is read, in bytes.
    pub max_file_bytes: usize,
    /// Hosts, in lower case, at which documents are Markdown, whatever they look like.
    pub direct_markdown_hosts: Vec<String>,
    /// The most images of a document that a model looks at.
    pub max_document_images: usize,
    /// The most items of one input.
    pub max_items: usize,
    /// Keeps apart what tools, pages and files at addresses say in the manner of instructions to a model.
    pub quarantine: bool,
}

impl ReaderOptions {
    /// Returns what a reader does when nothing else is configured: MemOS' windows of 1,024 tokens with 200 of overlap, and
    /// for the readers of text scenes of 10 messages with 2 of overlap.
    pub fn of(kind: ReaderKind) -> Self {
        let scene = match kind {
            ReaderKind::MultiModal => None,
            ReaderKind::Simple | ReaderKind::Strategy => Some((10, 2)),
        };
        Self {
            cut: ConversationCut { scene, window_tokens: Some(1024), overlap_tokens: 200 },
            remove_prompt_example: false,
            check_with_model: false,
            extract_skills: false,
            save_raw_files: true,
            parallel: 4,
            attempts: 3,
            max_file_bytes: 200 << 20,
            direct_markdown_hosts: Vec::new(),
            max_document_images: 20,
            max_items: 100_000,
            quarantine: true,
        }
    }

    /// Returns the reader that settings name, and how it reads. Beside MemOS' keys (see [`ReaderOptions::with_keys`])
    /// `check_with_model` and `max_document_images` are read. Skills are looked for when `skills_dir_config` is there.
    ///
    /// # Errors
    /// One sentence that names the key.
    pub fn from_config(config: &MemReaderConfig) -> Result<(ReaderKind, Self), String> {
        let (kind, common, extra) = match config {
            MemReaderConfig::Simple(reader) => (ReaderKind::Simple, &reader.common, &reader.extra.0),
            MemReaderConfig::MultiModal(reader) => (ReaderKind::MultiModal, &reader.common, &reader.extra.0),
            MemReaderConfig::Strategy(reader) => (ReaderKind::Strategy, &reader.common, &reader.extra.0),
        };
        let chat_chunker = common.chat_chunker.as_ref().map(|chunker| &chunker.0);
        let mut options = Self::of(kind).with_keys(kind, extra, chat_chunker)?;
        options.remove_prompt_example = common.remove_prompt_example;
        options.save_raw_files = match &common.chunker {
            ChunkerConfig::Sentence(chunker) => chunker.common.save_rawfile,
            ChunkerConfig::Markdown(chunker) => chunker.common.save_rawfile,
            ChunkerConfig::Simple(chunker) => chunker.common.save_rawfile,
            ChunkerConfig::CharacterText(chunker) => chunker.common.save_rawfile,
        };
        options.extract_skills =
            matches!(config, MemReaderConfig::MultiModal(reader) if reader.skills_dir_config.is_some());
        if let MemReaderConfig::MultiModal(reader) = config {
            let hosts = reader.direct_markdown_hostnames.iter().flatten();
            options.direct_markdown_hosts = hosts.map(|host| host.to_ascii_lowercase()).collect();
        }
        options.check_with_model = match extra.get("check_with_model") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(check)) => *check,
            Some(other) => return Err(format!("`check_with_model` must be true or false, not {other}")),
        };
        if let Some(n) = extra.get("max_document_images").filter(|n| !n.is_null()) {
            let number = n.as_u64().and_then(|number| usize::try_from(number).ok());
            options.max_document_images = number.filter(|number| *number <= MAX_DOCUMENT_IMAGES).ok_or_else(|| {
                format!("`max_document_images` must be a whole number of at most {MAX_DOCUMENT_IMAGES}, not {n}")
            })?;
        }
        Ok((kind, options))
    }

    /// Takes over what MemOS' configurations say in keys of their own: `chat_window_max_tokens`, and `chat_chunker` with
    /// `chunk_type` (`content_length` or anything else for messages), `chunk_length` (tokens), `chunk_session` and
    /// `chunk_overlap` (messages), at its top or under `config`. The chunker counts for `strategy_struct` only.
    ///
    /// # Errors
    /// One sentence that names the key.
    pub fn with_keys(
        mut self,
        kind: ReaderKind,
        extra: &Map<String, Value>,
        chat_chunker: Option<&Map<String, Value>>,
    ) -> Result<Self, String> {
        if let Some(tokens) = whole(extra, "chat_window_max_tokens")? {
            self.cut.window_tokens = Some(tokens);
            self.cut.overlap_tokens = self.cut.overlap_tokens.min(tokens.saturating_sub(1));
        }
        if let (ReaderKind::Strategy, Some(chunker)) = (kind, chat_chunker) {
            let inner = chunker.get("config").and_then(Value::as_object).unwrap_or(chunker);
            self.cut = strategy(inner, self.cut)?;
        }
        Ok(self)
    }
}

fn strategy(chunker: &Map<String, Value>, default: ConversationCut) -> Result<ConversationCut, String> {
    if chunker.get("chunk_type").and_then(Value::as_str) == Some("content_length") {
        let tokens = whole(chunker, "chunk_length")?.unwrap_or(1600);
        return Ok(ConversationCut {
            scene: None,
            window_tokens: Some(tokens),
            overlap_tokens: default.overlap_tokens.min(tokens.saturating_sub(1)),
        });
    }
    let n_messages = whole(chunker, "chunk_session")?.unwrap_or(10);
    let overlap = match chunker.get("chunk_overlap") {
        None | Some(Value::Null) => 2_usize.min(n_messages - 1),
        Some(value) => value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or("`chunk_overlap` must be a whole number".to_owned())?,
    };
    if overlap >= n_messages {
        return Err(format!("`chunk_overlap` ({overlap}) must be smaller than `chunk_session` ({n_messages})"));
    }
    Ok(ConversationCut { scene: Some((n_messages, overlap)), window_tokens: None, overlap_tokens: 0 })
}

/// A whole number of at least 1.
fn whole(map: &Map<String, Value>, key: &str) -> Result<Option<usize>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => Err(format!("`{key}` must be a whole number of at least 1, not {value}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_keys_of_memos_are_understood() {
        let simple = ReaderOptions::of(ReaderKind::Simple);
        let read = simple.clone().with_keys(ReaderKind::Simple, &map(json!({"chat_window_max_tokens": 150})), None);
        let cut = read.unwrap().cut;
        assert_eq!((cut.window_tokens, cut.overlap_tokens, cut.scene), (Some(150), 149, Some((10, 2))));
        let chunker = map(json!({"config": {"chunk_type": "session", "chunk_session": 4, "chunk_overlap": 1}}));
        let read = simple.clone().with_keys(ReaderKind::Strategy, &Map::new(), Some(&chunker)).unwrap();
        assert_eq!((read.cut.scene, read.cut.window_tokens), (Some((4, 1)), None));
        assert_eq!(simple.clone().with_keys(ReaderKind::Simple, &Map::new(), Some(&chunker)).unwrap(), simple);
        let length = map(json!({"chunk_type": "content_length", "chunk_length": 300}));
        let read = simple.with_keys(ReaderKind::Strategy, &Map::new(), Some(&length)).unwrap();
        assert_eq!((read.cut.scene, read.cut.window_tokens, read.cut.overlap_tokens), (None, Some(300), 200));
    }

    #[test]
    fn settings_name_the_reader() {
        let llm = json!({"backend": "ollama", "config": {"model_name_or_path": "qwen3"}});
        let embedder = json!({"backend": "ollama", "config": {"model_name_or_path": "nomic"}});
        let chunker = json!({"backend": "sentence", "config": {"save_rawfile": false}});
        let config = json!({"backend": "multimodal_struct", "config": {
            "llm": llm, "embedder": embedder, "chunker": chunker,
            "direct_markdown_hostnames": ["Docs.Example.org"], "max_document_images": 3,
            "skills_dir_config": {"dir": "x"}, "check_with_model": true, "remove_prompt_example": true,
        }});
        let (kind, options) = ReaderOptions::from_config(&MemReaderConfig::from_json(&config).unwrap()).unwrap();
        assert_eq!((kind, options.cut.scene), (ReaderKind::MultiModal, None));
        assert!(options.extract_skills && options.check_with_model && options.remove_prompt_example);
        assert!(!options.save_raw_files);
        assert_eq!(
            (options.direct_markdown_hosts, options.max_document_images),
            (vec!["docs.example.org".to_owned()], 3)
        );
    }

    #[test]
    fn wrong_values_are_named() {
        let options = ReaderOptions::of(ReaderKind::Strategy);
        for bad in [json!(0), json!("ten"), json!(-1)] {
            let error = options
                .clone()
                .with_keys(ReaderKind::Simple, &map(json!({"chat_window_max_tokens": bad})), None)
                .unwrap_err();
            assert!(error.contains("chat_window_max_tokens"), "{error}");
        }
        let chunker = map(json!({"chunk_session": 3, "chunk_overlap": 3}));
        assert!(options.with_keys(ReaderKind::Strategy, &Map::new(), Some(&chunker)).is_err());
    }
}
