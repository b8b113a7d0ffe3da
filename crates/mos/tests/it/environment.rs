//! Installations from the environment alone.

use std::sync::Arc;

use mos::config::ChatModelConfig;
use mos::environment::{Environment, Purpose};
use mos::product::App;
use mos::{Add, Chat, Mos, Search};
use mos_core::UserId;
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{ModelServer, Reply};

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(purpose: Purpose, pairs: &[(&str, &str)]) -> Environment {
    Environment::read(purpose, variables(pairs)).unwrap()
}

#[tokio::test]
async fn with_nothing_but_a_folder_everything_is_in_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let environment = read(Purpose::Library, &[("MOS_DATA_DIR", &path)]);
    assert_eq!(environment.warnings, Vec::<String>::new());
    assert_eq!(environment.settings.chat_model.backend(), "local");
    // No model is loaded before it is needed.
    let mos = Mos::from_environment(&environment).await.unwrap();
    let root = UserId::from("root");
    assert_eq!(mos.default_cube(&root).await.unwrap().as_str(), "cube_root");
    assert!(mos.cube(&root, &"cube_root".into()).await.unwrap().info().is_registered);
    assert_eq!(mos.data_dir(), folder.path());
    assert!(mos.scheduler().is_none());
    drop(mos);
    let again = Mos::from_environment(&environment).await.unwrap();
    assert_eq!(again.list_cubes(&root).await.unwrap().len(), 1, "the cube is made once");
}

#[tokio::test]
async fn a_key_of_openai_chooses_its_model_which_then_answers() {
    let server = ModelServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let environment = read(
        Purpose::Library,
        &[
            ("MEMOS_BASE_PATH", &path),
            ("MOS_USER_ID", "ann"),
            ("OPENAI_API_KEY", "sk-secret"),
            ("OPENAI_API_BASE", &server.openai_url()),
        ],
    );
    let ChatModelConfig::OpenAi(model) = &environment.settings.chat_model else { panic!("{environment:?}") };
    assert_eq!(model.common.model_name_or_path, "gpt-4o-mini");
    assert!(!format!("{environment:?}").contains("sk-secret"), "secrets are masked");
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = environment.builder().embedder(embedder).build().await.unwrap();
    assert_eq!(environment.ensure_cube(&mos).await.unwrap().as_str(), "cube_ann");
    assert_eq!(mos.data_dir(), folder.path().join(".memos"));
    mos.add(Add::text("my dog is called Max")).await.unwrap();
    assert_eq!(mos.search(Search::new("dog")).await.unwrap().best().len(), 1);
    server.reply(Reply::text("Max."));
    assert_eq!(mos.chat(Chat::new("what is my dog called?")).await.unwrap().complete().await.unwrap().0, "Max.");
    let asked = server.requests().remove(0);
    assert_eq!(asked.body["model"], "gpt-4o-mini");
    assert_eq!(asked.header("authorization"), Some("Bearer sk-secret"));
}

#[tokio::test]
async fn the_product_api_has_work_in_the_background_and_answers_chats_unless_it_is_told_not_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let data = ("MOS_DATA_DIR", path.as_str());
    let app = App::from_environment(&read(Purpose::Service, &[data])).await.unwrap();
    assert!(app.options().chats && !app.options().is_open && app.options().cube_config.is_none());
    assert!(app.mos().scheduler().is_some_and(|scheduler| scheduler.is_running()));
    app.stop().await;
    drop(app);
    let names = [
        data,
        ("ENABLE_CHAT_API", "false"),
        ("API_SCHEDULER_ON", "false"),
        ("BUSINESS_CHAT_KEYS", r#"["k-secret"]"#),
        ("MOS_WORKING_MEMORY", "7"),
        ("MEMOS_ENABLED_PLUGINS", "dream"),
        ("MEMOS_DISABLED_PLUGINS", "one, two"),
        ("CHAT_MODEL_LIST", r#"[{"api_key": "k-secret", "model_name_or_path": "gpt"}]"#),
    ];
    let environment = read(Purpose::Service, &names);
    assert_eq!(environment.settings.plugins.disabled, ["one", "two"]);
    let scheduler = environment.settings.mem_scheduler.as_ref().unwrap().settings();
    assert_eq!(scheduler.enable_dream, Some(true), "what is a plugin of MemOS is a part of the scheduler");
    assert!(!format!("{environment:?}").contains("k-secret"));
    let app = App::from_environment(&environment).await.unwrap();
    assert!(!app.options().chats && app.mos().scheduler().is_none());
    assert_eq!(app.options().chat_models[0].0, "gpt");
    assert_eq!(app.options().business_chat_keys[0].expose(), "k-secret");
    let cube = app.options().cube_config.clone().unwrap();
    assert_eq!((cube.text_mem.backend(), cube.pref_mem.backend()), ("tree_text", "pref_text"));
}

#[tokio::test]
async fn a_default_cube_is_what_the_environment_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let names = [("MOS_DATA_DIR", path.as_str()), ("MOS_TEXT_MEM_TYPE", "tree_text"), ("MOS_WORKING_MEMORY", "7")];
    let environment = read(Purpose::Library, &names);
    assert_eq!(environment.warnings, Vec::<String>::new());
    let mos = Mos::from_environment(&environment).await.unwrap();
    let cube = mos.cube(&"root".into(), &"cube_root".into()).await.unwrap();
    let config = &cube.info().config;
    assert_eq!(config["text_mem"]["backend"], "tree_text");
    assert_eq!(config["text_mem"]["config"]["memory_size"]["WorkingMemory"], 7);
    assert_eq!(config["user_id"], "root");
}

#[test]
fn a_settings_file_wins_and_what_is_wrong_names_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.yaml");
    std::fs::write(&file, "chat_model: {backend: ollama, config: {model_name_or_path: own}}\n").unwrap();
    let path = file.display().to_string();
    let environment = read(Purpose::Library, &[("MOS_CONFIG", &path), ("OPENAI_API_KEY", "sk-x")]);
    assert_eq!(environment.settings.chat_model.backend(), "ollama");
    let wrong = [("GRAPH_DB_BACKEND", "neo4j"), ("NEO4J_PASSWORD", "pw-secret"), ("NEO4J_URI", "")];
    assert_eq!(read(Purpose::Library, &wrong).settings.store.backend(), "neo4j");
    let error = Environment::read(Purpose::Service, variables(&[("MOS_WORKING_MEMORY", "many")])).unwrap_err();
    assert!(error.to_string().contains("MOS_WORKING_MEMORY"), "{error}");
}
