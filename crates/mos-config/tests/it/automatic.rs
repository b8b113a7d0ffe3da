//! Whole installations from the environment, by MemOS' names.

use std::collections::BTreeSet;

use mos_config::{
    AUTOMATIC_VARIABLES, ChatModelConfig, EmbedderConfig, FromEnvironment, InternetRetrieverConfig, MemReaderConfig,
    MemoryConfig, Purpose, QueueConfig, RerankerConfig, Settings, StoreConfig, VARIABLES, VariableUse,
    VectorStoreConfig, from_environment,
};

use crate::{environment, repository};

fn read(purpose: Purpose, pairs: &[(&str, &str)]) -> FromEnvironment {
    from_environment(purpose, None, environment(pairs)).unwrap_or_else(|error| panic!("{error}"))
}

/// What is read without a warning.
fn read_well(pairs: &[(&str, &str)]) -> Settings {
    let said = read(Purpose::Library, pairs);
    assert_eq!(said.warnings, Vec::<String>::new());
    said.settings
}

#[test]
fn no_name_at_all_is_the_default_installation() {
    let said = read(Purpose::Library, &[("PATH", "/bin"), ("OPENAI_API_KEY", " ")]);
    assert_eq!((said.settings, said.warnings, said.cube_config), (Settings::default(), Vec::new(), None));
    assert_eq!(said.chats, None);
    let service = read(Purpose::Service, &[]);
    assert_eq!(service.settings, Settings { enable_mem_scheduler: true, ..Settings::default() });
}

#[test]
fn a_key_chooses_the_models_of_openai_unless_another_provider_is_named() {
    let ChatModelConfig::OpenAi(chat) = read_well(&[("OPENAI_API_KEY", "sk")]).chat_model else { panic!() };
    assert_eq!((chat.common.model_name_or_path.as_str(), chat.api_key.expose()), ("gpt-4o-mini", "sk"));
    let named = [("OPENAI_API_KEY", "sk"), ("MOS_CHAT_MODEL", "gpt-5"), ("MOS_CHAT_TEMPERATURE", "0.3")];
    let ChatModelConfig::OpenAi(chat) = read_well(&named).chat_model else { panic!() };
    assert_eq!((chat.common.model_name_or_path.as_str(), chat.common.temperature), ("gpt-5", 0.3));
    let other = [("OPENAI_API_KEY", "sk"), ("MOS_CHAT_MODEL_PROVIDER", "vllm"), ("MOS_CHAT_MODEL", "qwen")];
    assert_eq!(read_well(&other).chat_model.backend(), "vllm");
    let lacking = from_environment(Purpose::Library, None, environment(&[("MOS_CHAT_MODEL_PROVIDER", "openai")]));
    assert!(lacking.unwrap_err().to_string().contains("chat_model.config.api_key"));
}

#[test]
fn a_command_finds_the_same_stores_and_takes_no_key_for_a_choice_of_models() {
    let pairs = [
        ("OPENAI_API_KEY", "sk"),
        ("GRAPH_DB_BACKEND", "neo4j"),
        ("NEO4J_PASSWORD", "pw"),
        ("MEMOS_BASE_PATH", "/base"),
        ("POLAR_DB_HOST", "h"),
    ];
    let (service, command) = (read(Purpose::Service, &pairs), read(Purpose::Command, &pairs));
    assert_eq!(command.settings.store, service.settings.store);
    assert_eq!(command.settings.vectors, service.settings.vectors);
    assert_eq!(command.settings.data_dir, service.settings.data_dir);
    assert_eq!(service.settings.chat_model.backend(), "openai");
    assert_eq!(command.settings.chat_model, Settings::default().chat_model);
    assert!(service.warnings.iter().any(|warning| warning.contains("POLAR_DB_HOST")));
    assert_eq!(command.warnings, Vec::<String>::new());
    let named = [("OPENAI_API_KEY", "sk"), ("MOS_CHAT_MODEL_PROVIDER", "openai")];
    assert_eq!(read(Purpose::Command, &named).settings.chat_model.backend(), "openai");
}

