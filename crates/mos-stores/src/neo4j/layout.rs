//! How a memory lies in a node.
//!
//! A node has MemOS' layout: label `Memory`, the properties `id`, `memory`, `user_name` (here the cube), `created_at` and
//! `updated_at` as moments, `sources` as texts of JSON, and the rest of the metadata as properties, `info` among them.
//! Beside it stands what makes reading exact: `mos_metadata` is the metadata as JSON without `sources` and `history`,
//! which are lists of JSON texts. A node without `mos_metadata` was written by MemOS and is read from its properties.
//!
//! Invariant: metadata never becomes a property that this store or MemOS gives a meaning of its own.

use jiff::Timestamp;
use jiff::civil::DateTime;
use mos_core::clock::timestamp_text;
use mos_core::{Condition, Edge, Filter, MemoryId, MemoryItem, Operator, Origin, StoreError, is_moment_field};
use neo4rs::{BoltMap, BoltString, BoltType};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::listing;
use super::values::{json, list, map, property, row, texts};
use crate::codec;

/// Begins the names of the properties that are this store's own.
const OWN_PREFIX: &str = "mos_";
/// Properties that metadata does not reach.
const RESERVED: [&str; 4] = ["id", "memory", "user_name", "embedding"];
/// Properties that are moments on the server and text in metadata.
const MOMENTS: [&str; 2] = ["created_at", "updated_at"];
/// Parts of the metadata that are lists of JSON texts in a node.
const TEXT_LISTS: [&str; 2] = ["sources", "history"];
/// Parts of the metadata that are objects: MemOS writes them as JSON text.
const OBJECTS: [&str; 2] = ["info", "internal_info"];
/// What MemOS adds to nodes and takes for nothing when it is empty.
const MARKS_OF_DELETION: [&str; 2] = ["delete_time", "delete_record_id"];
/// The most bytes of a property's name. The server keeps names for ever.
const MAX_NAME_BYTES: usize = 128;
/// How often a source may be encoded: MemOS does it twice.
const MAX_ENCODINGS: usize = 3;

/// A row that is a memory and nothing else.
#[derive(Debug, Deserialize)]
pub(super) struct OneItem {
    pub(super) item: ItemRow,
}

/// A memory as a statement returns it.
#[derive(Debug, Deserialize)]
pub(super) struct ItemRow {
    pub(super) id: String,
    pub(super) memory: String,
    /// JSON; absent for a node that MemOS wrote.
    metadata: Option<String>,
    sources: Option<Vec<String>>,
    history: Option<Vec<String>>,
    /// The properties of a node that MemOS wrote.
    foreign: Option<BoltMap>,
}

impl ItemRow {
    /// Returns a memory that was kept in its parts.
    pub(super) fn kept(id: String, memory: String, metadata: String, sources: Option<Vec<String>>) -> Self {
        Self { id, memory, metadata: Some(metadata), sources, history: None, foreign: None }
    }

    /// Returns the metadata as a store keeps it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(super) fn metadata(&self) -> Result<Map<String, Value>, StoreError> {
        let Some(text) = &self.metadata else {
            return Ok(self.foreign.as_ref().map(foreign_metadata).unwrap_or_default());
        };
        let mut metadata = codec::parse_metadata(&self.id, text)?;
        for (key, values) in TEXT_LISTS.into_iter().zip([&self.sources, &self.history]) {
            if let Some(values) = values {
                metadata.insert(key.to_owned(), Value::Array(values.iter().map(|text| decoded(text)).collect()));
            }
        }
        Ok(metadata)
    }

    /// Returns the memory.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(super) fn item(self) -> Result<MemoryItem, StoreError> {
        let metadata = self.metadata()?;
        codec::restore_item(MemoryId::new(self.id), self.memory, metadata)
    }
}

/// Where a memory stands in its cube, and how it came there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) order: u64,
    pub(super) number: u64,
    pub(super) at: String,
}

