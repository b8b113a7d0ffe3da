//! Models in GGUF files: one file holds weights, settings, vocabulary and chat template.

#![allow(unsafe_code, reason = "model files are mapped, not copied, while they are read")]

use std::collections::HashSet;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use memmap2::Mmap;
use mos_core::ModelError;

use super::{
    LayerTensor, LoadedModel, TensorName, TensorSource, gguf_head, gguf_spec, hash_tensor, missing, read_weights,
    unread,
};
use crate::compute::{Form, PanelMatrix};
use crate::cpu::CpuPath;
use crate::decoder::{CancelToken, Decoder, Linear, LogitRows};
use crate::error::{bad_model, internal};
use crate::kv::KvPrefix;
use crate::text::{ChatTemplate, TextCodec};

/// What `.gguf` files start with.
const MAGIC: &[u8] = b"GGUF";
/// The divisors of the rotation, which the description of the architecture takes in.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// How candle's words about a type of tensors that it does not know begin; the type's number follows.
const UNKNOWN_TYPE: &str = "unknown dtype for tensor ";

/// A mapped file and its table of contents.
pub(crate) struct GgufFile {
    path: PathBuf,
    map: Mmap,
    content: Content,
    /// The tensors that were read.
    read: HashSet<String>,
}

pub(crate) fn load(path: &Path) -> Result<LoadedModel, ModelError> {
    let mut file = GgufFile::open(path)?;
    let spec = gguf_spec::spec(&file)?;
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

/// Reads every part of a file, each also when another is damaged, and computes two tokens.
///
/// # Errors
/// [`ModelError::BadModel`], which says what is wrong with one of the parts.
pub(crate) fn read_apart(path: &Path) -> Result<(), ModelError> {
    let mut file = GgufFile::open(path)?;
    let codec = TextCodec::from_gguf(&file);
    let tokens = codec.as_ref().map(|codec| codec.encode("ab a\n").map(|_| ()));
    let template = file.text("tokenizer.chat_template").map(|source| ChatTemplate::new(path, source, "<s>", "</s>"));
    let weights = gguf_spec::spec(&file).and_then(|spec| read_weights(&mut file, spec))?;
    let last = u32::try_from(weights.spec.vocabulary - 1).map_err(|error| internal("counting tokens", error))?;
    if let Ok(codec) = &codec {
        codec.check_vocabulary(path, weights.spec.vocabulary)?;
    }
    let decoder = Decoder::new(weights, 1, CpuPath::best())?;
    let (prefix, mut tail) = (KvPrefix::default(), decoder.new_tail());
    decoder.forward(&[0, last], &prefix, &mut tail, LogitRows::Last, &CancelToken::default())?;
    tokens.unwrap_or(Ok(()))?;
    template.transpose()?;
    codec.map(|_| ())
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
        if gguf_head::aligns_to_nothing(&map) {
            return Err(bad_model(
                path,
                "the setting `general.alignment` is 0, which no data can be aligned to; the file is damaged, fetch it \
                 again",
            ));
        }
        let content = Content::read(&mut Cursor::new(&map[..])).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            let detail = match why.strip_prefix(UNKNOWN_TYPE).and_then(|number| number.trim().parse().ok()) {
                Some(number) => unsupported_type(&type_name(number)),
                None => format!("the header cannot be read, the file is truncated or damaged; fetch it again ({why})"),
            };
            bad_model(path, detail)
        })?;
        let file = Self { path: path.to_owned(), map, content, read: HashSet::new() };
        file.check_tensors()?;
        Ok(file)
    }

    /// Refuses tensors of types that nobody computes with, without values, or beyond the end of the file.
    fn check_tensors(&self) -> Result<(), ModelError> {
        for (name, info) in &self.content.tensor_infos {
            // Candle knows their sizes, but does not read them: they are types of activations.
            match info.ggml_dtype {
                GgmlDType::Q8_1 => return Err(bad_model(&self.path, unsupported_type("Q8_1"))),
                GgmlDType::Q8K => return Err(bad_model(&self.path, unsupported_type("Q8_K"))),
                _ => {}
            }
            if info.shape.dims().contains(&0) {
                let detail = format!("the tensor `{name}` has no values; the file is damaged, fetch it again");
                return Err(bad_model(&self.path, detail));
            }
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

    /// A tensor's place in the file; `None` when it is not there.
    pub(super) fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.content.tensor_infos.get(tensor)
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

    pub(super) fn booleans(&self, key: &str) -> Option<Vec<bool>> {
        let Value::Array(values) = self.value(key)? else { return None };
        values.iter().map(|value| if let Value::Bool(value) = value { Some(*value) } else { None }).collect()
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        if let Value::Bool(value) = self.value(key)? { Some(*value) } else { None }
    }

    pub(crate) fn floats(&self, key: &str) -> Option<Vec<f32>> {
        let Value::Array(values) = self.value(key)? else { return None };
        values.iter().map(float).collect()
    }

    pub(super) fn float(&self, key: &str) -> Option<f32> {
        float(self.value(key)?)
    }

    pub(super) fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| bad_model(&self.path, format!("the setting `{key}` is missing; fetch the file again")))
    }

    pub(super) fn bytes<'a>(&'a self, info: &'a TensorInfo) -> Result<(&'a [usize], &'a [u8]), ModelError> {
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

    fn has_output(&self) -> Result<bool, ModelError> {
        // The format has no setting for this: files leave the output out when the embedding serves.
        Ok(self.content.tensor_infos.contains_key(&file_name(TensorName::Output)))
    }

    fn matrix(&mut self, name: TensorName, hasher: &mut blake3::Hasher) -> Result<Linear, ModelError> {
        self.read.insert(file_name(name));
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
        self.read.insert(file_name(name));
        let (key, info) = self.tensor(name)?;
        let (shape, bytes) = self.bytes(info)?;
        hash_tensor(hasher, name, &format!("{:?}", info.ggml_dtype), shape, bytes);
        self.content
            .tensor(&mut Cursor::new(&self.map[..]), &key, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.to_vec1::<f32>())
            .map_err(|error| bad_model(&self.path, format!("`{key}`: {error}")))
    }

    fn check_unread(&self) -> Result<(), ModelError> {
        let mut names: Vec<&String> = self.content.tensor_infos.keys().collect();
        names.sort();
        // The rotation's divisors are in the description; some old files hold its speeds too, which we compute.
        let known = |name: &str| name == ROPE_FACTORS || name.ends_with(".attn_rot_embd.weight");
        match names.into_iter().find(|name| !self.read.contains(*name) && !known(name)) {
            Some(name) => Err(unread(&self.path, name)),
            None => Ok(()),
        }
    }
}

