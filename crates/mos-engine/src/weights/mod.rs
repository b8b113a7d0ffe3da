//! Reading models from files.

mod config;
pub(crate) mod gguf;
mod gguf_head;
mod gguf_spec;
pub(crate) mod safetensors;

use std::path::{Path, PathBuf};

use mos_core::ModelError;

use crate::decoder::{ArchSpec, AttentionBias, Fingerprint, Layer, Linear, Weights};
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
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    AttentionOutput,
    AttentionOutputBias,
    PostAttentionNorm,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    PostFeedForwardNorm,
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
    /// Whether the output has weights of its own; otherwise the embedding serves as output.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when it should have some, but they are not there.
    fn has_output(&self) -> Result<bool, ModelError>;
    /// Reads a matrix, adding what was read to `hasher`.
    fn matrix(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Linear, ModelError>;
    /// Reads a vector, adding what was read to `hasher`.
    fn vector(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Vec<f32>, ModelError>;
    /// Refuses a model with weights that were not read: it computes something that we do not.
    fn check_unread(&self) -> Result<(), ModelError>;
}

/// Reads all weights and checks their shapes.
pub(crate) fn read_weights(source: &mut dyn TensorSource, spec: ArchSpec) -> Result<Weights, ModelError> {
    spec.check().map_err(|detail| bad_model(&source.path(), detail))?;
    let mut hasher = blake3::Hasher::new();
    let description = serde_json::to_vec(&spec).map_err(|error| crate::error::internal("describing a model", error))?;
    hasher.update(&description);
    let mut reader = Reader { source, hasher };
    let embedding = reader.matrix(TensorName::Embedding, spec.vocabulary, spec.hidden)?;
    let layers = (0..spec.layers).map(|number| reader.layer(&spec, number)).collect::<Result<_, _>>()?;
    let output_norm = reader.norm(&spec, TensorName::OutputNorm, spec.hidden)?;
    let output = if reader.source.has_output()? {
        Some(reader.matrix(TensorName::Output, spec.vocabulary, spec.hidden)?)
    } else {
        None
    };
    reader.source.check_unread()?;
    let fingerprint = Fingerprint(*reader.hasher.finalize().as_bytes());
    Ok(Weights { spec, fingerprint, embedding, layers, output_norm, output })
}

struct Reader<'a> {
    source: &'a mut dyn TensorSource,
    hasher: blake3::Hasher,
}

impl Reader<'_> {
    fn layer(&mut self, spec: &ArchSpec, number: usize) -> Result<Layer, ModelError> {
        use LayerTensor as T;
        let name = |tensor| TensorName::Layer(number, tensor);
        let (hidden, inner, head) = (spec.hidden, spec.feed_forward, spec.head_dim);
        let (query, key) = (spec.heads * head, spec.kv_heads * head);
        let input_bias = spec.attention_bias != AttentionBias::None;
        let output_bias = spec.attention_bias == AttentionBias::All;
        Ok(Layer {
            attention_norm: self.norm(spec, name(T::AttentionNorm), hidden)?,
            query: self.matrix(name(T::Query), query, hidden)?,
            key: self.matrix(name(T::Key), key, hidden)?,
            value: self.matrix(name(T::Value), key, hidden)?,
            query_bias: self.vector_if(input_bias, name(T::QueryBias), query)?,
            key_bias: self.vector_if(input_bias, name(T::KeyBias), key)?,
            value_bias: self.vector_if(input_bias, name(T::ValueBias), key)?,
            query_norm: self.norm_if(spec.head_norms, spec, name(T::QueryNorm), head)?,
            key_norm: self.norm_if(spec.head_norms, spec, name(T::KeyNorm), head)?,
            attention_output: self.matrix(name(T::AttentionOutput), hidden, query)?,
            attention_output_bias: self.vector_if(output_bias, name(T::AttentionOutputBias), hidden)?,
            post_attention_norm: self.norm_if(spec.post_norms, spec, name(T::PostAttentionNorm), hidden)?,
            feed_forward_norm: self.norm(spec, name(T::FeedForwardNorm), hidden)?,
            gate: self.matrix(name(T::Gate), inner, hidden)?,
            up: self.matrix(name(T::Up), inner, hidden)?,
            down: self.matrix(name(T::Down), hidden, inner)?,
            post_feed_forward_norm: self.norm_if(spec.post_norms, spec, name(T::PostFeedForwardNorm), hidden)?,
        })
    }

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

    fn vector_if(&mut self, there: bool, name: TensorName, len: usize) -> Result<Vec<f32>, ModelError> {
        if there { self.vector(name, len) } else { Ok(Vec::new()) }
    }

    /// Reads the weights of a norm, as factors.
    fn norm(&mut self, spec: &ArchSpec, name: TensorName, len: usize) -> Result<Vec<f32>, ModelError> {
        let mut weights = self.vector(name, len)?;
        if spec.norm_offset != 0.0 {
            weights.iter_mut().for_each(|weight| *weight += spec.norm_offset);
        }
        Ok(weights)
    }

    fn norm_if(&mut self, there: bool, spec: &ArchSpec, name: TensorName, len: usize) -> Result<Vec<f32>, ModelError> {
        if there { self.norm(spec, name, len) } else { Ok(Vec::new()) }
    }
}

/// Adds a tensor's name, type, shape and bytes to a fingerprint.
pub(crate) fn hash_tensor(hasher: &mut blake3::Hasher, name: TensorName, dtype: &str, shape: &[usize], data: &[u8]) {
    hasher.update(format!("{name:?} {dtype} {shape:?} {}\n", data.len()).as_bytes());
    hasher.update(data);
}

/// Says which architectures there are.
fn unsupported(path: &Path, architecture: &str) -> ModelError {
    bad_model(
        path,
        format!(
            "the architecture `{architecture}` is not supported, only `llama`, `qwen2`, `qwen3` and `gemma3`; choose a \
             model of these families (Llama 2 and 3, SmolLM2, TinyLlama, Qwen 2, 2.5 and 3, Gemma 3), or serve this \
             one with an OpenAI-compatible server"
        ),
    )
}

/// Says which part of a model is not computed here.
fn unread(path: &Path, tensor: &str) -> ModelError {
    bad_model(
        path,
        format!(
            "the tensor `{tensor}` is not understood, so the model would compute something else than it was made for; \
             choose another model, or serve this one with an OpenAI-compatible server"
        ),
    )
}

/// Every `pattern`-th layer sees all tokens, the others have a window.
fn windows_but_every(pattern: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|number| !number.is_multiple_of(pattern)).collect()
}
