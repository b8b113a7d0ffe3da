//! What a `config.json` says about the architecture.

use std::path::Path;

use mos_core::ModelError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::safetensors::read_json;
use super::{unsupported, windows_but_every};
use crate::decoder::{Activation, ArchSpec, AttentionBias, RopeLayout, RopeScaling, SlidingWindow};
use crate::error::bad_model;

/// What a `config.json` says.
pub(super) struct Description {
    pub(super) spec: ArchSpec,
    /// Whether the embedding serves as output; `None` when the file does not say.
    pub(super) tied: Option<bool>,
    /// The tokens that end an answer.
    pub(super) ends: Vec<u32>,
}

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
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    rope_scaling: Option<RopeConfig>,
    /// The newer spelling, which holds the base of the rotation too; one for all layers, or one for each kind.
    rope_parameters: Option<RopeParameters>,
    eos_token_id: Option<Ids>,
    hidden_act: Option<String>,
    /// What Gemma calls the activation.
    hidden_activation: Option<String>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    /// Qwen: the layers from this one on have the window.
    max_window_layers: Option<usize>,
    /// Gemma: the last of so many layers sees all tokens.
    sliding_window_pattern: Option<usize>,
    /// The newer spelling of both.
    layer_types: Option<Vec<String>>,
    rope_local_base_freq: Option<f32>,
    query_pre_attn_scalar: Option<f32>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    use_bidirectional_attention: Option<bool>,
}

