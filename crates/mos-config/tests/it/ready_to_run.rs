//! The files in `configs/` load, and the first one says what the defaults are.

use mos_config::{
    ChatModelConfig, EmbedderConfig, Secrets, Setting, Settings, StoreConfig, UserManagerConfig, VectorStoreConfig,
};

use serde_json::json;

use crate::{environment, repository};

#[test]
fn embedded_is_what_runs_without_settings() {
    let loaded = Settings::load(Some(&repository("configs/embedded.yaml")), []).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn openai_takes_its_key_from_the_environment() {
    let path = repository("configs/openai.yaml");
    assert!(Settings::load(Some(&path), []).unwrap_err().to_string().contains("chat_model.config.api_key: is missing"));
    let settings = Settings::load(Some(&path), environment(&[("OPENAI_API_KEY", "sk-1")])).unwrap().settings;
    let (ChatModelConfig::OpenAi(chat), EmbedderConfig::OpenAi(embedder)) = (settings.chat_model, settings.embedder)
    else {
        panic!("both are remote");
    };
    assert_eq!((chat.api_key.expose(), embedder.api_key.unwrap().expose().len()), ("sk-1", 4));
}

#[test]
fn ollama_needs_no_key() {
    let settings = Settings::load(Some(&repository("configs/ollama.yaml")), []).unwrap().settings;
    assert_eq!((settings.chat_model.backend(), settings.embedder.backend()), ("ollama", "ollama"));
}

#[test]
fn memory_scheduling_needs_nothing_and_promotes() {
    let loaded = Settings::load(Some(&repository("configs/memory-scheduling.yaml")), []).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let scheduler = loaded.settings.mem_scheduler.as_ref().unwrap();
    assert!(loaded.settings.enable_mem_scheduler && loaded.settings.enable_activation_memory);
    assert!(scheduler.settings().enable_activation_memory && !scheduler.is_optimized());
}

#[test]
fn hybrid_has_a_tree_and_activation_memory() {
    let loaded = Settings::load(Some(&repository("configs/hybrid.json")), []).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let settings = &loaded.settings;
    assert_eq!((settings.text_memory().backend(), settings.chat_model.backend()), ("tree_text", "local"));
    assert!(settings.enable_textual_memory && settings.enable_activation_memory && !settings.enable_mem_scheduler);
}

#[test]
fn multi_user_scheduling_needs_nothing_and_promotes() {
    let loaded = Settings::load(Some(&repository("configs/multi-user-scheduling.yaml")), []).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let settings = &loaded.settings;
    assert!(settings.enable_mem_scheduler && settings.enable_activation_memory);
    assert!(settings.mem_scheduler.as_ref().unwrap().settings().enable_activation_memory);
    assert_eq!(settings.text_memory().backend(), "tree_text");
}

#[test]
fn servers_take_their_addresses_from_the_environment() {
    let path = repository("configs/servers.yaml");
    let variables = [
        ("DATABASE_URL", "postgres://mos:geheim@db/mos"),
        ("NEO4J_URI", "bolt://graph:7687"),
        ("NEO4J_PASSWORD", "streng geheim"),
    ];
    let loaded = Settings::load(Some(&path), environment(&variables)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let StoreConfig::Neo4j(store) = &loaded.settings.store else { panic!("memories are in Neo4j") };
    assert_eq!((store.uri.as_str(), store.user.as_str()), ("bolt://graph:7687", "neo4j"));
    assert_eq!(store.password.expose(), "streng geheim");
    assert!(!format!("{:?} {}", loaded.settings, loaded.settings.to_json(Secrets::Masked)).contains("geheim"));
}

#[test]
fn vectors_on_a_server_take_their_address_from_the_environment() {
    let path = repository("configs/neo4j-and-qdrant.yaml");
    let variables = [
        ("DATABASE_URL", "postgres://mos:geheim@db/mos"),
        ("NEO4J_URI", "bolt://graph:7687"),
        ("NEO4J_PASSWORD", "streng geheim"),
        ("QDRANT_URL", "http://vectors:6334"),
        ("QDRANT_API_KEY", "ganz geheim"),
    ];
    let loaded = Settings::load(Some(&path), environment(&variables)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.settings.store.backend(), "neo4j");
    let VectorStoreConfig::Qdrant(vectors) = &loaded.settings.vectors else { panic!("vectors are in Qdrant") };
    assert_eq!(vectors.url.as_deref(), Some("http://vectors:6334"));
    assert_eq!(vectors.api_key.as_ref().unwrap().expose(), "ganz geheim");
    assert!(!format!("{:?} {}", loaded.settings, loaded.settings.to_json(Secrets::Masked)).contains("geheim"));
    assert!(loaded.settings.to_mos_config(Secrets::Masked).get("vectors").is_none(), "MemOS does not know it");
}

#[test]
fn neo4j_community_says_where_its_vectors_are() {
    let vectors = json!({"backend": "qdrant", "config": {"collection_name": "x", "host": "localhost", "port": 6333}});
    let store = |extra: serde_json::Value| {
        let mut config = json!({"uri": "bolt://graph:7687", "password": "x", "vec_config": vectors});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"backend": "neo4j-community", "config": config})
    };
    let settings = Settings::from_json(&json!({"store": store(json!({}))})).unwrap();
    let StoreConfig::Neo4jCommunity(community) = &settings.store else { panic!("it is Neo4j's community edition") };
    assert_eq!((community.neo4j.user.as_str(), community.vec_config.backend()), ("neo4j", "qdrant"));
    assert_eq!(Settings::from_json(&settings.to_json(Secrets::Plain)).unwrap(), settings);
    let own = json!({"own_database": true, "db_name": "ours"});
    let error = Settings::from_json(&json!({"store": store(own)})).unwrap_err().to_string();
    assert!(error.contains("Enterprise"), "{error}");
    let twice = json!({"store": store(json!({})), "vectors": vectors});
    let error = Settings::from_json(&twice).unwrap_err().to_string();
    assert!(error.contains("vec_config"), "{error}");
}

