//! One text of one context, both ways.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mos_core::ActivationId;
use mos_engine::{CancelToken, Decoder, KvPrefix, KvSegment, KvTail, LogitRows, ModelIdentity};

use super::cells::{BenchOptions, BenchTokens, exactly};
use crate::calibrate::{divergence, likeliest};
use crate::error::KvError;
use crate::file::{read_item, write_item};
use crate::item::KvCacheItem;
use crate::quantize::KvEncoding;

/// Tokens of the run that comes before anything is timed.
const WARM_UP_TOKENS: usize = 64;

/// What is measured over the texts of one cell. Times are seconds, speeds tokens per second.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) direct: Vec<f64>,
    pub(super) hot: Vec<f64>,
    pub(super) cold: Vec<f64>,
    pub(super) decode: Vec<f64>,
    pub(super) has_difference: bool,
    pub(super) max_logit_difference: f64,
    pub(super) kl: f64,
}

impl Samples {
    /// Compares the logits after the query and the answers of both ways.
    fn add(&mut self, direct: &Answer, kept: &Answer) -> Result<(), KvError> {
        // No comparison says anything about values that are no numbers.
        if direct.logits.iter().chain(&kept.logits).any(|logit| !logit.is_finite()) {
            return Err(KvError::internal("measuring", "the model's logits are no numbers"));
        }
        self.has_difference |= direct.tokens != kept.tokens;
        self.max_logit_difference = self.max_logit_difference.max(difference(&direct.logits, &kept.logits));
        self.kl = self.kl.max(divergence(&direct.logits, &kept.logits));
        Ok(())
    }
}

/// The logits after a prompt, and the tokens that follow greedily.
struct Answer {
    logits: Vec<f32>,
    tokens: Vec<u32>,
}

/// A context and what comes after it.
pub(super) struct Text {
    pub(super) tokens: Vec<u32>,
    /// Tokens of the context.
    pub(super) context: usize,
}

impl Text {
    /// Times all three ways of one query and compares their answers.
    pub(super) fn time(
        &self,
        decoder: &Decoder,
        query: usize,
        segment: &Arc<KvSegment>,
        file: &ItemFile,
        answer_tokens: usize,
        samples: &mut Samples,
    ) -> Result<(), KvError> {
        let (nothing, kept) = (KvPrefix::default(), prefix_of(segment));
        let (all, query) = (&self.tokens[..self.context + query], &self.tokens[self.context..self.context + query]);
        let start = Instant::now();
        let (tail, logits) = run(decoder, all, &nothing)?;
        samples.direct.push(start.elapsed().as_secs_f64());
        let direct = greedy(decoder, &nothing, tail, logits, answer_tokens)?;
        let start = Instant::now();
        let (tail, logits) = run(decoder, query, &kept)?;
        samples.hot.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let answer = greedy(decoder, &kept, tail, logits, answer_tokens)?;
        if answer_tokens > 1 {
            samples.decode.push((answer_tokens - 1) as f64 / start.elapsed().as_secs_f64());
        }
        samples.add(&direct, &answer)?;
        file.leave_the_page_cache()?;
        let start = Instant::now();
        let item = read_item(&file.path)?;
        let (_, logits) = run(decoder, query, &prefix_of(item.require_segment()?))?;
        samples.cold.push(start.elapsed().as_secs_f64());
        samples.has_difference |= likeliest(&logits) != likeliest(&direct.logits);
        Ok(())
    }

    /// Compares the answers to every query without timing them: the direct way computes the whole text once.
    pub(super) fn compare(
        &self,
        decoder: &Decoder,
        segment: &Arc<KvSegment>,
        options: &BenchOptions,
        samples: &mut [Samples],
    ) -> Result<(), KvError> {
        let whole = prefix_of(&self::segment(decoder, &self.tokens)?);
        let kept = prefix_of(segment);
        for (&query, samples) in options.queries.iter().zip(samples) {
            let end = self.context + query;
            // The last token again, for the logits after it.
            let before = whole.truncated(end - 1);
            let (tail, logits) = run(decoder, &self.tokens[end - 1..end], &before)?;
            let direct = greedy(decoder, &before, tail, logits, options.answer_tokens)?;
            let (tail, logits) = run(decoder, &self.tokens[self.context..end], &kept)?;
            samples.add(&direct, &greedy(decoder, &kept, tail, logits, options.answer_tokens)?)?;
        }
        Ok(())
    }
}

