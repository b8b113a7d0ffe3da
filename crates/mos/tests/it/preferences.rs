//! Preferences, parametric memory and extraction through the facade, with a scripted model server.

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, Chat, CubeSource, Error, Mos, NewCube, Remember, Search};
use mos_core::{CubeId, MemoryError, Message, ModelError, PreferenceType, ReadInput, ReadMode};
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ann, bob, furnish, open_by, scripted, settings_in};

/// A facade whose chat model is the scripted server and whose new cubes have a preference memory, with a cube of ann's.
async fn learning_house(server: &ModelServer) -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path(), server).await;
    furnish(&mos).await;
    (folder, mos)
}

async fn open(folder: &std::path::Path, server: &ModelServer) -> Mos {
    let settings = json!({"chat_model": scripted(server), "enable_preference_memory": true});
    open_by(folder, settings_in(folder, &settings)).await
}

/// Answers as a model would that was asked about the conversation on hotels: for stated preferences, for concluded ones, and
/// whether two preferences are the same.
fn answer(request: &Value) -> Reply {
    let content = |index: usize| request["messages"][index]["content"].as_str().unwrap_or_default().to_owned();
    let (prompt, asked) = (content(0), content(1));
    let none = json!({"preferences": []});
    let stated = json!({"preferences": [{
        "preference": "The user prefers the hotel chain 7 Days Inn.", "topic": "hotels",
        "context": "The user plans a summer trip to Guangzhou and chooses a hotel.",
        "evidence": "I'll choose 7 Days Inn.", "reasoning": "The user chose it among three.", "messages": [3]}]});
    let concluded = json!({"preferences": [{
        "preference": "The user seems to prefer chain hotels.", "topic": "hotels", "evidence": "asks for chain hotels",
        "reasoning": "The question is about chains only.", "messages": [1]}]});
    let is_hotel = asked.contains("7 Days Inn");
    Reply::text(match prompt {
        prompt if prompt.contains("preferences that the user states") && is_hotel => stated.to_string(),
        prompt if prompt.contains("without having stated them") && is_hotel => format!("```json\n{concluded:#}\n```"),
        prompt if prompt.contains("list the preferences") || prompt.contains("conclude which") => none.to_string(),
        prompt if prompt.contains("compare two preferences") => r#"{"relation": "different"}"#.to_owned(),
        other => panic!("nobody was expected to ask this: {other}"),
    })
}

fn hotel() -> Vec<Message> {
    serde_json::from_value(json!([
        {"role": "user", "message_id": "m1",
         "content": "I’ve planned to travel to Guangzhou during the summer vacation. What chain hotels are available?"},
        {"role": "assistant", "content": "You can consider [7 Days Inn, Ji Hotel, Hilton], etc.", "message_id": "m2"},
        {"role": "user", "content": "I’ll choose 7 Days Inn.", "message_id": "m3"},
        {"role": "assistant", "content": "Okay, feel free to ask me if you have any other questions."},
    ]))
    .unwrap()
}

const QUESTION: &str = "Please recommend a hotel that I haven’t stayed at before.";

fn search() -> Search {
    Search::new(QUESTION).user("ann").top_k(9)
}

fn json_of(found: &mos::SearchResult) -> Value {
    serde_json::to_value(found).unwrap()
}

