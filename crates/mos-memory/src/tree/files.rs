//! Chunks of files as they are, and the edges between them and their summaries.

use mos_core::graph::kinds::{FOLLOWING, MATERIAL, PRECEDING, SUMMARY};
use mos_core::{AddRequest, Edge, MemoryError, MemoryId, MemoryItem, MemoryType};
use serde_json::Value;

use super::{TreeMode, TreeText};

impl TreeText {
    /// Stores chunks of files with the edges that their metadata speaks of.
    pub(super) async fn store_raw_files(
        &self,
        items: Vec<MemoryItem>,
        request: AddRequest,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        // A chunk is what it is: there is nothing to refine.
        let mut items = self.prepared(items, TreeMode::Sync)?;
        for item in &mut items {
            if let Some(fields) = item.metadata.tree_mut() {
                fields.memory_type = MemoryType::RawFile;
            }
        }
        let edges = items.iter().map(edges_of).collect::<Result<Vec<_>, _>>()?.concat();
        self.store(items, edges, request).await
    }
}

/// Returns the edges that the metadata of a chunk speaks of.
fn edges_of(chunk: &MemoryItem) -> Result<Vec<Edge>, MemoryError> {
    let edge = |source: &MemoryId, target: &MemoryId, kind: &str| Edge {
        source: source.clone(),
        target: target.clone(),
        kind: kind.to_owned(),
    };
    let mut edges = Vec::new();
    for summary in named(chunk, "summary_ids")? {
        edges.push(edge(&chunk.id, &summary, SUMMARY));
        edges.push(edge(&summary, &chunk.id, MATERIAL));
    }
    for (field, kind) in [("following_id", FOLLOWING), ("preceding_id", PRECEDING)] {
        edges.extend(named(chunk, field)?.iter().map(|other| edge(&chunk.id, other, kind)));
    }
    Ok(edges)
}

/// Returns the memories that a field names: one id, a list of them, or none.
fn named(chunk: &MemoryItem, field: &str) -> Result<Vec<MemoryId>, MemoryError> {
    let wrong = || {
        MemoryError::Invalid(format!(
            "`{field}` of the chunk `{}` must be the id of a memory or a list of ids",
            chunk.id
        ))
    };
    let values = match chunk.metadata.extra.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(values)) => values.clone(),
        Some(one) => vec![one.clone()],
    };
    let mut ids = Vec::with_capacity(values.len());
    for value in values {
        let id = MemoryId::parse(value.as_str().ok_or_else(wrong)?).map_err(|_| wrong())?;
        if id == chunk.id {
            return Err(wrong());
        }
        ids.push(id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chunk(extra: Value) -> MemoryItem {
        let value = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "x", "metadata": extra});
        MemoryItem::from_value(value, String::new).unwrap()
    }

    #[test]
    fn a_chunk_is_connected_with_summaries_and_neighbours() {
        let chunk = chunk(json!({"summary_ids": ["s", "t"], "following_id": "n", "preceding_id": null}));
        let edges = edges_of(&chunk).unwrap();
        let found: Vec<(&str, &str, &str)> = edges
            .iter()
            .map(|edge| {
                let name = |id: &MemoryId| {
                    if *id == chunk.id {
                        "chunk"
                    } else if id.as_str() == "s" {
                        "s"
                    } else {
                        "other"
                    }
                };
                (name(&edge.source), edge.kind.as_str(), name(&edge.target))
            })
            .collect();
        assert_eq!(
            found,
            [
                ("chunk", "SUMMARY", "s"),
                ("s", "MATERIAL", "chunk"),
                ("chunk", "SUMMARY", "other"),
                ("other", "MATERIAL", "chunk"),
                ("chunk", "FOLLOWING", "other"),
            ]
        );
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in [json!({"summary_ids": [1]}), json!({"following_id": {}}), json!({"preceding_id": ""})] {
            assert!(edges_of(&chunk(bad)).is_err());
        }
        assert!(edges_of(&chunk(json!({"following_id": "00000000-0000-4000-8000-000000000001"}))).is_err());
    }
}