/// Computes a short text: caches and clock frequency settle before anything counts.
pub(super) fn warm_up(decoder: &Decoder, tokens: &BenchTokens<'_>) -> Result<(), KvError> {
    let n_tokens = WARM_UP_TOKENS.min(decoder.spec().context_length);
    run(decoder, &exactly(tokens, 0, n_tokens)?, &KvPrefix::default()).map(drop)
}

/// Computes the cache of tokens that begin a prompt.
pub(super) fn segment(decoder: &Decoder, tokens: &[u32]) -> Result<Arc<KvSegment>, KvError> {
    let mut tail = decoder.new_tail();
    decoder.forward(tokens, &KvPrefix::default(), &mut tail, LogitRows::None, &CancelToken::default())?;
    Ok(Arc::new(tail.freeze()?))
}

fn prefix_of(segment: &Arc<KvSegment>) -> KvPrefix {
    let mut prefix = KvPrefix::default();
    prefix.push(Arc::clone(segment));
    prefix
}

/// Computes tokens after a prefix; the choice of the first token belongs to the time of it.
pub(super) fn run(decoder: &Decoder, tokens: &[u32], prefix: &KvPrefix) -> Result<(KvTail, Vec<f32>), KvError> {
    let mut tail = decoder.new_tail();
    let logits = decoder.forward(tokens, prefix, &mut tail, LogitRows::Last, &CancelToken::default())?;
    std::hint::black_box(likeliest(&logits));
    Ok((tail, logits))
}

/// The likeliest tokens, whatever they are: an end token does not end it.
fn greedy(
    decoder: &Decoder,
    prefix: &KvPrefix,
    mut tail: KvTail,
    logits: Vec<f32>,
    count: usize,
) -> Result<Answer, KvError> {
    let mut tokens = vec![likeliest(&logits) as u32];
    while tokens.len() < count {
        let last = [tokens[tokens.len() - 1]];
        let logits = decoder.forward(&last, prefix, &mut tail, LogitRows::Last, &CancelToken::default())?;
        tokens.push(likeliest(&logits) as u32);
    }
    Ok(Answer { logits, tokens })
}

fn difference(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from((left - right).abs())).fold(0.0, f64::max)
}

/// Returns the middle value, or the mean of the two in the middle; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// A cache's file, which goes with this value.
pub(super) struct ItemFile {
    path: PathBuf,
}

impl ItemFile {
    pub(super) fn write(
        options: &BenchOptions,
        identity: &ModelIdentity,
        segment: &Arc<KvSegment>,
    ) -> Result<Self, KvError> {
        let path = options.folder.join("bench.safetensors");
        let item = KvCacheItem::new(ActivationId::new("bench"), identity.clone(), Arc::clone(segment));
        write_item(&path, &item, KvEncoding::F16)?;
        Ok(Self { path })
    }

    /// Asks the system to forget the file's pages; elsewhere than on Linux they stay.
    fn leave_the_page_cache(&self) -> Result<(), KvError> {
        forget_pages(&self.path).map_err(|error| KvError::io("cannot read", &self.path, error))
    }
}

impl Drop for ItemFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a file of the measurement was left behind");
        }
    }
}

#[cfg(target_os = "linux")]
fn forget_pages(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(path: &Path) -> std::io::Result<()> {
    std::fs::metadata(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_differences_are_what_they_should_be() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
        assert_eq!((difference(&[1.0, 2.0], &[1.0, 2.0]), difference(&[1.0, 2.0], &[1.5, -1.0])), (0.0, 3.0));
    }

    #[test]
    fn other_tokens_are_a_difference_and_what_is_no_number_is_an_error() {
        let answer = |logits: [f32; 2], token| Answer { logits: logits.to_vec(), tokens: vec![token] };
        let mut samples = Samples::default();
        samples.add(&answer([0.0, 1.0], 1), &answer([0.0, 1.25], 1)).unwrap();
        assert!(!samples.has_difference && samples.kl > 0.0);
        assert_eq!(samples.max_logit_difference, 0.25);
        samples.add(&answer([0.0, 1.0], 1), &answer([0.0, 1.0], 0)).unwrap();
        assert!(samples.has_difference && samples.max_logit_difference == 0.25);
        let error = samples.add(&answer([0.0, f32::NAN], 1), &answer([0.0, 1.0], 1)).unwrap_err();
        assert!(error.to_string().contains("measuring"), "{error}");
    }
}