#[tokio::test]
async fn the_hotel_that_was_chosen_is_told_when_preferences_are_asked_for() {
    let server = ModelServer::start().await;
    server.answer_with(answer);
    let (folder, mos) = learning_house(&server).await;
    let added = mos.add_and_learn(Add::messages(hotel()).user("ann").session("s1")).await.unwrap();
    assert_eq!((added.ids.len(), added.preferences.unwrap().len()), (4, 2));
    drop(mos);
    let mos = open(folder.path(), &server).await;
    let found = json_of(&mos.search(search().include_preference(true)).await.unwrap());
    assert_eq!(found["pref_mem"][0]["cube_id"], "notes");
    let memories = found["pref_mem"][0]["memories"].as_array().unwrap();
    let [stated, concluded] = memories.as_slice() else { panic!("{memories:?}") };
    assert_eq!(stated["metadata"]["preference"], "The user prefers the hotel chain 7 Days Inn.");
    assert_eq!(stated["metadata"]["preference_type"], "explicit_preference");
    assert_eq!(stated["metadata"]["memory_type"], "PreferenceMemory");
    assert_eq!(stated["metadata"]["sources"][0]["message_id"], "m3");
    assert_eq!((&stated["metadata"]["user_id"], &stated["metadata"]["session_id"]), (&json!("ann"), &json!("s1")));
    assert!(stated["score"].is_number() && stated["signals"]["vector"].is_number());
    assert_eq!(concluded["metadata"]["preference_type"], "implicit_preference");
    let told = found["pref_string"].as_str().unwrap();
    assert!(
        told.starts_with("## Stated preferences:\n1. [user] The user prefers the hotel chain 7 Days Inn."),
        "{told}"
    );
    assert!(told.contains("## Concluded preferences:\n1. [user] The user seems") && found["pref_note"].is_string());
    let texts = found["text_mem"].to_string();
    assert!(texts.contains("What chain hotels") && !texts.contains("PreferenceMemory"), "{texts}");

    let without = json_of(&mos.search(search().include_preference(false)).await.unwrap());
    assert_eq!(without["pref_mem"], json!([]));
    assert!(without.get("pref_string").is_none() && !without.to_string().contains("prefers the hotel"));
    assert!(!without["text_mem"][0]["memories"].as_array().unwrap().is_empty());
    let usual = json_of(&mos.search(search()).await.unwrap());
    assert_eq!(usual["pref_mem"], found["pref_mem"], "the settings ask for preferences");
    let elsewhere = mos.search(search().session("another").include_preference(true)).await.unwrap();
    assert_eq!(elsewhere.pref_mem[0].memories.len(), 2, "preferences hold beyond their conversation");
    assert!(elsewhere.text_mem[0].memories.is_empty());
    let one = mos.search(search().pref_top_k(1).filter(mos_core::Filter::equals("topic", "maps"))).await.unwrap();
    assert!(one.pref_mem[0].memories.is_empty(), "filters concern preferences too");
}

