//! Everything about a batch that needs no store: checks, unit length, terms. Done before the one writer is asked.

use mos_core::users::ROOT_USER;
use mos_core::{
    Access, Edge, EmbeddingSpace, KeyId, MemoryId, MemoryItem, Origin, Scope, StoreError, User, UserId, UserRole,
    WriteBatch,
};
use serde_json::{Map, Value};

use crate::TextAnalyzer;
use crate::codec;
use crate::queue::{PreparedJob, QueueLimits, prepare_jobs};

/// A memory to write.
#[derive(Debug)]
pub(crate) struct PreparedItem {
    pub(crate) item: MemoryItem,
    pub(crate) metadata: Map<String, Value>,
    /// Terms of the text, in reading order.
    pub(crate) terms: Vec<String>,
}

/// Embeddings to write, at unit length, each of the space's dimension.
#[derive(Debug)]
pub(crate) struct PreparedEmbeddings {
    pub(crate) space: EmbeddingSpace,
    pub(crate) vectors: Vec<(MemoryId, Vec<f32>)>,
    /// As many texts as vectors, when there are any.
    pub(crate) made_of: Option<Vec<String>>,
    pub(crate) aside: bool,
}

impl PreparedEmbeddings {
    /// Id, vector, and the text that the vector was made of as far as it was told.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&MemoryId, &Vec<f32>, Option<&str>)> {
        let text = |index: usize| self.made_of.as_ref().map(|texts| texts[index].as_str());
        self.vectors.iter().enumerate().map(move |(index, (id, vector))| (id, vector, text(index)))
    }
}

/// A memory as somebody read it.
#[derive(Debug)]
pub(crate) struct ReadItem {
    pub(crate) id: MemoryId,
    pub(crate) memory: String,
    pub(crate) metadata: Map<String, Value>,
}

/// A batch that is right as far as it can be told without looking into the store.
#[derive(Debug)]
pub(crate) struct PreparedBatch {
    pub(crate) origin: Origin,
    pub(crate) at: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) absent: Vec<MemoryId>,
    pub(crate) unchanged: Vec<ReadItem>,
    pub(crate) clear: bool,
    pub(crate) delete: Vec<MemoryId>,
    pub(crate) put: Vec<PreparedItem>,
    pub(crate) remove_edges: Vec<Edge>,
    pub(crate) put_edges: Vec<Edge>,
    pub(crate) embeddings: Option<PreparedEmbeddings>,
    pub(crate) jobs: Vec<PreparedJob>,
}

/// Checks a batch and analyses its texts. `at` is the time of the change.
///
/// # Errors
/// [`StoreError::Dimension`], [`StoreError::Invalid`].
pub(crate) fn prepare(
    batch: WriteBatch,
    analyzer: &TextAnalyzer,
    at: String,
    limits: &QueueLimits,
) -> Result<PreparedBatch, StoreError> {
    let put = batch.put.into_iter().map(|item| prepare_item(item, analyzer)).collect::<Result<_, _>>()?;
    let embeddings = match batch.embeddings {
        None => None,
        Some(write) => {
            check_space(&write.space)?;
            let vectors = write.vectors.into_iter().map(|(id, vector)| {
                check_dimension(&write.space, vector.len())?;
                let vector = codec::unit(&format!("memory `{id}`"), vector)?;
                Ok((id, vector))
            });
            let vectors = vectors.collect::<Result<Vec<_>, StoreError>>()?;
            if let Some(texts) = write.made_of.as_ref().filter(|texts| texts.len() != vectors.len()) {
                return Err(StoreError::Invalid(format!("{} texts for {} embeddings", texts.len(), vectors.len())));
            }
            Some(PreparedEmbeddings { vectors, space: write.space, made_of: write.made_of, aside: write.aside })
        }
    };
    Ok(PreparedBatch {
        origin: batch.origin,
        at,
        idempotency_key: batch.idempotency_key,
        absent: batch.absent,
        unchanged: batch.unchanged.into_iter().map(read_item).collect(),
        clear: batch.clear,
        delete: batch.delete,
        put,
        remove_edges: batch.remove_edges,
        put_edges: batch.put_edges,
        embeddings,
        jobs: prepare_jobs(batch.jobs, limits)?,
    })
}

fn read_item(mut item: MemoryItem) -> ReadItem {
    item.metadata.take_embedding();
    let metadata = codec::stored_metadata(&item);
    ReadItem { id: item.id, memory: item.memory, metadata }
}

pub(crate) fn prepare_item(mut item: MemoryItem, analyzer: &TextAnalyzer) -> Result<PreparedItem, StoreError> {
    item.metadata.take_embedding();
    let metadata = codec::stored_metadata(&item);
    // Better to refuse now than to answer differently later.
    let restored = codec::restore_item(item.id.clone(), item.memory.clone(), metadata.clone());
    if restored.ok().as_ref() != Some(&item) {
        return Err(StoreError::Invalid(format!(
            "the metadata of memory `{}` cannot be kept as it is: a number is not finite, or a key of its own has the \
             name of a field of another kind of memory; rename the key",
            item.id
        )));
    }
    let terms = analyzer.terms(&item.memory);
    Ok(PreparedItem { item, metadata, terms })
}

