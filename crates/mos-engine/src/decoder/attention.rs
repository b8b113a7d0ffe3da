//! Causal attention over kept and new tokens.
//!
//! The query heads that share a key head are rows of one small product. Keys come in tiles of 64 positions, counted
//! from the start of the conversation, and the softmax runs along the tiles; so a row's result depends on its position
//! alone, not on where a prefix ends or how a prompt was cut into chunks.

#![allow(unsafe_code, reason = "threads write disjoint rows of one output")]

use std::cell::RefCell;

use super::Compute;
use super::rope::Rope;
use crate::compute::{FEW_ROWS, GemmBlock, PANEL, SharedMut};
use crate::kv::{KvPrefix, KvShape, KvTail, LayerKv};

/// Positions of a tile.
const TILE: usize = 64;
/// New tokens that one task takes.
const TOKENS: usize = 32;
/// Panels that a tile can touch in one segment, when the segment's panels do not start where tiles do.
const TILE_PANELS: usize = TILE / PANEL + 1;

/// What a layer sees of the tokens before, and how it scores them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// How many tokens a token sees, itself included; `None` for all.
    pub(super) window: Option<usize>,
    /// What the products of queries and keys are multiplied with.
    pub(super) scale: f32,
    /// Bounds the scores.
    pub(super) softcap: Option<f32>,
}

impl Reach {
    /// The first position that the token at `position` sees.
    pub(super) fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The first position whose token does not see the one at `position` any more.
    fn end_of_sight(&self, position: usize) -> usize {
        self.window.map_or(usize::MAX, |window| position.saturating_add(window))
    }
}

/// The turns of queries that meet the shifted parts of a prefix: cosines and sines per part; none for parts whose keys
/// are used as they were rotated.
pub(super) type Turns = Vec<Option<(Vec<f32>, Vec<f32>)>>;

/// Returns the turns for a prefix: a query at `p` meets a key that was moved by `shift` as one at `p - shift` would
/// meet it where it was computed.
pub(super) fn turns(rope: &Rope, prefix: &KvPrefix) -> Turns {
    prefix.parts().map(|part| (part.shift != 0).then(|| rope.turn(-part.shift))).collect()
}

/// Tokens that stand together in a conversation, and where their keys and values are.
struct Part<'a> {
    /// Place of the first token in the conversation.
    start: usize,
    len: usize,
    /// Number of the first token in the data.
    offset: usize,
    turn: Option<&'a (Vec<f32>, Vec<f32>)>,
    data: &'a LayerKv,
}

/// Keys and values of one layer, where each part starts in the conversation.
pub(super) struct LayerView<'a> {
    /// In order and without gaps.
    parts: Vec<Part<'a>>,
    shape: KvShape,
    rope: &'a Rope,
}

impl<'a> LayerView<'a> {
    /// Looks at `layer` of a prefix and `tail_len` tokens of a tail.
    pub(super) fn new(
        rope: &'a Rope,
        turns: &'a Turns,
        prefix: &'a KvPrefix,
        tail: &'a KvTail,
        tail_len: usize,
        layer: usize,
    ) -> Self {
        let mut start = 0;
        let mut parts = Vec::with_capacity(turns.len() + 1);
        for (part, turn) in prefix.parts().zip(turns) {
            let (len, offset, data) = (part.len(), part.range.start, part.segment.layer(layer));
            parts.push(Part { start, len, offset, turn: turn.as_ref(), data });
            start += len;
        }
        parts.push(Part { start, len: tail_len, offset: 0, turn: None, data: tail.layer(layer) });
        Self { parts, shape: tail.shape(), rope }
    }

    /// Looks at `len` tokens that lie together.
    pub(super) fn whole(rope: &'a Rope, shape: KvShape, data: &'a LayerKv, len: usize) -> Self {
        Self { parts: vec![Part { start: 0, len, offset: 0, turn: None, data }], shape, rope }
    }

    fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.start + part.len)
    }

    /// The pieces of the parts inside `first..first + len`.
    fn pieces(&self, first: usize, len: usize) -> impl Iterator<Item = Piece<'_>> + '_ {
        self.parts.iter().enumerate().filter_map(move |(number, part)| {
            let from = part.start.max(first);
            let to = (part.start + part.len).min(first + len);
            let local = from - part.start + part.offset;
            (from < to).then(|| Piece { from, local, len: to - from, part: number, data: part.data })
        })
    }
}

/// A part's share of a tile.
struct Piece<'a> {
    /// Place of the first token in the conversation.
    from: usize,
    /// Number of the first token in the data.
    local: usize,
    len: usize,
    part: usize,
    data: &'a LayerKv,
}

