//! One decoder for Llama, Qwen and Gemma, driven by an [`ArchSpec`]; its caches belong to the caller.
//!
//! [`Decoder::forward`] reads a shared prefix, extends the caller's tail, and returns logits; the decoder itself holds
//! nothing but weights, so any number of sessions use one. It computes with kernels of our own on the processor, or
//! with tensors on a device.
//!
//! Not here: tokens and text, sampling, which caches are kept.

mod attention;
mod batch;
mod blend;
mod buffers;
mod compute;
mod linear;
mod processor;
mod random;
mod rope;
mod spec;
mod tensors;
#[cfg(test)]
mod window_tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mos_core::ModelError;

pub use batch::Sequence;
pub(crate) use compute::Compute;
pub(crate) use linear::Linear;
#[cfg(test)]
pub(crate) use linear::multiply;
pub(crate) use processor::{Layer, Weights};
pub use random::RandomWeights;
pub use rope::{RopeLayout, RopeScaling};
pub use spec::{Activation, ArchSpec, AttentionBias, SlidingWindow};

use crate::cpu::CpuPath;
use crate::device::{ComputeDevice, TensorDevice};
use crate::kv::{KvPrefix, KvTail, foreign};
use processor::Processor;
use tensors::TensorModel;

/// Tokens that are computed at once, when the caller does not say otherwise; the last ones of a run may be half as
/// many again. On a device there are more, see [`Decoder::moved_to`].
pub const CHUNK_TOKENS: usize = 256;
/// The same on a device: it is busy only with many.
const DEVICE_CHUNK_TOKENS: usize = 1024;

/// Names the exact weights and constants of a model: equal fingerprints compute equal caches.
///
/// As text, and when serialised, 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Tells a computation to stop.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks everyone who looks at this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which logits a forward run returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: only the caches are wanted.
    None,
    /// Those after the last token, `[1, vocabulary]`.
    Last,
    /// Those after every token, `[tokens, vocabulary]`.
    All,
}

/// A loaded model.
pub struct Decoder {
    backend: Backend,
    chunk_tokens: usize,
}

/// What computes.
enum Backend {
    Processor(Box<Processor>),
    Tensors(Box<TensorModel>),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Decoder");
        shown.field("spec", self.spec());
        match &self.backend {
            Backend::Processor(processor) => shown.field("compute", &processor.compute.team).finish(),
            Backend::Tensors(model) => shown.field("device", model.place()).finish(),
        }
    }
}

impl Decoder {
    pub(crate) fn new(weights: Weights, threads: usize, path: CpuPath) -> Result<Self, ModelError> {
        let backend = Backend::Processor(Box::new(Processor::new(weights, threads, path)?));
        Ok(Self { backend, chunk_tokens: CHUNK_TOKENS })
    }

    /// Returns the same model, computing on a device; blocks while the weights move there, as plain numbers of the
    /// device's type. They take more room there than quantised in memory.
    ///
    /// Results are those of the processor up to rounding, not bit by bit, and nor do they stay bit by bit the same
    /// when a prompt is cut otherwise: a device adds in another order for other sizes. Caches move between both:
    /// prefixes go anywhere; a tail belongs to the device that it was begun on.
    ///
    /// # Errors
    /// As [`ComputeDevice::check`]; [`ModelError::Invalid`] when the device does not answer, or the model is on one
    /// already; [`ModelError::Unavailable`] when the device has too little memory.
    pub fn moved_to(self, device: ComputeDevice) -> Result<Self, ModelError> {
        let Some(place) = device.open()? else { return Ok(self) };
        match self.backend {
            Backend::Processor(processor) => {
                let model = TensorModel::upload(*processor, place)?;
                Ok(Self { backend: Backend::Tensors(Box::new(model)), chunk_tokens: DEVICE_CHUNK_TOKENS })
            }
            Backend::Tensors(model) => Err(ModelError::Invalid(format!(
                "the model is on {} already and does not move on; open it again for another device",
                model.place()
            ))),
        }
    }

    /// Returns what computes, for people: `cpu`, or for example `cuda:0 (bf16)`.
    pub fn device(&self) -> String {
        self.place().map_or_else(|| ComputeDevice::Processor.to_string(), ToString::to_string)
    }

    fn place(&self) -> Option<&Arc<TensorDevice>> {
        match &self.backend {
            Backend::Processor(_) => None,
            Backend::Tensors(model) => Some(model.place()),
        }
    }

    /// Changes how many tokens are computed at once (at least 1; the last ones of a run may be half as many again).
    /// Results do not depend on it.
    pub fn set_chunk_tokens(&mut self, tokens: usize) {
        self.chunk_tokens = tokens.max(1);
    }

