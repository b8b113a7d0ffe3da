//! Dumps that MemOS wrote are read, and given back as they were.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mos_core::{Edge, MemoryType, Status, TextMemory, TreeMemory};
use serde_json::{Map, Value, json};

use super::{House, kind, scope};
use crate::{item, origin};

const FILE: &str = "textual_memory.json";

fn example() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/fixtures/mem_cube_tree")
}

fn read(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(FILE)).unwrap()).unwrap()
}

fn by_id(file: &Value) -> HashMap<String, Map<String, Value>> {
    let node = |node: &Value| (node["id"].as_str().unwrap().to_owned(), node.as_object().unwrap().clone());
    file["nodes"].as_array().unwrap().iter().map(node).collect()
}

/// Sources as objects, however often they were encoded, without absent fields.
fn decoded(sources: &Value) -> Vec<Value> {
    let decode = |source: &Value| {
        let mut source = source.clone();
        while let Value::String(text) = &source {
            source = serde_json::from_str(text).unwrap();
        }
        if let Value::Object(fields) = &mut source {
            fields.retain(|_, value| !value.is_null());
        }
        source
    };
    sources.as_array().unwrap().iter().map(decode).collect()
}

fn assert_near(left: &Value, right: &Value) {
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (left, right) = (numbers(left), numbers(right));
    assert_eq!(left.len(), right.len());
    assert!(left.iter().zip(&right).all(|(left, right)| (left - right).abs() < 1e-5));
}

#[tokio::test]
async fn the_example_cube_comes_in_and_goes_out_again() {
    for house in House::all() {
        let (tree, dir) = (house.tree(), house.folder.path().join("dump"));
        assert_eq!(tree.load(&example(), origin()).await.unwrap(), 4);
        let working = tree.working_memory().await.unwrap();
        assert_eq!(working.len(), 2);
        assert!(working.iter().all(|copy| copy.working_copy_of().is_some()), "MemOS doubles memories without a word");
        tree.dump(&dir).await.unwrap();
        let (before, after) = (read(&example()), read(&dir));
        assert_eq!((&after["total_nodes"], &after["total_edges"]), (&before["total_nodes"], &before["total_edges"]));
        assert_eq!(after["edges"], before["edges"]);
        let after = by_id(&after);
        for (id, node) in by_id(&before) {
            let ours = &after[&id];
            assert_eq!(ours["memory"], node["memory"]);
            for (field, value) in node["metadata"].as_object().unwrap() {
                let got = &ours["metadata"][field];
                match field.as_str() {
                    "sources" => assert_eq!(decoded(got), decoded(value), "{id}"),
                    // The one of the original is enough for both.
                    "embedding" if node["metadata"]["memory_type"] == "WorkingMemory" => assert!(got.is_null()),
                    "embedding" => assert_near(got, value),
                    _ => assert_eq!(got, value, "{field} of {id}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn every_status_and_edge_of_memos_is_kept() {
    for house in House::all() {
        let (tree, dir) = (house.tree(), house.folder.path());
        let template = read(&example())["nodes"][0].clone();
        assert_eq!(template["metadata"]["memory_type"], "UserMemory");
        let node = |number: u32, status: &str, memory_type: &str| {
            let mut node = template.clone();
            node["id"] = json!(item(number, "").id);
            node["memory"] = json!(format!("the user said something, number {number}"));
            node["metadata"]["status"] = json!(status);
            node["metadata"]["memory_type"] = json!(memory_type);
            node
        };
        let nodes = [
            node(1, "activated", "LongTermMemory"),
            node(2, "resolving", "UserMemory"),
            node(3, "archived", "UserMemory"),
            node(4, "deleted", "LongTermMemory"),
            node(5, "activated", "WorkingMemory"),
        ];
        let kinds = ["PARENT", "MERGED_TO", "RELATE", "CAUSE", "CONDITION", "CONFLICT", "FOLLOWS", "AGGREGATE_TO"];
        let edge = |kind: &str| json!({"source": item(1, "").id, "target": item(3, "").id, "type": kind});
        let edges: Vec<Value> = kinds.iter().copied().map(edge).collect();
        let graph = json!({"nodes": nodes, "edges": edges, "total_nodes": 5, "total_edges": kinds.len()});
        std::fs::write(dir.join(FILE), graph.to_string()).unwrap();
        assert_eq!(tree.load(dir, origin()).await.unwrap(), 5);
        let status = async |number| tree.get(&item(number, "").id).await.unwrap().metadata.status;
        assert_eq!(status(2).await, Some(Status::Resolving));
        assert_eq!(status(3).await, Some(Status::Archived));
        assert_eq!(status(4).await, Some(Status::Deleted));
        assert_eq!(kind(&tree.get(&item(5, "").id).await.unwrap()), MemoryType::Working);
        let got = house.record.all_edges(&scope()).await.unwrap();
        let mut expected: Vec<Edge> = edges.iter().map(|edge| serde_json::from_value(edge.clone()).unwrap()).collect();
        expected.sort();
        assert_eq!(got, expected);
        let copy = dir.join("copy");
        tree.dump(&copy).await.unwrap();
        let (before, after) = (by_id(&graph), by_id(&read(&copy)));
        for (id, node) in before {
            assert_eq!(after[&id]["metadata"]["status"], node["metadata"]["status"], "{id}");
        }
        assert_eq!(read(&copy)["edges"].as_array().unwrap().len(), kinds.len());
    }
}
