//! What a memory is on the server: one point, and what stands in its payload.
//!
//! Beside the memories of a cube lies its cursor: a point that says how far the collection has followed the record's feed.
//! It stands in the same collection, so that a snapshot holds both or none. It has no `cube`, by which memories are
//! found, but `cursor_of`.

use std::collections::HashMap;

use mos_core::{CubeId, EmbeddingSpace, MemoryId, Scope, StoreError, VectorPoint, is_moment_field, moment};
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{ListValue, PointId, PointStruct, Struct, Value as Payload};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fault::BACKEND;

/// Names of the payload.
pub(super) const CUBE: &str = "cube";
pub(super) const MEMORY_ID: &str = "memory_id";
pub(super) const MEMORY: &str = "memory";
pub(super) const METADATA: &str = "metadata";
/// Milliseconds since 1970 of the metadata whose names end in `_at`, as far as they are dates.
pub(super) const MOMENTS: &str = "moments";
pub(super) const SEQUENCE: &str = "sequence";
pub(super) const CURSOR_OF: &str = "cursor_of";
const MODEL: &str = "model";
const LAST: &str = "last";

/// The namespaces of the points' ids.
const MEMORIES: Uuid = Uuid::from_u128(0x6d6f_735f_6d65_4d6f_8000_7264_616e_7401);
const CURSORS: Uuid = Uuid::from_u128(0x6d6f_735f_6375_4d6f_8000_7264_616e_7402);

/// Returns the id of a memory's point. Ids of memories may be any text, those of points are UUIDs.
pub(super) fn memory_point(scope: &Scope, id: &MemoryId) -> Uuid {
    // With its length in front, the cube cannot run into the id.
    let name = format!("{}:{}{id}", scope.cube.as_str().len(), scope.cube);
    Uuid::new_v5(&MEMORIES, name.as_bytes())
}

pub(super) fn cursor_point(scope: &Scope) -> Uuid {
    Uuid::new_v5(&CURSORS, scope.cube.as_str().as_bytes())
}

/// Returns a short text that tells embedding models apart.
pub(super) fn model_mark(space: &EmbeddingSpace) -> String {
    let mark = Uuid::new_v5(&CURSORS, format!("model:{}", space.model).as_bytes());
    mark.simple().to_string()[..12].to_owned()
}

pub(super) fn point_id(id: Uuid) -> PointId {
    PointId::from(id.hyphenated().to_string())
}

/// How far a collection has followed the feed of a cube.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Number of the last change that is in the collection; 0 for none.
    pub(super) sequence: u64,
    /// The memory of that change.
    pub(super) last: Option<MemoryId>,
}

impl Cursor {
    pub(super) fn to_point(&self, scope: &Scope, space: &EmbeddingSpace) -> PointStruct {
        let mut payload = HashMap::from([
            (CURSOR_OF.to_owned(), text(scope.cube.as_str())),
            (MODEL.to_owned(), text(&space.model)),
            (SEQUENCE.to_owned(), integer(self.sequence)),
        ]);
        if let Some(last) = &self.last {
            payload.insert(LAST.to_owned(), text(last.as_str()));
        }
        // No search finds it, but a point must have a vector.
        let mut vector = vec![0.0; space.dimension];
        vector[0] = 1.0;
        PointStruct { id: Some(point_id(cursor_point(scope))), payload, vectors: Some(vector.into()) }
    }

    /// # Errors
    /// [`StoreError::Corrupt`] when it is none.
    pub(super) fn of(payload: &HashMap<String, Payload>) -> Result<Self, StoreError> {
        let last = payload.get(LAST).and_then(as_text).map(MemoryId::new);
        Ok(Self { sequence: sequence(payload)?, last })
    }
}

/// Returns the cube of a cursor.
pub(super) fn cursor_cube(payload: &HashMap<String, Payload>) -> Option<Scope> {
    payload.get(CURSOR_OF).and_then(as_text).map(|cube| Scope { cube: CubeId::new(cube) })
}

