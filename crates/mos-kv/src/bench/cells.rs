//! The cells of the table: context × query.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mos_core::ActivationId;
use mos_engine::{CancelToken, Decoder, KvPrefix, KvSegment, KvTail, LogitRows, ModelIdentity};
use serde::Serialize;

use super::bound::bound;
use crate::error::KvError;
use crate::file::{read_item, write_item};
use crate::item::KvCacheItem;
use crate::quantize::KvEncoding;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Tokens of the kept context.
    pub contexts: Vec<usize>,
    /// Tokens that follow it.
    pub queries: Vec<usize>,
    /// Times are medians of this many runs, each with a text of its own.
    pub runs: usize,
    /// Over this many texts (the timed ones among them) the answers of both ways are compared.
    pub prompts: usize,
    /// Tokens of the answers that are compared.
    pub answer_tokens: usize,
    /// Where the files of the cold way lie for a moment.
    pub folder: PathBuf,
}

impl BenchOptions {
    /// Returns the usual cells, five runs and twenty texts.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            contexts: vec![583, 2773, 6064],
            queries: vec![167, 303, 953],
            runs: 5,
            prompts: 20,
            answer_tokens: 32,
            folder: folder.into(),
        }
    }

    fn check(&self, decoder: &Decoder) -> Result<(), KvError> {
        let counts = [self.runs, self.prompts, self.answer_tokens];
        let is_empty = self.contexts.is_empty() || self.queries.is_empty();
        if is_empty || counts.contains(&0) || self.contexts.contains(&0) || self.queries.contains(&0) {
            return Err(KvError::Invalid("contexts, queries, runs and prompts must be at least 1".to_owned()));
        }
        let longest = |counts: &[usize]| counts.iter().copied().max().unwrap_or_default();
        let n_tokens = longest(&self.contexts) + longest(&self.queries) + self.answer_tokens;
        let limit = decoder.spec().context_length;
        if n_tokens > limit { Err(KvError::TooLong { n_tokens, limit }) } else { Ok(()) }
    }
}

/// One cell. Times are seconds, medians of the runs.
#[derive(Clone, Debug, Serialize)]
pub struct BenchCell {
    /// Tokens of the context.
    pub context: usize,
    /// Tokens of the query.
    pub query: usize,
    /// First token when context and query are computed.
    pub direct_ttft_s: f64,
    /// First token when the context's cache is in memory.
    pub kv_ttft_s: f64,
    /// First token when the context's cache is in a file outside the page cache (where the system allows that).
    pub kv_cold_ttft_s: f64,
    /// Computing the context's cache.
    pub build_s: f64,
    /// Direct by kept.
    pub speedup: f64,
    /// What the number of operations allows.
    pub bound: f64,
    /// Share of the bound that was reached, in percent.
    pub pct_of_bound: f64,
    /// Whether both ways gave the same greedy tokens for every text.
    pub identical: bool,
    /// Texts that were compared.
    pub prompts: usize,
    /// The largest difference between the logits after the query, over all texts.
    pub max_logit_difference: f64,
    /// The largest divergence KL(direct ‖ kept) of the first token's probabilities, in nats.
    pub kl: f64,
    /// Tokens of the context by the time of computing its cache.
    pub prefill_tokens_per_s: f64,
    /// Greedy tokens after context and query.
    pub decode_tokens_per_s: f64,
}

/// The whole table.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// The model.
    pub model: String,
    /// Whether its weights are random: shapes without files.
    pub random_weights: bool,
    /// Instructions that were used.
    pub cpu: String,
    /// Threads that computed.
    pub threads: usize,
    /// Row by row: contexts, then queries.
    pub cells: Vec<BenchCell>,
}

/// Returns at least the asked number of tokens of the text of a number.
pub type BenchTokens<'a> = dyn Fn(usize, usize) -> Result<Vec<u32>, KvError> + 'a;

