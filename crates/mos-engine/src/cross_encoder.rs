//! A cross-encoder: question and text are read together, and one number says how well they fit.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use candle_nn::{Linear, Module, VarBuilder};
use mos_core::{ModelError, Ranked, RerankCandidate, RerankQuery, Reranker};
use rayon::prelude::*;
use tokenizers::{Encoding, Tokenizer};

use crate::bert;
use crate::error::{bad_model, internal, not_finite};
use crate::sentence_model::{SentenceConfig, SentenceModel};

/// Which cross-encoder to load and how to run it.
#[derive(Clone, Debug)]
pub struct CrossEncoderOptions {
    /// A directory with `config.json`, `tokenizer.json` and `*.safetensors` of a BERT or XLM-RoBERTa model for the
    /// classification of sequences with one output, for example ms-marco-MiniLM-L-6-v2 or bge-reranker-v2-m3.
    pub path: PathBuf,
    /// The name that explanations of hits show; without it, the directory's name.
    pub name: Option<String>,
    /// Pairs are cut at this many tokens, the longer part first; without it, at the model's limit. A larger number is
    /// cut to that limit.
    pub max_tokens: Option<usize>,
    /// The most tokens of a batch, padding included.
    pub batch_tokens: usize,
}

impl CrossEncoderOptions {
    /// Returns the default settings for the cross-encoder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), name: None, max_tokens: None, batch_tokens: 1024 }
    }
}

/// The fewest tokens of a pair: three that frame it, and some of either part.
const LEAST_TOKENS: usize = 8;

/// A cross-encoder that runs in this process. Scores are probabilities, from 0 to 1.
pub struct LocalCrossEncoder {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    model: SentenceModel,
    pooler: Linear,
    classifier: Linear,
    tokenizer: Tokenizer,
    batch_tokens: usize,
    /// One computation at a time: it uses all cores by itself.
    turn: Mutex<()>,
}

impl fmt::Debug for LocalCrossEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCrossEncoder").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl LocalCrossEncoder {
    /// Loads a cross-encoder; blocks meanwhile.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] when nothing is at the path, [`ModelError::BadModel`] when a file is missing, damaged
    /// or of another architecture.
    pub fn open(options: &CrossEncoderOptions) -> Result<Arc<Self>, ModelError> {
        let directory = &options.path;
        let config = SentenceConfig::read(directory)?;
        let tokenizer = bert::tokenizer(directory, config.positions(), options.max_tokens, LEAST_TOKENS)?;
        let variables = bert::variables(directory)?;
        let head = Head::of(&config);
        // An encoder without a head answers anything; only this tells the two apart.
        let weight = format!("{}.weight", head.classifier);
        if !variables.contains_tensor(&weight) {
            return Err(bad_model(
                directory,
                format!(
                    "has no tensor `{weight}`: it is no cross-encoder; use a BERT or XLM-RoBERTa model for the \
                     classification of sequences, for example ms-marco-MiniLM-L-6-v2"
                ),
            ));
        }
        let (model, pooler, classifier) = load(variables, &config, &head).map_err(|error| {
            let detail = format!(
                "the weights do not fit a cross-encoder with one output; fetch the model again, or use another ({error})"
            );
            bad_model(directory, detail)
        })?;
        let name = options.name.clone().unwrap_or_else(|| bert::folder_name(directory));
        let batch_tokens = options.batch_tokens.max(1);
        let turn = Mutex::new(());
        Ok(Arc::new(Self { inner: Arc::new(Inner { name, model, pooler, classifier, tokenizer, batch_tokens, turn }) }))
    }
}

/// Where the head's two layers are: the first one, and the one with the output.
struct Head {
    pooler: &'static str,
    classifier: &'static str,
}

impl Head {
    fn of(config: &SentenceConfig) -> Self {
        match config {
            SentenceConfig::Bert(_) => Self { pooler: "bert.pooler.dense", classifier: "classifier" },
            SentenceConfig::XlmRoberta(_) => Self { pooler: "classifier.dense", classifier: "classifier.out_proj" },
        }
    }
}

fn load(
    variables: VarBuilder<'static>,
    config: &SentenceConfig,
    head: &Head,
) -> candle_core::Result<(SentenceModel, Linear, Linear)> {
    let width = config.dimension();
    let pooler = candle_nn::linear(width, width, variables.pp(head.pooler))?;
    let classifier = candle_nn::linear(width, 1, variables.pp(head.classifier))?;
    let model = match config {
        SentenceConfig::Bert(_) => config.load_from(variables.pp("bert"))?,
        SentenceConfig::XlmRoberta(_) => config.load_from(variables)?,
    };
    Ok((model, pooler, classifier))
}

#[async_trait]
impl Reranker for LocalCrossEncoder {
    fn name(&self) -> &str {
        &self.inner.name
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        if candidates.is_empty() || top_k == 0 {
            return Ok(Vec::new());
        }
        let pairs: Vec<(String, String)> =
            candidates.iter().map(|candidate| (query.text.to_owned(), candidate.text.to_owned())).collect();
        let inner = Arc::clone(&self.inner);
        let scores = tokio::task::spawn_blocking(move || inner.scores(pairs))
            .await
            .map_err(|error| internal("computing scores", error))??;
        let ranked = scores.into_iter().enumerate().map(|(index, score)| Ranked { index, score }).collect();
        Ok(Ranked::best_first(ranked, top_k))
    }
}

impl Inner {
    /// Returns the score of every pair.
    fn scores(&self, pairs: Vec<(String, String)>) -> Result<Vec<f32>, ModelError> {
        let encodings =
            self.tokenizer.encode_batch(pairs, true).map_err(|error| internal("tokenising texts", error))?;
        let tokens: Vec<&[u32]> = encodings.iter().map(Encoding::get_ids).collect();
        let order = bert::by_length(&tokens);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = bert::batches(&order, &tokens, self.batch_tokens);
        let compute = |batch: &&[usize]| self.logits(batch, &encodings);
        // Each batch by one thread: products of this size do not gain from several.
        let computed: Vec<candle_core::Result<Vec<f32>>> = if batches.len() == 1 {
            batches.iter().map(compute).collect()
        } else {
            batches.par_iter().map(compute).collect()
        };
        let mut scores = vec![0.0; tokens.len()];
        for (batch, logits) in batches.iter().zip(computed) {
            let logits = logits.map_err(|error| internal("computing scores", error))?;
            for (&at, logit) in batch.iter().zip(logits) {
                if !logit.is_finite() {
                    return Err(not_finite("scores"));
                }
                scores[at] = probability(logit);
            }
        }
        Ok(scores)
    }

    /// One batch.
    fn logits(&self, batch: &[usize], encodings: &[Encoding]) -> candle_core::Result<Vec<f32>> {
        let rows: Vec<&[u32]> = batch.iter().map(|&at| encodings[at].get_ids()).collect();
        let parts: Vec<&[u32]> = batch.iter().map(|&at| encodings[at].get_type_ids()).collect();
        let hidden = self.model.hidden(&rows, &parts)?;
        let first = hidden.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        let pooled = self.pooler.forward(&first)?.tanh()?;
        self.classifier.forward(&pooled)?.squeeze(1)?.to_vec1::<f32>()
    }
}

/// Returns the probability that a logit stands for.
fn probability(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}
