//! The tokenizer inside a GGUF file: byte-level BPE with the usual ways of splitting text first, or the pieces of
//! SentencePiece.

use mos_core::ModelError;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::gguf_pieces;
use crate::error::bad_model;
use crate::weights::gguf::GgufFile;

/// How Llama 3 splits text.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 splits text.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The kind of tokens that text is put together from.
pub(super) const NORMAL: usize = 1;
/// The kinds of tokens in the file that are matched as a whole.
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

/// The most bytes of all tokens together, and of all merges: ten times what large vocabularies have.
const MOST_TEXT_BYTES: usize = 32 << 20;

/// Builds the tokenizer.
///
/// # Errors
/// [`ModelError::BadModel`] when the file has none or one of another kind; the text says what to add.
pub(super) fn build(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let model =
        file.text("tokenizer.ggml.model").ok_or_else(|| remedy(file, "the file has no tokenizer".to_owned()))?;
    let tokens = file
        .texts("tokenizer.ggml.tokens")
        .ok_or_else(|| remedy(file, "the tokenizer in the file has no vocabulary".to_owned()))?;
    check_text(file, &tokens)?;
    let mut tokenizer = match model {
        "gpt2" => byte_level(file, &tokens)?,
        "llama" => gguf_pieces::build(file, &tokens)?,
        other => return Err(remedy(file, format!("the tokenizer kind `{other}` cannot be built from the file"))),
    };
    add_whole_tokens(file, &tokens, &mut tokenizer)?;
    Ok(tokenizer)
}

/// Refuses texts that no vocabulary needs.
fn check_text(file: &GgufFile, texts: &[&str]) -> Result<(), ModelError> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    if bytes > MOST_TEXT_BYTES {
        return Err(remedy(file, format!("{bytes} bytes of text in the vocabulary are more than any has")));
    }
    Ok(())
}

fn byte_level(file: &GgufFile, tokens: &[&str]) -> Result<Tokenizer, ModelError> {
    let merges = file
        .texts("tokenizer.ggml.merges")
        .ok_or_else(|| remedy(file, "the tokenizer in the file has no merges".to_owned()))?;
    check_text(file, &merges)?;
    let ids = (0_u32..).zip(tokens);
    let vocabulary: Vocab = ids.map(|(id, token)| ((*token).to_owned(), id)).collect();
    let merges = merges
        .into_iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| remedy(file, "a merge of the tokenizer is not a pair".to_owned()))?;
    let splitting = file.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
    let whole_words = matches!(splitting, "llama-bpe" | "llama3" | "llama-v3");
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(whole_words)
        .build()
        .map_err(|error| remedy(file, format!("the vocabulary is not understood ({error})")))?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer(file, splitting)?));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    if splitting == "qwen2" {
        tokenizer.with_normalizer(Some(NFC)).map_err(|error| bad_model(file.path(), error))?;
    }
    Ok(tokenizer)
}

/// Returns a hash of the settings that [`build`] reads.
pub(super) fn hash(file: &GgufFile) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Lengths keep neighbours apart.
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    for key in ["tokenizer.ggml.model", "tokenizer.ggml.pre"] {
        add(file.text(key).unwrap_or_default());
    }
    for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.merges"] {
        add(key);
        file.texts(key).unwrap_or_default().into_iter().for_each(&mut add);
    }
    add("tokenizer.ggml.token_type");
    for kind in file.integers("tokenizer.ggml.token_type").unwrap_or_default() {
        hasher.update(&(kind as u64).to_le_bytes());
    }
    hasher.update(b"tokenizer.ggml.scores");
    for score in file.floats("tokenizer.ggml.scores").unwrap_or_default() {
        hasher.update(&score.to_le_bytes());
    }
    let first_space = file.flag("tokenizer.ggml.add_space_prefix");
    let unknown = file.integer("tokenizer.ggml.unknown_token_id");
    hasher.update(format!("{first_space:?} {unknown:?}").as_bytes());
    *hasher.finalize().as_bytes()
}

fn pre_tokenizer(file: &GgufFile, splitting: &str) -> Result<PreTokenizerWrapper, ModelError> {
    let split = |pattern: &str| {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| remedy(file, format!("the splitting pattern is not understood ({error})")))
    };
    let bytes = ByteLevel::new(false, false, false);
    Ok(match splitting {
        "smollm" => Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, false, true).into()]).into(),
        "gpt-2" | "gpt2" | "default" => ByteLevel::new(false, false, true).into(),
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => {
            Sequence::new(vec![split(LLAMA3)?.into(), bytes.into()]).into()
        }
        "qwen2" => Sequence::new(vec![split(QWEN2)?.into(), bytes.into()]).into(),
        other => return Err(remedy(file, format!("the way `{other}` of splitting text is not known"))),
    })
}

/// Control tokens are hidden from answers; user-defined ones are text, but never cut.
fn add_whole_tokens(file: &GgufFile, tokens: &[&str], tokenizer: &mut Tokenizer) -> Result<(), ModelError> {
    let kinds = file.integers("tokenizer.ggml.token_type").unwrap_or_default();
    let of_kind = |kind: usize, special: bool| -> Vec<AddedToken> {
        let pairs = tokens.iter().zip(&kinds).filter(|(_, found)| **found == kind);
        pairs.map(|(token, _)| AddedToken::from((*token).to_owned(), special).normalized(false)).collect()
    };
    let failed = |error| bad_model(file.path(), format!("a control token is not understood: {error}"));
    tokenizer.add_special_tokens(of_kind(CONTROL, true)).map_err(failed)?;
    let failed = |error| bad_model(file.path(), format!("a token is not understood: {error}"));
    tokenizer.add_tokens(of_kind(USER_DEFINED, false)).map_err(failed)?;
    Ok(())
}

pub(super) fn remedy(file: &GgufFile, what: String) -> ModelError {
    bad_model(file.path(), format!("{what}; put the tokenizer.json from the model's page beside the file"))
}
