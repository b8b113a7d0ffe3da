//! Models of a known shape with random weights: for measuring a shape whose files are not here.

use std::fmt;
use std::str::FromStr;

use mos_core::ModelError;

use super::{
    Activation, ArchSpec, AttentionBias, Decoder, Fingerprint, Layer, Linear, RopeLayout, RopeScaling, Weights,
};
use crate::compute::{Form, PanelMatrix};
use crate::cpu::CpuPath;
use crate::error::internal;

/// Weights of a block of the file type Q8_0, and its bytes.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 34;
/// Standard deviation of the numbers from -127 to 127, all equally likely.
const DEVIATION: f32 = 73.6;

/// A shape that can be filled with random weights (Q8_0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomWeights {
    /// Qwen3 with 8 billion weights; takes about 9 GB.
    Qwen3_8b,
    /// Qwen3 with 0.6 billion weights.
    Qwen3_600m,
    /// Llama 3.2 with 1.2 billion weights.
    Llama1b,
}

impl RandomWeights {
    /// Every shape.
    pub const ALL: [Self; 3] = [Self::Qwen3_8b, Self::Qwen3_600m, Self::Llama1b];

    /// Returns the name: `qwen3-8b`, `qwen3-0.6b` or `llama-1b`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen3_8b => "qwen3-8b",
            Self::Qwen3_600m => "qwen3-0.6b",
            Self::Llama1b => "llama-1b",
        }
    }

    /// The shape, and whether the embedding serves as output.
    fn spec(self) -> (ArchSpec, bool) {
        let qwen = ArchSpec {
            layers: 36,
            hidden: 4096,
            feed_forward: 12288,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            vocabulary: 151_936,
            context_length: 40_960,
            norm_epsilon: 1e-6,
            norm_offset: 0.0,
            rope_theta: 1_000_000.0,
            rope_layout: RopeLayout::Halves,
            rope_scaling: RopeScaling::None,
            attention_bias: AttentionBias::None,
            head_norms: true,
            post_norms: false,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            attention_scale: 1.0 / 128_f32.sqrt(),
            attention_softcap: None,
            logit_softcap: None,
            sliding_window: None,
        };
        match self {
            Self::Qwen3_8b => (qwen, false),
            Self::Qwen3_600m => (ArchSpec { layers: 28, hidden: 1024, feed_forward: 3072, heads: 16, ..qwen }, true),
            Self::Llama1b => {
                let rope_scaling = RopeScaling::Llama3 {
                    factor: 32.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_context: 8192,
                };
                let spec = ArchSpec {
                    layers: 16,
                    hidden: 2048,
                    feed_forward: 8192,
                    head_dim: 64,
                    vocabulary: 128_256,
                    context_length: 131_072,
                    norm_epsilon: 1e-5,
                    rope_theta: 500_000.0,
                    rope_scaling,
                    head_norms: false,
                    attention_scale: 1.0 / 64_f32.sqrt(),
                    ..qwen
                };
                (spec, true)
            }
        }
    }
}

impl fmt::Display for RandomWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RandomWeights {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        Self::ALL.into_iter().find(|shape| shape.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            ModelError::Invalid(format!("there is no shape `{text}` for random weights; use one of {known}"))
        })
    }
}

impl Decoder {
    /// Returns a model of a shape with random weights, the same ones every time. Its answers mean nothing; its times
    /// are those of the shape. Without a number of threads, all cores compute.
    ///
    /// # Errors
    /// [`ModelError::Internal`] when the compute threads cannot be started.
    pub fn with_random_weights(shape: RandomWeights, threads: Option<usize>) -> Result<Self, ModelError> {
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let (spec, is_tied) = shape.spec();
        let mut numbers = Numbers(0x6d6f_7321);
        let embedding = numbers.matrix(spec.vocabulary, spec.hidden)?;
        let layers = (0..spec.layers).map(|_| numbers.layer(&spec)).collect::<Result<_, _>>()?;
        let output = if is_tied { None } else { Some(numbers.matrix(spec.vocabulary, spec.hidden)?) };
        let fingerprint = Fingerprint(*blake3::hash(format!("random weights {shape} 1").as_bytes()).as_bytes());
        let output_norm = vec![1.0; spec.hidden];
        Self::new(Weights { fingerprint, embedding, layers, output_norm, output, spec }, threads, CpuPath::best())
    }
}

/// A small generator of numbers (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A matrix whose products neither grow nor shrink what they are given.
    fn matrix(&mut self, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        let scale = half::f16::from_f32(1.0 / ((cols as f32).sqrt() * DEVIATION)).to_le_bytes();
        let mut bytes = vec![0; rows * cols / BLOCK * BLOCK_BYTES];
        for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
            block[..2].copy_from_slice(&scale);
            for eight in block[2..].chunks_exact_mut(8) {
                eight.copy_from_slice(&self.next().to_le_bytes());
            }
        }
        let matrix = PanelMatrix::pack(Form::Byte128, rows, cols, &bytes);
        Ok(Linear::Panels(matrix.map_err(|error| internal("packing random weights", error))?))
    }

    fn layer(&mut self, spec: &ArchSpec) -> Result<Layer, ModelError> {
        let (queries, keys) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let head_norm = if spec.head_norms { vec![1.0; spec.head_dim] } else { Vec::new() };
        Ok(Layer {
            attention_norm: vec![1.0; spec.hidden],
            query: self.matrix(queries, spec.hidden)?,
            key: self.matrix(keys, spec.hidden)?,
            value: self.matrix(keys, spec.hidden)?,
            query_bias: Vec::new(),
            key_bias: Vec::new(),
            value_bias: Vec::new(),
            query_norm: head_norm.clone(),
            key_norm: head_norm,
            attention_output: self.matrix(spec.hidden, queries)?,
            attention_output_bias: Vec::new(),
            post_attention_norm: Vec::new(),
            feed_forward_norm: vec![1.0; spec.hidden],
            gate: self.matrix(spec.feed_forward, spec.hidden)?,
            up: self.matrix(spec.feed_forward, spec.hidden)?,
            down: self.matrix(spec.hidden, spec.feed_forward)?,
            post_feed_forward_norm: Vec::new(),
        })
    }
}
