//! The sentence encoder on the real model.

use mos_core::{EmbedUse, Embedder, ModelError};
use mos_engine::{EmbedderOptions, LocalEmbedder};

use crate::support::{bits, real_model};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The figures of the model's card.
#[tokio::test]
async fn cosines_are_those_of_the_model_card() {
    let embedder = LocalEmbedder::open(&EmbedderOptions::new(real_model("all-minilm-l6-v2"))).unwrap();
    let sentences = texts(&["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]);
    let vectors = embedder.embed(&sentences).await.unwrap();
    for (a, b, expected) in [(0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411)] {
        let got = cosine(&vectors[a], &vectors[b]);
        assert!((got - expected).abs() < 5e-4, "{a} {b}: {got} instead of {expected}");
    }
    let space = embedder.space().await.unwrap();
    let (name, hash) = space.model.split_once('@').unwrap();
    assert_eq!((name, hash.len(), space.dimension), ("all-minilm-l6-v2", 8, 384));
}

#[tokio::test]
async fn order_and_batches_do_not_show_and_long_texts_are_cut() {
    let path = real_model("all-minilm-l6-v2");
    let embedder = LocalEmbedder::open(&EmbedderOptions::new(&path)).unwrap();
    let small = LocalEmbedder::open(&EmbedderOptions { batch_tokens: 20, ..EmbedderOptions::new(&path) }).unwrap();
    let long = "word ".repeat(1000);
    let sentences = texts(&["A long sentence about nothing in particular, really.", "Short.", "", &long, "三个词 🐶"]);
    let together = embedder.embed(&sentences).await.unwrap();
    let apart = small.embed(&sentences).await.unwrap();
    for (number, (a, b)) in together.iter().zip(&apart).enumerate() {
        assert_eq!(bits(a), bits(b), "text {number}");
        assert!((cosine(a, a) - 1.0).abs() < 1e-5, "unit length");
    }
    let shorter = "word ".repeat(400);
    let cut = embedder.embed(&[shorter]).await.unwrap();
    assert!((cosine(&cut[0], &together[3]) - 1.0).abs() < 1e-5, "both are cut at 256 tokens");
    assert!(embedder.embed(&[]).await.unwrap().is_empty());
}

/// More than are cut into tokens at once.
#[tokio::test]
async fn a_long_document_gets_a_vector_for_every_text_in_order() {
    let embedder = LocalEmbedder::open(&EmbedderOptions::new(real_model("all-minilm-l6-v2"))).unwrap();
    let sentences: Vec<String> = (0..1030).map(|number| format!("fact {number}")).collect();
    let vectors = embedder.embed(&sentences).await.unwrap();
    assert_eq!(vectors.len(), sentences.len());
    for number in [0, 511, 512, 1023, 1024, 1029] {
        let alone = embedder.embed(&sentences[number..=number]).await.unwrap();
        assert_eq!(bits(&vectors[number]), bits(&alone[0]), "text {number}");
    }
}

#[test]
fn a_missing_encoder_and_a_missing_file_are_told_apart() {
    let folder = tempfile::TempDir::new().unwrap();
    let error = LocalEmbedder::open(&EmbedderOptions::new(folder.path().join("none"))).unwrap_err();
    assert!(matches!(&error, ModelError::NotFound(text) if text.contains("mos models pull")), "{error}");
    let real = real_model("all-minilm-l6-v2");
    std::fs::copy(real.join("config.json"), folder.path().join("config.json")).unwrap();
    let error = LocalEmbedder::open(&EmbedderOptions::new(folder.path())).unwrap_err();
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("tokenizer.json")), "{error}");
    std::fs::copy(real.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let weights = std::fs::read(real.join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    let error = LocalEmbedder::open(&EmbedderOptions::new(folder.path())).unwrap_err();
    assert!(matches!(&error, ModelError::BadModel(text) if text.contains("fetch")), "{error}");
}

#[tokio::test]
async fn the_tokens_of_texts_are_told() {
    let embedder = LocalEmbedder::open(&EmbedderOptions::new(real_model("all-minilm-l6-v2"))).unwrap();
    let embedded = embedder.embed_counted(EmbedUse::Query, &texts(&["a dog", "the cat"])).await.unwrap();
    assert_eq!(embedded.tokens, Some(2 + 2 + 4), "words, and two tokens that frame each text");
    assert_eq!(embedder.embed_counted(EmbedUse::Passage, &[]).await.unwrap().tokens, Some(0));
}
