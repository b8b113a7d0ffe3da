//! Memory items serialise, coerce and refuse exactly as upstream's recorded files show.

use std::path::{Path, PathBuf};

use mos_core::{MemoryItem, ValidationError};
use serde_json::{Value, json};

fn golden(name: &str) -> Value {
    let path: PathBuf =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("fixtures/compat/golden").join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

fn read(value: Value) -> Result<MemoryItem, ValidationError> {
    MemoryItem::from_value(value, || "00000000-0000-4000-8000-00000000ffff".to_owned())
}

/// What was given to upstream to get the recorded item, where it differs from the item's own dump.
fn input_of(name: &str, expected: &Value) -> Value {
    let mut input = expected["model_dump"].clone();
    if name == "tree_full" {
        input["metadata"]["sources"] = json!([
            {"type": "chat", "role": "user", "chat_time": "09:00", "content": "I have a dog"},
            {"content": "no role"},
            "plain string",
            "{\"role\": \"assistant\", \"content\": \"json string\"}",
        ]);
    }
    input
}

#[test]
fn every_recorded_item_reproduces() {
    let items = golden("textual_memory_items.json");
    for (name, expected) in items.as_object().unwrap() {
        let item = read(input_of(name, expected)).unwrap();
        assert_eq!(item.to_value(), expected["model_dump"], "{name}");
        assert_eq!(item.to_compact_value(), expected["to_dict"], "{name}");
        assert_eq!(item.to_string(), expected["str"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn an_item_survives_its_own_dumps() {
    for (name, expected) in golden("textual_memory_items.json").as_object().unwrap() {
        let item = read(input_of(name, expected)).unwrap();
        assert_eq!(read(item.to_value()).unwrap(), item, "{name}");
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(serde_json::from_str::<MemoryItem>(&text).unwrap(), item, "{name}");
    }
}

#[test]
fn the_same_inputs_are_refused_at_the_same_fields() {
    const ID: &str = "00000000-0000-4000-8000-000000000001";
    let recorded = golden("validation_errors.json");
    let inputs = [
        ("item_bad_uuid", json!({"id": "nope", "memory": "m"})),
        ("item_extra_top_level_key", json!({"id": ID, "memory": "m", "foo": 1})),
        ("item_missing_memory", json!({"id": ID})),
        ("bad_status", json!({"id": ID, "memory": "m", "metadata": {"status": "gone"}})),
        ("bad_memory_type", json!({"id": ID, "memory": "m", "metadata": {"memory_type": "X"}})),
        ("bad_source_literal", json!({"id": ID, "memory": "m", "metadata": {"source": "dream"}})),
    ];
    for (name, input) in inputs {
        let refused = read(input).unwrap_err();
        let got: Vec<Value> =
            refused.errors.iter().map(|error| json!({"loc": error.loc, "kind": error.kind})).collect();
        assert_eq!(Value::Array(got), recorded[name]["errors"], "{name}");
    }
    let refused = read(json!({"id": ID, "memory": "m", "metadata": {"sources": 5}})).unwrap_err();
    assert_eq!(refused.errors[0].msg, recorded["sources_not_list"]["errors"].as_str().unwrap());
}

#[test]
fn unknown_metadata_is_kept_and_a_nested_object_is_unwrapped() {
    let item = read(json!({"memory": "m", "metadata": {"metadata": {"key": "k", "mine": [1, 2]}}})).unwrap();
    assert_eq!(item.metadata.key.as_deref(), Some("k"));
    assert_eq!(item.metadata.extra["mine"], json!([1, 2]));
    assert_eq!(item.id.as_str(), "00000000-0000-4000-8000-00000000ffff", "a missing id is filled");
}
