//! Reranking servers in every shape they answer in, and in every way they fail.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{ModelError, RerankCandidate, RerankQuery, Reranker};
use mos_models::{HttpOptions, HttpReranker, HttpRerankerOptions, RerankLimits};
use mos_testkit::contracts;
use mos_testkit::json_server::{Answer, JsonServer, Request};
use mos_testkit::model_server::{Fault, ModelServer};
use serde_json::{Value, json};

use crate::{KEY, server};

fn open(at: &JsonServer, change: impl FnOnce(&mut HttpRerankerOptions)) -> Arc<dyn Reranker> {
    let mut options = HttpRerankerOptions::new(server(at.url("/v1/rerank?tenant=secret-tenant")), "bge-reranker-v2-m3");
    change(&mut options);
    HttpReranker::open(options).unwrap()
}

/// Scores are the lengths of the documents.
fn by_length(request: &Request) -> Answer {
    let documents = request.body["documents"].as_array().unwrap().iter();
    let results = documents
        .enumerate()
        .map(|(index, text)| json!({"index": index, "relevance_score": text.as_str().unwrap().len()}));
    // Servers answer best first; the order of the list must not matter.
    Answer::json(&json!({"results": results.rev().collect::<Vec<Value>>()}))
}

fn candidates<'a>(texts: &[&'a str]) -> Vec<RerankCandidate<'a>> {
    texts.iter().map(|text| RerankCandidate::new(text)).collect()
}

async fn places(reranker: &dyn Reranker, texts: &[&str], top_k: usize) -> Result<Vec<usize>, ModelError> {
    let ranked = reranker.rerank(RerankQuery::from("question"), &candidates(texts), top_k).await?;
    Ok(ranked.iter().map(|one| one.index).collect())
}

#[tokio::test]
async fn a_request_has_the_shape_of_reranking_servers() {
    let at = JsonServer::start().await;
    at.answer_with(by_length);
    let reranker = open(&at, |_| {});
    assert_eq!(places(&*reranker, &["a", "ccc", "bb"], 2).await.unwrap(), [1, 2]);
    let request = at.take_requests().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/rerank"));
    assert_eq!(request.query["tenant"], "secret-tenant");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let expected =
        json!({"model": "bge-reranker-v2-m3", "query": "question", "documents": ["a", "ccc", "bb"], "top_n": 3});
    assert_eq!(request.body, expected);
    contracts::rerank::run(&*reranker, &[1.0, 0.0]).await;
}

#[tokio::test]
async fn other_shapes_of_answers_are_read() {
    let at = JsonServer::start().await;
    let reranker = open(&at, |_| {});
    for answer in [
        json!({"data": [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]}),
        json!({"data": [{"score": 0.1}, {"score": 0.9}]}),
        json!([{"index": 0, "score": 0.1}, {"index": 1, "score": 0.9}]),
    ] {
        at.answer(Answer::json(&answer));
        assert_eq!(places(&*reranker, &["a", "b"], 5).await.unwrap(), [1, 0], "{answer}");
    }
}

#[tokio::test]
async fn requests_are_bounded_and_scores_of_all_are_compared() {
    let at = JsonServer::start().await;
    at.answer_with(by_length);
    let limits = RerankLimits { batch_size: 2, batch_bytes: 10, max_query_chars: 4, max_document_chars: 8 };
    let reranker = open(&at, |options| options.limits = limits);
    let texts = ["a", "bb", "日本語日本語日本語", "dddd", "eeeeeeeeeee", ""];
    assert_eq!(places(&*reranker, &texts, 3).await.unwrap(), [2, 4, 3]);
    let sent: Vec<Value> = at.take_requests().into_iter().map(|request| request.body).collect();
    let documents: Vec<&Value> = sent.iter().map(|body| &body["documents"]).collect();
    let expected = [json!(["a", "bb"]), json!(["日本語日本語日本"]), json!(["dddd"]), json!(["eeeeeeee", ""])];
    assert_eq!(documents, expected.iter().collect::<Vec<_>>());
    assert!(sent.iter().all(|body| body["query"] == "ques"));
}

