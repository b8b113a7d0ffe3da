//! What a run of the layers writes to.

use std::ops::Range;

use super::ArchSpec;

/// Activations of a chunk, each `[tokens, width]`.
pub(super) struct Buffers {
    pub(super) hidden: Vec<f32>,
    pub(super) normed: Vec<f32>,
    /// Only for architectures with post norms.
    pub(super) returned: Vec<f32>,
    pub(super) queries: Vec<f32>,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
}

impl Buffers {
    pub(super) fn new(spec: &ArchSpec, count: usize) -> Self {
        let zeros = |width: usize| vec![0.0; count * width];
        Self {
            hidden: zeros(spec.hidden),
            normed: zeros(spec.hidden),
            returned: zeros(if spec.post_norms { spec.hidden } else { 0 }),
            queries: zeros(spec.heads * spec.head_dim),
            keys: zeros(spec.kv_heads * spec.head_dim),
            values: zeros(spec.kv_heads * spec.head_dim),
            mixed: zeros(spec.heads * spec.head_dim),
            gate: zeros(spec.feed_forward),
            up: zeros(spec.feed_forward),
        }
    }

    /// Keeps the activations and queries of some rows, ascending, and room for what is made of them.
    pub(super) fn keep(&mut self, spec: &ArchSpec, rows: &[Range<usize>]) {
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let query_width = spec.heads * spec.head_dim;
        for (buffer, width) in [(&mut self.hidden, spec.hidden), (&mut self.queries, query_width)] {
            let mut to = 0;
            for rows in rows {
                buffer.copy_within(rows.start * width..rows.end * width, to);
                to += rows.len() * width;
            }
            buffer.truncate(to);
        }
        let Self { normed, returned, mixed, gate, up, .. } = self;
        normed.truncate(count * spec.hidden);
        returned.truncate(count * spec.hidden);
        mixed.truncate(count * query_width);
        gate.truncate(count * spec.feed_forward);
        up.truncate(count * spec.feed_forward);
    }
}