    /// Returns how many of `left` tokens to compute at once. A few that would be left over go along: rows share the
    /// reading of the weights, and few rows leave it unpaid.
    pub(crate) fn next_chunk(&self, left: usize) -> usize {
        if left <= self.chunk_tokens + self.chunk_tokens / 2 { left } else { self.chunk_tokens }
    }

    /// Returns the sizes and constants of the model.
    pub fn spec(&self) -> &ArchSpec {
        match &self.backend {
            Backend::Processor(processor) => &processor.weights.spec,
            Backend::Tensors(model) => model.spec(),
        }
    }

    /// Returns the name of the exact weights.
    pub fn fingerprint(&self) -> Fingerprint {
        match &self.backend {
            Backend::Processor(processor) => processor.weights.fingerprint,
            Backend::Tensors(model) => model.fingerprint(),
        }
    }

    /// Returns the number of threads that compute; 1, which waits, when a device does.
    pub fn threads(&self) -> usize {
        match &self.backend {
            Backend::Processor(processor) => processor.compute.team.threads(),
            Backend::Tensors(_) => 1,
        }
    }

    /// Returns the bytes that the weights take, in memory or on the device.
    pub fn weight_bytes(&self) -> usize {
        match &self.backend {
            Backend::Processor(processor) => processor.weight_bytes(),
            Backend::Tensors(model) => model.weight_bytes(),
        }
    }

    /// Returns an empty tail for this model.
    pub fn new_tail(&self) -> KvTail {
        KvTail::new(self.spec().kv_shape(), self.fingerprint(), self.place())
    }

    /// Computes `tokens` after `prefix` and `tail`, and appends them to `tail`.
    ///
    /// Returns the logits asked for, row by row. After an exact prefix the same tokens give the same bits on the
    /// processor, however they are split between prefix, tail and `tokens`. Causality is by place in the conversation; shifted parts of a
    /// prefix are attended as if they had been computed where their shift puts them. After an error the tail is as it
    /// was before the call.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the tokens are not in the vocabulary, when the caches belong to another model, or
    /// the tail began after another prefix or on another device; [`ModelError::TooLong`] when the tokens do not fit into
    /// the context; [`ModelError::BadModel`] when queries, keys, values or logits are not finite numbers;
    /// [`ModelError::Unavailable`] when a device's memory is full; [`ModelError::Cancelled`] when `cancel` asked to stop.
    pub fn forward(
        &self,
        tokens: &[u32],
        prefix: &KvPrefix,
        tail: &mut KvTail,
        want: LogitRows,
        cancel: &CancelToken,
    ) -> Result<Vec<f32>, ModelError> {
        let logits = self.forward_batch(&mut [Sequence { tokens, prefix, tail }], want, cancel)?;
        Ok(logits.into_iter().next().unwrap_or_default())
    }

    /// Refuses another model's caches.
    pub(crate) fn check_owner(&self, prefix: &KvPrefix) -> Result<(), ModelError> {
        let own = (self.fingerprint(), self.spec().kv_shape());
        if prefix.parts().all(|part| (part.segment.fingerprint(), part.segment.shape()) == own) {
            Ok(())
        } else {
            Err(foreign())
        }
    }

    /// Refuses a prefix that cannot stand before `more` tokens.
    fn check_prefix(&self, prefix: &KvPrefix, more: usize) -> Result<(), ModelError> {
        self.check_owner(prefix)?;
        let spec = self.spec();
        let total = prefix.len() + more;
        if total > spec.context_length {
            return Err(ModelError::TooLong { n_tokens: total, limit: spec.context_length });
        }
        Ok(())
    }

    fn check(&self, tokens: &[u32], prefix: &KvPrefix, tail: &KvTail) -> Result<(), ModelError> {
        let spec = self.spec();
        if (tail.fingerprint(), tail.shape()) != (self.fingerprint(), spec.kv_shape()) {
            return Err(foreign());
        }
        if !tail.is_at(self.place()) {
            return Err(ModelError::Invalid(
                "this tail was begun on another device; begin a new one with this decoder, or freeze it and put it \
                 into a prefix"
                    .to_owned(),
            ));
        }
        self.check_prefix(prefix, tail.len() + tokens.len())?;
        self.check_tokens(tokens)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let spec = self.spec();
        match tokens.iter().find(|&&token| token as usize >= spec.vocabulary) {
            Some(token) => Err(ModelError::Invalid(format!(
                "token {token} is not in the model's vocabulary of {}; tokenizer and weights do not belong together",
                spec.vocabulary
            ))),
            None => Ok(()),
        }
    }
}