#[tokio::test]
async fn answers_that_cannot_be_trusted_are_refused_with_a_remedy() {
    let at = JsonServer::start().await;
    let reranker = open(&at, |options| options.server.http.max_body_bytes = 1 << 10);
    let results = |results: Value| Answer::json(&json!({"results": results}));
    let good = json!({"index": 0, "relevance_score": 0.5});
    for (answer, why) in [
        (results(json!([good, {"index": 7, "relevance_score": 0.5}])), "index 7 where 2 documents"),
        (results(json!([good])), "1 results for 2 documents"),
        (results(json!([good, good])), "two results for index 0"),
        (results(json!([good, {"index": 1, "relevance_score": null}])), "no number as score of index 1"),
        (results(json!([good, {"index": 1, "relevance_score": "NaN"}])), "no number as score of index 1"),
        (results(json!([good, {"index": "1", "relevance_score": 1}])), "no whole number"),
        (Answer::json(&json!({"answer": 42})), "no list of results"),
        (Answer::text("{\"results\": [{\"index\": 0, \"rel"), "not JSON"),
        (Answer::text("{\"results\": [{\"index\": 0, \"relevance_score\": NaN}]}"), "not JSON"),
        (Answer::json(&json!({"results": [good, good]})).cut_off(), "broke off"),
        (Answer::text(" ".repeat(2 << 10)), "larger than 1024 bytes"),
    ] {
        at.answer(answer);
        let error = places(&*reranker, &["a", "b"], 2).await.unwrap_err();
        assert!(matches!(&error, ModelError::BadAnswer(text) if text.contains(why)), "{why}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret-tenant"), "{error}");
    }
}

#[tokio::test]
async fn refusals_are_sorted_and_show_no_secret() {
    let at = JsonServer::start().await;
    let reranker = open(&at, |options| {
        options.server.headers = vec![("x-gate".to_owned(), mos_models::Secret::new("gate-very-private"))];
        options.server.http.max_retries = 0;
    });
    let told = json!({"error": {"message": format!("bad key {KEY} gate-very-private at secret-tenant")}});
    let mut errors = Vec::new();
    for status in [400, 401, 403, 404, 422, 500, 302] {
        at.answer(Answer::status(status, &told));
        errors.push(places(&*reranker, &["a"], 1).await.unwrap_err());
    }
    at.answer(Answer::status(429, &told).with_header("retry-after", "7"));
    errors.push(places(&*reranker, &["a"], 1).await.unwrap_err());
    let kinds: Vec<bool> = [
        matches!(&errors[0], ModelError::Invalid(text) if text.contains("********")),
        matches!(&errors[1], ModelError::Denied(text) if text.contains("API key")),
        matches!(&errors[2], ModelError::Denied(_)),
        matches!(&errors[3], ModelError::NotFound(text) if text.contains("/rerank") && text.contains("bge-reranker")),
        matches!(&errors[4], ModelError::Invalid(_)),
        matches!(&errors[5], ModelError::ServerFault { .. }),
        matches!(&errors[6], ModelError::Invalid(text) if text.contains("redirect")),
        matches!(&errors[7], ModelError::RateLimited { retry_after: Some(wait) } if wait.as_secs() == 7),
    ]
    .to_vec();
    assert_eq!(kinds, [true; 8], "{errors:?}");
    let shown = format!("{errors:?} {reranker:?}");
    for secret in [KEY, "gate-very-private", "secret-tenant"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_slow_one_is_given_up() {
    let at = JsonServer::start().await;
    at.answer_with(by_length);
    at.answer(Answer::status(503, &json!({})));
    at.answer(Answer::status(429, &json!({})).with_header("retry-after", "0"));
    assert_eq!(places(&*open(&at, |_| {}), &["a", "bb"], 2).await.unwrap(), [1, 0]);
    assert_eq!(at.take_requests().len(), 3);
    at.answer(Answer::json(&json!({})).after(Duration::from_secs(60)));
    let impatient = open(&at, |options| options.server.http = HttpOptions::within(Duration::from_millis(50)));
    let error = places(&*impatient, &["a"], 1).await.unwrap_err();
    assert!(matches!(&error, ModelError::Unavailable(text) if text.contains("sent nothing for 0.05 s")), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    for (url, model) in [("http://", "m"), ("ftp://host/rerank", "m"), ("nonsense", "m"), ("http://host/rerank", " ")] {
        let error = HttpReranker::open(HttpRerankerOptions::new(server(url.to_owned()), model)).unwrap_err();
        assert!(matches!(error, ModelError::Invalid(_)), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_whole_model_server_ranks_what_shares_words_first() {
    let at = ModelServer::start().await;
    let options = HttpRerankerOptions::new(server(at.rerank_url()), "bge-reranker-v2-m3");
    let reranker = HttpReranker::open(options).unwrap();
    let texts = ["stock prices fell", "my dog is called Max", "what is a dog"];
    let ranked = reranker.rerank(RerankQuery::from("my dog Max"), &candidates(&texts), 3).await.unwrap();
    assert_eq!(ranked[0].index, 1, "{ranked:?}");
    at.fault(Fault::RateLimited(Some(0)));
    assert_eq!(places(&*reranker, &texts, 3).await.unwrap().len(), 3);
    assert_eq!(at.requests().len(), 3, "a server that is busy is asked again");
}
