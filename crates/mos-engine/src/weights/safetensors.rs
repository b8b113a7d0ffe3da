//! Models in a directory: `config.json`, `*.safetensors`, `tokenizer.json`, and the chat template beside them.

#![allow(unsafe_code, reason = "model files are mapped, not copied, while they are read")]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device};
use mos_core::ModelError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::{self, Description, Ids};
use super::{LayerTensor, LoadedModel, TensorName, TensorSource, hash_tensor, missing, read_weights, unread};
use crate::compute::{Form, PanelMatrix};
use crate::decoder::Linear;
use crate::error::bad_model;
use crate::text::{ChatTemplate, TextCodec};

/// Says which file has which tensor, where there are several.
#[derive(Default, Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

#[derive(Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<Ids>,
}

pub(crate) fn load(directory: &Path) -> Result<LoadedModel, ModelError> {
    let config_path = directory.join("config.json");
    let Description { spec, tied, mut ends } = config::describe(&config_path)?;
    let generation = directory.join("generation_config.json");
    if generation.exists() {
        let generation: GenerationConfig = read_json(&generation)?;
        ends.extend(generation.eos_token_id.map(Ids::into_vec).unwrap_or_default());
    }
    let codec = TextCodec::from_directory(directory, &ends)?;
    let template = ChatTemplate::from_directory(directory, codec.bos_text(), codec.eos_text())?;
    let mut source = Directory::open(directory, spec.post_norms, tied)?;
    let weights = read_weights(&mut source, spec)?;
    codec.check_vocabulary(directory, weights.spec.vocabulary)?;
    Ok(LoadedModel { weights, codec, template, name: None })
}

/// Reads a JSON file of a model.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => bad_model(path, "is missing; fetch the model again, or add the file"),
        _ => missing(path, &error),
    })?;
    serde_json::from_str(&text).map_err(|error| bad_model(path, format!("is not understood: {error}")))
}

