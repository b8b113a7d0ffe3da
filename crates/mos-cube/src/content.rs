//! What a cube says, as one number: two cubes of the same number hold the same memories.

use std::fmt;
use std::io::BufReader;
use std::path::Path;

use mos_core::MemoryError;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::directory::file_error;
use crate::kind::MemoryKind;

/// Returns the BLAKE3, in hexadecimal, of everything that the files of memories say: texts with all their metadata (earlier
/// states that stand in it included), edges, vectors, preferences. Names of files, the order of entries and of keys do not
/// count; the cube's id, owner and configuration are not part of it.
///
/// Entries are read one by one: a large file takes no more memory than its largest entry.
///
/// # Errors
/// [`MemoryError::File`] for a file that cannot be read or is no JSON of this shape (a list of entries, or an object of lists
/// and plain values).
pub fn content_hash(directory: &Path, files: &[(MemoryKind, String)]) -> Result<String, MemoryError> {
    let mut files: Vec<&(MemoryKind, String)> = files.iter().collect();
    files.sort();
    let mut whole = blake3::Hasher::new();
    for (kind, name) in files {
        let path = directory.join(name);
        let file = std::fs::File::open(&path).map_err(|error| file_error(&path, format!("cannot read: {error}")))?;
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(file));
        let parts = json
            .deserialize_any(Document)
            .and_then(|parts| json.end().map(|()| parts))
            .map_err(|error| file_error(&path, format!("is not a memory's JSON: {error}")))?;
        whole.update(kind.name().as_bytes());
        whole.update(&[0]);
        for part in parts {
            whole.update(&part);
        }
    }
    Ok(whole.finalize().to_hex().to_string())
}

/// A hash.
type Digest = [u8; 32];

/// Hashes of what a document holds, in an order that does not depend on its own.
struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Vec<Digest>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of memories, or an object of such lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Vec<Digest>, A::Error> {
        List { name: "" }.visit_seq(sequence).map(|list| vec![list])
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Digest>, A::Error> {
        let mut parts = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            parts.push(map.next_value_seed(List { name: &name })?);
        }
        parts.sort_unstable();
        Ok(parts)
    }
}

/// The hash of a named list, whatever its order, or of a named plain value.
struct List<'n> {
    name: &'n str,
}

impl List<'_> {
    fn digest(&self, mut entries: Vec<Digest>) -> Digest {
        entries.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.name.as_bytes());
        hasher.update(&[0]);
        for entry in &entries {
            hasher.update(entry);
        }
        *hasher.finalize().as_bytes()
    }

    fn plain<E: serde::de::Error>(&self, value: impl Into<Value>) -> Result<Digest, E> {
        Ok(self.digest(vec![digest_of(&value.into())]))
    }
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Digest;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Digest, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries or a plain value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Digest, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = sequence.next_element::<Value>()? {
            entries.push(digest_of(&entry));
        }
        Ok(self.digest(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Digest, A::Error> {
        let mut object = Map::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if object.insert(key, value).is_some() {
                return Err(serde::de::Error::custom("a key stands there twice"));
            }
        }
        self.plain(object)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Digest, E> {
        self.plain(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Digest, E> {
        self.plain(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Digest, E> {
        self.plain(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Digest, E> {
        self.plain(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Digest, E> {
        self.plain(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Digest, E> {
        self.plain(value)
    }
}

fn digest_of(value: &Value) -> Digest {
    let mut hasher = blake3::Hasher::new();
    canonical(value, &mut hasher);
    *hasher.finalize().as_bytes()
}

/// Feeds a value with the keys of its objects sorted. Depth is bounded by the JSON reader.
fn canonical(value: &Value, hasher: &mut blake3::Hasher) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            hasher.update(b"{");
            for key in keys {
                hasher.update(Value::from(key.as_str()).to_string().as_bytes());
                hasher.update(b":");
                canonical(&map[key], hasher);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(values) => {
            hasher.update(b"[");
            for value in values {
                canonical(value, hasher);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        plain => {
            hasher.update(plain.to_string().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.json"), text).unwrap();
        content_hash(folder.path(), &[(MemoryKind::Text, "m.json".to_owned())]).map_err(|error| error.to_string())
    }

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let list = hash(r#"[{"id": "1", "vector": [0.5, 0.25]}, {"id": "2"}]"#).unwrap();
        assert_eq!(hash(r#"[{"id":"2"},{"vector":[0.5,0.25],"id":"1"}]"#).unwrap(), list);
        for other in [
            r#"[{"id": "1", "vector": [0.25, 0.5]}, {"id": "2"}]"#,
            r#"[{"id": "1", "vector": [0.5, 0.25]}]"#,
            r#"[{"id": "1", "vector": [0.5, 0.25]}, {"id": "2"}, {"id": "2"}]"#,
            r#"{"nodes": [{"id": "1", "vector": [0.5, 0.25]}, {"id": "2"}]}"#,
        ] {
            assert_ne!(hash(other).unwrap(), list, "{other}");
        }
        let graph =
            hash(r#"{"nodes": [{"id": "1"}, {"id": "2"}], "edges": [{"source": "1"}], "total_nodes": 2}"#).unwrap();
        assert_eq!(
            hash(r#"{"total_nodes": 2, "edges": [{"source": "1"}], "nodes": [{"id": "2"}, {"id": "1"}]}"#).unwrap(),
            graph
        );
        assert_ne!(
            hash(r#"{"nodes": [{"id": "1"}, {"id": "2"}], "edges": [{"source": "2"}], "total_nodes": 2}"#).unwrap(),
            graph
        );
    }

    #[test]
    fn what_is_no_memory_file_is_refused_by_name() {
        for text in ["", "7", "[1", "[] []"] {
            let error = hash(text).unwrap_err();
            assert!(error.contains("m.json") && error.contains("is not a memory's JSON"), "{text}: {error}");
        }
    }

    #[test]
    fn the_same_texts_in_another_memory_are_another_content() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.json"), "[]").unwrap();
        let of = |kind| content_hash(folder.path(), &[(kind, "m.json".to_owned())]).unwrap();
        assert_ne!(of(MemoryKind::Text), of(MemoryKind::Preference));
        assert!(content_hash(folder.path(), &[(MemoryKind::Text, "gone.json".to_owned())]).is_err());
    }
}
