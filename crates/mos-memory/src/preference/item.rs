//! A preference as a memory item.

use mos_core::memory::{ArchivedVersion, MetadataForm, PreferenceFields, SourceMessage, TreeFields, UpdateType};
use mos_core::{MemoryError, MemoryId, MemoryItem, MemoryType, PreferenceType, Status};
use serde_json::{Map, Value};

use super::words::same_words;
use crate::shelf::Shelf;

/// How many sources a preference keeps: when it has shown more often, the oldest are forgotten.
const MAX_SOURCES: usize = 100;

/// What a newer telling of the same preference brings along, when it says it.
const RENEWED: [&str; 3] = ["reasoning", "topic", "original_text"];

/// Returns whether a preference was stated or concluded; stated, where nothing is said.
pub(super) fn preference_type(item: &MemoryItem) -> PreferenceType {
    let word = item.metadata.extra.get("preference_type").and_then(Value::as_str);
    word.and_then(PreferenceType::parse).unwrap_or(PreferenceType::Explicit)
}

/// Returns an item of any form as a preference: a node of type `PreferenceMemory` that says its preference type.
///
/// # Errors
/// [`MemoryError::Invalid`] for a preference type that does not exist.
pub(super) fn as_preference(mut item: MemoryItem, now: &str) -> Result<MemoryItem, MemoryError> {
    let metadata = &mut item.metadata;
    let mut fields = match std::mem::take(&mut metadata.form) {
        MetadataForm::Base => TreeFields::default(),
        MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => *fields,
        MetadataForm::Preference(fields) => flattened(*fields, &mut metadata.extra),
    };
    fields.memory_type = MemoryType::Preference;
    fields.embedding = None;
    fields.created_at.get_or_insert_with(|| now.to_owned());
    metadata.form = MetadataForm::Tree(Box::new(fields));
    let extra = &mut metadata.extra;
    match extra.get("preference_type") {
        None | Some(Value::Null) => put(extra, "preference_type", PreferenceType::Explicit.as_str()),
        Some(Value::String(word)) if PreferenceType::parse(word).is_some() => {}
        Some(other) => {
            let allowed = PreferenceType::WORDS.join(", ");
            return Err(MemoryError::Invalid(format!("preference_type must be one of {allowed}, not {other}")));
        }
    }
    if !extra.get("preference").is_some_and(Value::is_string) {
        put(extra, "preference", &item.memory);
    }
    Ok(item)
}

/// Returns the fields that a node has places for, and puts the others beside them.
fn flattened(fields: PreferenceFields, extra: &mut Map<String, Value>) -> TreeFields {
    put(extra, "preference_type", fields.preference_type.as_str());
    let others = [
        ("dialog_id", fields.dialog_id),
        ("original_text", fields.original_text),
        ("preference", fields.preference),
        ("mem_cube_id", fields.mem_cube_id),
    ];
    for (key, value) in others {
        if let Some(value) = value {
            put(extra, key, &value);
        }
    }
    TreeFields { created_at: fields.created_at, ..TreeFields::default() }
}

fn put(extra: &mut Map<String, Value>, key: &str, value: &str) {
    extra.insert(key.to_owned(), Value::String(value.to_owned()));
}

/// Returns a known preference that says `text` and has what a new one of the same meaning brings: its sources, tags and,
/// when the text is another one, its reasons. What was stated once stays stated.
pub(super) fn joined(known: &MemoryItem, new: &MemoryItem, text: &str) -> MemoryItem {
    let mut item = known.clone();
    if let (MetadataForm::Tree(fields), Some(others)) = (&mut item.metadata.form, new.metadata.tree()) {
        join_sources(fields.sources.get_or_insert_default(), others.sources.as_deref().unwrap_or_default());
    }
    for tag in new.metadata.tags.iter().flatten() {
        let tags = item.metadata.tags.get_or_insert_default();
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    let extra = &mut item.metadata.extra;
    if preference_type(new) == PreferenceType::Explicit {
        put(extra, "preference_type", PreferenceType::Explicit.as_str());
    }
    if !same_words(&known.memory, text) {
        text.clone_into(&mut item.memory);
        put(extra, "preference", text);
        for key in RENEWED {
            if let Some(value) = new.metadata.extra.get(key) {
                extra.insert(key.to_owned(), value.clone());
            }
        }
    }
    // Sources that were left out for want of room still count.
    item.metadata.trust_at_most(known.metadata.trust().max(new.metadata.trust()));
    item
}

fn join_sources(sources: &mut Vec<SourceMessage>, others: &[SourceMessage]) {
    for other in others {
        let is_same = |one: &SourceMessage| match (&one.message_id, &other.message_id) {
            (Some(left), Some(right)) => left == right && one.role == other.role,
            _ => one == other,
        };
        if !sources.iter().any(is_same) {
            sources.push(other.clone());
        }
    }
    let surplus = sources.len().saturating_sub(MAX_SOURCES);
    sources.drain(..surplus);
}

/// Returns a known preference as archived, replaced by `successor`.
pub(super) fn archived(shelf: &Shelf, known: &MemoryItem, successor: &MemoryId) -> MemoryItem {
    let mut item = known.clone();
    item.metadata.status = Some(Status::Archived);
    item.metadata.evolve_to.push(successor.to_string());
    shelf.next_version(known, item, UpdateType::Conflict)
}

/// What a preference keeps of one that it replaces.
pub(super) fn replaced(known: &MemoryItem, now: &str) -> ArchivedVersion {
    ArchivedVersion {
        version: known.metadata.version,
        is_fast: known.metadata.is_fast.unwrap_or(false),
        memory: known.memory.clone(),
        update_type: UpdateType::Conflict,
        archived_memory_id: Some(known.id.to_string()),
        created_at: now.to_owned(),
        timespec: None,
        memory_form: None,
    }
}
