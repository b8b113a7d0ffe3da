//! The tokenizer of Llama 2 and Gemma inside a GGUF file: pieces with scores, put together best score first.

use std::collections::HashSet;

use mos_core::ModelError;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::{DecoderWrapper, Tokenizer};

use super::gguf_tokenizer::{NORMAL, remedy};
use crate::error::bad_model;
use crate::weights::gguf::GgufFile;

/// The longest piece, in bytes, that is put together from others: far longer than any that a text contains. Longer
/// ones would take work without end, since every pair of their parts is tried.
const LONGEST_PIECE: usize = 1024;
/// The most bytes of all pairs together: ten times what large vocabularies have.
const MOST_PAIR_BYTES: usize = 64 << 20;

/// What stands for a space inside pieces.
const SPACE: &str = "\u{2581}";

/// Builds the tokenizer, without the tokens that are matched as a whole.
pub(super) fn build(file: &GgufFile, tokens: &[&str]) -> Result<Tokenizer, ModelError> {
    let (Some(scores), Some(kinds)) =
        (file.floats("tokenizer.ggml.scores"), file.integers("tokenizer.ggml.token_type"))
    else {
        return Err(remedy(file, "the tokenizer in the file has no scores or no kinds of tokens".to_owned()));
    };
    if scores.len() != tokens.len() || kinds.len() != tokens.len() {
        return Err(remedy(file, "the tokenizer in the file has not one score and one kind for each token".to_owned()));
    }
    let vocabulary: Vocab = (0_u32..).zip(tokens).map(|(id, token)| ((*token).to_owned(), id)).collect();
    let merges = merges(tokens, &scores, &kinds)
        .ok_or_else(|| remedy(file, "the pieces of the vocabulary make too many pairs".to_owned()))?;
    let mut builder = BPE::builder().vocab_and_merges(vocabulary, merges).byte_fallback(true).fuse_unk(true);
    let unknown = file.integer("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(id));
    if let Some(unknown) = unknown {
        builder = builder.unk_token((*unknown).to_owned());
    }
    let pieces =
        builder.build().map_err(|error| remedy(file, format!("the vocabulary is not understood ({error})")))?;
    let mut tokenizer = Tokenizer::new(pieces);
    let first_space = file.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let failed = |error| bad_model(file.path(), format!("the tokenizer cannot be built: {error}"));
    tokenizer.with_normalizer(Some(normalizer(first_space).map_err(failed)?)).map_err(failed)?;
    tokenizer.with_decoder(Some(decoder(first_space).map_err(failed)?));
    Ok(tokenizer)
}

/// Spaces become visible; with `first_space`, a text begins with one.
fn normalizer(first_space: bool) -> tokenizers::Result<NormalizerWrapper> {
    let spaces = Replace::new(" ", SPACE)?;
    if !first_space {
        return Ok(spaces.into());
    }
    Ok(Normalizers::new(vec![Prepend::new(SPACE.to_owned()).into(), spaces.into()]).into())
}

fn decoder(first_space: bool) -> tokenizers::Result<DecoderWrapper> {
    let mut steps: Vec<DecoderWrapper> =
        vec![Replace::new(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if first_space {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps).into())
}

/// All pairs of pieces that make a piece, best score of the result first; of one piece's pairs, that with the longest
/// beginning first, as the formats' own converters order them. `None` when there are too many.
fn merges(tokens: &[&str], scores: &[f32], kinds: &[usize]) -> Option<Vec<(String, String)>> {
    let normal = |&(token, kind): &(&&str, &usize)| *kind == NORMAL && token.len() <= LONGEST_PIECE;
    let pieces: HashSet<&str> = tokens.iter().zip(kinds).filter(normal).map(|(token, _)| *token).collect();
    let mut pairs: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    let mut bytes = 0;
    for ((token, kind), score) in tokens.iter().zip(kinds).zip(scores) {
        if !normal(&(token, kind)) {
            continue;
        }
        let characters = token.chars().count();
        for (left_characters, (at, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(at);
            if pieces.contains(left) && pieces.contains(right) {
                bytes += token.len();
                if bytes > MOST_PAIR_BYTES {
                    return None;
                }
                pairs.push((*score, left_characters, characters - left_characters, left, right));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
    Some(pairs.into_iter().map(|(_, _, _, left, right)| (left.to_owned(), right.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges_of(tokens: &[String]) -> Option<Vec<(String, String)>> {
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        merges(&tokens, &vec![0.0; tokens.len()], &vec![NORMAL; tokens.len()])
    }

    #[test]
    fn pieces_longer_than_any_text_are_not_put_together() {
        let run = |len: usize| "a".repeat(len);
        let tokens = [run(1), run(LONGEST_PIECE - 1), run(LONGEST_PIECE), run(LONGEST_PIECE + 1), run(300_000)];
        let longest = [(run(LONGEST_PIECE - 1), run(1)), (run(1), run(LONGEST_PIECE - 1))];
        assert_eq!(merges_of(&tokens).unwrap(), longest);
    }

    #[test]
    fn vocabularies_whose_pairs_fill_the_memory_are_refused() {
        let runs = |longest: usize| -> Vec<String> { (1..=longest).map(|len| "a".repeat(len)).collect() };
        // 405 kB of tokens, 243 MB of pairs.
        assert!(merges_of(&runs(900)).is_none());
        assert_eq!(merges_of(&runs(200)).unwrap().len(), 200 * 199 / 2);
    }
}
