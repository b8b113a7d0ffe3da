//! The parts that MemOS' names choose.

use serde_json::{Value, json};

use super::{Given, Purpose};

/// MemOS' chat model where none is named.
const OPENAI_MODEL: &str = "gpt-4o-mini";

/// The key that MemOS sends to a reader's server where none is named.
const NO_KEY: &str = "EMPTY";

/// MemOS' collection in Qdrant; here, what the names of the collections begin with.
const COLLECTION: &str = "neo4j_vec_db";

pub(super) fn add(given: &mut Given, purpose: Purpose) {
    add_folder(given);
    add_chat_model(given, purpose);
    add_embedder(given);
    add_reader(given);
    let is_server = add_store(given);
    add_reranker(given);
    add_internet(given);
    add_scheduler(given, purpose, is_server);
}

fn add_folder(given: &mut Given) {
    if let Some(base) = given.text("MEMOS_BASE_PATH") {
        let folder = std::path::Path::new(&base).join(".memos");
        given.put("data_dir", Value::from(folder.to_string_lossy()));
        given.sources.insert("data_dir".to_owned(), "MEMOS_BASE_PATH".to_owned());
    }
}

/// A key of OpenAI chooses its models, unless another provider is named, or the key may be there for something else.
fn add_chat_model(given: &mut Given, purpose: Purpose) {
    let provider = given.peek("MOS_CHAT_MODEL_PROVIDER").map(str::trim);
    let is_openai = match provider {
        Some(provider) => provider == "openai",
        None => purpose != Purpose::Command && given.peek("OPENAI_API_KEY").is_some(),
    };
    if is_openai {
        given.put("chat_model.backend", json!("openai"));
        given.put("chat_model.config.model_name_or_path", json!(OPENAI_MODEL));
    }
}

/// MemOS' encoders where a kind of server is named and no model.
fn add_embedder(given: &mut Given) {
    let (backend, model) = match given.peek("MOS_EMBEDDER_BACKEND").map(str::trim) {
        Some("ollama") => ("ollama", "nomic-embed-text:latest"),
        Some("universal_api") => ("universal_api", "text-embedding-3-large"),
        _ => return,
    };
    given.put("embedder.backend", json!(backend));
    given.put("embedder.config.model_name_or_path", json!(model));
    if backend == "universal_api" {
        given.put("embedder.config.provider", json!("openai"));
    }
}

/// The names that say which model reads.
const READING_MODELS: &[&str] = &["MEMRADER_MODEL", "MEMRADER_API_KEY", "MEMRADER_API_BASE", "MEM_READER_BACKEND"];

/// The keys of a reader's models, with the names that choose them.
const OTHER_MODELS: [(&str, &str); 4] = [
    ("general_llm", "MEMREADER_GENERAL_MODEL"),
    ("image_parser_llm", "IMAGE_PARSER_MODEL"),
    ("document_parser_llm", "DOCUMENT_PARSER_MODEL"),
    ("preference_extractor_llm", "PREFERENCE_EXTRACTOR_MODEL"),
];

/// How a reader cuts, with the names that say so.
const CUTTING: [(&str, &str); 3] = [
    ("chunk_size", "FILE_PARSER_CHUNK_SIZE"),
    ("chunk_overlap", "FILE_PARSER_CHUNK_OVERLAP"),
    ("save_rawfile", "MEM_READER_SAVE_RAWFILENODE"),
];

fn add_reader(given: &mut Given) {
    let others = OTHER_MODELS.map(|(_, name)| name);
    let cutting = CUTTING.map(|(_, name)| name);
    let is_wanted = given.has_any(READING_MODELS) || given.has_any(&others) || given.has_any(&cutting);
    let has_model = given.has_any(&["MEMRADER_MODEL", "MEMRADER_API_KEY", "MEMRADER_API_BASE", "OPENAI_API_KEY"]);
    // Without a server for its models, the names of a reader are told to have no effect.
    if !is_wanted || !has_model {
        return;
    }
    if !given.put_text("mem_reader.backend", "MEM_READER_BACKEND") {
        given.put("mem_reader.backend", json!("multimodal_struct"));
    }
    let kind = given.value["mem_reader"]["backend"].as_str().unwrap_or_default().to_owned();
    // A reader must name an encoder; memories are embedded with the one of the settings.
    let embedder = json!({"backend": "local", "config": {"model_name_or_path": "all-minilm-l6-v2"}});
    given.put("mem_reader.config.embedder", embedder);
    given.put("mem_reader.config.chunker", json!({"backend": "sentence", "config": {}}));
    add_reading_model(given, "llm", "MEMRADER_MODEL");
    for (key, name) in OTHER_MODELS {
        if given.peek(name).is_some() {
            add_reading_model(given, key, name);
        }
    }
    for (key, name) in CUTTING {
        given.put_text(&format!("mem_reader.config.chunker.config.{key}"), name);
    }
    match kind.as_str() {
        "multimodal_struct" => {
            let hosts = given.texts("FILE_PARSER_DIRECT_MARKDOWN_HOSTNAMES");
            if !hosts.is_empty() {
                given.put("mem_reader.config.direct_markdown_hostnames", json!(hosts));
            }
            given.put_text("mem_reader.config.memory_version_switch", "MEM_READER_MEM_VERSION_SWITCH");
        }
        "strategy_struct" => add_conversation_cut(given),
        _ => {}
    }
}