/// What is measured over the texts of one cell.
#[derive(Default)]
struct Samples {
    direct: Vec<f64>,
    hot: Vec<f64>,
    cold: Vec<f64>,
    decode: Vec<f64>,
    is_identical: bool,
    max_logit_difference: f64,
    kl: f64,
}

/// Measures every cell. `progress` is told what is being done.
///
/// # Errors
/// [`KvError::Invalid`] for options that make no sense, [`KvError::TooLong`] when the model's context is too short for
/// the longest cell; errors of the model and of the folder.
pub fn bench(
    decoder: &Decoder,
    identity: &ModelIdentity,
    tokens: &BenchTokens<'_>,
    options: &BenchOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<BenchCell>, KvError> {
    options.check(decoder)?;
    let longest_query = options.queries.iter().copied().max().unwrap_or_default();
    let mut cells = Vec::new();
    // Caches and clock frequency settle before anything counts.
    let warm_up = tokens(0, 64)?;
    run(decoder, &warm_up[..64], &KvPrefix::default())?;
    for &context in &options.contexts {
        let mut build = Vec::new();
        let mut samples: Vec<Samples> =
            options.queries.iter().map(|_| Samples { is_identical: true, ..Samples::default() }).collect();
        for number in 0..options.prompts.max(options.runs) {
            let text = tokens(number, context + longest_query)?;
            progress(&format!("context {context}, text {} of {}", number + 1, options.prompts.max(options.runs)));
            let start = Instant::now();
            let segment = segment(decoder, &text[..context])?;
            build.push(start.elapsed().as_secs_f64());
            let is_timed = number < options.runs;
            let file = if is_timed { Some(ItemFile::write(options, identity, &segment)?) } else { None };
            for (query, samples) in options.queries.iter().zip(&mut samples) {
                measure(decoder, &text[..context + query], context, &segment, file.as_ref(), options, samples)?;
            }
        }
        let build_s = median(build);
        let per_query = options.queries.iter().zip(samples);
        cells.extend(per_query.map(|(&query, samples)| cell(decoder, options, (context, query), build_s, samples)));
    }
    Ok(cells)
}

fn cell(
    decoder: &Decoder,
    options: &BenchOptions,
    (context, query): (usize, usize),
    build_s: f64,
    samples: Samples,
) -> BenchCell {
    let (direct, hot) = (median(samples.direct), median(samples.hot));
    let (speedup, bound) = (direct / hot, bound(decoder.spec(), context, query));
    BenchCell {
        context,
        query,
        direct_ttft_s: direct,
        kv_ttft_s: hot,
        kv_cold_ttft_s: median(samples.cold),
        build_s,
        speedup,
        bound,
        pct_of_bound: 100.0 * speedup / bound,
        identical: samples.is_identical,
        prompts: options.prompts.max(options.runs),
        max_logit_difference: samples.max_logit_difference,
        kl: samples.kl,
        prefill_tokens_per_s: context as f64 / build_s,
        decode_tokens_per_s: median(samples.decode),
    }
}

fn segment(decoder: &Decoder, tokens: &[u32]) -> Result<Arc<KvSegment>, KvError> {
    let mut tail = decoder.new_tail();
    decoder.forward(tokens, &KvPrefix::default(), &mut tail, LogitRows::None, &CancelToken::default())?;
    Ok(Arc::new(tail.freeze()))
}

/// One text of one cell, both ways.
fn measure(
    decoder: &Decoder,
    text: &[u32],
    context: usize,
    segment: &Arc<KvSegment>,
    file: Option<&ItemFile>,
    options: &BenchOptions,
    samples: &mut Samples,
) -> Result<(), KvError> {
    let nothing = KvPrefix::default();
    let start = Instant::now();
    let (mut direct_tail, direct_logits) = run(decoder, text, &nothing)?;
    let direct_s = start.elapsed().as_secs_f64();
    let direct = greedy(decoder, &nothing, &mut direct_tail, &direct_logits, options.answer_tokens)?;
    drop(direct_tail);
    let mut kept = KvPrefix::default();
    kept.push(Arc::clone(segment));
    let start = Instant::now();
    let (mut kept_tail, kept_logits) = run(decoder, &text[context..], &kept)?;
    let hot_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let answer = greedy(decoder, &kept, &mut kept_tail, &kept_logits, options.answer_tokens)?;
    let decode_s = start.elapsed().as_secs_f64();
    samples.is_identical &= direct == answer;
    samples.max_logit_difference = samples.max_logit_difference.max(difference(&direct_logits, &kept_logits));
    samples.kl = samples.kl.max(divergence(&direct_logits, &kept_logits));
    let Some(file) = file else { return Ok(()) };
    samples.direct.push(direct_s);
    samples.hot.push(hot_s);
    if options.answer_tokens > 1 {
        samples.decode.push((options.answer_tokens - 1) as f64 / decode_s);
    }
    file.leave_the_page_cache()?;
    let start = Instant::now();
    let item = read_item(&file.path)?;
    let mut cold = KvPrefix::default();
    cold.push(item.segment().map(Arc::clone).ok_or_else(|| KvError::Invalid("the file holds no cache".to_owned()))?);
    let (_, logits) = run(decoder, &text[context..], &cold)?;
    samples.cold.push(start.elapsed().as_secs_f64());
    samples.is_identical &= best(&logits) == best(&direct_logits);
    Ok(())
}

/// Computes tokens after a prefix; the choice of the first token belongs to the time of it.
fn run(decoder: &Decoder, tokens: &[u32], prefix: &KvPrefix) -> Result<(KvTail, Vec<f32>), KvError> {
    let mut tail = decoder.new_tail();
    let logits = decoder.forward(tokens, prefix, &mut tail, LogitRows::Last, &CancelToken::default())?;
    std::hint::black_box(best(&logits));
    Ok((tail, logits))
}

/// The likeliest tokens, whatever they are: an end token does not end it.
fn greedy(
    decoder: &Decoder,
    prefix: &KvPrefix,
    tail: &mut KvTail,
    logits: &[f32],
    count: usize,
) -> Result<Vec<u32>, KvError> {
    let mut answer = vec![best(logits)];
    while answer.len() < count {
        let token = [answer[answer.len() - 1]];
        let logits = decoder.forward(&token, prefix, tail, LogitRows::Last, &CancelToken::default())?;
        answer.push(best(&logits));
    }
    Ok(answer)
}

fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

fn difference(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from((left - right).abs())).fold(0.0, f64::max)
}

