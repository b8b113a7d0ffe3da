//! Embeddings in both formats.

use std::sync::Arc;

use mos_core::{EmbedUse, Embedder, ModelError};
use mos_models::{
    ArkEmbedder, BackupEmbedder, EmbedLimits, HttpOptions, OllamaEmbedder, OpenAiEmbedder, PrefixedEmbedder, Prefixes,
    RemoteEmbedderOptions, Secret, ServerOptions,
};
use mos_testkit::json_server::{Answer, JsonServer};
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
    let limits = EmbedLimits { batch_size: 3, batch_bytes: 1000, max_tokens: Some(100), parallel: 1 };
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
    let limits = EmbedLimits { batch_size: 100, batch_bytes: 50, max_tokens: Some(20), parallel: 1 };
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

#[tokio::test]
async fn an_azure_deployment_has_its_place_version_and_key() {
    let at = ModelServer::start().await;
    let http = HttpOptions { max_retries: 0, ..HttpOptions::default() };
    let azure = ServerOptions::azure(&at.base_url(), "embed-3", "2024-10-21", Secret::new(KEY));
    let options = RemoteEmbedderOptions::new(ServerOptions { http, ..azure }, "text-embedding-3-small");
    let embedder = OpenAiEmbedder::open(options).unwrap();
    assert_eq!(embedder.embed(&texts(1)).await.unwrap().len(), 1);
    let request = at.requests().remove(0);
    assert_eq!(request.path, "/openai/deployments/embed-3/embeddings");
    assert_eq!((request.query.as_str(), request.header("api-key")), ("api-version=2024-10-21", Some(KEY)));
    assert_eq!(request.header("authorization"), None);
    at.fault(Fault::Status(400, json!({"error": {"message": format!("what is {KEY}?")}})));
    let error = embedder.embed(&texts(1)).await.unwrap_err();
    assert!(!format!("{error} {error:?} {embedder:?}").contains(KEY), "{error}");
}

#[tokio::test]
async fn a_length_of_vectors_is_asked_for_until_the_server_refuses() {
    let at = ModelServer::start().await;
    let mut options = RemoteEmbedderOptions::new(server(at.openai_url()), "toy");
    (options.dimension, options.sends_dimension) = (Some(8), true);
    let embedder = OpenAiEmbedder::open(options.clone()).unwrap();
    assert_eq!(embedder.embed(&texts(1)).await.unwrap()[0].len(), 8);
    assert_eq!(at.requests()[0].body["dimensions"], 8);

    options.dimension = Some(DIMENSION);
    let embedder = OpenAiEmbedder::open(options).unwrap();
    at.fault(Fault::Status(400, json!({"error": {"message": "This model does not support dimensions"}})));
    embedder.embed(&texts(1)).await.unwrap();
    embedder.embed(&texts(1)).await.unwrap();
    let asked: Vec<bool> = at.requests()[1..].iter().map(|request| !request.body["dimensions"].is_null()).collect();
    assert_eq!(asked, [true, false, false], "refused once, never asked for again");

    at.fault(Fault::Status(400, json!({"error": {"message": "dimension is not the trouble"}})));
    assert!(matches!(embedder.embed(&texts(1)).await, Err(ModelError::Invalid(_))));
}

#[tokio::test]
async fn ark_takes_texts_in_lists_or_one_by_one() {
    let at = ModelServer::start().await;
    let options = || {
        let mut options = RemoteEmbedderOptions::new(server(at.ark_url()), "doubao-embedding");
        (options.limits.batch_size, options.limits.parallel) = (2, 2);
        options
    };
    let expected: Vec<Vec<f32>> = texts(5).iter().map(|text| toy_embedding(text, DIMENSION)).collect();
    let close = |vectors: &[Vec<f32>]| {
        assert_eq!(vectors.len(), expected.len());
        for (got, expected) in vectors.iter().zip(&expected) {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {expected:?}");
        }
    };
    close(&ArkEmbedder::open(options(), false).unwrap().embed(&texts(5)).await.unwrap());
    let sent: Vec<usize> =
        at.requests().iter().map(|request| request.body["input"].as_array().unwrap().len()).collect();
    assert_eq!(sent.iter().sum::<usize>(), 5);
    assert!(sent.iter().all(|n_texts| *n_texts <= 2), "{sent:?}");
    assert!(at.requests().iter().all(|request| request.path == "/api/v3/embeddings"));

    let before = at.requests().len();
    close(&ArkEmbedder::open(options(), true).unwrap().embed(&texts(5)).await.unwrap());
    let requests = at.requests().split_off(before);
    assert_eq!(requests.len(), 5, "the interface has one vector per request");
    for request in requests {
        assert_eq!(request.path, "/api/v3/embeddings/multimodal");
        assert_eq!(request.body["input"][0]["type"], "text");
    }
}

