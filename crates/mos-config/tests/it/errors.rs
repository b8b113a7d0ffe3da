//! What is said about values that are refused.

use std::fs;

use mos_config::{ConfigError, GeneralMemCubeConfig, GraphStoreConfig, Setting, Settings, backends};
use serde_json::{Value, json};

use crate::environment;

fn load(name: &str, text: &str, pairs: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let place = folder.path().display().to_string();
    Settings::load(Some(&path), environment(pairs))
        .map(|loaded| loaded.settings)
        .map_err(|error| error.to_string().replace(&place, "DIR"))
}

#[test]
fn an_unknown_key_is_named_with_its_path_its_file_and_what_was_meant() {
    let text = r#"{"chat_model": {"backend": "local", "config": {"temperatur": 1}}}"#;
    insta::assert_snapshot!(load("a.json", text, &[]).unwrap_err(), @"DIR/a.json: chat_model.config.temperatur: unknown key `temperatur`; did you mean `temperature`? (allowed: model_name_or_path, threads, device, context_length, temperature, top_p, top_k, seed, max_tokens, stop, remove_think_prefix, kept_state_bytes)");
}

#[test]
fn types_are_strict_in_files() {
    insta::assert_snapshot!(load("a.json", r#"{"top_k": "5", "PRO_MODE": 1, "user_id": 7}"#, &[]).unwrap_err(), @r"
    DIR/a.json: user_id: expected a text, got a whole number
    DIR/a.json: top_k: expected a whole number that is not negative, got a text
    DIR/a.json: PRO_MODE: expected true or false, got a whole number
    ");
    insta::assert_snapshot!(load("a.yaml", "top_k: 2.5\nmax_turns_window: -1\n", &[]).unwrap_err(), @r"
    DIR/a.yaml: max_turns_window: expected a whole number that is not negative, got a whole number
    DIR/a.yaml: top_k: expected a whole number that is not negative, got a number with a fraction
    ");
}

#[test]
fn an_unknown_backend_is_answered_with_the_known_ones() {
    let text = "embedder:\n  backend: olama\n  config: {}\n";
    insta::assert_snapshot!(load("a.yaml", text, &[]).unwrap_err(), @"DIR/a.yaml: embedder.backend: unknown backend `olama`; did you mean `ollama`? (allowed: local, openai, ollama, sentence_transformer, universal_api, ark)");
}

#[test]
fn what_the_environment_got_wrong_names_the_variable() {
    let pairs = [("MOS_TOP_K", "many"), ("MOS__CHAT_MODEL__CONFIG__SED", "1")];
    insta::assert_snapshot!(load("a.json", "{}", &pairs).unwrap_err(), @"
    environment variable MOS__CHAT_MODEL__CONFIG__SED (chat_model.config.sed): unknown key `sed`; did you mean `seed`? (allowed: model_name_or_path, threads, device, context_length, temperature, top_p, top_k, seed, max_tokens, stop, remove_think_prefix, kept_state_bytes)
    environment variable MOS_TOP_K (top_k): expected a whole number that is not negative, got a text
    ");
}

#[test]
fn what_is_allowed_is_told_once_for_each_object() {
    let error = load("a.json", r#"{"chat_modle": {}, "tpo_k": 3, "server": {"lisen": "x"}}"#, &[]).unwrap_err();
    assert!(
        error.contains("`chat_modle`; did you mean `chat_model`?") && error.contains("did you mean `top_k`?"),
        "{error}"
    );
    assert_eq!((error.lines().count(), error.matches("(allowed: ").count()), (3, 2), "{error}");
}

#[test]
fn a_missing_key_is_named() {
    let text = r#"{"chat_model": {"backend": "openai", "config": {"model_name_or_path": "m"}}}"#;
    insta::assert_snapshot!(load("a.json", text, &[]).unwrap_err(), @"DIR/a.json: chat_model.config.api_key: is missing; write it here, or set OPENAI_API_KEY in the environment");
}

#[test]
fn files_that_are_no_configuration_are_told_apart() {
    assert!(load("a.toml", "", &[]).unwrap_err().contains("must end in .json, .yaml or .yml"));
    assert!(load("a.json", "{\"a\": ", &[]).unwrap_err().contains("is not valid JSON"));
    assert!(load("a.yaml", "a: [1\nb: 2", &[]).unwrap_err().contains("is not valid YAML"));
    assert!(load("a.json", "[1]", &[]).unwrap_err().contains("the document: expected an object, got a list"));
    assert_eq!(load("a.yaml", "# nothing\n", &[]).unwrap(), Settings::default());
    assert!(load("a.json", "", &[]).is_ok());
    let missing = Settings::load(Some("/nowhere/a.json".as_ref()), []).unwrap_err();
    assert!(matches!(missing, ConfigError::File { .. }) && missing.to_string().contains("/nowhere/a.json"));
}

#[test]
fn a_broken_file_never_shows_its_secrets() {
    for (name, text) in [
        ("a.yaml", "chat_model:\n  config:\n    api_key: sk-private\n   bad: indent\n"),
        ("a.json", r#"{"chat_model": {"backend": "openai", "config": {"api_key": "sk-private" "x": 1}}}"#),
        ("a.json", r#"{"chat_model": {"backend": "openai", "config": {"api_key": ["sk-private"]}}}"#),
    ] {
        let message = load(name, text, &[]).unwrap_err();
        assert!(!message.contains("private"), "{message}");
    }
}

fn cube_error(value: &Value) -> String {
    GeneralMemCubeConfig::from_json(value).unwrap_err().to_string()
}

#[test]
fn cubes_are_as_strict_as_those_of_memos() {
    insta::assert_snapshot!(cube_error(&json!({"text_mem": {"backend": "xx"}})), @"text_mem.backend: unknown backend `xx` (allowed: naive_text, general_text, tree_text, simple_tree_text, pref_text, kv_cache, vllm_kv_cache, lora, mem_feedback, uninitialized)");
    insta::assert_snapshot!(cube_error(&json!({"text_mem": {"backend": "kv_cache", "config": {}}})), @"text_mem.backend: `kv_cache` cannot be used here (allowed: naive_text, general_text, tree_text, uninitialized)");
    let llm = json!({"backend": "openai", "config": {"model_name_or_path": "m", "api_key": "k"}});
    insta::assert_snapshot!(cube_error(&json!({"act_mem": {"backend": "kv_cache", "config": {"extractor_llm": llm}}})), @"act_mem.config.extractor_llm.backend: `openai` cannot be used here: only a model that runs in this process shows its state (allowed: local, huggingface, huggingface_singleton)");
    let local = json!({"backend": "local", "config": {"model_name_or_path": "m"}});
    let cube = json!({"act_mem": {"backend": "kv_cache", "config": {"extractor_llm": local}}});
    assert!(GeneralMemCubeConfig::from_json(&cube).is_ok());
    assert!(
        cube_error(&json!({"text_mem": {"backend": "naive_text", "config": {"memory_filename": "../x"}}}))
            .contains("memory_filename: must be the plain name")
    );
}

#[test]
fn a_memory_about_which_nothing_is_said_is_none() {
    let cube = json!({"text_mem": {"backend": "naive_text", "config": {}}, "act_mem": {}, "para_mem": {}});
    let cube = GeneralMemCubeConfig::from_json(&cube).unwrap();
    let backends = [&cube.text_mem, &cube.act_mem, &cube.para_mem, &cube.pref_mem].map(|memory| memory.backend());
    assert_eq!(backends, ["naive_text", "uninitialized", "uninitialized", "uninitialized"]);
    for (slot, backend) in [("act_mem", "general_text"), ("para_mem", "kv_cache"), ("pref_mem", "naive_text")] {
        let mut wrong = json!({});
        wrong[slot] = json!({"backend": backend, "config": {}});
        assert!(cube_error(&wrong).contains(&format!("{slot}.backend: `{backend}` cannot be used here")), "{slot}");
    }
}

#[test]
fn a_shared_graph_needs_a_tenant() {
    let mut graph = json!({"backend": "neo4j", "config": {
        "uri": "u", "user": "n", "password": "p", "db_name": "d", "use_multi_db": false,
    }});
    insta::assert_snapshot!(GraphStoreConfig::from_json(&graph).unwrap_err().to_string(), @"config.user_name: must be set when use_multi_db is false: it keeps tenants of one database apart");
    graph["config"]["user_name"] = json!("alice");
    assert!(GraphStoreConfig::from_json(&graph).is_ok());
}

#[test]
fn ranges_are_checked() {
    let error = |key: &str, value: Value| {
        let config = json!({"backend": "general_scheduler", "config": {key: value}});
        mos_config::SchedulerConfig::from_json(&config).unwrap_err().problems()[0].path.clone()
    };
    assert_eq!(error("thread_pool_max_workers", json!(1)), "config.thread_pool_max_workers");
    assert_eq!(error("consume_interval_seconds", json!(0)), "config.consume_interval_seconds");
    for (key, value) in [
        ("scheduler_startup_mode", json!("fork")),
        ("max_attempts", json!(0)),
        ("search_method", json!("guess")),
        ("task_limit_seconds", json!(0)),
        ("query_trigger_interval", json!(-1)),
        ("working_mem_monitor_capacity", json!(0)),
    ] {
        assert_eq!(error(key, value), format!("config.{key}"));
    }
    assert!(load("a.yaml", "text_mem_type: graph\n", &[]).unwrap_err().contains("allowed: general_text"));
}

#[test]
fn a_scheduler_says_where_redis_is_and_passes_over_what_does_not() {
    let config = |redis: Value| {
        let config = json!({"backend": "general_scheduler", "config": {"redis_config": redis}});
        mos_config::SchedulerConfig::from_json(&config).unwrap().settings().common.redis()
    };
    let redis = config(json!({"host": "cache", "port": 6380, "db": 2, "password": "", "socket_timeout": 5})).unwrap();
    assert_eq!((redis.host.as_deref(), redis.port, redis.db), (Some("cache"), Some(6380), Some(2)));
    assert!(redis.password.is_none(), "an empty password is none");
    assert!(config(json!({"port": "many"})).unwrap_err().to_string().contains("port"));
}

#[test]
fn a_broker_of_events_is_named_once_and_with_words_that_are_known() {
    let broker = |rabbitmq: Value| {
        let config = json!({"backend": "general_scheduler", "config": {"rabbitmq": rabbitmq}});
        let read = mos_config::SchedulerConfig::from_json(&config);
        read.map(|scheduler| scheduler.settings().common.rabbitmq.clone().unwrap())
    };
    assert!(broker(json!({"host_name": "broker"})).unwrap().names_a_broker());
    assert!(broker(json!({"url": "amqp://broker"})).unwrap().names_a_broker());
    assert!(!broker(json!({"host_name": "", "port": 5672, "erase_on_connect": true})).unwrap().names_a_broker());
    let shown = format!("{:?}", broker(json!({"host_name": "b", "password": "hunter2"})).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let refused = |rabbitmq: Value| broker(rabbitmq).unwrap_err().problems()[0].path.clone();
    assert_eq!(refused(json!({"url": "amqp://broker", "port": 5672})), "config.rabbitmq.port");
    assert_eq!(refused(json!({"host_name": "b", "exchange_type": "topic"})), "config.rabbitmq.exchange_type");
    assert_eq!(refused(json!({"hostname": "b"})), "config.rabbitmq.hostname");
}

#[test]
fn the_table_of_backends_has_every_kind_once() {
    let table = backends();
    assert_eq!(table.len(), 16);
    for kind in &table {
        assert!(!kind.keys.is_empty(), "{}", kind.kind);
    }
    assert!(table.iter().any(|kind| kind.kind == "chat_model" && kind.keys.contains(&"huggingface_singleton")));
}

#[test]
fn the_address_of_the_queue_is_given_once_and_beside_a_store_that_needs_it() {
    let text = r#"{"store": {"backend": "neo4j", "config": {"uri": "bolt://db", "password": "x"}},
        "queue": {"backend": "redis", "config": {"url": "redis://db", "host": "db", "username": "ann", "prefix": "a:b"}}}"#;
    insta::assert_snapshot!(load("a.json", text, &[]).unwrap_err(), @r"
    DIR/a.json: queue.config.host: cannot be given beside url; write it into the url, or leave the url out
    DIR/a.json: queue.config.username: cannot be given beside url; write it into the url, or leave the url out
    DIR/a.json: queue.config.password: must be given with a username
    DIR/a.json: queue.config.prefix: must be letters, digits, `-`, `_` and `.`
    ");
    let beside_sqlite = r#"{"queue": {"backend": "redis", "config": {}}}"#;
    insta::assert_snapshot!(load("a.json", beside_sqlite, &[]).unwrap_err(), @"DIR/a.json: queue: must be `sqlite`, or be left out, with the store `sqlite`, which keeps jobs itself");
}

#[test]
fn the_address_of_users_is_given_once_and_in_known_words() {
    let text = r#"{"user_manager": {"backend": "postgres", "config": {
        "url": "${A}", "host": "db", "port": "${PORT}", "ssl_mode": "maybe", "max_connections": 0,
        "connection_wait_timeout": 0}}}"#;
    insta::assert_snapshot!(load("a.json", text, &[("A", "postgres://db/x"), ("PORT", "54a")]).unwrap_err(), @"environment variable PORT (user_manager.config.port): expected a whole number from 0 to 65535, got a text");
    insta::assert_snapshot!(load("a.json", text, &[("A", "postgres://db/x"), ("PORT", "5433")]).unwrap_err(), @r"
    DIR/a.json: user_manager.config.host: cannot be given beside url; write it into the url, or leave the url out
    environment variable PORT (user_manager.config.port): cannot be given beside url; write it into the url, or leave the url out
    DIR/a.json: user_manager.config.ssl_mode: cannot be given beside url; write it into the url, or leave the url out
    DIR/a.json: user_manager.config.ssl_mode: unknown mode `maybe` (allowed: disable, prefer, require, verify-ca, verify-full)
    DIR/a.json: user_manager.config.max_connections: must be at least 1
    DIR/a.json: user_manager.config.connection_wait_timeout: must be from 1 to 3600 seconds
    ");
}

#[test]
fn a_variable_that_settings_name_must_be_set() {
    let text = "user_id: ${WHO}\nbase_prompt: say ${WHO}\ntop_k: ${K}\n";
    insta::assert_snapshot!(load("a.yaml", text, &[("K", " ")]).unwrap_err(), @r"
    DIR/a.yaml: top_k: names the environment variable K, which is not set
    DIR/a.yaml: user_id: names the environment variable WHO, which is not set
    ");
    let settings = load("a.yaml", text, &[("WHO", "ann"), ("K", "7")]).unwrap();
    assert_eq!((settings.user_id.as_str(), settings.top_k), ("ann", 7));
    assert_eq!(settings.base_prompt.as_deref(), Some("say ${WHO}"), "only a whole text stands for a variable");
}
