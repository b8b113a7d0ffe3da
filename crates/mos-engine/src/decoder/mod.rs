//! One decoder for Llama, Qwen and Gemma, driven by an [`ArchSpec`]; its caches belong to the caller.
//!
//! [`Decoder::forward`] reads a shared prefix, extends the caller's tail, and returns logits; the decoder itself holds
//! nothing but weights, so any number of sessions use one.
//!
//! Not here: tokens and text, sampling, which caches are kept.

mod attention;
mod batch;
mod blend;
mod buffers;
mod compute;
mod linear;
mod random;
mod rope;
mod spec;
#[cfg(test)]
mod window_tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mos_core::ModelError;

pub use batch::Sequence;
pub(crate) use compute::Compute;
pub(crate) use linear::Linear;
#[cfg(test)]
pub(crate) use linear::multiply;
pub use random::RandomWeights;
pub use rope::{RopeLayout, RopeScaling};
pub use spec::{Activation, ArchSpec, AttentionBias, SlidingWindow};

use crate::cpu::CpuPath;
use crate::error::not_finite;
use crate::kv::{KvPrefix, KvTail, foreign};
use attention::{LayerView, Run, Turns};
use batch::Piece;
use buffers::Buffers;
use rope::Rope;

/// Tokens that are computed at once, when the caller does not say otherwise; the last ones of a run may be half as
/// many again.
pub const CHUNK_TOKENS: usize = 256;

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

/// The weights of one layer. What an architecture does not have is empty.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) query_bias: Vec<f32>,
    pub(crate) key_bias: Vec<f32>,
    pub(crate) value_bias: Vec<f32>,
    /// Norms of single heads, `[head_dim]`.
    pub(crate) query_norm: Vec<f32>,
    pub(crate) key_norm: Vec<f32>,
    pub(crate) attention_output: Linear,
    pub(crate) attention_output_bias: Vec<f32>,
    pub(crate) post_attention_norm: Vec<f32>,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) post_feed_forward_norm: Vec<f32>,
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
    /// The rotation of layers that see all tokens.
    rope: Rope,
    /// The rotation of layers with a window.
    local_rope: Rope,
    compute: Compute,
    chunk_tokens: usize,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("spec", &self.weights.spec).field("compute", &self.compute.team).finish()
    }
}

/// What is made for each rotation of a model.
struct PerRope<T> {
    global: T,
    /// `None` when no layer has a window.
    local: Option<T>,
}

/// Cosines and sines of some positions, each `[positions, head_dim / 2]`.
type Angles = PerRope<(Vec<f32>, Vec<f32>)>;

impl Decoder {
    pub(crate) fn new(weights: Weights, threads: usize, path: CpuPath) -> Result<Self, ModelError> {
        let (rope, local_rope) = weights.spec.ropes();
        Ok(Self { rope, local_rope, compute: Compute::new(threads, path)?, chunk_tokens: CHUNK_TOKENS, weights })
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
    /// Returns the logits asked for, row by row. After an exact prefix the same tokens give the same bits, however they
    /// are split between prefix, tail and `tokens`. Causality is by place in the conversation; shifted parts of a
    /// prefix are attended as if they had been computed where their shift puts them. After an error the tail is as it
    /// was before the call.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the tokens are not in the vocabulary, when the caches belong to another model, or
    /// the tail began after another prefix; [`ModelError::TooLong`] when the tokens do not fit into the context;
    /// [`ModelError::BadModel`] when queries, keys, values or logits are not finite numbers;
    /// [`ModelError::Cancelled`] when `cancel` asked to stop.
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
        let own = (self.weights.fingerprint, self.weights.spec.kv_shape());
        if prefix.parts().all(|part| (part.segment.fingerprint(), part.segment.shape()) == own) {
            Ok(())
        } else {
            Err(foreign())
        }
    }

    /// Refuses a prefix that cannot stand before `more` tokens.
    fn check_prefix(&self, prefix: &KvPrefix, more: usize) -> Result<(), ModelError> {
        self.check_owner(prefix)?;
        let spec = &self.weights.spec;
        let total = prefix.len() + more;
        if total > spec.context_length {
            return Err(ModelError::TooLong { n_tokens: total, limit: spec.context_length });
        }
        Ok(())
    }

    fn check(&self, tokens: &[u32], prefix: &KvPrefix, tail: &KvTail) -> Result<(), ModelError> {
        let spec = &self.weights.spec;
        if (tail.fingerprint(), tail.shape()) != (self.weights.fingerprint, spec.kv_shape()) {
            return Err(foreign());
        }
        self.check_prefix(prefix, tail.len() + tokens.len())?;
        self.check_tokens(tokens)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let spec = &self.weights.spec;
        match tokens.iter().find(|&&token| token as usize >= spec.vocabulary) {
            Some(token) => Err(ModelError::Invalid(format!(
                "token {token} is not in the model's vocabulary of {}; tokenizer and weights do not belong together",
                spec.vocabulary
            ))),
            None => Ok(()),
        }
    }

