//! The sentence encoder on the real model against candle's, and against itself in other company.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use mos_core::{Embedder, ModelError};
use mos_engine::{EmbedderOptions, LocalEmbedder, Pooling};
use serde_json::Value;
use tempfile::TempDir;
use tokenizers::{Tokenizer, TruncationParams};

use crate::support::{bits, real_model};

/// What the model's folder says.
const MAX_TOKENS: usize = 256;

/// Sentences of one to a few hundred tokens.
fn sentences() -> Vec<String> {
    let mut sentences: Vec<String> = (0..300)
        .map(|number| {
            let more = "and walked home along the river ".repeat(number % 5);
            format!("On day {number} Ann met friend number {} {more}before it rained.", number * 7 % 11)
        })
        .collect();
    let odd = ["a", "", "   ", "?", "三个词 🐶", "Where did Ann go on Sunday?"];
    sentences.extend(odd.map(str::to_owned));
    sentences.push("word ".repeat(MAX_TOKENS - 2));
    sentences.push("A much longer text than the model takes. ".repeat(100));
    sentences
}

/// candle's model with the mean of the tokens' vectors, one text at a time.
struct Reference {
    model: BertModel,
    tokenizer: Tokenizer,
}

impl Reference {
    fn open(folder: &Path) -> Self {
        let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
        let model = BertModel::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config).unwrap();
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
        tokenizer.with_padding(None);
        let cut = TruncationParams { max_length: MAX_TOKENS, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(cut)).unwrap();
        Self { model, tokenizer }
    }

    fn vector(&self, text: &str, pooling: Pooling) -> Vec<f64> {
        let tokens = self.tokenizer.encode(text, true).unwrap();
        let ids = Tensor::new(tokens.get_ids(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = self.model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
        let rows = hidden.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        let pooled: Vec<f64> = match pooling {
            Pooling::FirstToken => rows[0].iter().copied().map(f64::from).collect(),
            Pooling::Mean => (0..rows[0].len()).map(|at| rows.iter().map(|row| f64::from(row[at])).sum()).collect(),
        };
        let length = pooled.iter().map(|value| value * value).sum::<f64>().sqrt();
        pooled.iter().map(|value| value / length).collect()
    }
}

fn open(options: EmbedderOptions) -> std::sync::Arc<LocalEmbedder> {
    LocalEmbedder::open(&options).unwrap()
}

#[tokio::test]
async fn vectors_are_those_of_candle() {
    let folder = real_model("all-minilm-l6-v2");
    let reference = Reference::open(&folder);
    let sentences = sentences();
    for pooling in [Pooling::Mean, Pooling::FirstToken] {
        let embedder = open(EmbedderOptions { pooling: Some(pooling), ..EmbedderOptions::new(&folder) });
        let vectors = embedder.embed(&sentences).await.unwrap();
        assert_eq!(vectors.len(), sentences.len());
        // All kinds of texts; some of those that differ in their numbers only.
        for (text, vector) in sentences.iter().zip(&vectors).skip(250) {
            let expected = reference.vector(text, pooling);
            let pairs = || vector.iter().map(|value| f64::from(*value)).zip(&expected);
            let cosine: f64 = pairs().map(|(got, expected)| got * expected).sum();
            let apart = pairs().map(|(got, expected)| (got - expected).powi(2)).sum::<f64>().sqrt();
            let shown: String = text.chars().take(60).collect();
            assert!(cosine > 1.0 - 1e-6 && apart < 1e-5, "{shown:?}, {pooling:?}: cosine {cosine}, {apart} apart");
        }
    }
}

#[tokio::test]
async fn what_a_text_is_embedded_with_does_not_show() {
    let folder = real_model("all-minilm-l6-v2");
    let embedder = open(EmbedderOptions::new(&folder));
    let sentences = sentences();
    let together = embedder.embed(&sentences).await.unwrap();
    for batch_tokens in [1, 100] {
        let small = open(EmbedderOptions { batch_tokens, ..EmbedderOptions::new(&folder) });
        let apart = small.embed(&sentences[280..]).await.unwrap();
        for (number, (a, b)) in apart.iter().zip(&together[280..]).enumerate() {
            assert_eq!(bits(a), bits(b), "text {number}, batches of {batch_tokens}");
        }
    }
    let mut turned = sentences;
    turned.reverse();
    let backwards = embedder.embed(&turned).await.unwrap();
    assert!(backwards.iter().rev().zip(&together).all(|(a, b)| bits(a) == bits(b)), "the order shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_at_the_same_time_get_what_they_would_get_alone() {
    let embedder = open(EmbedderOptions { batch_tokens: 200, ..EmbedderOptions::new(real_model("all-minilm-l6-v2")) });
    let sentences = sentences();
    let alone = embedder.embed(&sentences[..60]).await.unwrap();
    let calls: Vec<_> = (0..12)
        .map(|number| {
            let (embedder, texts) = (std::sync::Arc::clone(&embedder), sentences[number * 5..][..5].to_vec());
            tokio::spawn(async move { embedder.embed(&texts).await })
        })
        .collect();
    let whole = embedder.embed(&sentences[..60]).await.unwrap();
    assert!(whole.iter().zip(&alone).all(|(a, b)| bits(a) == bits(b)));
    for (number, call) in calls.into_iter().enumerate() {
        let vectors = call.await.unwrap().unwrap();
        assert_eq!(vectors.len(), 5);
        let expected = &alone[number * 5..][..5];
        assert!(vectors.iter().zip(expected).all(|(a, b)| bits(a) == bits(b)), "call {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn questions_beside_a_document_get_what_they_would_get_alone() {
    let embedder = open(EmbedderOptions::new(real_model("all-minilm-l6-v2")));
    let sentences = sentences();
    let alone = embedder.embed(&sentences).await.unwrap();
    let document = tokio::spawn({
        let (embedder, texts) = (std::sync::Arc::clone(&embedder), sentences.clone());
        async move { embedder.embed(&texts).await }
    });
    let questions: Vec<_> = sentences[sentences.len() - 64..]
        .iter()
        .map(|text| {
            let (embedder, text) = (std::sync::Arc::clone(&embedder), text.clone());
            tokio::spawn(async move { embedder.embed_queries(&[text]).await })
        })
        .collect();
    for (number, (question, expected)) in questions.into_iter().zip(&alone[alone.len() - 64..]).enumerate() {
        let vectors = question.await.unwrap().unwrap();
        assert_eq!(vectors.len(), 1);
        assert_eq!(bits(&vectors[0]), bits(expected), "question {number}");
    }
    let document = document.await.unwrap().unwrap();
    assert_eq!(document.len(), alone.len());
    assert!(document.iter().zip(&alone).all(|(a, b)| bits(a) == bits(b)), "the document");
}

#[tokio::test]
async fn one_token_has_a_vector_and_none_has_not() {
    // A copy of the model whose tokenizer puts nothing around a text.
    let (real, folder) = (real_model("all-minilm-l6-v2"), TempDir::new().unwrap());
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(real.join(name), folder.path().join(name)).unwrap();
    }
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(real.join("tokenizer.json")).unwrap()).unwrap();
    tokenizer["post_processor"] = Value::Null;
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let embedder = open(EmbedderOptions::new(folder.path()));
    let vectors = embedder.embed(&["cat".to_owned(), "dog".to_owned()]).await.unwrap();
    let mut lengths = vectors.iter().map(|vector| vector.iter().map(|value| value * value).sum::<f32>());
    assert!(lengths.all(|length| (length - 1.0).abs() < 1e-5));
    assert_ne!(bits(&vectors[0]), bits(&vectors[1]));
    let error = embedder.embed(&["cat".to_owned(), " ".to_owned()]).await.unwrap_err();
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("no tokens")), "{error}");
}