#[test]
fn an_encoder_at_a_server_has_memos_model_unless_one_is_named() {
    let remote = [("MOS_EMBEDDER_BACKEND", "universal_api"), ("OPENAI_API_KEY", "sk"), ("EMBEDDING_DIMENSION", "1024")];
    let EmbedderConfig::UniversalApi(encoder) = read_well(&remote).embedder else { panic!() };
    assert_eq!(
        (encoder.common.model_name_or_path.as_str(), encoder.provider.as_str()),
        ("text-embedding-3-large", "openai")
    );
    assert_eq!((encoder.api_key.expose(), encoder.common.embedding_dims), ("sk", Some(1024)));
    let named = [("MOS_EMBEDDER_BACKEND", "ollama"), ("MOS_EMBEDDER_MODEL", "bge"), ("OLLAMA_API_BASE", "http://o:1")];
    let EmbedderConfig::Ollama(encoder) = read_well(&named).embedder else { panic!() };
    assert_eq!((encoder.common.model_name_or_path.as_str(), encoder.api_base.as_str()), ("bge", "http://o:1"));
    let EmbedderConfig::Ollama(encoder) = read_well(&[("MOS_EMBEDDER_BACKEND", "ollama")]).embedder else { panic!() };
    assert_eq!(encoder.common.model_name_or_path, "nomic-embed-text:latest");
    assert_eq!(
        read_well(&[("OPENAI_API_KEY", "sk")]).embedder,
        Settings::default().embedder,
        "a key alone is no reason"
    );
}

#[test]
fn a_reader_has_its_models_and_cuts_as_it_is_told() {
    let settings = read_well(&[
        ("MEMRADER_MODEL", "reader"),
        ("MEMRADER_API_KEY", "key"),
        ("MEMRADER_API_BASE", "http://reader/v1"),
        ("MEMRADER_MAX_TOKENS", "8000"),
        ("IMAGE_PARSER_MODEL", "eyes"),
        ("FILE_PARSER_CHUNK_SIZE", "1280"),
        ("FILE_PARSER_CHUNK_OVERLAP", "200"),
        ("FILE_PARSER_DIRECT_MARKDOWN_HOSTNAMES", "docs.example.org, example.com"),
    ]);
    let Some(MemReaderConfig::MultiModal(reader)) = settings.mem_reader else { panic!() };
    let ChatModelConfig::OpenAi(model) = &reader.common.llm else { panic!() };
    assert_eq!((model.common.model_name_or_path.as_str(), model.common.max_tokens), ("reader", 8000));
    assert_eq!((model.api_key.expose(), model.api_base.as_str()), ("key", "http://reader/v1"));
    let Some(ChatModelConfig::OpenAi(eyes)) = &reader.common.image_parser_llm else { panic!() };
    assert_eq!((eyes.common.model_name_or_path.as_str(), eyes.api_base.as_str()), ("eyes", "http://reader/v1"));
    let mos_config::ChunkerConfig::Sentence(chunker) = &reader.common.chunker else { panic!() };
    assert_eq!((chunker.common.chunk_size, chunker.common.chunk_overlap), (1280, 200));
    assert_eq!(reader.direct_markdown_hostnames.as_ref().unwrap().len(), 2);
    let strategy = read_well(&[
        ("MEM_READER_BACKEND", "strategy_struct"),
        ("MEMRADER_API_BASE", "http://reader/v1"),
        ("MEM_READER_CHAT_CHUNK_SESS_SIZE", "10"),
    ]);
    let Some(MemReaderConfig::Strategy(reader)) = strategy.mem_reader else { panic!() };
    assert_eq!(reader.common.chat_chunker.as_ref().unwrap().0["chunk_session"], 10);
}

