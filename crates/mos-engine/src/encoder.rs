//! Sentences as vectors: a BERT or XLM-RoBERTa encoder, one vector of a text's tokens, unit length.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};
use serde::Deserialize;
use tokenizers::{Encoding, Tokenizer};

use crate::bert;
use crate::cpu::CpuPath;
use crate::decoder::Compute;
use crate::error::{bad_model, internal, not_finite};
use crate::sentence_model::SentenceConfig;
use crate::text_encoder::{Hidden, TextEncoder};
use crate::turns::Turns;
use crate::weights::safetensors::read_json;

/// How many texts are cut into tokens at once: tokens with all that is told of them take many times what the text does,
/// and a document has thousands of texts.
const TEXTS_AT_ONCE: usize = 512;

/// The tokens that frame every text.
const FRAME_TOKENS: usize = 2;

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
    /// The most tokens that are computed at once, unless one text alone has more; it bounds the memory that is taken.
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
///
/// A text's vector is the same, bit by bit, whatever it is embedded together with. Each computation uses all cores;
/// calls at the same time take turns, a batch each.
pub struct LocalEmbedder {
    inner: Arc<Inner>,
}

struct Inner {
    model: TextEncoder,
    pooling: Pooling,
    tokenizer: Tokenizer,
    space: EmbeddingSpace,
    batch_tokens: usize,
    /// One batch at a time: it uses all cores by itself.
    turns: Turns,
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
        let least = FRAME_TOKENS + 1;
        let tokenizer = bert::tokenizer(directory, config.positions(), options.max_tokens, least)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let model = config.load(directory, Compute::new(threads, CpuPath::best())?)?;
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
        let turns = Turns::default();
        Ok(Arc::new(Self { inner: Arc::new(Inner { model, pooling, tokenizer, space, batch_tokens, turns }) }))
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_counted(&self, _: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        if texts.is_empty() {
            return Ok(Embedded { vectors: Vec::new(), tokens: Some(0) });
        }
        let (inner, texts) = (Arc::clone(&self.inner), texts.to_vec());
        tokio::task::spawn_blocking(move || inner.embed(texts))
            .await
            .map_err(|error| internal("computing embeddings", error))?
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        Ok(self.inner.space.clone())
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        let limit = self.inner.tokenizer.get_truncation().map(|truncation| truncation.max_length);
        Ok(limit.map(|limit| limit.saturating_sub(FRAME_TOKENS)))
    }
}

impl Inner {
    fn embed(&self, texts: Vec<String>) -> Result<Embedded, ModelError> {
        let mut vectors = Vec::with_capacity(texts.len());
        let mut n_tokens = 0;
        let mut texts = texts.into_iter();
        loop {
            let some: Vec<String> = texts.by_ref().take(TEXTS_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(Embedded { vectors, tokens: Some(n_tokens as u64) });
            }
            n_tokens += self.embed_some(some, &mut vectors)?;
        }
    }

    /// Adds the vectors of some texts; returns how many tokens they have.
    fn embed_some(&self, texts: Vec<String>, vectors: &mut Vec<Vec<f32>>) -> Result<usize, ModelError> {
        let encodings = self.encodings(texts).map_err(|error| internal("tokenising texts", error))?;
        let tokens: Vec<&[u32]> = encodings.iter().map(Encoding::get_ids).collect();
        if tokens.iter().any(|tokens| tokens.is_empty()) {
            return Err(ModelError::Invalid(
                "a text has no tokens, and the model's tokenizer adds none: it has no vector; leave it out".to_owned(),
            ));
        }
        let n_tokens: usize = tokens.iter().map(|tokens| tokens.len()).sum();
        for batch in batches(&tokens, self.batch_tokens) {
            let texts = &tokens[batch];
            let turn = self.turns.wait();
            let hidden = self.model.hidden(texts)?;
            drop(turn);
            let mut row = 0;
            for text in texts {
                vectors.push(self.pool(&hidden, row..row + text.len())?);
                row += text.len();
            }
        }
        Ok(n_tokens)
    }

    fn encodings(&self, mut texts: Vec<String>) -> tokenizers::Result<Vec<Encoding>> {
        match texts.len() {
            // A question alone is not worth waking other threads for.
            1 => Ok(vec![self.tokenizer.encode(texts.remove(0), true)?]),
            _ => self.tokenizer.encode_batch(texts, true),
        }
    }

    /// Returns the vector of a text whose tokens' vectors are those in `rows`.
    fn pool(&self, hidden: &Hidden, rows: Range<usize>) -> Result<Vec<f32>, ModelError> {
        let mut vector = hidden.row(rows.start).to_vec();
        if self.pooling == Pooling::Mean {
            // The mean and the sum have the same direction.
            for row in rows.skip(1) {
                vector.iter_mut().zip(hidden.row(row)).for_each(|(sum, value)| *sum += value);
            }
        }
        let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
        vector.iter_mut().for_each(|value| *value /= length);
        if vector.iter().all(|value| value.is_finite()) { Ok(vector) } else { Err(not_finite("embeddings")) }
    }
}

/// Cuts texts into runs of at most `limit` tokens (and at least one text).
fn batches(tokens: &[&[u32]], limit: usize) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (number, text) in tokens.iter().enumerate() {
        if number > start && sum + text.len() > limit {
            batches.push(start..number);
            (start, sum) = (number, 0);
        }
        sum += text.len();
    }
    if start < tokens.len() {
        batches.push(start..tokens.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_hold_every_text_once() {
        let rows: Vec<Vec<u32>> = [5, 30, 1, 2, 9, 9, 18, 2, 2].iter().map(|&len| vec![7; len]).collect();
        let tokens: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        assert_eq!(batches(&tokens, 18), [0..1, 1..2, 2..5, 5..6, 6..7, 7..9]);
        assert_eq!(batches(&tokens, 1).len(), tokens.len());
        assert_eq!(batches(&tokens, 1000), std::slice::from_ref(&(0..9)));
        assert!(batches(&[], 18).is_empty());
    }
}
