//! Short ways to say what the suites write.

use mos_core::{
    CubeId, Edge, EmbeddingSpace, EmbeddingWrite, MemoryId, MemoryItem, Origin, Receipt, RecordStore, Scope, Scored,
    StoreError, WriteBatch,
};

pub(super) fn scope(cube: &str) -> Scope {
    Scope::of(&CubeId::new(cube))
}

pub(super) fn item(id: &str, memory: &str) -> MemoryItem {
    MemoryItem::new(MemoryId::new(id), memory)
}

pub(super) fn ids(names: &[&str]) -> Vec<MemoryId> {
    names.iter().map(|name| MemoryId::new(*name)).collect()
}

pub(super) fn names(found: &[Scored]) -> Vec<&str> {
    found.iter().map(|one| one.id.as_str()).collect()
}

pub(super) fn edge(source: &str, kind: &str, target: &str) -> Edge {
    Edge { source: MemoryId::new(source), target: MemoryId::new(target), kind: kind.to_owned() }
}

pub(super) fn batch() -> WriteBatch {
    WriteBatch::new(Origin::new("ann", "test"))
}

pub(super) fn puts(items: &[(&str, &str)]) -> WriteBatch {
    WriteBatch { put: items.iter().map(|(id, memory)| item(id, memory)).collect(), ..batch() }
}

pub(super) fn deletes(names: &[&str]) -> WriteBatch {
    WriteBatch { delete: ids(names), ..batch() }
}

pub(super) fn space(model: &str, dimension: usize) -> EmbeddingSpace {
    EmbeddingSpace { model: model.to_owned(), dimension }
}

pub(super) fn vectors(space: &EmbeddingSpace, vectors: &[(&str, &[f32])]) -> EmbeddingWrite {
    let vectors = vectors.iter().map(|(id, vector)| (MemoryId::new(*id), vector.to_vec())).collect();
    EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: false }
}

/// Memories and their vectors in one batch.
pub(super) fn embedded(space: &EmbeddingSpace, memories: &[(&str, &str, &[f32])]) -> WriteBatch {
    let pairs: Vec<(&str, &[f32])> = memories.iter().map(|(id, _, vector)| (*id, *vector)).collect();
    let items: Vec<(&str, &str)> = memories.iter().map(|(id, memory, _)| (*id, *memory)).collect();
    WriteBatch { embeddings: Some(vectors(space, &pairs)), ..puts(&items) }
}

pub(super) async fn apply(store: &dyn RecordStore, scope: &Scope, batch: WriteBatch) -> Receipt {
    store.apply(scope, batch).await.expect("the store takes a good batch")
}

/// Applies a batch that must be refused, and returns why it was.
pub(super) async fn refused(store: &dyn RecordStore, scope: &Scope, batch: WriteBatch) -> StoreError {
    store.apply(scope, batch).await.expect_err("the store refuses a bad batch")
}
