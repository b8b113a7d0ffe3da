use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos::kv::ExtractInput;
use mos::{Add, Chat, CubeSource, EraseOptions, Mos, NewCube, Settings, files_holding};
use mos_core::{ChatModel, ChatRequest, CubeId, Message, Sampling, UserId};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ann, bob, furnish, open_by, settings_in};

fn models() -> PathBuf {
    std::env::var_os("MOS_MODELS_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).unwrap();
        Path::new(&home).join(".cache/mos/models")
    })
}

/// The real chat model and activation memory in chats; without models nothing here could be tested.
fn settings(folder: &Path, mut more: Value) -> Settings {
    more["models_dir"] = json!(models());
    if more.get("enable_activation_memory").is_none() {
        more["enable_activation_memory"] = json!(true);
    }
    settings_in(folder, &more)
}

async fn open(folder: &Path, more: Value) -> Mos {
    open_by(folder, settings(folder, more)).await
}

/// Ann with the cube `notes`, which keeps caches of two texts.
async fn house() -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path(), json!({})).await;
    furnish(&mos).await;
    keep(&mos, &ann(), "notes", &["The rocket is called Heron.", "The rocket flies on Tuesday."]).await;
    (folder, mos)
}

async fn keep(mos: &Mos, user: &UserId, cube: &str, texts: &[&str]) {
    let memory = mos.cube(user, &CubeId::from(cube)).await.unwrap().caches().unwrap().memory().await.unwrap();
    let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
    let inputs: Vec<ExtractInput> = texts.into_iter().map(ExtractInput::from).collect();
    let items = tokio::task::spawn_blocking(move || memory.extract_many(&inputs).and_then(|items| memory.add(items)));
    items.await.unwrap().unwrap();
}

async fn kept(mos: &Mos, user: &UserId, cube: &str) -> Vec<String> {
    let caches = mos.cube(user, &CubeId::from(cube)).await.unwrap().caches().unwrap();
    caches.list().await.unwrap().into_iter().map(|item| item.records.composed_text_memory).collect()
}

fn ask(question: &str) -> Chat {
    Chat::new(question).user("ann").sampling(Sampling { max_tokens: 24, ..Sampling::default() })
}

#[tokio::test]
async fn an_answer_after_caches_is_that_of_the_same_prompt_without_any() {
    let (_folder, mos) = house().await;
    let question = "What is the name of the rocket, and when does it fly?";
    let items = mos.cube(&ann(), &"notes".into()).await.unwrap().caches().unwrap().list().await.unwrap();
    let n_tokens: usize = items.iter().map(mos::kv::KvCacheItem::n_tokens).sum();

    let reply = mos.chat(ask(question)).await.unwrap();
    assert_eq!(reply.activation, items.iter().map(|item| item.id.clone()).collect::<Vec<_>>());
    let (answer, usage) = reply.complete().await.unwrap();
    assert!(usage.cached_tokens >= n_tokens, "the caches are not computed again: {usage:?}");

    mos.clear_messages(&ann()).await.unwrap();
    let (plain, plain_usage) = mos.chat(ask(question).no_cache(true)).await.unwrap().complete().await.unwrap();
    assert_eq!(plain_usage.cached_tokens, 0);
    assert_eq!((&answer, usage.prompt_tokens), (&plain, plain_usage.prompt_tokens));

    // The same prompt, put together by hand for the bare model.
    let memory = mos.cube(&ann(), &"notes".into()).await.unwrap().caches().unwrap().memory().await.unwrap();
    let mut messages: Vec<Message> =
        items.iter().flat_map(|item| memory.extractor().messages_of(item).unwrap()).collect();
    messages.push(Message::system(mos::prompt::BASE_PROMPT));
    messages.push(Message::user(format!("{question} {}", mos::prompt::BREVITY)));
    let sampling = Some(Sampling { max_tokens: 24, ..Sampling::default() });
    let request = ChatRequest { messages, sampling, no_cache: true, ..ChatRequest::default() };
    let bare: Arc<dyn ChatModel> = mos.chat_model().await.unwrap();
    assert_eq!(bare.complete(request).await.unwrap().0, answer);
    // Only the caches say so.
    assert!(answer.contains("Tuesday"), "{answer}");
}

