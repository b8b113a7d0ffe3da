//! One memory: id, text, metadata.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::kinds::MemoryType;
use super::metadata::{Metadata, MetadataForm};
use super::python_text;
use crate::id::MemoryId;
use crate::validate::{FieldError, Fields, ValidationError};

/// One memory, in exactly the JSON shape of MemOS' `TextualMemoryItem`.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryItem {
    /// A UUID that never changes.
    pub id: MemoryId,
    /// The text.
    pub memory: String,
    /// Everything else.
    pub metadata: Metadata,
}

impl MemoryItem {
    /// Returns an item with default metadata.
    pub fn new(id: MemoryId, memory: impl Into<String>) -> Self {
        Self { id, memory: memory.into(), metadata: Metadata::default() }
    }

    /// The id of the memory that this one is a working copy of: a node of working memory that only shows another memory;
    /// `None` for memories of their own.
    pub fn working_copy_of(&self) -> Option<&str> {
        let is_working = self.metadata.memory_type() == Some(MemoryType::Working);
        self.metadata.working_binding.as_deref().filter(|original| is_working && *original != self.id.as_str())
    }

    /// Returns the JSON form with every field, absent ones as null.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("id".to_owned(), Value::String(self.id.to_string()));
        map.insert("memory".to_owned(), Value::String(self.memory.clone()));
        map.insert("metadata".to_owned(), Value::Object(self.metadata.to_map()));
        Value::Object(map)
    }

    /// Returns the JSON form without nulls, at any depth.
    pub fn to_compact_value(&self) -> Value {
        let mut value = self.to_value();
        drop_nulls(&mut value);
        value
    }

    /// Reads an item from JSON, coercing what MemOS coerces.
    ///
    /// A missing id is filled by `new_id`; a nested `metadata.metadata` object is unwrapped; unknown metadata
    /// keys are kept; the metadata's form follows from its keys.
    ///
    /// # Errors
    /// Every field that is wrong, with its path.
    pub fn from_value(value: Value, new_id: impl FnOnce() -> String) -> Result<Self, ValidationError> {
        let mut errors = Vec::new();
        let item = read_item(value, new_id, &mut errors);
        match item {
            Some(item) if errors.is_empty() => Ok(item),
            _ => Err(ValidationError { errors }),
        }
    }
}

fn read_item(value: Value, new_id: impl FnOnce() -> String, errors: &mut Vec<FieldError>) -> Option<MemoryItem> {
    let Value::Object(map) = value else {
        errors.push(FieldError { loc: Vec::new(), kind: "dict_type", msg: "a memory must be an object".to_owned() });
        return None;
    };
    let mut fields = Fields::new(map, &[], errors);
    let id = fields.string("id").unwrap_or_else(new_id);
    if uuid::Uuid::parse_str(&id).is_err() {
        fields.fail("id", "value_error", format!("`{id}` is not a UUID"));
    }
    let memory = fields.take("memory");
    let memory = match memory {
        Some(Value::String(text)) => text,
        None => {
            fields.fail("memory", "missing", "the text of the memory is missing");
            String::new()
        }
        Some(_) => {
            fields.fail("memory", "string_type", "must be a string");
            String::new()
        }
    };
    let metadata = fields.object("metadata").unwrap_or_default();
    let unknown: Vec<String> = fields.rest().keys().cloned().collect();
    for key in unknown.into_iter().filter(|key| !["id", "memory", "metadata"].contains(&key.as_str())) {
        errors.push(FieldError {
            loc: vec![key],
            kind: "extra_forbidden",
            msg: "is not a field of a memory (id, memory, metadata); put it under metadata".to_owned(),
        });
    }
    let metadata = read_metadata(metadata, errors);
    Some(MemoryItem { id: MemoryId::new(id), memory, metadata })
}

fn read_metadata(mut map: Map<String, Value>, errors: &mut Vec<FieldError>) -> Metadata {
    if let Some(Value::Object(inner)) = map.get("metadata") {
        map = inner.clone();
    }
    map.shift_remove("id");
    map.shift_remove("memory");
    let present: Vec<String> = map.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.clone()).collect();
    let had_null_relativity = matches!(map.get("relativity"), Some(Value::Null));
    let has = |key: &str| present.iter().any(|known| known == key);
    let mut metadata = Metadata::from_fields(Fields::new(map, &["metadata"], errors), has);
    if had_null_relativity && matches!(metadata.form, MetadataForm::Tree(_)) {
        metadata.extra.insert("relativity".to_owned(), Value::Null);
    }
    metadata
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The form that MemOS prints: `<ID: … | Memory: … | Metadata: key=value, …>`, without embeddings.
impl fmt::Display for MemoryItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut metadata = Value::Object(self.metadata.to_map());
        drop_nulls(&mut metadata);
        let hide_embedding = self.metadata.tree().is_some();
        let pairs: Vec<String> = metadata
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !(hide_embedding && *key == "embedding"))
            .map(|(key, value)| format!("{key}={}", python_text::display(value)))
            .collect();
        write!(f, "<ID: {} | Memory: {} | Metadata: {}>", self.id, self.memory, pairs.join(", "))
    }
}

impl Serialize for MemoryItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MemoryItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value, String::new).map_err(de::Error::custom)
    }
}
