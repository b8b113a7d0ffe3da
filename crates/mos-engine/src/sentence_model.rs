//! Encoders of sentences by architecture: from tokens to one vector per token.

use std::path::Path;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config as BertConfig};
use candle_transformers::models::xlm_roberta::{Config as XlmRobertaConfig, XLMRobertaModel};
use mos_core::ModelError;

use crate::bert;
use crate::error::bad_model;
use crate::weights::safetensors::read_json;

/// A loaded encoder.
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

    /// Loads the weights in a directory.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when they are missing, damaged, or do not fit.
    pub(crate) fn load(&self, directory: &Path) -> Result<SentenceModel, ModelError> {
        let variables = bert::variables(directory)?;
        self.load_from(variables).map_err(|error| bert::weights_do_not_fit(directory, &error))
    }

    /// Loads the weights among these, named from the encoder's parts on.
    pub(crate) fn load_from(&self, variables: VarBuilder<'static>) -> candle_core::Result<SentenceModel> {
        match self {
            Self::Bert(config) => BertModel::load(variables, config).map(|model| SentenceModel::Bert(Box::new(model))),
            Self::XlmRoberta(config) => XLMRobertaModel::new(config, without_head(variables))
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

/// Files that were written together with a head name the encoder before its parts.
fn without_head(variables: VarBuilder<'static>) -> VarBuilder<'static> {
    let is_below = |name: &str| variables.contains_tensor(&format!("{name}.embeddings.word_embeddings.weight"));
    if is_below("roberta") { variables.pp("roberta") } else { variables }
}

impl SentenceModel {
    /// Returns `f32[rows, longest, dimension]`; what stands where a row was filled up has no meaning. `kinds` tells the two
    /// parts of a pair apart, for architectures that have it told.
    pub(crate) fn hidden(&self, rows: &[&[u32]], kinds: Option<&[&[u32]]>) -> candle_core::Result<Tensor> {
        match self {
            Self::Bert(model) => {
                let ids = bert::padded(rows, 0)?;
                // Texts of one length need no mask.
                let mask = if bert::is_even(rows) { None } else { Some(bert::mask(rows)?) };
                let kinds = match kinds {
                    Some(kinds) => bert::padded(kinds, 0)?,
                    None => ids.zeros_like()?,
                };
                model.forward(&ids, &kinds, mask.as_ref())
            }
            Self::XlmRoberta { model, fill } => {
                let ids = bert::padded(rows, *fill)?;
                model.forward(&ids, &bert::mask(rows)?, &ids.zeros_like()?, None, None, None)
            }
        }
    }
}