#[tokio::test]
async fn questions_and_passages_have_prefixes_of_their_own() {
    let at = ModelServer::start().await;
    let [plain, _] = both(&at, |_| {});
    let none = PrefixedEmbedder::open(Arc::clone(&plain), Prefixes::default());
    assert!(Arc::ptr_eq(&none, &plain), "without prefixes it is the encoder itself");
    let prefixes = Prefixes { query: "query: ".to_owned(), passage: "passage: ".to_owned() };
    let embedder = PrefixedEmbedder::open(Arc::clone(&plain), prefixes);
    embedder.embed(&["Max is a dog".to_owned()]).await.unwrap();
    embedder.embed_queries(&["who is Max?".to_owned()]).await.unwrap();
    let sent: Vec<_> = at.requests().iter().map(|request| request.body["input"][0].clone()).collect();
    assert_eq!(sent, ["passage: Max is a dog", "query: who is Max?"]);
    let (with, without) = (embedder.space().await.unwrap(), plain.space().await.unwrap());
    assert_ne!(with.model, without.model, "vectors with and without the prefix do not fit together");
    assert_eq!(with.dimension, without.dimension);
}

#[tokio::test]
async fn tokens_are_those_that_the_server_tells_else_about_so_many() {
    let at = JsonServer::start().await;
    let options = |path: &str| RemoteEmbedderOptions::new(server(at.url(path)), "toy");
    let openai = OpenAiEmbedder::open(options("/v1")).unwrap();
    let ollama = OllamaEmbedder::open(options("")).unwrap();
    let ark = ArkEmbedder::open(options("/api/v3"), true).unwrap();
    let list = json!([{"index": 0, "embedding": [1.0, 0.0]}]);
    for (embedder, answer, tokens) in [
        (&openai, json!({"data": list, "usage": {"prompt_tokens": 7, "total_tokens": 9}}), 7),
        (&openai, json!({"data": list, "usage": {"total_tokens": 9}}), 9),
        (&openai, json!({"data": list}), 2),
        (&ollama, json!({"embeddings": [[1.0, 0.0]], "prompt_eval_count": 5}), 5),
        (&ark, json!({"data": {"embedding": [1.0, 0.0]}, "usage": {"prompt_tokens": 3}}), 3),
    ] {
        at.answer(Answer::json(&answer));
        let embedded = embedder.embed_counted(EmbedUse::Passage, &["abcdef".to_owned()]).await.unwrap();
        assert_eq!((embedded.vectors.len(), embedded.tokens), (1, Some(tokens)), "{answer}");
    }
    // Several requests are summed, and what stands around an encoder passes the number on.
    at.answer_with(|_| {
        Answer::json(&json!({"data": [{"index": 0, "embedding": [1.0, 0.0]}], "usage": {"prompt_tokens": 4}}))
    });
    let limits = EmbedLimits { batch_size: 1, ..EmbedLimits::default() };
    let single = OpenAiEmbedder::open(RemoteEmbedderOptions { limits, ..options("/v1") }).unwrap();
    let prefixes = Prefixes { query: "query: ".to_owned(), passage: String::new() };
    let whole = BackupEmbedder::open(PrefixedEmbedder::open(single, prefixes), openai);
    assert_eq!(whole.embed_counted(EmbedUse::Query, &texts(3)).await.unwrap().tokens, Some(12));
    let sent = at.take_requests();
    assert_eq!(sent.last().unwrap().body["input"][0], "query: text number 2");
}
