//! Recomputing the part of a merged prefix that its context changes most.
//!
//! The early layers are computed afresh for every token. Where their keys and values differ most from the kept ones,
//! the context matters most: those tokens are computed through the later layers as well, among the kept keys and
//! values of the others.

use mos_core::ModelError;
use rayon::prelude::*;

use super::attention::{LayerView, Run};
use super::buffers::Buffers;
use super::processor::{Angles, Processor};
use super::{Backend, CancelToken, Decoder};
use crate::kv::{KvPrefix, KvSegment, KvShape, Largest, LayerKv, context_of};

/// A token that may be computed further.
struct Candidate {
    place: usize,
    /// How far its fresh key and value are from the kept ones, squared.
    deviation: f32,
    /// Its activation before the layer that selects.
    hidden: Vec<f32>,
}

/// The tokens that deviate most of those offered so far.
struct Selection {
    limit: usize,
    candidates: Vec<Candidate>,
}

impl Selection {
    /// Drops what is beyond the limit; of equals, the earlier stay.
    fn trim(&mut self) {
        if self.candidates.len() > self.limit {
            let order = |a: &Candidate, b: &Candidate| b.deviation.total_cmp(&a.deviation).then(a.place.cmp(&b.place));
            self.candidates.sort_unstable_by(order);
            self.candidates.truncate(self.limit);
        }
    }

    /// The selected tokens in the order in which they stand.
    fn finish(mut self) -> Vec<Candidate> {
        self.candidates.sort_unstable_by_key(|candidate| candidate.place);
        self.candidates
    }
}

/// What is to be recomputed of a prefix.
pub(super) struct Plan<'a> {
    pub(super) prefix: &'a KvPrefix,
    pub(super) tokens: Vec<u32>,
    /// The first token that is not exact already.
    pub(super) first: usize,
    /// How many tokens may be computed through all layers.
    pub(super) limit: usize,
    /// The layer that selects them.
    pub(super) select_layer: usize,
    /// Tokens that are computed at once.
    pub(super) chunk_tokens: usize,
    pub(super) cancel: &'a CancelToken,
}

impl Decoder {
    /// Makes one segment, from position 0 on, of a merged prefix, recomputing part of it in full context.
    ///
    /// Keys and values of the layers `0..=select_layer` are computed afresh for all tokens. The share `ratio` (from 0
    /// to 1) of the tokens whose fresh keys and values differ most from the kept ones is computed through the later
    /// layers too; the others keep theirs there, the keys rotated to where they stand, whatever the parts' shifts.
    /// Tokens in the prefix's exact beginning are kept as they are and do not count. With ratio 1 the result is (on
    /// the processor bit by bit) what the model computes for the tokens; layer 0 sees no context, so the usual
    /// `select_layer` is 1.
    ///
    /// Beside the result, memory for a chunk of activations and those of the selected tokens is in use.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for caches of another model or vocabulary, a ratio outside of 0 to 1, or a layer that
    /// cannot select;
    /// [`ModelError::TooLong`] when the prefix does not fit into the context; [`ModelError::Cancelled`] when `cancel`
    /// asked to stop; [`ModelError::BadModel`] when keys, values or queries are not finite numbers. Nothing is left
    /// behind then.
    pub fn blend(
        &self,
        prefix: &KvPrefix,
        ratio: f32,
        select_layer: usize,
        cancel: &CancelToken,
    ) -> Result<KvSegment, ModelError> {
        let spec = self.spec();
        self.check_prefix(prefix, 0)?;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(ModelError::Invalid(format!("the ratio to recompute is {ratio}; it must be from 0 to 1")));
        }
        if !(1..spec.layers).contains(&select_layer) {
            return Err(ModelError::Invalid(format!(
                "layer {select_layer} cannot select what to recompute: layer 0 sees no context, and the model has {} \
                 layers; use 1",
                spec.layers
            )));
        }
        let tokens: Vec<u32> = prefix.tokens().collect();
        self.check_tokens(&tokens)?;
        let first = prefix.exact_len();
        let limit = (f64::from(ratio) * (tokens.len() - first) as f64).round() as usize;
        let chunk_tokens = self.chunk_tokens;
        let plan = Plan { prefix, tokens, first, limit, select_layer, chunk_tokens, cancel };
        let layers = match &self.backend {
            Backend::Processor(processor) => processor.blend(&plan)?,
            Backend::Tensors(model) => model.blend(&plan)?,
        };
        let tokens = plan.tokens;
        let context = (first + limit == tokens.len()).then(|| context_of([]));
        Ok(KvSegment::assemble(spec.kv_shape(), self.fingerprint(), context, tokens, layers))
    }
}

impl Processor {
    fn blend(&self, plan: &Plan<'_>) -> Result<Vec<LayerKv>, ModelError> {
        let mut layers = self.settle(plan.prefix, plan.select_layer, plan.cancel)?;
        let selected = self.refresh(plan, &mut layers)?;
        self.recompute(plan, &selected, &mut layers)?;
        Ok(layers)
    }

    /// Copies a prefix, the keys rotated to where they stand. Below `select_layer` only what will not be computed
    /// afresh is copied.
    fn settle(&self, prefix: &KvPrefix, select_layer: usize, cancel: &CancelToken) -> Result<Vec<LayerKv>, ModelError> {
        let shape = self.weights.spec.kv_shape();
        let exact = prefix.truncated(prefix.exact_len());
        let settle = |number: usize| {
            if cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            let source = if number < select_layer { &exact } else { prefix };
            self.settle_layer(source, number, shape, prefix.len())
        };
        (0..shape.layers).into_par_iter().map(settle).collect()
    }

