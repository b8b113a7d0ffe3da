//! An encoder whose vectors can be foreseen.

use async_trait::async_trait;
use mos_core::{Embedder, EmbeddingSpace, ModelError};

/// Embeds a text as the counts of its words: each lower-case word adds 1 at the place that its FNV-1a hash names.
///
/// Texts that share words are near each other, so tests can tell which memory must come first.
#[derive(Clone, Debug)]
pub struct WordEmbedder {
    space: EmbeddingSpace,
}

impl WordEmbedder {
    /// Returns an encoder of this name and length.
    pub fn new(model: &str, dimension: usize) -> Self {
        Self { space: EmbeddingSpace { model: model.to_owned(), dimension } }
    }
}

#[async_trait]
impl Embedder for WordEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(texts.iter().map(|text| embed(text, self.space.dimension)).collect())
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        Ok(self.space.clone())
    }
}

fn embed(text: &str, dimension: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimension];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        vector[hash(&word.to_lowercase()) as usize % dimension] += 1.0;
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length == 0.0 {
        vector[0] = 1.0;
        return vector;
    }
    vector.iter().map(|x| x / length).collect()
}

fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
