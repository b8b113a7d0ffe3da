//! What joining many items costs, and what it does to the answer's start.

use std::sync::Arc;
use std::time::Instant;

use mos_engine::{Decoder, KvPrefix, KvSegment};
use serde::{Deserialize, Serialize};

use super::cells::{BenchTokens, exactly, within_context};
use super::measure::{median, run, segment, warm_up};
use crate::error::KvError;
use crate::merge::shifted;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeBenchOptions {
    /// Items that are merged.
    pub items: usize,
    /// Tokens of each.
    pub tokens_per_item: usize,
    /// Tokens that follow them.
    pub query: usize,
    /// Times are medians of this many runs.
    pub runs: usize,
}

impl MergeBenchOptions {
    /// Returns options with a query of 32 tokens and five runs.
    pub fn new(items: usize, tokens_per_item: usize) -> Self {
        Self { items, tokens_per_item, query: 32, runs: 5 }
    }
}

/// What was found. Times are seconds, medians of the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeBench {
    /// Items that were merged.
    pub items: usize,
    /// Tokens of each.
    pub tokens_per_item: usize,
    /// Tokens of the query.
    pub query: usize,
    /// Joining the items with `shifted`.
    pub merge_s: f64,
    /// First token of the query after the joined items.
    pub merged_ttft_s: f64,
    /// First token of the query after one item of as many tokens.
    pub single_ttft_s: f64,
    /// The one by the other.
    pub ratio: f64,
}

/// Measures merging with `shifted`, in turn with one item of the same length. `progress` is told what is being done.
///
/// # Errors
/// [`KvError::Invalid`] for options that make no sense, [`KvError::TooLong`] when the model's context is too short;
/// errors of the model.
pub fn bench_merge(
    decoder: &Decoder,
    tokens: &BenchTokens<'_>,
    options: MergeBenchOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<MergeBench, KvError> {
    let MergeBenchOptions { items, tokens_per_item, query, runs } = options;
    if [items, tokens_per_item, query, runs].contains(&0) {
        return Err(KvError::Invalid("items, their tokens, the query and runs must be at least 1".to_owned()));
    }
    let n_kept = items.saturating_mul(tokens_per_item);
    within_context(decoder, &[n_kept, query])?;
    warm_up(decoder, tokens)?;
    let text = exactly(tokens, 0, n_kept + query)?;
    let (kept, query_tokens) = text.split_at(n_kept);
    progress("computing one long item");
    let mut single = KvPrefix::default();
    single.push(segment(decoder, kept)?);
    let mut segments: Vec<Arc<KvSegment>> = Vec::with_capacity(items);
    for (number, item) in kept.chunks(tokens_per_item).enumerate() {
        progress(&format!("computing item {} of {items}", number + 1));
        segments.push(segment(decoder, item)?);
    }
    let (mut merging, mut after_merging, mut after_single) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..runs {
        progress(&format!("run {} of {runs}", number + 1));
        let start = Instant::now();
        let merged = shifted(&segments)?;
        merging.push(start.elapsed().as_secs_f64());
        for (prefix, times) in [(&merged, &mut after_merging), (&single, &mut after_single)] {
            let start = Instant::now();
            run(decoder, query_tokens, prefix)?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let (merged_ttft_s, single_ttft_s) = (median(after_merging), median(after_single));
    Ok(MergeBench {
        items,
        tokens_per_item,
        query,
        merge_s: median(merging),
        merged_ttft_s,
        single_ttft_s,
        ratio: merged_ttft_s / single_ttft_s,
    })
}
