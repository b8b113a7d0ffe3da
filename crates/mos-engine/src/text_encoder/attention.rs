//! Attention of every token of a text to all of them.
//!
//! A task is one head of some tokens of one text: the head's keys are put into panels, so that sixteen scores are summed at
//! once, and its values into rows of whole vectors. A token's softmax runs over all of its scores at once; so its result
//! does not depend on which tokens share its task.

#![allow(unsafe_code, reason = "threads write disjoint rows of one output")]

use std::cell::RefCell;
use std::ops::Range;

use crate::compute::{GemmBlock, PANEL, SharedMut};
use crate::decoder::Compute;

/// The most tokens whose scores one task computes.
const QUERIES: usize = 96;

/// Where heads are in the rows of the buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadShape {
    heads: usize,
    head_dim: usize,
    /// From one token's queries, keys and values to the next one's.
    stride: usize,
    /// From one token's result to the next one's.
    pub(super) out_stride: usize,
}

impl HeadShape {
    /// Returns the places of `heads` that share `hidden` numbers of a token.
    pub(super) fn new(heads: usize, hidden: usize) -> Self {
        let stride = (3 * hidden).next_multiple_of(PANEL);
        Self { heads, head_dim: hidden / heads, stride, out_stride: hidden.next_multiple_of(PANEL) }
    }

    /// Where a head of a token's queries (part 0), keys (1) or values (2) starts.
    fn place(&self, token: usize, part: usize, head: usize) -> usize {
        token * self.stride + (part * self.heads + head) * self.head_dim
    }
}

/// One head of some tokens of a text.
struct Task<'a> {
    /// The rows of the whole text.
    text: &'a Range<usize>,
    /// The rows whose scores are computed.
    queries: Range<usize>,
    head: usize,
}

#[derive(Default)]
struct Scratch {
    /// `[queries, head_dim]`, scaled.
    queries: Vec<f32>,
    /// Panels of sixteen tokens: `[head_dim, 16]` each.
    keys: Vec<f32>,
    /// `[tokens, head_dim in whole panels]`.
    values: Vec<f32>,
    /// `[queries, tokens in whole panels]`.
    scores: Vec<f32>,
    /// `[queries, head_dim in whole panels]`.
    sums: Vec<f32>,
    /// Sum of each query's softened scores.
    totals: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Writes the attention inside of each text to `out` (`[tokens, out_stride]`).
///
/// `projected` is `[tokens, stride]`: queries, keys and values of each token, heads side by side in each.
pub(super) fn attend(compute: &Compute, shape: HeadShape, texts: &[Range<usize>], projected: &[f32], out: &mut [f32]) {
    let mut blocks: Vec<(&Range<usize>, Range<usize>)> = Vec::with_capacity(texts.len());
    for text in texts {
        for first in text.clone().step_by(QUERIES) {
            blocks.push((text, first..(first + QUERIES).min(text.end)));
        }
    }
    // The longest texts go first, so that no thread is left alone with one.
    blocks.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    let out = SharedMut::new(out);
    compute.team.run(blocks.len() * shape.heads, &|number| {
        let (text, queries) = &blocks[number / shape.heads];
        let task = Task { text, queries: queries.clone(), head: number % shape.heads };
        SCRATCH.with_borrow_mut(|scratch| attend_head(compute, shape, &task, projected, scratch, out));
    });
}

fn attend_head(
    compute: &Compute,
    shape: HeadShape,
    task: &Task<'_>,
    projected: &[f32],
    scratch: &mut Scratch,
    out: SharedMut<'_>,
) {
    let HeadShape { head_dim, out_stride, .. } = shape;
    let (count, len) = (task.queries.len(), task.text.len());
    let (lanes, padded) = (len.next_multiple_of(PANEL), head_dim.next_multiple_of(PANEL));
    scratch.fill(shape, task, projected);
    let scores = GemmBlock {
        m: count,
        depth: head_dim,
        panels: lanes / PANEL,
        a: scratch.queries.as_ptr(),
        a_stride: head_dim,
        b: scratch.keys.as_ptr(),
        b_step: PANEL,
        b_panel: head_dim * PANEL,
        c: scratch.scores.as_mut_ptr(),
        c_stride: lanes,
        accumulate: false,
    };
    // SAFETY: `fill` made room for all queries, keys and scores.
    unsafe { compute.kernels.gemm(&scores) };
    for (scores, total) in scratch.scores.chunks_exact_mut(lanes).zip(&mut scratch.totals).take(count) {
        let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
        compute.kernels.soften(scores, 0..len, &mut max, &mut sum);
        // The softmax would hide that a score is no number.
        *total = if max.is_finite() { sum } else { f32::NAN };
    }
    let sums = GemmBlock {
        m: count,
        depth: len,
        panels: padded / PANEL,
        a: scratch.scores.as_ptr(),
        a_stride: lanes,
        b: scratch.values.as_ptr(),
        b_step: padded,
        b_panel: PANEL,
        c: scratch.sums.as_mut_ptr(),
        c_stride: padded,
        accumulate: false,
    };
    // SAFETY: `fill` made room for all scores, values and sums.
    unsafe { compute.kernels.gemm(&sums) };
    for (row, token) in task.queries.clone().enumerate() {
        // SAFETY: each task has heads of tokens of its own.
        let out = unsafe { out.part(token * out_stride + task.head * head_dim, head_dim) };
        let total = scratch.totals[row];
        for (out, sum) in out.iter_mut().zip(&scratch.sums[row * padded..]) {
            *out = sum / total;
        }
    }
}

impl Scratch {
    /// Puts a task's queries, keys and values in the order of the kernels, and makes room for what is made of them.
    fn fill(&mut self, shape: HeadShape, task: &Task<'_>, projected: &[f32]) {
        let head_dim = shape.head_dim;
        let (count, len) = (task.queries.len(), task.text.len());
        let (lanes, padded) = (len.next_multiple_of(PANEL), head_dim.next_multiple_of(PANEL));
        for (buffer, size) in [
            (&mut self.queries, count * head_dim),
            (&mut self.keys, lanes * head_dim),
            (&mut self.values, len * padded),
            (&mut self.scores, count * lanes),
            (&mut self.sums, count * padded),
            (&mut self.totals, count),
        ] {
            if buffer.len() < size {
                buffer.resize(size, 0.0);
            }
        }
        let head = |token: usize, part: usize| &projected[shape.place(token, part, task.head)..][..head_dim];
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (to, token) in self.queries.chunks_exact_mut(head_dim).zip(task.queries.clone()) {
            for (to, from) in to.iter_mut().zip(head(token, 0)) {
                *to = from * scale;
            }
        }
        // Lanes behind the last token keep what they held: their scores are not looked at.
        for (at, token) in task.text.clone().enumerate() {
            let panel = &mut self.keys[at / PANEL * PANEL * head_dim..][..PANEL * head_dim];
            for (lanes, value) in panel.chunks_exact_mut(PANEL).zip(head(token, 1)) {
                lanes[at % PANEL] = *value;
            }
            self.values[at * padded..][..head_dim].copy_from_slice(head(token, 2));
        }
    }
}
