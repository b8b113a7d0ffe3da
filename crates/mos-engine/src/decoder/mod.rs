//! A Llama-architecture decoder whose caches belong to the caller.
//!
//! [`Decoder::forward`] reads a shared prefix, extends the caller's tail, and returns logits; the decoder itself holds
//! nothing but weights, so any number of sessions use one.
//!
//! Not here: tokens and text, sampling, which caches are kept.

mod attention;
mod linear;
mod rope;
mod spec;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mos_core::ModelError;

pub(crate) use linear::Linear;
#[cfg(test)]
pub(crate) use linear::multiply;
pub use rope::{RopeLayout, RopeScaling};
pub use spec::ArchSpec;

use crate::compute::{Kernels, SharedMut, Team};
use crate::cpu::CpuPath;
use crate::error::internal;
use crate::kv::{KvPrefix, KvTail};
use attention::LayerView;
use rope::Rope;

/// Tokens that are computed between two looks at the cancel token, when the caller does not say otherwise.
pub const CHUNK_TOKENS: usize = 256;
/// Rows that one task of row-wise work takes.
const ROWS_PER_TASK: usize = 16;

/// Names the exact weights and constants of a model: equal fingerprints compute equal caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

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

/// Threads and instructions that a decoder computes with.
pub(crate) struct Compute {
    pub(crate) team: Team,
    pub(crate) kernels: Kernels,
}

impl Compute {
    pub(crate) fn new(threads: usize, path: CpuPath) -> Result<Self, ModelError> {
        let team = Team::new(threads).map_err(|error| internal("starting the compute threads", error))?;
        Ok(Self { team, kernels: Kernels::new(path) })
    }

    /// Calls `work` with the number and the parts of each row of `x` and `out`.
    fn rows(
        &self,
        x: &[f32],
        width: usize,
        out: &mut [f32],
        out_width: usize,
        work: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let rows = x.len() / width;
        let shared = SharedMut::new(out);
        self.team.run(rows.div_ceil(ROWS_PER_TASK), &|task| {
            for row in task * ROWS_PER_TASK..((task + 1) * ROWS_PER_TASK).min(rows) {
                // SAFETY: every row belongs to one task.
                #[allow(unsafe_code, reason = "rows are disjoint")]
                let out = unsafe { shared.part(row * out_width, out_width) };
                work(&x[row * width..][..width], out);
            }
        });
    }
}

/// The weights of one layer.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// The weights of a model, as a file's loader hands them over.
pub(crate) struct Weights {
    pub(crate) spec: ArchSpec,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) embedding: Linear,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// `None` when the embedding serves as output as well.
    pub(crate) output: Option<Linear>,
}

/// A loaded model.
pub struct Decoder {
    weights: Weights,
    rope: Rope,
    compute: Compute,
    chunk_tokens: usize,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("spec", &self.weights.spec).field("compute", &self.compute.team).finish()
    }
}

