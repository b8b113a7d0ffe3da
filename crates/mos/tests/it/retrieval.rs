//! From settings to rerankers and internet retrievers, over real HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;

use mos::{Factories, ModelContext, RerankerParts, backends};
use mos_config::{InternetRetrieverConfig, RerankerConfig, Setting};
use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::{Embedder, MemoryType, ModelError, RandomIds, RerankCandidate, RerankQuery, Reranker, SystemClock};
use mos_memory::WebSearch;
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::json_server::{Answer, JsonServer};
use serde_json::{Value, json};

const KEY: &str = "sk-test-very-private";

fn embedder() -> Arc<dyn Embedder> {
    Arc::new(WordEmbedder::new("words", 64))
}

async fn reranker(backend: &str, config: Value) -> Result<Arc<dyn Reranker>, ModelError> {
    let config = RerankerConfig::from_json(&json!({"backend": backend, "config": config})).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let context = ModelContext { models_dir: folder.path().to_owned() };
    Factories::default().reranker(config, RerankerParts { context, embedder: Some(embedder()) }).await
}

async fn places(reranker: &dyn Reranker, query: &str, candidates: &[RerankCandidate<'_>]) -> Vec<usize> {
    let ranked = reranker.rerank(RerankQuery::from(query), candidates, candidates.len()).await.unwrap();
    ranked.iter().map(|one| one.index).collect()
}

/// A server whose scores are the lengths of the documents.
async fn scoring() -> JsonServer {
    let at = JsonServer::start().await;
    at.answer_with(|request| {
        let documents = request.body["documents"].as_array().unwrap().iter().enumerate();
        let results: Vec<Value> = documents
            .map(|(index, text)| json!({"index": index, "relevance_score": text.as_str().unwrap().len()}))
            .collect();
        Answer::json(&json!({"results": results}))
    });
    at
}

#[test]
fn every_reranker_and_retriever_that_settings_may_name_is_built() {
    let built: BTreeSet<(String, String)> =
        backends().into_iter().filter(|one| one.is_built).map(|one| (one.kind, one.key)).collect();
    for key in RerankerConfig::KEYS {
        assert!(built.contains(&("reranker".to_owned(), (*key).to_owned())), "{key}");
    }
    for key in InternetRetrieverConfig::KEYS {
        assert!(built.contains(&("internet_retriever".to_owned(), (*key).to_owned())), "{key}");
    }
}

#[tokio::test]
async fn rerankers_without_a_model_are_opened_by_their_keys() {
    let candidates = [RerankCandidate::new("stock prices"), RerankCandidate::new("my dog is called Max")];
    for key in ["noop", "none", "disabled"] {
        let reranker = reranker(key, json!({})).await.unwrap();
        assert_eq!(places(&*reranker, "my dog", &candidates).await, [0, 1], "{key}");
    }
    for key in ["cosine_local", "cosine"] {
        let reranker = reranker(key, json!({})).await.unwrap();
        assert_eq!(places(&*reranker, "my dog", &candidates).await, [1, 0], "{key}");
    }
}

#[tokio::test]
async fn a_server_gives_the_order_and_its_failure_keeps_that_of_recall() {
    let at = scoring().await;
    let candidates = [RerankCandidate::new("a"), RerankCandidate::new("ccc"), RerankCandidate::new("bb")];
    let url = at.url("/rerank");
    for key in ["http_bge", "bge"] {
        let config = json!({"url": url, "token": KEY, "headers_extra": {"x-team": "memory"}});
        let reranker = reranker(key, config).await.unwrap();
        assert_eq!(places(&*reranker, "q", &candidates).await, [1, 2, 0], "{key}");
        let request = at.take_requests().remove(0);
        assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!((request.header("x-team"), &request.body["model"]), (Some("memory"), &json!("bge-reranker-v2-m3")));
        at.answer(Answer::status(401, &json!({})));
        assert_eq!(places(&*reranker, "q", &candidates).await, [0, 1, 2], "{key}: the order of recall is kept");
    }
    let strict = reranker("http_bge", json!({"url": url, "on_failure": "error"})).await.unwrap();
    at.answer(Answer::status(401, &json!({})));
    let error = strict.rerank("q".into(), &candidates, 3).await.unwrap_err();
    assert!(matches!(error, ModelError::Denied(_)), "{error}");
    let error = reranker("http_bge", json!({"url": "http://"})).await.unwrap_err();
    assert!(matches!(error, ModelError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn strategies_decide_what_is_sent() {
    let at = scoring().await;
    let source = |kind: &str, role: &str, content: &str| SourceMessage {
        kind: kind.to_owned(),
        role: Some(role.to_owned()),
        content: Some(content.to_owned()),
        ..SourceMessage::default()
    };
    let sources = [source("chat", "user", "Hello"), source("chat", "assistant", "Hi"), source("file", "user", "Page")];
    let candidates = [RerankCandidate { background: "A walk", sources: &sources, ..RerankCandidate::new("M") }];
    let turns = json!(["M\n\nuser: Hello\nassistant: Hi", "M\n\nuser: Page"]);
    for (key, more, expected) in [
        ("http_bge", json!({}), json!(["M"])),
        ("http_bge", json!({"rerank_source": "background"}), json!(["M\n\nA walk"])),
        ("http_bge", json!({"rerank_source": "file", "concate_len": 2}), json!(["M\n\nPa"])),
        ("http_bge_strategy", json!({}), turns.clone()),
        ("bge_strategy", json!({"reranker_strategy": "singleturn_outmem"}), turns),
        ("http_bge_strategy", json!({"reranker_strategy": "concat_background"}), json!(["M\n\nA walk"])),
        ("http_bge_strategy", json!({"reranker_strategy": "concat_docsource"}), json!(["M\n\nPage"])),
    ] {
        let mut config = json!({"url": at.url("/rerank")});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reranker = reranker(key, config).await.unwrap();
        assert_eq!(places(&*reranker, "q", &candidates).await, [0]);
        assert_eq!(at.take_requests()[0].body["documents"], expected, "{key} {more}");
    }
}

#[tokio::test]
async fn a_cross_encoder_that_is_not_there_is_told_with_the_remedy() {
    let error = reranker("cross_encoder", json!({"model_name_or_path": "ms-marco-minilm"})).await.unwrap_err();
    assert!(matches!(&error, ModelError::NotFound(text) if text.contains("ms-marco-minilm")), "{error:?}");
}

/// A fake endpoint's results appear as memories of the type OuterMemory with the source web, whatever the service.
#[tokio::test]
async fn pages_of_every_service_become_outer_memories() {
    let at = JsonServer::start().await;
    let url = at.url("/search");
    let google =
        json!({"items": [{"link": "https://example.org/1", "title": "Paris", "snippet": "The <b>capital</b>"}]});
    let pages = json!({"webPages": {"value": [
        {"url": "https://example.org/1", "name": "Paris", "snippet": "The <b>capital</b>"}]}});
    let results = json!([{"url": "https://example.org/1", "title": "Paris", "content": "The <b>capital</b>"}]);
    for (backend, config, answer) in [
        ("google", json!({"search_engine_id": "e", "endpoint": url}), google),
        ("bing", json!({"endpoint": url}), pages.clone()),
        ("bocha", json!({"endpoint": url}), json!({"code": 200, "data": pages})),
        ("tavily", json!({"endpoint": url}), json!({"results": results.clone()})),
        ("xinyu", json!({"search_engine_id": url}), json!({"results": {"online": results}})),
    ] {
        let mut config = config;
        config["api_key"] = json!(KEY);
        let config = InternetRetrieverConfig::from_json(&json!({"backend": backend, "config": config})).unwrap();
        let retriever = Factories::default().internet_retriever(config).unwrap();
        assert_eq!(retriever.name(), backend);
        at.answer(Answer::json(&answer));
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(RandomIds));
        let search = WebSearch { retriever, check: None, embedder: Some(embedder()), clock, ids };
        let items = search.search("where is Paris?", 5).await.unwrap();
        assert_eq!(items.len(), 1, "{backend}");
        let (item, fields) = (&items[0], items[0].metadata.tree().unwrap());
        assert_eq!(item.memory, "Paris\nThe capital\nhttps://example.org/1", "{backend}");
        assert_eq!((fields.memory_type, item.metadata.source), (MemoryType::Outer, Some(SourceKind::Web)));
        let source = fields.sources.as_ref().unwrap()[0].to_value(false);
        assert_eq!(source, json!({"type": "web", "url": "https://example.org/1", "title": "Paris"}));
        assert_eq!(fields.embedding.as_ref().map(Vec::len), Some(64));
    }
}
