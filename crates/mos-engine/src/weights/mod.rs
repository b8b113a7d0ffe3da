//! Reading models from files.

pub(crate) mod gguf;
pub(crate) mod safetensors;

use std::path::{Path, PathBuf};

use mos_core::ModelError;

use crate::decoder::{ArchSpec, Fingerprint, Layer, Linear, Weights};
use crate::error::bad_model;
use crate::text::{ChatTemplate, TextCodec};

/// All that a model's files say.
pub(crate) struct LoadedModel {
    pub(crate) weights: Weights,
    pub(crate) codec: TextCodec,
    /// `None` when the files hold no template: such a model completes text, but does not chat.
    pub(crate) template: Option<ChatTemplate>,
    /// The name in the files, if any.
    pub(crate) name: Option<String>,
}

/// Reads a `.gguf` file, or a directory with `config.json`, `*.safetensors` and `tokenizer.json`.
///
/// # Errors
/// [`ModelError::NotFound`] when nothing is there, [`ModelError::BadModel`] when it cannot be used.
pub(crate) fn load(path: &Path) -> Result<LoadedModel, ModelError> {
    let kind = std::fs::metadata(path).map_err(|error| missing(path, &error))?;
    if kind.is_dir() { safetensors::load(path) } else { gguf::load(path) }
}

/// Says how to get a model that is not there.
pub(crate) fn missing(path: &Path, error: &std::io::Error) -> ModelError {
    if error.kind() != std::io::ErrorKind::NotFound {
        return bad_model(path, format!("cannot be read: {error}"));
    }
    ModelError::NotFound(format!(
        "there is no model at {}; run `mos models list` to see which are there and `mos models pull NAME` to fetch \
         one, or put a .gguf file, or a directory with config.json, *.safetensors and tokenizer.json, at this path",
        path.display()
    ))
}

/// The tensors of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerTensor {
    AttentionNorm,
    Query,
    Key,
    Value,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
}

/// A tensor of a model, whatever it is called in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TensorName {
    Embedding,
    OutputNorm,
    Output,
    Layer(usize, LayerTensor),
}

/// The tensors of a file.
pub(crate) trait TensorSource {
    /// The file, or the directory, for messages.
    fn path(&self) -> PathBuf;
    /// Whether the file has the tensor.
    fn has(&self, name: TensorName) -> bool;
    /// Reads a matrix, adding what was read to `hasher`.
    fn matrix(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Linear, ModelError>;
    /// Reads a vector, adding what was read to `hasher`.
    fn vector(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Vec<f32>, ModelError>;
}

/// Reads all weights and checks their shapes.
pub(crate) fn read_weights(source: &mut dyn TensorSource, spec: ArchSpec) -> Result<Weights, ModelError> {
    spec.check().map_err(|detail| bad_model(&source.path(), detail))?;
    let mut hasher = blake3::Hasher::new();
    let description = serde_json::to_vec(&spec).map_err(|error| crate::error::internal("describing a model", error))?;
    hasher.update(&description);
    let mut reader = Reader { source, hasher };
    let (hidden, inner) = (spec.hidden, spec.feed_forward);
    let (query, key) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    let embedding = reader.matrix(TensorName::Embedding, spec.vocabulary, hidden)?;
    let mut layers = Vec::with_capacity(spec.layers);
    for number in 0..spec.layers {
        let name = |tensor| TensorName::Layer(number, tensor);
        layers.push(Layer {
            attention_norm: reader.vector(name(LayerTensor::AttentionNorm), hidden)?,
            query: reader.matrix(name(LayerTensor::Query), query, hidden)?,
            key: reader.matrix(name(LayerTensor::Key), key, hidden)?,
            value: reader.matrix(name(LayerTensor::Value), key, hidden)?,
            attention_output: reader.matrix(name(LayerTensor::AttentionOutput), hidden, query)?,
            feed_forward_norm: reader.vector(name(LayerTensor::FeedForwardNorm), hidden)?,
            gate: reader.matrix(name(LayerTensor::Gate), inner, hidden)?,
            up: reader.matrix(name(LayerTensor::Up), inner, hidden)?,
            down: reader.matrix(name(LayerTensor::Down), hidden, inner)?,
        });
    }
    let output_norm = reader.vector(TensorName::OutputNorm, hidden)?;
    let output = if reader.source.has(TensorName::Output) {
        Some(reader.matrix(TensorName::Output, spec.vocabulary, hidden)?)
    } else {
        None
    };
    let fingerprint = Fingerprint(*reader.hasher.finalize().as_bytes());
    Ok(Weights { spec, fingerprint, embedding, layers, output_norm, output })
}

struct Reader<'a> {
    source: &'a mut dyn TensorSource,
    hasher: blake3::Hasher,
}

impl Reader<'_> {
    fn matrix(&mut self, name: TensorName, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        let matrix = self.source.matrix(name, &mut self.hasher)?;
        if (matrix.rows(), matrix.cols()) != (rows, cols) {
            let (got_rows, got_cols) = (matrix.rows(), matrix.cols());
            return Err(bad_model(
                &self.source.path(),
                format!("{name:?} is {got_rows} x {got_cols}, but the model's settings say {rows} x {cols}"),
            ));
        }
        Ok(matrix)
    }

    fn vector(&mut self, name: TensorName, len: usize) -> Result<Vec<f32>, ModelError> {
        let vector = self.source.vector(name, &mut self.hasher)?;
        if vector.len() != len {
            return Err(bad_model(
                &self.source.path(),
                format!("{name:?} has {} values, but the model's settings say {len}", vector.len()),
            ));
        }
        Ok(vector)
    }
}

/// Adds a tensor's name, type, shape and bytes to a fingerprint.
pub(crate) fn hash_tensor(hasher: &mut blake3::Hasher, name: TensorName, dtype: &str, shape: &[usize], data: &[u8]) {
    hasher.update(format!("{name:?} {dtype} {shape:?} {}\n", data.len()).as_bytes());
    hasher.update(data);
}