/// Activations of a chunk, each `[tokens, width]`.
struct Buffers {
    hidden: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Decoder {
    pub(crate) fn new(weights: Weights, threads: usize, path: CpuPath) -> Result<Self, ModelError> {
        let spec = &weights.spec;
        let rope = Rope::new(spec.rope_layout, spec.head_dim, spec.rope_theta, &spec.rope_scaling);
        Ok(Self { rope, compute: Compute::new(threads, path)?, chunk_tokens: CHUNK_TOKENS, weights })
    }

    /// Changes how many tokens are computed between two looks at the cancel token (at least 1). Results do not
    /// depend on it.
    pub fn set_chunk_tokens(&mut self, tokens: usize) {
        self.chunk_tokens = tokens.max(1);
    }

    /// Returns the sizes and constants of the model.
    pub fn spec(&self) -> &ArchSpec {
        &self.weights.spec
    }

    /// Returns the name of the exact weights.
    pub fn fingerprint(&self) -> Fingerprint {
        self.weights.fingerprint
    }

    /// Returns the number of threads that compute.
    pub fn threads(&self) -> usize {
        self.compute.team.threads()
    }

    /// Returns the bytes that the weights take in memory.
    pub fn weight_bytes(&self) -> usize {
        let Weights { embedding, layers, output, .. } = &self.weights;
        let of_layer = |layer: &Layer| {
            let Layer { query, key, value, attention_output, gate, up, down, .. } = layer;
            [query, key, value, attention_output, gate, up, down].map(Linear::bytes).iter().sum::<usize>()
        };
        embedding.bytes() + output.as_ref().map_or(0, Linear::bytes) + layers.iter().map(of_layer).sum::<usize>()
    }

    /// Returns an empty tail for this model.
    pub fn new_tail(&self) -> KvTail {
        KvTail::new(self.weights.spec.kv_shape(), self.weights.fingerprint)
    }

    /// Computes `tokens` after `prefix` and `tail`, and appends them to `tail`.
    ///
    /// Returns the logits asked for, row by row. The same tokens give the same bits, however they are split between
    /// prefix, tail and `tokens`. After an error the tail is as it was before the call.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the tokens do not fit into the context, are not in the vocabulary, or the caches
    /// belong to another model; [`ModelError::Cancelled`] when `cancel` asked to stop.
    pub fn forward(
        &self,
        tokens: &[u32],
        prefix: &KvPrefix,
        tail: &mut KvTail,
        want: LogitRows,
        cancel: &CancelToken,
    ) -> Result<Vec<f32>, ModelError> {
        self.check(tokens, prefix, tail)?;
        let before = tail.len();
        let result = self.forward_chunks(tokens, prefix, tail, want, cancel);
        if result.is_err() {
            tail.truncate(before);
        }
        result
    }

    fn check(&self, tokens: &[u32], prefix: &KvPrefix, tail: &KvTail) -> Result<(), ModelError> {
        let spec = &self.weights.spec;
        let same = |fingerprint, shape| fingerprint == self.weights.fingerprint && shape == spec.kv_shape();
        if !same(tail.fingerprint(), tail.shape())
            || !prefix.parts().all(|(segment, _)| same(segment.fingerprint(), segment.shape()))
        {
            return Err(ModelError::Invalid(
                "the kept keys and values were computed with another model; compute them again with this one"
                    .to_owned(),
            ));
        }
        let total = prefix.len() + tail.len() + tokens.len();
        if total > spec.context_length {
            return Err(ModelError::TooLong { n_tokens: total, limit: spec.context_length });
        }
        match tokens.iter().find(|&&token| token as usize >= spec.vocabulary) {
            Some(token) => Err(ModelError::Invalid(format!(
                "token {token} is not in the model's vocabulary of {}; tokenizer and weights do not belong together",
                spec.vocabulary
            ))),
            None => Ok(()),
        }
    }

    fn forward_chunks(
        &self,
        tokens: &[u32],
        prefix: &KvPrefix,
        tail: &mut KvTail,
        want: LogitRows,
        cancel: &CancelToken,
    ) -> Result<Vec<f32>, ModelError> {
        let mut logits = Vec::new();
        let mut done = 0;
        for chunk in tokens.chunks(self.chunk_tokens) {
            let hidden = self.forward_chunk(chunk, prefix, tail, cancel)?;
            done += chunk.len();
            match want {
                LogitRows::All => logits.extend(self.logits(&hidden)?),
                LogitRows::Last if done == tokens.len() => {
                    logits = self.logits(&hidden[hidden.len() - self.weights.spec.hidden..])?;
                }
                _ => {}
            }
        }
        Ok(logits)
    }

    /// Runs the layers over one chunk; returns the last activations, `[tokens, hidden]`.
    fn forward_chunk(
        &self,
        tokens: &[u32],
        prefix: &KvPrefix,
        tail: &mut KvTail,
        cancel: &CancelToken,
    ) -> Result<Vec<f32>, ModelError> {
        let spec = &self.weights.spec;
        let count = tokens.len();
        let position = prefix.len() + tail.len();
        let mut buffers = Buffers::new(spec, count);
        for (token, out) in tokens.iter().zip(buffers.hidden.chunks_exact_mut(spec.hidden)) {
            self.weights.embedding.row(&self.compute, *token as usize, out)?;
        }
        let angles = self.rope.angles(position, count);
        for (number, layer) in self.weights.layers.iter().enumerate() {
            if cancel.is_cancelled() {
                tail.truncate_layers();
                return Err(ModelError::Cancelled);
            }
            self.attention(number, layer, position, &angles, prefix, tail, &mut buffers)?;
            self.feed_forward(layer, &mut buffers)?;
        }
        tail.commit(tokens);
        Ok(buffers.hidden)
    }

    #[allow(clippy::too_many_arguments, reason = "one call site; the arguments are the state of a chunk")]
    fn attention(
        &self,
        number: usize,
        layer: &Layer,
        position: usize,
        (cosines, sines): &(Vec<f32>, Vec<f32>),
        prefix: &KvPrefix,
        tail: &mut KvTail,
        buffers: &mut Buffers,
    ) -> Result<(), ModelError> {
        let spec = &self.weights.spec;
        let Buffers { hidden, normed, queries, keys, values, mixed, .. } = buffers;
        let count = hidden.len() / spec.hidden;
        self.norm(hidden, &layer.attention_norm, normed);
        linear::multiply(
            &self.compute,
            normed,
            count,
            &mut [(&layer.query, queries), (&layer.key, keys), (&layer.value, values)],
        )?;
        let half = spec.head_dim / 2;
        for row in 0..count {
            let (cosines, sines) = (&cosines[row * half..][..half], &sines[row * half..][..half]);
            let (query_width, key_width) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
            self.rope.rotate(&mut queries[row * query_width..][..query_width], cosines, sines);
            self.rope.rotate(&mut keys[row * key_width..][..key_width], cosines, sines);
        }
        tail.append(number, keys, values);
        let view = LayerView::new(prefix, tail, tail.len() + count, number);
        attention::attend(&self.compute, queries, spec.heads, position, &view, mixed);
        linear::multiply(&self.compute, mixed, count, &mut [(&layer.attention_output, normed)])?;
        add(hidden, normed);
        Ok(())
    }

    fn feed_forward(&self, layer: &Layer, buffers: &mut Buffers) -> Result<(), ModelError> {
        let spec = &self.weights.spec;
        let Buffers { hidden, normed, gate, up, .. } = buffers;
        let count = hidden.len() / spec.hidden;
        self.norm(hidden, &layer.feed_forward_norm, normed);
        linear::multiply(&self.compute, normed, count, &mut [(&layer.gate, gate), (&layer.up, up)])?;
        let kernels = &self.compute.kernels;
        self.compute.rows(up, spec.feed_forward, gate, spec.feed_forward, |up, gate| kernels.silu_mul(gate, up));
        linear::multiply(&self.compute, gate, count, &mut [(&layer.down, normed)])?;
        add(hidden, normed);
        Ok(())
    }

    fn norm(&self, x: &[f32], weight: &[f32], out: &mut [f32]) {
        let (kernels, epsilon) = (&self.compute.kernels, self.weights.spec.norm_epsilon);
        self.compute.rows(x, weight.len(), out, weight.len(), |x, out| kernels.rms_norm(x, weight, epsilon, out));
    }

    fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>, ModelError> {
        let output = self.weights.output.as_ref().unwrap_or(&self.weights.embedding);
        let count = hidden.len() / self.weights.spec.hidden;
        let mut normed = vec![0.0; hidden.len()];
        self.norm(hidden, &self.weights.output_norm, &mut normed);
        let mut logits = vec![0.0; count * output.rows()];
        linear::multiply(&self.compute, &normed, count, &mut [(output, &mut logits)])?;
        Ok(logits)
    }
}

impl Buffers {
    fn new(spec: &ArchSpec, count: usize) -> Self {
        let zeros = |width: usize| vec![0.0; count * width];
        Self {
            hidden: zeros(spec.hidden),
            normed: zeros(spec.hidden),
            queries: zeros(spec.heads * spec.head_dim),
            keys: zeros(spec.kv_heads * spec.head_dim),
            values: zeros(spec.kv_heads * spec.head_dim),
            mixed: zeros(spec.heads * spec.head_dim),
            gate: zeros(spec.feed_forward),
            up: zeros(spec.feed_forward),
        }
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}
