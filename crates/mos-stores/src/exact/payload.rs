//! What filters look at, kept small: metadata as JSON text, of which a search reads only the fields it names.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use mos_core::{Filter, StoreError, VectorPoint};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

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

/// A filter, and the fields it needs.
#[derive(Debug)]
pub(super) struct PayloadFilter {
    filter: Filter,
    fields: BTreeSet<String>,
}

impl PayloadFilter {
    pub(super) fn new(filter: &Filter) -> Self {
        let mut fields = BTreeSet::from(["info".to_owned()]);
        collect_fields(filter, &mut fields);
        Self { filter: filter.clone(), fields }
    }

    /// Whether a payload passes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the payload cannot be read.
    pub(super) fn passes(&self, payload: &Payload) -> Result<bool, StoreError> {
        if self.filter == Filter::Everything {
            return Ok(true);
        }
        let mut reader = serde_json::Deserializer::from_str(&payload.metadata);
        let named = NamedFields(&self.fields).deserialize(&mut reader).map_err(|error| damaged(&error))?;
        Ok(self.filter.matches(&payload.memory, &named))
    }
}

fn collect_fields(filter: &Filter, fields: &mut BTreeSet<String>) {
    match filter {
        Filter::Everything => {}
        Filter::Is(condition) => {
            fields.insert(condition.field.clone());
        }
        Filter::All(parts) | Filter::Any(parts) => parts.iter().for_each(|part| collect_fields(part, fields)),
        Filter::Not(part) => collect_fields(part, fields),
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
            if self.0.contains(key.as_ref()) {
                named.insert(key.into_owned(), entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_sees_its_fields_and_the_text() {
        let metadata =
            json!({"key": "dog", "tags": ["a"], "info": {"city": "Paris"}, "long": [1, 2, {"x": "}"}], "last": 1});
        let point = VectorPoint {
            id: "1".into(),
            vector: vec![1.0],
            memory: Arc::from("about dogs"),
            metadata: Arc::new(metadata.as_object().unwrap().clone()),
        };
        let payload = Payload::of(&point).unwrap();
        let passes = |filter: Filter| PayloadFilter::new(&filter).passes(&payload).unwrap();
        assert!(passes(Filter::Everything));
        assert!(passes(Filter::equals("city", "Paris").and(Filter::equals("last", 1))));
        assert!(passes(Filter::Any(vec![Filter::equals("key", "cat"), Filter::equals("memory", "about dogs")])));
        assert!(!passes(Filter::equals("absent", "x")));
    }
}
