//! Keys and values that never change.

use std::borrow::Cow;
use std::fmt;

use mos_core::ModelError;

use super::{DeviceSlot, KvShape, LayerKv, context_of};
use crate::decoder::Fingerprint;

/// Keys and values of some tokens; immutable and shared.
pub struct KvSegment {
    pub(super) shape: KvShape,
    pub(super) fingerprint: Fingerprint,
    pub(super) start: usize,
    pub(super) context: Option<[u8; 32]>,
    pub(super) tokens: Vec<u32>,
    pub(super) layers: Vec<LayerKv>,
    pub(super) device: DeviceSlot,
}

impl KvSegment {
    /// Builds a segment from plain rows.
    ///
    /// `rows` is called once per layer, in order, and returns keys and values, each `[kv_heads, tokens, head_dim]` as
    /// `f16` bits; the keys are rotated by their positions `start..`. Values are taken as they are: whoever reads
    /// them from a file checks that the file is whole.
    ///
    /// A segment that starts at 0 counts as exactly what the model computes, one that starts later does not, since
    /// nothing says what came before; [`KvSegment::with_context`] says otherwise.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when sizes do not fit, and what `rows` returns.
    pub fn from_rows<'a>(
        shape: KvShape,
        fingerprint: Fingerprint,
        start: usize,
        tokens: Vec<u32>,
        mut rows: impl FnMut(usize) -> Result<(Cow<'a, [u16]>, Cow<'a, [u16]>), ModelError>,
    ) -> Result<Self, ModelError> {
        let KvShape { layers: count, kv_heads, head_dim } = shape;
        let size = |tokens: usize| kv_heads.checked_mul(head_dim)?.checked_mul(tokens);
        let Some(len) = size(tokens.len()).filter(|_| count > 0 && kv_heads > 0 && head_dim > 0) else {
            return Err(ModelError::Invalid(format!(
                "keys and values of {count} layers, {kv_heads} heads of {head_dim} and {} tokens make no sense; the \
                 source is damaged",
                tokens.len()
            )));
        };
        if start.checked_add(tokens.len()).is_none() {
            return Err(ModelError::Invalid(format!("no conversation is so long that position {start} exists")));
        }
        let mut layers = Vec::new();
        for layer in 0..count {
            let (keys, values) = rows(layer)?;
            if keys.len() != len || values.len() != len {
                return Err(ModelError::Invalid(format!(
                    "layer {layer} has {} keys and {} values, but {kv_heads} heads of {head_dim} and {} tokens need \
                     {len} of each; the source is damaged or belongs to another model",
                    keys.len(),
                    values.len(),
                    tokens.len()
                )));
            }
            layers.push(LayerKv::from_rows(shape, tokens.len(), &keys, &values));
        }
        let context = (start == 0).then(|| context_of([]));
        Ok(Self { shape, fingerprint, start, context, tokens, layers, device: DeviceSlot::default() })
    }

    /// Builds a segment from position 0 on.
    pub(crate) fn assemble(
        shape: KvShape,
        fingerprint: Fingerprint,
        context: Option<[u8; 32]>,
        tokens: Vec<u32>,
        layers: Vec<LayerKv>,
    ) -> Self {
        Self { shape, fingerprint, start: 0, context, tokens, layers, device: DeviceSlot::default() }
    }

    /// Changes what [`KvSegment::context`] says: which tokens the segment was computed after, or, with `None`, that
    /// it is not exactly what the model computes (it was compressed, or put together).
    #[must_use]
    pub fn with_context(self, context: Option<[u8; 32]>) -> Self {
        Self { context, ..self }
    }

    /// Returns the position of the first token when the segment was computed.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns the name, by [`context_of`], of the `start` tokens that came before; `None` when the segment is not
    /// exactly what the model computes for its tokens after others.
    pub fn context(&self) -> Option<[u8; 32]> {
        self.context
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns the bytes that keys and values take in memory.
    pub fn bytes(&self) -> usize {
        self.shape.bytes(self.len())
    }

    /// Returns the tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the model that the segment was computed with.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the sizes.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Returns the keys of a layer, rotated by their positions, `[kv_heads, tokens, head_dim]` as `f16` bits.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn keys(&self, layer: usize) -> Vec<u16> {
        self.layers[layer].key_rows(self.shape, self.len())
    }

    /// Returns the values of a layer, `[kv_heads, tokens, head_dim]` as `f16` bits.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn values(&self, layer: usize) -> Vec<u16> {
        self.layers[layer].value_rows(self.shape, self.len())
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }
}

impl fmt::Debug for KvSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvSegment")
            .field("start", &self.start)
            .field("tokens", &self.tokens.len())
            .field("shape", &self.shape)
            .finish()
    }
}
