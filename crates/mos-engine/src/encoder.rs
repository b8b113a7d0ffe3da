//! Sentences as vectors: a BERT or XLM-RoBERTa encoder, one vector of a text's tokens, unit length.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use candle_core::{DType, Tensor};
use mos_core::{Embedder, EmbeddingSpace, ModelError};
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::bert;
use crate::error::{bad_model, internal, not_finite};
use crate::sentence_model::{SentenceConfig, SentenceModel};
use crate::weights::safetensors::read_json;

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
    /// How the vectors of tokens become one; without it, what `1_Pooling/config.json` says, else their mean.
    pub pooling: Option<Pooling>,
    /// The most tokens of a batch, padding included.
    pub batch_tokens: usize,
}

/// How the vectors of a text's tokens become the vector of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's, as bge models have it.
    FirstToken,
}

impl EmbedderOptions {
    /// Returns the default settings for the encoder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), name: None, max_tokens: None, pooling: None, batch_tokens: 1024 }
    }
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
}

impl Pooling {
    /// Returns what the folder of a model says.
    fn of(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join("1_Pooling").join("config.json");
        if !path.exists() {
            return Ok(Self::Mean);
        }
        let config: PoolingConfig = read_json(&path)?;
        match (config.pooling_mode_mean_tokens, config.pooling_mode_cls_token) {
            (true, false) => Ok(Self::Mean),
            (false, true) => Ok(Self::FirstToken),
            _ => Err(bad_model(&path, "only the mean of the tokens, or the first one (cls), is supported")),
        }
    }
}

/// A sentence encoder that runs in this process.
pub struct LocalEmbedder {
    inner: Arc<Inner>,
}

struct Inner {
    model: SentenceModel,
    pooling: Pooling,
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
        let config = SentenceConfig::read(directory)?;
        let of_folder = Pooling::of(directory)?;
        let pooling = options.pooling.unwrap_or(of_folder);
        // Room for the two tokens that frame every text.
        let tokenizer = bert::tokenizer(directory, config.positions(), options.max_tokens, 3)?;
        let model = config.load(directory)?;
        let mut name = match &options.name {
            Some(name) => name.clone(),
            None => bert::unique_name(directory)?,
        };
        if pooling != of_folder {
            // Its vectors do not fit those that others compute with the same files.
            name.push_str(match pooling {
                Pooling::Mean => " (mean)",
                Pooling::FirstToken => " (cls)",
            });
        }
        let space = EmbeddingSpace { model: name, dimension: config.dimension() };
        let batch_tokens = options.batch_tokens.max(1);
        let turn = Mutex::new(());
        Ok(Arc::new(Self { inner: Arc::new(Inner { model, pooling, tokenizer, space, batch_tokens, turn }) }))
    }
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
        let order = bert::by_length(&tokens);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = bert::batches(&order, &tokens, self.batch_tokens);
        let mut vectors = vec![Vec::new(); tokens.len()];
        for (batch, computed) in batches.iter().zip(self.encode_all(&batches, &tokens)) {
            let computed = computed.map_err(|error| internal("computing embeddings", error))?;
            for (&at, vector) in batch.iter().zip(computed) {
                if vector.iter().any(|value| !value.is_finite()) {
                    return Err(not_finite("embeddings"));
                }
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

    /// One batch.
    fn encode(&self, rows: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let hidden = self.model.hidden(rows, None)?;
        let vectors = match self.pooling {
            // The mean and the sum have the same direction.
            Pooling::Mean => {
                let weights = bert::mask(rows)?.to_dtype(DType::F32)?.unsqueeze(2)?;
                hidden.broadcast_mul(&weights)?.sum(1)?
            }
            Pooling::FirstToken => hidden.narrow(1, 0, 1)?.squeeze(1)?,
        };
        unit_length(&vectors)?.to_vec2::<f32>()
    }
}

fn unit_length(vectors: &Tensor) -> candle_core::Result<Tensor> {
    let lengths = vectors.sqr()?.sum_keepdim(1)?.sqrt()?;
    vectors.broadcast_div(&lengths)
}
