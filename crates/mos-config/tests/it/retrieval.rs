//! Rerankers and internet retrievers.

use mos_config::{InternetRetrieverConfig, RerankerConfig, Secrets, Setting};
use serde_json::{Value, json};

fn reranker(value: &Value) -> Result<RerankerConfig, String> {
    RerankerConfig::from_json(value).map_err(|error| error.to_string())
}

fn retriever(value: &Value) -> Result<InternetRetrieverConfig, String> {
    InternetRetrieverConfig::from_json(value).map_err(|error| error.to_string())
}

#[test]
fn every_reranker_loads_and_is_written_as_it_was() {
    let url = json!({"url": "http://host:8080/rerank"});
    for (backend, config) in [
        ("http_bge", url.clone()),
        ("bge", json!({"endpoint": "http://host/rerank", "model": "m", "timeout": 2.5, "on_failure": "error"})),
        ("http_bge_strategy", json!({"reranker_url": "http://host/rerank", "reranker_strategy": "single_turn"})),
        (
            "bge_strategy",
            json!({"url": "http://host/rerank", "reranker_strategy": "concat_docsource", "batch_size": 8}),
        ),
        ("cosine_local", json!({"level_weights": {"topic": 1.5, "UserMemory": 0}, "level_field": "background"})),
        ("cosine", json!({})),
        ("cross_encoder", json!({"model_name_or_path": "ms-marco", "max_tokens": 256})),
        ("noop", json!({})),
        ("none", json!({"anything": 1})),
        ("disabled", json!({})),
    ] {
        let value = json!({"backend": backend, "config": config});
        let read = reranker(&value).unwrap_or_else(|error| panic!("{backend}: {error}"));
        assert_eq!(read.backend(), backend);
        assert_eq!(reranker(&read.to_json(Secrets::Plain)).unwrap(), read);
    }
    let RerankerConfig::HttpBge(read) = reranker(&json!({"backend": "http_bge", "config": url})).unwrap() else {
        panic!("another backend was read")
    };
    assert_eq!((read.address(), read.timeout, read.concate_len), (Some("http://host:8080/rerank"), 10.0, 1000));
    assert!(!read.fails_the_search() && read.key().is_none());
}

#[test]
fn keys_of_rerankers_and_retrievers_are_masked() {
    let http = json!({"backend": "http_bge", "config": {
        "url": "http://host", "token": "sk-hidden", "headers_extra": {"x-key": "sk-hidden"}}});
    let read = reranker(&http).unwrap();
    let RerankerConfig::HttpBge(config) = &read else { panic!("another backend was read") };
    assert_eq!(config.key().map(mos_config::Secret::expose), Some("sk-hidden"));
    let search = retriever(&json!({"backend": "tavily", "config": {"api_key": "sk-hidden"}})).unwrap();
    let shown = format!("{read:?} {search:?} {} {}", read.to_json(Secrets::Masked), search.to_json(Secrets::Omitted));
    assert!(!shown.contains("sk-hidden"), "{shown}");
}

#[test]
fn rerankers_that_cannot_work_are_refused() {
    let http = |key: &str, value: Value| {
        let mut config = json!({"url": "http://host"});
        config[key] = value;
        json!({"backend": "http_bge", "config": config})
    };
    for (value, why) in [
        (json!({"backend": "http_bge", "config": {}}), "config.url: is missing"),
        (http("timeout", json!(0)), "config.timeout: must be more than 0"),
        (http("timeout", json!(1e9)), "config.timeout: must be more than 0"),
        (http("reranker_strategy", json!("single")), "config.reranker_strategy: `single` is not known"),
        (http("on_failure", json!("ignore")), "keep_order, error"),
        (http("batch_size", json!(0)), "config.batch_size: must be at least 1"),
        (json!({"backend": "cosine_local", "config": {"level_weights": {"fact": -1}}}), "config.level_weights.fact"),
        (json!({"backend": "cross_encoder", "config": {}}), "config.model_name_or_path: is missing"),
        (json!({"backend": "crossencoder", "config": {}}), "did you mean `cross_encoder`"),
    ] {
        let error = reranker(&value).unwrap_err();
        assert!(error.contains(why), "{value}: {error}");
    }
}

#[test]
fn every_retriever_loads_and_is_written_as_it_was() {
    let reader = json!({"backend": "simple_struct", "config": {
        "llm": {"backend": "openai", "config": {"model_name_or_path": "m", "api_key": "k"}},
        "embedder": {"backend": "ollama", "config": {"model_name_or_path": "m"}},
        "chunker": {"backend": "sentence", "config": {}}}});
    for (backend, config) in [
        ("google", json!({"api_key": "k", "search_engine_id": "e", "endpoint": "http://host/search", "timeout": 3})),
        ("bing", json!({"api_key": "k", "max_results": 5})),
        ("xinyu", json!({"api_key": "k", "search_engine_id": "http://host/search", "reader": reader})),
        ("bocha", json!({"api_key": "k"})),
        ("tavily", json!({"api_key": "k", "search_depth": "advanced", "include_answer": true})),
    ] {
        let read = retriever(&json!({"backend": backend, "config": config}))
            .unwrap_or_else(|error| panic!("{backend}: {error}"));
        assert_eq!(read.backend(), backend);
        assert_eq!(retriever(&read.to_json(Secrets::Plain)).unwrap(), read);
    }
    for (value, why) in [
        (json!({"backend": "google", "config": {"api_key": "k"}}), "config.search_engine_id: is missing"),
        (json!({"backend": "bing", "config": {}}), "config.api_key: is missing"),
        (json!({"backend": "tavily", "config": {"api_key": "k", "timeout": 1e9}}), "config.timeout"),
        (json!({"backend": "bocha", "config": {"api_key": "k", "timeout": -1}}), "config.timeout"),
    ] {
        let error = retriever(&value).unwrap_err();
        assert!(error.contains(why), "{value}: {error}");
    }
}
