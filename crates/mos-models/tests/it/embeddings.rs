//! Embeddings in both formats.

use std::sync::Arc;

use mos_core::{Embedder, ModelError};
use mos_models::{BackupEmbedder, EmbedLimits, OllamaEmbedder, OpenAiEmbedder, RemoteEmbedderOptions};
use mos_testkit::model_server::{DIMENSION, Fault, ModelServer, toy_embedding};
use serde_json::json;

use crate::{KEY, server};

fn both(at: &ModelServer, change: impl Fn(&mut RemoteEmbedderOptions)) -> [Arc<dyn Embedder>; 2] {
    let options = |url: String| {
        let mut options = RemoteEmbedderOptions::new(server(url), "toy");
        change(&mut options);
        options
    };
    [OpenAiEmbedder::open(options(at.openai_url())).unwrap(), OllamaEmbedder::open(options(at.base_url())).unwrap()]
}

fn texts(n: usize) -> Vec<String> {
    (0..n).map(|index| format!("text number {index}")).collect()
}

fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {want:?}");
}

#[tokio::test]
async fn vectors_come_in_order_in_bounded_batches_and_of_unit_length() {
    let at = ModelServer::start().await;
    let limits = EmbedLimits { batch_size: 3, batch_bytes: 1000, max_tokens: Some(100) };
    for embedder in both(&at, |options| options.limits = limits.clone()) {
        let before = at.requests().len();
        let texts = texts(7);
        let vectors = embedder.embed(&texts).await.unwrap();
        assert_eq!(at.requests().len() - before, 3);
        for (text, vector) in texts.iter().zip(&vectors) {
            assert_close(vector, &toy_embedding(text, DIMENSION));
            assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        assert_eq!(embedder.embed(&[]).await.unwrap(), Vec::<Vec<f32>>::new());
        let space = embedder.space().await.unwrap();
        assert_eq!((space.model.as_str(), space.dimension), ("toy", DIMENSION));
        assert_eq!(at.requests().len() - before, 3, "what is known is not asked");
    }
}

#[tokio::test]
async fn batches_are_bounded_by_bytes_and_texts_by_tokens() {
    let at = ModelServer::start().await;
    let limits = EmbedLimits { batch_size: 100, batch_bytes: 50, max_tokens: Some(20) };
    for embedder in both(&at, |options| options.limits = limits.clone()) {
        let before = at.requests().len();
        embedder.embed(&["a".repeat(30), "b".repeat(30), "c".repeat(10), "日".repeat(500)]).await.unwrap();
        let sent: Vec<Vec<String>> = at.requests()[before..]
            .iter()
            .map(|request| serde_json::from_value(request.body["input"].clone()).unwrap())
            .collect();
        let expected = vec![vec!["a".repeat(30)], vec!["b".repeat(30), "c".repeat(10)], vec!["日".repeat(20)]];
        assert_eq!(sent, expected, "a text longer than a batch goes alone, cut to its tokens");
    }
}

#[tokio::test]
async fn the_dimension_is_learned_once_or_asked_for() {
    let at = ModelServer::start().await;
    for embedder in both(&at, |_| {}) {
        let before = at.requests().len();
        assert_eq!(embedder.space().await.unwrap().dimension, DIMENSION);
        assert_eq!(embedder.space().await.unwrap().dimension, DIMENSION);
        assert_eq!(at.requests().len() - before, 1);
    }
    for embedder in both(&at, |options| options.dimension = Some(4)) {
        assert_eq!(embedder.space().await.unwrap().dimension, 4);
        let wrong = embedder.embed(&texts(1)).await.unwrap_err();
        assert!(matches!(&wrong, ModelError::BadAnswer(text) if text.contains("32 dimensions where 4")), "{wrong}");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_trusted_are_refused() {
    let at = ModelServer::start().await;
    for embedder in both(&at, |options| options.dimension = Some(DIMENSION)) {
        for fault in [Fault::Dimension(8), Fault::NotANumber, Fault::TooFew, Fault::Garbage, Fault::Flood] {
            at.fault(fault.clone());
            let error = embedder.embed(&texts(2)).await.unwrap_err();
            assert!(matches!(error, ModelError::BadAnswer(_)), "{fault:?}: {error:?}");
        }
        at.fault(Fault::Status(200, json!({"data": [], "embeddings": [[0.0, 0.0], [1.0, 0.0]]})));
        assert!(matches!(embedder.embed(&texts(2)).await, Err(ModelError::BadAnswer(_))));
        at.fault(Fault::Status(200, json!({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]})));
        assert!(matches!(embedder.embed(&texts(2)).await, Err(ModelError::BadAnswer(_))));
    }
}

#[tokio::test]
async fn busy_servers_are_asked_again_and_keys_stay_hidden() {
    let at = ModelServer::start().await;
    for embedder in both(&at, |_| {}) {
        at.fault(Fault::RateLimited(Some(0)));
        at.fault(Fault::Status(500, json!({})));
        assert_eq!(embedder.embed(&texts(1)).await.unwrap().len(), 1);
        assert_eq!(at.requests().last().unwrap().header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        at.fault(Fault::Status(401, json!({"error": {"message": format!("bad key {KEY}")}})));
        let denied = embedder.embed(&texts(1)).await.unwrap_err();
        assert!(matches!(denied, ModelError::Denied(_)));
        assert!(!format!("{denied} {denied:?} {embedder:?}").contains(KEY));
    }
}

#[tokio::test]
async fn a_backup_embeds_when_the_first_server_fails() {
    let at = ModelServer::start().await;
    let [first, second] = both(&at, |_| {});
    at.fault(Fault::Status(400, json!({})));
    assert_eq!(BackupEmbedder::open(first, second).embed(&texts(1)).await.unwrap().len(), 1);
    assert_eq!(at.requests().last().unwrap().path, "/api/embed");
}
