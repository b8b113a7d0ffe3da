//! Everything about a part of another store's scope that needs no store: checks, terms, the form in which it is kept.

use std::collections::{HashMap, HashSet};

use mos_core::{
    ArchiveBatch, ArchivedReceipt, Edge, EmbeddingSpace, MemoryId, Origin, PastVersion, StoreError, Version,
};
use serde_json::{Map, Value};

use crate::TextAnalyzer;
use crate::codec;
use crate::prepare::{PreparedItem, check_dimension, check_space, prepare_item};

/// A memory as it is to be.
#[derive(Debug)]
pub(crate) struct PreparedMemory {
    pub(crate) prepared: PreparedItem,
    pub(crate) number: u64,
    pub(crate) origin: Origin,
    pub(crate) at: String,
    /// At unit length.
    pub(crate) vector: Option<Vec<f32>>,
}

/// A state that is over; without text and metadata it is a removal.
#[derive(Debug)]
pub(crate) struct PreparedVersion {
    pub(crate) id: MemoryId,
    pub(crate) number: u64,
    pub(crate) origin: Origin,
    pub(crate) at: String,
    pub(crate) state: Option<(String, Map<String, Value>)>,
    /// Those that the removal took away.
    pub(crate) edges: Vec<Edge>,
}

/// A batch that is right as far as it can be told without looking into the store.
#[derive(Debug)]
pub(crate) struct PreparedArchive {
    pub(crate) space: Option<EmbeddingSpace>,
    pub(crate) remove: Vec<MemoryId>,
    pub(crate) memories: Vec<PreparedMemory>,
    pub(crate) versions: Vec<PreparedVersion>,
    pub(crate) receipts: Vec<ArchivedReceipt>,
}

impl PreparedArchive {
    /// Returns the number of the last version that the batch has of each memory that it does not write.
    pub(crate) fn last_numbers(&self) -> Vec<(&MemoryId, u64)> {
        let written: HashSet<&MemoryId> = self.memories.iter().map(|memory| &memory.prepared.item.id).collect();
        let mut places: HashMap<&MemoryId, usize> = HashMap::new();
        let mut numbers: Vec<(&MemoryId, u64)> = Vec::new();
        for version in self.versions.iter().filter(|version| !written.contains(&version.id)) {
            let place = *places.entry(&version.id).or_insert_with(|| {
                numbers.push((&version.id, 0));
                numbers.len() - 1
            });
            numbers[place].1 = numbers[place].1.max(version.number);
        }
        numbers
    }
}

/// Checks a batch, analyses its texts and brings it into the form in which it is kept.
///
/// # Errors
/// [`StoreError::Dimension`], [`StoreError::Invalid`].
pub(crate) fn prepare_archive(batch: ArchiveBatch, analyzer: &TextAnalyzer) -> Result<PreparedArchive, StoreError> {
    let invalid = |text: String| Err(StoreError::Invalid(text));
    if let Some(space) = &batch.space {
        check_space(space)?;
    }
    let mut vectors = HashMap::new();
    for (id, vector) in batch.vectors {
        let Some(space) = &batch.space else {
            return invalid(format!("an embedding of `{id}` comes without the name of its model"));
        };
        check_dimension(space, vector.len())?;
        let vector = codec::unit(&format!("memory `{id}`"), vector)?;
        vectors.insert(id, vector);
    }
    let mut memories = Vec::with_capacity(batch.memories.len());
    for archived in batch.memories {
        let Version { number, item, origin, at, .. } = archived.version;
        let Some(item) = item.filter(|item| item.id == archived.id) else {
            return invalid(format!("the present state of memory `{}` is not there", archived.id));
        };
        let vector = vectors.remove(&archived.id);
        memories.push(PreparedMemory { prepared: prepare_item(item, analyzer)?, number, origin, at, vector });
    }
    if let Some(id) = vectors.keys().next() {
        return invalid(format!("an embedding is given for `{id}`, which is not among the memories that come with it"));
    }
    Ok(PreparedArchive {
        space: batch.space,
        remove: batch.remove,
        memories,
        versions: batch.versions.into_iter().map(prepare_version).collect(),
        receipts: batch.receipts,
    })
}

fn prepare_version(archived: PastVersion) -> PreparedVersion {
    let Version { number, item, edges, origin, at } = archived.version;
    let state = item.map(|mut item| {
        // The copies of earlier states that it carries are in the history already.
        item.metadata.history.clear();
        item.metadata.take_embedding();
        let metadata = codec::stored_metadata(&item);
        (item.memory, metadata)
    });
    PreparedVersion { id: archived.id, number, origin, at, state, edges }
}

/// Refuses embeddings of another model than the scope's.
///
/// # Errors
/// [`StoreError::EmbeddingSpace`].
pub(crate) fn check_same_space(
    cube: &str,
    have: Option<&EmbeddingSpace>,
    got: Option<&EmbeddingSpace>,
) -> Result<(), StoreError> {
    match (have, got) {
        (Some(have), Some(got)) if have != got => {
            Err(StoreError::EmbeddingSpace { cube: cube.to_owned(), have: have.clone(), got: got.clone() })
        }
        _ => Ok(()),
    }
}
