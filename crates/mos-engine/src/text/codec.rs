//! A tokenizer together with the tokens that have a meaning of their own.

use std::path::Path;

use mos_core::ModelError;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::{ControlTexts, PromptText, gguf_tokenizer};
use crate::error::{bad_model, internal};
use crate::weights::gguf::GgufFile;
use crate::weights::safetensors::read_json;

/// Control tokens that end an answer in the usual chat formats, whatever a file names as its one end token.
const END_TEXTS: [&str; 8] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>"];

/// Turns text into tokens and back.
pub(crate) struct TextCodec {
    tokenizer: Tokenizer,
    hash: [u8; 32],
    ends: Vec<u32>,
    controls: ControlTexts,
    bos: Option<String>,
    eos: Option<String>,
    /// Whether the files say that a text without a template begins without `bos`.
    bare: bool,
}

impl TextCodec {
    /// Builds the tokenizer of a GGUF file; a `tokenizer.json` beside the file goes first.
    pub(crate) fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let beside = file.path().with_file_name("tokenizer.json");
        let (tokenizer, hash) = if beside.is_file() {
            (read_tokenizer(&beside)?, hash_file(&beside)?)
        } else {
            (gguf_tokenizer::build(file)?, gguf_tokenizer::hash(file))
        };
        let token = |key: &str| file.integer(key).and_then(|id| u32::try_from(id).ok());
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
        let named: Vec<u32> = ends.into_iter().filter_map(token).collect();
        let (bos, eos) = (text(token("tokenizer.ggml.bos_token_id")), text(token("tokenizer.ggml.eos_token_id")));
        let bare = file.flag("tokenizer.ggml.add_bos_token") == Some(false);
        Ok(Self { bare, ..Self::new(tokenizer, hash, &named, bos, eos) })
    }

    /// Reads `tokenizer.json`, and the special tokens from `tokenizer_config.json` when it is there.
    pub(crate) fn from_directory(directory: &Path, ends: &[u32]) -> Result<Self, ModelError> {
        let path = directory.join("tokenizer.json");
        let (tokenizer, hash) = (read_tokenizer(&path)?, hash_file(&path)?);
        let config_path = directory.join("tokenizer_config.json");
        let config: Value = if config_path.exists() { read_json(&config_path)? } else { Value::Null };
        // Either plain text or an object with the text inside.
        let special = |key: &str| {
            let value = &config[key];
            value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
        };
        let (bos, eos) = (special("bos_token"), special("eos_token"));
        let mut ends = ends.to_vec();
        ends.extend(eos.as_deref().and_then(|eos| tokenizer.token_to_id(eos)));
        let bare = config["add_bos_token"] == false;
        Ok(Self { bare, ..Self::new(tokenizer, hash, &ends, bos, eos) })
    }

    fn new(tokenizer: Tokenizer, hash: [u8; 32], named: &[u32], bos: Option<String>, eos: Option<String>) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let is_control = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let usual = END_TEXTS.iter().filter_map(|text| tokenizer.token_to_id(text)).filter(is_control);
        let mut ends: Vec<u32> = named.iter().copied().chain(usual).collect();
        ends.sort_unstable();
        ends.dedup();
        // What ends an answer is one too, whatever the file says about it.
        let controls = added.iter().filter(|(id, token)| token.special || ends.binary_search(id).is_ok());
        let controls = ControlTexts::new(controls.map(|(_, token)| token.content.clone()));
        Self { tokenizer, hash, ends, controls, bos, eos, bare: false }
    }

    /// Refuses a tokenizer that makes tokens the weights do not know.
    ///
    /// Added tokens do not count: Gemma's tokenizer has one for pictures, which the weights for text lack.
    pub(crate) fn check_vocabulary(&self, path: &Path, vocabulary: usize) -> Result<(), ModelError> {
        let size = self.tokenizer.get_vocab_size(false);
        if size > vocabulary {
            return Err(bad_model(
                path,
                format!("the tokenizer has {size} tokens, the weights {vocabulary}: they do not belong together"),
            ));
        }
        Ok(())
    }

    /// Returns a hash of all that decides how text is cut.
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Returns the tokens of a text; control tokens that are spelled out in it are recognised, none is added.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| internal("tokenising a text", error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the tokens of a conversation: only control tokens that the template wrote are recognised.
    pub(crate) fn encode_prompt(&self, prompt: &PromptText) -> Result<Vec<u32>, ModelError> {
        let mut tokens = Vec::new();
        for piece in prompt.pieces() {
            tokens.extend(self.encode(piece)?);
        }
        Ok(tokens)
    }

    /// Returns the tokens of a text for a model without a template: what texts begin with, then the words. Control
    /// tokens that are spelled out in them stay words.
    pub(crate) fn encode_words(&self, words: &str) -> Result<Vec<u32>, ModelError> {
        self.encode_prompt(&self.controls.words_after(self.text_start(), words))
    }

    /// What a text without a template begins with: the beginning of a conversation, where the model has one and its
    /// files do not say otherwise; else nothing.
    fn text_start(&self) -> &str {
        if self.bare { "" } else { self.bos_text() }
    }

    /// Returns a hash of all that decides how a text without a template is laid out.
    pub(crate) fn words_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"no template, but ").update(self.text_start().as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The control tokens, as they are spelled.
    pub(crate) fn controls(&self) -> &ControlTexts {
        &self.controls
    }

    /// Returns the text of tokens, with or without control tokens.
    pub(crate) fn decode(&self, tokens: &[u32], with_control: bool) -> Result<String, ModelError> {
        self.tokenizer.decode(tokens, !with_control).map_err(|error| internal("turning tokens into text", error))
    }

    /// Returns whether a token ends an answer.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.binary_search(&token).is_ok()
    }

    /// The text that begins a conversation, empty when there is none.
    pub(crate) fn bos_text(&self) -> &str {
        self.bos.as_deref().unwrap_or_default()
    }

    /// The text that ends an answer, empty when there is none.
    pub(crate) fn eos_text(&self) -> &str {
        self.eos.as_deref().unwrap_or_default()
    }
}

fn hash_file(path: &Path) -> Result<[u8; 32], ModelError> {
    let bytes = std::fs::read(path).map_err(|error| bad_model(path, format!("cannot be read: {error}")))?;
    Ok(*blake3::hash(&bytes).as_bytes())
}

/// Reads a `tokenizer.json`.
pub(crate) fn read_tokenizer(path: &Path) -> Result<Tokenizer, ModelError> {
    if !path.is_file() {
        return Err(bad_model(
            path,
            "is missing: the model has no tokenizer; fetch the model again, or add the file from the model's page",
        ));
    }
    let mut tokenizer =
        Tokenizer::from_file(path).map_err(|error| bad_model(path, format!("is not a tokenizer: {error}")))?;
    // Settings for training batches, which some exports leave in the file.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| bad_model(path, error))?;
    Ok(tokenizer)
}
