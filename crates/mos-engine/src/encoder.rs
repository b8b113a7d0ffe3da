//! Sentences as vectors: a BERT encoder, mean pooling, unit length.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use candle_core::DType;
use candle_transformers::models::bert::BertModel;
use mos_core::{Embedder, EmbeddingSpace, ModelError};
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::bert;
use crate::error::{bad_model, internal};
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
        let config = bert::config(directory)?;
        let pooling = directory.join("1_Pooling").join("config.json");
        if pooling.exists() && !read_json::<PoolingConfig>(&pooling)?.pooling_mode_mean_tokens {
            return Err(bad_model(&pooling, "only mean pooling is supported"));
        }
        // Room for the two tokens that frame every text.
        let tokenizer = bert::tokenizer(directory, &config, options.max_tokens, 3)?;
        let dimension = config.hidden_size;
        let model = BertModel::load(bert::variables(directory)?, &config)
            .map_err(|error| bert::weights_do_not_fit(directory, &error))?;
        let name = match &options.name {
            Some(name) => name.clone(),
            None => bert::unique_name(directory)?,
        };
        let space = EmbeddingSpace { model: name, dimension };
        let batch_tokens = options.batch_tokens.max(1);
        Ok(Arc::new(Self { inner: Arc::new(Inner { model, tokenizer, space, batch_tokens, turn: Mutex::new(()) }) }))
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
        let (ids, mask) = (bert::padded(rows)?, bert::mask(rows)?);
        let kinds = ids.zeros_like()?;
        let hidden = self.model.forward(&ids, &kinds, if bert::is_even(rows) { None } else { Some(&mask) })?;
        let weights = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let sums = hidden.broadcast_mul(&weights)?.sum(1)?;
        // The mean and the sum have the same direction.
        let lengths = sums.sqr()?.sum_keepdim(1)?.sqrt()?;
        sums.broadcast_div(&lengths)?.to_vec2::<f32>()
    }
}