/// # Errors
/// [`StoreError::Invalid`] for a space without dimensions.
pub(crate) fn check_space(space: &EmbeddingSpace) -> Result<(), StoreError> {
    if space.dimension == 0 {
        return Err(StoreError::Invalid(format!("the embedding model `{}` is said to have 0 dimensions", space.model)));
    }
    Ok(())
}

/// # Errors
/// [`StoreError::Dimension`] unless `got` is the space's dimension.
pub(crate) fn check_dimension(space: &EmbeddingSpace, got: usize) -> Result<(), StoreError> {
    if got == space.dimension { Ok(()) } else { Err(StoreError::Dimension { got, want: space.dimension }) }
}

/// Returns the error for a memory that must not be there yet.
pub(crate) fn present(id: &MemoryId) -> StoreError {
    StoreError::Conflict(format!("memory `{id}` exists already; use update to change it, or give a new id"))
}

/// Returns the error for a memory that is not as it was read.
pub(crate) fn changed(id: &MemoryId) -> StoreError {
    StoreError::Conflict(format!("memory `{id}` was changed or deleted meanwhile; read it again and decide anew"))
}

/// Returns the error for a user that was deleted and is meant again.
pub(crate) fn was_deleted(user: &User) -> StoreError {
    StoreError::Conflict(format!(
        "the user `{}` was deleted; `mos user create {}` brings it back with its cubes",
        user.user_id, user.user_name
    ))
}

/// Returns the error of a key whose id or text is known already.
pub(crate) fn key_is_taken(id: &KeyId) -> StoreError {
    StoreError::Conflict(format!("the key `{id}` is known already; make another"))
}

/// Returns the error for a new user whose name another one has.
pub(crate) fn name_is_taken(id: &UserId, other: &User) -> StoreError {
    StoreError::Conflict(format!(
        "the name `{id}` is taken by the user `{}`; create the user `{id}` with another name",
        other.user_id
    ))
}

/// Refuses a share that would make a second owner.
pub(crate) fn check_share(access: Access) -> Result<(), StoreError> {
    if access == Access::Owner {
        return Err(StoreError::Invalid(
            "a cube has one owner; share it with the right of a reader or member".to_owned(),
        ));
    }
    Ok(())
}

/// Refuses to take the role from `root`, or to give it to somebody else.
pub(crate) fn check_role(id: &UserId, role: UserRole) -> Result<(), StoreError> {
    if id.as_str() == ROOT_USER || role == UserRole::Root {
        return Err(StoreError::Invalid(format!(
            "the role ROOT belongs to the user `{ROOT_USER}`, who keeps it; choose ADMIN, USER or GUEST for others"
        )));
    }
    Ok(())
}

/// Returns why a user cannot come from another store where `known`, of the same id or name, is; nothing for the same user.
pub(crate) fn other_user(user: &User, known: &User) -> Option<StoreError> {
    if known.user_id != user.user_id {
        return Some(StoreError::Conflict(format!(
            "the name `{}` of the user `{}` belongs to the user `{}` there; give one of them another name first",
            user.user_name, user.user_id, known.user_id
        )));
    }
    if known.user_name != user.user_name {
        return Some(StoreError::Conflict(format!(
            "the user `{}` is named `{}` here and `{}` there; these may be two people",
            user.user_id, user.user_name, known.user_name
        )));
    }
    (user.is_active && !known.is_active).then(|| was_deleted(known))
}

/// Returns the error for a write to a cube that was deleted.
pub(crate) fn closed(scope: &Scope) -> StoreError {
    StoreError::NotFound { what: "cube", id: scope.cube.to_string() }
}

/// Returns the error for a cube that was made or deleted in the meantime by somebody else.
pub(crate) fn late(scope: &Scope) -> StoreError {
    StoreError::Conflict(format!(
        "the memories of cube `{}` belong to a cube that was made later; look again, and make it anew if it is gone",
        scope.cube
    ))
}

/// Returns the error for a cube whose embeddings are being replaced for as long as anybody looked.
pub(crate) fn unsettled(scope: &Scope) -> StoreError {
    StoreError::Conflict(format!(
        "the embeddings of cube `{}` are being replaced; search again when that is done",
        scope.cube
    ))
}

/// What opening a scope means for its present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It was opened for this generation already.
    Done,
    /// Whatever it holds goes.
    Erase,
}

/// Decides about a scope of the generation `known` that is to be opened for another one.
///
/// # Errors
/// [`StoreError::Conflict`] when the caller comes too late.
pub(crate) fn opening(scope: &Scope, known: (u64, bool), generation: u64) -> Result<Opening, StoreError> {
    match known {
        (open, false) if open == generation => Ok(Opening::Done),
        (other, _) if other >= generation => Err(late(scope)),
        _ => Ok(Opening::Erase),
    }
}

/// Returns the error for an edge one of whose ends is missing.
pub(crate) fn loose_edge(edge: &Edge, missing: &MemoryId) -> StoreError {
    StoreError::Invalid(format!(
        "the edge {} from `{}` to `{}` has no memory `{missing}` in this cube; write both memories first",
        edge.kind, edge.source, edge.target
    ))
}

/// Returns the error for an embedding whose memory is missing.
pub(crate) fn loose_embedding(id: &MemoryId) -> StoreError {
    StoreError::Invalid(format!("an embedding is given for `{id}`, but this cube has no such memory; write it first"))
}
