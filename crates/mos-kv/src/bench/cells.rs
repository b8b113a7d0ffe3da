//! The cells of the table: context × query.

use std::path::PathBuf;
use std::time::Instant;

use mos_engine::{Decoder, ModelIdentity};
use serde::{Deserialize, Serialize};

use super::bound::bound;
use super::measure::{ItemFile, Samples, Text, median, segment, warm_up};
use crate::error::KvError;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Tokens of the kept context.
    pub contexts: Vec<usize>,
    /// Tokens that follow it.
    pub queries: Vec<usize>,
    /// Times are medians of this many runs, each with a text of its own.
    pub runs: usize,
    /// Over this many texts (the timed ones among them) the answers of both ways are compared. Beyond the timed ones
    /// the direct way computes a context with its longest query once, and answers every query from there.
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

    /// How many texts are read.
    fn n_texts(&self) -> usize {
        self.prompts.max(self.runs)
    }

    fn longest_query(&self) -> usize {
        self.queries.iter().copied().max().unwrap_or_default()
    }

    fn check(&self, decoder: &Decoder) -> Result<(), KvError> {
        let counts = [self.runs, self.prompts, self.answer_tokens];
        let is_empty = self.contexts.is_empty() || self.queries.is_empty();
        if is_empty || counts.contains(&0) || self.contexts.contains(&0) || self.queries.contains(&0) {
            return Err(KvError::Invalid("contexts, queries, runs and prompts must be at least 1".to_owned()));
        }
        let longest_context = self.contexts.iter().copied().max().unwrap_or_default();
        within_context(decoder, &[longest_context, self.longest_query(), self.answer_tokens])
    }
}

/// Checks that a model's context takes so many tokens in all.
pub(super) fn within_context(decoder: &Decoder, counts: &[usize]) -> Result<(), KvError> {
    let limit = decoder.spec().context_length;
    let n_tokens = counts.iter().fold(0_usize, |sum, count| sum.saturating_add(*count));
    if n_tokens > limit { Err(KvError::TooLong { n_tokens, limit }) } else { Ok(()) }
}

/// One cell. Times are seconds, medians of the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Direct by kept: the median over the texts, both ways of each timed one after the other.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// The model.
    pub model: String,
    /// Whether its weights are random: shapes without files.
    pub random_weights: bool,
    /// What computed: the processor's instructions, or a device and its type of numbers.
    pub cpu: String,
    /// Threads that computed.
    pub threads: usize,
    /// Row by row: contexts, then queries.
    pub cells: Vec<BenchCell>,
}

/// Returns at least the asked number of tokens of the text of a number.
pub type BenchTokens<'a> = dyn Fn(usize, usize) -> Result<Vec<u32>, KvError> + 'a;

/// Returns exactly `count` tokens of the text of a number.
pub(super) fn exactly(tokens: &BenchTokens<'_>, number: usize, count: usize) -> Result<Vec<u32>, KvError> {
    let mut text = tokens(number, count)?;
    if text.len() < count {
        let n_tokens = text.len();
        return Err(KvError::Invalid(format!(
            "text {number} has {n_tokens} tokens, {count} are needed; give longer texts"
        )));
    }
    text.truncate(count);
    Ok(text)
}

/// Returns the texts over which [`bench()`] measures, in its order, each as long as the longest cell: the shorter cells
/// read their beginnings. For measuring another engine on the same tokens.
///
/// # Errors
/// As [`bench()`] for options that make no sense.
pub fn bench_texts(
    decoder: &Decoder,
    tokens: &BenchTokens<'_>,
    options: &BenchOptions,
) -> Result<Vec<Vec<u32>>, KvError> {
    options.check(decoder)?;
    let longest = options.contexts.iter().copied().max().unwrap_or_default() + options.longest_query();
    (0..options.n_texts()).map(|number| exactly(tokens, number, longest)).collect()
}

/// Measures every cell. `progress` is told what is being done.
///
/// # Errors
/// [`KvError::Invalid`] for options that make no sense, [`KvError::TooLong`] when the model's context is too short for
/// the longest cell; errors of the model (also when its logits are no numbers) and of the folder.
pub fn bench(
    decoder: &Decoder,
    identity: &ModelIdentity,
    tokens: &BenchTokens<'_>,
    options: &BenchOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<BenchCell>, KvError> {
    options.check(decoder)?;
    let longest_query = options.longest_query();
    let mut cells = Vec::new();
    warm_up(decoder, tokens)?;
    for &context in &options.contexts {
        let mut build = Vec::new();
        let mut samples = vec![Samples::default(); options.queries.len()];
        for number in 0..options.n_texts() {
            progress(&format!("context {context}, text {} of {}", number + 1, options.n_texts()));
            let text = Text { tokens: exactly(tokens, number, context + longest_query)?, context };
            let start = Instant::now();
            let segment = segment(decoder, &text.tokens[..context])?;
            build.push(start.elapsed().as_secs_f64());
            if number >= options.runs {
                text.compare(decoder, &segment, options, &mut samples)?;
                continue;
            }
            let file = ItemFile::write(options, identity, &segment)?;
            for (&query, samples) in options.queries.iter().zip(&mut samples) {
                text.time(decoder, query, &segment, &file, options.answer_tokens, samples)?;
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
    // Both ways of a text are timed one after the other: a machine that slows down for a while slows both.
    let ratios = samples.direct.iter().zip(&samples.hot).map(|(direct, hot)| direct / hot).collect();
    let (direct, hot) = (median(samples.direct), median(samples.hot));
    let (speedup, bound) = (median(ratios), bound(decoder.spec(), context, query));
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
        identical: !samples.has_difference,
        prompts: options.n_texts(),
        max_logit_difference: samples.max_logit_difference,
        kl: samples.kl,
        prefill_tokens_per_s: context as f64 / build_s,
        decode_tokens_per_s: median(samples.decode),
    }
}
