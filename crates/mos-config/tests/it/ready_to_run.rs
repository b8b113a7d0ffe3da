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
