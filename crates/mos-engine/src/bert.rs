//! What models of the BERT and XLM-RoBERTa families share: their files, and tokens in batches.

#![allow(unsafe_code, reason = "model files are mapped, not copied, while they are read")]

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::Config;
use mos_core::ModelError;
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::error::bad_model;
use crate::text::read_tokenizer;
use crate::weights::missing;
use crate::weights::safetensors::{read_json, weight_files};

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    // A float: "no limit" is written as 1e30.
    model_max_length: Option<f64>,
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

/// Returns the architecture of the model in a directory; what names none is `bert`.
pub(crate) fn architecture(directory: &Path) -> Result<String, ModelError> {
    std::fs::metadata(directory).map_err(|error| missing(directory, &error))?;
    let kind = read_json::<Kind>(&directory.join("config.json"))?.model_type;
    Ok(kind.unwrap_or_else(|| "bert".to_owned()))
}

/// Reads the configuration of the BERT model in a directory.
pub(crate) fn config(directory: &Path) -> Result<Config, ModelError> {
    // Before the rest, which other architectures may not have.
    let kind = architecture(directory)?;
    let path = directory.join("config.json");
    if kind != "bert" {
        return Err(bad_model(&path, format!("the architecture `{kind}` is not supported, only `bert`")));
    }
    read_json(&path)
}

/// Reads the tokenizer and lets it cut at `wanted` tokens, else at the model's limit of `positions` or fewer; `least` at
/// the least.
pub(crate) fn tokenizer(
    directory: &Path,
    positions: usize,
    wanted: Option<usize>,
    least: usize,
) -> Result<Tokenizer, ModelError> {
    let mut tokenizer = read_tokenizer(&directory.join("tokenizer.json"))?;
    let sentence = directory.join("sentence_bert_config.json");
    let general = directory.join("tokenizer_config.json");
    let mut limit = positions;
    if sentence.exists() {
        limit = limit.min(read_json::<SentenceConfig>(&sentence)?.max_seq_length.unwrap_or(limit));
    } else if general.exists() {
        let length = read_json::<TokenizerConfig>(&general)?.model_max_length;
        limit = length.map_or(limit, |length| limit.min(length as usize));
    }
    let max_length = limit.min(wanted.unwrap_or(limit)).max(least);
    tokenizer
        .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
        .map_err(|error| bad_model(directory, format!("the tokenizer cannot cut texts: {error}")))?;
    Ok(tokenizer)
}

/// Returns the model's weights by their names.
pub(crate) fn variables(directory: &Path) -> Result<VarBuilder<'static>, ModelError> {
    let files = weight_files(directory)?;
    // SAFETY: the maps are read only and live while the weights are copied out of them; whoever rewrites a model file
    // in place at that moment gets a damaged model, as with any other way of reading it.
    unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &Device::Cpu) }
        .map_err(|error| weights_do_not_fit(directory, &error))
}

pub(crate) fn weights_do_not_fit(directory: &Path, error: &candle_core::Error) -> ModelError {
    bad_model(directory, format!("the weights do not fit; fetch the model again ({error})"))
}

/// Returns the name of the model's folder.
pub(crate) fn folder_name(directory: &Path) -> String {
    let name = || directory.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
    name().unwrap_or_else(|| "local".to_owned())
}

/// Returns the name of the model's folder and eight hexadecimal digits that name its weights, tokenizer and
/// configuration.
pub(crate) fn unique_name(directory: &Path) -> Result<String, ModelError> {
    let mut hasher = blake3::Hasher::new();
    let files = [directory.join("config.json"), directory.join("tokenizer.json")];
    for path in files.into_iter().chain(weight_files(directory)?) {
        let file = std::fs::File::open(&path).map_err(|error| missing(&path, &error))?;
        // SAFETY: the map is read only and dropped at once; a file that is rewritten meanwhile only gets another name.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| missing(&path, &error))?;
        hasher.update(&bytes);
    }
    Ok(format!("{}@{}", folder_name(directory), &hasher.finalize().to_hex()[..8]))
}

/// Returns the places of texts, the shortest first.
pub(crate) fn by_length(tokens: &[&[u32]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|&at| tokens[at].len());
    order
}

/// Cuts texts, sorted by length, into batches of at most `limit` padded tokens (and at least one text).
pub(crate) fn batches<'a>(order: &'a [usize], tokens: &[&[u32]], limit: usize) -> Vec<&'a [usize]> {
    let mut batches = Vec::new();
    let mut start = 0;
    for end in 1..=order.len() {
        // Sorted by length, so the next text would be the longest of the batch.
        let full = order.get(end).is_none_or(|&next| (end + 1 - start) * tokens[next].len() > limit);
        if full {
            batches.push(&order[start..end]);
            start = end;
        }
    }
    batches
}

/// Returns rows of tokens as `u32[rows, longest]`, filled up with the token `fill`.
pub(crate) fn padded(rows: &[&[u32]], fill: u32) -> candle_core::Result<Tensor> {
    rectangle(rows, |token| token, fill)
}

/// Returns `u32[rows, longest]`: 1 where a row has a token, 0 where it was filled up.
pub(crate) fn mask(rows: &[&[u32]]) -> candle_core::Result<Tensor> {
    rectangle(rows, |_| 1, 0)
}

/// Whether all rows have one length, so that they need no mask.
pub(crate) fn is_even(rows: &[&[u32]]) -> bool {
    rows.windows(2).all(|pair| pair[0].len() == pair[1].len())
}

fn rectangle(rows: &[&[u32]], value: impl Fn(u32) -> u32, fill: u32) -> candle_core::Result<Tensor> {
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut values = Vec::with_capacity(rows.len() * longest);
    for (number, row) in rows.iter().enumerate() {
        values.extend(row.iter().map(|&token| value(token)));
        values.resize((number + 1) * longest, fill);
    }
    Tensor::from_vec(values, (rows.len(), longest), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_hold_every_text_once() {
        let lengths = [1_usize, 2, 2, 5, 9, 9, 30];
        let rows: Vec<Vec<u32>> = lengths.iter().map(|&len| vec![7; len]).collect();
        let tokens: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let order = by_length(&tokens);
        let batches = batches(&order, &tokens, 18);
        assert_eq!(batches.concat(), order);
        for batch in batches {
            let padded = batch.len() * tokens[*batch.last().unwrap()].len();
            assert!(padded <= 18 || batch.len() == 1, "{batch:?}");
        }
    }

    #[test]
    fn rows_are_filled_up_and_masked() {
        let rows: [&[u32]; 2] = [&[5, 6], &[7, 8, 9]];
        assert_eq!(padded(&rows, 1).unwrap().to_vec2::<u32>().unwrap(), [[5, 6, 1], [7, 8, 9]]);
        assert_eq!(mask(&rows).unwrap().to_vec2::<u32>().unwrap(), [[1, 1, 0], [1, 1, 1]]);
        assert!(!is_even(&rows) && is_even(&rows[..1]) && is_even(&[]));
    }
}
