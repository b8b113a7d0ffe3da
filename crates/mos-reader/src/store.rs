//! Storing what was read, so that reading the same again changes nothing.

use std::collections::{HashMap, HashSet};

use mos_core::graph::kinds::{FOLLOWING, PRECEDING};
use mos_core::{AddRequest, Edge, MemoryError, MemoryId, MemoryItem, Origin, Reading, StoreError, TextMemory};
use serde_json::Value;

use crate::held::Held;

/// How often memories are looked up anew when somebody else stores the same meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// Why memories were removed ([`Origin::reason`]) that say what is no longer in their file.
pub const REPLACED: &str = "file changed";

/// What was stored of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The ids under which its memories are known, in their order: raw ones, then those that a model drew.
    pub ids: Vec<MemoryId>,
    /// The ids of its chunks of files, in their order.
    pub raw_files: Vec<MemoryId>,
    /// How many of both were there already.
    pub n_known: usize,
    /// What was removed, because the files that it was read from no longer say it.
    pub removed: Vec<MemoryId>,
}

/// Stores a reading in a memory of which nothing is known; see [`store_over`].
///
/// # Errors
/// As [`store_over`].
pub async fn store(reading: Reading, memory: &dyn TextMemory, origin: &Origin) -> Result<Stored, MemoryError> {
    store_over(reading, memory, &Held::default(), origin).await
}

/// Stores a reading in a memory. What is there already stays as it is; of a conversation that has grown, what is new is
/// added. In a tree, chunks of files are linked with their summaries and neighbours; elsewhere they are memories like
/// others.
///
/// `held` is what the memory holds of the files of the reading ([`Reading::files`]). What is the same in both versions stays as
/// it is and is not embedded again; then what was drawn only from chunks that a file no longer has is removed, with its
/// history, for the reason [`REPLACED`]. What somebody removed by itself does not come back.
///
/// Memories come in one write, chunks in a second one, the removal is a third: if one fails, storing the same reading again
/// does what is left.
///
/// # Errors
/// As [`TextMemory::add`], [`TreeMemory::add_raw_files`](mos_core::TreeMemory::add_raw_files) and [`TextMemory::delete`].
pub async fn store_over(
    mut reading: Reading,
    memory: &dyn TextMemory,
    held: &Held,
    origin: &Origin,
) -> Result<Stored, MemoryError> {
    let files = std::mem::take(&mut reading.files);
    let over = (!files.is_empty() || !held.is_empty()).then_some(held);
    let chunks = std::mem::take(&mut reading.raw_files);
    let key = reading.idempotency_key.clone();
    let mut items: Vec<MemoryItem> = reading.raw;
    items.append(&mut reading.memories);
    let n_items = items.len();
    let (is_tree, n_chunks) = (memory.as_tree().is_some(), chunks.len());
    let neighbours = neighbours(&chunks);
    let mut links = Reading { raw_files: chunks, ..Reading::default() };
    if !is_tree {
        items.append(&mut links.raw_files);
    }
    let added = add(memory, Shelf::Memories, items, &key, over, origin).await?;
    let mut stored = Stored { n_known: added.n_known, ids: added.ids, ..Stored::default() };
    if !is_tree {
        stored.raw_files = stored.ids.split_off(n_items);
    } else if n_chunks > 0 {
        links.rename_summaries(&added.renamed);
        let linked = add(memory, Shelf::RawFiles, links.raw_files, &format!("{key}-files"), over, origin).await?;
        stored.n_known += linked.n_known;
        stored.raw_files = linked.ids;
    }
    stored.removed = held.outdated(&files);
    let n_new = stored.ids.len() + stored.raw_files.len() - stored.n_known;
    let is_mixed = n_new > 0 && stored.n_known > 0;
    if over.is_some() && (is_mixed || !stored.removed.is_empty()) {
        connect(memory, neighbours, origin).await?;
    }
    if !stored.removed.is_empty() {
        let reason = REPLACED.to_owned();
        memory.delete(&stored.removed, Origin { reason, ..origin.clone() }).await?;
    }
    Ok(stored)
}

/// Returns the chunks that stand beside each other, the earlier one first.
fn neighbours(chunks: &[MemoryItem]) -> Vec<(MemoryId, MemoryId)> {
    let pair = |chunk: &MemoryItem| {
        let following = chunk.metadata.extra.get("following_id")?.as_str()?;
        Some((chunk.id.clone(), MemoryId::new(following)))
    };
    chunks.iter().filter_map(pair).collect()
}

