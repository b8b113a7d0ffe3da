//! Sentences as vectors: a BERT encoder, mean pooling, unit length.

#![allow(unsafe_code, reason = "model files are mapped, not copied, while they are read")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use mos_core::{Embedder, EmbeddingSpace, ModelError};
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::error::{bad_model, internal};
use crate::text::read_tokenizer;
use crate::weights::missing;
use crate::weights::safetensors::{read_json, weight_files};

/// Which encoder to load and how to run it.
#[derive(Clone, Debug)]
pub struct EmbedderOptions {
    /// A directory with `config.json`, `tokenizer.json` and `*.safetensors`.
    pub path: PathBuf,
    /// The name of the vectors' space; without it, the directory's name and the beginning of the files' BLAKE3 hash
    /// (`all-minilm-l6-v2@1a2b3c4d`), so that two models of one name are not taken for each other.
    pub name: Option<String>,
    /// Texts are cut at this many tokens; without it, at the model's limit. A larger number is cut to that limit.
    pub max_tokens: Option<usize>,
    /// The most tokens of a batch, padding included.
    pub batch_tokens: usize,
}

impl EmbedderOptions {
    /// Returns the default settings for the encoder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), name: None, max_tokens: None, batch_tokens: 1024 }
    }
}

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
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// A sentence encoder that runs in this process.
pub struct LocalEmbedder {
    inner: Arc<Inner>,
}

struct Inner {
    model: BertModel,
    tokenizer: Tokenizer,
    space: EmbeddingSpace,
    batch_tokens: usize,
    /// One computation at a time: it uses all cores by itself.
    turn: Mutex<()>,
}

impl fmt::Debug for LocalEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEmbedder").field("space", &self.inner.space).finish_non_exhaustive()
    }
}

impl LocalEmbedder {
    /// Loads an encoder; blocks meanwhile.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] when nothing is at the path, [`ModelError::BadModel`] when a file is missing, damaged
    /// or of another architecture.
    pub fn open(options: &EmbedderOptions) -> Result<Arc<Self>, ModelError> {
        let directory = &options.path;
        std::fs::metadata(directory).map_err(|error| missing(directory, &error))?;
        let config_path = directory.join("config.json");
        let config: Config = read_json(&config_path)?;
        if config.model_type.as_deref().is_some_and(|kind| kind != "bert") {
            let kind = config.model_type.as_deref().unwrap_or_default();
            return Err(bad_model(&config_path, format!("the architecture `{kind}` is not supported, only `bert`")));
        }
        let pooling = directory.join("1_Pooling").join("config.json");
        if pooling.exists() && !read_json::<PoolingConfig>(&pooling)?.pooling_mode_mean_tokens {
            return Err(bad_model(&pooling, "only mean pooling is supported"));
        }
        let tokenizer = tokenizer(directory, &config, options.max_tokens)?;
        let dimension = config.hidden_size;
        let model = load_model(directory, &config)?;
        let own_name = || directory.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = match &options.name {
            Some(name) => name.clone(),
            None => format!("{}@{}", own_name().unwrap_or_else(|| "local".to_owned()), files_hash(directory)?),
        };
        let space = EmbeddingSpace { model: name, dimension };
        let batch_tokens = options.batch_tokens.max(1);
        Ok(Arc::new(Self { inner: Arc::new(Inner { model, tokenizer, space, batch_tokens, turn: Mutex::new(()) }) }))
    }
}

fn tokenizer(directory: &Path, config: &Config, wanted: Option<usize>) -> Result<Tokenizer, ModelError> {
    let mut tokenizer = read_tokenizer(&directory.join("tokenizer.json"))?;
    let sentence = directory.join("sentence_bert_config.json");
    let general = directory.join("tokenizer_config.json");
    let mut limit = config.max_position_embeddings;
    if sentence.exists() {
        limit = limit.min(read_json::<SentenceConfig>(&sentence)?.max_seq_length.unwrap_or(limit));
    } else if general.exists() {
        let length = read_json::<TokenizerConfig>(&general)?.model_max_length;
        limit = length.map_or(limit, |length| limit.min(length as usize));
    }
    // Room for the two tokens that frame every text.
    let max_length = limit.min(wanted.unwrap_or(limit)).max(3);
    tokenizer
        .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
        .map_err(|error| bad_model(directory, format!("the tokenizer cannot cut texts: {error}")))?;
    Ok(tokenizer)
}