/// Returns the row that writes a node: its properties, and the moments that the server makes of texts.
pub(super) fn node_row(
    tenant: &str,
    id: &str,
    memory: &str,
    metadata: &Map<String, Value>,
    terms: &[String],
    place: &Place,
    origin: &Origin,
) -> BoltMap {
    let (rest, lists) = split(metadata);
    let mut properties = metadata_properties(&rest);
    for (key, values) in &lists {
        properties.put((*key).into(), texts(values.iter().map(String::as_str)));
    }
    for key in MARKS_OF_DELETION {
        properties.value.entry(key.into()).or_insert_with(|| "".into());
    }
    let own: [(&str, BoltType); 13] = [
        ("id", id.into()),
        ("memory", memory.into()),
        ("user_name", tenant.into()),
        ("mos_metadata", Value::Object(rest).to_string().into()),
        ("mos_terms", super::terms::document(tenant, terms).into()),
        ("mos_n_terms", super::values::integer(terms.len())),
        ("mos_sequence", super::values::integer(place.sequence)),
        ("mos_order", super::values::integer(place.order)),
        ("mos_number", super::values::integer(place.number)),
        ("mos_at", place.at.as_str().into()),
        ("mos_actor", origin.actor.as_str().into()),
        ("mos_reason", origin.reason.as_str().into()),
        ("mos_message_id", origin.message_id.clone().into()),
    ];
    for (key, value) in own.into_iter().chain(listing::properties(id, metadata)) {
        properties.put(key.into(), value);
    }
    let moments = MOMENTS.map(|key| metadata.get(key).and_then(Value::as_str).and_then(moment));
    let [created_at, updated_at] = moments;
    map([
        ("id", id.into()),
        ("properties", BoltType::Map(properties)),
        ("created_at", created_at.into()),
        ("updated_at", updated_at.into()),
    ])
}

/// Returns the row that writes a state of a memory that is over as soon as it is written; `edges` are those that a removal
/// took away.
pub(super) fn version_row(
    tenant: &str,
    id: &str,
    state: Option<(&str, &Map<String, Value>)>,
    number: u64,
    at: &str,
    origin: &Origin,
    edges: &[Edge],
) -> BoltType {
    let (memory, metadata, sources) = match state {
        None => (None, None, None),
        Some((memory, metadata)) => {
            let (rest, mut lists) = split(metadata);
            let sources = lists.iter_mut().find(|(key, _)| *key == "sources").map(|(_, values)| std::mem::take(values));
            (Some(memory), Some(Value::Object(rest).to_string()), sources)
        }
    };
    row([
        ("tenant", tenant.into()),
        ("id", id.into()),
        ("number", super::values::integer(number)),
        ("at", at.into()),
        ("actor", origin.actor.as_str().into()),
        ("reason", origin.reason.as_str().into()),
        ("message_id", origin.message_id.clone().into()),
        ("memory", memory.into()),
        ("metadata", metadata.into()),
        ("sources", sources.into()),
        ("edges", codec::edges_text(edges).into()),
    ])
}

type TextLists = Vec<(&'static str, Vec<String>)>;

/// Takes the lists of objects out of metadata. What is no list of objects stays.
fn split(metadata: &Map<String, Value>) -> (Map<String, Value>, TextLists) {
    let (mut rest, mut lists) = (metadata.clone(), Vec::new());
    for key in TEXT_LISTS {
        if let Some(Value::Array(values)) = rest.get(key)
            && values.iter().all(Value::is_object)
        {
            lists.push((key, values.iter().map(Value::to_string).collect()));
            rest.shift_remove(key);
        }
    }
    (rest, lists)
}

/// Returns what of metadata becomes properties. The keys of `info` stand beside the others, which go before them.
fn metadata_properties(metadata: &Map<String, Value>) -> BoltMap {
    let info = metadata.get("info").and_then(Value::as_object);
    let mut properties = BoltMap::default();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != "info").chain(info.into_iter().flatten()) {
        if is_property(key)
            && !properties.value.contains_key(key.as_str())
            && let Some(value) = property(value)
        {
            properties.put(BoltString::from(key.as_str()), value);
        }
    }
    properties
}

/// Whether a key of metadata, or of `info` in it, may be the name of a property.
fn is_property(key: &str) -> bool {
    let is_name = !key.is_empty() && key.len() <= MAX_NAME_BYTES && !key.chars().any(|c| c.is_control() || c == '`');
    is_name && !key.starts_with(OWN_PREFIX) && !RESERVED.contains(&key)
}