#[test]
fn a_record_on_servers_has_its_vectors_users_and_jobs_there() {
    let settings = read_well(&[
        ("GRAPH_DB_BACKEND", "neo4j-community"),
        ("NEO4J_URI", "bolt://graph:7687"),
        ("NEO4J_PASSWORD", "pw"),
        ("QDRANT_HOST", "vectors"),
        ("QDRANT_PORT", "6333"),
        ("POSTGRES_HOST", "users"),
        ("POSTGRES_DB", "memos"),
        ("MEMSCHEDULER_USE_REDIS_QUEUE", "True"),
        ("MEMSCHEDULER_REDIS_HOST", "jobs"),
        ("MEMSCHEDULER_REDIS_PORT", "6380"),
    ]);
    let StoreConfig::Neo4jCommunity(store) = &settings.store else { panic!() };
    assert_eq!((store.neo4j.uri.as_str(), store.neo4j.password.expose()), ("bolt://graph:7687", "pw"));
    let VectorStoreConfig::Qdrant(vectors) = &store.vec_config else { panic!() };
    assert_eq!((vectors.host.as_deref(), vectors.port), (Some("vectors"), Some(6333)));
    assert_eq!(settings.user_manager.backend(), "postgres");
    let Some(QueueConfig::Redis(queue)) = &settings.queue else { panic!() };
    assert_eq!((queue.host.as_deref(), queue.port), (Some("jobs"), Some(6380)));
    let without = read(Purpose::Library, &[("NEO4J_BACKEND", "neo4j"), ("NEO4J_PASSWORD", "pw")]);
    assert_eq!(without.settings.queue.as_ref().map(QueueConfig::backend), Some("memory"));
    assert!(without.warnings.len() == 1 && without.warnings[0].contains("forgotten"), "{:?}", without.warnings);
    let polar = read(Purpose::Library, &[("GRAPH_DB_BACKEND", "polardb"), ("POLAR_DB_HOST", "h"), ("NEO4J_URI", "u")]);
    assert_eq!(polar.settings.store.backend(), "sqlite");
    assert_eq!(polar.warnings.len(), 3, "{:?}", polar.warnings);
}