impl<'a> Piece<'a> {
    /// The values of a head, from those of the first token to those of the last; a token's are `KvShape::row` apart.
    fn values(&self, shape: KvShape, kv_head: usize) -> &'a [u16] {
        let start = self.local * shape.row() + kv_head * shape.head_dim;
        &self.data.values[start..][..(self.len - 1) * shape.row() + shape.head_dim]
    }
}

/// New tokens of one conversation, as rows of a packed computation.
pub(super) struct Run<'a> {
    /// Row of the first token.
    pub(super) row: usize,
    /// Places in the conversation, ascending.
    pub(super) positions: &'a [usize],
    pub(super) view: LayerView<'a>,
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
    /// The queries as the keys of one part want them, and the number of that part.
    turned: Vec<f32>,
    turned_for: Option<usize>,
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

/// Writes the attention of `queries` (`[rows, heads, head_dim]`, those of the runs one after the other) to `out`,
/// which has the same shape. The views must hold the new tokens' keys and values.
pub(super) fn attend(
    compute: &Compute,
    queries: &[f32],
    heads: usize,
    runs: &[Run<'_>],
    reach: Reach,
    out: &mut [f32],
) {
    let Some(shape) = runs.first().map(|run| run.view.shape) else { return };
    let group = heads / shape.kv_heads;
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        blocks.extend((0..run.positions.len().div_ceil(TOKENS)).map(|block| (number, block * TOKENS)));
    }
    // The block that sees the most keys goes first, so that no thread is left alone with it.
    blocks.sort_by_key(|&(number, first)| std::cmp::Reverse(runs[number].positions[first]));
    // With few tokens (an answer being made) the heads of a group may be shared out as well; not when there is work for
    // all threads, since each share widens the same keys and values again.
    let (threads, tasks) = (compute.team.threads(), shape.kv_heads * blocks.len().max(1));
    let shares = if tasks >= threads { 1 } else { (2 * threads).div_ceil(tasks).min(group) };
    let heads_per_share = group.div_ceil(shares);
    let out = SharedMut::new(out);
    compute.team.run(blocks.len() * shape.kv_heads * shares, &|task| {
        let (share, task) = (task % shares, task / shares);
        let (kv_head, (number, first_token)) = (task % shape.kv_heads, blocks[task / shape.kv_heads]);
        let first_head = share * heads_per_share;
        if first_head >= group {
            return;
        }
        let run = &runs[number];
        let rows = Rows {
            kv_head,
            first_token,
            tokens: TOKENS.min(run.positions.len() - first_token),
            first_head: kv_head * group + first_head,
            heads: heads_per_share.min(group - first_head),
        };
        SCRATCH.with_borrow_mut(|scratch| attend_rows(compute, queries, heads, run, reach, &rows, scratch, out));
    });
}