/// One model of a reader, at the reader's server.
fn add_reading_model(given: &mut Given, key: &str, name: &'static str) {
    let at = format!("mem_reader.config.{key}");
    given.put(&format!("{at}.backend"), json!("openai"));
    let model = format!("{at}.config.model_name_or_path");
    if !given.put_text(&model, name) {
        given.put(&model, json!(OPENAI_MODEL));
    }
    given.put_text(&format!("{at}.config.max_tokens"), "MEMRADER_MAX_TOKENS");
    given.put_text(&format!("{at}.config.api_base"), "MEMRADER_API_BASE");
    let api_key = format!("{at}.config.api_key");
    if !given.put_text(&api_key, "MEMRADER_API_KEY") && given.peek("OPENAI_API_KEY").is_none() {
        given.put(&api_key, json!(NO_KEY));
    }
}

fn add_conversation_cut(given: &mut Given) {
    let at = "mem_reader.config.chat_chunker";
    if let Some(kind) = given.text("MEM_READER_CHAT_CHUNK_TYPE") {
        given.put(&format!("{at}.chunk_type"), json!(kind));
    }
    let numbers = [
        ("chunk_length", "MEM_READER_CHAT_CHUNK_TOKEN_SIZE"),
        ("chunk_session", "MEM_READER_CHAT_CHUNK_SESS_SIZE"),
        ("chunk_overlap", "MEM_READER_CHAT_CHUNK_OVERLAP"),
    ];
    for (key, name) in numbers {
        if let Some(number) = given.number(name) {
            given.put(&format!("{at}.{key}"), json!(number));
        }
    }
}

/// The record, and beside it vectors and users. Returns whether the record is on a server.
fn add_store(given: &mut Given) -> bool {
    let name = if given.peek("GRAPH_DB_BACKEND").is_some() { "GRAPH_DB_BACKEND" } else { "NEO4J_BACKEND" };
    let Some(backend) = given.text(name) else { return false };
    if !["neo4j", "neo4j-community"].contains(&backend.as_str()) {
        given.warn(format!(
            "{name} has no effect: memories are not kept in `{backend}` but in the embedded store; the servers that \
             can hold them are neo4j and neo4j-community"
        ));
        return false;
    }
    given.put("store.backend", json!(backend));
    if !given.put_text("store.config.uri", "NEO4J_URI") {
        given.put("store.config.uri", json!("bolt://localhost:7687"));
    }
    given.put_text("store.config.user", "NEO4J_USER");
    given.put_text("store.config.password", "NEO4J_PASSWORD");
    given.put_text("store.config.db_name", "NEO4J_DB_NAME");
    if backend == "neo4j-community" {
        add_qdrant(given);
    }
    add_users(given);
    true
}

fn add_qdrant(given: &mut Given) {
    let at = "store.config.vec_config";
    given.put(&format!("{at}.backend"), json!("qdrant"));
    given.put(&format!("{at}.config.collection_name"), json!(COLLECTION));
    let places = ["QDRANT_URL", "QDRANT_HOST", "QDRANT_PATH"];
    if !given.has_any(&places) {
        given.put(&format!("{at}.config.host"), json!("localhost"));
    }
    let keys = [
        ("url", "QDRANT_URL"),
        ("host", "QDRANT_HOST"),
        ("port", "QDRANT_PORT"),
        ("path", "QDRANT_PATH"),
        ("api_key", "QDRANT_API_KEY"),
    ];
    for (key, name) in keys {
        given.put_text(&format!("{at}.config.{key}"), name);
    }
}

/// Users of a record on a server are in PostgreSQL.
fn add_users(given: &mut Given) {
    if given.peek("POSTGRES_HOST").is_none() {
        return;
    }
    given.put("user_manager.backend", json!("postgres"));
    let keys = [
        ("host", "POSTGRES_HOST"),
        ("port", "POSTGRES_PORT"),
        ("username", "POSTGRES_USER"),
        ("password", "POSTGRES_PASSWORD"),
        ("database", "POSTGRES_DB"),
        ("schema_name", "MEMOS_SCHEMA"),
    ];
    for (key, name) in keys {
        given.put_text(&format!("user_manager.config.{key}"), name);
    }
}

