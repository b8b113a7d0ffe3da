//! Models in a directory: `config.json`, `*.safetensors`, `tokenizer.json`, and the chat template beside them.

#![allow(unsafe_code, reason = "model files are mapped, not copied, while they are read")]

use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device};
use mos_core::ModelError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{LayerTensor, LoadedModel, TensorName, TensorSource, hash_tensor, missing, read_weights};
use crate::compute::{Form, PanelMatrix};
use crate::decoder::{ArchSpec, Linear, RopeLayout, RopeScaling};
use crate::error::bad_model;
use crate::text::{ChatTemplate, TextCodec};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    vocab_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    max_position_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    sliding_window: Option<usize>,
    rope_scaling: Option<ScalingConfig>,
    /// The newer spelling, which holds the base of the rotation too.
    rope_parameters: Option<ScalingConfig>,
    eos_token_id: Option<Ids>,
    hidden_act: Option<String>,
}

#[derive(Deserialize)]
struct ScalingConfig {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
}

/// One id or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Ids {
    /// One.
    One(u32),
    /// Several.
    Many(Vec<u32>),
}

impl Ids {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

#[derive(Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<Ids>,
}

pub(crate) fn load(directory: &Path) -> Result<LoadedModel, ModelError> {
    let config_path = directory.join("config.json");
    let config: Config = read_json(&config_path)?;
    let spec = spec(&config_path, &config)?;
    let mut ends = config.eos_token_id.map(Ids::into_vec).unwrap_or_default();
    let generation = directory.join("generation_config.json");
    if generation.exists() {
        let generation: GenerationConfig = read_json(&generation)?;
        ends.extend(generation.eos_token_id.map(Ids::into_vec).unwrap_or_default());
    }
    let codec = TextCodec::from_directory(directory, &ends)?;
    let template = ChatTemplate::from_directory(directory, codec.bos_text(), codec.eos_text())?;
    let mut source = Directory::open(directory, config.tie_word_embeddings)?;
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

fn spec(path: &Path, config: &Config) -> Result<ArchSpec, ModelError> {
    let supported = match config.model_type.as_str() {
        "llama" => true,
        // The same arithmetic when nothing slides.
        "mistral" => config.sliding_window.is_none(),
        _ => false,
    };
    if !supported {
        return Err(bad_model(
            path,
            format!(
                "the architecture `{}` is not supported, only `llama`; choose a Llama-architecture model (Llama 2 and \
                 3, SmolLM2, TinyLlama), or serve this one with an OpenAI-compatible server",
                config.model_type
            ),
        ));
    }
    if config.attention_bias || config.mlp_bias {
        return Err(bad_model(path, "models with biases are not supported"));
    }
    if config.hidden_act.as_deref().is_some_and(|act| act != "silu") {
        return Err(bad_model(path, "only the activation `silu` is supported"));
    }
    let parameters = config.rope_parameters.as_ref();
    let theta = parameters.and_then(|parameters| parameters.rope_theta).or(config.rope_theta);
    Ok(ArchSpec {
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        feed_forward: config.intermediate_size,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
        head_dim: match config.head_dim {
            Some(head_dim) => head_dim,
            None => config.hidden_size.checked_div(config.num_attention_heads).unwrap_or(0),
        },
        vocabulary: config.vocab_size,
        context_length: config.max_position_embeddings,
        norm_epsilon: config.rms_norm_eps,
        rope_theta: theta.unwrap_or(10_000.0),
        rope_layout: RopeLayout::Halves,
        rope_scaling: scaling(path, config.rope_scaling.as_ref().or(parameters))?,
    })
}

fn scaling(path: &Path, config: Option<&ScalingConfig>) -> Result<RopeScaling, ModelError> {
    let Some(config) = config else { return Ok(RopeScaling::None) };
    let incomplete = || bad_model(path, "the rotation scaling lacks a factor or a length");
    match config.rope_type.as_deref() {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: config.factor.ok_or_else(incomplete)? }),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: config.factor.ok_or_else(incomplete)?,
            low_freq_factor: config.low_freq_factor.ok_or_else(incomplete)?,
            high_freq_factor: config.high_freq_factor.ok_or_else(incomplete)?,
            original_context: config.original_max_position_embeddings.ok_or_else(incomplete)?,
        }),
        Some(other) => Err(bad_model(path, format!("the rotation scaling `{other}` is not supported"))),
    }
}

/// The mapped weight files of a directory.
struct Directory {
    path: PathBuf,
    tensors: MmapedSafetensors,
    tied: bool,
}

impl Directory {
    fn open(directory: &Path, tied: bool) -> Result<Self, ModelError> {
        let files = weight_files(directory)?;
        // SAFETY: the maps are read only and live while the model is loaded; whoever rewrites a model file in place
        // at that moment gets a damaged model, as with any other way of reading it.
        let tensors = unsafe { MmapedSafetensors::multi(&files) }.map_err(|error| {
            bad_model(
                directory,
                format!("the weights cannot be read, a file is truncated or damaged; fetch them again ({error})"),
            )
        })?;
        Ok(Self { path: directory.to_owned(), tensors, tied })
    }

    fn read(&self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<(DType, Vec<usize>, &[u8]), ModelError> {
        let key = file_name(name);
        let view = self
            .tensors
            .get(&key)
            .map_err(|_| bad_model(&self.path, format!("the tensor `{key}` is missing; fetch the model again")))?;
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

    fn has(&self, name: TensorName) -> bool {
        // Some exports repeat the tied embedding as output: it is not loaded twice.
        let repeated = self.tied && matches!(name, TensorName::Output);
        !repeated && self.tensors.get(&file_name(name)).is_ok()
    }

    fn matrix(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Linear, ModelError> {
        let (dtype, shape, data) = self.read(name, hasher)?;
        let key = file_name(name);
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
        self.read(name, hasher)?;
        let key = file_name(name);
        self.tensors
            .load(&key, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| bad_model(&self.path, format!("`{key}`: {error}")))
    }
}

fn file_name(name: TensorName) -> String {
    match name {
        TensorName::Embedding => "model.embed_tokens.weight".to_owned(),
        TensorName::OutputNorm => "model.norm.weight".to_owned(),
        TensorName::Output => "lm_head.weight".to_owned(),
        TensorName::Layer(number, tensor) => {
            let tensor = match tensor {
                LayerTensor::AttentionNorm => "input_layernorm",
                LayerTensor::Query => "self_attn.q_proj",
                LayerTensor::Key => "self_attn.k_proj",
                LayerTensor::Value => "self_attn.v_proj",
                LayerTensor::AttentionOutput => "self_attn.o_proj",
                LayerTensor::FeedForwardNorm => "post_attention_layernorm",
                LayerTensor::Gate => "mlp.gate_proj",
                LayerTensor::Up => "mlp.up_proj",
                LayerTensor::Down => "mlp.down_proj",
            };
            format!("model.layers.{number}.{tensor}.weight")
        }
    }
}
