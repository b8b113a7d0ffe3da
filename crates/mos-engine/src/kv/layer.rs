//! Keys and values of one layer, and their conversion from and to plain rows.

use half::slice::HalfFloatSliceExt;
use mos_core::ModelError;
use rayon::prelude::*;

use super::KvShape;
use crate::compute::PANEL;
use crate::error::not_finite;

/// Tokens that one thread converts at a time; fewer are not worth a second thread.
const TOKENS_PER_TASK: usize = 16 * PANEL;

/// The largest of some `f16` values, apart from their signs; infinity and what is no number are larger than all others.
#[derive(Default)]
pub(crate) struct Largest(u16);

impl Largest {
    pub(crate) fn add(&mut self, bits: u16) {
        self.0 = self.0.max(bits & 0x7fff);
    }

    /// # Errors
    /// [`ModelError::BadModel`] when one of the values, which are keys or values, is not a finite number.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if self.0 < half::f16::INFINITY.to_bits() { Ok(()) } else { Err(not_finite("keys or values")) }
    }
}

/// Keys and values of one layer, as `f16` bits.
#[derive(Clone, Default)]
pub(crate) struct LayerKv {
    pub(crate) keys: Vec<u16>,
    pub(crate) values: Vec<u16>,
}

impl LayerKv {
    /// Returns room for `tokens` tokens.
    pub(crate) fn zeros(shape: KvShape, tokens: usize) -> Self {
        let row = shape.row();
        Self { keys: vec![0; tokens.next_multiple_of(PANEL) * row], values: vec![0; tokens * row] }
    }

    /// Writes a token's keys, `[kv_heads, head_dim]`.
    pub(crate) fn put_key(&mut self, shape: KvShape, token: usize, key: impl Iterator<Item = u16>) {
        let panel = &mut self.keys[token / PANEL * PANEL * shape.row()..];
        for (lanes, bits) in panel.chunks_exact_mut(PANEL).zip(key.take(shape.row())) {
            lanes[token % PANEL] = bits;
        }
    }

    /// Rounds and writes keys and values, each `[places, kv_heads, head_dim]`, of the tokens at `places`.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when one of them, rounded, is not a finite number. They are written nevertheless.
    pub(crate) fn put(
        &mut self,
        shape: KvShape,
        places: impl IntoIterator<Item = usize>,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), ModelError> {
        let mut largest = Largest::default();
        let mut rounded = vec![half::f16::ZERO; shape.row()];
        let rows = keys.chunks_exact(shape.row()).zip(values.chunks_exact(shape.row()));
        for (place, (key, value)) in places.into_iter().zip(rows) {
            rounded.convert_from_f32_slice(key);
            rounded.iter().for_each(|value| largest.add(value.to_bits()));
            self.put_key(shape, place, rounded.iter().map(|value| value.to_bits()));
            rounded.convert_from_f32_slice(value);
            rounded.iter().for_each(|value| largest.add(value.to_bits()));
            self.put_value(shape, place, rounded.iter().map(|value| value.to_bits()));
        }
        largest.check()
    }

    /// Returns a token's keys, `[kv_heads, head_dim]`.
    pub(crate) fn key(&self, shape: KvShape, token: usize) -> impl Iterator<Item = u16> + '_ {
        let panel = &self.keys[token / PANEL * PANEL * shape.row()..];
        panel.chunks_exact(PANEL).take(shape.row()).map(move |lanes| lanes[token % PANEL])
    }

    /// Writes a token's values, `[kv_heads, head_dim]`.
    pub(crate) fn put_value(&mut self, shape: KvShape, token: usize, value: impl Iterator<Item = u16>) {
        let to = &mut self.values[token * shape.row()..][..shape.row()];
        to.iter_mut().zip(value).for_each(|(to, bits)| *to = bits);
    }

    /// Returns a token's values, `[kv_heads, head_dim]`.
    pub(crate) fn value(&self, shape: KvShape, token: usize) -> &[u16] {
        &self.values[token * shape.row()..][..shape.row()]
    }

    /// Converts from rows `[kv_heads, tokens, head_dim]`.
    pub(super) fn from_rows(shape: KvShape, tokens: usize, keys: &[u16], values: &[u16]) -> Self {
        let (row, head_dim) = (shape.row(), shape.head_dim);
        let mut layer = Self::zeros(shape, tokens);
        let tasks = layer.keys.par_chunks_mut(TOKENS_PER_TASK * row);
        tasks.zip(layer.values.par_chunks_mut(TOKENS_PER_TASK * row)).enumerate().for_each(
            |(task, (panels, cells))| {
                let first = task * TOKENS_PER_TASK;
                for (number, panel) in panels.chunks_exact_mut(PANEL * row).enumerate() {
                    let start = first + number * PANEL;
                    let count = PANEL.min(tokens - start);
                    for (head, lanes) in panel.chunks_exact_mut(PANEL * head_dim).enumerate() {
                        let from = &keys[(head * tokens + start) * head_dim..][..count * head_dim];
                        for (lane, key) in from.chunks_exact(head_dim).enumerate() {
                            for (dimension, &bits) in key.iter().enumerate() {
                                lanes[dimension * PANEL + lane] = bits;
                            }
                        }
                    }
                }
                for (offset, cell) in cells.chunks_exact_mut(row).enumerate() {
                    for (head, to) in cell.chunks_exact_mut(head_dim).enumerate() {
                        to.copy_from_slice(&values[(head * tokens + first + offset) * head_dim..][..head_dim]);
                    }
                }
            },
        );
        layer
    }

    /// Returns the keys as rows `[kv_heads, tokens, head_dim]`.
    pub(super) fn key_rows(&self, shape: KvShape, tokens: usize) -> Vec<u16> {
        let (row, head_dim) = (shape.row(), shape.head_dim);
        rows(shape, tokens, |head, first, to| {
            for (number, to) in to.chunks_mut(PANEL * head_dim).enumerate() {
                let lanes = &self.keys[(first + number * PANEL) * row + head * head_dim * PANEL..][..head_dim * PANEL];
                for (lane, key) in to.chunks_exact_mut(head_dim).enumerate() {
                    for (bits, lanes) in key.iter_mut().zip(lanes.chunks_exact(PANEL)) {
                        *bits = lanes[lane];
                    }
                }
            }
        })
    }

    /// Returns the values as rows `[kv_heads, tokens, head_dim]`.
    pub(super) fn value_rows(&self, shape: KvShape, tokens: usize) -> Vec<u16> {
        let head_dim = shape.head_dim;
        rows(shape, tokens, |head, first, to| {
            for (offset, to) in to.chunks_exact_mut(head_dim).enumerate() {
                to.copy_from_slice(&self.value(shape, first + offset)[head * head_dim..][..head_dim]);
            }
        })
    }
}

/// Fills `[kv_heads, tokens, head_dim]`: calls `fill` with a head, the first token, and the rows from it on.
fn rows(shape: KvShape, tokens: usize, fill: impl Fn(usize, usize, &mut [u16]) + Sync) -> Vec<u16> {
    let head_dim = shape.head_dim;
    let mut out = vec![0; shape.kv_heads * tokens * head_dim];
    if tokens > 0 {
        out.par_chunks_mut(tokens * head_dim).enumerate().for_each(|(head, rows)| {
            rows.par_chunks_mut(TOKENS_PER_TASK * head_dim)
                .enumerate()
                .for_each(|(task, rows)| fill(head, task * TOKENS_PER_TASK, rows));
        });
    }
    out
}
