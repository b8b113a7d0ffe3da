//! What searches find, and how it is written.

use mos_core::{CubeId, Hit, MemoryItem, QueryPath, Reranked, Signal};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// A memory that was found, and why. Serialises as the memory with `metadata.relativity`, and beside its fields `score`,
/// `signals`, `paths`, `sources` (without their texts) and, when a reranker gave the order, `rerank`.
#[derive(Clone, Debug)]
pub struct FoundMemory {
    /// The memory.
    pub item: MemoryItem,
    /// The fused score of recall.
    pub score: f32,
    /// How well it fits, from 0 to 1.
    pub relativity: f32,
    /// What each recall path said.
    pub signals: Vec<Signal>,
    /// What the reranker said, when one gave the order.
    pub reranked: Option<Reranked>,
    /// Which queries found it.
    pub paths: Vec<QueryPath>,
}

impl FoundMemory {
    /// Returns what the memory was drawn from, without the texts: for a message its id, role and time, for a file its path
    /// and the place in it, for a page its address; as far as that is known.
    pub fn sources(&self) -> Vec<Value> {
        if let Some(sources) = self.item.metadata.tree().and_then(|fields| fields.sources.as_ref()) {
            let without_text = |mut source: Value| {
                if let Some(source) = source.as_object_mut() {
                    source.shift_remove("content");
                }
                source
            };
            return sources.iter().map(|source| without_text(source.to_value(false))).collect();
        }
        let Some(info) = &self.item.metadata.info else { return Vec::new() };
        let mut source = Map::from_iter([("type".to_owned(), json!("chat"))]);
        for key in ["role", "name", "chat_time", "message_id"] {
            if let Some(value) = info.get(key).filter(|value| !value.is_null()) {
                source.insert(key.to_owned(), value.clone());
            }
        }
        if source.len() > 1 { vec![Value::Object(source)] } else { Vec::new() }
    }
}

impl Serialize for FoundMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut value = self.item.to_value();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("relativity".to_owned(), json!(self.relativity));
        }
        value["score"] = json!(self.score);
        value["signals"] = self
            .signals
            .iter()
            .map(|signal| (signal.name.to_owned(), json!(signal.score)))
            .collect::<Map<String, Value>>()
            .into();
        if let Some(reranked) = &self.reranked {
            value["rerank"] = json!(reranked);
        }
        value["paths"] = json!(self.paths);
        value["sources"] = Value::Array(self.sources());
        value.serialize(serializer)
    }
}

impl From<Hit> for FoundMemory {
    fn from(hit: Hit) -> Self {
        let Hit { item, score, relativity, signals, reranked, paths } = hit;
        Self { item, score, relativity, signals, reranked, paths }
    }
}

/// What was found in one cube.
#[derive(Clone, Debug, Serialize)]
pub struct CubeHits {
    /// The cube.
    pub cube_id: CubeId,
    /// Best first.
    pub memories: Vec<FoundMemory>,
    /// What could not be done, and why nothing was found, one sentence each. Serialised when there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A cube that could not be searched.
#[derive(Clone, Debug, Serialize)]
pub struct SkippedCube {
    /// The cube.
    pub cube_id: CubeId,
    /// Why, and what to do.
    pub reason: String,
}

/// What was found, in the shape of MemOS' `search`: one entry per cube, also for cubes without a hit.
#[derive(Clone, Debug, Default)]
pub struct SearchResult {
    /// Textual memories by cube.
    pub text_mem: Vec<CubeHits>,
    /// Preferences by cube, the stated ones first, each best first; an entry for every cube that has a memory of them, when
    /// they were asked for.
    pub pref_mem: Vec<CubeHits>,
    /// Cubes that were not named and could not be searched, for example because another encoder made them. Serialised
    /// when there are any.
    pub skipped: Vec<SkippedCube>,
}

impl SearchResult {
    /// Returns the textual memories of all cubes, best first: by relativity, those of one cube in its order.
    pub fn best(&self) -> Vec<(&CubeId, &FoundMemory)> {
        let mut all: Vec<(&CubeId, &FoundMemory)> = self
            .text_mem
            .iter()
            .flat_map(|cube| cube.memories.iter().map(move |found| (&cube.cube_id, found)))
            .collect();
        all.sort_by(|left, right| right.1.relativity.total_cmp(&left.1.relativity));
        all
    }

    /// Returns the notes of all cubes, each with its cube.
    pub fn notes(&self) -> impl Iterator<Item = (&CubeId, &str)> {
        let cubes = self.text_mem.iter().chain(&self.pref_mem);
        cubes.flat_map(|cube| cube.notes.iter().map(move |note| (&cube.cube_id, note.as_str())))
    }
}

impl Serialize for SearchResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut value = json!({"text_mem": self.text_mem, "act_mem": [], "para_mem": [], "pref_mem": self.pref_mem});
        if let Some(text) = self.pref_string() {
            value["pref_string"] = json!(text);
            value["pref_note"] = json!(super::PREFERENCE_NOTE);
        }
        if !self.skipped.is_empty() {
            value["skipped"] = json!(self.skipped);
        }
        value.serialize(serializer)
    }
}
