//! The sizes and constants of a Llama-architecture decoder.

use serde::Serialize;

use super::rope::{RopeLayout, RopeScaling};
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
    /// Base of the rotation.
    pub rope_theta: f32,
    /// Which values are rotated together.
    pub rope_layout: RopeLayout,
    /// How the rotation is stretched.
    pub rope_scaling: RopeScaling,
}

impl ArchSpec {
    /// Returns the sizes of this model's caches.
    pub fn kv_shape(&self) -> KvShape {
        KvShape { layers: self.layers, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }

    /// Returns why the kernels cannot run such a model, if they cannot.
    pub(crate) fn check(&self) -> Result<(), String> {
        let positive = [
            ("layers", self.layers),
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
        if !(self.norm_epsilon.is_finite() && self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Err("the constants of norm and rotation are not finite numbers".to_owned());
        }
        if let RopeScaling::Factors { factors } = &self.rope_scaling
            && factors.len() != self.head_dim / 2
        {
            return Err(format!("{} rotation factors for heads of {}", factors.len(), self.head_dim));
        }
        Ok(())
    }
}
