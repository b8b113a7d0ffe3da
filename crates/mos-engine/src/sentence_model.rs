//! Encoders of sentences by architecture: their configurations, and the models that read pairs.

use std::path::Path;

use candle_core::Tensor;
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::bert::{BertModel, Config as BertConfig, HiddenAct};
use candle_transformers::models::xlm_roberta::{Config as XlmRobertaConfig, XLMRobertaModel};
use mos_core::ModelError;

use crate::bert;
use crate::compute::Curve;
use crate::decoder::Compute;
use crate::error::bad_model;
use crate::text_encoder::{EncoderSpec, TextEncoder};
use crate::weights::safetensors::read_json;

/// A loaded encoder of pairs of texts, which computes with candle.
pub(crate) enum SentenceModel {
    Bert(Box<BertModel>),
    /// Also RoBERTa, which differs in its tokenizer and sizes only.
    XlmRoberta {
        model: Box<XLMRobertaModel>,
        /// Fills rows up. Positions are counted from behind it, and tokens of this kind are not counted.
        fill: u32,
    },
}

/// What an encoder is, before its weights are read.
pub(crate) enum SentenceConfig {
    Bert(BertConfig),
    XlmRoberta(XlmRobertaConfig),
}

impl SentenceConfig {
    /// Reads the configuration of the encoder in a directory.
    ///
    /// # Errors
    /// [`ModelError::NotFound`] when nothing is there, [`ModelError::BadModel`] for other architectures and damage.
    pub(crate) fn read(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join("config.json");
        match bert::architecture(directory)?.as_str() {
            "bert" => Ok(Self::Bert(bert::config(directory)?)),
            "xlm-roberta" | "roberta" => {
                let config: XlmRobertaConfig = read_json(&path)?;
                check(&path, &config)?;
                Ok(Self::XlmRoberta(config))
            }
            other => Err(bad_model(
                &path,
                format!("the architecture `{other}` is not supported, only `bert` and `xlm-roberta`"),
            )),
        }
    }

    /// Returns the most tokens of a text.
    pub(crate) fn positions(&self) -> usize {
        match self {
            Self::Bert(config) => config.max_position_embeddings,
            // The first token stands at the position behind that of the filling.
            Self::XlmRoberta(config) => config.max_position_embeddings.saturating_sub(config.pad_token_id as usize + 1),
        }
    }

    /// Returns the length of the vectors.
    pub(crate) fn dimension(&self) -> usize {
        match self {
            Self::Bert(config) => config.hidden_size,
            Self::XlmRoberta(config) => config.hidden_size,
        }
    }

    /// Loads the weights in a directory, to be computed by kernels of our own.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when they are missing, damaged, or do not fit, or the architecture has something that
    /// is not supported.
    pub(crate) fn load(&self, directory: &Path, compute: Compute) -> Result<TextEncoder, ModelError> {
        let spec = self.spec(&directory.join("config.json"))?;
        let variables = bert::variables(directory)?;
        let variables = match self {
            Self::Bert(_) => without_head(variables, "bert"),
            Self::XlmRoberta(_) => without_head(variables, "roberta"),
        };
        TextEncoder::load(spec, compute, &variables).map_err(|error| bert::weights_do_not_fit(directory, &error))
    }

    /// Returns the sizes and constants of the layers; `path` is that of the configuration.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] for a non-linearity that is not supported.
    pub(crate) fn spec(&self, path: &Path) -> Result<EncoderSpec, ModelError> {
        Ok(match self {
            Self::Bert(config) => EncoderSpec {
                vocabulary: config.vocab_size,
                hidden: config.hidden_size,
                layers: config.num_hidden_layers,
                heads: config.num_attention_heads,
                inner: config.intermediate_size,
                positions: config.max_position_embeddings,
                kinds: config.type_vocab_size,
                norm_epsilon: config.layer_norm_eps as f32,
                curve: match config.hidden_act {
                    HiddenAct::Gelu => Curve::Gelu,
                    HiddenAct::GeluApproximate => Curve::GeluTanh,
                    HiddenAct::Relu => Curve::Relu,
                },
                counted_behind: None,
            },
            Self::XlmRoberta(config) => EncoderSpec {
                vocabulary: config.vocab_size,
                hidden: config.hidden_size,
                layers: config.num_hidden_layers,
                heads: config.num_attention_heads,
                inner: config.intermediate_size,
                positions: config.max_position_embeddings,
                kinds: config.type_vocab_size,
                norm_epsilon: config.layer_norm_eps as f32,
                curve: curve(path, config.hidden_act)?,
                counted_behind: Some(config.pad_token_id),
            },
        })
    }

    /// Loads the weights among these, named from the encoder's parts on.
    pub(crate) fn load_from(&self, variables: VarBuilder<'static>) -> candle_core::Result<SentenceModel> {
        match self {
            Self::Bert(config) => BertModel::load(variables, config).map(|model| SentenceModel::Bert(Box::new(model))),
            Self::XlmRoberta(config) => XLMRobertaModel::new(config, without_head(variables, "roberta"))
                .map(|model| SentenceModel::XlmRoberta { model: Box::new(model), fill: config.pad_token_id }),
        }
    }
}

fn check(path: &Path, config: &XlmRobertaConfig) -> Result<(), ModelError> {
    let kind = &config.position_embedding_type;
    if kind != "absolute" {
        return Err(bad_model(path, format!("positions of the kind `{kind}` are not supported, only `absolute`")));
    }
    if config.max_position_embeddings <= config.pad_token_id as usize + 3 {
        return Err(bad_model(path, "leaves no positions for texts (max_position_embeddings, pad_token_id)"));
    }
    Ok(())
}

fn curve(path: &Path, activation: Activation) -> Result<Curve, ModelError> {
    match activation {
        Activation::Gelu => Ok(Curve::Gelu),
        Activation::NewGelu | Activation::GeluPytorchTanh => Ok(Curve::GeluTanh),
        Activation::Relu => Ok(Curve::Relu),
        Activation::Silu | Activation::Swish => Ok(Curve::Silu),
        other => {
            let detail = format!("hidden_act {other:?} is not supported, only gelu, gelu_new, relu and silu");
            Err(bad_model(path, detail))
        }
    }
}

/// Files that were written together with a head name the encoder before its parts.
fn without_head(variables: VarBuilder<'static>, name: &str) -> VarBuilder<'static> {
    let is_below = variables.contains_tensor(&format!("{name}.embeddings.word_embeddings.weight"));
    if is_below { variables.pp(name) } else { variables }
}

impl SentenceModel {
    /// Returns `f32[rows, longest, dimension]`; what stands where a row was filled up has no meaning. `kinds` tells the two
    /// parts of a pair apart, for architectures that have it told.
    pub(crate) fn hidden(&self, rows: &[&[u32]], kinds: &[&[u32]]) -> candle_core::Result<Tensor> {
        match self {
            Self::Bert(model) => {
                let ids = bert::padded(rows, 0)?;
                // Texts of one length need no mask.
                let mask = if bert::is_even(rows) { None } else { Some(bert::mask(rows)?) };
                model.forward(&ids, &bert::padded(kinds, 0)?, mask.as_ref())
            }
            Self::XlmRoberta { model, fill } => {
                let ids = bert::padded(rows, *fill)?;
                model.forward(&ids, &bert::mask(rows)?, &ids.zeros_like()?, None, None, None)
            }
        }
    }
}
