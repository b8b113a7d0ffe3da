//! Cubes whose configuration says `tree_text`.

use std::sync::Arc;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, CubeSource, Error, Mos, NewCube, Search, Settings};
use mos_core::{CubeId, MemoryError, MemoryId, MemoryType, Message};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

use crate::{ann, bob, house, open};

fn tree() -> CubeId {
    CubeId::from("tree")
}

fn config(text_mem: Value) -> GeneralMemCubeConfig {
    let text_mem = json!({"backend": "tree_text", "config": text_mem});
    GeneralMemCubeConfig::from_json(&json!({"user_id": "ann", "text_mem": text_mem})).unwrap()
}

async fn make(mos: &Mos, cube: &CubeId, text_mem: Value) {
    let new = NewCube { cube_id: cube.clone(), name: None, config: Some(config(text_mem)) };
    mos.create_cube(&ann(), new).await.unwrap();
}

async fn add(mos: &Mos, text: &str) -> MemoryId {
    mos.add(Add::text(text).user("ann").cube(tree())).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_tree_is_added_to_searched_and_listed_as_a_graph() {
    let (folder, mos) = house().await;
    make(&mos, &tree(), json!({})).await;
    let messages: Vec<Message> = serde_json::from_value(json!([
        {"role": "user", "content": "My dog is called Max.", "message_id": "m1", "chat_time": "2024-02-01T09:00:00"},
        {"role": "assistant", "content": "What a good name!"},
    ]))
    .unwrap();
    let ids = mos.add(Add::messages(messages).user("ann").cube(tree()).session("s")).await.unwrap();
    drop(mos);
    let mos = open(folder.path()).await;
    let found = mos.search(Search::new("what is my dog called").user("ann").cubes([tree()])).await.unwrap();
    assert_eq!(found.best()[0].1.item.id, ids[0]);
    assert_eq!(found.best().len(), 2, "no copies");
    let listed = serde_json::to_value(mos.get_all(&ann(), Some(&tree())).await.unwrap()).unwrap();
    let graph = &listed["text_mem"][0]["memories"];
    assert_eq!((&graph["total_nodes"], &graph["total_edges"], &graph["edges"]), (&json!(4), &json!(0), &json!([])));
    let kinds: Vec<&str> = graph["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["metadata"]["memory_type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "WorkingMemory").count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == "LongTermMemory").count(), 2);
    let first = mos.get(&ann(), Some(&tree()), &ids[0]).await.unwrap();
    assert_eq!(first.metadata.tree().unwrap().sources.as_ref().unwrap()[0].message_id.as_deref(), Some("m1"));
    assert!(mos.doctor().await.unwrap().findings.is_empty(), "working copies need no embedding");
    let handle = mos.cube(&ann(), &tree()).await.unwrap();
    assert_eq!(handle.text_mem().as_tree().unwrap().sizes().await.unwrap()[&MemoryType::LongTerm], 2);
    assert!(mos.cube(&ann(), &"notes".into()).await.unwrap().text_mem().as_tree().is_none());
}

#[tokio::test]
async fn sizes_and_mode_come_from_the_configuration_of_the_cube() {
    let (_folder, mos) = house().await;
    make(&mos, &tree(), json!({"mode": "async", "memory_size": {"WorkingMemory": 1, "LongTermMemory": 2}})).await;
    for text in ["likes tea", "plays chess", "has a dog"] {
        add(&mos, text).await;
    }
    let handle = mos.cube(&ann(), &tree()).await.unwrap();
    let sizes = handle.text_mem().as_tree().unwrap().sizes().await.unwrap();
    assert_eq!((sizes[&MemoryType::Working], sizes[&MemoryType::LongTerm]), (1, 2));
    let all = handle.text_mem().get_all().await.unwrap();
    assert!(all.iter().all(|item| item.metadata.is_fast == Some(true)));
    let wrong = json!({"user_id": "ann", "text_mem": {"backend": "tree_text", "config": {"memory_size": {"Dogs": 1}}}});
    let error = GeneralMemCubeConfig::from_json(&wrong).unwrap_err().to_string();
    assert!(error.contains("memory_size.Dogs") && error.contains("UserMemory"), "{error}");
}

