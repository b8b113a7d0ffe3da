//! From settings to chat models and encoders of every backend, over real HTTP, and what they take.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos::{Add, Chat, Error, Factories, ModelContext, Mos, NewCube, Settings, backends};
use mos_config::{ChatModelConfig, EmbedderConfig, Setting, load_file};
use mos_core::{ChatModel, ChatRequest, Embedder, MemoryError, Message, ModelError};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{DIMENSION, Fault, ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ann;

const KEY: &str = "sk-test-very-private";

fn context(folder: &TempDir) -> ModelContext {
    ModelContext { models_dir: folder.path().to_owned() }
}

async fn chat_model(written: &Value) -> Result<Arc<dyn ChatModel>, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let config = ChatModelConfig::from_json(written).unwrap();
    Factories::default().chat_model(config, context(&folder)).await
}

async fn embedder(written: &Value) -> Result<Arc<dyn Embedder>, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbedderConfig::from_json(written).unwrap();
    Factories::default().embedder(config, context(&folder)).await
}

#[test]
fn every_model_that_settings_may_name_is_built() {
    let built: BTreeSet<(String, String)> =
        backends().into_iter().filter(|one| one.is_built).map(|one| (one.kind, one.key)).collect();
    for (kind, keys) in [("chat_model", ChatModelConfig::KEYS), ("embedder", EmbedderConfig::KEYS)] {
        for key in keys {
            assert!(built.contains(&(kind.to_owned(), (*key).to_owned())), "{kind} {key}");
        }
    }
}

#[tokio::test]
async fn every_service_is_asked_in_its_own_way() {
    let at = ModelServer::start().await;
    let openai = |extra: Value| {
        let mut config = json!({"model_name_or_path": "m", "api_key": KEY, "api_base": at.openai_url()});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        config
    };
    let azure = json!({"model_name_or_path": "m", "api_key": KEY, "base_url": at.base_url(), "enable_thinking": false});
    let ollama = json!({"model_name_or_path": "m", "api_base": at.base_url(), "enable_thinking": true});
    for (backend, config, path, key, value) in [
        ("openai", openai(json!({})), "/v1/chat/completions", "enable_thinking", Value::Null),
        ("openai", openai(json!({"extra_body": {"user": "u"}})), "/v1/chat/completions", "user", json!("u")),
        ("openai_new", openai(json!({})), "/v1/responses", "max_output_tokens", json!(8192)),
        ("qwen", openai(json!({"enable_thinking": false})), "/v1/chat/completions", "enable_thinking", json!(false)),
        ("deepseek", openai(json!({})), "/v1/chat/completions", "top_k", Value::Null),
        ("minimax", openai(json!({})), "/v1/chat/completions", "top_p", json!(0.95)),
        ("vllm", openai(json!({})), "/v1/chat/completions", "top_k", json!(50)),
        (
            "vllm",
            openai(json!({"enable_thinking": true})),
            "/v1/chat/completions",
            "chat_template_kwargs",
            json!({"enable_thinking": true}),
        ),
        ("azure", azure, "/openai/deployments/m/chat/completions", "enable_thinking", json!(false)),
        ("ollama", ollama, "/api/chat", "think", json!(true)),
    ] {
        at.reply(Reply::text("hello").with_reasoning("hm"));
        let model = chat_model(&json!({"backend": backend, "config": config})).await.unwrap();
        let request = ChatRequest { messages: vec![Message::user("hi")], ..ChatRequest::default() };
        assert_eq!(model.complete(request).await.unwrap().0, "<think>hm</think>hello", "{backend}");
        assert_eq!((model.name(), model.is_local()), ("m", false));
        let asked = at.requests().pop().unwrap();
        assert_eq!((asked.path.as_str(), &asked.body[key]), (path, &value), "{backend}");
        let expected = match backend {
            "azure" => (None, Some(KEY.to_owned())),
            "ollama" => (None, None),
            _ => (Some(format!("Bearer {KEY}")), None),
        };
        let sent = |name: &str| asked.header(name).map(str::to_owned);
        assert_eq!((sent("authorization"), sent("api-key")), expected, "{backend}");
        assert!(!format!("{model:?}").contains(KEY), "{backend}");
    }
}

