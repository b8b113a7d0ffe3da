//! Weights from the names that files give them into the order of the kernels.

use candle_core::{Layout, Storage, Tensor};
use candle_nn::VarBuilder;

use super::{Embeddings, EncoderSpec, Layer, Norm, TextEncoder};
use crate::compute::DenseLayer;
use crate::decoder::Compute;

impl TextEncoder {
    /// Loads the weights among these, named from `embeddings` and `encoder` on.
    ///
    /// # Errors
    /// When one is missing or has another shape, or the sizes do not fit together.
    pub(crate) fn load(
        spec: EncoderSpec,
        compute: Compute,
        variables: &VarBuilder<'static>,
    ) -> candle_core::Result<Self> {
        let (heads, hidden) = (spec.heads, spec.hidden);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) {
            candle_core::bail!("hidden_size {hidden} is no multiple of num_attention_heads {heads}");
        }
        if spec.inner == 0 || spec.kinds == 0 {
            candle_core::bail!("intermediate_size {} and type_vocab_size {} must be positive", spec.inner, spec.kinds);
        }
        let embeddings = embeddings(&spec, &variables.pp("embeddings"))?;
        let layers = (0..spec.layers).map(|number| layer(&spec, &variables.pp(format!("encoder.layer.{number}"))));
        let layers = layers.collect::<candle_core::Result<Vec<Layer>>>()?;
        Ok(Self { spec, compute, embeddings, layers })
    }
}

fn embeddings(spec: &EncoderSpec, variables: &VarBuilder<'static>) -> candle_core::Result<Embeddings> {
    let table = |name: &str, rows: usize| variables.get((rows, spec.hidden), &format!("{name}_embeddings.weight"));
    let mut kind = floats(&table("token_type", spec.kinds)?)?;
    kind.truncate(spec.hidden);
    Ok(Embeddings {
        words: table("word", spec.vocabulary)?.contiguous()?,
        positions: floats(&table("position", spec.positions)?)?,
        kind,
        norm: norm(&variables.pp("LayerNorm"), spec.hidden)?,
    })
}

fn layer(spec: &EncoderSpec, variables: &VarBuilder<'static>) -> candle_core::Result<Layer> {
    let (hidden, inner) = (spec.hidden, spec.inner);
    let part = |name: &str| variables.pp(name);
    let projections = [part("attention.self.query"), part("attention.self.key"), part("attention.self.value")];
    Ok(Layer {
        projection: dense(&projections, hidden, hidden)?,
        attention_output: dense(&[part("attention.output.dense")], hidden, hidden)?,
        attention_norm: norm(&part("attention.output.LayerNorm"), hidden)?,
        up: dense(&[part("intermediate.dense")], inner, hidden)?,
        down: dense(&[part("output.dense")], hidden, inner)?,
        feed_forward_norm: norm(&part("output.LayerNorm"), hidden)?,
    })
}

/// Loads some layers of `rows` outputs each as one, their outputs side by side.
fn dense(parts: &[VarBuilder<'static>], rows: usize, cols: usize) -> candle_core::Result<DenseLayer> {
    let (mut weights, mut bias) = (Vec::with_capacity(parts.len() * rows * cols), Vec::new());
    for part in parts {
        weights.extend(floats(&part.get((rows, cols), "weight")?)?);
        bias.extend(floats(&part.get(rows, "bias")?)?);
    }
    Ok(DenseLayer::pack(&weights, &bias, cols))
}

fn norm(variables: &VarBuilder<'static>, width: usize) -> candle_core::Result<Norm> {
    // Files that were made of old checkpoints have the old names.
    let load = |name: &str, old: &str| {
        let name = if variables.contains_tensor(old) && !variables.contains_tensor(name) { old } else { name };
        floats(&variables.get(width, name)?)
    };
    Ok(Norm { weight: load("weight", "gamma")?, bias: load("bias", "beta")? })
}

fn floats(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

/// Returns the numbers of a tensor where they lie.
pub(super) fn values<'a>(storage: &'a Storage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => Ok(&storage.as_slice::<f32>()?[start..end]),
        _ => candle_core::bail!("the embeddings do not lie together in memory"),
    }
}