#[test]
fn rerankers_and_the_internet_are_asked_when_there_is_an_address_or_a_key() {
    let settings = read_well(&[
        ("MOS_RERANKER_URL", "http://rerank/v1"),
        ("MOS_RERANKER_HEADERS_EXTRA", r#"{"x-team": "a"}"#),
        ("ENABLE_INTERNET", "true"),
        ("TAVILY_API_KEY", "key"),
        ("TAVILY_INCLUDE_ANSWER", "true"),
    ]);
    let Some(RerankerConfig::HttpBge(reranker)) = &settings.reranker else { panic!() };
    assert_eq!((reranker.address(), reranker.model.as_str()), (Some("http://rerank/v1"), "bge-reranker-v2-m3"));
    let Some(InternetRetrieverConfig::Tavily(tavily)) = &settings.internet_retriever else { panic!() };
    assert!(tavily.api_key.expose() == "key" && tavily.include_answer);
    let lacking = read(Purpose::Library, &[("MOS_RERANKER_BACKEND", "http_bge"), ("ENABLE_INTERNET", "true")]);
    assert!(lacking.settings.reranker.is_none() && lacking.settings.internet_retriever.is_none());
    assert!(lacking.warnings.iter().any(|warning| warning.contains("set MOS_RERANKER_URL")), "{:?}", lacking.warnings);
    assert!(lacking.warnings.iter().any(|warning| warning.contains("set BOCHA_API_KEY")), "{:?}", lacking.warnings);
}

#[test]
fn cubes_that_are_trees_are_as_they_are_told() {
    let names = [("MOS_TEXT_MEM_TYPE", "tree_text"), ("MOS_WORKING_MEMORY", "20"), ("MOS_ENABLE_REORGANIZE", "true")];
    let cube = read(Purpose::Library, &names).cube_config.unwrap();
    let MemoryConfig::TreeText(tree) = &cube.text_mem else { panic!() };
    assert_eq!((tree.memory_size.as_ref().unwrap()["WorkingMemory"], tree.reorganize), (20, Some(true)));
    assert_eq!(cube.pref_mem.backend(), "uninitialized");
    let service = read(Purpose::Service, &[("ASYNC_MODE", "sync")]).cube_config.unwrap();
    let MemoryConfig::TreeText(tree) = &service.text_mem else { panic!() };
    assert_eq!((tree.mode.as_deref(), service.pref_mem.backend()), (Some("sync"), "pref_text"));
    let general = read(Purpose::Library, &[("MOS_WORKING_MEMORY", "20")]);
    assert!(general.cube_config.is_none() && general.warnings[0].contains("MOS_TEXT_MEM_TYPE=tree_text"));
}

#[test]
fn the_product_api_is_told_of_chats_keys_and_models() {
    let list = r#"[{"backend": "vllm", "model_name_or_path": "qwen", "api_base": "http://v/v1", "support_models": ["q", "w"]},
                   {"api_key": "sk-secret", "model_name_or_path": "gpt", "extra_body": null}, {"backend": "nothing"}]"#;
    let said = read(
        Purpose::Service,
        &[("CHAT_MODEL_LIST", list), ("BUSINESS_CHAT_KEYS", r#"["a", "b"]"#), ("ENABLE_CHAT_API", "maybe")],
    );
    let models: Vec<(&str, &str)> =
        said.chat_models.iter().map(|(name, config)| (name.as_str(), config.backend())).collect();
    assert_eq!(models, [("q", "vllm"), ("w", "vllm"), ("gpt", "openai")]);
    assert_eq!(said.business_chat_keys.len(), 2);
    let warnings = said.warnings.join("\n");
    assert!(warnings.contains("CHAT_MODEL_LIST[2]") && warnings.contains("ENABLE_CHAT_API"), "{warnings}");
    assert!(!format!("{said:?}").contains("sk-secret"));
    let broken = read(Purpose::Service, &[("CHAT_MODEL_LIST", "sk-secret"), ("BUSINESS_CHAT_KEYS", "[sk-secret")]);
    assert!(broken.warnings.len() == 2 && !broken.warnings.join("\n").contains("sk-secret"), "{:?}", broken.warnings);
}

#[test]
fn the_file_and_nested_names_win_over_memos_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, "reranker: {backend: http_bge, config: {url: 'http://file', max_query_tokens: 5}}\n")
        .unwrap();
    let pairs = [("MOS_RERANKER_URL", "http://environment"), ("MOS_RERANKER_MODEL", "m")];
    let said = from_environment(Purpose::Library, Some(&path), environment(&pairs)).unwrap();
    let Some(RerankerConfig::HttpBge(reranker)) = &said.settings.reranker else { panic!() };
    assert_eq!((reranker.address(), reranker.model.as_str()), (Some("http://file"), "m"));
    let nested = [("OPENAI_API_KEY", "sk"), ("MOS__CHAT_MODEL__CONFIG__MODEL_NAME_OR_PATH", "mine")];
    let ChatModelConfig::OpenAi(chat) = read_well(&nested).chat_model else { panic!() };
    assert_eq!(chat.common.model_name_or_path, "mine");
    let wrong = [("MEMRADER_MODEL", "r"), ("MEMRADER_MAX_TOKENS", "many")];
    let error = from_environment(Purpose::Library, None, environment(&wrong)).unwrap_err().to_string();
    assert!(error.contains("environment variable MEMRADER_MAX_TOKENS"), "{error}");
}

