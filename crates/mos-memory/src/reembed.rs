//! Embedding a cube anew with another model, while it stays readable.

use mos_core::{
    Embedder, EmbeddingSpace, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem, Origin, RecordStore, Scope,
    StoreError, WriteBatch, graph::Paging,
};

use crate::embedded::text_to_embed;

/// How many memories are embedded and written at once.
const BATCH: usize = 64;

/// How often a cube may gain memories in the old space while the new one is adopted.
const MAX_ROUNDS: usize = 1000;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reembedded {
    /// Memories embedded by this call; fewer than the cube has when an earlier call had been interrupted.
    pub n_embedded: usize,
}

/// Embeds every memory of a cube with `embedder` and then makes its space the cube's.
///
/// With `force`, memories that have an embedding by this encoder are embedded again as well (it mends damaged ones);
/// otherwise only those without.
///
/// Ids and history stay. The work is done in small durable steps beside the old embeddings: a call that is
/// interrupted loses at most one step, and the next call goes on from there. `progress` gets the number of memories
/// embedded so far.
///
/// # Errors
/// Model and store errors; what is done so far is kept.
pub async fn reembed(
    scope: &Scope,
    record: &dyn RecordStore,
    embedder: &dyn Embedder,
    actor: &str,
    force: bool,
    mut progress: impl FnMut(usize) + Send,
) -> Result<Reembedded, MemoryError> {
    let space = embedder.space().await?;
    let mut n_embedded = 0;
    if record.embedding_space(scope).await?.as_ref() == Some(&space) {
        if force {
            renew(scope, record, embedder, actor, &mut n_embedded, &mut progress).await?;
        }
        // Memories that lost their embedding (or came without one) are filled in.
        let how = How { aside: false, copies_too: false };
        fill(scope, record, embedder, actor, how, &mut n_embedded, &mut progress).await?;
        return Ok(Reembedded { n_embedded });
    }
    let mut how = How { aside: true, copies_too: false };
    for _ in 0..MAX_ROUNDS {
        let before = n_embedded;
        fill(scope, record, embedder, actor, how, &mut n_embedded, &mut progress).await?;
        match record.adopt_space(scope, &space).await {
            Ok(()) => return Ok(Reembedded { n_embedded }),
            // Somebody added memories meanwhile: embed those too. When there are none, it is working copies that have
            // an old embedding, as other programs may have written them.
            Err(StoreError::Conflict(_)) => how.copies_too = n_embedded == before,
            Err(error) => return Err(error.into()),
        }
    }
    Err(MemoryError::Unsupported(format!(
        "cube `{}` grows faster than it can be embedded; stop adding to it and run the command again",
        scope.cube
    )))
}

/// Which embeddings are made.
#[derive(Clone, Copy, Debug)]
struct How {
    /// Beside the ones that are searched.
    aside: bool,
    /// Also those of working copies.
    copies_too: bool,
}

async fn fill(
    scope: &Scope,
    record: &dyn RecordStore,
    embedder: &dyn Embedder,
    actor: &str,
    how: How,
    n_embedded: &mut usize,
    progress: &mut (impl FnMut(usize) + Send),
) -> Result<(), MemoryError> {
    let space = embedder.space().await?;
    loop {
        let items = match how.copies_too {
            true => record.without_embedding(scope, &space, BATCH).await?,
            false => without_embedding(scope, record, &space, BATCH).await?,
        };
        if items.is_empty() {
            return Ok(());
        }
        let n_items = items.len();
        embed_items(scope, record, embedder, actor, how.aside, items).await?;
        *n_embedded += n_items;
        progress(*n_embedded);
    }
}

/// Returns at most `limit` memories that lack an embedding in `space` and should have one, oldest first. Working copies need
/// none: their originals are found.
///
/// # Errors
/// Store errors.
pub async fn without_embedding(
    scope: &Scope,
    record: &dyn RecordStore,
    space: &EmbeddingSpace,
    limit: usize,
) -> Result<Vec<MemoryItem>, StoreError> {
    let mut n_looked_at = limit;
    loop {
        let mut items = record.without_embedding(scope, space, n_looked_at).await?;
        let is_all = items.len() < n_looked_at;
        items.retain(|item| item.working_copy_of().is_none());
        if is_all || items.len() >= limit {
            items.truncate(limit);
            return Ok(items);
        }
        n_looked_at = n_looked_at.saturating_mul(4);
    }
}

/// Embeds memories as they were read. Somebody may change or delete one meanwhile: its vector is dropped then, and a
/// changed one is met again.
async fn embed_items(
    scope: &Scope,
    record: &dyn RecordStore,
    embedder: &dyn Embedder,
    actor: &str,
    aside: bool,
    items: Vec<MemoryItem>,
) -> Result<(), MemoryError> {
    let texts: Vec<String> = items.iter().map(text_to_embed).collect();
    let (space, vectors) = (embedder.space().await?, embedder.embed(&texts).await?);
    let (ids, memories): (Vec<MemoryId>, Vec<String>) = items.into_iter().map(|item| (item.id, item.memory)).unzip();
    let vectors = ids.into_iter().zip(vectors).collect();
    let write = EmbeddingWrite { space, vectors, made_of: Some(memories), aside };
    let batch = WriteBatch { embeddings: Some(write), ..WriteBatch::new(Origin::new(actor, "reembed")) };
    record.apply(scope, batch).await?;
    Ok(())
}

/// Embeds every memory of a cube again that its own encoder embedded before.
async fn renew(
    scope: &Scope,
    record: &dyn RecordStore,
    embedder: &dyn Embedder,
    actor: &str,
    n_embedded: &mut usize,
    progress: &mut (impl FnMut(usize) + Send),
) -> Result<(), MemoryError> {
    let mut everything = record.list(scope, &Filter::Everything, Paging::ALL).await?.entries;
    everything.retain(|item| item.working_copy_of().is_none());
    for items in everything.chunks(BATCH) {
        embed_items(scope, record, embedder, actor, false, items.to_vec()).await?;
        *n_embedded += items.len();
        progress(*n_embedded);
    }
    Ok(())
}