#[tokio::test]
async fn the_next_turn_computes_only_what_is_new() {
    let (_folder, mos) = house().await;
    let first = mos.chat(ask("What is the name of the rocket?")).await.unwrap().complete().await.unwrap().1;
    let second = mos.chat(ask("When does it fly?")).await.unwrap().complete().await.unwrap().1;
    assert!(second.cached_tokens >= first.prompt_tokens, "{first:?} {second:?}");
}

#[tokio::test]
async fn caches_outlive_the_process_and_are_seen_by_others_at_once() {
    let (folder, mos) = house().await;
    let other = open(folder.path(), json!({})).await;
    assert_eq!(kept(&other, &ann(), "notes").await.len(), 2);
    keep(&other, &ann(), "notes", &["A third text."]).await;
    assert_eq!(kept(&mos, &ann(), "notes").await[2], "A third text.");
    let caches = mos.cube(&ann(), &"notes".into()).await.unwrap().caches().unwrap();
    let ids = caches.list().await.unwrap().into_iter().map(|item| item.id).collect();
    assert_eq!(caches.remove(ids).await.unwrap(), 3);
    assert!(kept(&other, &ann(), "notes").await.is_empty());
    assert!(other.chat(ask("Hello?")).await.unwrap().activation.is_empty());
}

#[tokio::test]
async fn a_listing_shows_caches_beside_the_texts_and_never_their_keys_and_values() {
    let (folder, mos) = house().await;
    let notes = CubeId::from("notes");
    mos.add(Add::text("The launch pad is wet.").user("ann")).await.unwrap();
    let listed = serde_json::to_value(mos.get_all(&ann(), Some(&notes)).await.unwrap()).unwrap();
    assert_eq!(listed["text_mem"][0]["memories"][0]["memory"], "The launch pad is wet.");
    assert_eq!((&listed["act_mem"][0]["cube_id"], &listed["para_mem"]), (&json!("notes"), &json!([])));
    let items = listed["act_mem"][0]["memories"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1]["records"]["composed_text_memory"], "The rocket flies on Tuesday.");
    for item in items {
        let keys: Vec<&str> = item.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["id", "memory", "metadata", "records"]);
        let memory = item["memory"].as_object().unwrap();
        assert!(memory["size_bytes"].as_u64().unwrap() > 0 && memory.len() == 3, "{memory:?}");
    }
    let view = mos.view(&ann(), [notes.clone()]).await.unwrap();
    assert_eq!(view.get_all().await.unwrap().act_mem[0].memories.len(), 2);
    assert!(mos.get_all(&bob(), Some(&notes)).await.is_err());

    // Switched off, it is not shown, and a cube that keeps nothing is an entry without items.
    let off = open(folder.path(), json!({"enable_activation_memory": false})).await;
    assert!(off.get_all(&ann(), Some(&notes)).await.unwrap().act_mem.is_empty());
    mos.create_cube(&bob(), NewCube::new("own")).await.unwrap();
    assert!(mos.get_all(&bob(), None).await.unwrap().act_mem[0].memories.is_empty());
}

#[tokio::test]
async fn activation_memory_stays_with_its_cube() {
    let (folder, mos) = house().await;
    let notes = CubeId::from("notes");
    assert!(mos.cube(&bob(), &notes).await.is_err());
    mos.share_cube_with_user(&ann(), &notes, &bob()).await.unwrap();
    mos.create_cube(&bob(), NewCube::new("own")).await.unwrap();
    let say = |cubes: Option<CubeId>| {
        let chat = Chat::new("Which rocket?").user("bob").sampling(Sampling { max_tokens: 1, ..Sampling::default() });
        mos.chat(match cubes {
            Some(cube) => chat.cubes([cube]),
            None => chat,
        })
    };
    assert!(say(None).await.unwrap().activation.is_empty(), "a shared cube is not meant when none is named");
    assert_eq!(say(Some(notes.clone())).await.unwrap().activation.len(), 2);

    // Whoever makes a cube of the id of a deleted one finds nothing, also of a handle that was kept.
    let late = mos.cube(&ann(), &notes).await.unwrap();
    mos.delete_cube(&ann(), &notes).await.unwrap();
    assert_eq!(files_in(&folder.path().join("activation/caches")), 0, "what a cube kept goes with it");
    mos.create_cube(&bob(), NewCube::new("notes")).await.unwrap();
    let error = late.act_mem().unwrap().promote(&[Message::user("a late secret")]).await.unwrap_err();
    assert!(error.to_string().contains("was deleted"), "{error}");
    assert!(kept(&mos, &bob(), "notes").await.is_empty());
    assert_eq!(files_in(&folder.path().join("activation/caches")), 0, "what nobody can find is not kept");
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Which files of activation memory hold a text.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let found = files_holding(&folder.join("activation"), &[text.to_owned()]).unwrap();
    found.into_iter().map(|one| one.file).collect()
}

