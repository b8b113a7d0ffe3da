//! Turning raw input into memories: readers, chunkers, parsers.

use crate::embedder::EmbedderConfig;
use crate::llm::ChatModelConfig;
use crate::read::Fields;
use crate::secret::Free;

section! {
    /// How texts are cut.
    pub struct CommonChunker {
        /// The tokenizer that counts.
        default tokenizer_or_token_counter: String = "gpt2".to_owned(),
        /// Tokens of a piece.
        default chunk_size: usize = 512,
        /// Tokens that neighbouring pieces share.
        default chunk_overlap: usize = 128,
        /// Sentences of a piece, at least.
        default min_sentences_per_chunk: usize = 1,
        /// Keeps the pieces of the raw file too.
        default save_rawfile: bool = true,
    }
    check: check_chunker;
}

fn check_chunker(chunker: &CommonChunker, fields: &mut Fields<'_, '_>) {
    if chunker.chunk_size == 0 {
        fields.refuse("chunk_size", "must be at least 1");
    } else if chunker.chunk_overlap >= chunker.chunk_size {
        fields.refuse("chunk_overlap", "must be smaller than chunk_size");
    }
}

section! {
    /// Cuts at the ends of sentences.
    pub struct SentenceChunker {
        /// How texts are cut.
        group common: CommonChunker,
    }
}

section! {
    /// Cuts at headings.
    pub struct MarkdownChunker {
        /// How texts are cut.
        group common: CommonChunker,
        /// The headings to cut at: pairs of mark and name.
        default headers_to_split_on: Vec<Vec<String>> = default_headings(),
        /// Leaves the headings out of the pieces.
        default strip_headers: bool = true,
        /// Cuts pieces that are still too long.
        default recursive: bool = false,
    }
    check: check_headings;
}

section! {
    /// Cuts between words.
    pub struct SimpleChunker {
        /// How texts are cut; sizes are characters.
        group common: CommonChunker,
    }
}

section! {
    /// Cuts between paragraphs, then lines, sentences and words.
    pub struct CharacterTextChunker {
        /// How texts are cut; sizes are characters.
        group common: CommonChunker,
    }
}

fn default_headings() -> Vec<Vec<String>> {
    (1..=3).map(|level| vec!["#".repeat(level), format!("Header {level}")]).collect()
}

fn check_headings(chunker: &MarkdownChunker, fields: &mut Fields<'_, '_>) {
    if chunker.headers_to_split_on.iter().any(|pair| pair.len() != 2) {
        fields.refuse(
            "headers_to_split_on",
            "each entry must be a pair of mark and name, for example [\"#\", \"Header 1\"]",
        );
    }
}

backends! {
    /// How texts are cut into pieces.
    pub enum ChunkerConfig {
        /// At the ends of sentences.
        Sentence(SentenceChunker) = "sentence",
        /// At headings.
        Markdown(MarkdownChunker) = "markdown",
        /// Between words.
        Simple(SimpleChunker) = "simple",
        /// Between paragraphs, then lines, sentences and words.
        CharacterText(CharacterTextChunker) = "charactertext",
    }
}

section! {
    /// MemOS' name for the parser of office documents; it has no settings.
    pub struct DocumentParser {}
}

backends! {
    /// How files become text.
    pub enum ParserConfig {
        /// Office documents, PDF, HTML and text.
        MarkItDown(DocumentParser) = "markitdown",
    }
}

section! {
    /// What every reader has in common.
    pub struct CommonReader {
        /// When the configuration was made, as it was written.
        omitted created_at: Option<String>,
        /// The model that extracts memories.
        required llm: ChatModelConfig,
        /// The model for what is no conversation and no document: what tools were used for, skills, the second look at
        /// memories. Without it `llm` does that.
        default general_llm: Option<ChatModelConfig> = None,
        /// The model that reads images.
        default image_parser_llm: Option<ChatModelConfig> = None,
        /// The model that reads documents.
        default document_parser_llm: Option<ChatModelConfig> = None,
        /// The model that finds preferences, unless a cube's preference memory names its own. Without it the chat model
        /// does.
        default preference_extractor_llm: Option<ChatModelConfig> = None,
        /// The encoder.
        required embedder: EmbedderConfig,
        /// How texts are cut.
        required chunker: ChunkerConfig,
        /// Leaves the examples out of the prompts.
        default remove_prompt_example: bool = false,
        /// How conversations are cut.
        default chat_chunker: Option<Free> = None,
    }
}