#[derive(Clone, Deserialize)]
struct RopeConfig {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RopeParameters {
    ByKind { full_attention: RopeConfig, sliding_attention: Option<RopeConfig> },
    One(RopeConfig),
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
    pub(super) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// The kinds of layers in [`Config::layer_types`].
const WINDOWED: &str = "sliding_attention";
const FULL: &str = "full_attention";

/// Reads a `config.json`.
///
/// # Errors
/// [`ModelError::BadModel`] when the file is missing, damaged, or describes what the decoder does not compute.
pub(super) fn describe(path: &Path) -> Result<Description, ModelError> {
    let config: Map<String, Value> = read_json(path)?;
    let config: Config = serde_json::from_value(Value::Object(text_part(config)))
        .map_err(|error| bad_model(path, format!("is not understood: {error}")))?;
    let mut config = Reader { path, config };
    let spec = config.spec()?;
    let ends = config.config.eos_token_id.take().map(Ids::into_vec).unwrap_or_default();
    Ok(Description { spec, tied: config.config.tie_word_embeddings, ends })
}

/// The settings of the part that reads and writes text, with what Gemma's files leave out filled in.
fn text_part(mut config: Map<String, Value>) -> Map<String, Value> {
    if config.get("model_type") == Some(&json!("gemma3"))
        && let Some(Value::Object(mut text)) = config.remove("text_config")
    {
        for key in ["eos_token_id", "tie_word_embeddings"] {
            if let (false, Some(value)) = (text.contains_key(key), config.remove(key)) {
                text.insert(key.to_owned(), value);
            }
        }
        text.insert("model_type".to_owned(), json!("gemma3_text"));
        config = text;
    }
    if config.get("model_type") == Some(&json!("gemma3_text")) {
        // The defaults of the format's authors, on which the larger models' files rely.
        let defaults = json!({
            "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        });
        for (key, value) in defaults.as_object().into_iter().flatten() {
            config.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    config
}

struct Reader<'a> {
    path: &'a Path,
    config: Config,
}

impl Reader<'_> {
    fn refuse<T>(&self, what: impl std::fmt::Display) -> Result<T, ModelError> {
        Err(bad_model(self.path, what))
    }

    fn spec(&self) -> Result<ArchSpec, ModelError> {
        let config = &self.config;
        // Before anything is made for each layer.
        ArchSpec::check_layers(config.num_hidden_layers).or_else(|detail| self.refuse(detail))?;
        if config.mlp_bias {
            return self.refuse("models with biases in the feed-forward part are not supported");
        }
        if config.use_bidirectional_attention == Some(true) {
            return self.refuse("models whose tokens see those after them do not write text");
        }
        match config.model_type.as_str() {
            "llama" => self.plain(),
            // The same arithmetic when nothing slides.
            "mistral" if config.sliding_window.is_none() => self.plain(),
            "mistral" => self.refuse("Mistral models with a sliding window are not supported"),
            "qwen2" => Ok(ArchSpec {
                attention_bias: AttentionBias::Inputs,
                sliding_window: self.qwen_window()?,
                ..self.plain()?
            }),
            "qwen3" => Ok(ArchSpec { head_norms: true, sliding_window: self.qwen_window()?, ..self.plain()? }),
            "gemma3_text" => self.gemma3(),
            other => Err(unsupported(self.path, other)),
        }
    }

    /// What all architectures have, with the parts that only some have left out.
    fn plain(&self) -> Result<ArchSpec, ModelError> {
        let config = &self.config;
        let head_dim = match config.head_dim {
            Some(head_dim) => head_dim,
            None => config.hidden_size.checked_div(config.num_attention_heads).unwrap_or(0),
        };
        let (rope_theta, rope_scaling) = self.rope()?;
        Ok(ArchSpec {
            layers: config.num_hidden_layers,
            hidden: config.hidden_size,
            feed_forward: config.intermediate_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
            head_dim,
            vocabulary: config.vocab_size,
            context_length: config.max_position_embeddings,
            norm_epsilon: config.rms_norm_eps,
            norm_offset: 0.0,
            rope_theta: rope_theta.unwrap_or(10_000.0),
            rope_layout: RopeLayout::Halves,
            rope_scaling,
            attention_bias: if config.attention_bias { AttentionBias::All } else { AttentionBias::None },
            head_norms: false,
            post_norms: false,
            activation: self.activation(Activation::Silu)?,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_softcap: None,
            logit_softcap: None,
            sliding_window: None,
        })
    }

    fn gemma3(&self) -> Result<ArchSpec, ModelError> {
        let (config, plain) = (&self.config, self.plain()?);
        let (theta, _) = self.rope()?;
        let local = match &config.rope_parameters {
            Some(RopeParameters::ByKind { sliding_attention, .. }) => sliding_attention.clone(),
            _ => None,
        };
        let local_theta = local.as_ref().and_then(|local| local.rope_theta).or(config.rope_local_base_freq);
        let layers = match self.layer_types()? {
            Some(layers) => layers,
            None => match config.sliding_window_pattern.unwrap_or(6) {
                0 => return self.refuse("`sliding_window_pattern` is 0"),
                pattern => windows_but_every(pattern, plain.layers),
            },
        };
        let sliding_window = match config.sliding_window {
            None => return self.refuse("`sliding_window` is missing"),
            Some(tokens) => SlidingWindow {
                tokens,
                layers,
                rope_theta: local_theta.unwrap_or(10_000.0),
                rope_scaling: self.scaling(local.as_ref())?,
            },
        };
        Ok(ArchSpec {
            norm_offset: 1.0,
            rope_theta: theta.unwrap_or(1_000_000.0),
            head_norms: true,
            post_norms: true,
            activation: self.activation(Activation::GeluTanh)?,
            embedding_scale: (plain.hidden as f32).sqrt(),
            attention_scale: 1.0 / config.query_pre_attn_scalar.unwrap_or(256.0).sqrt(),
            attention_softcap: config.attn_logit_softcapping,
            logit_softcap: config.final_logit_softcapping,
            sliding_window: Some(sliding_window),
            ..plain
        })
    }

    /// Qwen's window, which most of its files hold but switch off.
    fn qwen_window(&self) -> Result<Option<SlidingWindow>, ModelError> {
        let config = &self.config;
        let (Some(tokens), Some(true)) = (config.sliding_window, config.use_sliding_window) else { return Ok(None) };
        let first = config.max_window_layers.unwrap_or(28);
        let layers = match self.layer_types()? {
            Some(layers) => layers,
            None => (0..config.num_hidden_layers).map(|layer| layer >= first).collect(),
        };
        let (theta, rope_scaling) = self.rope()?;
        Ok(Some(SlidingWindow { tokens, layers, rope_theta: theta.unwrap_or(10_000.0), rope_scaling }))
    }

    fn layer_types(&self) -> Result<Option<Vec<bool>>, ModelError> {
        let Some(types) = &self.config.layer_types else { return Ok(None) };
        if let Some(other) = types.iter().find(|kind| ![WINDOWED, FULL].contains(&kind.as_str())) {
            return self.refuse(format!("layers of the kind `{other}` are not supported"));
        }
        Ok(Some(types.iter().map(|kind| kind == WINDOWED).collect()))
    }

    fn activation(&self, default: Activation) -> Result<Activation, ModelError> {
        let config = &self.config;
        match config.hidden_activation.as_deref().or(config.hidden_act.as_deref()) {
            None => Ok(default),
            Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some(other) => self.refuse(format!("the activation `{other}` is not supported")),
        }
    }

    /// Base and scaling of the rotation, in layers that see all tokens.
    fn rope(&self) -> Result<(Option<f32>, RopeScaling), ModelError> {
        let config = &self.config;
        let parameters = match &config.rope_parameters {
            Some(RopeParameters::ByKind { full_attention, .. }) => Some(full_attention),
            Some(RopeParameters::One(parameters)) => Some(parameters),
            None => None,
        };
        let theta = parameters.and_then(|parameters| parameters.rope_theta).or(config.rope_theta);
        Ok((theta, self.scaling(config.rope_scaling.as_ref().or(parameters))?))
    }

    fn scaling(&self, config: Option<&RopeConfig>) -> Result<RopeScaling, ModelError> {
        let Some(config) = config else { return Ok(RopeScaling::None) };
        let incomplete = || bad_model(self.path, "the rotation scaling lacks a factor or a length");
        match config.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: config.factor.ok_or_else(incomplete)? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: config.factor.ok_or_else(incomplete)?,
                low_freq_factor: config.low_freq_factor.ok_or_else(incomplete)?,
                high_freq_factor: config.high_freq_factor.ok_or_else(incomplete)?,
                original_context: config.original_max_position_embeddings.ok_or_else(incomplete)?,
            }),
            Some(other) => self.refuse(format!("the rotation scaling `{other}` is not supported")),
        }
    }
}