#[tokio::test]
async fn every_encoder_behind_a_server_embeds() {
    let at = ModelServer::start().await;
    let universal = |provider: &str, base: String| {
        json!({"model_name_or_path": "m", "provider": provider, "api_key": KEY, "base_url": base,
               "embedding_dims": DIMENSION, "batch_size": 2})
    };
    let prefixed = json!({"model_name_or_path": "m", "api_base": at.openai_url(), "query_prefix": "query: "});
    for (backend, config, path) in [
        ("openai", prefixed, "/v1/embeddings"),
        ("universal_api", universal("openai", at.openai_url()), "/v1/embeddings"),
        ("universal_api", universal("azure", at.base_url()), "/openai/deployments/m/embeddings"),
        ("ollama", json!({"model_name_or_path": "m", "api_base": at.base_url()}), "/api/embed"),
        ("ark", json!({"model_name_or_path": "m", "api_key": KEY, "api_base": at.ark_url()}), "/api/v3/embeddings"),
        (
            "ark",
            json!({"model_name_or_path": "m", "api_key": KEY, "api_base": at.ark_url(), "multi_modal": true}),
            "/api/v3/embeddings/multimodal",
        ),
    ] {
        let encoder = embedder(&json!({"backend": backend, "config": config})).await.unwrap();
        let texts: Vec<String> = (0..3).map(|number| format!("text {number}")).collect();
        let vectors = encoder.embed(&texts).await.unwrap();
        assert_eq!((vectors.len(), vectors[0].len()), (3, DIMENSION), "{backend}");
        assert_eq!(encoder.space().await.unwrap().dimension, DIMENSION, "{backend}");
        let asked = at.requests().pop().unwrap();
        assert_eq!(asked.path, path, "{backend}");
        if backend == "universal_api" {
            assert_eq!(asked.body["dimensions"], DIMENSION);
            assert_eq!(asked.body["input"].as_array().unwrap().len(), 1, "the last of two batches");
        }
        assert!(!format!("{encoder:?}").contains(KEY), "{backend}");
    }
}

#[tokio::test]
async fn a_second_server_answers_for_the_first() {
    let at = ModelServer::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away_url = format!("http://{}/v1", free.local_addr().unwrap());
    drop(free);
    let chat = json!({"backend": "openai", "config": {
        "model_name_or_path": "first", "api_key": "sk-first", "api_base": away_url, "max_retries": 0,
        "backup_client": true, "backup_api_key": KEY, "backup_api_base": at.openai_url(),
        "backup_model_name_or_path": "second", "backup_headers": {"x-tenant": "t"}}});
    at.reply(Reply::text("from the second"));
    let request = ChatRequest { messages: vec![Message::user("hi")], ..ChatRequest::default() };
    assert_eq!(chat_model(&chat).await.unwrap().complete(request).await.unwrap().0, "from the second");
    let encoder = json!({"backend": "universal_api", "config": {
        "model_name_or_path": "first", "provider": "openai", "api_key": "sk-first", "base_url": away_url,
        "max_retries": 0, "backup_client": true, "backup_api_key": KEY, "backup_base_url": at.openai_url(),
        "backup_model_name_or_path": "second"}});
    embedder(&encoder).await.unwrap().embed(&["a".to_owned()]).await.unwrap();
    let requests = at.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.body["model"], "second");
        assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    }
    assert_eq!(at.requests()[0].header("x-tenant"), Some("t"));
}

#[tokio::test]
async fn the_doctor_tells_what_a_failing_server_said() {
    let (at, folder) = (ModelServer::start().await, tempfile::tempdir().unwrap());
    let settings = json!({
        "chat_model": {"backend": "openai", "config": {
            "model_name_or_path": "scripted", "api_key": KEY, "api_base": at.openai_url()}},
        "embedder": {"backend": "universal_api", "config": {
            "model_name_or_path": "words", "provider": "openai", "api_key": KEY, "base_url": at.openai_url(),
            "max_retries": 0}},
    });
    let settings = Settings::from_json(&settings).unwrap();
    let mos = Mos::builder(settings).data_dir(folder.path()).build().await.unwrap();
    at.fault(Fault::Status(500, json!({"error": {"message": "out of memory"}})));
    let report = mos.doctor().await.unwrap();
    let told: Vec<&str> =
        report.findings.iter().filter(|one| one.what == "encoder").map(|one| one.detail.as_str()).collect();
    assert!(matches!(told[..], [one] if one.ends_with("failed with status 500: out of memory")), "{report:?}");
}

#[tokio::test]
async fn the_first_servers_key_goes_to_no_other_host() {
    let at = ModelServer::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for (host, key, tenant) in [("127.0.0.1", Some("Bearer sk-first"), Some("t")), ("localhost", None, None)] {
        let away_url = format!("http://{host}:{port}/v1");
        let chat = json!({"backend": "openai", "config": {
            "model_name_or_path": "m", "api_key": "sk-first", "api_base": away_url, "max_retries": 0,
            "default_headers": {"x-tenant": "t"}, "backup_client": true, "backup_api_base": at.openai_url()}});
        at.reply(Reply::text("from the second"));
        let request = ChatRequest { messages: vec![Message::user("hi")], ..ChatRequest::default() };
        chat_model(&chat).await.unwrap().complete(request).await.unwrap();
        let encoder = json!({"backend": "universal_api", "config": {
            "model_name_or_path": "m", "provider": "openai", "api_key": "sk-first", "base_url": away_url,
            "headers_extra": {"x-tenant": "t"}, "max_retries": 0, "backup_client": true,
            "backup_base_url": at.openai_url()}});
        embedder(&encoder).await.unwrap().embed(&["a".to_owned()]).await.unwrap();
        let requests = at.requests();
        for request in &requests[requests.len() - 2..] {
            assert_eq!((request.header("authorization"), request.header("x-tenant")), (key, tenant), "{host}");
        }
    }
    assert_eq!(at.requests().len(), 4);
}

