//! The same layers in tensor operations, for devices that candle computes on.
//!
//! Activations are `[tokens, width]`, queries, keys and values `[heads, tokens, head_dim]`. Weights and activations
//! have the device's type; rotations and softmax are computed in `f32`, keys and values are rounded to `f16` when they
//! are written, as the processor does.
//!
//! Not here: which tokens are computed together, what is refused, what a tail or a segment holds.

mod attention;
mod blend;
mod upload;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::{rope, rope_i};
use mos_core::ModelError;

use super::batch::Piece;
use super::processor::{PerRope, check_finite};
use super::rope::{Rope, RopeLayout};
use super::{Activation, ArchSpec, CancelToken, Fingerprint, Sequence};
use crate::device::TensorDevice;
use crate::error::{device_failed, internal, not_finite};
use crate::kv::{DeviceTail, KvPrefix, TensorKv};
use attention::Tile;

/// Rows whose logits are computed at once: with large vocabularies, many rows are many bytes.
const LOGIT_ROWS: usize = 128;

/// The weights of a layer. What an architecture does not have is `None`.
struct TensorLayer {
    attention_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_bias: Option<Tensor>,
    key_bias: Option<Tensor>,
    value_bias: Option<Tensor>,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    attention_output: Tensor,
    attention_output_bias: Option<Tensor>,
    post_attention_norm: Option<Tensor>,
    feed_forward_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    post_feed_forward_norm: Option<Tensor>,
}

/// A model on a device.
pub(super) struct TensorModel {
    spec: ArchSpec,
    fingerprint: Fingerprint,
    place: Arc<TensorDevice>,
    embedding: Tensor,
    layers: Vec<TensorLayer>,
    output_norm: Tensor,
    /// `None` when the embedding serves as output as well.
    output: Option<Tensor>,
    /// The rotation of layers that see all tokens.
    rope: Rope,
    /// The rotation of layers with a window.
    local_rope: Rope,
}

/// Cosines and sines, each `[tokens, head_dim / 2]`, in `f32`.
type Angles = (Tensor, Tensor);

/// What a layer makes of its input; queries are scaled, keys and values rounded.
struct Projected {
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
}

/// Looks at everything that is written, and waits for the device once.
#[derive(Default)]
struct Finite {
    sums: Vec<Tensor>,
}

impl Finite {
    /// A chunk's values of half precision do not sum up to more than `f32` holds: the sum is finite when they are.
    fn add(&mut self, tensor: &Tensor) -> candle_core::Result<()> {
        self.sums.push(tensor.to_dtype(DType::F32)?.sum_all()?);
        Ok(())
    }

    fn check(self) -> Result<(), ModelError> {
        let sums = Tensor::stack(&self.sums, 0).and_then(|sums| sums.to_vec1::<f32>()).map_err(device_failed)?;
        if sums.iter().all(|sum| sum.is_finite()) { Ok(()) } else { Err(not_finite("keys or values")) }
    }
}

