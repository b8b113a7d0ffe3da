//! What tools answer.

use mos::FoundMemory;
use mos::product::ProductError;
use mos_core::memory::{SourceKind, SourceWord, Trust};
use mos_core::{MemoryItem, MemoryType, Version};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

/// What a tool answers: for people and models a text, for programs an object.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    text: String,
    value: Value,
}

impl Answer {
    /// Returns an answer that is a sentence; for programs it is `result`, beside what `more` holds.
    pub(super) fn sentence(text: impl Into<String>, more: Value) -> Self {
        let text = text.into();
        let mut value = Map::from_iter([("result".to_owned(), json!(text))]);
        if let Value::Object(more) = more {
            value.extend(more);
        }
        Self { text, value: Value::Object(value) }
    }

    /// Returns an answer that is an object; its text is its JSON.
    pub(super) fn object(value: Value) -> Self {
        Self { text: value.to_string(), value }
    }
}

impl From<Answer> for CallToolResult {
    fn from(answer: Answer) -> Self {
        let mut result = Self::success(vec![ContentBlock::text(answer.text)]);
        result.structured_content = Some(answer.value);
        result
    }
}

/// Returns the answer of a tool that failed: a sentence that says what to do.
pub(super) fn failure(error: &ProductError) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(error.message.as_str())]);
    result.structured_content = Some(json!({"error": error.message, "code": error.status}));
    result
}

/// Returns a memory with where it comes from and who vouches for it, without what only the store needs.
pub(super) fn memory_value(item: &MemoryItem) -> Value {
    let mut value = item.to_compact_value();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["embedding", "history", "internal_info", "covered_history"] {
            metadata.shift_remove(key);
        }
    }
    value["source"] = json!(item.metadata.source.map_or("unknown", SourceKind::as_str));
    value["trust"] = json!(trust(item));
    value
}

/// Whose words a memory holds: `user`, `model`, `tool`, `external` (pages, files, results of searches), `system` or `unknown`.
fn trust(item: &MemoryItem) -> &'static str {
    match item.metadata.memory_type() {
        Some(MemoryType::Outer | MemoryType::RawFile) => return "external",
        Some(MemoryType::ToolSchema | MemoryType::ToolTrajectory) => return "tool",
        _ => {}
    }
    let found = item.metadata.provenance();
    let is_unknown =
        || item.metadata.source.is_none() && item.metadata.tree().is_none_or(|tree| tree.sources.is_none());
    match (found.trust, found.source) {
        (Trust::External, SourceWord::Tool) => "tool",
        (Trust::External | Trust::Document, _) => "external",
        (Trust::Assistant, _) => "model",
        (Trust::System, _) => "system",
        (Trust::User, _) if is_unknown() => "unknown",
        (Trust::User, _) => "user",
    }
}

/// Returns a memory that was found, with how well it fits; with the reasons when they were asked for.
pub(super) fn hit_value(found: &FoundMemory, explains: bool) -> Value {
    let mut value = memory_value(&found.item);
    value["metadata"]["relativity"] = json!(found.relativity);
    if explains {
        let mut reasons = json!(found);
        for key in ["score", "signals", "rerank", "paths", "sources"] {
            if let Some(reason) = reasons.get_mut(key) {
                value[key] = reason.take();
            }
        }
    }
    value
}

/// Returns one state of a memory: what it said, when, who made it so and why.
pub(super) fn version_value(version: &Version) -> Value {
    let Version { number, item, origin, at, .. } = version;
    json!({
        "number": number,
        "at": at,
        "actor": origin.actor,
        "reason": origin.reason,
        "message_id": origin.message_id,
        "is_removed": item.is_none(),
        "memory": item.as_ref().map(memory_value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metadata: Value) -> Value {
        let item = json!({"id": "0a1b2c3d-0000-4000-8000-000000000001", "memory": "tea", "metadata": metadata});
        memory_value(&MemoryItem::from_value(item, String::new).unwrap())
    }

    #[test]
    fn a_memory_tells_whose_words_it_holds() {
        let told = value(json!({"source": "conversation", "info": {"role": "user"}}));
        assert_eq!(
            (&told["source"], &told["trust"], &told["memory"]),
            (&json!("conversation"), &json!("user"), &json!("tea"))
        );
        assert_eq!(value(json!({"source": "conversation", "info": {"role": "tool"}}))["trust"], "tool");
        assert_eq!(value(json!({"source": "web"}))["trust"], "external");
        let concluded =
            json!({"source": "system", "sources": [{"type": "memory"}, {"type": "memory", "trust": "external"}]});
        assert_eq!(value(concluded)["trust"], "external");
        assert_eq!(value(json!({}))["trust"], "unknown");
        let outer = value(json!({"memory_type": "OuterMemory", "embedding": [0.5], "source": "conversation"}));
        assert_eq!((&outer["trust"], outer["metadata"].get("embedding")), (&json!("external"), None));
    }

    #[test]
    fn a_failure_is_told_to_models_and_programs() {
        let result = failure(&ProductError::forbidden("ask its owner"));
        assert_eq!(result.is_error, Some(true));
        assert_eq!(result.structured_content, Some(json!({"error": "ask its owner", "code": 403})));
    }

    #[test]
    fn a_sentence_is_the_result_of_an_object() {
        let result = CallToolResult::from(Answer::sentence("done", json!({"n": 1})));
        assert_eq!(result.structured_content, Some(json!({"result": "done", "n": 1})));
        assert_eq!(result.is_error, Some(false));
    }
}