#[tokio::test]
async fn no_byte_of_the_caches_of_an_erased_user_stays() {
    let (folder, mos) = house().await;
    mos.create_cube(&bob(), NewCube::new("of-bob")).await.unwrap();
    keep(&mos, &bob(), "of-bob", &["The probe is called Stork."]).await;
    assert_eq!((holding(folder.path(), "Heron").len(), holding(folder.path(), "Tuesday").len()), (1, 1));
    mos.erase_user(&ann(), EraseOptions::default()).await.unwrap();
    for text in ["Heron", "Tuesday"] {
        assert!(holding(folder.path(), text).is_empty(), "{text}");
    }
    assert_eq!(files_in(&folder.path().join("activation/caches")), 1, "keys and values went as well");
    assert_eq!(kept(&mos, &bob(), "of-bob").await, ["The probe is called Stork."]);
}

#[tokio::test]
async fn a_dump_takes_the_caches_along_and_loads_elsewhere() {
    let (folder, mos) = house().await;
    let dumped = folder.path().join("dumped");
    mos.dump(&ann(), Some(&"notes".into()), &dumped).await.unwrap();
    let manifest: Value = serde_json::from_slice(&std::fs::read(dumped.join("manifest.json")).unwrap()).unwrap();
    let models = manifest["models"].as_array().unwrap();
    assert!(models.len() == 1 && models[0].as_str().unwrap().len() == 64, "the model is named: {models:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), json!({})).await;
    other.create_user("ann", None).await.unwrap();
    let copy = CubeId::from("copy");
    other.register_mem_cube(&ann(), CubeSource::Directory(dumped.clone()), Some(&copy)).await.unwrap();
    assert_eq!(kept(&other, &ann(), "copy").await, kept(&mos, &ann(), "notes").await);
    let usage = other.chat(ask("Which rocket?").cubes([copy.clone()])).await.unwrap().complete().await.unwrap().1;
    assert!(usage.cached_tokens > 40, "{usage:?}");

    keep(&other, &ann(), "copy", &["More."]).await;
    other.load(&ann(), Some(&copy), &dumped).await.unwrap();
    assert_eq!(kept(&other, &ann(), "copy").await.len(), 2, "loading replaces what was kept");
    // A cube without caches has no file for them.
    mos.create_cube(&ann(), NewCube::new("empty")).await.unwrap();
    let empty = folder.path().join("empty");
    mos.dump(&ann(), Some(&"empty".into()), &empty).await.unwrap();
    assert!(!empty.join("activation_memory.pickle").exists());
}

/// A cube whose configuration names the files of its memories.
async fn named(mos: &Mos, id: &str, text: &str, activation: &str) -> CubeId {
    let mut config = mos::config::GeneralMemCubeConfig::new("ann", id, mos.settings().text_memory());
    let setting = |backend: &str, file: &str| json!({"backend": backend, "config": {"memory_filename": file}});
    config.text_mem = mos::config::Setting::from_json(&setting("naive_text", text)).unwrap();
    config.act_mem = mos::config::Setting::from_json(&setting("kv_cache", activation)).unwrap();
    let cube = NewCube { cube_id: id.into(), name: None, config: Some(config) };
    mos.create_cube(&ann(), cube).await.unwrap();
    keep(mos, &ann(), id, &["The rocket is called Heron."]).await;
    id.into()
}

#[tokio::test]
async fn a_dump_has_the_file_names_of_the_configuration() {
    let (folder, mos) = house().await;
    let cube = named(&mos, "named", "texts.json", "states.index").await;
    let dumped = folder.path().join("dumped");
    mos.dump(&ann(), Some(&cube), &dumped).await.unwrap();
    assert!(dumped.join("states.index").is_file() && dumped.join("states.segments").is_dir());
    assert!(!dumped.join("activation_memory.pickle").exists());
    mos.register_mem_cube(&ann(), CubeSource::Directory(dumped), Some(&"again".into())).await.unwrap();
    assert_eq!(kept(&mos, &ann(), "again").await, ["The rocket is called Heron."]);
    // One file cannot hold two things.
    for (number, (text, activation)) in [("same.json", "same.json"), ("t.json", "config.json")].into_iter().enumerate()
    {
        let cube = named(&mos, &format!("clash-{number}"), text, activation).await;
        let dumped = folder.path().join(format!("clash-{number}"));
        let error = mos.dump(&ann(), Some(&cube), &dumped).await.unwrap_err().to_string();
        assert!(error.contains(activation) && error.contains("memory_filename"), "{error}");
        assert!(!dumped.exists());
    }
}

#[tokio::test]
async fn the_caches_of_an_upstream_cube_are_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path(), json!({})).await;
    mos.create_user("ann", None).await.unwrap();
    let cube = folder.path().join("upstream");
    std::fs::create_dir(&cube).unwrap();
    let config = json!({
        "model_schema": "memos.configs.mem_cube.GeneralMemCubeConfig", "user_id": "x", "cube_id": "x/y",
        "text_mem": {"backend": "naive_text", "config": {}},
        "act_mem": {"backend": "kv_cache", "config": {"extractor_llm": {
            "backend": "huggingface", "config": {"model_name_or_path": "Qwen/Qwen3-1.7B"}}}},
    });
    std::fs::write(cube.join("config.json"), config.to_string()).unwrap();
    std::fs::write(cube.join("textual_memory.json"), "[]").unwrap();
    let fixture = "../mos-kv/tests/fixtures/pickle/mem_cube_2_activation_memory.pickle";
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    std::fs::copy(fixture, cube.join("activation_memory.pickle")).unwrap();
    mos.register_mem_cube(&ann(), CubeSource::Directory(cube), Some(&"old".into())).await.unwrap();
    let memory = mos.cube(&ann(), &"old".into()).await.unwrap().caches().unwrap().memory().await.unwrap();
    let items = memory.get_all();
    assert_eq!(items.len(), 1);
    items[0].check_model(memory.model().identity()).unwrap();
}

