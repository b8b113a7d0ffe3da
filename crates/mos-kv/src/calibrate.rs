//! How far lossy merges are from the truth, per model.
//!
//! Each case is a few memories and a question. The prompt computed as a whole, and continued by the model itself, is
//! the truth; every strategy then scores the same tokens, and what counts is how far its probabilities are away (KL
//! divergence, in nats) and how often its likeliest token is the same.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mos_core::{Clock, Message};
use mos_engine::{CancelToken, Decoder, KvPrefix, KvSegment, LogitRows, ModelIdentity};
use serde::{Deserialize, Serialize};

use crate::atomic::write_bytes;
use crate::error::KvError;
use crate::extract::{ExtractInput, KvExtractor};
use crate::merge::{MergeStrategy, merge};

const FORMAT: &str = "mos-kv-calibration/1";
const FORMAT_START: &str = "mos-kv-calibration/";

/// Memories that stand together before a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationCase {
    /// The memories, at least two: one alone is exact.
    pub memories: Vec<String>,
    /// The question.
    pub question: String,
}

/// What a strategy must reach, and how it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationLimits {
    /// The most KL divergence, in nats, on average over all tokens.
    pub max_mean_kl: f64,
    /// The least share of tokens whose likeliest token is the same.
    pub min_top1: f64,
    /// Tokens of the model's own answer that are scored after each question.
    pub answer_tokens: usize,
}

impl Default for CalibrationLimits {
    fn default() -> Self {
        Self { max_mean_kl: 0.1, min_top1: 0.9, answer_tokens: 16 }
    }
}

/// What was found out about a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategyVerdict {
    /// The strategy.
    pub strategy: MergeStrategy,
    /// KL divergence from the truth, in nats, on average over all tokens.
    pub mean_kl: f64,
    /// Share of tokens whose likeliest token is the same, 0 to 1.
    pub top1: f64,
    /// Whether automatic choice may use it.
    pub passed: bool,
}

/// What was found out about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    format: String,
    /// The model.
    pub model: ModelIdentity,
    /// When, ISO 8601.
    pub measured_at: String,
    /// Questions that were asked.
    pub n_cases: usize,
    /// Tokens that were scored.
    pub n_tokens: usize,
    /// What was asked for.
    pub limits: CalibrationLimits,
    /// KL divergence and share of equal tokens when the memories are left out: what being useless looks like.
    pub without_memories: (f64, f64),
    /// One verdict per strategy, in the order in which they were given.
    pub verdicts: Vec<StrategyVerdict>,
}

impl Calibration {
    /// Returns whether a strategy passed.
    pub fn passed(&self, strategy: MergeStrategy) -> bool {
        self.verdicts.iter().any(|verdict| verdict.strategy == strategy && verdict.passed)
    }

    /// Returns the first strategy that passed in the order from the cheapest to the dearest: nothing recomputed,
    /// a fixed number of tokens per item, a share of all tokens.
    pub fn cheapest_passed(&self) -> Option<MergeStrategy> {
        let cost = |strategy: MergeStrategy| match strategy {
            MergeStrategy::Shifted => (0, 0.0),
            MergeStrategy::Concat => (0, 1.0),
            MergeStrategy::Lego { k } => (1, k as f32),
            MergeStrategy::Blend { ratio } => (2, ratio),
            MergeStrategy::PrefixTree => (3, 0.0),
        };
        let passed = self.verdicts.iter().filter(|verdict| verdict.passed).map(|verdict| verdict.strategy);
        passed.min_by(|a, b| cost(*a).0.cmp(&cost(*b).0).then(cost(*a).1.total_cmp(&cost(*b).1)))
    }
}

/// Sums over tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    kl: f64,
    same: usize,
    tokens: usize,
}

impl Score {
    fn add(&mut self, truth: &[f32], other: &[f32], vocabulary: usize) {
        for (truth, other) in truth.chunks_exact(vocabulary).zip(other.chunks_exact(vocabulary)) {
            self.kl += divergence(truth, other);
            self.same += usize::from(likeliest(truth) == likeliest(other));
            self.tokens += 1;
        }
    }

    fn means(self) -> (f64, f64) {
        let tokens = self.tokens.max(1) as f64;
        (self.kl / tokens, self.same as f64 / tokens)
    }
}

