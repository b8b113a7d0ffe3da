//! The layers of BERT and XLM-RoBERTa on the processor, with kernels of our own.
//!
//! Texts lie one after the other, without filling; a row's numbers depend on the tokens of its text and the weights
//! alone, bit by bit, not on the texts beside it, threads, or the processor's instructions.
//!
//! Buffers are `[tokens, stride]`, where the stride is a layer's outputs rounded up to whole panels; what lies behind the
//! outputs stays zero.
//!
//! Not here: tokens, batches, and how the vectors of tokens become one.

mod attention;
mod load;
#[cfg(test)]
mod tests;

use std::ops::Range;

use candle_core::Tensor;
use mos_core::ModelError;

use crate::compute::{Curve, DenseLayer, Finish};
use crate::decoder::Compute;
use crate::error::internal;
use attention::HeadShape;

/// The sizes and constants of an encoder.
#[derive(Clone, Debug)]
pub(crate) struct EncoderSpec {
    /// Number of tokens that there are.
    pub(crate) vocabulary: usize,
    /// Length of a token's vector.
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Length of a token's vector inside of the feed-forward part.
    pub(crate) inner: usize,
    /// Number of vectors for positions.
    pub(crate) positions: usize,
    /// Number of vectors for the parts of a pair.
    pub(crate) kinds: usize,
    pub(crate) norm_epsilon: f32,
    pub(crate) curve: Curve,
    /// The token from behind which positions are counted, and which is not counted itself; without it all tokens are
    /// counted from 0 on.
    pub(crate) counted_behind: Option<u32>,
}

/// A loaded encoder.
pub(crate) struct TextEncoder {
    spec: EncoderSpec,
    compute: Compute,
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

struct Embeddings {
    /// `[vocabulary, hidden]`.
    words: Tensor,
    /// `[positions, hidden]`.
    positions: Vec<f32>,
    /// What is added for the only part that a text has.
    kind: Vec<f32>,
    norm: Norm,
}

struct Layer {
    /// Queries, keys and values at once.
    projection: DenseLayer,
    attention_output: DenseLayer,
    attention_norm: Norm,
    up: DenseLayer,
    down: DenseLayer,
    feed_forward_norm: Norm,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// The vectors of tokens, those of the texts one after the other.
pub(crate) struct Hidden {
    values: Vec<f32>,
    stride: usize,
    width: usize,
}

impl Hidden {
    /// Returns the vector of a token.
    pub(crate) fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.stride..][..self.width]
    }
}

/// What a layer writes to.
struct Buffers {
    hidden: Vec<f32>,
    projected: Vec<f32>,
    mixed: Vec<f32>,
    inner: Vec<f32>,
}

impl TextEncoder {
    /// Returns the vectors of all tokens of some texts.
    ///
    /// # Errors
    /// [`ModelError::Internal`] for tokens and positions that the model has no vectors for.
    pub(crate) fn hidden(&self, texts: &[&[u32]]) -> Result<Hidden, ModelError> {
        let places = self.places(texts)?;
        let (spec, stride) = (&self.spec, self.shape().out_stride);
        let mut hidden = vec![0.0; places.len() * stride];
        self.embed(&places, &mut hidden)?;
        if let Some(first) = self.layers.first() {
            let zeros = |width: usize| vec![0.0; places.len() * width];
            let mut buffers = Buffers {
                hidden,
                projected: zeros(first.projection.width()),
                mixed: zeros(stride),
                inner: zeros(first.up.width()),
            };
            let ranges = ranges(texts);
            for layer in &self.layers {
                self.attend(layer, &ranges, &mut buffers);
                self.feed_forward(layer, &mut buffers);
            }
            hidden = buffers.hidden;
        }
        Ok(Hidden { values: hidden, stride, width: spec.hidden })
    }

    fn shape(&self) -> HeadShape {
        HeadShape::new(self.spec.heads, self.spec.hidden)
    }

    /// Returns token and position of every row.
    fn places(&self, texts: &[&[u32]]) -> Result<Vec<(usize, usize)>, ModelError> {
        let mut places = Vec::with_capacity(texts.iter().map(|text| text.len()).sum());
        for text in texts {
            let mut counted = 0;
            for (number, &token) in text.iter().enumerate() {
                let position = match self.spec.counted_behind {
                    None => number,
                    Some(fill) if token == fill => fill as usize,
                    Some(fill) => {
                        counted += 1;
                        fill as usize + counted
                    }
                };
                let token = token as usize;
                if token >= self.spec.vocabulary || position >= self.spec.positions {
                    let detail = format!(
                        "token {token} at position {position} of a model with {} tokens and {} positions: its tokenizer \
                         belongs to another model",
                        self.spec.vocabulary, self.spec.positions
                    );
                    return Err(internal("computing embeddings", detail));
                }
                places.push((token, position));
            }
        }
        Ok(places)
    }

    /// Writes the vectors with which the tokens enter the first layer.
    fn embed(&self, places: &[(usize, usize)], hidden: &mut [f32]) -> Result<(), ModelError> {
        let (spec, embeddings) = (&self.spec, &self.embeddings);
        let width = spec.hidden;
        let (storage, layout) = embeddings.words.storage_and_layout();
        let words = load::values(&storage, layout).map_err(|error| internal("looking up embeddings", error))?;
        self.compute.numbered_rows(hidden, self.shape().out_stride, |row, out| {
            let (token, position) = places[row];
            let word = &words[token * width..][..width];
            let place = &embeddings.positions[position * width..][..width];
            for (at, out) in out[..width].iter_mut().enumerate() {
                *out = word[at] + embeddings.kind[at] + place[at];
            }
            self.norm_row(&embeddings.norm, out);
        });
        Ok(())
    }

    /// Adds to every text's tokens what they have of each other.
    fn attend(&self, layer: &Layer, texts: &[Range<usize>], buffers: &mut Buffers) {
        let Buffers { hidden, projected, mixed, .. } = buffers;
        let Compute { team, kernels } = &self.compute;
        let shape = self.shape();
        layer.projection.multiply(team, kernels, hidden, shape.out_stride, projected, Finish::Write);
        attention::attend(&self.compute, shape, texts, projected, mixed);
        layer.attention_output.multiply(team, kernels, mixed, shape.out_stride, hidden, Finish::Add);
        self.norm(&layer.attention_norm, hidden);
    }

    fn feed_forward(&self, layer: &Layer, buffers: &mut Buffers) {
        let Buffers { hidden, inner, .. } = buffers;
        let Compute { team, kernels } = &self.compute;
        layer.up.multiply(team, kernels, hidden, self.shape().out_stride, inner, Finish::Bend(self.spec.curve));
        layer.down.multiply(team, kernels, inner, layer.up.width(), hidden, Finish::Add);
        self.norm(&layer.feed_forward_norm, hidden);
    }

    fn norm(&self, norm: &Norm, hidden: &mut [f32]) {
        self.compute.numbered_rows(hidden, self.shape().out_stride, |_, row| self.norm_row(norm, row));
    }

    fn norm_row(&self, norm: &Norm, row: &mut [f32]) {
        let row = &mut row[..self.spec.hidden];
        self.compute.kernels.layer_norm(row, &norm.weight, &norm.bias, self.spec.norm_epsilon);
    }
}

/// Returns the rows of each text.
fn ranges(texts: &[&[u32]]) -> Vec<Range<usize>> {
    let mut start = 0;
    let range = |text: &&[u32]| {
        let range = start..start + text.len();
        start = range.end;
        range
    };
    texts.iter().map(range).collect()
}