/// Returns the `*.safetensors` files of a directory, sorted by name.
pub(crate) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let entries = std::fs::read_dir(directory).map_err(|error| missing(directory, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| missing(directory, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(bad_model(directory, "has no *.safetensors file; fetch the model again"));
    }
    Ok(files)
}

/// The mapped weight files of a directory.
struct Directory {
    path: PathBuf,
    tensors: MmapedSafetensors,
    /// Where the tensors should be; empty when the files do not say.
    index: Index,
    post_norms: bool,
    /// Whether the embedding serves as output, if the files say.
    tied: Option<bool>,
    /// What the names of all tensors but the output start with.
    prefix: &'static str,
    /// The names of the tensors that were read.
    read: HashSet<String>,
}

/// The output, where it is not the embedding.
const OUTPUT: &str = "lm_head.weight";
/// Where a model's decoder is: alone, or beside the part that sees pictures, in an older and a newer way.
const PREFIXES: [&str; 3] = ["model.", "language_model.model.", "model.language_model."];

impl Directory {
    fn open(directory: &Path, post_norms: bool, tied: Option<bool>) -> Result<Self, ModelError> {
        let files = weight_files(directory)?;
        let index = directory.join("model.safetensors.index.json");
        let index: Index = if index.exists() { read_json(&index)? } else { Index::default() };
        // SAFETY: the maps are read only and live while the model is loaded; whoever rewrites a model file in place
        // at that moment gets a damaged model, as with any other way of reading it.
        let tensors = unsafe { MmapedSafetensors::multi(&files) }.map_err(|error| {
            bad_model(
                directory,
                format!("the weights cannot be read, a file is truncated or damaged; fetch them again ({error})"),
            )
        })?;
        let has_embedding = |prefix: &&&str| {
            let name = format!("{prefix}embed_tokens.weight");
            tensors.get(&name).is_ok() || index.weight_map.contains_key(&name)
        };
        let prefix = PREFIXES.iter().find(has_embedding).copied().unwrap_or(PREFIXES[0]);
        Ok(Self { path: directory.to_owned(), tensors, index, post_norms, tied, prefix, read: HashSet::new() })
    }

    fn file_name(&self, name: TensorName) -> String {
        let prefix = self.prefix;
        match name {
            TensorName::Embedding => format!("{prefix}embed_tokens.weight"),
            TensorName::OutputNorm => format!("{prefix}norm.weight"),
            TensorName::Output => OUTPUT.to_owned(),
            TensorName::Layer(number, tensor) => {
                format!("{prefix}layers.{number}.{}", layer_tensor(tensor, self.post_norms))
            }
        }
    }

    /// Says that a tensor is missing, and with which file.
    fn lacks(&self, tensor: &str) -> ModelError {
        let detail = match self.index.weight_map.get(tensor) {
            Some(file) if !self.path.join(file).exists() => {
                format!(
                    "the file `{file}`, which holds the tensor `{tensor}`, is missing; fetch it, or the model, again"
                )
            }
            _ => format!("the tensor `{tensor}` is missing; fetch the model again"),
        };
        bad_model(&self.path, detail)
    }

    fn tensor(&self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<(DType, Vec<usize>, &[u8]), ModelError> {
        let key = self.file_name(name);
        let view = self.tensors.get(&key).map_err(|_| self.lacks(&key))?;
        let dtype =
            DType::try_from(view.dtype()).map_err(|error| bad_model(&self.path, format!("`{key}`: {error}")))?;
        let (shape, data) = (view.shape().to_vec(), view.data());
        hash_tensor(hasher, name, dtype.as_str(), &shape, data);
        Ok((dtype, shape, data))
    }
}

impl TensorSource for Directory {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn has_output(&self) -> Result<bool, ModelError> {
        match (self.tied, self.tensors.get(OUTPUT).is_ok()) {
            // Some exports repeat the tied embedding as output: it is not loaded twice.
            (Some(true), _) => Ok(false),
            (_, true) => Ok(true),
            (Some(false), false) => Err(self.lacks(OUTPUT)),
            // The families disagree on what silence means; weights without an output are whole only with the
            // embedding in its place. Not so when the index knows of an output.
            (None, false) if self.index.weight_map.contains_key(OUTPUT) => Err(self.lacks(OUTPUT)),
            (None, false) => Ok(false),
        }
    }

    fn matrix(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Linear, ModelError> {
        self.read.insert(self.file_name(name));
        let (dtype, shape, data) = self.tensor(name, hasher)?;
        let key = self.file_name(name);
        let &[rows, cols] = shape.as_slice() else {
            return Err(bad_model(&self.path, format!("the tensor `{key}` is not a matrix")));
        };
        let form = match dtype {
            DType::F32 => Form::F32,
            DType::F16 => Form::F16,
            DType::BF16 => Form::Bf16,
            other => {
                return Err(bad_model(&self.path, format!("`{key}` has the type {other:?}, which is not supported")));
            }
        };
        PanelMatrix::pack(form, rows, cols, data)
            .map(Linear::Panels)
            .map_err(|detail| bad_model(&self.path, format!("`{key}`: {detail}")))
    }

    fn vector(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Vec<f32>, ModelError> {
        self.read.insert(self.file_name(name));
        self.tensor(name, hasher)?;
        let key = self.file_name(name);
        self.tensors
            .load(&key, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| bad_model(&self.path, format!("`{key}`: {error}")))
    }

    fn check_unread(&self) -> Result<(), ModelError> {
        let mut names: Vec<String> = self.tensors.tensors().into_iter().map(|(name, _)| name).collect();
        names.sort();
        // Outside the decoder are parts that text does not need. Some exports hold what the rotation is made of, or
        // repeat a tied embedding.
        let counts = |name: &String| name.starts_with(self.prefix) || name.starts_with("lm_head.");
        let known =
            |name: &String| name.ends_with("rotary_emb.inv_freq") || (self.tied == Some(true) && name == OUTPUT);
        match names.into_iter().find(|name| counts(name) && !known(name) && !self.read.contains(name)) {
            Some(name) => Err(unread(&self.path, &name)),
            None => Ok(()),
        }
    }
}

/// What the names of a layer's tensors end with. In architectures with post norms, the second norm of a layer is
/// called what in others the third is.
fn layer_tensor(tensor: LayerTensor, post_norms: bool) -> &'static str {
    match tensor {
        LayerTensor::AttentionNorm => "input_layernorm.weight",
        LayerTensor::Query => "self_attn.q_proj.weight",
        LayerTensor::Key => "self_attn.k_proj.weight",
        LayerTensor::Value => "self_attn.v_proj.weight",
        LayerTensor::QueryBias => "self_attn.q_proj.bias",
        LayerTensor::KeyBias => "self_attn.k_proj.bias",
        LayerTensor::ValueBias => "self_attn.v_proj.bias",
        LayerTensor::QueryNorm => "self_attn.q_norm.weight",
        LayerTensor::KeyNorm => "self_attn.k_norm.weight",
        LayerTensor::AttentionOutput => "self_attn.o_proj.weight",
        LayerTensor::AttentionOutputBias => "self_attn.o_proj.bias",
        LayerTensor::FeedForwardNorm if post_norms => "pre_feedforward_layernorm.weight",
        LayerTensor::PostAttentionNorm | LayerTensor::FeedForwardNorm => "post_attention_layernorm.weight",
        LayerTensor::Gate => "mlp.gate_proj.weight",
        LayerTensor::Up => "mlp.up_proj.weight",
        LayerTensor::Down => "mlp.down_proj.weight",
        LayerTensor::PostFeedForwardNorm => "post_feedforward_layernorm.weight",
    }
}
