//! Models in GGUF files: one file holds weights, settings, vocabulary and chat template.

#![allow(unsafe_code, reason = "model files are mapped, not copied, while they are read")]

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use memmap2::Mmap;
use mos_core::ModelError;

use super::{LayerTensor, LoadedModel, TensorName, TensorSource, hash_tensor, missing, read_weights};
use crate::compute::{Form, PanelMatrix};
use crate::decoder::{ArchSpec, Linear, RopeLayout, RopeScaling};
use crate::error::bad_model;
use crate::text::{ChatTemplate, TextCodec};

/// What `.gguf` files start with.
const MAGIC: &[u8] = b"GGUF";

/// A mapped file and its table of contents.
pub(crate) struct GgufFile {
    path: PathBuf,
    map: Mmap,
    content: Content,
}

pub(crate) fn load(path: &Path) -> Result<LoadedModel, ModelError> {
    let mut file = GgufFile::open(path)?;
    let spec = file.spec()?;
    let codec = TextCodec::from_gguf(&file)?;
    let template = match file.text("tokenizer.chat_template") {
        Some(source) => Some(ChatTemplate::new(path, source, codec.bos_text(), codec.eos_text())?),
        None => None,
    };
    let name = file.text("general.name").map(str::to_owned);
    let weights = read_weights(&mut file, spec)?;
    codec.check_vocabulary(path, weights.spec.vocabulary)?;
    Ok(LoadedModel { weights, codec, template, name })
}

impl GgufFile {
    /// Opens a file and checks that it is whole.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|error| missing(path, &error))?;
        // SAFETY: the map is read only and lives while the file is loaded; whoever rewrites a model file in place at
        // that moment gets a damaged model, as with any other way of reading it.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| bad_model(path, format!("cannot be read: {error}")))?;
        if !map.starts_with(MAGIC) {
            return Err(bad_model(path, "is not a GGUF file; give a .gguf file or a directory with safetensors"));
        }
        let content = Content::read(&mut Cursor::new(&map[..])).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            bad_model(
                path,
                format!("the header cannot be read, the file is truncated or damaged; fetch it again ({why})"),
            )
        })?;
        let file = Self { path: path.to_owned(), map, content };
        file.check_length()?;
        Ok(file)
    }

    fn check_length(&self) -> Result<(), ModelError> {
        for (name, info) in &self.content.tensor_infos {
            if self.range(info).is_none_or(|(start, len)| start.saturating_add(len) > self.map.len()) {
                return Err(bad_model(
                    &self.path,
                    format!("the file is truncated: the tensor `{name}` lies beyond its end; fetch it again"),
                ));
            }
        }
        Ok(())
    }

    /// Start and length of a tensor's bytes; `None` when they do not fit into memory's addresses or into blocks.
    fn range(&self, info: &TensorInfo) -> Option<(usize, usize)> {
        let elements = info.shape.dims().iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
        let block = info.ggml_dtype.block_size();
        if !elements.is_multiple_of(block) {
            return None;
        }
        let len = (elements / block).checked_mul(info.ggml_dtype.type_size())?;
        let start = usize::try_from(self.content.tensor_data_offset.checked_add(info.offset)?).ok()?;
        Some((start, len))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.content.tensor_infos.values()
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Option<Vec<&str>> {
        let Value::Array(values) = self.value(key)? else { return None };
        values.iter().map(|value| if let Value::String(text) = value { Some(text.as_str()) } else { None }).collect()
    }

    pub(crate) fn integer(&self, key: &str) -> Option<usize> {
        integer(self.value(key)?)
    }

    pub(crate) fn integers(&self, key: &str) -> Option<Vec<usize>> {
        let Value::Array(values) = self.value(key)? else { return None };
        values.iter().map(integer).collect()
    }

    fn float(&self, key: &str) -> Option<f32> {
        match self.value(key)? {
            Value::F32(value) => Some(*value),
            Value::F64(value) => Some(*value as f32),
            _ => None,
        }
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| bad_model(&self.path, format!("the setting `{key}` is missing; fetch the file again")))
    }

    fn spec(&self) -> Result<ArchSpec, ModelError> {
        let architecture = self.need("general.architecture", self.text("general.architecture"))?;
        if architecture != "llama" {
            return Err(bad_model(
                &self.path,
                format!(
                    "the architecture `{architecture}` is not supported, only `llama`; choose a Llama-architecture \
                     model (Llama 2 and 3, SmolLM2, TinyLlama), or serve this one with an OpenAI-compatible server"
                ),
            ));
        }
        let required = |key: &str| self.need(key, self.integer(key));
        if self.integer("llama.expert_count").unwrap_or(0) > 0 {
            return Err(bad_model(&self.path, "mixtures of experts are not supported; choose a dense model"));
        }
        let hidden = required("llama.embedding_length")?;
        let heads = required("llama.attention.head_count")?;
        let head_dim = match self.integer("llama.attention.key_length") {
            Some(length) => length,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        if self.integer("llama.rope.dimension_count").is_some_and(|rotated| rotated != head_dim) {
            return Err(bad_model(&self.path, "models that rotate a part of each head are not supported"));
        }
        let embedding = self.need("token_embd.weight", self.content.tensor_infos.get("token_embd.weight"))?;
        let epsilon = "llama.attention.layer_norm_rms_epsilon";
        Ok(ArchSpec {
            layers: required("llama.block_count")?,
            hidden,
            feed_forward: required("llama.feed_forward_length")?,
            heads,
            kv_heads: self.integer("llama.attention.head_count_kv").unwrap_or(heads),
            head_dim,
            vocabulary: embedding.shape.dims().first().copied().unwrap_or(0),
            context_length: required("llama.context_length")?,
            norm_epsilon: self.need(epsilon, self.float(epsilon))?,
            rope_theta: self.float("llama.rope.freq_base").unwrap_or(10_000.0),
            rope_layout: RopeLayout::Interleaved,
            rope_scaling: self.rope_scaling()?,
        })
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        if let Some(info) = self.content.tensor_infos.get("rope_freqs.weight") {
            let (_, bytes) = self.bytes(info)?;
            let factors = bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            return Ok(RopeScaling::Factors { factors: factors.collect() });
        }
        let factor = self.float("llama.rope.scaling.factor").or_else(|| self.float("llama.rope.scale_linear"));
        match (self.text("llama.rope.scaling.type").unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None) => Ok(RopeScaling::None),
            ("linear", Some(factor)) if factor > 0.0 => Ok(RopeScaling::Linear { factor }),
            (other, _) => Err(bad_model(&self.path, format!("the rotation scaling `{other}` is not supported"))),
        }
    }

    fn bytes<'a>(&'a self, info: &'a TensorInfo) -> Result<(&'a [usize], &'a [u8]), ModelError> {
        let range = self.range(info).and_then(|(start, len)| self.map.get(start..start.checked_add(len)?));
        match range {
            Some(bytes) => Ok((info.shape.dims(), bytes)),
            None => Err(bad_model(&self.path, "the file is truncated; fetch it again")),
        }
    }

    fn tensor(&self, name: TensorName) -> Result<(String, &TensorInfo), ModelError> {
        let key = file_name(name);
        match self.content.tensor_infos.get(&key) {
            Some(info) => Ok((key, info)),
            None => Err(bad_model(&self.path, format!("the tensor `{key}` is missing; fetch the file again"))),
        }
    }
}