/// Connects chunks of a tree that were there before and stand beside each other now.
async fn connect(
    memory: &dyn TextMemory,
    neighbours: Vec<(MemoryId, MemoryId)>,
    origin: &Origin,
) -> Result<(), MemoryError> {
    let Some(tree) = memory.as_tree() else { return Ok(()) };
    let chunks: HashSet<MemoryId> = neighbours.iter().flat_map(|(first, second)| [first, second]).cloned().collect();
    let chunks: Vec<MemoryId> = chunks.into_iter().collect();
    let known: HashSet<MemoryId> = memory.get_by_ids(&chunks).await?.into_iter().map(|item| item.id).collect();
    let edge = |source: &MemoryId, target: &MemoryId, kind: &str| Edge {
        source: source.clone(),
        target: target.clone(),
        kind: kind.to_owned(),
    };
    let mut edges = Vec::new();
    for (first, second) in &neighbours {
        if known.contains(first) && known.contains(second) {
            edges.extend([edge(first, second, FOLLOWING), edge(second, first, PRECEDING)]);
        }
    }
    tree.add_edges(edges, origin.clone()).await
}

/// Which of a memory's two ways in is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shelf {
    Memories,
    RawFiles,
}

#[derive(Debug, Default)]
struct Added {
    ids: Vec<MemoryId>,
    /// By the id that the reading gave, where another one is known.
    renamed: HashMap<MemoryId, MemoryId>,
    n_known: usize,
}