#[test]
fn every_name_of_the_table_has_an_effect_or_says_why_not() {
    let names: BTreeSet<&str> = AUTOMATIC_VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(names.len(), AUTOMATIC_VARIABLES.len(), "a name stands twice");
    for variable in AUTOMATIC_VARIABLES {
        let said = match from_environment(Purpose::Library, None, environment(&[(variable.name, "1")])) {
            Ok(said) => said,
            Err(error) => {
                assert!(!variable.effect.is_empty(), "{}: {error}", variable.name);
                continue;
            }
        };
        let is_told = said.warnings.iter().any(|warning| warning.contains(variable.name));
        let is_told_why = is_told && said.warnings.iter().all(|warning| !warning.ends_with(": "));
        let changes = FromEnvironment { warnings: Vec::new(), ..said } != read(Purpose::Library, &[]);
        assert!(changes || is_told_why || variable.name == "API_SCHEDULER_ON", "{} is ignored", variable.name);
        assert!(
            changes || variable.effect.is_empty() || !variable.otherwise.is_empty() || is_told,
            "{}",
            variable.name
        );
    }
    let family = read(Purpose::Library, &[("DINGDING_ROBOT_CODE", "x"), ("MEMRADER_MODELS", "x")]);
    assert_eq!(family.warnings.len(), 2, "{:?}", family.warnings);
}

