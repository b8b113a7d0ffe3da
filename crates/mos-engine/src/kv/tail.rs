//! The part of a conversation that is still growing.

use std::fmt;
use std::sync::Arc;

use mos_core::ModelError;

use super::{DeviceSlot, DeviceTail, KvPrefix, KvSegment, KvShape, LayerKv, context_of};
use crate::compute::PANEL;
use crate::decoder::Fingerprint;
use crate::device::TensorDevice;

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
    /// Empty when the tail is on a device.
    layers: Vec<LayerKv>,
    device: Option<DeviceTail>,
}

impl KvTail {
    /// Returns an empty tail in memory, or at `place` on a device.
    pub(crate) fn new(shape: KvShape, fingerprint: Fingerprint, place: Option<&Arc<TensorDevice>>) -> Self {
        let layers = vec![LayerKv::default(); shape.layers];
        let device = place.map(DeviceTail::new);
        Self { shape, fingerprint, start: 0, context: None, tokens: Vec::new(), layers, device }
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
    /// an eighth of what was ever needed. On a device, those of the prefix are among them, and there is room for 64
    /// tokens at least.
    pub fn bytes(&self) -> usize {
        if let Some(device) = &self.device {
            return device.bytes(self.shape);
        }
        self.layers.iter().map(|layer| size_of::<u16>() * (layer.keys.capacity() + layer.values.capacity())).sum()
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the tail is at a place: in memory, or on a device.
    pub(crate) fn is_at(&self, place: Option<&Arc<TensorDevice>>) -> bool {
        match (&self.device, place) {
            (None, None) => true,
            (Some(device), Some(place)) => device.place().is_same(place),
            _ => false,
        }
    }

    /// The part on a device, if the tail is on one.
    pub(crate) fn device(&self) -> Option<&DeviceTail> {
        self.device.as_ref()
    }

    /// The part on a device, if the tail is on one.
    pub(crate) fn device_mut(&mut self) -> Option<&mut DeviceTail> {
        self.device.as_mut()
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
        let (keys, values) = if self.device.is_none() { self.sizes(len) } else { (0, 0) };
        let copy =
            |layer: &LayerKv| LayerKv { keys: layer.keys[..keys].to_vec(), values: layer.values[..values].to_vec() };
        Self {
            shape: self.shape,
            fingerprint: self.fingerprint,
            start: self.start,
            context: self.context,
            tokens: self.tokens[..len].to_vec(),
            layers: self.layers.iter().map(copy).collect(),
            device: self.device.clone(),
        }
    }

    /// Makes the tail an immutable segment that starts where the tail was begun. What is on a device comes back into
    /// memory; a copy stays there for who goes on with the segment.
    ///
    /// # Errors
    /// None in memory. On a device, [`ModelError::BadModel`] when keys or values are not finite numbers,
    /// [`ModelError::Internal`] when it fails.
    pub fn freeze(mut self) -> Result<KvSegment, ModelError> {
        let slot = DeviceSlot::default();
        if let Some(device) = self.device.take().filter(|_| !self.tokens.is_empty()) {
            let places = self.start..self.start + self.tokens.len();
            self.layers = device.download(self.shape, &places)?;
            if let Err(error) = device.leave_copy(self.shape, &places, &slot) {
                // All is in memory; only the next tail that begins with it is slower.
                tracing::debug!(%error, "a segment's copy was not left on the device");
            }
        }
        for layer in &mut self.layers {
            layer.keys.shrink_to_fit();
            layer.values.shrink_to_fit();
        }
        let Self { shape, fingerprint, start, context, tokens, layers, .. } = self;
        Ok(KvSegment { shape, fingerprint, start, context, tokens, layers, device: slot })
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }

    /// Makes room for `more` tokens and for no others. What is little beside the tokens that are there is left to
    /// `append`, which moves them less often.
    pub(crate) fn reserve(&mut self, more: usize) {
        let places = self.start + self.len() + more;
        if let Some(device) = &mut self.device {
            return device.announce(places);
        }
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
        let mut tail = KvTail::new(SHAPE, Fingerprint([0; 32]), None);
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
                    let mut tail = KvTail::new(SHAPE, Fingerprint([0; 32]), None);
                    assert!(tail.append(0, &good, &good).is_ok());
                    let error = tail.append(1, keys, values).unwrap_err();
                    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("not finite")), "{error}");
                }
            }
        }
    }
}
