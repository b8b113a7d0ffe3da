//! `add`: memories were added.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mos_core::memory::SourceKind;
use mos_core::{MemoryId, MemoryItem, MemoryType};
use serde_json::{Value, json};

use crate::cube::SchedulerCube;
use crate::event::{ADD_MEMORY, Event, KNOWLEDGE_BASE_UPDATE, UPDATE_MEMORY, counted};
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;
use crate::monitor::clipped;

/// The most memories that an event shows; it counts all of them.
const MAX_ENTRIES: usize = 100;

/// The most characters of a memory in an event.
const MAX_SHOWN: usize = 600;

/// Tells of memories that were added: `addMemory`; `updateMemory` for those that took the place of others; for those that came
/// from a document `knowledgeBaseUpdate`, once per document. The content of a message is a JSON list of ids; memories that are
/// gone by now are passed over.
///
/// # Errors
/// [`HandlerError::GiveUp`] for a content of another form; store errors.
pub async fn add(context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError> {
    let at = context.clock.now();
    let sizes = sizes(&context.cube).await?;
    let mut events = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        let ids: Vec<MemoryId> = serde_json::from_str(&message.content).map_err(|error| {
            let reason = format!("a message of label `add` holds a JSON list of the ids of memories: {error}");
            // The first of a batch is what an error is about: those before a bad one are done on their own first.
            if place == 0 { HandlerError::GiveUp(reason) } else { HandlerError::Retry(reason) }
        })?;
        let items = if ids.is_empty() { Vec::new() } else { context.cube.text.get_by_ids(&ids).await? };
        events.extend(events_of(message, &items, &sizes, at));
    }
    context.record(events).await
}

/// How many memories there are, by the names of MemOS; nothing for a cube without shelves.
async fn sizes(cube: &SchedulerCube) -> Result<BTreeMap<String, i64>, HandlerError> {
    let Some(tree) = cube.text.as_tree() else { return Ok(BTreeMap::new()) };
    let sizes = tree.sizes().await?;
    let names = [
        ("long_term_memory_size", MemoryType::LongTerm),
        ("user_memory_size", MemoryType::User),
        ("working_memory_size", MemoryType::Working),
    ];
    let size = |kind: MemoryType| i64::try_from(sizes.get(&kind).copied().unwrap_or(0)).unwrap_or(i64::MAX);
    Ok(names.into_iter().map(|(name, kind)| (name.to_owned(), size(kind))).collect())
}

fn events_of(
    message: &ScheduleMessage,
    items: &[MemoryItem],
    sizes: &BTreeMap<String, i64>,
    at: Timestamp,
) -> Vec<Event> {
    let mut added: Vec<&MemoryItem> = Vec::new();
    let mut updated: Vec<&MemoryItem> = Vec::new();
    let mut documents: BTreeMap<String, Vec<&MemoryItem>> = BTreeMap::new();
    for item in items {
        if let Some(document) = document(item) {
            documents.entry(document).or_default().push(item);
        } else if takes_a_place(item) {
            updated.push(item);
        } else {
            added.push(item);
        }
    }
    let mut events = Vec::new();
    let counted = [(ADD_MEMORY, added, "added"), (UPDATE_MEMORY, updated, "changed")];
    for (label, items, word) in counted.into_iter().filter(|(_, items, _)| !items.is_empty()) {
        events.push(event(message, label, "memories", &items, word, at));
    }
    for (document, items) in documents {
        let name = if document.is_empty() { "documents" } else { document.as_str() };
        let mut event = event(message, KNOWLEDGE_BASE_UPDATE, name, &items, "added from a document", at);
        event.source_doc_id = Some(document).filter(|document| !document.is_empty());
        events.push(event);
    }
    for event in &mut events {
        event.current_memory_sizes.extend(sizes.clone());
    }
    events
}

fn event(
    message: &ScheduleMessage,
    label: &str,
    name: &str,
    items: &[&MemoryItem],
    word: &str,
    at: Timestamp,
) -> Event {
    let shown = &items[..items.len().min(MAX_ENTRIES)];
    let said = format!("{} {word}", counted(items.len(), "memory", "memories"));
    let content = shown.iter().map(|item| entry(item)).collect();
    let details = shown.iter().map(|item| details(item)).collect();
    let to = items.first().and_then(|item| item.metadata.memory_type()).map_or("TextMemory", MemoryType::as_str);
    let mut event = Event::of(message, label, name, said, at).moved("UserInput", to).about(content, details);
    event.memory_len = Some(items.len());
    event
}

/// The document that a memory came from; empty when it is not known which.
fn document(item: &MemoryItem) -> Option<String> {
    let file = item.metadata.tree().and_then(|fields| fields.file_ids.first());
    match (file, item.metadata.source) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(SourceKind::File)) => Some(String::new()),
        (None, _) => None,
    }
}

/// Whether a memory was merged from others.
fn takes_a_place(item: &MemoryItem) -> bool {
    let merged_from = item.metadata.info.as_ref().and_then(|info| info.get("merged_from"));
    match merged_from {
        None | Some(Value::Null) => false,
        Some(Value::Array(ids)) => !ids.is_empty(),
        Some(Value::String(id)) => !id.is_empty(),
        Some(_) => true,
    }
}

fn entry(item: &MemoryItem) -> Value {
    let text = clipped(&item.memory, MAX_SHOWN);
    let content = match item.metadata.key.as_deref().filter(|key| !key.is_empty()) {
        Some(key) => format!("{key}: {text}"),
        None => text,
    };
    json!({"content": content, "ref_id": item.id})
}

fn details(item: &MemoryItem) -> Value {
    let metadata = &item.metadata;
    json!({
        "ref_id": item.id,
        "id": item.id,
        "key": metadata.key,
        "memory": clipped(&item.memory, MAX_SHOWN),
        "memory_type": metadata.memory_type(),
        "status": metadata.status,
        "confidence": metadata.confidence,
        "tags": metadata.tags,
        "updated_at": metadata.updated_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: usize, metadata: Value) -> MemoryItem {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        MemoryItem::from_value(json!({"id": id, "memory": "likes tea", "metadata": metadata}), String::new).unwrap()
    }

    #[test]
    fn documents_changes_and_new_memories_are_told_apart() {
        let fresh = item(1, json!({"key": "tea"}));
        let merged = item(2, json!({"info": {"merged_from": ["x"]}}));
        let unmerged = item(3, json!({"info": {"merged_from": []}}));
        let from_file = item(4, json!({"memory_type": "LongTermMemory", "file_ids": ["report"]}));
        assert!(!takes_a_place(&fresh) && takes_a_place(&merged) && !takes_a_place(&unmerged));
        assert_eq!((document(&fresh), document(&from_file)), (None, Some("report".to_owned())));
        assert_eq!(entry(&fresh)["content"], "tea: likes tea");
        assert_eq!(details(&from_file)["memory_type"], "LongTermMemory");
    }
}