section! {
    /// The plain reader.
    pub struct SimpleReader {
        /// Models and cutting.
        group common: CommonReader,
        /// Other keys, kept as they are.
        rest extra: Free,
    }
}

section! {
    /// The reader with a configurable cutting of conversations.
    pub struct StrategyReader {
        /// Models and cutting.
        group common: CommonReader,
        /// Other keys, kept as they are.
        rest extra: Free,
    }
}

section! {
    /// The reader of texts, files, images and tool calls.
    pub struct MultiModalReader {
        /// Models and cutting.
        group common: CommonReader,
        /// Hosts whose documents are Markdown, whatever they look like.
        default direct_markdown_hostnames: Option<Vec<String>> = None,
        /// Object storage for skills; has no effect, because skills are memories.
        default oss_config: Option<Free> = None,
        /// Looks for skills in conversations; the folders that it names have no effect, because skills are memories.
        default skills_dir_config: Option<Free> = None,
        /// Whether earlier versions of memories are kept; they always are.
        default memory_version_switch: String = "off".to_owned(),
        /// Other keys, kept as they are.
        rest extra: Free,
    }
    check: check_multi_modal;
}

fn check_multi_modal(reader: &MultiModalReader, fields: &mut Fields<'_, '_>) {
    if !["on", "off"].contains(&reader.memory_version_switch.as_str()) {
        fields.refuse("memory_version_switch", "must be \"on\" or \"off\"");
    }
    let is_host =
        |host: &String| !host.is_empty() && !host.contains(['/', '@', '*']) && !host.contains(char::is_whitespace);
    if reader.direct_markdown_hostnames.iter().flatten().any(|host| !is_host(host)) {
        fields.refuse("direct_markdown_hostnames", "must be names of hosts, for example [\"docs.example.org\"]");
    }
    let is_set = |free: &Option<Free>| free.as_ref().is_some_and(|free| !free.0.is_empty());
    if is_set(&reader.oss_config) {
        fields.warn(
            "oss_config of the reader has no effect: skills are kept as memories of the cube, not in an object store",
        );
    }
    if is_set(&reader.skills_dir_config) {
        fields.warn(
            "the folders of skills_dir_config have no effect: skills are looked for, and kept as memories of the cube",
        );
    }
}

backends! {
    /// How raw input becomes memories.
    pub enum MemReaderConfig {
        /// The plain reader.
        Simple(SimpleReader) = "simple_struct",
        /// Texts, files, images and tool calls.
        MultiModal(MultiModalReader) = "multimodal_struct",
        /// The plain reader with a configurable cutting.
        Strategy(StrategyReader) = "strategy_struct",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::error::ConfigError;
    use crate::read::{Reader, Setting};

    fn read(key: &str, value: Value) -> Result<(MemReaderConfig, Vec<String>), ConfigError> {
        let model = json!({"backend": "ollama", "config": {"model_name_or_path": "m"}});
        let chunker = json!({"backend": "sentence", "config": {}});
        let mut config = json!({"llm": model, "embedder": model, "chunker": chunker});
        config[key] = value;
        let variables = BTreeMap::new();
        let mut reader = Reader::new(None, &variables);
        let value = json!({"backend": "multimodal_struct", "config": config});
        let read = MemReaderConfig::read(&mut reader, &value, "mem_reader");
        reader.finish(read)
    }

    #[test]
    fn what_has_no_effect_is_warned_about() {
        for key in ["oss_config", "skills_dir_config"] {
            let (_, warnings) = read(key, json!({"bucket": "b"})).unwrap();
            assert!(warnings.len() == 1 && warnings[0].contains(key), "{warnings:?}");
            assert!(read(key, json!({})).unwrap().1.is_empty());
        }
        assert!(read("memory_version_switch", json!("on")).unwrap().1.is_empty());
    }

    #[test]
    fn hosts_are_no_addresses() {
        assert!(read("direct_markdown_hostnames", json!(["docs.example.org", "10.0.0.5"])).is_ok());
        for bad in ["https://docs.example.org", "", "a b", "*.example.org"] {
            let error = read("direct_markdown_hostnames", json!([bad])).unwrap_err().to_string();
            assert!(error.contains("direct_markdown_hostnames"), "{bad}: {error}");
        }
    }
}
