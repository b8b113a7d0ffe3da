//! The part of a conversation that is still growing.

use std::fmt;

use mos_core::ModelError;

use super::{KvPrefix, KvSegment, KvShape, LayerKv, context_of};
use crate::compute::PANEL;
use crate::decoder::Fingerprint;

/// A buffer that grows by single tokens gets this part of its length as room to spare.
const SPARE: usize = 8;

/// The part of a conversation that one session owns and extends.
pub struct KvTail {
    shape: KvShape,
    fingerprint: Fingerprint,
    /// Number of tokens before the first; meaningless while the tail is empty, as `context`.
    start: usize,
    context: Option<[u8; 32]>,
    tokens: Vec<u32>,
    layers: Vec<LayerKv>,
}

impl KvTail {
    pub(crate) fn new(shape: KvShape, fingerprint: Fingerprint) -> Self {
        let layers = vec![LayerKv::default(); shape.layers];
        Self { shape, fingerprint, start: 0, context: None, tokens: Vec::new(), layers }
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns the tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the bytes that keys and values take in memory, with the room that is kept for further tokens: at most
    /// an eighth of what was ever needed.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| size_of::<u16>() * (layer.keys.capacity() + layer.values.capacity())).sum()
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Notes what an empty tail begins after.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the tail was begun after another number of tokens.
    pub(crate) fn begin(&mut self, prefix: &KvPrefix) -> Result<(), ModelError> {
        if self.is_empty() {
            self.start = prefix.len();
            self.context = prefix.is_exact().then(|| context_of(prefix.tokens()));
        }
        if self.start != prefix.len() {
            return Err(ModelError::Invalid(format!(
                "this tail was computed after {} tokens and cannot go on after {}; use the prefix it began with, or \
                 a new tail",
                self.start,
                prefix.len()
            )));
        }
        Ok(())
    }

    /// Forgets all tokens after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        let (keys, values) = self.sizes(self.tokens.len());
        for layer in &mut self.layers {
            // Also what a broken-off computation left behind.
            layer.keys.truncate(keys);
            layer.values.truncate(values);
        }
    }

    fn sizes(&self, len: usize) -> (usize, usize) {
        (len.next_multiple_of(PANEL) * self.shape.row(), len * self.shape.row())
    }

    /// Returns a copy of the first `len` tokens that shares nothing with this tail.
    #[must_use]
    pub fn fork(&self, len: usize) -> Self {
        let len = len.min(self.len());
        let (keys, values) = self.sizes(len);
        let copy =
            |layer: &LayerKv| LayerKv { keys: layer.keys[..keys].to_vec(), values: layer.values[..values].to_vec() };
        Self {
            shape: self.shape,
            fingerprint: self.fingerprint,
            start: self.start,
            context: self.context,
            tokens: self.tokens[..len].to_vec(),
            layers: self.layers.iter().map(copy).collect(),
        }
    }

    /// Makes the tail an immutable segment that starts where the tail was begun.
    pub fn freeze(mut self) -> KvSegment {
        for layer in &mut self.layers {
            layer.keys.shrink_to_fit();
            layer.values.shrink_to_fit();
        }
        let Self { shape, fingerprint, start, context, tokens, layers } = self;
        KvSegment { shape, fingerprint, start, context, tokens, layers }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }

    /// Makes room for `more` tokens and for no others. What is little beside the tokens that are there is left to
    /// `append`, which moves them less often.
    pub(crate) fn reserve(&mut self, more: usize) {
        if more <= self.len() / SPARE {
            return;
        }
        let (keys, values) = self.sizes(self.len() + more);
        for layer in &mut self.layers {
            layer.keys.reserve_exact(keys.saturating_sub(layer.keys.len()));
            layer.values.reserve_exact(values.saturating_sub(layer.values.len()));
        }
    }

    /// Appends keys and values of one layer for the tokens after the current ones; `commit` makes them count.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when they are not finite numbers; `truncate` takes them away again.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) -> Result<(), ModelError> {
        let (shape, start) = (self.shape, self.tokens.len());
        let row = shape.row();
        let end = start + keys.len() / row;
        let store = &mut self.layers[layer];
        grow(&mut store.keys, end.next_multiple_of(PANEL) * row);
        grow(&mut store.values, end * row);
        store.put(shape, start..end, keys, values)
    }

    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

/// Lengthens a buffer. One that must be moved gets some room to spare, so that single tokens rarely move it.
fn grow(buffer: &mut Vec<u16>, len: usize) {
    if buffer.capacity() < len {
        buffer.reserve_exact(len + len / SPARE - buffer.len());
    }
    buffer.resize(len, 0);
}

impl fmt::Debug for KvTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvTail")
            .field("start", &self.start)
            .field("tokens", &self.tokens.len())
            .field("shape", &self.shape)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: KvShape = KvShape { layers: 2, kv_heads: 2, head_dim: 16 };

    fn extend(tail: &mut KvTail, tokens: usize) {
        let rows = vec![1.0; tokens * SHAPE.row()];
        for layer in 0..SHAPE.layers {
            tail.append(layer, &rows, &rows).unwrap();
        }
        tail.commit(&vec![0; tokens]);
    }

    #[test]
    fn what_is_announced_takes_its_own_room_and_single_tokens_an_eighth_more() {
        let mut tail = KvTail::new(SHAPE, Fingerprint([0; 32]));
        assert_eq!(tail.bytes(), 0);
        tail.reserve(1000);
        for _ in 0..10 {
            extend(&mut tail, 100);
        }
        assert_eq!(tail.bytes(), SHAPE.bytes(1000));
        let mut moves = 0;
        for _ in 0..1000 {
            let before = tail.bytes();
            extend(&mut tail, 1);
            moves += usize::from(tail.bytes() != before);
            let needed = SHAPE.bytes(tail.len());
            assert!((needed..=needed + needed / 8).contains(&tail.bytes()), "{}: {}", tail.len(), tail.bytes());
        }
        assert!(moves <= 16, "{moves}");
        // A few tokens are not worth moving all others for.
        let before = tail.bytes();
        tail.reserve(200);
        assert_eq!(tail.bytes(), before);
    }

    #[test]
    fn what_half_precision_cannot_hold_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65_520.0, -1e9] {
            for at in [0, 7, 2 * SHAPE.row() - 1] {
                let good = vec![65_504.0; 2 * SHAPE.row()];
                let mut rows = good.clone();
                rows[at] = bad;
                for (keys, values) in [(&rows, &good), (&good, &rows)] {
                    let mut tail = KvTail::new(SHAPE, Fingerprint([0; 32]));
                    assert!(tail.append(0, &good, &good).is_ok());
                    let error = tail.append(1, keys, values).unwrap_err();
                    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("not finite")), "{error}");
                }
            }
        }
    }
}
