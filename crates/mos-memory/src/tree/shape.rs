//! What a memory must have to stand in a tree.

use mos_core::filter::{VALID_FROM, VALID_TO};
use mos_core::memory::{PreferenceFields, SourceMessage, TreeFields};
use mos_core::{MemoryError, MemoryItem, MemoryType, MetadataForm};
use serde_json::{Map, Value, json};

use super::TreeMode;
use crate::moments;

/// The tag of memories that are still to be refined.
const FAST: &str = "mode:fast";

/// Makes a new memory a node of a tree: one without a type goes to long-term memory; sources, the time of its making and
/// the time it speaks of are filled in where they are missing.
///
/// # Errors
/// [`MemoryError::Invalid`] when it has a time of truth that is no time.
pub(super) fn shape(item: &mut MemoryItem, now: &str, mode: TreeMode) -> Result<(), MemoryError> {
    let mut fields = tree_fields(item);
    fields.embedding = None;
    if fields.sources.is_none() {
        fields.sources = source_of(item).map(|source| vec![source]);
    }
    fields.created_at.get_or_insert_with(|| now.to_owned());
    item.metadata.form = MetadataForm::Tree(fields);
    // Only the tree itself makes working copies.
    item.metadata.working_binding = None;
    let is_marked = is_marked_fast(item);
    if mode == TreeMode::Async && !is_marked {
        item.metadata.tags.get_or_insert_default().push(FAST.to_owned());
    }
    if mode == TreeMode::Async || is_marked {
        item.metadata.is_fast = Some(true);
    }
    check_times(item)?;
    if !item.metadata.extra.contains_key(VALID_FROM)
        && let Some(since) = moments::true_since(item)
    {
        item.metadata.extra.insert(VALID_FROM.to_owned(), Value::from(since));
    }
    Ok(())
}

fn is_marked_fast(item: &MemoryItem) -> bool {
    item.metadata.tags.iter().flatten().any(|tag| tag == FAST)
}

/// Whether a memory is a message as it was said, and no fact that was drawn from it.
pub(super) fn is_raw(item: &MemoryItem) -> bool {
    let metadata = &item.metadata;
    let is_message = metadata.info.as_ref().is_some_and(|info| info.get("role").is_some_and(Value::is_string));
    metadata.is_fast == Some(true) || is_marked_fast(item) || is_message
}

/// Gives the new state of a memory what the old one tells and it leaves out: its shelf, its sources, the time of its making,
/// and since when it is true.
///
/// # Errors
/// As [`shape`].
pub(super) fn shape_like(old: &MemoryItem, item: &mut MemoryItem, now: &str) -> Result<(), MemoryError> {
    if let Some(known) = old.metadata.tree() {
        if item.metadata.form == MetadataForm::Base {
            item.metadata.form = MetadataForm::Tree(Box::new(known.clone()));
        } else if let Some(fields) = item.metadata.tree_mut() {
            fields.sources = fields.sources.take().or_else(|| known.sources.clone());
            fields.created_at = fields.created_at.take().or_else(|| known.created_at.clone());
        }
    }
    if let Some(since) = old.metadata.extra.get(VALID_FROM)
        && !item.metadata.extra.contains_key(VALID_FROM)
    {
        item.metadata.extra.insert(VALID_FROM.to_owned(), since.clone());
    }
    shape(item, now, TreeMode::Sync)
}

/// Makes a memory of a file a node of a tree, and leaves everything else as the file says it.
pub(super) fn shape_loaded(item: &mut MemoryItem) {
    let fields = tree_fields(item);
    item.metadata.form = MetadataForm::Tree(fields);
    for field in [VALID_FROM, VALID_TO] {
        let normal = item.metadata.extra.get(field).and_then(Value::as_str).and_then(moments::normal);
        if let Some(normal) = normal {
            item.metadata.extra.insert(field.to_owned(), Value::from(normal));
        }
    }
}

