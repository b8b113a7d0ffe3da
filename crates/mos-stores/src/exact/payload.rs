//! What filters look at, kept small: metadata as JSON text, of which only the fields that a filter names are read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use mos_core::{StoreError, VectorPoint};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Where a field is looked for that is not in the metadata itself.
const INFO: &str = "info";

/// Text and metadata of one vector.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    memory: Arc<str>,
    metadata: Box<str>,
}

impl Payload {
    /// # Errors
    /// [`StoreError::Corrupt`] when the metadata has no JSON form.
    pub(super) fn of(point: &VectorPoint) -> Result<Self, StoreError> {
        let metadata = serde_json::to_string(&*point.metadata).map_err(|error| damaged(&error))?;
        Ok(Self { memory: Arc::clone(&point.memory), metadata: metadata.into_boxed_str() })
    }

    /// The memory's text.
    pub(super) fn memory(&self) -> &str {
        &self.memory
    }

    /// Returns these fields of the metadata, and `info`, as far as they are there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the metadata cannot be read.
    pub(super) fn fields(&self, fields: &BTreeSet<String>) -> Result<Map<String, Value>, StoreError> {
        let mut reader = serde_json::Deserializer::from_str(&self.metadata);
        NamedFields(fields).deserialize(&mut reader).map_err(|error| damaged(&error))
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        self.memory.len() + self.metadata.len() + size_of::<Self>()
    }
}

fn damaged(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        what: "the metadata of a memory in the vector index".to_owned(),
        detail: format!("{error}; start the program again, the index is rebuilt from the record"),
    }
}

/// Reads the named fields of a JSON object and skips the others without building them.
struct NamedFields<'a>(&'a BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NamedFields<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NamedFields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut named = Map::new();
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == INFO || self.0.contains(key.as_ref()) {
                named.insert(key.into_owned(), entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(named)
    }
}
