use std::path::Path;
use std::sync::Arc;

use mos_core::{Edge, MemoryError, MemoryId, MemoryType, TextMemory, TreeMemory};
use mos_memory::{TreeOptions, TreeText};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

use super::{House, hits, ids, message, scope, with};
use crate::{item, origin, texts};

const FILE: &str = "textual_memory.json";

fn edge(from: u32, to: u32) -> Edge {
    Edge { source: item(from, "").id, target: item(to, "").id, kind: "CAUSE".to_owned() }
}

async fn sample(tree: &TreeText) {
    let items = vec![
        message(1, "it rains", json!({"role": "user", "message_id": "m1", "chat_time": "2024-01-01"})),
        with(2, "the street is wet", json!({"memory_type": "UserMemory", "tags": ["weather"]})),
        with(3, "old news", json!({"memory_type": "UserMemory", "status": "archived"})),
    ];
    tree.add(items, origin().into()).await.unwrap();
    tree.add_edges(vec![edge(1, 2)], origin()).await.unwrap();
}

fn read(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(FILE)).unwrap()).unwrap()
}

/// Says which model the vectors of a dump are of.
fn name_the_model(dir: &Path) {
    let config = json!({"text_mem": {"config": {"embedder": {"config": {"model_name_or_path": "words"}}}}});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

#[tokio::test]
async fn dump_then_load_is_the_identity_edges_and_vectors_included() {
    for house in House::all() {
        let (tree, dir) = (house.tree(), house.folder.path().join("dump"));
        sample(&tree).await;
        let all: Vec<MemoryId> = (1..=3).map(|number| item(number, "").id).collect();
        let state = async || {
            let vectors = house.record.embeddings(&scope(), &all).await.unwrap();
            (tree.get_all().await.unwrap(), house.record.all_edges(&scope()).await.unwrap(), vectors)
        };
        let before = state().await;
        tree.dump(&dir).await.unwrap();
        let file = read(&dir);
        assert_eq!((&file["total_nodes"], &file["total_edges"]), (&json!(5), &json!(1)));
        assert_eq!(file["edges"][0], json!({"source": item(1, "").id, "target": item(2, "").id, "type": "CAUSE"}));
        assert_eq!(file["nodes"][0]["metadata"]["embedding"].as_array().unwrap().len(), 256);
        name_the_model(&dir);
        assert_eq!(tree.delete_all(origin()).await.unwrap(), 5);
        assert_eq!(tree.load(&dir, origin()).await.unwrap(), 5);
        assert_eq!(state().await, before);
        assert_eq!(ids(&hits(&tree, "wet street", 1).await), [item(2, "").id]);
        // Known memories are replaced, nothing is doubled.
        assert_eq!(tree.load(&dir, origin()).await.unwrap(), 5);
        assert_eq!(state().await, before);
    }
}

#[tokio::test]
async fn a_dump_without_vectors_and_one_of_another_model_are_embedded_anew() {
    for house in House::all() {
        let (tree, dir) = (house.tree(), house.folder.path().join("dump"));
        sample(&tree).await;
        house.tree_with(TreeOptions { dump_embeddings: false, ..TreeOptions::default() }).dump(&dir).await.unwrap();
        assert!(read(&dir)["nodes"].as_array().unwrap().iter().all(|node| node["metadata"]["embedding"].is_null()));
        tree.delete_all(origin()).await.unwrap();
        assert_eq!(tree.load(&dir, origin()).await.unwrap(), 5);
        assert_eq!(ids(&hits(&tree, "wet street", 1).await), [item(2, "").id]);
        // A cube of another model takes the memories and makes vectors of its own.
        tree.dump(&dir).await.unwrap();
        name_the_model(&dir);
        let other = House::in_memory();
        let embedder = Arc::new(WordEmbedder::new("other words", 64));
        let target = other.tree_of(embedder, TreeOptions::default(), Arc::default());
        target.add(vec![item(8, "plays chess")], origin().into()).await.unwrap();
        assert_eq!(target.load(&dir, origin()).await.unwrap(), 5);
        assert_eq!(ids(&hits(&target, "wet street", 1).await), [item(2, "").id]);
    }
}

#[tokio::test]
async fn a_file_of_memos_is_read_with_its_sources_and_its_doubled_working_memory() {
    let house = House::sqlite();
    let (tree, dir) = (house.tree(), house.folder.path());
    let source = json!({"type": "chat", "role": "user", "chat_time": "08:51 PM on 13 January, 2026", "content": "hi"});
    let written_twice = Value::from(source.to_string()).to_string();
    let node = |number: u32, kind: &str| {
        json!({"id": item(number, "").id, "memory": "the user likes tea", "metadata": {"memory_type": kind,
            "sources": [written_twice], "confidence": 0.99, "usage": [], "type": "fact", "status": "activated",
            "user_id": "example_user", "session_id": "default_session", "embedding": [0.6, 0.8, 0.0],
            "created_at": "2026-01-13T20:51:42.394870000+00:00"}})
    };
    let nodes = [node(1, "UserMemory"), node(2, "WorkingMemory")];
    let graph = json!({"nodes": nodes, "edges": [], "total_nodes": 2, "total_edges": 0});
    std::fs::write(dir.join(FILE), graph.to_string()).unwrap();
    name_the_model(dir);
    assert_eq!(tree.load(dir, origin()).await.unwrap(), 2);
    let read = tree.get(&item(1, "").id).await.unwrap();
    let sources = read.metadata.tree().unwrap().sources.clone().unwrap();
    assert_eq!((sources[0].role.as_deref(), sources[0].content.as_deref()), (Some("user"), Some("hi")));
    let working = tree.working_memory().await.unwrap();
    assert_eq!(working[0].working_copy_of(), Some(item(1, "").id.as_str()));
    let vectors = house.record.embeddings(&scope(), &[item(1, "").id, item(2, "").id]).await.unwrap();
    assert_eq!(vectors, [(item(1, "").id, vec![0.6, 0.8, 0.0])]);
}

#[tokio::test]
async fn a_file_that_is_no_dump_is_named_and_changes_nothing() {
    for house in House::all() {
        let (tree, dir) = (house.tree(), house.folder.path());
        assert_eq!(tree.load(dir, origin()).await.unwrap(), 0, "no file holds no memories");
        sample(&tree).await;
        let before = tree.get_all().await.unwrap();
        let good = json!({"id": item(7, "").id, "memory": "fine", "metadata": {}});
        let loose = json!({"source": item(7, "").id, "target": item(99, "").id, "type": "PARENT"});
        for bad in [
            "not json".to_owned(),
            "[]".to_owned(),
            json!({"nodes": [good, {"id": "x"}]}).to_string(),
            json!({"nodes": [good], "edges": [loose]}).to_string(),
        ] {
            std::fs::write(dir.join(FILE), &bad).unwrap();
            let error = tree.load(dir, origin()).await.unwrap_err().to_string();
            assert!(error.contains(FILE), "{error}");
            assert_eq!(tree.get_all().await.unwrap(), before);
        }
    }
}

#[tokio::test]
async fn a_backup_is_dated_old_ones_go_and_the_memory_is_emptied() {
    for house in House::all() {
        let (tree, dir) = (house.tree(), house.folder.path().join("backups"));
        sample(&tree).await;
        let made = tree.back_up(&dir, 2, origin()).await.unwrap();
        assert_eq!((&made.folder, made.n_memories), (&dir.join("memos_backup_20260102_030405"), 5));
        assert!(tree.get_all().await.unwrap().is_empty());
        assert_eq!(tree.load(&made.folder, origin()).await.unwrap(), 5, "nothing is lost");
        let mut names = Vec::new();
        for _ in 0..2 {
            house.wait();
            tree.add(vec![item(9, "plays chess")], origin().into()).await.unwrap();
            names.push(tree.back_up(&dir, 2, origin()).await.unwrap().folder);
        }
        let mut left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        assert_eq!(left, names, "the oldest is gone, nothing unfinished is left");
        sample(&tree).await;
        assert!(matches!(tree.back_up(&dir, 0, origin()).await, Err(MemoryError::Invalid(_))));
        let file = house.folder.path().join("a file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(tree.back_up(&file, 2, origin()).await, Err(MemoryError::File { .. })));
        assert_eq!(tree.sizes().await.unwrap()[&MemoryType::User], 2, "without a backup nothing is removed");
        assert!(texts(&tree.working_memory().await.unwrap()).contains(&"it rains"));
    }
}
