//! The description that turns the one decoder into Llama, Qwen or Gemma.

use serde::Serialize;

use super::attention::Reach;
use super::rope::{Rope, RopeLayout, RopeScaling};
use crate::kv::KvShape;

/// What a model's file says about its architecture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArchSpec {
    /// Number of layers.
    pub layers: usize,
    /// Length of a token's activation.
    pub hidden: usize,
    /// Inner length of the feed-forward part.
    pub feed_forward: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Length of a head.
    pub head_dim: usize,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// The most tokens that the model was made for.
    pub context_length: usize,
    /// Constant of the norms.
    pub norm_epsilon: f32,
    /// What is added to the norms' weights as they stand in the file: 1 where the file holds differences from 1.
    pub norm_offset: f32,
    /// Base of the rotation; in layers with a window, [`SlidingWindow::rope_theta`] instead.
    pub rope_theta: f32,
    /// Which values are rotated together.
    pub rope_layout: RopeLayout,
    /// How the rotation is stretched; in layers with a window, [`SlidingWindow::rope_scaling`] instead.
    pub rope_scaling: RopeScaling,
    /// Which products of the attention have a bias.
    pub attention_bias: AttentionBias,
    /// Whether each head of queries and keys is normed before the rotation.
    pub head_norms: bool,
    /// Whether what attention and feed-forward part return is normed before it is added.
    pub post_norms: bool,
    /// The non-linearity of the feed-forward part.
    pub activation: Activation,
    /// What the embeddings are multiplied with.
    pub embedding_scale: f32,
    /// What the products of queries and keys are multiplied with.
    pub attention_scale: f32,
    /// Softly bounds the scores of the attention: `cap * tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// Softly bounds the logits.
    pub logit_softcap: Option<f32>,
    /// The layers that see only the nearest tokens, if any do.
    pub sliding_window: Option<SlidingWindow>,
}

/// Layers that see only the nearest tokens, and their rotation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlidingWindow {
    /// How many tokens such a layer sees: the token itself and those before it.
    pub tokens: usize,
    /// For each layer, whether it has the window.
    pub layers: Vec<bool>,
    /// Base of the rotation in these layers.
    pub rope_theta: f32,
    /// How the rotation is stretched in these layers.
    pub rope_scaling: RopeScaling,
}

/// Which products of the attention have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionBias {
    /// None.
    None,
    /// Queries, keys and values.
    Inputs,
    /// Queries, keys, values and the output.
    All,
}

/// The non-linearity of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The Gaussian error unit in its approximation with `tanh`.
    GeluTanh,
}

/// The most layers that a model may have: far more than any has.
const MAX_LAYERS: usize = 4096;

impl ArchSpec {
    /// Returns why no model has so many layers, if none has. Readers ask before they make anything for each layer.
    pub(crate) fn check_layers(layers: usize) -> Result<usize, String> {
        if (1..=MAX_LAYERS).contains(&layers) {
            Ok(layers)
        } else {
            Err(format!(
                "{layers} layers make no sense, a model has from 1 to {MAX_LAYERS}; the file is damaged, fetch it again"
            ))
        }
    }

    /// Returns the sizes of this model's caches.
    pub fn kv_shape(&self) -> KvShape {
        KvShape { layers: self.layers, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }

    /// Returns the tokens that `layer` sees, its own included; `None` when it sees all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let sliding = self.sliding_window.as_ref()?;
        sliding.layers.get(layer)?.then_some(sliding.tokens)
    }

    /// What the attention of `layer` sees and how it scores.
    pub(super) fn reach(&self, layer: usize) -> Reach {
        Reach { window: self.window(layer), scale: self.attention_scale, softcap: self.attention_softcap }
    }

    /// The rotation of the layers that see all tokens, and that of those with a window.
    pub(super) fn ropes(&self) -> (Rope, Rope) {
        let global = Rope::new(self.rope_layout, self.head_dim, self.rope_theta, &self.rope_scaling);
        let local = match &self.sliding_window {
            Some(SlidingWindow { rope_theta, rope_scaling, .. }) => {
                Rope::new(self.rope_layout, self.head_dim, *rope_theta, rope_scaling)
            }
            None => global.clone(),
        };
        (global, local)
    }

    /// Returns why the kernels cannot run such a model, if they cannot.
    pub(crate) fn check(&self) -> Result<(), String> {
        Self::check_layers(self.layers)?;
        let positive = [
            ("hidden size", self.hidden),
            ("feed-forward size", self.feed_forward),
            ("heads", self.heads),
            ("key/value heads", self.kv_heads),
            ("head size", self.head_dim),
            ("vocabulary", self.vocabulary),
            ("context length", self.context_length),
        ];
        for (what, value) in positive {
            // Larger than any model; keeps sizes far from overflow when a damaged file holds nonsense.
            if value == 0 || value > 1 << 28 {
                return Err(format!("the {what} of {value} makes no sense; the file is damaged, fetch it again"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads cannot share {} key/value heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(16) {
            return Err(format!("heads of {} values are not supported, only multiples of 16", self.head_dim));
        }
        let constants = [self.norm_epsilon, self.norm_offset, self.embedding_scale, self.attention_scale];
        if !constants.iter().all(|constant| constant.is_finite()) {
            return Err("the constants of norms, embedding and attention are not finite numbers".to_owned());
        }
        if self.norm_epsilon < 0.0 {
            return Err(format!(
                "a constant of the norms of {} makes no sense, it must not be negative",
                self.norm_epsilon
            ));
        }
        if [self.attention_softcap, self.logit_softcap].into_iter().flatten().any(|cap| !is_positive(cap)) {
            return Err("a soft cap is not a positive number".to_owned());
        }
        self.check_rope(self.rope_theta, &self.rope_scaling)?;
        self.check_window()
    }

    fn check_window(&self) -> Result<(), String> {
        let Some(sliding) = &self.sliding_window else { return Ok(()) };
        if sliding.tokens == 0 || sliding.layers.len() != self.layers {
            let (tokens, layers) = (sliding.tokens, sliding.layers.len());
            return Err(format!("a window of {tokens} tokens for {layers} of {} layers makes no sense", self.layers));
        }
        self.check_rope(sliding.rope_theta, &sliding.rope_scaling)
    }

    fn check_rope(&self, theta: f32, scaling: &RopeScaling) -> Result<(), String> {
        if !is_positive(theta) {
            return Err(format!("a base of the rotation of {theta} makes no sense"));
        }
        match scaling {
            RopeScaling::Factors { factors } if factors.len() != self.head_dim / 2 => {
                Err(format!("{} rotation factors for heads of {}", factors.len(), self.head_dim))
            }
            RopeScaling::Factors { factors } => match factors.iter().find(|factor| !is_positive(**factor)) {
                Some(factor) => {
                    Err(format!("a rotation factor of {factor} makes no sense, it must be a positive number"))
                }
                None => Ok(()),
            },
            RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. } if !is_positive(*factor) => {
                Err(format!("a rotation scaling by {factor} makes no sense"))
            }
            RopeScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, original_context, .. } => {
                // Between the two, rotations are mixed by their place between the two.
                if is_positive(*low) && is_positive(*high) && low < high && *original_context > 0 {
                    Ok(())
                } else {
                    Err(format!(
                        "a rotation scaling with low_freq_factor {low}, high_freq_factor {high} and an original context \
                         of {original_context} tokens makes no sense: all must be positive, the second above the first"
                    ))
                }
            }
            RopeScaling::None | RopeScaling::Linear { .. } => Ok(()),
        }
    }
}

fn is_positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}
