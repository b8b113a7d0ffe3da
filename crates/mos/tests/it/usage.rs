//! What models take, counted for whom and for what, through the facade.

use std::collections::BTreeSet;
use std::sync::Arc;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, Chat, Mos, NewCube, Organize, Remember, Search, Settings};
use mos_core::{CubeId, Message, ReadInput, ReadMode, SearchMode};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ann, bob};

/// A conversation with a document and an image.
fn conversation() -> ReadInput {
    let note = "data:text/markdown;base64,IyBOb3RlCgpUaGUga2V5IGlzIHVuZGVyIHRoZSBtYXQu";
    let image = "data:image/png;base64,iVBORw0KGgowMDAw";
    ReadInput::from_value(json!([
        {"role": "user", "content": "My dog Max is three years old."},
        {"role": "user", "content": [
            {"type": "text", "text": "Look at these."},
            {"type": "file", "file": {"filename": "note.md", "file_data": note}},
            {"type": "image_url", "image_url": {"url": image}},
        ]},
    ]))
}

fn tree() -> CubeId {
    CubeId::from("tree")
}

/// A facade in which every kind of call has a model of its own on the server, and a tree of ann's.
async fn house(at: &ModelServer) -> (TempDir, Mos) {
    let model = |name: &str| {
        json!({"backend": "vllm", "config": {
            "model_name_or_path": name, "api_base": at.openai_url(), "max_retries": 0}})
    };
    let settings = json!({
        "chat_model": model("talker"),
        "mem_reader": {"backend": "multimodal_struct", "config": {
            "llm": model("reader"),
            "document_parser_llm": model("scholar"),
            "image_parser_llm": model("seer"),
            "embedder": {"backend": "ollama", "config": {"model_name_or_path": "unused"}},
            "chunker": {"backend": "sentence", "config": {}},
        }},
    });
    let folder = tempfile::tempdir().unwrap();
    let embedder = Arc::new(WordEmbedder::new("words", 256));
    let settings = Settings::from_json(&settings).unwrap();
    let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    let config = json!({
        "user_id": "ann",
        "text_mem": {"backend": "tree_text", "config": {
            "extractor_llm": model("organizer"), "dispatcher_llm": model("planner")}},
        "pref_mem": {"backend": "pref_text", "config": {"extractor_llm": model("learner")}},
    });
    let config = GeneralMemCubeConfig::from_json(&config).unwrap();
    mos.create_cube(&ann(), NewCube { cube_id: tree(), name: None, config: Some(config) }).await.unwrap();
    (folder, mos)
}

#[tokio::test]
async fn every_kind_of_call_is_counted_for_its_user_and_cube() {
    let at = ModelServer::start().await;
    let (_folder, mos) = house(&at).await;
    let read = Remember::new(conversation()).user("ann").cube(tree()).mode(ReadMode::Fine);
    mos.remember(read).await.unwrap();
    for (text, time) in [("I live in Paris", "2024-01-01T09:00:00"), ("I moved to Berlin", "2025-06-01T09:00:00")] {
        let said: Vec<Message> =
            serde_json::from_value(json!([{"role": "user", "content": text, "chat_time": time}])).unwrap();
        mos.add(Add::messages(said).user("ann").cube(tree())).await.unwrap();
    }
    mos.organize(Organize::new().user("ann").cube(tree())).await.unwrap();
    let search = Search::new("Where do I live?").user("ann").cubes([tree()]).mode(SearchMode::Fine);
    mos.search(search).await.unwrap();
    let told = [Message::user("I prefer tea to coffee.")];
    mos.learn_preferences(&ann(), Some(&tree()), None, &told).await.unwrap();
    mos.chat(Chat::new("Where do I live?").user("ann").cubes([tree()])).await.unwrap().complete().await.unwrap();

    let usage = mos.usage(&ann()).await.unwrap();
    let of_tree = usage.entries.iter().filter(|entry| entry.cube_id.as_ref() == Some(&tree()));
    let counted: BTreeSet<&str> = of_tree.map(|entry| entry.model.as_str()).collect();
    let expected = ["learner", "organizer", "planner", "reader", "scholar", "seer", "talker"];
    assert_eq!(counted, BTreeSet::from(expected), "{usage:?}");
    assert_eq!(usage.total.calls, at.requests().len() as u64, "none that is not counted");
    assert!(usage.entries.iter().all(|entry| entry.tokens.prompt_tokens > 0), "{usage:?}");
    assert!(mos.usage(&bob()).await.unwrap().entries.is_empty());
    let asked: BTreeSet<String> =
        at.requests().iter().filter_map(|request| Value::as_str(&request.body["model"]).map(str::to_owned)).collect();
    assert_eq!(asked, BTreeSet::from(expected.map(str::to_owned)));
}

#[tokio::test]
async fn what_an_encoder_is_given_is_counted_for_its_user_and_cube() {
    let at = ModelServer::start().await;
    let encoder = json!({"backend": "openai", "config": {"model_name_or_path": "toy", "api_base": at.openai_url()}});
    let settings = Settings::from_json(&json!({"embedder": encoder})).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mos = Mos::builder(settings).data_dir(folder.path()).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    mos.add(Add::text("my dog is called Max").user("ann")).await.unwrap();
    let added = mos.usage(&ann()).await.unwrap();
    let search = || Search::new("what is my dog called?").user("ann");
    mos.search(search()).await.unwrap();
    let searched = mos.usage(&ann()).await.unwrap();
    assert!(added.total.embedded_tokens > 0, "{added:?}");
    assert!(searched.total.embedded_tokens > added.total.embedded_tokens, "{searched:?}");
    let [entry] = &searched.entries[..] else { panic!("{searched:?}") };
    let cube = entry.cube_id.as_ref().map(CubeId::as_str);
    assert_eq!((entry.model.as_str(), cube, entry.tokens.calls), ("toy", Some("notes"), 0));
    mos.search(search()).await.unwrap();
    assert_eq!(mos.usage(&ann()).await.unwrap(), searched, "the question is remembered");
}
