//! Recomputing part of a merged prefix on a device; see [`Decoder::blend`](crate::Decoder::blend).

use std::ops::Range;

use candle_core::{DType, Tensor};
use mos_core::ModelError;

use super::{Angles, Projected, TensorModel, write};
use crate::decoder::CancelToken;
use crate::decoder::blend::Plan;
use crate::decoder::processor::PerRope;
use crate::error::device_failed;
use crate::kv::{DeviceTail, KvPrefix, LayerKv, TensorKv};

/// Tokens that are computed together, and what they need in every layer.
struct Chunk<'a> {
    places: &'a [usize],
    angles: PerRope<Angles>,
    tiles: PerRope<Vec<Vec<super::Tile>>>,
}

impl TensorModel {
    /// Returns all layers, with what the plan says computed afresh.
    pub(in crate::decoder) fn blend(&self, plan: &Plan<'_>) -> Result<Vec<LayerKv>, ModelError> {
        let (shape, len) = (self.spec.kv_shape(), plan.tokens.len());
        if len == 0 {
            return Ok(vec![LayerKv::default(); shape.layers]);
        }
        let settled = settled(plan.prefix)?;
        let mut room = DeviceTail::new(&self.place);
        room.make_room(shape, 0, len).and_then(|()| self.lay(&settled, &room)).map_err(device_failed)?;
        if let Some((hidden, deviations)) = self.refresh(plan, &room)? {
            let selected = most_deviant(&deviations, plan.limit);
            self.recompute(plan, &selected, &hidden, &room)?;
        }
        room.download(shape, &(0..len))
    }

    /// Computes the layers up to the one that selects for all tokens that are not exact. Returns the activations before
    /// that layer, `[tokens, hidden]`, and how far each token's fresh keys and values are from the kept ones, squared.
    fn refresh(&self, plan: &Plan<'_>, room: &DeviceTail) -> Result<Option<(Tensor, Vec<f32>)>, ModelError> {
        let places: Vec<usize> = (plan.first..plan.tokens.len()).collect();
        let (mut activations, mut deviations) = (Vec::new(), Vec::new());
        for places in places.chunks(plan.chunk_tokens) {
            let chunk = self.chunk(places).map_err(device_failed)?;
            let mut hidden = self.embed(&plan.tokens[places[0]..][..places.len()]).map_err(device_failed)?;
            for (number, cache) in room.layers().iter().enumerate().take(plan.select_layer) {
                hidden = self.patch(number, &chunk, &hidden, cache, plan.cancel)?;
            }
            let cache = &room.layers()[plan.select_layer];
            let select = || {
                let made = self.project(plan.select_layer, &hidden, self.pick(plan.select_layer, &chunk.angles))?;
                let deviations = deviations_from(cache, &made, places[0]..places[0] + places.len())?;
                write(cache, &made, 0..places.len(), places)?;
                Ok(deviations)
            };
            deviations.extend(select().map_err(device_failed)?);
            activations.push(hidden);
        }
        if activations.is_empty() {
            return Ok(None);
        }
        let activations = Tensor::cat(&activations, 0).map_err(device_failed)?;
        Ok(Some((activations, deviations)))
    }

    /// Computes the selected tokens, counted from the first that is not exact, through the layers from the one that
    /// selected them on.
    fn recompute(
        &self,
        plan: &Plan<'_>,
        selected: &[u32],
        activations: &Tensor,
        room: &DeviceTail,
    ) -> Result<(), ModelError> {
        let last = self.layers.len() - 1;
        for selected in selected.chunks(plan.chunk_tokens) {
            let places: Vec<usize> = selected.iter().map(|&token| plan.first + token as usize).collect();
            let chunk = self.chunk(&places).map_err(device_failed)?;
            let rows = Tensor::new(selected, &self.place.device).and_then(|rows| activations.index_select(&rows, 0));
            let mut hidden = rows.map_err(device_failed)?;
            for (number, cache) in room.layers().iter().enumerate().skip(plan.select_layer) {
                if number < last {
                    hidden = self.patch(number, &chunk, &hidden, cache, plan.cancel)?;
                } else {
                    // Nothing reads the activations after the last keys and values.
                    let made = self.project(number, &hidden, self.pick(number, &chunk.angles));
                    made.and_then(|made| write(cache, &made, 0..places.len(), &places)).map_err(device_failed)?;
                }
            }
        }
        Ok(())
    }

    fn chunk<'a>(&self, places: &'a [usize]) -> candle_core::Result<Chunk<'a>> {
        let run = 0..places.len();
        let tiles = self.tiles(places, std::slice::from_ref(&run))?;
        Ok(Chunk { places, angles: self.angles(places)?, tiles })
    }

    /// Computes a layer for the tokens of a chunk: puts their keys and values in place and returns their activations.
    fn patch(
        &self,
        number: usize,
        chunk: &Chunk<'_>,
        hidden: &Tensor,
        cache: &TensorKv,
        cancel: &CancelToken,
    ) -> Result<Tensor, ModelError> {
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        let patch = || {
            let made = self.project(number, hidden, self.pick(number, &chunk.angles))?;
            write(cache, &made, 0..chunk.places.len(), chunk.places)?;
            let mixed = self.attend(number, &made.queries, &[cache], self.pick(number, &chunk.tiles).as_slice())?;
            self.finish_layer(number, hidden, &mixed)
        };
        patch().map_err(device_failed)
    }
}

/// The same parts, each attended where it stands.
fn settled(prefix: &KvPrefix) -> Result<KvPrefix, ModelError> {
    let mut settled = KvPrefix::default();
    for part in prefix.parts() {
        let place = settled.len();
        settled.push_part(part.clone().at(place))?;
    }
    Ok(settled)
}

fn deviations_from(kept: &TensorKv, made: &Projected, places: Range<usize>) -> candle_core::Result<Vec<f32>> {
    let squares = |fresh: &Tensor, kept: &Tensor| {
        let kept = kept.narrow(1, places.start, places.len())?.to_dtype(DType::F32)?;
        (fresh.to_dtype(DType::F32)? - kept)?.sqr()?.sum(2)?.sum(0)
    };
    (squares(&made.keys, &kept.keys)? + squares(&made.values, &kept.values)?)?.to_vec1()
}

/// The tokens that deviate most, in the order in which they stand; of equals, the earlier.
fn most_deviant(deviations: &[f32], limit: usize) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..deviations.len() as u32).collect();
    tokens.sort_by(|&a, &b| deviations[b as usize].total_cmp(&deviations[a as usize]));
    tokens.truncate(limit);
    tokens.sort_unstable();
    tokens
}
