//! Storing what was read, so that reading the same again changes nothing.

use std::collections::{HashMap, HashSet};

use mos_core::{AddRequest, MemoryError, MemoryId, MemoryItem, Origin, Reading, StoreError, TextMemory};

/// How often memories are looked up anew when somebody else stores the same meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// What was stored of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The ids under which its memories are known, in their order: raw ones, then those that a model drew.
    pub ids: Vec<MemoryId>,
    /// The ids of its chunks of files, in their order.
    pub raw_files: Vec<MemoryId>,
    /// How many of both were there already.
    pub n_known: usize,
}

/// Stores a reading in a memory. What is there already stays as it is; of a conversation that has grown, what is new is
/// added. In a tree, chunks of files are linked with their summaries and neighbours; elsewhere they are memories like
/// others.
///
/// Memories come in one write, chunks in a second one: if that fails, storing the same reading again adds them.
///
/// # Errors
/// As [`TextMemory::add`] and [`TreeMemory::add_raw_files`](mos_core::TreeMemory::add_raw_files).
pub async fn store(mut reading: Reading, memory: &dyn TextMemory, origin: &Origin) -> Result<Stored, MemoryError> {
    let chunks = std::mem::take(&mut reading.raw_files);
    let key = reading.idempotency_key.clone();
    let mut items: Vec<MemoryItem> = reading.raw;
    items.append(&mut reading.memories);
    let n_items = items.len();
    let (is_tree, n_chunks) = (memory.as_tree().is_some(), chunks.len());
    let mut links = Reading { raw_files: chunks, ..Reading::default() };
    if !is_tree {
        items.append(&mut links.raw_files);
    }
    let added = add(memory, Shelf::Memories, items, &key, origin).await?;
    let mut stored = Stored { n_known: added.n_known, ids: added.ids, raw_files: Vec::new() };
    if !is_tree {
        stored.raw_files = stored.ids.split_off(n_items);
    } else if n_chunks > 0 {
        links.rename_summaries(&added.renamed);
        let linked = add(memory, Shelf::RawFiles, links.raw_files, &format!("{key}-files"), origin).await?;
        stored.n_known += linked.n_known;
        stored.raw_files = linked.ids;
    }
    Ok(stored)
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
    origin: &Origin,
) -> Result<Added, MemoryError> {
    let all: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
    if items.is_empty() {
        return Ok(Added::default());
    }
    // The usual case of reading again: nothing has to be embedded to find out.
    if memory.get_by_ids(&all).await?.len() == all.len() {
        return Ok(Added { n_known: all.len(), ids: all, renamed: HashMap::new() });
    }
    let mut fresh = items.clone();
    let mut attempt = 1;
    loop {
        let names: Vec<MemoryId> = fresh.iter().map(|item| item.id.clone()).collect();
        let request = AddRequest { origin: origin.clone(), idempotency_key: Some(key_of(key, &names, all.len())) };
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