impl TensorModel {
    pub(super) fn spec(&self) -> &ArchSpec {
        &self.spec
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn place(&self) -> &Arc<TensorDevice> {
        &self.place
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
        for piece in pieces {
            let Sequence { prefix, tail, .. } = &mut sequences[piece.sequence];
            let own = tail.len();
            let Some(device) = tail.device_mut() else { return Err(elsewhere()) };
            self.settle(prefix, own, piece.tokens.len(), device).map_err(device_failed)?;
        }
        let hidden = self.layers_over(sequences, pieces, wanted, cancel)?;
        for piece in pieces {
            let Sequence { tokens, tail, .. } = &mut sequences[piece.sequence];
            tail.commit(&tokens[piece.tokens.clone()]);
        }
        hidden.map_or_else(|| Ok(Vec::new()), |hidden| self.logits(&hidden))
    }

    /// Returns the last activations of the wanted rows, if any are wanted.
    fn layers_over(
        &self,
        sequences: &[Sequence<'_>],
        pieces: &[Piece],
        wanted: &[Range<usize>],
        cancel: &CancelToken,
    ) -> Result<Option<Tensor>, ModelError> {
        let tokens_of = |piece: &Piece| sequences[piece.sequence].tokens[piece.tokens.clone()].iter().copied();
        let tokens: Vec<u32> = pieces.iter().flat_map(tokens_of).collect();
        let positions: Vec<usize> = pieces.iter().flat_map(|piece| piece.positions(sequences)).collect();
        let all: Vec<Range<usize>> = pieces.iter().map(Piece::rows).collect();
        let tails: Vec<&DeviceTail> = pieces
            .iter()
            .map(|piece| sequences[piece.sequence].tail.device().ok_or_else(elsewhere))
            .collect::<Result<_, _>>()?;
        let mut hidden = self.embed(&tokens).map_err(device_failed)?;
        let angles = self.angles(&positions).map_err(device_failed)?;
        let tiles = self.tiles(&positions, &all).map_err(device_failed)?;
        let mut written = Finite::default();
        let last = self.layers.len() - 1;
        let mut ended = None;
        for number in 0..=last {
            if cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            let mut step = || -> candle_core::Result<()> {
                let projected = self.project(number, &hidden, self.pick(number, &angles))?;
                written.add(&projected.keys)?;
                written.add(&projected.values)?;
                for (rows, tail) in all.iter().zip(&tails) {
                    write(&tail.layers()[number], &projected, rows.clone(), &positions[rows.clone()])?;
                }
                let caches: Vec<&TensorKv> = tails.iter().map(|tail| &tail.layers()[number]).collect();
                if number < last {
                    let mixed =
                        self.attend(number, &projected.queries, &caches, self.pick(number, &tiles).as_slice())?;
                    hidden = self.finish_layer(number, &hidden, &mixed)?;
                } else if let Some(rows) = picked(&hidden, 0, wanted)? {
                    // Behind the last keys and values, other rows serve nobody.
                    let queries = picked(&projected.queries, 1, wanted)?.unwrap_or(projected.queries);
                    let tiles = self.tiles(&positions, wanted)?;
                    let mixed = self.attend(number, &queries, &caches, self.pick(number, &tiles).as_slice())?;
                    ended = Some(self.finish_layer(number, &rows, &mixed)?);
                }
                Ok(())
            };
            step().map_err(device_failed)?;
        }
        written.check()?;
        Ok(ended)
    }

    /// Brings a tail's prefix and room for `more` tokens after the `own` ones to the device.
    fn settle(&self, prefix: &KvPrefix, own: usize, more: usize, tail: &mut DeviceTail) -> candle_core::Result<()> {
        let is_there = tail.prefix().is_same(prefix);
        let kept = if is_there || own > 0 { prefix.len() + own } else { 0 };
        tail.make_room(self.spec.kv_shape(), kept, prefix.len() + own + more)?;
        if !is_there {
            // Should this break off, nothing is taken for the prefix.
            tail.set_prefix(KvPrefix::default());
            self.lay(prefix, tail)?;
            tail.set_prefix(prefix.clone());
        }
        Ok(())
    }

    /// Copies a prefix to the first places of a tail, keys of shifted parts turned on.
    fn lay(&self, prefix: &KvPrefix, tail: &DeviceTail) -> candle_core::Result<()> {
        let mut place = 0;
        for part in prefix.parts() {
            let copy = part.segment.on_device(&self.place)?;
            let turn = |rope: &Rope| self.upload_angles(rope.turn(part.shift), part.len());
            let turns = if part.shift == 0 { None } else { Some(self.per_rope(turn)?) };
            for (number, (from, to)) in copy.iter().zip(tail.layers()).enumerate() {
                let cut = |tensor: &Tensor| tensor.narrow(1, part.range.start, part.len())?.contiguous();
                let mut keys = cut(&from.keys)?;
                if let Some(turns) = &turns {
                    keys = self.rotate(&keys, self.pick(number, turns))?.to_dtype(self.place.attention)?;
                }
                to.keys.slice_set(&keys, 1, place)?;
                to.values.slice_set(&cut(&from.values)?, 1, place)?;
            }
            place += part.len();
        }
        Ok(())
    }

    /// Returns the activations with which the tokens enter the first layer.
    fn embed(&self, tokens: &[u32]) -> candle_core::Result<Tensor> {
        let hidden = self.embedding.index_select(&Tensor::new(tokens, &self.place.device)?, 0)?;
        if self.spec.embedding_scale == 1.0 { Ok(hidden) } else { hidden * f64::from(self.spec.embedding_scale) }
    }

    /// Makes something for each rotation.
    fn per_rope<T>(&self, make: impl Fn(&Rope) -> candle_core::Result<T>) -> candle_core::Result<PerRope<T>> {
        let local = self.spec.sliding_window.as_ref().map(|_| make(&self.local_rope)).transpose()?;
        Ok(PerRope { global: make(&self.rope)?, local })
    }

    /// Returns what was made for the rotation, or the window, of a layer.
    fn pick<'a, T>(&self, layer: usize, made: &'a PerRope<T>) -> &'a T {
        made.pick(self.spec.window(layer).is_some())
    }

    fn angles(&self, positions: &[usize]) -> candle_core::Result<PerRope<Angles>> {
        self.per_rope(|rope| self.upload_angles(rope.angles(positions.iter().copied()), positions.len()))
    }

    /// Brings cosines and sines, each `[tokens, head_dim / 2]` or one row for all, to the device.
    fn upload_angles(&self, angles: (Vec<f32>, Vec<f32>), tokens: usize) -> candle_core::Result<Angles> {
        let half = self.spec.head_dim / 2;
        let upload = |values: Vec<f32>| {
            let rows = values.len() / half;
            Tensor::from_vec(values, (rows, half), &self.place.device)?.broadcast_as((tokens, half))?.contiguous()
        };
        Ok((upload(angles.0)?, upload(angles.1)?))
    }

    /// Returns the heads `[heads, tokens, head_dim]`, rotated, in `f32`.
    fn rotate(&self, heads: &Tensor, (cosines, sines): &Angles) -> candle_core::Result<Tensor> {
        let heads = heads.to_dtype(DType::F32)?.contiguous()?.unsqueeze(0)?;
        match self.spec.rope_layout {
            RopeLayout::Interleaved => rope_i(&heads, cosines, sines)?.squeeze(0),
            RopeLayout::Halves => rope(&heads, cosines, sines)?.squeeze(0),
        }
    }