/// Measures lossy strategies for a model. Nothing is stored: give the result to
/// [`KvCacheMemory::set_calibration`](crate::KvCacheMemory::set_calibration).
///
/// # Errors
/// [`KvError::Invalid`] for no cases, a case of fewer than two memories, or a strategy that is exact;
/// [`KvError::TooLong`]; [`KvError::Model`].
pub fn calibrate(
    extractor: &KvExtractor,
    cases: &[CalibrationCase],
    strategies: &[MergeStrategy],
    limits: CalibrationLimits,
    clock: &dyn Clock,
    cancel: &CancelToken,
) -> Result<Calibration, KvError> {
    if cases.is_empty() || cases.iter().any(|case| case.memories.len() < 2) {
        return Err(KvError::Invalid("a calibration needs cases of at least two memories each".to_owned()));
    }
    if let Some(strategy) = strategies.iter().find(|strategy| !strategy.is_lossy()) {
        return Err(KvError::Invalid(format!("`{strategy}` is exact and needs no calibration")));
    }
    if !(limits.max_mean_kl.is_finite() && limits.min_top1.is_finite()) {
        return Err(KvError::Invalid("the limits of a calibration must be numbers".to_owned()));
    }
    let mut scores = vec![Score::default(); strategies.len()];
    let mut without = Score::default();
    for case in cases {
        let run = Run::new(extractor, case, limits.answer_tokens, cancel)?;
        without.add(&run.truth, &run.score(&KvPrefix::default(), cancel)?, run.vocabulary());
        for (strategy, score) in strategies.iter().zip(&mut scores) {
            let prefix = merge(run.decoder, &run.segments, *strategy, cancel)?;
            score.add(&run.truth, &run.score(&prefix, cancel)?, run.vocabulary());
        }
    }
    if let Some(score) = scores.iter().chain([&without]).find(|score| !score.kl.is_finite()) {
        let source = format!("the model's probabilities are no numbers (KL divergence {})", score.kl);
        return Err(KvError::internal("calibrating merge strategies", source));
    }
    let verdict = |(strategy, score): (&MergeStrategy, &Score)| {
        let (mean_kl, top1) = score.means();
        let passed = mean_kl <= limits.max_mean_kl && top1 >= limits.min_top1;
        StrategyVerdict { strategy: *strategy, mean_kl, top1, passed }
    };
    Ok(Calibration {
        format: FORMAT.to_owned(),
        model: extractor.model().identity().clone(),
        measured_at: clock.now_text(),
        n_cases: cases.len(),
        n_tokens: without.tokens,
        limits,
        without_memories: without.means(),
        verdicts: strategies.iter().zip(&scores).map(verdict).collect(),
    })
}

/// One case, ready to be scored.
struct Run<'a> {
    decoder: &'a Decoder,
    segments: Vec<Arc<KvSegment>>,
    /// Tokens of the question and of the model's own answer.
    scored: Vec<u32>,
    /// Logits after each of them, as the whole prompt gives them.
    truth: Vec<f32>,
}

impl<'a> Run<'a> {
    fn new(
        extractor: &'a KvExtractor,
        case: &CalibrationCase,
        answer_tokens: usize,
        cancel: &CancelToken,
    ) -> Result<Self, KvError> {
        let model = extractor.model();
        let decoder = model.decoder();
        let inputs: Vec<ExtractInput> = case.memories.iter().map(|text| text.as_str().into()).collect();
        let items = extractor.extract_many(&inputs, cancel)?;
        let segments: Vec<Arc<KvSegment>> =
            items.iter().map(|item| item.require_segment().cloned()).collect::<Result<_, _>>()?;
        let memories: Vec<u32> = segments.iter().flat_map(|segment| segment.tokens()).copied().collect();
        let mut scored = question_tokens(extractor, &inputs, &case.question)?;
        let mut tail = decoder.new_tail();
        let whole = [memories, scored.clone()].concat();
        let mut logits = decoder.forward(&whole, &KvPrefix::default(), &mut tail, LogitRows::Last, cancel)?;
        for _ in 0..answer_tokens {
            let next = likeliest(&logits) as u32;
            scored.push(next);
            logits = decoder.forward(&[next], &KvPrefix::default(), &mut tail, LogitRows::Last, cancel)?;
        }
        let mut run = Self { decoder, segments, scored, truth: Vec::new() };
        let exact = merge(decoder, &run.segments, MergeStrategy::PrefixTree, cancel)?;
        run.truth = run.score(&exact, cancel)?;
        Ok(run)
    }