fn repository(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(relative)
}

/// Every part of a configuration under a key that `is_meant` knows.
fn parts_of<'a>(value: &'a Value, is_meant: &dyn Fn(&str) -> bool, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if is_meant(key) && value["backend"].is_string() {
                    found.push(value);
                }
                parts_of(value, is_meant, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| parts_of(value, is_meant, found)),
        _ => {}
    }
}

/// What needs the weights of a model is refused with the way to get them, an address that was left out with what one looks
/// like; everything else opens.
fn check_opened<T: std::fmt::Debug>(opened: Result<T, ModelError>, written: &Value) {
    let is_here = ["huggingface", "huggingface_singleton", "sentence_transformer", "local"];
    let backend = written["backend"].as_str().unwrap();
    match opened {
        Err(ModelError::NotFound(reason)) if is_here.contains(&backend) => {
            assert!(reason.contains("mos models pull"), "{reason}");
        }
        Err(ModelError::Invalid(reason))
            if ["api_base", "base_url"].iter().any(|key| written["config"][key] == "http://") =>
        {
            assert!(reason.contains("http://host:port"), "{reason}");
        }
        opened => drop(opened.unwrap_or_else(|error| panic!("{written}: {error}"))),
    }
}

#[tokio::test]
async fn every_model_that_memos_files_name_opens() {
    let (mut n_models, mut n_encoders) = (0, 0);
    let mut folders = vec![repository("tests/fixtures/compat/configs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let (file, _) = load_file::<Value>(&path).unwrap();
            let (mut models, mut encoders) = (Vec::new(), Vec::new());
            parts_of(&file, &|key: &str| key == "chat_model" || key.ends_with("llm"), &mut models);
            parts_of(&file, &|key: &str| key == "embedder", &mut encoders);
            for written in &models {
                check_opened(chat_model(written).await, written);
            }
            for written in &encoders {
                check_opened(embedder(written).await, written);
            }
            n_models += models.len();
            n_encoders += encoders.len();
        }
    }
    assert!(n_models >= 40 && n_encoders >= 10, "{n_models} models and {n_encoders} encoders were found");
}

/// A facade whose chat model is a scripted server, with a budget.
async fn spending_house(at: &ModelServer, folder: &Path, budget: &Value) -> Mos {
    let settings = json!({
        "chat_model": {"backend": "openai", "config": {
            "model_name_or_path": "scripted", "api_key": KEY, "api_base": at.openai_url(), "max_retries": 0}},
        "model_budget": budget,
    });
    let settings = Settings::from_json(&settings).unwrap();
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = Mos::builder(settings).data_dir(folder).embedder(embedder).build().await.unwrap();
    mos.ensure_user(&ann()).await.unwrap();
    mos.ensure_cube(&ann(), &"notes".into()).await.unwrap();
    mos
}

#[tokio::test]
async fn what_chats_take_is_counted_and_a_spent_budget_refuses() {
    let at = ModelServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mos =
        spending_house(&at, folder.path(), &json!({"user_tokens_per_day": 1, "cube_tokens_total": 1_000_000})).await;
    mos.add(Add::text("my dog is called Max").user("ann")).await.unwrap();
    at.reply(Reply { cached_tokens: 1, ..Reply::text("one two three") });
    let chat = || Chat::new("what is my dog called?").user("ann").cubes(["notes".into()]);
    let (_, told) = mos.chat(chat()).await.unwrap().complete().await.unwrap();
    let usage = mos.usage(&ann()).await.unwrap();
    assert_eq!(usage.today.prompt_tokens, told.prompt_tokens as u64);
    assert_eq!((usage.today.completion_tokens, usage.today.cached_tokens, usage.today.calls), (3, 1, 1));
    assert_eq!(usage.left_today, Some(0));
    let cube = usage.entries[0].cube_id.as_ref().map(|cube| cube.as_str());
    assert_eq!((usage.entries.len(), cube, usage.entries[0].model.as_str()), (1, Some("notes"), "scripted"));
    drop(mos);

    // Another process knows what was used.
    let mos = spending_house(&at, folder.path(), &json!({"user_tokens_per_day": 1})).await;
    let refused = mos.chat(chat()).await.unwrap_err();
    let is_spent = matches!(&refused, Error::Memory(MemoryError::Model(ModelError::BudgetSpent { limit: 1, .. })));
    assert!(is_spent && refused.to_string().contains("user_tokens_per_day"), "{refused}");
    assert_eq!(at.requests().len(), 1, "no model was asked");
    assert!(mos.chat_history(&ann(), None).await.unwrap().is_empty());
    mos.create_user("bob", None).await.unwrap();
    mos.create_cube(&"bob".into(), NewCube::new("bobs")).await.unwrap();
    at.reply(Reply::text("hello"));
    mos.chat(Chat::new("hi").user("bob")).await.unwrap().complete().await.unwrap();
    assert!(matches!(mos.usage(&"nobody".into()).await, Err(Error::UnknownUser(_))));
}
