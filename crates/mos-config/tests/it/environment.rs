//! The environment over the file over the defaults.

use std::fs;

use mos_config::{
    ChatModelConfig, EmbedderConfig, Secrets, Settings, UserManagerConfig, VARIABLES, VariableUse, process_environment,
};

use crate::environment;

fn load(pairs: &[(&str, &str)]) -> Settings {
    let loaded = Settings::load(None, environment(pairs)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    loaded.settings
}

#[test]
fn texts_become_the_type_that_is_expected() {
    let settings = load(&[
        ("MOS_USER_ID", "42"),
        ("MOS_TOP_K", "7"),
        ("MOS_DATA_DIR", "/data"),
        ("MOS__PRO_MODE", "true"),
        ("MOS__CHAT_MODEL__CONFIG__TEMPERATURE", "1"),
        ("MOS__CHAT_MODEL__CONFIG__STOP", r#"["END"]"#),
        ("MOS_BASE_PROMPT", ""),
    ]);
    assert_eq!((settings.user_id.as_str(), settings.top_k, settings.pro_mode), ("42", 7, true));
    assert_eq!(settings.data_dir.unwrap().to_str(), Some("/data"));
    assert_eq!(settings.base_prompt, None, "an empty variable counts as unset");
    let ChatModelConfig::Local(model) = settings.chat_model else { panic!("still the default backend") };
    assert_eq!(
        (model.temperature, model.stop, model.model_name_or_path.as_str()),
        (1.0, vec!["END".to_owned()], "smollm2-135m-instruct")
    );
}

#[test]
fn nested_names_win_over_flat_names_and_both_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    fs::write(&path, "top_k: 3\nmax_turns_window: 4\nuser_id: file\n").unwrap();
    let pairs = [("MOS_TOP_K", "6"), ("MOS__TOP_K", "9"), ("MOS_MAX_TURNS_WINDOW", "8")];
    let settings = Settings::load(Some(&path), environment(&pairs)).unwrap().settings;
    assert_eq!((settings.top_k, settings.max_turns_window, settings.user_id.as_str()), (9, 8, "file"));
}

#[test]
fn a_file_that_is_read_alone_is_set_by_nothing_but_what_it_refers_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    fs::write(&path, "top_k: 3\nuser_id: ${WHO}\n").unwrap();
    let pairs = [("MOS_TOP_K", "6"), ("MOS__USER_ID", "nested"), ("MOS_DATA_DIR", "/data"), ("WHO", "ann")];
    let settings = Settings::load_alone(&path, environment(&pairs)).unwrap().settings;
    assert_eq!((settings.top_k, settings.user_id.as_str(), settings.data_dir), (3, "ann", None));
    assert!(Settings::load_alone(&path, []).unwrap_err().to_string().contains("WHO"), "it must be set");
}

#[test]
fn the_names_of_memos_choose_remote_models() {
    let settings = load(&[
        ("MOS_CHAT_MODEL_PROVIDER", "openai"),
        ("MOS_CHAT_MODEL", "gpt-4o-mini"),
        ("OPENAI_API_KEY", "sk-chat"),
        ("OPENAI_API_BASE", "http://gateway/v1"),
        ("MOS_EMBEDDER_BACKEND", "universal_api"),
        ("MOS_EMBEDDER_PROVIDER", "openai"),
        ("MOS_EMBEDDER_MODEL", "text-embedding-3-large"),
        ("MOS_EMBEDDER_API_BASE", "http://embed/v1"),
        ("MOS_EMBEDDER_HEADERS_EXTRA", r#"{"x-team": "a"}"#),
        ("EMBEDDING_DIMENSION", "1024"),
    ]);
    let ChatModelConfig::OpenAi(chat) = settings.chat_model else { panic!("{:?}", settings.chat_model) };
    assert_eq!((chat.api_key.expose(), chat.api_base.as_str()), ("sk-chat", "http://gateway/v1"));
    let EmbedderConfig::UniversalApi(embedder) = settings.embedder else { panic!("{:?}", settings.embedder) };
    assert_eq!((embedder.api_key.expose(), embedder.base_url.as_deref()), ("sk-chat", Some("http://embed/v1")));
    assert_eq!(embedder.common.embedding_dims, Some(1024));
    assert_eq!(embedder.common.headers_extra.unwrap().0["x-team"].expose(), "a");
}

#[test]
fn a_key_in_the_file_wins_over_a_variable_that_only_fills_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.json");
    fs::write(
        &path,
        r#"{"chat_model": {"backend": "openai", "config": {"model_name_or_path": "m", "api_key": "of-the-file"}}}"#,
    )
    .unwrap();
    let settings = Settings::load(Some(&path), environment(&[("OPENAI_API_KEY", "ambient")])).unwrap().settings;
    let ChatModelConfig::OpenAi(chat) = settings.chat_model else { panic!("{:?}", settings.chat_model) };
    assert_eq!(chat.api_key.expose(), "of-the-file");
}

