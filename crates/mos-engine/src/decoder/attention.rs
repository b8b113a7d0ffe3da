//! Causal attention over kept and new tokens.
//!
//! The query heads that share a key head are rows of one small product. Keys come in tiles of 64 positions, counted
//! from the start of the conversation, and the softmax runs along the tiles; so a row's result depends on its position
//! alone, not on where a prefix ends or how a prompt was cut into chunks.

#![allow(unsafe_code, reason = "threads write disjoint rows of one output")]

use std::cell::RefCell;

use super::Compute;
use crate::compute::{GemmBlock, PANEL, SharedMut};
use crate::kv::{KvPrefix, KvShape, KvTail, LayerKv};

/// Positions of a tile.
const TILE: usize = 64;
/// New tokens that one task takes.
const TOKENS: usize = 32;
/// Panels that a tile can touch in one segment, when the segment's panels do not start where tiles do.
const TILE_PANELS: usize = TILE / PANEL + 1;

/// Keys and values of one layer, where each part starts in the conversation.
pub(super) struct LayerView<'a> {
    /// First position, number of tokens, data; in order and without gaps.
    parts: Vec<(usize, usize, &'a LayerKv)>,
    shape: KvShape,
}

impl<'a> LayerView<'a> {
    /// Looks at `layer` of a prefix and `tail_len` tokens of a tail.
    pub(super) fn new(prefix: &'a KvPrefix, tail: &'a KvTail, tail_len: usize, layer: usize) -> Self {
        let mut start = 0;
        let mut parts = Vec::new();
        for (segment, used) in prefix.parts() {
            parts.push((start, used, segment.layer(layer)));
            start += used;
        }
        parts.push((start, tail_len, tail.layer(layer)));
        Self { parts, shape: tail.shape() }
    }

    fn len(&self) -> usize {
        self.parts.last().map_or(0, |(start, len, _)| start + len)
    }

