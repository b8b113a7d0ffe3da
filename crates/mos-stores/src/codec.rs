//! The form in which memories and vectors are kept.

use mos_core::{Edge, MemoryId, MemoryItem, MetadataForm, StoreError};
use serde_json::{Map, Value};

/// Stands in for the id while metadata is read: ids of memories are opaque, only the reader wants a UUID.
const PLACEHOLDER_ID: &str = "00000000-0000-0000-0000-000000000000";

/// What of a memory's metadata is too long for indexes, or no condition ever looks at.
const NOT_FOR_INDEXES: [&str; 3] = ["sources", "history", "embedding"];

/// Returns an item's metadata as it is kept: no embedding, and no nulls where null is what an absent field means.
pub(crate) fn stored_metadata(item: &MemoryItem) -> Map<String, Value> {
    let mut map = item.metadata.to_map();
    if !matches!(item.metadata.form, MetadataForm::Base) {
        map.shift_remove("embedding");
    }
    let extra = &item.metadata.extra;
    map.retain(|key, value| {
        !value.is_null() || matches!(key.as_str(), "status" | "background") || extra.contains_key(key)
    });
    map
}

/// Reads a memory back from what was kept of it.
///
/// # Errors
/// [`StoreError::Corrupt`] when the metadata cannot be that of a memory.
pub(crate) fn restore_item(
    id: MemoryId,
    memory: String,
    metadata: Map<String, Value>,
) -> Result<MemoryItem, StoreError> {
    let is_null = |key: &str| matches!(metadata.get(key), Some(Value::Null));
    let (no_status, no_background) = (is_null("status"), is_null("background"));
    let mut whole = Map::new();
    whole.insert("id".to_owned(), Value::String(PLACEHOLDER_ID.to_owned()));
    whole.insert("memory".to_owned(), Value::String(memory));
    whole.insert("metadata".to_owned(), Value::Object(metadata));
    let mut item = MemoryItem::from_value(Value::Object(whole), || PLACEHOLDER_ID.to_owned())
        .map_err(|error| damaged(id.as_str(), &error.to_string()))?;
    item.id = id;
    // For these two the reader takes null for "not said", but here it was said.
    if no_status {
        item.metadata.status = None;
    }
    if let MetadataForm::Tree(fields) | MetadataForm::Searched(fields, _) = &mut item.metadata.form
        && no_background
    {
        fields.background = None;
    }
    Ok(item)
}

/// Reads the JSON text of kept metadata.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not a JSON object.
pub(crate) fn parse_metadata(id: &str, json: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(json).map_err(|error| damaged(id, &error.to_string()))
}

/// Returns what of kept metadata goes into indexes.
pub(crate) fn index_metadata(mut metadata: Map<String, Value>) -> Map<String, Value> {
    metadata.retain(|key, _| !NOT_FOR_INDEXES.contains(&key.as_str()));
    metadata
}

/// Returns a vector at unit length; unchanged when it has it already.
///
/// # Errors
/// [`StoreError::Invalid`] for a vector that is not finite or of zero length.
pub(crate) fn unit(what: &str, mut vector: Vec<f32>) -> Result<Vec<f32>, StoreError> {
    if vector.iter().any(|number| !number.is_finite()) {
        return Err(StoreError::Invalid(format!(
            "the embedding of {what} holds a number that is not finite; embed the text again"
        )));
    }
    let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err(StoreError::Invalid(format!(
            "the embedding of {what} has zero length and therefore no direction; embed the text again"
        )));
    }
    if (length - 1.0).abs() > 1e-6 {
        for number in &mut vector {
            *number = (f64::from(*number) / length) as f32;
        }
    }
    Ok(vector)
}

/// Returns edges as they are kept with a removal: JSON, a list of `[source, target, type]`; `None` for no edges.
pub(crate) fn edges_text(edges: &[Edge]) -> Option<String> {
    let one = |edge: &Edge| Value::from(vec![edge.source.as_str(), edge.target.as_str(), edge.kind.as_str()]);
    (!edges.is_empty()).then(|| edges.iter().map(one).collect::<Value>().to_string())
}

/// Reads what [`edges_text`] has written for the removal of a memory.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(crate) fn parse_edges(id: &MemoryId, text: Option<&str>) -> Result<Vec<Edge>, StoreError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let edges: Vec<(String, String, String)> = serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        what: format!("the history of memory `{id}`"),
        detail: format!("the edges that its removal took away cannot be read: {error}; restore the data from a backup"),
    })?;
    let edge = |(source, target, kind): (String, String, String)| Edge {
        source: MemoryId::new(source),
        target: MemoryId::new(target),
        kind,
    };
    Ok(edges.into_iter().map(edge).collect())
}

/// Returns a vector as little-endian bytes.
pub(crate) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Reads a vector from little-endian bytes.
pub(crate) fn vector_from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn damaged(id: &str, detail: &str) -> StoreError {
    StoreError::Corrupt {
        what: format!("memory `{id}`"),
        detail: format!("its metadata cannot be read: {detail}; restore the data from a backup, or delete the memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::memory::TreeFields;
    use serde_json::json;

    fn round_trip(item: &MemoryItem) -> MemoryItem {
        restore_item(item.id.clone(), item.memory.clone(), stored_metadata(item)).unwrap()
    }

    #[test]
    fn every_form_comes_back_as_it_was() {
        let mut base = MemoryItem::new("a/../b c 记".into(), "text");
        base.metadata.status = None;
        base.metadata.confidence = Some(0.1 + 0.2);
        base.metadata.extra.insert("custom".to_owned(), json!({"deep": null}));
        base.metadata.extra.insert("nothing".to_owned(), Value::Null);
        assert_eq!(round_trip(&base), base);
        let mut tree = base.clone();
        tree.metadata.form = MetadataForm::Tree(Box::new(TreeFields { background: None, ..TreeFields::default() }));
        assert_eq!(round_trip(&tree), tree);
        tree.metadata.form = MetadataForm::Searched(Box::default(), 0.5);
        assert_eq!(round_trip(&tree), tree);
    }

    #[test]
    fn edges_come_back_as_they_were() {
        let edge =
            |source: &str, target: &str| Edge { source: source.into(), target: target.into(), kind: "K\"".into() };
        let edges = vec![edge("a", "b"), edge("记", "a/../b")];
        let text = edges_text(&edges).unwrap();
        assert_eq!(parse_edges(&"a".into(), Some(&text)).unwrap(), edges);
        assert_eq!((edges_text(&[]), parse_edges(&"a".into(), None).unwrap()), (None, Vec::new()));
        assert!(matches!(parse_edges(&"a".into(), Some("[[1]]")), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn vectors_come_to_unit_length_or_are_refused() {
        assert_eq!(unit("x", vec![3.0, 4.0]).unwrap(), [0.6, 0.8]);
        assert!(unit("x", vec![f32::NAN, 1.0]).is_err());
        assert!(unit("x", vec![f32::INFINITY, 1.0]).is_err());
        assert!(unit("x", vec![0.0, 0.0]).is_err());
        let tiny = unit("x", vec![1e-30, 0.0]).unwrap();
        assert_eq!(tiny, [1.0, 0.0], "small numbers do not underflow");
        assert_eq!(vector_from_bytes(&vector_bytes(&[1.5, -2.0])), [1.5, -2.0]);
    }
}