impl TensorSource for GgufFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn has(&self, name: TensorName) -> bool {
        self.content.tensor_infos.contains_key(&file_name(name))
    }

    fn matrix(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Linear, ModelError> {
        let (key, info) = self.tensor(name)?;
        let (shape, bytes) = self.bytes(info)?;
        hash_tensor(hasher, name, &format!("{:?}", info.ggml_dtype), shape, bytes);
        let &[rows, cols] = shape else {
            return Err(bad_model(&self.path, format!("the tensor `{key}` is not a matrix")));
        };
        if let Some(form) = Form::of(info.ggml_dtype) {
            return PanelMatrix::pack(form, rows, cols, bytes)
                .map(Linear::Panels)
                .map_err(|detail| bad_model(&self.path, format!("`{key}`: {detail}")));
        }
        self.content
            .tensor(&mut Cursor::new(&self.map[..]), &key, &Device::Cpu)
            .and_then(Linear::from_candle)
            .map_err(|error| bad_model(&self.path, format!("`{key}`: {error}")))
    }

    fn vector(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Vec<f32>, ModelError> {
        let (key, info) = self.tensor(name)?;
        let (shape, bytes) = self.bytes(info)?;
        hash_tensor(hasher, name, &format!("{:?}", info.ggml_dtype), shape, bytes);
        self.content
            .tensor(&mut Cursor::new(&self.map[..]), &key, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.to_vec1::<f32>())
            .map_err(|error| bad_model(&self.path, format!("`{key}`: {error}")))
    }
}

fn integer(value: &Value) -> Option<usize> {
    match value {
        Value::U8(v) => Some(usize::from(*v)),
        Value::U16(v) => Some(usize::from(*v)),
        Value::U32(v) => usize::try_from(*v).ok(),
        Value::U64(v) => usize::try_from(*v).ok(),
        Value::I8(v) => usize::try_from(*v).ok(),
        Value::I16(v) => usize::try_from(*v).ok(),
        Value::I32(v) => usize::try_from(*v).ok(),
        Value::I64(v) => usize::try_from(*v).ok(),
        _ => None,
    }
}

fn file_name(name: TensorName) -> String {
    match name {
        TensorName::Embedding => "token_embd.weight".to_owned(),
        TensorName::OutputNorm => "output_norm.weight".to_owned(),
        TensorName::Output => "output.weight".to_owned(),
        TensorName::Layer(number, tensor) => {
            let tensor = match tensor {
                LayerTensor::AttentionNorm => "attn_norm",
                LayerTensor::Query => "attn_q",
                LayerTensor::Key => "attn_k",
                LayerTensor::Value => "attn_v",
                LayerTensor::AttentionOutput => "attn_output",
                LayerTensor::FeedForwardNorm => "ffn_norm",
                LayerTensor::Gate => "ffn_gate",
                LayerTensor::Up => "ffn_up",
                LayerTensor::Down => "ffn_down",
            };
            format!("blk.{number}.{tensor}.weight")
        }
    }
}
