//! Sentences as vectors: a BERT or XLM-RoBERTa encoder, one vector of a text's tokens, unit length.

mod gather;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
use crate::weights::safetensors::read_json;
use gather::{Gatherer, Line};

/// How many texts are cut into tokens at once: tokens with all that is told of them take many times what the text does,
/// and a document has thousands of texts.
const TEXTS_AT_ONCE: usize = 512;

/// Requests of more bytes, or more texts, are long: they take turns, and do not hold up questions.
const SHORT_BYTES: usize = 1024;
const SHORT_TEXTS: usize = 8;

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
    /// The most tokens that are computed at once, unless one text alone has more; it bounds the memory that is taken, and
    /// how long a question waits for the texts of others.
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
        Self { path: path.into(), name: None, max_tokens: None, pooling: None, batch_tokens: 512 }
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
/// A text's vector is the same, bit by bit, whatever it is embedded together with. Each computation uses all cores; what is
/// asked meanwhile is computed together afterwards, and short texts do not wait for all of a long request.
pub struct LocalEmbedder {
    tokenizer: Arc<Tokenizer>,
    space: EmbeddingSpace,
    /// One batch at a time: it uses all cores by itself.
    gatherer: Gatherer,
}

/// What makes vectors of tokens.
struct Encoder {
    model: TextEncoder,
    pooling: Pooling,
}

impl fmt::Debug for LocalEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEmbedder").field("space", &self.space).finish_non_exhaustive()
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
        let encoder = Encoder { model, pooling };
        let gatherer = Gatherer::start(options.batch_tokens.max(1), move |texts| encoder.vectors(texts))?;
        Ok(Arc::new(Self { tokenizer: Arc::new(tokenizer), space, gatherer }))
    }

    /// Returns the tokens of texts.
    async fn tokens(&self, line: Line, texts: &[String]) -> Result<Vec<Vec<u32>>, ModelError> {
        if line == Line::Short {
            // Some microseconds: not worth another thread.
            return tokenised(|| texts.iter().map(|text| self.tokenizer.encode(text.as_str(), true)).collect());
        }
        let (tokenizer, texts) = (Arc::clone(&self.tokenizer), texts.to_vec());
        tokio::task::spawn_blocking(move || tokenised(|| tokenizer.encode_batch(texts, true)))
            .await
            .map_err(|error| internal("tokenising texts", error))?
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_counted(&self, _: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let line = line_of(texts);
        let mut vectors = Vec::with_capacity(texts.len());
        let mut n_tokens = 0;
        for some in texts.chunks(TEXTS_AT_ONCE) {
            let places = self.gatherer.places(line, some.len()).await?;
            let tokens = self.tokens(line, some).await?;
            n_tokens += tokens.iter().map(Vec::len).sum::<usize>();
            vectors.extend(places.vectors(tokens).await?);
        }
        Ok(Embedded { vectors, tokens: Some(n_tokens as u64) })
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        Ok(self.space.clone())
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        let limit = self.tokenizer.get_truncation().map(|truncation| truncation.max_length);
        Ok(limit.map(|limit| limit.saturating_sub(FRAME_TOKENS)))
    }
}

/// Returns where a request waits.
fn line_of(texts: &[String]) -> Line {
    let n_bytes: usize = texts.iter().map(String::len).sum();
    if texts.len() <= SHORT_TEXTS && n_bytes <= SHORT_BYTES { Line::Short } else { Line::Long }
}

/// Returns the tokens alone: what else a tokenizer tells takes many times their space. A defect that one text shows is an
/// error like any other; what it says is left out, because it may quote the text.
fn tokenised(encode: impl FnOnce() -> tokenizers::Result<Vec<Encoding>>) -> Result<Vec<Vec<u32>>, ModelError> {
    let encodings = catch_unwind(AssertUnwindSafe(encode))
        .map_err(|_| internal("tokenising texts", "the model's tokenizer panicked; leave the text out"))?
        .map_err(|error| internal("tokenising texts", error))?;
    let tokens: Vec<Vec<u32>> = encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect();
    if tokens.iter().any(Vec::is_empty) {
        return Err(ModelError::Invalid(
            "a text has no tokens, and the model's tokenizer adds none: it has no vector; leave it out".to_owned(),
        ));
    }
    Ok(tokens)
}

impl Encoder {
    /// Returns the vectors of texts, given as tokens.
    fn vectors(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        let hidden = self.model.hidden(texts)?;
        let mut row = 0;
        let vector = |text: &&[u32]| {
            let rows = row..row + text.len();
            row = rows.end;
            self.pool(&hidden, rows)
        };
        texts.iter().map(vector).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_short_and_documents_are_not() {
        let texts = |n_texts: usize, n_bytes: usize| vec!["x".repeat(n_bytes); n_texts];
        assert_eq!(line_of(&texts(1, SHORT_BYTES)), Line::Short);
        assert_eq!(line_of(&texts(SHORT_TEXTS, 20)), Line::Short);
        assert_eq!(line_of(&texts(1, SHORT_BYTES + 1)), Line::Long);
        assert_eq!(line_of(&texts(SHORT_TEXTS + 1, 20)), Line::Long);
        assert_eq!(line_of(&texts(2, SHORT_BYTES)), Line::Long);
    }

    #[test]
    fn a_tokenizer_that_panics_is_an_error_that_quotes_nothing() {
        let error = tokenised(|| panic!("byte index 1 is not a char boundary of `my secret`")).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, ModelError::Internal { .. }) && said.contains("tokenizer panicked"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