    /// Runs the layers over one chunk of some sequences; returns the last activations, `[tokens, hidden]`, of the
    /// rows in `wanted`: a range for each piece.
    fn forward_chunk(
        &self,
        sequences: &mut [Sequence<'_>],
        pieces: &[Piece],
        wanted: &[Range<usize>],
        cancel: &CancelToken,
    ) -> Result<Vec<f32>, ModelError> {
        let tokens_of = |piece: &Piece| sequences[piece.sequence].tokens[piece.tokens.clone()].iter().copied();
        let tokens: Vec<u32> = pieces.iter().flat_map(tokens_of).collect();
        let mut buffers = self.embed(&tokens)?;
        let positions: Vec<usize> = pieces.iter().flat_map(|piece| piece.positions(sequences)).collect();
        let angles = self.angles(&positions);
        let turns = self.per_rope(|rope| -> Vec<Turns> {
            pieces.iter().map(|piece| attention::turns(rope, sequences[piece.sequence].prefix)).collect()
        });
        let mut rows: Vec<Range<usize>> = pieces.iter().map(Piece::rows).collect();
        let last = self.weights.layers.len() - 1;
        for number in 0..=last {
            if cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            self.project(number, &angles, &mut buffers)?;
            let row = self.weights.spec.kv_shape().row();
            for piece in pieces {
                let cells = piece.rows().start * row..piece.rows().end * row;
                let tail = &mut *sequences[piece.sequence].tail;
                tail.append(number, &buffers.keys[cells.clone()], &buffers.values[cells])?;
            }
            if number == last {
                // Behind the last keys and values, other rows serve nobody.
                rows = wanted.to_vec();
                buffers.keep(&self.weights.spec, &rows);
                if buffers.hidden.is_empty() {
                    break;
                }
            }
            let mut row = 0;
            let runs = pieces.iter().zip(&rows).zip(self.pick(number, &turns)).map(|((piece, rows), turns)| {
                let Sequence { prefix, tail, .. } = &sequences[piece.sequence];
                let len = tail.len() + piece.tokens.len();
                let view = LayerView::new(self.rope(number), turns, prefix, tail, len, number);
                let run = Run { row, positions: &positions[rows.clone()], view };
                row += rows.len();
                run
            });
            let runs: Vec<Run<'_>> = runs.collect();
            self.mix(number, &runs, &mut buffers)?;
            self.feed_forward(number, &mut buffers)?;
        }
        for piece in pieces {
            let Sequence { tokens, tail, .. } = &mut sequences[piece.sequence];
            tail.commit(&tokens[piece.tokens.clone()]);
        }
        Ok(buffers.hidden)
    }

    /// Returns the activations with which the tokens enter the first layer.
    fn embed(&self, tokens: &[u32]) -> Result<Buffers, ModelError> {
        let spec = &self.weights.spec;
        let mut buffers = Buffers::new(spec, tokens.len());
        for (token, out) in tokens.iter().zip(buffers.hidden.chunks_exact_mut(spec.hidden)) {
            self.weights.embedding.row(&self.compute, *token as usize, out)?;
        }
        if spec.embedding_scale != 1.0 {
            self.compute.kernels.scale(&mut buffers.hidden, spec.embedding_scale);
        }
        Ok(buffers)
    }

    /// Returns the rotation of a layer.
    fn rope(&self, layer: usize) -> &Rope {
        if self.weights.spec.window(layer).is_some() { &self.local_rope } else { &self.rope }
    }

    /// Makes something for each rotation.
    fn per_rope<T>(&self, make: impl Fn(&Rope) -> T) -> PerRope<T> {
        let local = self.weights.spec.sliding_window.as_ref().map(|_| make(&self.local_rope));
        PerRope { global: make(&self.rope), local }
    }

    /// Returns what was made for the rotation of a layer.
    fn pick<'a, T>(&self, layer: usize, made: &'a PerRope<T>) -> &'a T {
        match &made.local {
            Some(local) if self.weights.spec.window(layer).is_some() => local,
            _ => &made.global,
        }
    }

    fn angles(&self, positions: &[usize]) -> Angles {
        self.per_rope(|rope| rope.angles(positions.iter().copied()))
    }

    /// Computes queries, keys and values of a layer, normed and rotated as the architecture says.
    fn project(&self, number: usize, angles: &Angles, buffers: &mut Buffers) -> Result<(), ModelError> {
        let (spec, layer, rope) = (&self.weights.spec, &self.weights.layers[number], self.rope(number));
        let (cosines, sines) = self.pick(number, angles);
        let Buffers { hidden, normed, queries, keys, values, mixed, .. } = buffers;
        let count = hidden.len() / spec.hidden;
        self.norm(hidden, &layer.attention_norm, normed);
        linear::multiply(
            &self.compute,
            normed,
            count,
            &mut [(&layer.query, queries), (&layer.key, keys), (&layer.value, values)],
        )?;
        add_bias(queries, &layer.query_bias);
        add_bias(keys, &layer.key_bias);
        add_bias(values, &layer.value_bias);
        if spec.head_norms {
            // `mixed` is free until the attention writes it, and at least as long as the keys.
            self.norm(queries, &layer.query_norm, mixed);
            std::mem::swap(queries, mixed);
            let scratch = &mut mixed[..keys.len()];
            self.norm(keys, &layer.key_norm, scratch);
            keys.copy_from_slice(scratch);
        }
        let half = spec.head_dim / 2;
        for (values, heads) in [(queries, spec.heads), (keys, spec.kv_heads)] {
            self.compute.numbered_rows(values, heads * spec.head_dim, |row, values| {
                rope.rotate(values, &cosines[row * half..][..half], &sines[row * half..][..half]);
            });
        }
        // The softmax would hide it. Keys and values are looked at when they are rounded.
        check_finite(&buffers.queries, "queries")
    }

    /// Adds the attention of the projected queries to the activations.
    fn mix(&self, number: usize, runs: &[Run<'_>], buffers: &mut Buffers) -> Result<(), ModelError> {
        let (spec, layer) = (&self.weights.spec, &self.weights.layers[number]);
        let Buffers { hidden, normed, returned, queries, mixed, .. } = buffers;
        let count = hidden.len() / spec.hidden;
        attention::attend(&self.compute, queries, spec.heads, runs, spec.reach(number), mixed);
        linear::multiply(&self.compute, mixed, count, &mut [(&layer.attention_output, normed)])?;
        add_bias(normed, &layer.attention_output_bias);
        self.add_to(hidden, normed, &layer.post_attention_norm, returned);
        Ok(())
    }

    fn feed_forward(&self, number: usize, buffers: &mut Buffers) -> Result<(), ModelError> {
        let (spec, layer) = (&self.weights.spec, &self.weights.layers[number]);
        let Buffers { hidden, normed, returned, gate, up, .. } = buffers;
        let count = hidden.len() / spec.hidden;
        self.norm(hidden, &layer.feed_forward_norm, normed);
        linear::multiply(&self.compute, normed, count, &mut [(&layer.gate, gate), (&layer.up, up)])?;
        let kernels = &self.compute.kernels;
        self.compute.rows(up, spec.feed_forward, gate, spec.feed_forward, |up, gate| match spec.activation {
            Activation::Silu => kernels.silu_mul(gate, up),
            Activation::GeluTanh => kernels.gelu_mul(gate, up),
        });
        linear::multiply(&self.compute, gate, count, &mut [(&layer.down, normed)])?;
        self.add_to(hidden, normed, &layer.post_feed_forward_norm, returned);
        Ok(())
    }

    /// Adds what a part of a layer made, normed first where the architecture says so.
    fn add_to(&self, hidden: &mut [f32], made: &[f32], post_norm: &[f32], scratch: &mut [f32]) {
        if self.weights.spec.post_norms {
            self.norm(made, post_norm, scratch);
            self.add(hidden, scratch);
        } else {
            self.add(hidden, made);
        }
    }

    fn add(&self, hidden: &mut [f32], made: &[f32]) {
        let width = self.weights.spec.hidden;
        self.compute.rows(made, width, hidden, width, |made, hidden| add(hidden, made));
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
        // The cap would hide it.
        check_finite(&logits, "logits")?;
        if let Some(cap) = self.weights.spec.logit_softcap {
            self.compute.kernels.softcap(&mut logits, cap);
        }
        Ok(logits)
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}

/// Refuses values of which one is not a finite number.
fn check_finite(values: &[f32], what: &str) -> Result<(), ModelError> {
    // Without a way out, so that the loop runs on many values at once.
    let largest = values.iter().fold(0, |largest, value| (value.to_bits() & 0x7fff_ffff).max(largest));
    if largest < f32::INFINITY.to_bits() { Ok(()) } else { Err(not_finite(what)) }
}

/// Adds a bias to every row; an empty one is none.
fn add_bias(rows: &mut [f32], bias: &[f32]) {
    if !bias.is_empty() {
        rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
    }
}
