//! Moving a model from the processor to a device.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use mos_core::ModelError;
use rayon::prelude::*;

use super::{TensorLayer, TensorModel};
use crate::decoder::processor::Processor;
use crate::decoder::{Compute, Layer, Linear, Weights};
use crate::device::TensorDevice;
use crate::error::device_failed;

/// Weights that are plain numbers in memory at a time.
const BLOCK_WEIGHTS: usize = 1 << 24;

impl TensorModel {
    /// Moves a model to a device; each layer leaves the memory when it is there.
    pub(in crate::decoder) fn upload(processor: Processor, place: Arc<TensorDevice>) -> Result<Self, ModelError> {
        let Processor { weights, compute, rope, local_rope } = processor;
        let Weights { spec, fingerprint, embedding, layers, output_norm, output } = weights;
        let mover = Mover { place: &place, compute: &compute };
        let layers = layers.into_iter().map(|layer| mover.layer(layer)).collect::<Result<_, _>>()?;
        let embedding = mover.matrix(embedding)?;
        let output = output.map(|output| mover.matrix(output)).transpose()?;
        let output_norm = mover.vector(output_norm)?;
        Ok(Self { spec, fingerprint, embedding, layers, output_norm, output, rope, local_rope, place })
    }

    /// Returns the bytes that the matrices take on the device.
    pub(in crate::decoder) fn weight_bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let of_layer = |layer: &TensorLayer| {
            let TensorLayer { query, key, value, attention_output, gate, up, down, .. } = layer;
            [query, key, value, attention_output, gate, up, down].map(bytes).iter().sum::<usize>()
        };
        bytes(&self.embedding) + self.output.as_ref().map_or(0, bytes) + self.layers.iter().map(of_layer).sum::<usize>()
    }
}

struct Mover<'a> {
    place: &'a TensorDevice,
    compute: &'a Compute,
}

impl Mover<'_> {
    fn layer(&self, layer: Layer) -> Result<TensorLayer, ModelError> {
        Ok(TensorLayer {
            attention_norm: self.vector(layer.attention_norm)?,
            query: self.matrix(layer.query)?,
            key: self.matrix(layer.key)?,
            value: self.matrix(layer.value)?,
            query_bias: self.vector_if_any(layer.query_bias)?,
            key_bias: self.vector_if_any(layer.key_bias)?,
            value_bias: self.vector_if_any(layer.value_bias)?,
            query_norm: self.vector_if_any(layer.query_norm)?,
            key_norm: self.vector_if_any(layer.key_norm)?,
            attention_output: self.matrix(layer.attention_output)?,
            attention_output_bias: self.vector_if_any(layer.attention_output_bias)?,
            post_attention_norm: self.vector_if_any(layer.post_attention_norm)?,
            feed_forward_norm: self.vector(layer.feed_forward_norm)?,
            gate: self.matrix(layer.gate)?,
            up: self.matrix(layer.up)?,
            down: self.matrix(layer.down)?,
            post_feed_forward_norm: self.vector_if_any(layer.post_feed_forward_norm)?,
        })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor, ModelError> {
        let len = values.len();
        Tensor::from_vec(values, len, &Device::Cpu).and_then(|values| self.moved(&values)).map_err(device_failed)
    }

    fn vector_if_any(&self, values: Vec<f32>) -> Result<Option<Tensor>, ModelError> {
        if values.is_empty() { Ok(None) } else { self.vector(values).map(Some) }
    }

    /// Quantised weights become what they stand for, rounded to the device's type.
    fn matrix(&self, matrix: Linear) -> Result<Tensor, ModelError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let whole = Tensor::zeros((rows, cols), self.place.dtype, &self.place.device).map_err(device_failed)?;
        let block_rows = (BLOCK_WEIGHTS / cols).max(1);
        for first in (0..rows).step_by(block_rows) {
            let count = block_rows.min(rows - first);
            let mut values = vec![0.0; count * cols];
            values
                .par_chunks_exact_mut(cols)
                .enumerate()
                .try_for_each(|(row, values)| matrix.row(self.compute, first + row, values))?;
            Tensor::from_vec(values, (count, cols), &Device::Cpu)
                .and_then(|block| whole.slice_set(&self.moved(&block)?, 0, first))
                .map_err(device_failed)?;
        }
        Ok(whole)
    }

    /// Converted first: so fewer bytes travel.
    fn moved(&self, values: &Tensor) -> candle_core::Result<Tensor> {
        values.to_dtype(self.place.dtype)?.to_device(&self.place.device)
    }
}