#[test]
fn users_in_postgres_take_their_address_from_the_environment() {
    let path = repository("configs/users-in-postgres.yaml");
    let error = Settings::load(Some(&path), []).unwrap_err().to_string();
    let expected = "user_manager.config.url: names the environment variable DATABASE_URL, which is not set";
    assert!(error.ends_with(expected), "{error}");
    let address = "postgres://mos:geheim@db/mos";
    let loaded = Settings::load(Some(&path), environment(&[("DATABASE_URL", address)])).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let UserManagerConfig::Postgres(users) = &loaded.settings.user_manager else { panic!("users are in PostgreSQL") };
    assert_eq!(users.url.as_ref().unwrap().expose(), address);
    assert_eq!(users.schema_name.as_deref(), Some("mos"));
    assert!(!format!("{:?} {}", loaded.settings, loaded.settings.to_json(Secrets::Masked)).contains("geheim"));
    assert_eq!(
        loaded.settings.to_mos_config(Secrets::Masked)["user_manager"]["backend"],
        "sqlite",
        "MemOS knows no other"
    );
}

/// Variables of servers, as files name them.
fn servers() -> Vec<(String, String)> {
    environment(&[
        ("DATABASE_URL", "postgres://mos:geheim@db/mos"),
        ("NEO4J_URI", "bolt://graph:7687"),
        ("NEO4J_PASSWORD", "streng geheim"),
        ("QDRANT_URL", "http://vectors:6334"),
        ("QDRANT_API_KEY", "ganz geheim"),
        ("REDIS_URL", "redis://:geheim@queue:6379/0"),
        ("OPENAI_API_KEY", "sk-geheim"),
    ])
}

#[test]
fn every_file_loads_and_is_documented() {
    let documentation = mos_config::settings_markdown();
    let files = [
        "embedded",
        "local-chatbot",
        "openai",
        "ollama",
        "vllm",
        "users-in-postgres",
        "servers",
        "neo4j-and-qdrant",
        "saas",
        "full",
    ];
    for name in files {
        let file = format!("configs/{name}.yaml");
        assert!(documentation.contains(&format!("(../{file})")), "{name} is not documented");
        let loaded = Settings::load(Some(&repository(&file)), servers()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{name}");
        let shown = format!("{:?} {}", loaded.settings, loaded.settings.to_json(Secrets::Masked));
        assert!(!shown.contains("geheim"), "{name}");
        let again = Settings::from_json(&loaded.settings.to_json(Secrets::Plain)).unwrap();
        assert_eq!(again, loaded.settings, "{name}");
    }
}

#[test]
fn a_service_has_all_four_servers_and_says_which_address_is_missing() {
    let path = repository("configs/saas.yaml");
    let settings = Settings::load(Some(&path), servers()).unwrap().settings;
    let queue = settings.queue.as_ref().map(mos_config::QueueConfig::backend);
    let parts = (settings.store.backend(), settings.vectors.backend(), queue, settings.user_manager.backend());
    assert_eq!(parts, ("neo4j", "qdrant", Some("redis"), "postgres"));
    for missing in ["NEO4J_URI", "NEO4J_PASSWORD", "QDRANT_URL", "REDIS_URL", "DATABASE_URL"] {
        let others = servers().into_iter().filter(|(name, _)| name != missing);
        let error = Settings::load(Some(&path), others).unwrap_err().to_string();
        assert!(error.contains(&format!("names the environment variable {missing}, which is not set")), "{error}");
    }
}

#[test]
fn the_full_cube_is_a_tree_with_vectors_on_a_server_and_kept_state() {
    let settings = Settings::load(Some(&repository("configs/full.yaml")), servers()).unwrap().settings;
    assert_eq!((settings.store.backend(), settings.vectors.backend()), ("neo4j", "qdrant"));
    assert_eq!(settings.text_memory().backend(), "tree_text");
    assert!(settings.enable_activation_memory && settings.chat_model.backend() == "local");
}

#[test]
fn vllm_and_the_local_chatbot_need_nothing_but_their_model() {
    let vllm = Settings::load(Some(&repository("configs/vllm.yaml")), []).unwrap().settings;
    assert_eq!((vllm.chat_model.backend(), vllm.embedder.backend()), ("vllm", "local"));
    let chatbot = Settings::load(Some(&repository("configs/local-chatbot.yaml")), []).unwrap().settings;
    assert_eq!(chatbot.chat_model.backend(), "local");
    assert!(chatbot.base_prompt.unwrap().contains("{memories}"));
}

#[test]
fn the_documentation_of_the_settings_is_up_to_date() {
    let path = repository("docs/configuration.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(written == mos_config::settings_markdown(), "{} is out of date; run `cargo xtask docs`", path.display());
}