/// KL(left ‖ right) of the probabilities, in nats.
fn divergence(left: &[f32], right: &[f32]) -> f64 {
    let log_sum = |logits: &[f32]| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(max) + logits.iter().map(|logit| f64::from(logit - max).exp()).sum::<f64>().ln()
    };
    let (left_sum, right_sum) = (log_sum(left), log_sum(right));
    let terms = left.iter().zip(right).map(|(left, right)| {
        let (left, right) = (f64::from(*left) - left_sum, f64::from(*right) - right_sum);
        left.exp() * (left - right)
    });
    terms.sum::<f64>().max(0.0)
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// A cache's file, which goes with this value.
struct ItemFile {
    path: PathBuf,
}

impl ItemFile {
    fn write(options: &BenchOptions, identity: &ModelIdentity, segment: &Arc<KvSegment>) -> Result<Self, KvError> {
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
    fn medians_and_divergences_are_what_they_should_be() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        let (one, two) = ([0.0_f32, 0.0], [0.0_f32, 3.0_f32.ln()]);
        // Halves against a quarter and three quarters.
        let expected = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert!((divergence(&one, &two) - expected).abs() < 1e-6);
        assert_eq!((divergence(&two, &two), best(&two), difference(&one, &one)), (0.0, 1, 0.0));
    }
}