/// Takes the fields of a tree node out of any form of metadata.
fn tree_fields(item: &mut MemoryItem) -> Box<TreeFields> {
    match std::mem::take(&mut item.metadata.form) {
        MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) => fields,
        MetadataForm::Base => Box::new(fields_of(MemoryType::LongTerm, &mut item.metadata.extra)),
        MetadataForm::Preference(preference) => {
            let mut fields = fields_of(MemoryType::Preference, &mut item.metadata.extra);
            fields.created_at = preference.created_at.clone();
            keep_preference(*preference, &mut item.metadata.extra);
            Box::new(fields)
        }
    }
}

/// Returns the fields of a tree node that stand among the keys that another form of metadata does not know.
fn fields_of(memory_type: MemoryType, extra: &mut Map<String, Value>) -> TreeFields {
    // Any of these that is not null would have made it a tree node when it was read.
    for key in ["memory_type", "sources", "embedding", "background", "usage"] {
        if extra.get(key).is_some_and(Value::is_null) {
            extra.shift_remove(key);
        }
    }
    let mut fields = TreeFields { memory_type, ..TreeFields::default() };
    match extra.get("created_at") {
        Some(Value::String(created_at)) => fields.created_at = Some(created_at.clone()),
        Some(Value::Null) | None => {}
        // What is no time is refused when it is written.
        Some(_) => return fields,
    }
    extra.shift_remove("created_at");
    if let Some(file_ids) = extra.get("file_ids").and_then(|ids| serde_json::from_value(ids.clone()).ok()) {
        fields.file_ids = file_ids;
        extra.shift_remove("file_ids");
    }
    fields
}

/// Keeps what only preferences have as keys of their own, as MemOS does for preferences in a tree.
fn keep_preference(preference: PreferenceFields, extra: &mut Map<String, Value>) {
    let PreferenceFields { preference_type, dialog_id, original_text, preference, mem_cube_id, score, .. } = preference;
    let fields = [
        ("preference_type", json!(preference_type)),
        ("dialog_id", json!(dialog_id)),
        ("original_text", json!(original_text)),
        ("preference", json!(preference)),
        ("mem_cube_id", json!(mem_cube_id)),
        ("score", json!(score)),
    ];
    extra.extend(fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)));
}

/// Returns the message that a memory is the text of, when its metadata tells of one.
fn source_of(item: &MemoryItem) -> Option<SourceMessage> {
    let info = item.metadata.info.as_ref()?;
    let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_owned);
    let (role, chat_time, message_id) = (text("role"), text("chat_time"), text("message_id"));
    if role.is_none() && message_id.is_none() {
        return None;
    }
    let content = Some(item.memory.clone());
    Some(SourceMessage { kind: "chat".to_owned(), role, chat_time, message_id, content, ..SourceMessage::default() })
}