/// Says which types of weights there are.
fn unsupported_type(name: &str) -> String {
    format!(
        "weights of the type {name} are not supported, only F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, \
         Q4_K, Q5_K and Q6_K; choose a file of the same model with one of these, for example Q4_K_M or Q8_0"
    )
}

/// The name of a type that candle does not know, by its number in the format.
fn type_name(number: u32) -> String {
    let name = match number {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return format!("number {other}"),
    };
    name.to_owned()
}

fn float(value: &Value) -> Option<f32> {
    match value {
        Value::F32(value) => Some(*value),
        Value::F64(value) => Some(*value as f32),
        _ => None,
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
                LayerTensor::AttentionNorm => "attn_norm.weight",
                LayerTensor::Query => "attn_q.weight",
                LayerTensor::Key => "attn_k.weight",
                LayerTensor::Value => "attn_v.weight",
                LayerTensor::QueryBias => "attn_q.bias",
                LayerTensor::KeyBias => "attn_k.bias",
                LayerTensor::ValueBias => "attn_v.bias",
                LayerTensor::QueryNorm => "attn_q_norm.weight",
                LayerTensor::KeyNorm => "attn_k_norm.weight",
                LayerTensor::AttentionOutput => "attn_output.weight",
                LayerTensor::AttentionOutputBias => "attn_output.bias",
                LayerTensor::PostAttentionNorm => "post_attention_norm.weight",
                LayerTensor::FeedForwardNorm => "ffn_norm.weight",
                LayerTensor::Gate => "ffn_gate.weight",
                LayerTensor::Up => "ffn_up.weight",
                LayerTensor::Down => "ffn_down.weight",
                LayerTensor::PostFeedForwardNorm => "post_ffw_norm.weight",
            };
            format!("blk.{number}.{tensor}")
        }
    }
}
