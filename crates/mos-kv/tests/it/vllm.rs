//! Prompts that a server computes ahead.

use std::sync::Arc;

use mos_core::{ChatModel, MemoryId, MemoryItem, Message};
use mos_kv::{ExtractInput, KvError, VllmKvCacheItem, VllmKvCacheMemory, build_vllm_kv_cache};
use mos_models::{OpenAiChat, OpenAiOptions, ServerOptions};
use mos_testkit::clock::{CountingIds, SetClock};
use mos_testkit::model_server::{Fault, ModelServer};
use serde_json::json;

use crate::calibration::Log;

fn model(server: &ModelServer) -> Arc<dyn ChatModel> {
    OpenAiChat::open(OpenAiOptions::new(ServerOptions::new(server.openai_url()), "served")).unwrap()
}

fn memory(server: &ModelServer) -> VllmKvCacheMemory {
    let (clock, ids) = (Arc::new(SetClock::default()), Arc::new(CountingIds::default()));
    VllmKvCacheMemory::new(model(server), "activation_memory.pickle".to_owned(), "Known:".to_owned(), clock, ids)
}

#[tokio::test]
async fn extracting_sends_one_short_request_and_keeps_the_prompt() {
    let server = ModelServer::start().await;
    let memory = memory(&server);
    let item = memory.extract(vec!["a".to_owned(), "b".to_owned()]).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let body = &requests[0].body;
    assert_eq!(body["messages"], json!([{"role": "system", "content": "Known:\na b"}]));
    assert_eq!((body["max_tokens"].as_u64(), body["temperature"].as_f64()), (Some(2), Some(0.0)));
    let now = "2026-01-02T03:04:05.000000+00:00";
    assert_eq!(
        serde_json::to_value(&item).unwrap(),
        json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "Known:\na b",
               "metadata": {"source_text": ["a", "b"], "extracted_at": now},
               "records": {"text_memories": ["a", "b"], "composed_text_memory": "a b", "timestamp": now}})
    );
    memory.add([item.clone()]);
    assert_eq!(memory.messages(item.id.as_str()).unwrap().unwrap(), [Message::system("Known:\na b")]);
    assert!(matches!(memory.extract(" ").await, Err(KvError::Empty(_))));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_failed_request_is_told_and_loses_nothing() {
    let server = ModelServer::start().await;
    server.fault(Fault::Status(400, json!({"error": {"message": "no"}})));
    let preload = build_vllm_kv_cache(&*model(&server), &ExtractInput::from("a"), "Known:").await.unwrap();
    assert!(preload.outcome.is_err());
    assert_eq!(preload.prompt, "Known:\na");
}

#[tokio::test]
async fn what_a_server_says_of_a_prompt_that_it_refuses_is_in_no_log() {
    let server = ModelServer::start().await;
    let memory = memory(&server);
    server.fault(Fault::Status(400, json!({"error": {"message": "no: my secret"}})));
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let listening = tracing::subscriber::set_default(subscriber);
    assert_eq!(memory.extract("my secret").await.unwrap().memory, "Known:\nmy secret");
    drop(listening);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("did not preload a prompt") && text.contains("it refused the request"), "{text}");
    assert!(!text.contains("my secret"), "{text}");
}

#[tokio::test]
async fn items_are_kept_as_upstream_keeps_them() {
    let server = ModelServer::start().await;
    let memory = memory(&server);
    let mut text = MemoryItem::new(MemoryId::new("t"), "c");
    text.metadata.tags = Some(vec!["x".to_owned()]);
    let items = [
        memory.extract("a").await.unwrap(),
        memory.extract(vec![Message::user("q"), Message::assistant("b")]).await.unwrap(),
        memory.from_textual_memory(&text).await.unwrap(),
    ];
    assert_eq!(items[2].metadata, text.metadata.to_map());
    memory.add(items.clone());
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(memory.get_cache(&[ids[0], ids[1], "unknown"]).as_deref(), Some("q\nb"));
    assert_eq!(memory.get_cache(&["unknown"]), None);
    assert_eq!(memory.get_by_ids(&[ids[2], "unknown"]), [Some(items[2].clone()), None]);
    let dir = tempfile::tempdir().unwrap();
    memory.dump(dir.path()).unwrap();
    assert_eq!(memory.delete(&[ids[0], "unknown"]), 1);
    assert_eq!(memory.delete_all(), 2);
    assert_eq!(memory.load(dir.path()).unwrap(), 3);
    assert_eq!(memory.get_all(), items);
    assert_eq!(memory.load(tempfile::tempdir().unwrap().path()).unwrap(), 0);
    assert_eq!(memory.get_all().len(), 3);
    let old: VllmKvCacheItem = serde_json::from_value(json!({"kv_cache_id": "x", "kv_cache": "p"})).unwrap();
    assert_eq!((old.id.as_str(), old.memory.as_str()), ("x", "p"));
    std::fs::write(dir.path().join("activation_memory.pickle"), b"{}").unwrap();
    assert!(matches!(memory.load(dir.path()), Err(KvError::Damaged { .. })));
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle");
    std::fs::copy(fixtures.join("variants/prompt.pickle"), dir.path().join("activation_memory.pickle")).unwrap();
    assert!(memory.load(dir.path()).unwrap() > 0);
}