/// MemOS' story of a cube whose caches chats begin with, from its own two files; only the model is another.
#[tokio::test]
async fn the_hybrid_cube_of_memos_is_built_dumped_registered_and_begins_chats_with_its_cache() {
    let folder = tempfile::tempdir().unwrap();
    let files = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../tests/fixtures/compat/configs");
    let environment = [
        ("MOS_MODELS_DIR", models().display().to_string()),
        ("MOS__CHAT_MODEL__CONFIG__MODEL_NAME_OR_PATH", "smollm2-135m-instruct".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let file = files.join("simple_treekvcache_memos_config.json");
    let settings = Settings::load(Some(&file), environment).unwrap().settings;
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();

    let config = std::fs::read(files.join("simple_treekvcache_cube_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let config = mos::config::Setting::from_json(&config).unwrap();
    let root = UserId::from("root");
    mos.create_cube(&root, NewCube { config: Some(config), ..NewCube::new("built") }).await.unwrap();
    let dumped = folder.path().join("mem_cube_5");
    mos.dump(&root, Some(&"built".into()), &dumped).await.unwrap();
    let cube = CubeId::from("root/mem_cube_kv_cache");
    mos.register_mem_cube(&root, CubeSource::Directory(dumped), Some(&cube)).await.unwrap();
    let handle = mos.cube(&root, &cube).await.unwrap();
    assert_eq!(handle.text_mem().backend(), "uninitialized", "the file names no textual memory");
    assert!(handle.para_mem().is_some());
    keep(&mos, &root, cube.as_str(), &["I like football"]).await;

    let sampling = Sampling { max_tokens: 8, ..Sampling::default() };
    let chat = Chat::new("Which sport do I like?").user("root").cubes([cube]).sampling(sampling);
    let reply = mos.chat(chat).await.unwrap();
    assert_eq!((reply.activation.len(), reply.memories.len()), (1, 0), "the settings switch texts off");
    assert!(reply.complete().await.unwrap().1.cached_tokens > 0);
}

/// A cube whose activation memory is at the server.
async fn served(folder: &Path, server: &ModelServer) -> Mos {
    let config = json!({"model_name_or_path": "scripted", "api_base": server.openai_url(), "max_retries": 0});
    open(folder, json!({"chat_model": {"backend": "vllm", "config": config}})).await
}

/// A cube that keeps prompts.
fn prompting(mos: &Mos, user: &UserId, cube: &CubeId) -> NewCube {
    let text_memory = mos.settings().text_memory();
    let mut config = mos::config::GeneralMemCubeConfig::new(user.as_str(), cube.as_str(), text_memory);
    config.act_mem = mos::config::Setting::from_json(&json!({"backend": "vllm_kv_cache", "config": {}})).unwrap();
    NewCube { cube_id: cube.clone(), name: None, config: Some(config) }
}

#[tokio::test]
async fn a_server_computes_prompts_ahead_and_conversations_begin_with_them() {
    let server = ModelServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mos = served(folder.path(), &server).await;
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), prompting(&mos, &ann(), &"notes".into())).await.unwrap();
    let handle = mos.cube(&ann(), &"notes".into()).await.unwrap();
    let known = [Message::system("The rocket is called Heron.")];
    let id = handle.act_mem().unwrap().promote(&known).await.unwrap();
    let preload = &server.requests()[0].body;
    assert_eq!(preload["messages"][0]["content"], "The rocket is called Heron.");
    assert_eq!((&preload["max_tokens"], &preload["temperature"]), (&json!(2), &json!(0.0)));
    assert!(handle.caches().is_err(), "there are no tensors here");

    // Another process knows the prompt too.
    let mos = served(folder.path(), &server).await;
    server.reply(Reply::text("Heron."));
    let reply = mos.chat(Chat::new("Which rocket?").user("ann")).await.unwrap();
    assert_eq!(reply.activation, std::slice::from_ref(&id));
    assert_eq!(reply.complete().await.unwrap().0, "Heron.");
    let requests = server.requests();
    let sent = requests.last().unwrap().body["messages"].as_array().unwrap().clone();
    assert_eq!((sent.len(), &sent[0]), (3, &preload["messages"][0]), "the computed prompt, then system and question");

    let handle = mos.cube(&ann(), &"notes".into()).await.unwrap();
    assert_eq!(handle.act_mem().unwrap().stats().await.unwrap().n_items, 1);
    let listed = serde_json::to_value(mos.get_all(&ann(), Some(&"notes".into())).await.unwrap()).unwrap();
    assert_eq!(listed["act_mem"][0]["memories"][0]["memory"], "The rocket is called Heron.");
    let seen = mos.kept_caches(&ann(), &"notes".into()).await.unwrap().caches;
    assert_eq!((seen.len(), &seen[0].id, seen[0].is_used), (1, &id, true), "people who look see it too");
    assert_eq!(seen[0].texts, ["The rocket is called Heron."]);
    let dumped = folder.path().join("dumped");
    mos.dump(&ann(), Some(&"notes".into()), &dumped).await.unwrap();
    mos.register_mem_cube(&ann(), CubeSource::Directory(dumped), Some(&"copy".into())).await.unwrap();
    let copy = mos.cube(&ann(), &"copy".into()).await.unwrap();
    assert!(copy.act_mem().unwrap().delete(&id).await.unwrap());
    assert!(!copy.act_mem().unwrap().delete(&id).await.unwrap());
    assert!(handle.act_mem().unwrap().delete(&id).await.unwrap());
}

#[tokio::test]
async fn no_byte_of_the_prompts_of_an_erased_user_stays() {
    let server = ModelServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mos = served(folder.path(), &server).await;
    for (user, text) in [("ann", "The rocket is called Heron."), ("bob", "The probe is called Stork.")] {
        mos.create_user(user, None).await.unwrap();
        let user = UserId::from(user);
        let cube = CubeId::new(format!("of-{user}"));
        mos.create_cube(&user, prompting(&mos, &user, &cube)).await.unwrap();
        let handle = mos.cube(&user, &cube).await.unwrap();
        handle.act_mem().unwrap().promote(&[Message::system(text)]).await.unwrap();
    }
    assert_eq!(holding(folder.path(), "Heron").len(), 1);
    mos.erase_user(&ann(), EraseOptions::default()).await.unwrap();
    assert!(holding(folder.path(), "Heron").is_empty());
    assert_eq!(holding(folder.path(), "Stork").len(), 1);
}

#[tokio::test]
async fn a_cube_of_a_remote_model_keeps_no_caches_and_says_why() {
    let server = ModelServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mos = served(folder.path(), &server).await;
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    let handle = mos.cube(&ann(), &"notes".into()).await.unwrap();
    assert!(handle.act_mem().is_none());
    let error = handle.caches().unwrap_err().to_string();
    assert!(error.contains("`vllm`") && error.contains("`local`"), "{error}");
}