#[tokio::test]
async fn histories_and_undo_work_for_every_kind_of_cube() {
    let (_folder, mos) = house().await;
    make(&mos, &tree(), json!({})).await;
    let naive = json!({"user_id": "ann", "text_mem": {"backend": "naive_text", "config": {}}});
    let naive =
        NewCube { cube_id: "naive".into(), name: None, config: Some(GeneralMemCubeConfig::from_json(&naive).unwrap()) };
    mos.create_cube(&ann(), naive).await.unwrap();
    for named in ["notes", "naive", "tree"].map(CubeId::from) {
        let cube = Some(&named);
        let id = mos.add(Add::text("likes tea").user("ann").cube(named.clone())).await.unwrap().remove(0);
        let mut item = mos.get(&ann(), cube, &id).await.unwrap();
        item.memory = "likes coffee".to_owned();
        mos.update(&ann(), cube, &id, item).await.unwrap();
        assert_eq!(mos.undo(&ann(), cube, &id).await.unwrap().memory, "likes tea");
        mos.delete(&ann(), cube, &id).await.unwrap();
        let back = mos.undo(&ann(), cube, &id).await.unwrap();
        assert_eq!((back.memory.as_str(), &back.id), ("likes tea", &id));
        let found = mos.search(Search::new("tea").user("ann").cubes([named.clone()])).await.unwrap();
        assert_eq!(found.best()[0].1.item.id, id);
        let history = mos.history(&ann(), cube, &id).await.unwrap();
        let reasons: Vec<&str> = history.iter().map(|state| state.origin.reason.as_str()).collect();
        assert_eq!(reasons, ["add", "update", "undo", "delete", "undo"]);
        assert!(history.iter().all(|state| state.origin.actor == "ann"));
        assert!(matches!(mos.history(&bob(), cube, &id).await, Err(Error::NoAccess { .. })));
        assert!(matches!(mos.undo(&bob(), cube, &id).await, Err(Error::NoAccess { .. })));
        let unknown = MemoryId::from("00000000-0000-4000-8000-00000000ffff");
        for error in [
            mos.history(&ann(), cube, &unknown).await.unwrap_err(),
            mos.undo(&ann(), cube, &unknown).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Memory(MemoryError::NotFound(_))), "{error}");
        }
    }
}

#[tokio::test]
async fn the_truth_of_a_moment_can_be_asked_for() {
    let (_folder, mos) = house().await;
    make(&mos, &tree(), json!({})).await;
    let paris = add(&mos, "I live in Paris").await;
    let berlin = add(&mos, "I moved to Berlin").await;
    for (id, from, to) in [(&paris, "2023-01-01", Some("2024-05-01")), (&berlin, "2024-05-01", None)] {
        let mut item = mos.get(&ann(), Some(&tree()), id).await.unwrap();
        item.metadata.extra.insert("valid_from".to_owned(), json!(from));
        if let Some(to) = to {
            item.metadata.extra.insert("valid_to".to_owned(), json!(to));
        }
        mos.update(&ann(), Some(&tree()), id, item).await.unwrap();
    }
    let ask = |search: Search| mos.search(search.user("ann").cubes([tree()]));
    let now = ask(Search::new("where do I live")).await.unwrap();
    let order: Vec<&MemoryId> = now.best().into_iter().map(|(_, found)| &found.item.id).collect();
    assert_eq!(order, [&berlin, &paris]);
    let then = ask(Search::new("where do I live").as_of("2023-06-01")).await.unwrap();
    assert_eq!((then.best().len(), &then.best()[0].1.item.id), (1, &paris));
    assert!(matches!(ask(Search::new("x").as_of("once")).await, Err(Error::Invalid(_))));
    let nobody = mos.search(Search::new("x").user("without cubes").as_of("once")).await;
    assert!(matches!(nobody, Err(Error::Invalid(_))), "{nobody:?}");
    let of_type = ask(Search::new("where do I live").types([MemoryType::Skill])).await.unwrap();
    assert!(of_type.best().is_empty());
}

#[tokio::test]
async fn a_dumped_tree_can_be_registered_elsewhere() {
    let (folder, mos) = house().await;
    make(&mos, &tree(), json!({"memory_filename": "tree.json"})).await;
    let id = add(&mos, "my dog is called Max").await;
    let dump = folder.path().join("dumped");
    mos.dump(&ann(), Some(&tree()), &dump).await.unwrap();
    assert!(dump.join("tree.json").is_file());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path()).await;
    other.create_user("bob", None).await.unwrap();
    other.register_mem_cube(&bob(), CubeSource::Directory(dump), Some(&tree())).await.unwrap();
    let found = other.search(Search::new("dog").user("bob")).await.unwrap();
    assert_eq!(found.best()[0].1.item.id, id);
    let before = mos.get_all(&ann(), Some(&tree())).await.unwrap();
    let after = other.get_all(&bob(), Some(&tree())).await.unwrap();
    assert_eq!(after.text_mem[0].memories, before.text_mem[0].memories);
    assert_eq!(after.text_mem[0].graph, before.text_mem[0].graph);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_works_on_servers() {
    let Some((store, users, cube)) = crate::servers::servers("tree") else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({"store": store, "user_manager": users, "models_dir": folder.path().join("models")});
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(&settings).unwrap();
    let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    make(&mos, &cube, json!({"memory_size": {"WorkingMemory": 2}})).await;
    let mut ids = Vec::new();
    for text in ["my dog is called Max", "likes tea", "plays chess", "likes tea"] {
        ids.extend(mos.add(Add::text(text).user("ann").cube(cube.clone())).await.unwrap());
    }
    assert_eq!(ids[3], ids[1], "the same again");
    let found = mos.search(Search::new("what is my dog called").user("ann").cubes([cube.clone()])).await.unwrap();
    assert_eq!(found.best()[0].1.item.id, ids[0]);
    let handle = mos.cube(&ann(), &cube).await.unwrap();
    let sizes = handle.text_mem().as_tree().unwrap().sizes().await.unwrap();
    assert_eq!((sizes[&MemoryType::Working], sizes[&MemoryType::LongTerm]), (2, 3));
    mos.delete(&ann(), Some(&cube), &ids[0]).await.unwrap();
    assert_eq!(mos.undo(&ann(), Some(&cube), &ids[0]).await.unwrap().memory, "my dog is called Max");
    mos.delete_cube(&ann(), &cube).await.unwrap();
}