/// Returns a time as the server reads it; `None` for text that is no time. MemOS writes times without an offset too:
/// the server takes them for UTC.
fn moment(text: &str) -> Option<String> {
    let at = text.parse::<Timestamp>().ok().or_else(|| {
        let local = text.parse::<DateTime>().ok()?;
        Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    let text = timestamp_text(at);
    // Years before 0 and their like have a spelling of their own.
    text.starts_with(|c: char| c.is_ascii_digit()).then_some(text)
}

/// Reads JSON that may be encoded several times; what is no JSON is text.
fn decoded(text: &str) -> Value {
    let mut value = Value::String(text.to_owned());
    for _ in 0..MAX_ENCODINGS {
        let Value::String(inner) = &value else { break };
        match serde_json::from_str(inner) {
            Ok(parsed @ (Value::Object(_) | Value::String(_))) => value = parsed,
            _ => break,
        }
    }
    value
}

/// Returns the metadata of a node that MemOS wrote.
fn foreign_metadata(properties: &BoltMap) -> Map<String, Value> {
    let mut metadata = Map::new();
    for (key, value) in &properties.value {
        let key = key.value.as_str();
        if RESERVED.contains(&key) || key.starts_with(OWN_PREFIX) {
            continue;
        }
        let Some(value) = json(value).filter(|value| !value.is_null()) else { continue };
        if let Some(value) = foreign_value(key, value) {
            metadata.insert(key.to_owned(), value);
        }
    }
    metadata
}

fn foreign_value(key: &str, value: Value) -> Option<Value> {
    match value {
        Value::String(text) if MARKS_OF_DELETION.contains(&key) && text.is_empty() => None,
        Value::String(text) if MOMENTS.contains(&key) => Some(Value::String(moment_of_server(&text))),
        Value::String(text) if OBJECTS.contains(&key) => Some(decoded(&text)),
        Value::Array(values) if TEXT_LISTS.contains(&key) => {
            let decode = |value: Value| value.as_str().map(decoded).unwrap_or(value);
            Some(Value::Array(values.into_iter().map(decode).collect()))
        }
        value => Some(value),
    }
}

/// The server adds the name of the time zone where it knows one.
fn moment_of_server(text: &str) -> String {
    moment(text.split('[').next().unwrap_or_default()).unwrap_or_else(|| text.to_owned())
}

/// Returns conditions that every memory passing the filter fulfils, as names and values of properties. The server
/// leaves out with them what need not be sent; what comes is still to be compared.
pub(super) fn necessary(filter: &Filter) -> BoltType {
    let mut pairs = Vec::new();
    collect_necessary(filter, &mut pairs);
    list(pairs)
}

fn collect_necessary(filter: &Filter, pairs: &mut Vec<BoltType>) {
    match filter {
        Filter::All(parts) => parts.iter().for_each(|part| collect_necessary(part, pairs)),
        // Text is equal to text only, here and there; but not where texts are moments.
        Filter::Is(Condition { field, operator: Operator::Eq, value: Value::String(text) })
            if (is_property(field) || field == "memory") && !is_moment_field(field) && field != "info" =>
        {
            pairs.push(row([("field", field.as_str().into()), ("value", text.as_str().into())]));
        }
        Filter::Everything | Filter::Is(_) | Filter::Any(_) | Filter::Not(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn properties(metadata: Value) -> Map<String, Value> {
        let metadata = metadata.as_object().unwrap().clone();
        let place = Place { sequence: 7, order: 3, number: 2, at: "now".to_owned() };
        let origin = Origin::new("ann", "test");
        let row = node_row("cube", "the id", "the text", &metadata, &["dog".to_owned()], &place, &origin);
        let BoltType::Map(properties) = &row.value["properties"] else { panic!("{row:?}") };
        properties.value.iter().map(|(key, value)| (key.value.clone(), json(value).unwrap())).collect()
    }

    #[test]
    fn metadata_lies_beside_what_makes_reading_exact() {
        let found = properties(json!({
            "tags": ["a"], "confidence": 0.5, "custom": {"deep": [1]}, "nothing": null,
            "sources": [{"type": "chat", "content": "x"}], "info": {"city": "Paris", "tags": "not these"},
        }));
        assert_eq!(found["tags"], json!(["a"]), "the keys of info overwrite nothing");
        assert_eq!(found["custom"], json!(r#"{"deep":[1]}"#));
        assert_eq!(found["sources"], json!([r#"{"type":"chat","content":"x"}"#]), "encoded once");
        assert_eq!((&found["city"], &found["confidence"]), (&json!("Paris"), &json!(0.5)));
        assert_eq!((&found["mos_sequence"], &found["mos_number"]), (&json!(7), &json!(2)));
        assert!(!found.contains_key("info") && !found.contains_key("nothing"));
        let kept: Value = serde_json::from_str(found["mos_metadata"].as_str().unwrap()).unwrap();
        assert_eq!(kept["info"], json!({"city": "Paris", "tags": "not these"}));
        assert!(kept.get("sources").is_none());
    }

    #[test]
    fn metadata_reaches_no_property_with_a_meaning_of_its_own() {
        let found = properties(json!({
            "user_name": "another cube", "id": "other", "embedding": [1.0], "mos_sequence": 99, "mos_new": 1, "": 2, "a`b": 3,
            "x\u{0}": 4, "info": {"user_name": "another cube", "mos_terms": "x"}, "n": 5, "y".repeat(200): 6,
        }));
        assert_eq!(
            (&found["user_name"], &found["id"], &found["mos_sequence"]),
            (&json!("cube"), &json!("the id"), &json!(7))
        );
        for absent in ["embedding", "mos_new", "", "a`b", "x\u{0}"] {
            assert!(!found.contains_key(absent), "{absent:?}");
        }
        assert!(found.contains_key("n") && !found.keys().any(|key| key.len() > MAX_NAME_BYTES));
    }

    #[test]
    fn times_are_told_to_the_server_in_one_spelling() {
        for text in ["2026-01-02T03:04:05.5+00:00", "2026-01-02T05:04:05.5+02:00", "2026-01-02T03:04:05.5"] {
            assert_eq!(moment(text).as_deref(), Some("2026-01-02T03:04:05.500000+00:00"), "{text}");
        }
        assert_eq!((moment("yesterday"), moment("-000001-01-01T00:00:00Z")), (None, None));
        assert_eq!(moment_of_server("2026-01-02T03:04:05Z[Europe/Paris]"), "2026-01-02T03:04:05.000000+00:00");
    }

    #[test]
    fn what_memos_wrote_is_read_from_properties() {
        let twice = Value::from(r#"{"type": "chat", "content": "x"}"#).to_string();
        let properties = map([
            ("id", "a".into()),
            ("memory", "text".into()),
            ("user_name", "cube".into()),
            ("embedding", list([1.0.into()])),
            ("sources", texts([twice.as_str(), r#"{"type": "doc"}"#, "plain words"])),
            ("created_at", "2026-01-13T20:51:42.39487Z".into()),
            ("internal_info", r#"{"a": 1}"#.into()),
            ("key", r#"{"stays": "text"}"#.into()),
            ("delete_time", "".into()),
            ("tags", texts(["x"])),
        ]);
        assert_eq!(
            Value::Object(foreign_metadata(&properties)).as_object().unwrap().len(),
            5,
            "nothing that is the store's own"
        );
        let metadata = foreign_metadata(&properties);
        assert_eq!(metadata["sources"], json!([{"type": "chat", "content": "x"}, {"type": "doc"}, "plain words"]));
        assert_eq!(metadata["created_at"], json!("2026-01-13T20:51:42.394870+00:00"));
        assert_eq!((&metadata["internal_info"], &metadata["key"]), (&json!({"a": 1}), &json!(r#"{"stays": "text"}"#)));
    }

    #[test]
    fn only_what_every_passing_memory_fulfils_is_told_to_the_server() {
        let n = |filter: &Filter| match necessary(filter) {
            BoltType::List(pairs) => pairs.len(),
            other => panic!("{other:?}"),
        };
        let (status, number) = (Filter::equals("status", "activated"), Filter::equals("n", 7));
        assert_eq!(n(&status.clone().and(number.clone()).and(Filter::equals("memory", "x"))), 2);
        assert_eq!(n(&Filter::Any(vec![status.clone(), number])), 0, "one of several need not be fulfilled");
        for field in ["created_at", "seen_at", "user_name", "mos_metadata", "id", ""] {
            assert_eq!(n(&Filter::equals(field, "x")), 0, "{field}");
        }
    }
}