/// Brings the times of truth into the form in which they are compared.
fn check_times(item: &mut MemoryItem) -> Result<(), MemoryError> {
    for field in [VALID_FROM, VALID_TO] {
        let normal = match item.metadata.extra.get(field) {
            None => continue,
            Some(Value::Null) => None,
            Some(value) => match value.as_str().and_then(moments::normal) {
                None => {
                    return Err(MemoryError::Invalid(format!(
                        "`{field}` is {value}, which is no time; write 2026-01-31 or 2026-01-31T18:00:00Z"
                    )));
                }
                normal => normal,
            },
        };
        match normal {
            None => item.metadata.extra.shift_remove(field),
            Some(normal) => item.metadata.extra.insert(field.to_owned(), Value::from(normal)),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05.000000+00:00";

    fn item(text: &str, metadata: Value) -> MemoryItem {
        let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": text, "metadata": metadata});
        MemoryItem::from_value(value, String::new).unwrap()
    }

    fn shaped(text: &str, metadata: Value) -> MemoryItem {
        let mut item = item(text, metadata);
        shape(&mut item, NOW, TreeMode::Sync).unwrap();
        item
    }

    #[test]
    fn a_message_becomes_a_long_term_memory_with_its_source_and_time() {
        let info = json!({"role": "user", "chat_time": "2023-05-10", "message_id": "m1"});
        let item = shaped("I moved yesterday", json!({"info": info}));
        let fields = item.metadata.tree().unwrap();
        assert_eq!(fields.memory_type, MemoryType::LongTerm);
        let source = &fields.sources.as_ref().unwrap()[0];
        assert_eq!((source.kind.as_str(), source.message_id.as_deref()), ("chat", Some("m1")));
        assert_eq!((source.role.as_deref(), source.content.as_deref()), (Some("user"), Some("I moved yesterday")));
        assert_eq!(fields.created_at.as_deref(), Some(NOW));
        assert_eq!(item.metadata.extra[VALID_FROM], "2023-05-09");
        assert_eq!(item.metadata.is_fast, None);
    }

    #[test]
    fn what_is_said_already_stays() {
        let metadata = json!({"memory_type": "UserMemory", "sources": [], "created_at": "2020-01-01T00:00:00Z",
            "valid_from": "2019-06-01T02:00:00+02:00"});
        let item = shaped("x", metadata);
        let fields = item.metadata.tree().unwrap();
        assert_eq!((fields.memory_type, fields.sources.as_deref()), (MemoryType::User, Some(&[][..])));
        assert_eq!(fields.created_at.as_deref(), Some("2020-01-01T00:00:00Z"));
        assert_eq!(item.metadata.extra[VALID_FROM], "2019-06-01T00:00:00.000000+00:00");
    }

    #[test]
    fn keys_that_only_trees_know_find_their_place() {
        let bare = json!({"created_at": "2020-01-01", "file_ids": ["f"], "memory_type": null, "sources": null, "x": 1});
        let item = shaped("x", bare);
        let fields = item.metadata.tree().unwrap();
        assert_eq!(
            (fields.created_at.as_deref(), fields.file_ids.as_slice()),
            (Some("2020-01-01"), &["f".to_owned()][..])
        );
        let left: Vec<&str> = item.metadata.extra.keys().map(String::as_str).collect();
        assert_eq!(left, ["x", VALID_FROM]);
    }

    #[test]
    fn raw_memories_are_marked() {
        let mut raw = item("x", json!({"tags": ["a"]}));
        shape(&mut raw, NOW, TreeMode::Async).unwrap();
        assert_eq!(raw.metadata.tags.as_deref(), Some(&["a".to_owned(), FAST.to_owned()][..]));
        assert_eq!(raw.metadata.is_fast, Some(true));
        assert_eq!(shaped("x", json!({"tags": [FAST]})).metadata.is_fast, Some(true));
    }

    #[test]
    fn a_time_of_truth_must_be_one() {
        let error = shape(&mut item("x", json!({"valid_to": "soon"})), NOW, TreeMode::Sync).unwrap_err().to_string();
        assert!(error.contains("valid_to") && error.contains("soon"), "{error}");
        assert!(!shaped("x", json!({"valid_to": null})).metadata.extra.contains_key(VALID_TO));
    }

    #[test]
    fn preferences_keep_what_they_know() {
        let item = shaped("x", json!({"preference_type": "explicit_preference", "preference": "tea"}));
        assert_eq!(item.metadata.memory_type(), Some(MemoryType::Preference));
        assert_eq!(
            (&item.metadata.extra["preference"], &item.metadata.extra["preference_type"]),
            (&json!("tea"), &json!("explicit_preference"))
        );
    }

    #[test]
    fn a_new_state_keeps_shelf_and_sources_of_the_old_one() {
        let info = json!({"role": "user", "chat_time": "2023-05-10"});
        let old = shaped("I live in Paris", json!({"info": info, "memory_type": "UserMemory"}));
        let mut bare = MemoryItem::new(old.id.clone(), "I live in Rome");
        shape_like(&old, &mut bare, NOW).unwrap();
        assert_eq!(bare.metadata.tree().unwrap().sources, old.metadata.tree().unwrap().sources);
        assert_eq!(bare.metadata.memory_type(), Some(MemoryType::User));
        assert_eq!(bare.metadata.extra[VALID_FROM], "2023-05-10");
    }
}