#[tokio::test]
async fn preferences_are_learned_from_what_is_read_thoroughly() {
    let server = ModelServer::start().await;
    server.answer_with(|request: &Value| {
        let prompt = request["messages"][0]["content"].as_str().unwrap_or_default();
        let is_reading = prompt.contains("note what will be worth knowing");
        if is_reading { Reply::text(r#"{"memory list": [], "summary": ""}"#) } else { answer(request) }
    });
    let (_folder, mos) = learning_house(&server).await;
    let chat = || Remember::new(ReadInput::messages(hotel())).user("ann").session("s1");
    assert!(mos.remember(chat()).await.unwrap().preferences.is_empty(), "fast mode asks no model");
    let fine = mos.remember(chat().mode(ReadMode::Fine)).await.unwrap();
    assert_eq!(fine.preferences.len(), 2, "{:?}", fine.report);
    let again = mos.remember(chat().mode(ReadMode::Fine)).await.unwrap();
    assert_eq!(again.preferences, fine.preferences);
    let found = json_of(&mos.search(search().include_preference(true)).await.unwrap());
    assert_eq!(found["pref_mem"][0]["memories"].as_array().unwrap().len(), 2);
}

/// As [`answer`], and answers chats.
fn answer_or_talk(request: &Value) -> Reply {
    let system = request["messages"][0]["content"].as_str().unwrap_or_default();
    if system.starts_with(mos::prompt::BASE_PROMPT) { Reply::text("7 Days Inn, again?") } else { answer(request) }
}

/// What the last chat was asked with, by its system message.
fn asked(server: &ModelServer) -> String {
    let systems = server.requests().into_iter().map(|request| request.body["messages"][0]["content"].clone());
    let mut chats = systems.filter(|system| system.as_str().unwrap().starts_with(mos::prompt::BASE_PROMPT));
    chats.next_back().unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_chat_follows_preferences_unless_it_is_told_not_to() {
    let server = ModelServer::start().await;
    server.answer_with(answer_or_talk);
    let (_folder, mos) = learning_house(&server).await;
    mos.learn_preferences(&ann(), None, None, &hotel()).await.unwrap();
    let reply = mos.chat(Chat::new(QUESTION).user("ann")).await.unwrap();
    assert_eq!(reply.preferences[0].1.item.memory, "The user prefers the hotel chain 7 Days Inn.");
    reply.complete().await.unwrap();
    let system = asked(&server);
    assert!(
        system.contains("## Stated preferences:\n1. [user] The user prefers the hotel chain 7 Days Inn."),
        "{system}"
    );
    assert!(system.ends_with(mos::PREFERENCE_NOTE), "{system}");

    let reply = mos.chat(Chat::new(QUESTION).user("ann").include_preference(false)).await.unwrap();
    assert!(reply.preferences.is_empty());
    reply.complete().await.unwrap();
    assert!(!asked(&server).contains("preferences"));
    let reply = mos.chat(Chat::new(QUESTION).user("bob")).await.unwrap();
    assert!(reply.preferences.is_empty(), "bob has none");
}

#[tokio::test]
async fn a_chat_learns_preferences_after_its_answer() {
    let server = ModelServer::start().await;
    server.answer_with(answer_or_talk);
    let (_folder, mos) = learning_house(&server).await;
    let say = async |chat: Chat| mos.chat(chat.user("ann")).await.unwrap().complete().await.unwrap();
    say(Chat::new("I'll choose 7 Days Inn.")).await;
    say(Chat::new("Is 7 Days Inn far away?").remember(true)).await;
    mos.wait_for_learning().await;
    assert_eq!(server.requests().len(), 2, "nothing was to be remembered");
    say(Chat::new("I'll choose 7 Days Inn.").remember(true).session("s")).await;
    mos.wait_for_learning().await;
    let requests = server.requests();
    let system = requests[2].body["messages"][0]["content"].as_str().unwrap();
    assert!(system.starts_with(mos::prompt::BASE_PROMPT) && requests.len() > 3, "the answer comes first");
    let kept = mos.cube(&ann(), &"notes".into()).await.unwrap().pref_mem().unwrap().get_all().await.unwrap();
    let [stated] = kept[&PreferenceType::Explicit].as_slice() else { panic!("{kept:?}") };
    assert_eq!(stated.memory, "The user prefers the hotel chain 7 Days Inn.");
    assert_eq!(stated.metadata.session_id.as_deref(), Some("s"));
}

#[tokio::test]
async fn the_same_conversation_again_is_the_same_preferences() {
    let server = ModelServer::start().await;
    server.answer_with(answer);
    let (_folder, mos) = learning_house(&server).await;
    let first = mos.learn_preferences(&ann(), None, None, &hotel()).await.unwrap();
    assert_eq!(mos.learn_preferences(&ann(), None, None, &hotel()).await.unwrap(), first);
    let handle = mos.cube(&ann(), &"notes".into()).await.unwrap();
    let kept = handle.pref_mem().unwrap().get_all().await.unwrap();
    assert_eq!((kept[&PreferenceType::Explicit].len(), kept[&PreferenceType::Implicit].len()), (1, 1));
    assert!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.is_empty(), "they are no texts");
}

#[tokio::test]
async fn a_failed_extraction_keeps_the_raw_memories_and_says_why() {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text("I would rather talk about the weather."));
    let (_folder, mos) = learning_house(&server).await;
    let added = mos.add_and_learn(Add::messages(hotel()).user("ann")).await.unwrap();
    let error = added.preferences.unwrap_err();
    assert!(matches!(error, Error::Memory(MemoryError::Model(ModelError::BadAnswer(_)))), "{error}");
    assert!(error.to_string().contains("3 attempts"), "{error}");
    assert_eq!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.len(), 4);
    assert_eq!(mos.add(Add::messages(hotel()).user("ann")).await.unwrap().len(), 4);
}

#[tokio::test]
async fn others_learn_and_find_nothing_and_a_deleted_cube_takes_its_preferences_along() {
    let server = ModelServer::start().await;
    server.answer_with(answer);
    let (_folder, mos) = learning_house(&server).await;
    let notes = CubeId::from("notes");
    mos.learn_preferences(&ann(), None, None, &hotel()).await.unwrap();
    let foreign = mos.learn_preferences(&bob(), Some(&notes), None, &hotel()).await.unwrap_err();
    assert!(matches!(foreign, Error::NoAccess { .. }), "{foreign}");
    let theirs = mos.search(Search::new(QUESTION).user("bob").include_preference(true)).await.unwrap();
    assert!(theirs.pref_mem.is_empty());
    mos.delete_cube(&ann(), &notes).await.unwrap();
    mos.create_cube(&bob(), NewCube::new("notes")).await.unwrap();
    let anew = mos.search(Search::new(QUESTION).user("bob").include_preference(true)).await.unwrap();
    assert!(anew.pref_mem[0].memories.is_empty(), "a cube of the same id starts empty");
}