#[allow(clippy::too_many_arguments, reason = "one call site; the arguments are the state of a task")]
fn attend_rows(
    compute: &Compute,
    queries: &[f32],
    heads: usize,
    run: &Run<'_>,
    reach: Reach,
    rows: &Rows,
    scratch: &mut Scratch,
    out: SharedMut<'_>,
) {
    let view = &run.view;
    let head_dim = view.shape.head_dim;
    let count = rows.tokens * rows.heads;
    scratch.prepare(count, head_dim);
    let place = |row: usize| {
        let token = run.row + rows.first_token + row / rows.heads;
        (token * heads + rows.first_head + row % rows.heads) * head_dim
    };
    for (row, to) in scratch.queries[..count * head_dim].chunks_exact_mut(head_dim).enumerate() {
        for (to, from) in to.iter_mut().zip(&queries[place(row)..]) {
            *to = from * reach.scale;
        }
    }
    let positions = &run.positions[rows.first_token..][..rows.tokens];
    let end = (positions[rows.tokens - 1] + 1).min(view.len());
    // Tiles before all windows are left out; the others stay where they are, whatever the window.
    for first in (reach.first_seen(positions[0]) / TILE * TILE..end).step_by(TILE) {
        let len = TILE.min(end - first);
        // Rows of tokens before the tile see nothing of it, nor do those whose window starts after it.
        let skipped = positions.partition_point(|&position| position < first) * rows.heads;
        let end_of_sight = reach.end_of_sight(first + len - 1);
        let seeing = positions.partition_point(|&position| position < end_of_sight) * rows.heads;
        // Between far positions there may be tiles that nobody sees.
        if skipped == seeing {
            continue;
        }
        score_tile(compute, view, rows.kv_head, (first, len), (skipped, seeing), scratch);
        for row in skipped..seeing {
            let position = positions[row / rows.heads];
            let visible = reach.first_seen(position).saturating_sub(first)..(position + 1 - first).min(len);
            let scores = &mut scratch.scores[row * TILE..][..TILE];
            if let Some(cap) = reach.softcap {
                compute.kernels.softcap(&mut scores[visible.clone()], cap);
            }
            let (max, sum) = &mut scratch.state[row];
            let factor = compute.kernels.soften(scores, visible, max, sum);
            if factor != 1.0 {
                compute.kernels.scale(&mut scratch.sums[row * head_dim..][..head_dim], factor);
            }
        }
        add_values(compute, view, rows.kv_head, (first, len), (skipped, seeing), scratch);
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
        self.turned_for = None;
        self.sums.clear();
        self.sums.resize(rows * head_dim, 0.0);
        self.state.clear();
        self.state.resize(rows, (f32::NEG_INFINITY, 0.0));
    }

    /// Returns all queries as the keys of a part want them; turned once for all tiles of the part.
    fn queries_for(&mut self, view: &LayerView<'_>, part: usize) -> &[f32] {
        let len = self.state.len() * view.shape.head_dim;
        let Some((cosines, sines)) = view.parts[part].turn else { return &self.queries[..len] };
        if self.turned_for != Some(part) {
            self.turned.clear();
            self.turned.extend_from_slice(&self.queries[..len]);
            view.rope.rotate(&mut self.turned, cosines, sines);
            self.turned_for = Some(part);
        }
        &self.turned
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
    let (m, lanes) = (rows.1 - rows.0, head_dim * PANEL);
    let stride = kv_heads * lanes;
    // In order: what the last panel of a piece holds beyond the piece is overwritten by the next, or not looked at.
    for Piece { from, local, len, part, data } in view.pieces(tile.0, tile.1) {
        let first_panel = local / PANEL;
        let panels = (local + len).div_ceil(PANEL) - first_panel;
        let keys = &data.keys[(first_panel * kv_heads + kv_head) * lanes..][..(panels - 1) * stride + lanes];
        if m > FEW_ROWS {
            compute.kernels.widen_rows(keys, stride, panels, lanes, &mut scratch.keys[..panels * lanes]);
        }
        let (to, skip, lanes_out) = (from - tile.0, local % PANEL, panels * PANEL);
        // Where a segment's panels do not start at a token of the tile, the products are put in place afterwards.
        let in_place = skip == 0 && to + lanes_out <= TILE;
        let queries = scratch.queries_for(view, part)[rows.0 * head_dim..rows.1 * head_dim].as_ptr();
        let block = GemmBlock {
            m,
            depth: head_dim,
            panels,
            a: queries,
            a_stride: head_dim,
            b: scratch.keys.as_ptr(),
            b_step: PANEL,
            b_panel: lanes,
            c: if in_place { scratch.scores[rows.0 * TILE + to..].as_mut_ptr() } else { scratch.products.as_mut_ptr() },
            c_stride: if in_place { TILE } else { lanes_out },
            accumulate: false,
        };
        // SAFETY: `prepare` made room for all rows and for the panels that a tile can touch; `keys` holds the panels.
        unsafe {
            if m > FEW_ROWS {
                compute.kernels.gemm(&block);
            } else {
                compute.kernels.gemm_few(&block.over(keys.as_ptr(), PANEL, stride));
            }
        }
        if !in_place {
            for (row, products) in (rows.0..rows.1).zip(scratch.products.chunks_exact(lanes_out)) {
                scratch.scores[row * TILE + to..][..len].copy_from_slice(&products[skip..skip + len]);
            }
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
    let (m, head_dim, stride) = (rows.1 - rows.0, view.shape.head_dim, view.shape.row());
    if m > FEW_ROWS {
        for piece in view.pieces(tile.0, tile.1) {
            let to = &mut scratch.values[(piece.from - tile.0) * head_dim..][..piece.len * head_dim];
            compute.kernels.widen_rows(piece.values(view.shape, kv_head), stride, piece.len, head_dim, to);
        }
    }
    let block = GemmBlock {
        m,
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
    if m > FEW_ROWS {
        // SAFETY: `prepare` made room for all rows; the tile's values were just written.
        unsafe { compute.kernels.gemm(&block) };
    } else {
        for piece in view.pieces(tile.0, tile.1) {
            let scores = scratch.scores[rows.0 * TILE + piece.from - tile.0..].as_ptr();
            let block = GemmBlock { depth: piece.len, a: scores, ..block };
            // SAFETY: `prepare` made room for all rows; the piece's values are as many as the depth says.
            unsafe { compute.kernels.gemm_few(&block.over(piece.values(view.shape, kv_head).as_ptr(), stride, PANEL)) };
        }
    }
}