/// Every name that MemOS reads; of those that it has by their beginning (`OSS_`, `NACOS_` ...) one.
const OF_MEMOS: &str = "\
    ENABLE_CHAT_API API_SCHEDULER_ON FILE_LOCAL_PATH MEMOS_BASE_PATH BUSINESS_CHAT_KEYS MEMOS_ENABLED_PLUGINS \
    MEMOS_DISABLED_PLUGINS ASYNC_MODE FINE_STRATEGY AUTH_ENABLED MASTER_KEY_HASH INTERNAL_SERVICE_SECRET \
    CORS_ORIGINS RATE_LIMIT_ENABLED RATE_LIMIT RATE_WINDOW_SEC REDIS_URL POSTGRES_HOST POSTGRES_PORT POSTGRES_USER \
    POSTGRES_PASSWORD POSTGRES_DB CHAT_MODEL_LIST PLAYGROUND_CHAT_MODEL_LIST MOS_CHAT_MODEL \
    MOS_CHAT_MODEL_PROVIDER MOS_CHAT_TEMPERATURE MOS_MAX_TOKENS MOS_TOP_P MOS_TOP_K MOS_MAX_TURNS_WINDOW \
    OPENAI_API_KEY OPENAI_API_BASE QWEN_API_KEY QWEN_API_BASE QWEN_MODEL VLLM_API_KEY VLLM_API_BASE \
    MINIMAX_API_KEY MINIMAX_API_BASE MEMRADER_MODEL MEMRADER_API_KEY MEMRADER_API_BASE MEMRADER_MAX_TOKENS \
    MEMREADER_GENERAL_MODEL MEMREADER_ENABLE_BACKUP IMAGE_PARSER_MODEL DOCUMENT_PARSER_MODEL \
    PREFERENCE_EXTRACTOR_MODEL FEEDBACK_MODEL SUGGESTION_MODEL MEMSCHEDULER_MODEL MEM_READER_BACKEND \
    MEM_READER_CHAT_CHUNK_TYPE MEM_READER_CHAT_CHUNK_TOKEN_SIZE MEM_READER_CHAT_CHUNK_SESS_SIZE \
    MEM_READER_CHAT_CHUNK_OVERLAP MEM_READER_SAVE_RAWFILENODE MEM_READER_MEM_VERSION_SWITCH FILE_PARSER_CHUNK_SIZE \
    FILE_PARSER_CHUNK_OVERLAP FILE_PARSER_DIRECT_MARKDOWN_HOSTNAMES MOS_EMBEDDER_BACKEND MOS_EMBEDDER_PROVIDER \
    MOS_EMBEDDER_MODEL MOS_EMBEDDER_API_BASE MOS_EMBEDDER_API_KEY MOS_EMBEDDER_HEADERS_EXTRA MOS_EMBEDDER_TIMEOUT \
    MOS_EMBEDDER_BACKUP_CLIENT MOS_EMBEDDER_BACKUP_API_BASE MOS_EMBEDDER_BACKUP_API_KEY \
    MOS_EMBEDDER_BACKUP_HEADERS_EXTRA MOS_EMBEDDER_BACKUP_MODEL OLLAMA_API_BASE EMBEDDING_DIMENSION \
    MOS_RERANKER_BACKEND MOS_RERANKER_URL MOS_RERANKER_MODEL MOS_RERANKER_HEADERS_EXTRA MOS_RERANKER_STRATEGY \
    MOS_RERANKER_MAX_TOKENS MOS_RERANKER_CONCAT_LEN MOS_RERANK_SOURCE MOS_FEEDBACK_RERANKER_BACKEND \
    MOS_FEEDBACK_RERANKER_MODEL GRAPH_DB_BACKEND NEO4J_BACKEND NEO4J_URI NEO4J_USER NEO4J_PASSWORD NEO4J_DB_NAME \
    MOS_NEO4J_SHARED_DB POLAR_DB_HOST MEMOS_SCHEMA QDRANT_HOST QDRANT_PORT QDRANT_URL QDRANT_PATH QDRANT_API_KEY \
    MILVUS_URI MILVUS_USER_NAME MILVUS_PASSWORD MOS_WORKING_MEMORY MOS_LONGTERM_MEMORY MOS_USER_MEMORY \
    MOS_ENABLE_REORGANIZE FAST_GRAPH BM25_CALL VEC_COT_CALL FULLTEXT_CALL INCLUDE_EMBEDDING \
    ENABLE_PREFERENCE_MEMORY ENABLE_ACTIVATION_MEMORY MEMOS_MMR_CANDIDATE_PRUNING_ENABLED \
    PROFILE_MEMORY_RESERVED_TOP_K MEMOS_DREAM_CONTEXT_RECALL MEMOS_DREAM_CONTEXT_RECALL_TOP_K ENABLE_INTERNET \
    INTERNET_SEARCH_BACKEND BOCHA_API_KEY TAVILY_API_KEY TAVILY_SEARCH_DEPTH TAVILY_INCLUDE_ANSWER \
    MEMSCHEDULER_USE_REDIS_QUEUE DEFAULT_USE_REDIS_QUEUE MEMSCHEDULER_REDIS_HOST MEMSCHEDULER_REDIS_PORT \
    MEMSCHEDULER_REDIS_DB MEMSCHEDULER_REDIS_PASSWORD MEMSCHEDULER_REDIS_TIMEOUT \
    MEMSCHEDULER_REDIS_CONNECT_TIMEOUT MEMSCHEDULER_STREAM_KEY_PREFIX MOS_ENABLE_SCHEDULER MOS_SCHEDULER_TOP_K \
    MOS_SCHEDULER_ACT_MEM_UPDATE_INTERVAL MOS_SCHEDULER_CONTEXT_WINDOW_SIZE MOS_SCHEDULER_THREAD_POOL_MAX_WORKERS \
    MOS_SCHEDULER_CONSUME_INTERVAL_SECONDS MOS_SCHEDULER_ENABLE_PARALLEL_DISPATCH \
    MOS_SCHEDULER_ENABLE_ACTIVATION_MEMORY MEMSCHEDULER_RABBITMQ_HOST_NAME MEMSCHEDULER_RABBITMQ_PORT \
    MEMSCHEDULER_RABBITMQ_USER_NAME MEMSCHEDULER_RABBITMQ_PASSWORD MEMSCHEDULER_RABBITMQ_VIRTUAL_HOST \
    MEMSCHEDULER_RABBITMQ_ERASE_ON_CONNECT MEMSCHEDULER_RABBITMQ_EXCHANGE_NAME MEMSCHEDULER_RABBITMQ_EXCHANGE_TYPE \
    MOS_USER_ID MOS_USER_MANAGER_BACKEND MYSQL_HOST MYSQL_PORT MYSQL_USERNAME MYSQL_PASSWORD MYSQL_DATABASE \
    MYSQL_CHARSET OSS_ENDPOINT SKILLS_OSS_DIR SKILLS_LOCAL_DIR SKILLS_LOCAL_TMP_DIR SKILLS_REPO_BACKEND \
    NACOS_SERVER_ADDR ENABLE_DINGDING_BOT DINGDING_ROBOT_CODE MEMOS_BASE_URL MEMOS_API_KEY MEMOS_IS_GLOBAL";