#[tokio::test]
async fn a_cube_without_the_memory_learns_nothing_and_says_so() {
    let server = ModelServer::start().await;
    server.answer_with(|_| panic!("no model is asked"));
    let (_folder, mos) = learning_house(&server).await;
    let config = GeneralMemCubeConfig::new("ann", "plain", mos.settings().text_memory());
    let plain = CubeId::from("plain");
    mos.create_cube(&ann(), NewCube { cube_id: plain.clone(), name: None, config: Some(config) }).await.unwrap();
    let added = mos.add_and_learn(Add::messages(hotel()).user("ann").cube("plain")).await.unwrap();
    assert!(added.preferences.unwrap().is_empty());
    let error = mos.learn_preferences(&ann(), Some(&plain), None, &hotel()).await.unwrap_err();
    assert!(error.to_string().contains("set pref_mem"), "{error}");
    let found = mos.search(search().cubes([plain]).include_preference(true)).await.unwrap();
    assert!(found.pref_mem.is_empty() && found.pref_string().is_none());
}

#[tokio::test]
async fn a_dump_takes_preferences_and_the_placeholder_along() {
    let server = ModelServer::start().await;
    server.answer_with(answer);
    let (folder, mos) = learning_house(&server).await;
    let config = json!({
        "user_id": "ann", "cube_id": "whole", "text_mem": {"backend": "general_text", "config": {}},
        "para_mem": {"backend": "lora", "config": {}}, "pref_mem": {"backend": "pref_text", "config": {}}});
    let config = GeneralMemCubeConfig::from_json(&config).unwrap();
    let whole = CubeId::from("whole");
    mos.create_cube(&ann(), NewCube { cube_id: whole.clone(), name: None, config: Some(config) }).await.unwrap();
    mos.add(Add::messages(hotel()).user("ann").cube("whole")).await.unwrap();
    let dump = folder.path().join("dumped");
    mos.dump(&ann(), Some(&whole), &dump).await.unwrap();
    let read = |name: &str| std::fs::read(dump.join(name)).unwrap();
    assert_eq!(read("parametric_memory.adapter"), b"Placeholder");
    let preferences: Value = serde_json::from_slice(&read("preference_textual_memories.json")).unwrap();
    assert_eq!(preferences["explicit_preference"].as_array().unwrap().len(), 1);
    assert!(!String::from_utf8(read("textual_memory.json")).unwrap().contains("PreferenceMemory"));

    let copy = CubeId::from("copy");
    mos.register_mem_cube(&bob(), CubeSource::Directory(dump.clone()), Some(&copy)).await.unwrap();
    let handle = mos.cube(&bob(), &copy).await.unwrap();
    let all = handle.pref_mem().unwrap().get_all().await.unwrap();
    assert_eq!((all[&PreferenceType::Explicit].len(), all[&PreferenceType::Implicit].len()), (1, 1));
    assert!(handle.para_mem().is_some());
    let found = mos.search(Search::new(QUESTION).user("bob").cubes([copy.clone()])).await.unwrap();
    assert_eq!((found.pref_mem[0].memories.len(), found.text_mem[0].memories.len() > 1), (2, true));
    assert_eq!(mos.load(&bob(), Some(&copy), &dump).await.unwrap(), 6, "four texts and two preferences");
}

#[tokio::test]
async fn general_text_extracts_with_the_cubes_own_model_after_two_bad_answers() {
    let (server, own) = (ModelServer::start().await, ModelServer::start().await);
    let (_folder, mos) = learning_house(&server).await;
    let extractor = json!({"backend": "ollama", "config": {"model_name_or_path": "own", "api_base": own.base_url()}});
    let config = json!({"user_id": "ann", "cube_id": "own",
        "text_mem": {"backend": "general_text", "config": {"extractor_llm": extractor}}});
    let config = GeneralMemCubeConfig::from_json(&config).unwrap();
    let id = CubeId::from("own");
    mos.create_cube(&ann(), NewCube { cube_id: id.clone(), name: None, config: Some(config) }).await.unwrap();
    let good = json!({"memory list": [{"key": "trip", "value": "The user will stay at 7 Days Inn in Guangzhou.",
        "tags": ["travel"], "messages": [1, 3]}]});
    for text in ["not JSON".to_owned(), "{\"memory list\": [".to_owned(), good.to_string()] {
        own.reply(Reply::text(text));
    }
    let memory = mos.cube(&ann(), &id).await.unwrap();
    let items = memory.text_mem().extract(&hotel()).await.unwrap();
    assert_eq!(items[0].memory, "The user will stay at 7 Days Inn in Guangzhou.");
    assert_eq!(items[0].metadata.tree().unwrap().sources.as_ref().unwrap().len(), 2);
    assert_eq!((own.requests().len(), server.requests().len()), (3, 0));
    let ids = memory.text_mem().add(items, mos_core::Origin::new("ann", "extract").into()).await.unwrap();
    assert_eq!(memory.text_mem().get(&ids[0]).await.unwrap().metadata.key.as_deref(), Some("trip"));
}