#[test]
fn a_key_in_the_environment_alone_changes_nothing() {
    assert_eq!(load(&[("OPENAI_API_KEY", "sk-ambient"), ("PATH", "/bin")]), Settings::default());
}

#[test]
fn unknown_and_useless_names_are_told() {
    let pairs = [
        ("MOS_TOPK", "5"),
        ("MOS_EMBEDDER_API_KEY", "k"),
        ("MOS_WORKING_MEMORY", "20"),
        ("MOS_SCHEDULER_TOP_K", "3"),
        ("MOS_TEST_LONG", "1"),
        ("MOS_KEY", "mk_0"),
    ];
    let warnings = Settings::load(None, environment(&pairs)).unwrap().warnings.join("\n");
    for expected in [
        "MOS_TOPK is not known and has no effect; did you mean MOS_TOP_K?",
        "MOS_EMBEDDER_API_KEY has no effect: the backend of embedder is `local`",
        "MOS_WORKING_MEMORY has no effect",
        "MOS_SCHEDULER_TOP_K has no effect: the backend of mem_scheduler is none",
    ] {
        assert!(warnings.contains(expected), "{expected}\n--\n{warnings}");
    }
    assert!(!warnings.contains("MOS_TEST_LONG") && !warnings.contains("MOS_KEY"), "{warnings}");
}

#[test]
fn the_broker_of_events_is_named_as_in_memos() {
    let settings = load(&[
        ("MOS__MEM_SCHEDULER__BACKEND", "optimized_scheduler"),
        ("MEMSCHEDULER_RABBITMQ_HOST_NAME", "broker"),
        ("MEMSCHEDULER_RABBITMQ_PORT", "5673"),
        ("MEMSCHEDULER_RABBITMQ_PASSWORD", "secret"),
        ("MEMSCHEDULER_RABBITMQ_ERASE_ON_CONNECT", "true"),
    ]);
    let scheduler = settings.mem_scheduler.unwrap();
    let rabbitmq = scheduler.settings().common.rabbitmq.as_ref().unwrap();
    assert_eq!((rabbitmq.host_name.as_deref(), rabbitmq.port), (Some("broker"), Some(5673)));
    assert_eq!(rabbitmq.password.as_ref().unwrap().expose(), "secret");
}

/// Loads one variable next to a choice of backends and returns what is said about it.
fn said(part: &str, backend: &str, name: &str) -> String {
    let choice = format!("MOS__{}__BACKEND", part.to_uppercase());
    match Settings::load(None, environment(&[(&choice, backend), (name, "1")])) {
        Ok(loaded) => loaded.warnings.join("\n"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_name_of_the_table_leads_to_a_key_that_exists() {
    let mut names: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice");
    for variable in VARIABLES {
        let said = match variable.usage {
            VariableUse::Sets(_) => said("store", "memory", variable.name),
            VariableUse::SetsFor { part, keys } => {
                keys.iter().map(|(backend, _)| said(part, backend, variable.name)).collect()
            }
            VariableUse::Fills(keys) => keys
                .iter()
                .flat_map(|(backend, _)| {
                    let parts = [
                        ("chat_model", ChatModelConfig::KEYS),
                        ("embedder", EmbedderConfig::KEYS),
                        ("user_manager", UserManagerConfig::KEYS),
                    ];
                    parts.into_iter().filter(|(_, known)| known.contains(backend)).map(|(part, _)| (part, *backend))
                })
                .map(|(part, backend)| said(part, backend, variable.name))
                .collect(),
            VariableUse::Program | VariableUse::Unused(_) => continue,
        };
        assert!(!said.contains("unknown key") && !said.contains("no effect"), "{}: {said}", variable.name);
    }
}

#[test]
#[allow(clippy::result_large_err, reason = "the shape of figment's jail")]
fn the_environment_of_the_process_is_read() {
    figment::Jail::expect_with(|jail| {
        jail.set_env("MOS_USER_ID", "ann");
        jail.create_file("settings.json", r#"{"top_k": 2}"#)?;
        let loaded = Settings::load(Some("settings.json".as_ref()), process_environment()).unwrap();
        assert_eq!((loaded.settings.user_id.as_str(), loaded.settings.top_k), ("ann", 2));
        Ok(())
    });
}

#[test]
fn the_server_hears_memos_names() {
    let settings = load(&[
        ("CORS_ORIGINS", "https://app.example.com, http://localhost:3000"),
        ("RATE_LIMIT_ENABLED", "false"),
        ("RATE_LIMIT", "100"),
        ("RATE_WINDOW_SEC", "30"),
        ("MOS__SERVER__ALLOWED_HOSTS", r#"["mos.example.com"]"#),
    ]);
    assert_eq!(settings.server.cors_origins, ["https://app.example.com", "http://localhost:3000"]);
    let limit = &settings.server.rate_limit;
    assert_eq!((limit.enabled, limit.requests, limit.window_seconds), (false, 100, 30));
    assert_eq!(settings.server.allowed_hosts, ["mos.example.com"]);
    assert!(settings.to_mos_config(Secrets::Plain).get("server").is_none(), "MemOS knows no such key");
}