fn add_reranker(given: &mut Given) {
    let has_address = given.peek("MOS_RERANKER_URL").is_some();
    let backend = given.peek("MOS_RERANKER_BACKEND").map(|text| text.trim().to_owned());
    let backend = match backend {
        Some(backend) if backend.starts_with("http_bge") && !has_address => {
            given.told.insert("MOS_RERANKER_BACKEND");
            given
                .warn("MOS_RERANKER_BACKEND has no effect: set MOS_RERANKER_URL, the address of its server".to_owned());
            return;
        }
        Some(backend) => backend,
        None if has_address => "http_bge".to_owned(),
        None => return,
    };
    if !given.put_text("reranker.backend", "MOS_RERANKER_BACKEND") {
        given.put("reranker.backend", json!(backend));
    }
    if !backend.starts_with("http_bge") {
        return;
    }
    let keys = [
        ("url", "MOS_RERANKER_URL"),
        ("model", "MOS_RERANKER_MODEL"),
        ("headers_extra", "MOS_RERANKER_HEADERS_EXTRA"),
        ("reranker_strategy", "MOS_RERANKER_STRATEGY"),
        ("max_query_tokens", "MOS_RERANKER_MAX_TOKENS"),
        ("concate_len", "MOS_RERANKER_CONCAT_LEN"),
        ("rerank_source", "MOS_RERANK_SOURCE"),
    ];
    for (key, name) in keys {
        given.put_text(&format!("reranker.config.{key}"), name);
    }
}

fn add_internet(given: &mut Given) {
    if given.boolean("ENABLE_INTERNET") != Some(true) {
        return;
    }
    let named = given.text("INTERNET_SEARCH_BACKEND");
    let backend = named.unwrap_or_else(|| {
        let only_tavily = given.peek("TAVILY_API_KEY").is_some() && given.peek("BOCHA_API_KEY").is_none();
        if only_tavily { "tavily" } else { "bocha" }.to_owned()
    });
    let key = match backend.as_str() {
        "bocha" => "BOCHA_API_KEY",
        "tavily" => "TAVILY_API_KEY",
        other => {
            given.warn(format!(
                "INTERNET_SEARCH_BACKEND has no effect: `{other}` is not bocha or tavily; name another retriever as \
                 internet_retriever in the settings"
            ));
            return;
        }
    };
    if !given.put_text("internet_retriever.config.api_key", key) {
        given.warn(format!("ENABLE_INTERNET has no effect: set {key}, the key of the account"));
        return;
    }
    given.put("internet_retriever.backend", json!(backend));
    if backend == "tavily" {
        given.put_text("internet_retriever.config.search_depth", "TAVILY_SEARCH_DEPTH");
        given.put_text("internet_retriever.config.include_answer", "TAVILY_INCLUDE_ANSWER");
    }
}

/// MemOS' reflection over memories is a plugin of it; here the scheduler does it.
const DREAM: &str = "dream";

/// Plugins; returns whether `dream` is among those that are on.
fn add_plugins(given: &mut Given) -> bool {
    let (mut enabled, mut disabled) = (given.texts("MEMOS_ENABLED_PLUGINS"), given.texts("MEMOS_DISABLED_PLUGINS"));
    let dreams = enabled.iter().any(|name| name == DREAM) && !disabled.iter().any(|name| name == DREAM);
    for names in [&mut enabled, &mut disabled] {
        names.retain(|name| name != DREAM);
    }
    if !enabled.is_empty() || !disabled.is_empty() {
        given.put("plugins", json!({"enabled": enabled, "disabled": disabled}));
    }
    dreams
}

fn add_scheduler(given: &mut Given, purpose: Purpose, is_server: bool) {
    let dreams = add_plugins(given);
    let background = given.boolean("API_SCHEDULER_ON");
    let is_on = background.or((purpose == Purpose::Service).then_some(true));
    if let Some(is_on) = is_on {
        given.put("enable_mem_scheduler", Value::from(is_on));
    }
    let is_named = |name: &String| name.starts_with("MOS_SCHEDULER_") || name.starts_with("MEMSCHEDULER_RABBITMQ_");
    if dreams || given.set.keys().any(is_named) {
        given.put("mem_scheduler", json!({"backend": "general_scheduler", "config": {}}));
    }
    if dreams {
        given.put("mem_scheduler.config.enable_dream", Value::from(true));
    }
    if !is_server {
        return;
    }
    if given.boolean("MEMSCHEDULER_USE_REDIS_QUEUE") != Some(true) {
        given.put("queue", json!({"backend": "memory", "config": {}}));
        given.warn(
            "work in the background is forgotten when this process ends: set MEMSCHEDULER_USE_REDIS_QUEUE=true and \
             MEMSCHEDULER_REDIS_HOST, so that it is kept"
                .to_owned(),
        );
        return;
    }
    given.put("queue", json!({"backend": "redis", "config": {}}));
    let keys = [
        ("host", "MEMSCHEDULER_REDIS_HOST"),
        ("port", "MEMSCHEDULER_REDIS_PORT"),
        ("db", "MEMSCHEDULER_REDIS_DB"),
        ("password", "MEMSCHEDULER_REDIS_PASSWORD"),
    ];
    for (key, name) in keys {
        given.put_text(&format!("queue.config.{key}"), name);
    }
}
