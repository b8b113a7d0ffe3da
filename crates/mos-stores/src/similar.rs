//! Similarities from the vectors of a record, for indexes that keep none in this process.

use std::collections::HashMap;

use mos_core::{EmbeddingSpace, MemoryId, RecordStore, Scope, StoreError};

use crate::codec;
use crate::prepare::check_dimension;

/// Vectors that are read at a time.
const PAGE: usize = 1000;

/// Does what [`VectorStore::similarities`](mos_core::VectorStore::similarities) promises, with vectors that the record
/// is asked for.
pub(crate) async fn similarities_by_record<R: RecordStore + ?Sized>(
    record: &R,
    scope: &Scope,
    space: &EmbeddingSpace,
    query: &[f32],
    ids: &[MemoryId],
) -> Result<Vec<Option<f32>>, StoreError> {
    check_dimension(space, query.len())?;
    let query = codec::unit("the query", query.to_vec())?;
    let Some(have) = record.embedding_space(scope).await? else { return Ok(vec![None; ids.len()]) };
    if have != *space {
        return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space.clone() });
    }
    let mut similarity_of: HashMap<MemoryId, f32> = HashMap::new();
    for page in ids.chunks(PAGE) {
        for (id, vector) in record.embeddings(scope, page).await? {
            if vector.len() != query.len() {
                return Err(StoreError::Conflict(format!(
                    "the embeddings of cube `{}` are being replaced; search again when that is done",
                    scope.cube
                )));
            }
            let dot: f32 = vector.iter().zip(&query).map(|(left, right)| left * right).sum();
            similarity_of.insert(id, dot.clamp(-1.0, 1.0));
        }
    }
    Ok(ids.iter().map(|id| similarity_of.get(id).copied()).collect())
}