/// Returns the cube of a memory's point.
pub(super) fn memory_cube(payload: &HashMap<String, Payload>) -> Option<Scope> {
    payload.get(CUBE).and_then(as_text).map(|cube| Scope { cube: CubeId::new(cube) })
}

/// Returns the point of a memory as of a change.
pub(super) fn memory(scope: &Scope, sequence: u64, point: &VectorPoint) -> PointStruct {
    let fields = fields(&point.metadata);
    let moments = fields.iter().filter(|(field, _)| is_moment_field(field));
    let moments = moments.filter_map(|(field, value)| Some(((*field).clone(), integer_value(milliseconds(value)?))));
    let payload = HashMap::from([
        (CUBE.to_owned(), text(scope.cube.as_str())),
        (MEMORY_ID.to_owned(), text(point.id.as_str())),
        (MEMORY.to_owned(), text(&point.memory)),
        (MOMENTS.to_owned(), structure(moments.collect())),
        (
            METADATA.to_owned(),
            structure(fields.iter().map(|(field, value)| ((*field).clone(), payload_value(value))).collect()),
        ),
        (SEQUENCE.to_owned(), integer(sequence)),
    ]);
    let id = memory_point(scope, &point.id);
    PointStruct { id: Some(point_id(id)), payload, vectors: Some(point.vector.clone().into()) }
}

/// What filters see of metadata: every key that is not null, and those of `info` that are not hidden by one.
fn fields(metadata: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut seen: HashMap<&String, &Value> = metadata.iter().filter(|(_, value)| !value.is_null()).collect();
    if let Some(Value::Object(info)) = metadata.get("info") {
        for (field, value) in info.iter().filter(|(_, value)| !value.is_null()) {
            seen.entry(field).or_insert(value);
        }
    }
    seen.into_iter().collect()
}

/// Returns the moment of a date in whole milliseconds since 1970, rounded down.
pub(super) fn milliseconds(value: &Value) -> Option<i64> {
    let nanoseconds = moment(value.as_str()?)?.as_nanosecond();
    i64::try_from(nanoseconds.div_euclid(1_000_000)).ok()
}

/// A point of a memory, as far as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) id: MemoryId,
    pub(super) sequence: u64,
    /// Empty unless it was asked for.
    pub(super) memory: String,
    /// What filters see; empty unless it was asked for.
    pub(super) metadata: Map<String, Value>,
}

impl Stored {
    /// # Errors
    /// [`StoreError::Corrupt`] when the point is not one of a memory.
    pub(super) fn of(payload: HashMap<String, Payload>) -> Result<Self, StoreError> {
        let sequence = sequence(&payload)?;
        let mut payload = payload;
        let id = payload.get(MEMORY_ID).and_then(as_text).ok_or_else(|| damaged("no id of a memory"))?;
        let memory = payload.get(MEMORY).and_then(as_text).unwrap_or_default();
        let metadata = match payload.remove(METADATA).map(json_value) {
            Some(Value::Object(map)) => map,
            None => Map::new(),
            Some(_) => return Err(damaged("metadata that is no object")),
        };
        Ok(Self { id: MemoryId::new(id), sequence, memory, metadata })
    }
}

fn sequence(payload: &HashMap<String, Payload>) -> Result<u64, StoreError> {
    match payload.get(SEQUENCE).and_then(|value| value.kind.as_ref()) {
        Some(Kind::IntegerValue(number)) => {
            u64::try_from(*number).map_err(|_| damaged("a negative number of a change"))
        }
        _ => Err(damaged("no number of a change")),
    }
}

fn damaged(detail: &str) -> StoreError {
    StoreError::Corrupt {
        what: format!("a point on the {BACKEND} server"),
        detail: format!("it has {detail}; delete the collection, it is filled again from the record"),
    }
}

fn as_text(value: &Payload) -> Option<String> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}

fn kind(kind: Kind) -> Payload {
    Payload { kind: Some(kind) }
}

fn text(text: &str) -> Payload {
    kind(Kind::StringValue(text.to_owned()))
}

fn integer(number: u64) -> Payload {
    integer_value(i64::try_from(number).unwrap_or(i64::MAX))
}