    fn vocabulary(&self) -> usize {
        self.decoder.spec().vocabulary
    }

    fn score(&self, prefix: &KvPrefix, cancel: &CancelToken) -> Result<Vec<f32>, KvError> {
        let mut tail = self.decoder.new_tail();
        Ok(self.decoder.forward(&self.scored, prefix, &mut tail, LogitRows::All, cancel)?)
    }
}

/// The question's turn as it follows the turn of the last memory.
fn question_tokens(extractor: &KvExtractor, inputs: &[ExtractInput], question: &str) -> Result<Vec<u32>, KvError> {
    let before = match inputs.last() {
        Some(last) => last.messages(extractor.lead_in())?,
        None => Vec::new(),
    };
    let tokens = extractor.model().turn_tokens(&before, &[Message::user(question)])?;
    if tokens.is_empty() { Err(KvError::Empty("the question of a case has no text")) } else { Ok(tokens) }
}

/// KL divergence of two rows of logits, in nats.
pub(crate) fn divergence(truth: &[f32], other: &[f32]) -> f64 {
    let (truth_norm, other_norm) = (log_sum_exp(truth), log_sum_exp(other));
    let terms = truth.iter().zip(other).map(|(&a, &b)| {
        let (a, b) = (f64::from(a) - truth_norm, f64::from(b) - other_norm);
        a.exp() * (a - b)
    });
    let sum: f64 = terms.sum();
    // Rounding may lead below zero; what is no number must stay none.
    if sum < 0.0 { 0.0 } else { sum }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>().ln()
}

/// The place of the largest value; of the first one of several.
pub(crate) fn likeliest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = at;
        }
    }
    best
}

/// Verdicts as files, one per model.
#[derive(Clone, Debug)]
pub struct CalibrationFolder {
    folder: PathBuf,
}

impl CalibrationFolder {
    /// Returns the verdicts in a folder, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn place(&self, model: &ModelIdentity) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&model.weights.0).update(&model.tokenizer).update(&model.template);
        hasher.update(format!("{:?}", model.rope_layout).as_bytes());
        self.folder.join(format!("calibration-{}.json", hasher.finalize().to_hex()))
    }

    /// Returns the verdict on a model; `None` when it was never measured.
    ///
    /// # Errors
    /// [`KvError::Damaged`], [`KvError::Newer`] and [`KvError::ForeignModel`] for a file that is not its verdict;
    /// [`KvError::Io`].
    pub fn read(&self, model: &ModelIdentity) -> Result<Option<Calibration>, KvError> {
        let path = self.place(model);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KvError::io("cannot read", &path, error)),
        };
        let what = path.display().to_string();
        let damaged = |error: serde_json::Error| KvError::damaged(what.clone(), error);
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        let format = value["format"].as_str().unwrap_or_default();
        if format != FORMAT && format.starts_with(FORMAT_START) {
            return Err(KvError::Newer { what, found: format.to_owned(), known: FORMAT });
        }
        let calibration: Calibration = serde_json::from_value(value).map_err(damaged)?;
        if calibration.format != FORMAT || !calibration.model.matches(model) {
            return Err(KvError::damaged(what, "it is not the verdict on this model; calibrate again"));
        }
        Ok(Some(calibration))
    }

    /// Writes a verdict; an earlier one on the model is replaced.
    ///
    /// # Errors
    /// [`KvError::Io`].
    pub fn write(&self, calibration: &Calibration) -> Result<(), KvError> {
        let text = serde_json::to_vec_pretty(calibration)
            .map_err(|error| KvError::internal("writing a calibration", error))?;
        write_bytes(&self.place(&calibration.model), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_probabilities() {
        let truth = [0.75_f32.ln(), 0.25_f32.ln()];
        let other = [0.5_f32.ln() + 3.0, 0.5_f32.ln() + 3.0];
        let want = 0.75 * (0.75_f64 / 0.5).ln() + 0.25 * (0.25_f64 / 0.5).ln();
        assert!((divergence(&truth, &other) - want).abs() < 1e-6);
        assert_eq!(divergence(&truth, &truth), 0.0);
    }

    #[test]
    fn scores_count_equal_choices() {
        let mut score = Score::default();
        score.add(&[1.0, 0.0, 0.0, 1.0], &[1.0, 0.0, 1.0, 0.0], 2);
        assert_eq!((score.same, score.tokens), (1, 2));
        assert_eq!(score.means().1, 0.5);
    }
}
