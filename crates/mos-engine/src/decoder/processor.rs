//! The layers as the processor computes them: packed weights, kernels of our own, keys and values in `f16` panels.

use std::ops::Range;

use mos_core::ModelError;

use super::attention::{self, LayerView, Run, Turns};
use super::batch::Piece;
use super::buffers::Buffers;
use super::linear::{self, Linear};
use super::rope::Rope;
use super::{Activation, ArchSpec, CancelToken, Compute, Fingerprint, Sequence};
use crate::cpu::CpuPath;
use crate::error::not_finite;

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

/// What is made for each rotation of a model.
pub(super) struct PerRope<T> {
    pub(super) global: T,
    /// `None` when no layer has a window.
    pub(super) local: Option<T>,
}

impl<T> PerRope<T> {
    /// Returns what was made for layers with a window, or for the others.
    pub(super) fn pick(&self, has_window: bool) -> &T {
        self.local.as_ref().filter(|_| has_window).unwrap_or(&self.global)
    }
}

/// Cosines and sines of some positions, each `[positions, head_dim / 2]`.
pub(super) type Angles = PerRope<(Vec<f32>, Vec<f32>)>;

/// A model on the processor.
pub(super) struct Processor {
    pub(super) weights: Weights,
    /// The rotation of layers that see all tokens.
    pub(super) rope: Rope,
    /// The rotation of layers with a window.
    pub(super) local_rope: Rope,
    pub(super) compute: Compute,
}

impl Processor {
    pub(super) fn new(weights: Weights, threads: usize, path: CpuPath) -> Result<Self, ModelError> {
        let (rope, local_rope) = weights.spec.ropes();
        Ok(Self { rope, local_rope, compute: Compute::new(threads, path)?, weights })
    }

    /// Returns the bytes that the weights take in memory.
    pub(super) fn weight_bytes(&self) -> usize {
        let Weights { embedding, layers, output, .. } = &self.weights;
        let of_layer = |layer: &Layer| {
            let Layer { query, key, value, attention_output, gate, up, down, .. } = layer;
            [query, key, value, attention_output, gate, up, down].map(Linear::bytes).iter().sum::<usize>()
        };
        embedding.bytes() + output.as_ref().map_or(0, Linear::bytes) + layers.iter().map(of_layer).sum::<usize>()
    }

    /// Runs the layers over one chunk of some sequences; returns the logits, `[rows, vocabulary]`, after the rows in
    /// `wanted`: a range for each piece.
    pub(super) fn forward_chunk(
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
        if buffers.hidden.is_empty() { Ok(Vec::new()) } else { self.logits(&buffers.hidden) }
    }

    /// Returns the activations with which the tokens enter the first layer.
    pub(super) fn embed(&self, tokens: &[u32]) -> Result<Buffers, ModelError> {
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
    pub(super) fn rope(&self, layer: usize) -> &Rope {
        if self.weights.spec.window(layer).is_some() { &self.local_rope } else { &self.rope }
    }

    /// Makes something for each rotation.
    fn per_rope<T>(&self, make: impl Fn(&Rope) -> T) -> PerRope<T> {
        let local = self.weights.spec.sliding_window.as_ref().map(|_| make(&self.local_rope));
        PerRope { global: make(&self.rope), local }
    }

    /// Returns what was made for the rotation of a layer.
    fn pick<'a, T>(&self, layer: usize, made: &'a PerRope<T>) -> &'a T {
        made.pick(self.weights.spec.window(layer).is_some())
    }

    pub(super) fn angles(&self, positions: &[usize]) -> Angles {
        self.per_rope(|rope| rope.angles(positions.iter().copied()))
    }

    /// Computes queries, keys and values of a layer, normed and rotated as the architecture says.
    pub(super) fn project(&self, number: usize, angles: &Angles, buffers: &mut Buffers) -> Result<(), ModelError> {
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
    pub(super) fn mix(&self, number: usize, runs: &[Run<'_>], buffers: &mut Buffers) -> Result<(), ModelError> {
        let (spec, layer) = (&self.weights.spec, &self.weights.layers[number]);
        let Buffers { hidden, normed, returned, queries, mixed, .. } = buffers;
        let count = hidden.len() / spec.hidden;
        attention::attend(&self.compute, queries, spec.heads, runs, spec.reach(number), mixed);
        linear::multiply(&self.compute, mixed, count, &mut [(&layer.attention_output, normed)])?;
        add_bias(normed, &layer.attention_output_bias);
        self.add_to(hidden, normed, &layer.post_attention_norm, returned);
        Ok(())
    }

    pub(super) fn feed_forward(&self, number: usize, buffers: &mut Buffers) -> Result<(), ModelError> {
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
pub(super) fn check_finite(values: &[f32], what: &str) -> Result<(), ModelError> {
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
