//! The tokenizer inside a GGUF file: byte-level BPE with the usual ways of splitting text first.

use mos_core::ModelError;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::error::bad_model;
use crate::weights::gguf::GgufFile;

/// How Llama 3 splits text.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 splits text.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The kinds of tokens in the file that are matched as a whole.
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

/// Builds the tokenizer.
///
/// # Errors
/// [`ModelError::BadModel`] when the file has none or one of another kind; the text says what to add.
pub(super) fn build(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let model =
        file.text("tokenizer.ggml.model").ok_or_else(|| remedy(file, "the file has no tokenizer".to_owned()))?;
    if model != "gpt2" {
        return Err(remedy(file, format!("the tokenizer kind `{model}` cannot be built from the file")));
    }
    let (Some(tokens), Some(merges)) = (file.texts("tokenizer.ggml.tokens"), file.texts("tokenizer.ggml.merges"))
    else {
        return Err(remedy(file, "the file has no vocabulary or no merges".to_owned()));
    };
    let ids = (0_u32..).zip(&tokens);
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
    add_whole_tokens(file, &tokens, &mut tokenizer)?;
    Ok(tokenizer)
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

fn remedy(file: &GgufFile, what: String) -> ModelError {
    bad_model(file.path(), format!("{what}; put the tokenizer.json from the model's page beside the file"))
}