fn integer_value(number: i64) -> Payload {
    kind(Kind::IntegerValue(number))
}

fn structure(fields: HashMap<String, Payload>) -> Payload {
    kind(Kind::StructValue(Struct { fields }))
}

/// Whole numbers beyond 64 bits with sign become floating, as filters compare them anyway.
fn payload_value(value: &Value) -> Payload {
    kind(match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Kind::IntegerValue(number),
            None => Kind::DoubleValue(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(payload_value).collect() }),
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| (key.clone(), payload_value(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    })
}

fn json_value(value: Payload) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::IntegerValue(number)) => Value::from(number),
        Some(Kind::DoubleValue(number)) => Value::from(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json_value).collect(),
        Some(Kind::StructValue(map)) => {
            Value::Object(map.fields.into_iter().map(|(key, value)| (key, json_value(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mos_core::Filter;
    use serde_json::json;

    use super::*;

    fn scope(cube: &str) -> Scope {
        Scope { cube: cube.into() }
    }

    fn point(metadata: &Value) -> VectorPoint {
        VectorPoint {
            id: "a/\"b\" 记".into(),
            vector: vec![1.0, 0.0],
            memory: Arc::from("text"),
            metadata: Arc::new(metadata.as_object().unwrap().clone()),
        }
    }

    #[test]
    fn no_two_memories_share_a_point() {
        let pairs = [("c", "1x"), ("c1", "x"), ("", "c1x"), ("c1x", ""), ("c", "1X")];
        let mut ids: Vec<Uuid> = pairs.iter().map(|(cube, id)| memory_point(&scope(cube), &(*id).into())).collect();
        ids.extend(pairs[..3].iter().map(|(cube, _)| cursor_point(&scope(cube))));
        let n_ids = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), n_ids);
        assert_eq!(memory_point(&scope("c"), &"1x".into()), memory_point(&scope("c"), &"1x".into()));
    }

    #[test]
    fn what_filters_see_comes_back_as_it_was() {
        let metadata = json!({"key": "dog", "tags": ["a", {"deep": [null, 1.5]}], "n": -3, "big": u64::MAX, "status": null,
            "info": {"city": "Paris", "key": "hidden", "status": "shown", "none": null}, "updated_at": "2026-01-02"});
        let made = memory(&scope("c"), 7, &point(&metadata));
        let stored = Stored::of(made.payload).unwrap();
        assert_eq!((stored.id.as_str(), stored.sequence, stored.memory.as_str()), ("a/\"b\" 记", 7, "text"));
        assert_eq!(stored.metadata["tags"], metadata["tags"]);
        for filter in [
            Filter::equals("key", "dog"),
            Filter::equals("city", "Paris"),
            Filter::equals("status", "shown"),
            Filter::equals("n", -3),
            Filter::equals("big", u64::MAX),
            Filter::equals("key", "hidden"),
            Filter::equals("none", "x"),
        ] {
            let expected = filter.matches("text", metadata.as_object().unwrap());
            assert_eq!(filter.matches("text", &stored.metadata), expected, "{filter:?}");
        }
    }

    #[test]
    fn cursors_come_back_as_they_were() {
        let space = EmbeddingSpace { model: "mini".to_owned(), dimension: 3 };
        for cursor in [Cursor::default(), Cursor { sequence: 9, last: Some("x".into()) }] {
            let point = cursor.to_point(&scope("c"), &space);
            assert_eq!(Cursor::of(&point.payload).unwrap(), cursor);
            assert_eq!(cursor_cube(&point.payload), Some(scope("c")));
            assert_eq!(memory_cube(&point.payload), None);
        }
        assert!(matches!(Cursor::of(&HashMap::new()), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn moments_are_rounded_down() {
        assert_eq!(milliseconds(&json!("1970-01-01T00:00:00.0019Z")), Some(1));
        assert_eq!(milliseconds(&json!("1969-12-31T23:59:59.9999Z")), Some(-1));
        assert_eq!(milliseconds(&json!("soon")), None);
    }
}
