//! Causal attention over a tail's places, tile by tile of queries, so that scores take bounded memory.

use std::ops::Range;

use candle_core::{DType, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::TensorModel;
use crate::decoder::attention::Reach;
use crate::decoder::processor::PerRope;
use crate::kv::TensorKv;

/// Some tokens, and the keys that they see.
pub(super) struct Tile {
    /// Rows of the tokens among the queries.
    rows: Range<usize>,
    /// Places that at least one of them sees.
    keys: Range<usize>,
    /// What is added to the scores, `[rows, keys]`: nothing where a token sees a key, else minus infinity. `None` when
    /// all see all.
    mask: Option<Tensor>,
}

impl TensorModel {
    /// Returns the tiles of each run of rows, which go on one after the other among the queries; `positions` are those
    /// of all rows, of which a run takes some, ascending.
    pub(super) fn tiles(
        &self,
        positions: &[usize],
        runs: &[Range<usize>],
    ) -> candle_core::Result<PerRope<Vec<Vec<Tile>>>> {
        let make = |window: Option<usize>| {
            let reach = Reach { window, scale: self.spec.attention_scale, softcap: self.spec.attention_softcap };
            let mut row = 0;
            let of_run = |run: &Range<usize>| {
                let tiles = self.tiles_of_run(row, &positions[run.clone()], reach);
                row += run.len();
                tiles
            };
            runs.iter().map(of_run).collect::<candle_core::Result<Vec<_>>>()
        };
        let window = self.spec.sliding_window.as_ref().map(|sliding| sliding.tokens);
        Ok(PerRope { global: make(None)?, local: window.map(|window| make(Some(window))).transpose()? })
    }

    fn tiles_of_run(&self, row: usize, positions: &[usize], reach: Reach) -> candle_core::Result<Vec<Tile>> {
        let (Some(&first), Some(&last)) = (positions.first(), positions.last()) else { return Ok(Vec::new()) };
        let most_keys = last + 1 - reach.first_seen(first);
        let most_rows = (self.place.tile_scores / (self.spec.heads * most_keys)).max(1);
        let mut row = row;
        let tile = |positions: &[usize]| -> candle_core::Result<Tile> {
            let rows = row..row + positions.len();
            row = rows.end;
            let keys = reach.first_seen(positions[0])..positions[positions.len() - 1] + 1;
            // A single token sees all that is left.
            let mask = if rows.len() > 1 { Some(self.mask(positions, &keys, reach)?) } else { None };
            Ok(Tile { rows, keys, mask })
        };
        positions.chunks(most_rows).map(tile).collect()
    }

    fn mask(&self, positions: &[usize], keys: &Range<usize>, reach: Reach) -> candle_core::Result<Tensor> {
        let mut mask = vec![0.0_f32; positions.len() * keys.len()];
        for (row, &position) in mask.chunks_exact_mut(keys.len()).zip(positions) {
            row[..reach.first_seen(position) - keys.start].fill(f32::NEG_INFINITY);
            row[position + 1 - keys.start..].fill(f32::NEG_INFINITY);
        }
        Tensor::from_vec(mask, (positions.len(), keys.len()), &self.place.device)
    }

    /// Returns the attention of `queries` (`[heads, rows, head_dim]`, scaled) over one cache for each run of tiles, as
    /// activations `[rows, heads * head_dim]`. The caches must hold the new tokens' keys and values.
    pub(super) fn attend(
        &self,
        number: usize,
        queries: &Tensor,
        caches: &[&TensorKv],
        runs: &[Vec<Tile>],
    ) -> candle_core::Result<Tensor> {
        let softcap = self.spec.reach(number).softcap;
        let mut mixed = Vec::new();
        for (cache, tiles) in caches.iter().zip(runs) {
            for tile in tiles {
                mixed.push(self.attend_tile(queries, cache, tile, softcap)?);
            }
        }
        if mixed.len() == 1 { Ok(mixed.remove(0)) } else { Tensor::cat(&mixed, 0) }
    }

    fn attend_tile(
        &self,
        queries: &Tensor,
        cache: &TensorKv,
        tile: &Tile,
        softcap: Option<f32>,
    ) -> candle_core::Result<Tensor> {
        let (heads, kv_heads, head_dim) = (self.spec.heads, self.spec.kv_heads, self.spec.head_dim);
        let (group, rows, len) = (heads / kv_heads, tile.rows.len(), tile.keys.len());
        // The query heads that share a key head are rows of one product.
        let queries = queries.narrow(1, tile.rows.start, rows)?.contiguous()?;
        let queries = queries.reshape((kv_heads, group * rows, head_dim))?;
        let keys = cache.keys.narrow(1, tile.keys.start, len)?;
        let values = cache.values.narrow(1, tile.keys.start, len)?;
        let mut scores = queries.matmul(&keys.transpose(1, 2)?)?.to_dtype(DType::F32)?;
        if let Some(cap) = softcap.map(f64::from) {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        if let Some(mask) = &tile.mask {
            scores = scores.reshape((heads, rows, len))?.broadcast_add(mask)?;
        }
        let weights = softmax_last_dim(&scores)?.to_dtype(self.place.attention)?;
        let mixed = weights.reshape((kv_heads, group * rows, len))?.matmul(&values)?;
        let mixed = mixed.reshape((heads, rows, head_dim))?.transpose(0, 1)?.contiguous()?;
        mixed.reshape((rows, heads * head_dim))?.to_dtype(self.place.dtype)
    }
}
