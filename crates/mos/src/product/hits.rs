//! Memories as answers of the product API have them.

use mos_core::{CubeId, MemoryItem, MemoryType};
use serde_json::{Map, Value, json};

use crate::facade::FoundMemory;

/// Which of the four lists of an answer a memory is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// `text_mem`.
    Text,
    /// `pref_mem`.
    Preference,
    /// `tool_mem`.
    Tool,
    /// `skill_mem`.
    Skill,
}

impl Shelf {
    /// Returns the list that a memory belongs to.
    pub(super) fn of(item: &MemoryItem) -> Self {
        match item.metadata.memory_type() {
            Some(MemoryType::Preference) => Self::Preference,
            Some(MemoryType::ToolSchema | MemoryType::ToolTrajectory) => Self::Tool,
            Some(MemoryType::Skill) => Self::Skill,
            None if item.metadata.to_map().contains_key("preference_type") => Self::Preference,
            _ => Self::Text,
        }
    }
}

/// The type of a memory in answers; one that stands on no shelf of a tree counts as a fact of past conversations.
pub(super) fn memory_type(item: &MemoryItem) -> &'static str {
    item.metadata.memory_type().unwrap_or(MemoryType::LongTerm).as_str()
}

/// Returns a memory as `{"id", "memory", "metadata"}`: the metadata without its empty fields and its embedding, with the
/// application's data among its fields, and with the cube as `mem_cube_id`.
pub(super) fn node_value(item: &MemoryItem, cube: &CubeId) -> Value {
    json!({"id": item.id, "memory": item.memory, "metadata": metadata_of(item, cube)})
}

fn metadata_of(item: &MemoryItem, cube: &CubeId) -> Map<String, Value> {
    let mut metadata = item.metadata.to_map();
    let info = metadata.shift_remove("info");
    metadata.shift_remove("embedding");
    metadata.retain(|_, value| !value.is_null());
    if !metadata.contains_key("memory_type") {
        metadata.insert("memory_type".to_owned(), json!(memory_type(item)));
    }
    if let Some(Value::Object(info)) = info {
        for (key, value) in info {
            // A field of the memory itself goes before what the application calls so.
            if !metadata.contains_key(&key) {
                metadata.insert(key, value);
            }
        }
    }
    metadata.insert("mem_cube_id".to_owned(), json!(cube));
    metadata
}

/// Returns a memory that was found: as [`node_value`], with how well it fits and what names it once more in its metadata.
pub(super) fn hit_value(found: &FoundMemory, cube: &CubeId) -> Value {
    let item = &found.item;
    let ref_id = reference(item);
    let mut metadata = metadata_of(item, cube);
    for (key, value) in [
        ("relativity", json!(found.relativity)),
        ("id", json!(item.id)),
        ("memory", json!(item.memory)),
        ("ref_id", json!(ref_id)),
        ("embedding", json!([])),
        ("usage", json!([])),
        ("sources", Value::Array(found.sources())),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    json!({"id": item.id, "memory": item.memory, "ref_id": ref_id, "metadata": metadata})
}

/// Returns how a memory is cited: the first block of its id, in brackets.
pub(super) fn reference(item: &MemoryItem) -> String {
    let id = item.id.as_str();
    format!("[{}]", id.split('-').next().unwrap_or(id))
}

/// Returns the memories of one cube as answers list them. `total_nodes` is how many there are, also of those that are not in
/// this part of the list.
pub(super) fn bucket(cube: &CubeId, memories: Vec<Value>, total_nodes: usize) -> Value {
    json!({"cube_id": cube, "memories": memories, "total_nodes": total_nodes})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(metadata: Value) -> MemoryItem {
        let value =
            json!({"id": "0a1b2c3d-0000-4000-8000-000000000001", "memory": "Ann likes tea", "metadata": metadata});
        MemoryItem::from_value(value, String::new).unwrap()
    }

    #[test]
    fn a_node_has_the_applications_data_among_its_fields_and_nothing_empty() {
        let item = item(json!({"memory_type": "UserMemory", "key": "tea", "embedding": [0.5],
            "info": {"city": "Bonn", "key": "other"}}));
        let node = node_value(&item, &CubeId::from("ann"));
        assert_eq!((&node["id"], &node["memory"]), (&json!(item.id), &json!("Ann likes tea")));
        let metadata = node["metadata"].as_object().unwrap();
        assert_eq!((&metadata["city"], &metadata["key"]), (&json!("Bonn"), &json!("tea")));
        assert_eq!((&metadata["mem_cube_id"], &metadata["memory_type"]), (&json!("ann"), &json!("UserMemory")));
        assert!(["embedding", "info", "confidence"].iter().all(|key| !metadata.contains_key(*key)), "{metadata:?}");
    }

    #[test]
    fn a_hit_names_itself_and_how_well_it_fits() {
        let found = FoundMemory {
            item: item(json!({"memory_type": "LongTermMemory", "usage": ["once"]})),
            score: 0.4,
            relativity: 0.5,
            signals: Vec::new(),
            reranked: None,
            paths: Vec::new(),
        };
        let hit = hit_value(&found, &CubeId::from("ann"));
        assert_eq!((&hit["ref_id"], &hit["metadata"]["ref_id"]), (&json!("[0a1b2c3d]"), &json!("[0a1b2c3d]")));
        assert_eq!((&hit["metadata"]["relativity"], &hit["metadata"]["usage"]), (&json!(0.5), &json!([])));
        assert_eq!((&hit["metadata"]["memory"], &hit["metadata"]["embedding"]), (&json!("Ann likes tea"), &json!([])));
    }

    #[test]
    fn every_kind_has_its_list() {
        let shelf = |metadata: Value| Shelf::of(&item(metadata));
        assert_eq!(shelf(json!({"memory_type": "ToolTrajectoryMemory"})), Shelf::Tool);
        assert_eq!(shelf(json!({"memory_type": "SkillMemory"})), Shelf::Skill);
        assert_eq!(shelf(json!({"memory_type": "RawFileMemory"})), Shelf::Text);
        assert_eq!(shelf(json!({"memory_type": "PreferenceMemory"})), Shelf::Preference);
        assert_eq!(shelf(json!({"preference_type": "explicit_preference"})), Shelf::Preference);
        assert_eq!(shelf(json!({})), Shelf::Text);
    }
}