    fn settle_layer(
        &self,
        prefix: &KvPrefix,
        number: usize,
        shape: KvShape,
        room: usize,
    ) -> Result<LayerKv, ModelError> {
        let mut largest = Largest::default();
        let mut layer = LayerKv::zeros(shape, room);
        let mut row = vec![0.0; shape.row()];
        let mut place = 0;
        for part in prefix.parts() {
            let from = part.segment.layer(number);
            let distance = place as i64 - part.position() as i64;
            let (cosines, sines) = self.rope(number).turn(distance);
            for token in part.range.clone() {
                if distance == 0 {
                    layer.put_key(shape, place, from.key(shape, token));
                } else {
                    row.iter_mut().zip(from.key(shape, token)).for_each(|(to, bits)| *to = widen(bits));
                    self.rope(number).rotate(&mut row, &cosines, &sines);
                    let turned = row.iter().map(|&value| half::f16::from_f32(value).to_bits());
                    layer.put_key(shape, place, turned.inspect(|&bits| largest.add(bits)));
                }
                layer.put_value(shape, place, from.value(shape, token).iter().copied());
                place += 1;
            }
        }
        largest.check()?;
        Ok(layer)
    }

    /// Computes the layers up to `select_layer` for all tokens from `first` on; returns the `limit` tokens that
    /// deviate most, in order.
    fn refresh(&self, plan: &Plan<'_>, layers: &mut [LayerKv]) -> Result<Vec<Candidate>, ModelError> {
        let &Plan { ref tokens, first, limit, select_layer, chunk_tokens, cancel, .. } = plan;
        let mut selection = Selection { limit, candidates: Vec::new() };
        let places: Vec<usize> = (first..tokens.len()).collect();
        for places in places.chunks(chunk_tokens) {
            let mut buffers = self.embed(&tokens[places[0]..][..places.len()])?;
            let angles = self.angles(places);
            for (number, layer) in layers.iter_mut().enumerate().take(select_layer) {
                self.patch(number, places, &angles, &mut buffers, layer, cancel)?;
                self.mix_patched(number, places, layer, tokens.len(), &mut buffers)?;
            }
            if cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            self.project(select_layer, &angles, &mut buffers)?;
            self.offer(places, &buffers, &layers[select_layer], &mut selection);
            self.put(places, &buffers, &mut layers[select_layer])?;
        }
        Ok(selection.finish())
    }

    /// Computes the selected tokens through the layers from `select_layer` on.
    fn recompute(&self, plan: &Plan<'_>, selected: &[Candidate], layers: &mut [LayerKv]) -> Result<(), ModelError> {
        let &Plan { ref tokens, select_layer, chunk_tokens, cancel, .. } = plan;
        let last = layers.len() - 1;
        for chunk in selected.chunks(chunk_tokens) {
            let places: Vec<usize> = chunk.iter().map(|candidate| candidate.place).collect();
            let angles = self.angles(&places);
            let mut buffers = Buffers::new(&self.weights.spec, chunk.len());
            for (to, candidate) in buffers.hidden.chunks_exact_mut(self.weights.spec.hidden).zip(chunk) {
                to.copy_from_slice(&candidate.hidden);
            }
            for (number, layer) in layers.iter_mut().enumerate().skip(select_layer) {
                self.patch(number, &places, &angles, &mut buffers, layer, cancel)?;
                // Nothing reads the activations after the last keys and values.
                if number < last {
                    self.mix_patched(number, &places, layer, tokens.len(), &mut buffers)?;
                }
            }
        }
        Ok(())
    }

    /// Computes keys and values of a layer for the tokens at `places`, and puts them there.
    fn patch(
        &self,
        number: usize,
        places: &[usize],
        angles: &Angles,
        buffers: &mut Buffers,
        layer: &mut LayerKv,
        cancel: &CancelToken,
    ) -> Result<(), ModelError> {
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        self.project(number, angles, buffers)?;
        self.put(places, buffers, layer)
    }

    fn put(&self, places: &[usize], buffers: &Buffers, layer: &mut LayerKv) -> Result<(), ModelError> {
        layer.put(self.weights.spec.kv_shape(), places.iter().copied(), &buffers.keys, &buffers.values)
    }

    /// Runs the rest of a layer over the tokens at `places`, which were patched.
    fn mix_patched(
        &self,
        number: usize,
        places: &[usize],
        layer: &LayerKv,
        len: usize,
        buffers: &mut Buffers,
    ) -> Result<(), ModelError> {
        let view = LayerView::whole(self.rope(number), self.weights.spec.kv_shape(), layer, len);
        self.mix(number, &[Run { row: 0, positions: places, view }], buffers)?;
        self.feed_forward(number, buffers)
    }

    /// Offers the tokens at `places` with the distance of their fresh keys and values from the kept ones.
    fn offer(&self, places: &[usize], buffers: &Buffers, kept: &LayerKv, selection: &mut Selection) {
        let (shape, width) = (self.weights.spec.kv_shape(), self.weights.spec.hidden);
        let rows = buffers.keys.chunks_exact(shape.row()).zip(buffers.values.chunks_exact(shape.row()));
        for ((&place, hidden), (key, value)) in places.iter().zip(buffers.hidden.chunks_exact(width)).zip(rows) {
            let keys = key.iter().zip(kept.key(shape, place));
            let values = value.iter().zip(kept.value(shape, place).iter().copied());
            let deviation = keys.chain(values).map(|(fresh, kept)| (fresh - widen(kept)).powi(2)).sum();
            selection.candidates.push(Candidate { place, deviation, hidden: hidden.to_vec() });
        }
        selection.trim();
    }
}

fn widen(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}
