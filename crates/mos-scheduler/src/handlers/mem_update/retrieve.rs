//! Searching a cube for what a turn lacks.

use std::collections::HashMap;

use mos_core::{Hit, MemoryError, MemoryId, MemoryItem, MemoryType, SearchRequest, TextMemory};

/// Returns the memories that fit any of the evidences, the best first, each once. Each evidence brings `top_k` divided among
/// them, and at least one; of a tree so many from long-term memory and as many from user memory.
pub(super) async fn retrieve(
    text: &dyn TextMemory,
    evidences: &[String],
    top_k: usize,
) -> Result<Vec<MemoryItem>, MemoryError> {
    let each = (top_k / evidences.len().max(1)).max(1);
    let shelves: Vec<Vec<MemoryType>> = if text.as_tree().is_some() {
        vec![vec![MemoryType::LongTerm], vec![MemoryType::User]]
    } else {
        vec![Vec::new()]
    };
    let mut found: Vec<Hit> = Vec::new();
    for evidence in evidences {
        for types in &shelves {
            let request = SearchRequest { types: types.clone(), ..SearchRequest::new(evidence.as_str(), each) };
            found.extend(text.search(&request).await?.hits);
        }
    }
    Ok(best_first(found))
}

/// Each memory once, with the best of its scores.
fn best_first(found: Vec<Hit>) -> Vec<MemoryItem> {
    let mut places: HashMap<MemoryId, usize> = HashMap::new();
    let mut hits: Vec<Hit> = Vec::new();
    for hit in found {
        match places.get(&hit.item.id) {
            Some(place) => hits[*place].relativity = hits[*place].relativity.max(hit.relativity),
            None => {
                places.insert(hit.item.id.clone(), hits.len());
                hits.push(hit);
            }
        }
    }
    hits.sort_by(|a, b| b.relativity.total_cmp(&a.relativity));
    hits.into_iter().map(|hit| hit.item).collect()
}