    /// Computes queries, keys and values of a layer, normed and rotated as the architecture says.
    fn project(&self, number: usize, hidden: &Tensor, angles: &Angles) -> candle_core::Result<Projected> {
        let (spec, layer, attention) = (&self.spec, &self.layers[number], self.place.attention);
        let normed = self.norm(hidden, &layer.attention_norm)?;
        let heads = |weight: &Tensor, bias: Option<&Tensor>, norm: Option<&Tensor>, count: usize| {
            let made = linear(&normed, weight, bias)?.reshape(((), count, spec.head_dim))?;
            let made = if let Some(norm) = norm { self.norm(&made, norm)? } else { made };
            made.transpose(0, 1)
        };
        let queries = heads(&layer.query, layer.query_bias.as_ref(), layer.query_norm.as_ref(), spec.heads)?;
        let keys = heads(&layer.key, layer.key_bias.as_ref(), layer.key_norm.as_ref(), spec.kv_heads)?;
        let values = heads(&layer.value, layer.value_bias.as_ref(), None, spec.kv_heads)?.contiguous()?;
        let queries = (self.rotate(&queries, angles)? * f64::from(spec.attention_scale))?;
        let round = |tensor: &Tensor| tensor.to_dtype(DType::F16)?.to_dtype(attention);
        Ok(Projected {
            queries: queries.to_dtype(attention)?,
            keys: round(&self.rotate(&keys, angles)?)?,
            values: round(&values)?,
        })
    }

    /// Adds what the attention mixed, then the feed-forward part.
    fn finish_layer(&self, number: usize, hidden: &Tensor, mixed: &Tensor) -> candle_core::Result<Tensor> {
        let layer = &self.layers[number];
        let made = linear(mixed, &layer.attention_output, layer.attention_output_bias.as_ref())?;
        let hidden = self.add_to(hidden, made, layer.post_attention_norm.as_ref())?;
        let normed = self.norm(&hidden, &layer.feed_forward_norm)?;
        let gate = linear(&normed, &layer.gate, None)?;
        let gate = match self.spec.activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        let made = linear(&(gate * linear(&normed, &layer.up, None)?)?, &layer.down, None)?;
        self.add_to(&hidden, made, layer.post_feed_forward_norm.as_ref())
    }

    /// Adds what a part of a layer made, normed first where the architecture says so.
    fn add_to(&self, hidden: &Tensor, made: Tensor, post_norm: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let made = if let Some(norm) = post_norm { self.norm(&made, norm)? } else { made };
        hidden + made
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
        rms_norm(&x.contiguous()?, weight, self.spec.norm_epsilon)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>, ModelError> {
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        let rows = |first: usize, count: usize| {
            let normed = self.norm(&hidden.narrow(0, first, count)?, &self.output_norm)?;
            linear(&normed, output, None)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
        };
        let count = hidden.dim(0).map_err(device_failed)?;
        let mut logits = Vec::with_capacity(count * self.spec.vocabulary);
        for first in (0..count).step_by(LOGIT_ROWS) {
            logits.extend(rows(first, LOGIT_ROWS.min(count - first)).map_err(device_failed)?);
        }
        // The cap would hide it.
        check_finite(&logits, "logits")?;
        if let Some(cap) = self.spec.logit_softcap {
            logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        Ok(logits)
    }
}

/// Our own mistake: the decoder checks where a tail is before it computes.
fn elsewhere() -> ModelError {
    internal("computing on a device", "the tail is not on it")
}

/// Multiplies rows with a matrix `[outputs, inputs]` and adds a bias.
fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let product = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => product.broadcast_add(bias),
        None => Ok(product),
    }
}

/// Writes some rows of what a layer made to the places of a cache, which ascend.
fn write(cache: &TensorKv, made: &Projected, rows: Range<usize>, places: &[usize]) -> candle_core::Result<()> {
    let mut row = rows.start;
    for run in places.chunk_by(|a, b| a + 1 == *b) {
        let cut = |tensor: &Tensor| tensor.narrow(1, row, run.len())?.contiguous();
        cache.keys.slice_set(&cut(&made.keys)?, 1, run[0])?;
        cache.values.slice_set(&cut(&made.values)?, 1, run[0])?;
        row += run.len();
    }
    Ok(())
}

/// Returns some ranges of a tensor along `dim`, one after the other; `None` when all are empty.
fn picked(tensor: &Tensor, dim: usize, ranges: &[Range<usize>]) -> candle_core::Result<Option<Tensor>> {
    let ranges = ranges.iter().filter(|range| !range.is_empty());
    let cuts: Vec<Tensor> =
        ranges.map(|range| tensor.narrow(dim, range.start, range.len())).collect::<candle_core::Result<_>>()?;
    if cuts.is_empty() { Ok(None) } else { Tensor::cat(&cuts, dim).map(Some) }
}