/// Returns eight hexadecimal digits that name the weights, the tokenizer and the configuration.
fn files_hash(directory: &Path) -> Result<String, ModelError> {
    let mut hasher = blake3::Hasher::new();
    let files = [directory.join("config.json"), directory.join("tokenizer.json")];
    for path in files.into_iter().chain(weight_files(directory)?) {
        let file = std::fs::File::open(&path).map_err(|error| missing(&path, &error))?;
        // SAFETY: the map is read only and dropped at once; a file that is rewritten meanwhile only gets another name.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| missing(&path, &error))?;
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex()[..8].to_owned())
}

fn load_model(directory: &Path, config: &Config) -> Result<BertModel, ModelError> {
    let files = weight_files(directory)?;
    // SAFETY: the maps are read only and live while the weights are copied out of them; whoever rewrites a model file
    // in place at that moment gets a damaged model, as with any other way of reading it.
    let variables = unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &Device::Cpu) };
    variables
        .and_then(|variables| BertModel::load(variables, config))
        .map_err(|error| bad_model(directory, format!("the weights do not fit; fetch the model again ({error})")))
}

#[async_trait]
impl Embedder for LocalEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let (inner, texts) = (Arc::clone(&self.inner), texts.to_vec());
        tokio::task::spawn_blocking(move || inner.embed(texts))
            .await
            .map_err(|error| internal("computing embeddings", error))?
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        Ok(self.inner.space.clone())
    }
}

impl Inner {
    fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, ModelError> {
        let encodings =
            self.tokenizer.encode_batch(texts, true).map_err(|error| internal("tokenising texts", error))?;
        let tokens: Vec<&[u32]> = encodings.iter().map(tokenizers::Encoding::get_ids).collect();
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|&at| tokens[at].len());
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = batches(&order, &tokens, self.batch_tokens);
        let mut vectors = vec![Vec::new(); tokens.len()];
        for (batch, computed) in batches.iter().zip(self.encode_all(&batches, &tokens)) {
            let computed = computed.map_err(|error| internal("computing embeddings", error))?;
            for (&at, vector) in batch.iter().zip(computed) {
                vectors[at] = vector;
            }
        }
        Ok(vectors)
    }

    /// All batches, each by one thread: products of this size do not gain from several.
    fn encode_all(&self, batches: &[&[usize]], tokens: &[&[u32]]) -> Vec<candle_core::Result<Vec<Vec<f32>>>> {
        let encode = |batch: &&[usize]| {
            let rows: Vec<&[u32]> = batch.iter().map(|&at| tokens[at]).collect();
            self.encode(&rows)
        };
        if batches.len() == 1 { batches.iter().map(encode).collect() } else { batches.par_iter().map(encode).collect() }
    }

    /// One batch; texts of one length need no padding and no mask.
    fn encode(&self, rows: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let shape = (rows.len(), longest);
        let padded = |value: fn(u32) -> u32| -> Vec<u32> {
            let fill = |row: &&[u32]| -> Vec<u32> {
                let mut values: Vec<u32> = row.iter().map(|&token| value(token)).collect();
                values.resize(longest, 0);
                values
            };
            rows.iter().flat_map(fill).collect()
        };
        let ids = Tensor::from_vec(padded(|token| token), shape, &Device::Cpu)?;
        let kinds = ids.zeros_like()?;
        let mask = Tensor::from_vec(padded(|_| 1), shape, &Device::Cpu)?;
        let same_length = rows.iter().all(|row| row.len() == longest);
        let hidden = self.model.forward(&ids, &kinds, if same_length { None } else { Some(&mask) })?;
        let weights = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let sums = hidden.broadcast_mul(&weights)?.sum(1)?;
        // The mean and the sum have the same direction.
        let lengths = sums.sqr()?.sum_keepdim(1)?.sqrt()?;
        sums.broadcast_div(&lengths)?.to_vec2::<f32>()
    }
}

/// Cuts texts, sorted by length, into batches of at most `limit` padded tokens (and at least one text).
fn batches<'a>(order: &'a [usize], tokens: &[&[u32]], limit: usize) -> Vec<&'a [usize]> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_hold_every_text_once() {
        let lengths = [1_usize, 2, 2, 5, 9, 9, 30];
        let rows: Vec<Vec<u32>> = lengths.iter().map(|&len| vec![7; len]).collect();
        let tokens: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let order: Vec<usize> = (0..7).collect();
        let batches = batches(&order, &tokens, 18);
        assert_eq!(batches.concat(), order);
        for batch in batches {
            let padded = batch.len() * tokens[*batch.last().unwrap()].len();
            assert!(padded <= 18 || batch.len() == 1, "{batch:?}");
        }
    }
}