#[test]
fn no_name_of_memos_is_passed_over_in_silence() {
    for name in OF_MEMOS.split_whitespace() {
        let is_listed = AUTOMATIC_VARIABLES.iter().any(|variable| variable.name == name)
            || VARIABLES.iter().any(|variable| variable.name == name);
        // One of a family is told of; one that only begins like a name that is known is told not to be known.
        let is_told = || {
            let warnings = read(Purpose::Service, &[(name, "1")]).warnings;
            warnings.iter().any(|warning| warning.contains(name) && !warning.contains("not known"))
        };
        assert!(is_listed || is_told(), "{name}");
    }
}

#[test]
fn what_a_server_does_otherwise_is_said_as_it_is() {
    let set =
        [("AUTH_ENABLED", "false"), ("FILE_LOCAL_PATH", "/srv"), ("INTERNAL_SERVICE_SECRET", "s"), ("REDIS_URL", "r")];
    let warnings = read(Purpose::Service, &set).warnings;
    assert_eq!(warnings.len(), set.len(), "{warnings:?}");
    let told = warnings.join("\n");
    for expected in ["--compat-open", "no path of a request", "POST /admin/keys", "MEMSCHEDULER_REDIS_HOST"] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("calls this library"), "{told}");
}

/// What a name does, as `docs/environment.md` says it.
fn described(usage: VariableUse) -> String {
    match usage {
        VariableUse::Sets(path) => format!("sets `{path}`"),
        VariableUse::SetsFor { part, keys } => format!("sets `{part}.config.{}`", keys[0].1),
        VariableUse::Fills(keys) => {
            let backends: BTreeSet<&str> = keys.iter().map(|(backend, _)| *backend).collect();
            let backends: Vec<String> = backends.into_iter().map(|backend| format!("`{backend}`")).collect();
            format!("fills `{}` where nothing else sets it, for {}", keys[0].1, backends.join(", "))
        }
        VariableUse::Program => "read by the program itself".to_owned(),
        VariableUse::Unused(why) => format!("no effect: {why}"),
    }
}

#[test]
fn the_documentation_lists_every_name() {
    let text = std::fs::read_to_string(repository("docs/environment.md")).unwrap().replace("\r\n", "\n");
    let listed: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for variable in AUTOMATIC_VARIABLES {
        let effect = if variable.effect.is_empty() {
            format!("no effect: {}", variable.otherwise)
        } else {
            variable.effect.to_owned()
        };
        expected.insert(format!("| `{}` | {effect} |", variable.name));
    }
    let is_automatic = |name: &str| AUTOMATIC_VARIABLES.iter().any(|variable| variable.name == name);
    for variable in VARIABLES.iter().filter(|variable| !is_automatic(variable.name)) {
        expected.insert(format!("| `{}` | {} |", variable.name, described(variable.usage)));
    }
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let (missing, outdated): (Vec<_>, Vec<_>) =
        (expected.difference(&listed).collect(), listed.difference(&expected).collect());
    assert!(missing.is_empty() && outdated.is_empty(), "missing: {missing:#?}\noutdated: {outdated:#?}");
}