    /// The pieces of the parts inside `first..first + len`: first position, first token in the part, number, data.
    fn pieces(&self, first: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize, &'a LayerKv)> + '_ {
        self.parts.iter().filter_map(move |&(start, part_len, data)| {
            let from = start.max(first);
            let to = (start + part_len).min(first + len);
            (from < to).then(|| (from, from - start, to - from, data))
        })
    }
}

/// Some query heads of some new tokens that share a key head.
struct Rows {
    kv_head: usize,
    first_token: usize,
    tokens: usize,
    first_head: usize,
    heads: usize,
}

#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    products: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    state: Vec<(f32, f32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Writes the attention of `queries` (`[tokens, heads, head_dim]`, at the positions from `position` on) to `out`,
/// which has the same shape. The view must hold the new tokens' keys and values.
pub(super) fn attend(
    compute: &Compute,
    queries: &[f32],
    heads: usize,
    position: usize,
    view: &LayerView<'_>,
    out: &mut [f32],
) {
    let shape = view.shape;
    let group = heads / shape.kv_heads;
    let tokens = queries.len() / (heads * shape.head_dim);
    let blocks = tokens.div_ceil(TOKENS);
    // With few tokens (an answer being made) the heads of a group are shared out as well.
    let shares = (2 * compute.team.threads()).div_ceil(shape.kv_heads * blocks).min(group);
    let heads_per_share = group.div_ceil(shares);
    let out = SharedMut::new(out);
    compute.team.run(blocks * shape.kv_heads * shares, &|task| {
        let (share, task) = (task % shares, task / shares);
        // The last block sees the most keys: it goes first, so that no thread is left alone with it.
        let (kv_head, block) = (task % shape.kv_heads, blocks - 1 - task / shape.kv_heads);
        let first_head = share * heads_per_share;
        if first_head >= group {
            return;
        }
        let rows = Rows {
            kv_head,
            first_token: block * TOKENS,
            tokens: TOKENS.min(tokens - block * TOKENS),
            first_head: kv_head * group + first_head,
            heads: heads_per_share.min(group - first_head),
        };
        SCRATCH.with_borrow_mut(|scratch| attend_rows(compute, queries, heads, position, view, &rows, scratch, out));
    });
}

#[allow(clippy::too_many_arguments, reason = "one call site, above; a struct would only rename the same things")]
fn attend_rows(
    compute: &Compute,
    queries: &[f32],
    heads: usize,
    position: usize,
    view: &LayerView<'_>,
    rows: &Rows,
    scratch: &mut Scratch,
    out: SharedMut<'_>,
) {
    let head_dim = view.shape.head_dim;
    let count = rows.tokens * rows.heads;
    scratch.prepare(count, head_dim);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let place = |row: usize| {
        let (token, head) = (rows.first_token + row / rows.heads, rows.first_head + row % rows.heads);
        (token * heads + head) * head_dim
    };
    for (row, to) in scratch.queries[..count * head_dim].chunks_exact_mut(head_dim).enumerate() {
        for (to, from) in to.iter_mut().zip(&queries[place(row)..]) {
            *to = from * scale;
        }
    }
    let first_position = position + rows.first_token;
    let end = (first_position + rows.tokens).min(view.len());
    for first in (0..end).step_by(TILE) {
        let len = TILE.min(end - first);
        // Rows of tokens before the tile see nothing of it.
        let skipped = first.saturating_sub(first_position) * rows.heads;
        score_tile(compute, view, rows.kv_head, (first, len), (skipped, count), scratch);
        for row in skipped..count {
            let visible = (first_position + row / rows.heads + 1 - first).min(len);
            let (max, sum) = &mut scratch.state[row];
            let factor = compute.kernels.soften(&mut scratch.scores[row * TILE..][..TILE], visible, max, sum);
            if factor != 1.0 {
                compute.kernels.scale(&mut scratch.sums[row * head_dim..][..head_dim], factor);
            }
        }
        add_values(compute, view, rows.kv_head, (first, len), (skipped, count), scratch);
    }
    for row in 0..count {
        // SAFETY: each row is one head of one token, and each task has rows of its own.
        let out = unsafe { out.part(place(row), head_dim) };
        let sum = scratch.state[row].1;
        for (out, value) in out.iter_mut().zip(&scratch.sums[row * head_dim..]) {
            *out = value / sum;
        }
    }
}

impl Scratch {
    fn prepare(&mut self, rows: usize, head_dim: usize) {
        let grow = |buffer: &mut Vec<f32>, len: usize| {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        };
        grow(&mut self.queries, rows * head_dim);
        grow(&mut self.keys, TILE_PANELS * PANEL * head_dim);
        grow(&mut self.values, TILE * head_dim);
        grow(&mut self.products, rows * TILE_PANELS * PANEL);
        grow(&mut self.scores, rows * TILE);
        self.sums.clear();
        self.sums.resize(rows * head_dim, 0.0);
        self.state.clear();
        self.state.resize(rows, (f32::NEG_INFINITY, 0.0));
    }
}

/// Scores of the rows `rows.0..rows.1` with a tile's keys.
fn score_tile(
    compute: &Compute,
    view: &LayerView<'_>,
    kv_head: usize,
    tile: (usize, usize),
    rows: (usize, usize),
    scratch: &mut Scratch,
) {
    let KvShape { kv_heads, head_dim, .. } = view.shape;
    let lanes = head_dim * PANEL;
    for (from, local, len, data) in view.pieces(tile.0, tile.1) {
        let first_panel = local / PANEL;
        let panels = (local + len).div_ceil(PANEL) - first_panel;
        for panel in 0..panels {
            let keys = &data.keys[((first_panel + panel) * kv_heads + kv_head) * lanes..][..lanes];
            compute.kernels.widen(keys, &mut scratch.keys[panel * lanes..][..lanes]);
        }
        let stride = panels * PANEL;
        let block = GemmBlock {
            m: rows.1 - rows.0,
            depth: head_dim,
            panels,
            a: scratch.queries[rows.0 * head_dim..].as_ptr(),
            a_stride: head_dim,
            b: scratch.keys.as_ptr(),
            b_step: PANEL,
            b_panel: lanes,
            c: scratch.products.as_mut_ptr(),
            c_stride: stride,
            accumulate: false,
        };
        // SAFETY: `prepare` made room for all rows and for the panels that a tile can touch.
        unsafe { compute.kernels.gemm(&block) };
        let (to, skip) = (from - tile.0, local % PANEL);
        for (row, products) in (rows.0..rows.1).zip(scratch.products.chunks_exact(stride)) {
            scratch.scores[row * TILE + to..][..len].copy_from_slice(&products[skip..skip + len]);
        }
    }
}

/// Adds a tile's values, weighted by the softened scores, to the sums of the rows `rows.0..rows.1`.
fn add_values(
    compute: &Compute,
    view: &LayerView<'_>,
    kv_head: usize,
    tile: (usize, usize),
    rows: (usize, usize),
    scratch: &mut Scratch,
) {
    let KvShape { kv_heads, head_dim, .. } = view.shape;
    for (from, local, len, data) in view.pieces(tile.0, tile.1) {
        for token in 0..len {
            let values = &data.values[((local + token) * kv_heads + kv_head) * head_dim..][..head_dim];
            compute.kernels.widen(values, &mut scratch.values[(from - tile.0 + token) * head_dim..][..head_dim]);
        }
    }
    let block = GemmBlock {
        m: rows.1 - rows.0,
        depth: tile.1,
        panels: head_dim / PANEL,
        a: scratch.scores[rows.0 * TILE..].as_ptr(),
        a_stride: TILE,
        b: scratch.values.as_ptr(),
        b_step: head_dim,
        b_panel: PANEL,
        c: scratch.sums[rows.0 * head_dim..].as_mut_ptr(),
        c_stride: head_dim,
        accumulate: true,
    };
    // SAFETY: `prepare` made room for all rows; the tile's values were just written.
    unsafe { compute.kernels.gemm(&block) };
}
