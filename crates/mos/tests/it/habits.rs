//! What programs that were written for MemOS do every day.

use std::sync::Arc;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::product::{App, ProductOptions, Request};
use mos::scheduler::FeedbackRequest;
use mos::{Add, Chat, CubeSource, Error, GitSource, Mos, NewCube, Remember, Search, Settings};
use mos_core::{CubeId, Filter, MemoryError, MemoryItem, Message, Paging, ReadInput, UserRole};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};

use crate::{ann, bob, house, open_by, scripted, settings_in};

#[tokio::test]
async fn users_are_listed_with_their_roles_and_times() {
    let (_folder, mos) = house().await;
    let users = mos.list_users().await.unwrap();
    let told: Vec<_> = users.iter().map(|user| (user.user_id.as_str(), user.role, user.is_active)).collect();
    let expected = [("root", UserRole::Root, true), ("ann", UserRole::User, true), ("bob", UserRole::User, true)];
    assert_eq!(told, expected);
    assert!(users.iter().all(|user| user.created_at.contains('T')), "{users:?}");
    let written = serde_json::to_value(&users[1]).unwrap();
    for key in ["user_id", "user_name", "role", "created_at", "is_active"] {
        assert!(written.get(key).is_some(), "{key}: {written}");
    }
}

#[tokio::test]
async fn a_cube_that_is_given_as_its_configuration_becomes_the_default_cube() {
    let (_folder, mos) = house().await;
    let config = || {
        let config = GeneralMemCubeConfig::new("somebody", "from elsewhere", mos.settings().text_memory());
        CubeSource::Config(Box::new(config))
    };
    let cube = mos.register_mem_cube(&bob(), config(), None).await.unwrap();
    assert_eq!((cube.cube_id.as_str(), &cube.owner_id), ("cube_bob", &bob()));
    mos.add(Add::text("a dog").user("bob")).await.unwrap();
    assert_eq!(mos.get_all(&bob(), None).await.unwrap().text_mem[0].cube_id, cube.cube_id);
    let named = mos.register_mem_cube(&bob(), config(), Some(&"named".into())).await.unwrap();
    assert_eq!(named.cube_id.as_str(), "named");
    assert_eq!(mos.search(Search::new("dog").user("bob")).await.unwrap().text_mem.len(), 2);
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_told_and_nothing_is_registered() {
    let (folder, mos) = house().await;
    let source = CubeSource::Git(GitSource::new(format!("file://{}/nothing", folder.path().display())));
    let error = mos.register_mem_cube(&ann(), source, None).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("git cannot fetch"), "{error}");
    assert_eq!(mos.list_cubes(&ann()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_search_answers_for_each_cube_and_can_be_narrowed() {
    let (_folder, mos) = house().await;
    for cube in ["work", "empty"] {
        mos.create_cube(&ann(), NewCube::new(cube)).await.unwrap();
    }
    for (text, cube, session) in [
        ("my dog is called Max", "notes", "monday"),
        ("the dog of the office sleeps", "work", "tuesday"),
        ("the dog of the office eats", "work", "monday"),
    ] {
        mos.add(Add::text(text).user("ann").cube(cube).session(session)).await.unwrap();
    }
    let found = async |search: Search| serde_json::to_value(mos.search(search.user("ann")).await.unwrap()).unwrap();
    let all = found(Search::new("the dog")).await;
    for kind in ["text_mem", "act_mem", "para_mem", "pref_mem"] {
        assert!(all[kind].is_array(), "{all}");
    }
    assert_eq!(counted(&all), [("empty", 0), ("notes", 1), ("work", 2)].map(|(cube, n)| (cube.to_owned(), n)));
    let work = || Search::new("the dog").cubes([CubeId::from("work")]);
    assert_eq!(counted(&found(work()).await), [("work".to_owned(), 2)]);
    let one = found(work().top_k(1)).await;
    assert_eq!(counted(&one), [("work".to_owned(), 1)]);
    let monday = found(work().session("monday")).await;
    assert_eq!(counted(&monday), [("work".to_owned(), 1)]);
    assert_eq!(monday["text_mem"][0]["memories"][0]["memory"], "the dog of the office eats");
}

/// The cubes of a search, in the order of their names, with the number of memories that were found in each.
fn counted(found: &Value) -> Vec<(String, usize)> {
    let entries = found["text_mem"].as_array().unwrap().iter();
    let count = |entry: &Value| entry["memories"].as_array().unwrap().len();
    let mut cubes: Vec<(String, usize)> =
        entries.map(|entry| (entry["cube_id"].as_str().unwrap().to_owned(), count(entry))).collect();
    cubes.sort();
    cubes
}

#[tokio::test]
async fn searches_see_an_update_and_a_deletion() {
    let (_folder, mos) = house().await;
    let said = vec![Message::user("likes tea"), Message::user("plays chess")];
    let ids = mos.add(Add::messages(said).user("ann")).await.unwrap();
    let item = MemoryItem::new(ids[0].clone(), "collects old stamps");
    mos.update(&ann(), None, &ids[0], item).await.unwrap();
    let found = mos.search(Search::new("who collects stamps").user("ann")).await.unwrap();
    assert_eq!(found.best()[0].1.item.memory, "collects old stamps");
    let found = mos.search(Search::new("likes tea").user("ann")).await.unwrap();
    assert!(found.best().iter().all(|(_, hit)| hit.item.memory != "likes tea"), "the old text is not found");
    mos.delete(&ann(), None, &ids[1]).await.unwrap();
    let left = mos.get_all(&ann(), None).await.unwrap();
    assert_eq!(left.text_mem[0].memories.iter().map(|item| &item.id).collect::<Vec<_>>(), [&ids[0]]);
    let found = mos.search(Search::new("who plays chess").user("ann")).await.unwrap();
    assert!(found.best().iter().all(|(_, hit)| hit.item.id != ids[1]));
}

#[tokio::test]
async fn a_dump_of_another_program_is_not_loaded_into_a_cube() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let dump = folder.path().join("dumped");
    mos.dump(&ann(), None, &dump).await.unwrap();
    std::fs::write(dump.join("config.json"), r#"{"model_schema": "wrong.Schema"}"#).unwrap();
    let error = mos.load(&ann(), None, &dump).await.unwrap_err().to_string();
    assert!(error.contains("Configuration schema mismatch"), "{error}");
    assert_eq!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.len(), 1, "nothing has changed");
}

/// The request that a JSON body is.
fn asking<R: Request>(body: &Value) -> R {
    R::from_json(body).unwrap()
}

#[tokio::test]
async fn without_textual_memory_nothing_is_remembered_listed_found_or_told() {
    let server = ModelServer::start().await;
    let (folder, mos) = house().await;
    mos.add(Add::text("my dog is called Max").user("ann")).await.unwrap();
    drop(mos);
    let settings = json!({"chat_model": scripted(&server), "enable_textual_memory": false});
    let mos = open_by(folder.path(), settings_in(folder.path(), &settings)).await;

    let read = Remember::new(ReadInput::text("my cat is called Tom")).user("ann");
    for refused in [
        mos.add(Add::text("my cat is called Tom").user("ann")).await.unwrap_err(),
        mos.remember(read).await.unwrap_err(),
    ] {
        assert!(matches!(&refused, Error::Invalid(why) if why.contains("enable_textual_memory")), "{refused}");
    }
    assert!(mos.get_all(&ann(), None).await.unwrap().text_mem.is_empty());
    let page = mos.memory_page(&ann(), &CubeId::from("notes"), &Filter::Everything, Paging::ALL).await.unwrap();
    assert_eq!((page.entries.len(), page.total), (0, 0));
    let found = mos.search(Search::new("my dog").user("ann")).await.unwrap();
    assert!(found.best().is_empty() && found.notes().any(|(_, note)| note.contains("enable_textual_memory")));
    server.reply(Reply::text("Which dog?"));
    let reply = mos.chat(Chat::new("My dog barks at the cat").user("ann").remember(true)).await.unwrap();
    assert!(reply.memories.is_empty());
    reply.complete().await.unwrap();
    let sent = server.requests()[0].body["messages"].to_string();
    assert!(sent.contains("barks") && !sent.contains("Max"), "{sent}");

    let product = App::new(mos.clone(), ProductOptions::default()).product();
    let listed = product.get_memory(asking(&json!({"mem_cube_id": "notes"}))).await.unwrap().data;
    assert_eq!((listed.text_mem[0].memories.len(), listed.text_mem[0].total_nodes), (0, 0));
    for query in [None, Some("my dog")] {
        let mut drawn = json!({"user_id": "ann", "memory_type": "text_mem", "mem_cube_ids": ["notes"]});
        if let Some(query) = query {
            drawn["search_query"] = json!(query);
        }
        let drawn = product.get_all(asking(&drawn)).await.unwrap().data;
        assert!(drawn.iter().all(|cube| cube.memories[0].nodes.is_empty() && cube.memory_statistics.is_empty()));
    }
    server.reply(Reply::text(r#"{"query": ["What can you do?"]}"#));
    product.suggestions(asking(&json!({"user_id": "ann", "mem_cube_id": "notes"}))).await.unwrap();
    let sent = server.requests()[1].body["messages"].to_string();
    assert!(!sent.contains("Max"), "{sent}");

    drop((product, mos));
    let mos = crate::open(folder.path()).await;
    let kept = mos.get_all(&ann(), None).await.unwrap();
    assert_eq!(kept.text_mem[0].memories.len(), 1, "what was there stays, and nothing came");
}

#[tokio::test]
async fn a_cube_without_textual_memory_is_used_like_any_other_and_refuses_texts() {
    let (folder, mos) = house().await;
    let state = CubeId::from("state");
    let config = GeneralMemCubeConfig::from_json(&json!({})).unwrap();
    mos.create_cube(&ann(), NewCube { config: Some(config), ..NewCube::new(state.clone()) }).await.unwrap();
    let error = mos.add(Add::text("a dog").user("ann").cube(state.clone())).await.unwrap_err();
    let is_told =
        |error: &Error| matches!(error, Error::Memory(MemoryError::Unsupported(why)) if why.contains("text_mem"));
    assert!(is_told(&error), "{error}");
    let corrected = mos.feedback(&state, &FeedbackRequest::new("one", ann(), "No, a cat.")).await.unwrap_err();
    assert!(is_told(&corrected), "{corrected}");
    let read = Remember::new(ReadInput::text("a dog")).user("ann").cube(state.clone());
    assert!(is_told(&mos.remember(read).await.unwrap_err()));
    assert!(mos.get_all(&ann(), Some(&state)).await.unwrap().text_mem[0].memories.is_empty());
    let found = mos.search(Search::new("a dog").user("ann").cubes([state.clone()])).await.unwrap();
    assert!(found.notes().any(|(cube, note)| *cube == state && note.contains("no textual memory")));

    let (dump, file) = (folder.path().join("dump"), folder.path().join("state.tar"));
    mos.dump(&ann(), Some(&state), &dump).await.unwrap();
    assert!(dump.join("config.json").is_file() && !dump.join("textual_memory.json").exists());
    mos.register_mem_cube(&ann(), CubeSource::Directory(dump), Some(&"again".into())).await.unwrap();
    mos.export_cube(&ann(), Some(&"again".into()), &file).await.unwrap();
    assert!(mos.import_cube(&ann(), &file, Some(&"third".into())).await.unwrap().is_same());

    // Texts that a dump holds are not passed over.
    let texts = folder.path().join("texts");
    mos.dump(&ann(), Some(&"notes".into()), &texts).await.unwrap();
    let error = mos.load(&ann(), Some(&state), &texts).await.unwrap_err();
    assert!(is_told(&error), "{error}");
}

#[tokio::test]
async fn a_chat_about_a_cube_without_textual_memory_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let model = Arc::new(ScriptedChat::answering(|_| "Which dog?".to_owned()));
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let builder = Mos::builder(Settings::default()).data_dir(folder.path()).embedder(embedder).chat_model(model);
    let mos = builder.build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    let (state, config) = (CubeId::from("state"), GeneralMemCubeConfig::from_json(&json!({})).unwrap());
    mos.create_cube(&ann(), NewCube { config: Some(config), ..NewCube::new(state.clone()) }).await.unwrap();
    let chat = Chat::new("My dog barks at the cat").user("ann").cubes([state]).remember(true);
    let (answer, _) = mos.chat(chat).await.unwrap().complete().await.unwrap();
    assert_eq!(answer, "Which dog?");
}
