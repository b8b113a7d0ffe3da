//! What the settings of a GGUF file say about the architecture.

use candle_core::quantized::GgmlDType;
use mos_core::ModelError;

use super::gguf::{GgufFile, ROPE_FACTORS};
use super::{unsupported, windows_but_every};
use crate::decoder::{Activation, ArchSpec, AttentionBias, RopeLayout, RopeScaling, SlidingWindow};
use crate::error::bad_model;

/// Gemma 3: one layer in six sees all tokens, when the file does not say.
const GEMMA_PATTERN: usize = 6;
/// Gemma 3: base of the rotation in layers with a window, when the file does not say.
const GEMMA_LOCAL_THETA: f32 = 10_000.0;
/// The one Gemma 3 whose attention is not scaled by the length of its heads (27B) has this number of layers.
const GEMMA_27B_LAYERS: usize = 62;

/// Returns the description of the architecture.
///
/// # Errors
/// [`ModelError::BadModel`] when a setting is missing or the architecture is not one that the decoder runs.
pub(super) fn spec(file: &GgufFile) -> Result<ArchSpec, ModelError> {
    let architecture = file.need("general.architecture", file.text("general.architecture"))?;
    let settings = Settings { file, architecture };
    let plain = settings.plain()?;
    match architecture {
        // The file has queries and keys in the order in which neighbours are rotated together.
        "llama" => Ok(ArchSpec { rope_layout: RopeLayout::Interleaved, ..plain }),
        "qwen2" => Ok(plain),
        "qwen3" => Ok(ArchSpec { head_norms: true, ..plain }),
        "gemma3" => settings.gemma3(plain),
        other => Err(unsupported(file.path(), other)),
    }
}

/// The settings of one architecture: its name comes before each key.
struct Settings<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl Settings<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn integer(&self, key: &str) -> Option<usize> {
        self.file.integer(&self.key(key))
    }

    fn float(&self, key: &str) -> Option<f32> {
        self.file.float(&self.key(key))
    }

    fn required(&self, key: &str) -> Result<usize, ModelError> {
        self.file.need(&self.key(key), self.integer(key))
    }

    fn refuse<T>(&self, what: &str) -> Result<T, ModelError> {
        Err(bad_model(self.file.path(), what))
    }

    /// What all architectures have, with the parts that only some have left out.
    fn plain(&self) -> Result<ArchSpec, ModelError> {
        if !["llama", "qwen2", "qwen3", "gemma3"].contains(&self.architecture) {
            return Err(unsupported(self.file.path(), self.architecture));
        }
        if self.integer("expert_count").unwrap_or(0) > 0 {
            return self.refuse("mixtures of experts are not supported; choose a dense model");
        }
        // Before anything is made for each layer.
        let layers = ArchSpec::check_layers(self.required("block_count")?).or_else(|detail| self.refuse(&detail))?;
        let hidden = self.required("embedding_length")?;
        let heads = self.required("attention.head_count")?;
        let head_dim = match self.integer("attention.key_length") {
            Some(length) => length,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        if self.integer("attention.value_length").is_some_and(|length| length != head_dim) {
            return self.refuse("models whose values are longer or shorter than their keys are not supported");
        }
        if self.integer("rope.dimension_count").is_some_and(|rotated| rotated != head_dim) {
            return self.refuse("models that rotate a part of each head are not supported");
        }
        let embedding = self.file.need("token_embd.weight", self.file.info("token_embd.weight"))?;
        let epsilon = "attention.layer_norm_rms_epsilon";
        Ok(ArchSpec {
            layers,
            hidden,
            feed_forward: self.required("feed_forward_length")?,
            heads,
            kv_heads: self.integer("attention.head_count_kv").unwrap_or(heads),
            head_dim,
            vocabulary: embedding.shape.dims().first().copied().unwrap_or(0),
            context_length: self.required("context_length")?,
            norm_epsilon: self.file.need(&self.key(epsilon), self.float(epsilon))?,
            // Whoever wrote the file has added Gemma's 1 to the weights already.
            norm_offset: 0.0,
            rope_theta: self.float("rope.freq_base").unwrap_or(10_000.0),
            rope_layout: RopeLayout::Halves,
            rope_scaling: self.rope_scaling()?,
            attention_bias: self.attention_bias(),
            head_norms: false,
            post_norms: false,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_softcap: None,
            logit_softcap: None,
            sliding_window: None,
        })
    }

    fn gemma3(&self, plain: ArchSpec) -> Result<ArchSpec, ModelError> {
        let attention_scale = if plain.layers == GEMMA_27B_LAYERS {
            1.0 / (plain.hidden as f32 / plain.heads as f32).sqrt()
        } else {
            plain.attention_scale
        };
        let local_theta = ["rope.freq_base_swa", "rope.local_freq_base"].iter().find_map(|key| self.float(key));
        let sliding_window = SlidingWindow {
            tokens: self.required("attention.sliding_window")?,
            layers: self.windows(plain.layers)?,
            rope_theta: local_theta.unwrap_or(GEMMA_LOCAL_THETA),
            // A stretched rotation is one of the layers that see all tokens.
            rope_scaling: RopeScaling::None,
        };
        Ok(ArchSpec {
            rope_theta: self.float("rope.freq_base").unwrap_or(1_000_000.0),
            head_norms: true,
            post_norms: true,
            activation: Activation::GeluTanh,
            embedding_scale: (plain.hidden as f32).sqrt(),
            attention_scale,
            attention_softcap: self.float("attn_logit_softcapping").filter(|cap| *cap != 0.0),
            logit_softcap: self.float("final_logit_softcapping").filter(|cap| *cap != 0.0),
            sliding_window: Some(sliding_window),
            ..plain
        })
    }

    /// Which layers have the window: a list, or the number of layers of which the last sees all tokens.
    fn windows(&self, layers: usize) -> Result<Vec<bool>, ModelError> {
        let key = "attention.sliding_window_pattern";
        if let Some(list) = self.file.booleans(&self.key(key)) {
            return Ok(list);
        }
        match self.integer(key).unwrap_or(GEMMA_PATTERN) {
            0 => self.refuse("the pattern of layers with a window is 0; the file is damaged, fetch it again"),
            pattern => Ok(windows_but_every(pattern, layers)),
        }
    }

    /// GGUF files say by their tensors which biases there are.
    fn attention_bias(&self) -> AttentionBias {
        if self.file.info("blk.0.attn_output.bias").is_some() {
            AttentionBias::All
        } else if self.file.info("blk.0.attn_q.bias").is_some() {
            AttentionBias::Inputs
        } else {
            AttentionBias::None
        }
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        if let Some(info) = self.file.info(ROPE_FACTORS) {
            if info.ggml_dtype != GgmlDType::F32 {
                return self.refuse(&format!(
                    "the factors of the rotation, `{ROPE_FACTORS}`, have the type {:?}; only F32 is supported",
                    info.ggml_dtype
                ));
            }
            let (_, bytes) = self.file.bytes(info)?;
            let factors = bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            return Ok(RopeScaling::Factors { factors: factors.collect() });
        }
        let factor = self.float("rope.scaling.factor").or_else(|| self.float("rope.scale_linear"));
        match (self.file.text(&self.key("rope.scaling.type")).unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None) => Ok(RopeScaling::None),
            ("linear", Some(factor)) if factor > 0.0 => Ok(RopeScaling::Linear { factor }),
            (other, _) => self.refuse(&format!("the rotation scaling `{other}` is not supported")),
        }
    }
}