/// Adds items that are not known. The whole of them is tried first, because its key tells whether it was stored before,
/// also when some of it is known under other ids or was removed since.
async fn add(
    memory: &dyn TextMemory,
    shelf: Shelf,
    items: Vec<MemoryItem>,
    key: &str,
    held: Option<&Held>,
    origin: &Origin,
) -> Result<Added, MemoryError> {
    if items.is_empty() {
        return Ok(Added::default());
    }
    if let Some(held) = held {
        return add_over(memory, shelf, items, held, origin).await;
    }
    let all: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
    // The usual case of reading again: nothing has to be embedded to find out.
    if memory.get_by_ids(&all).await?.len() == all.len() {
        return Ok(Added { n_known: all.len(), ids: all, renamed: HashMap::new() });
    }
    let mut fresh = items.clone();
    let mut attempt = 1;
    loop {
        let names: Vec<MemoryId> = fresh.iter().map(|item| item.id.clone()).collect();
        let key = Some(key_of(key, &names, all.len()));
        let request = AddRequest { idempotency_key: key, ..AddRequest::from(origin.clone()) };
        match write(memory, shelf, fresh, request).await {
            Ok(ids) => return Ok(matched(&all, &names, ids)),
            Err(MemoryError::Store(StoreError::Conflict(_))) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
        let known: HashSet<MemoryId> = memory.get_by_ids(&all).await?.into_iter().map(|item| item.id).collect();
        fresh = items.iter().filter(|item| !known.contains(&item.id)).cloned().collect();
        if fresh.is_empty() {
            return Ok(Added { n_known: all.len(), ids: all, renamed: HashMap::new() });
        }
    }
}

/// Adds what is neither held nor known nor removed on purpose. Keys tell nothing here: a file that has its earlier content
/// again is the same input as then, and yet something else is stored.
async fn add_over(
    memory: &dyn TextMemory,
    shelf: Shelf,
    items: Vec<MemoryItem>,
    held: &Held,
    origin: &Origin,
) -> Result<Added, MemoryError> {
    let all: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
    let mut attempt = 1;
    loop {
        let known: HashSet<MemoryId> = memory.get_by_ids(&all).await?.into_iter().map(|item| item.id).collect();
        let mut renamed: HashMap<MemoryId, MemoryId> = HashMap::new();
        let mut fresh: Vec<MemoryItem> = Vec::new();
        for item in &items {
            if known.contains(&item.id) {
                continue;
            }
            if let Some(same) = held.same(item) {
                renamed.insert(item.id.clone(), same.clone());
            } else if !was_removed(memory, &item.id).await? {
                fresh.push(item.clone());
            }
        }
        let names: Vec<MemoryId> = fresh.iter().map(|item| item.id.clone()).collect();
        let ids = if fresh.is_empty() {
            Ok(Vec::new())
        } else {
            if shelf == Shelf::RawFiles {
                drop_lost_links(memory, &mut fresh).await?;
            }
            write(memory, shelf, fresh, AddRequest::from(origin.clone())).await
        };
        match ids {
            Ok(ids) => {
                let n_known = all.len() - names.len();
                let twins = names.into_iter().zip(ids).filter(|(given, known)| given != known);
                let n_before = renamed.len();
                renamed.extend(twins);
                let n_known = n_known + renamed.len() - n_before;
                let ids = all.iter().map(|id| renamed.get(id).unwrap_or(id).clone()).collect();
                return Ok(Added { ids, renamed, n_known });
            }
            Err(MemoryError::Store(StoreError::Conflict(_))) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Whether a memory was there and was removed, for another reason than that its file had changed or that everything had to go.
async fn was_removed(memory: &dyn TextMemory, id: &MemoryId) -> Result<bool, MemoryError> {
    match memory.history(id).await {
        Ok(versions) => Ok(versions.last().is_some_and(|last| {
            last.item.is_none() && ![REPLACED, "delete_all"].contains(&last.origin.reason.as_str())
        })),
        Err(MemoryError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes links to memories that are gone out of chunks of files: they can point at what was removed on purpose.
async fn drop_lost_links(memory: &dyn TextMemory, chunks: &mut [MemoryItem]) -> Result<(), MemoryError> {
    let mut known: HashSet<MemoryId> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
    let linked: HashSet<MemoryId> = chunks.iter().flat_map(links).filter(|id| !known.contains(id)).collect();
    let linked: Vec<MemoryId> = linked.into_iter().collect();
    known.extend(memory.get_by_ids(&linked).await?.into_iter().map(|item| item.id));
    let is_known = |value: &Value| value.as_str().is_some_and(|id| known.contains(&MemoryId::new(id)));
    for chunk in chunks {
        let extra = &mut chunk.metadata.extra;
        if let Some(Value::Array(ids)) = extra.get_mut(SUMMARIES) {
            ids.retain(is_known);
        }
        for field in NEIGHBOURS {
            if extra.get(field).is_some_and(|id| !is_known(id)) {
                extra.shift_remove(field);
            }
        }
    }
    Ok(())
}

/// The field of a chunk that names what was drawn from it.
const SUMMARIES: &str = "summary_ids";

/// The fields of a chunk that name those beside it.
const NEIGHBOURS: [&str; 2] = ["preceding_id", "following_id"];

/// Returns the memories that a chunk names.
fn links(chunk: &MemoryItem) -> Vec<MemoryId> {
    let extra = &chunk.metadata.extra;
    let summaries = extra.get(SUMMARIES).and_then(Value::as_array).into_iter().flatten();
    let neighbours = NEIGHBOURS.iter().filter_map(|field| extra.get(*field));
    summaries.chain(neighbours).filter_map(Value::as_str).map(MemoryId::new).collect()
}

async fn write(
    memory: &dyn TextMemory,
    shelf: Shelf,
    items: Vec<MemoryItem>,
    request: AddRequest,
) -> Result<Vec<MemoryId>, MemoryError> {
    match (shelf, memory.as_tree()) {
        (Shelf::RawFiles, Some(tree)) => tree.add_raw_files(items, request).await,
        _ => memory.add(items, request).await,
    }
}

/// A part of a reading has a key of its own.
fn key_of(key: &str, names: &[MemoryId], n_all: usize) -> String {
    if names.len() == n_all {
        return key.to_owned();
    }
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_str().as_bytes());
        hasher.update(b"\0");
    }
    format!("{key}-{}", &hasher.finalize().to_hex()[..16])
}

/// Says for each id under which one it is known now.
fn matched(all: &[MemoryId], names: &[MemoryId], ids: Vec<MemoryId>) -> Added {
    let renamed: HashMap<MemoryId, MemoryId> =
        names.iter().cloned().zip(ids).filter(|(given, known)| given != known).collect();
    let ids = all.iter().map(|id| renamed.get(id).unwrap_or(id).clone()).collect();
    Added { ids, n_known: all.len() - names.len() + renamed.len(), renamed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_are_known_now() {
        let all: Vec<MemoryId> = ["a", "b", "c"].into_iter().map(MemoryId::from).collect();
        let added = matched(&all, &all[1..], vec!["b".into(), "known".into()]);
        assert_eq!(added.ids, [MemoryId::new("a"), MemoryId::new("b"), MemoryId::new("known")]);
        assert_eq!((added.n_known, added.renamed.len()), (2, 1));
        assert_eq!(key_of("k", &all, 3), "k");
        assert_ne!(key_of("k", &all[1..], 3), key_of("k", &all[..2], 3));
    }
}
