//! What a cube holds of files that are read again.

use std::collections::{HashMap, HashSet};

use mos_core::memory::SourceMessage;
use mos_core::reader::CHUNK;
use mos_core::{FileVersion, MemoryId, MemoryItem, MemoryType, Status, UserId};

use crate::item::FAST;

/// What a memory of a file is: a chunk has one of each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// A chunk as it is, beside what was drawn from it.
    RawFile,
    /// A chunk as it is, which no model has seen.
    Raw,
    /// What a model drew.
    Drawn,
}

impl Form {
    fn of(item: &MemoryItem) -> Self {
        if item.metadata.memory_type() == Some(MemoryType::RawFile) {
            return Self::RawFile;
        }
        let is_raw = item.metadata.tags.iter().flatten().any(|tag| tag == FAST);
        if is_raw { Self::Raw } else { Self::Drawn }
    }
}

/// Memories of files that are read again.
#[derive(Clone, Debug, Default)]
pub struct Held {
    items: Vec<MemoryItem>,
    /// Which of them has this form and this chunk of this file among its sources.
    by_chunk: HashMap<(Form, String, String), MemoryId>,
}

impl Held {
    /// Takes the memories of some files; those of other users and working copies are left out.
    pub fn new(items: Vec<MemoryItem>, user: &UserId) -> Self {
        let mut held = Self::default();
        for item in items {
            if item.working_copy_of().is_some() || item.metadata.user_id.as_deref() != Some(user.as_str()) {
                continue;
            }
            let form = Form::of(&item);
            for (file, chunk) in chunks_of(&item) {
                let place = (form, file.to_owned(), chunk.to_owned());
                held.by_chunk.entry(place).or_insert_with(|| item.id.clone());
            }
            held.items.push(item);
        }
        held
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the chunks of which a model has drawn a memory, for [`ReadInput::known_chunks`](mos_core::ReadInput).
    pub fn known_chunks(&self) -> HashMap<(String, String), MemoryId> {
        let drawn = self.by_chunk.iter().filter(|((form, _, _), _)| *form == Form::Drawn);
        drawn.map(|((_, file, chunk), id)| ((file.clone(), chunk.clone()), id.clone())).collect()
    }

    /// Returns the memory that is of the same chunk and form as a new one.
    pub(crate) fn same(&self, item: &MemoryItem) -> Option<&MemoryId> {
        let form = Form::of(item);
        chunks_of(item).find_map(|(file, chunk)| self.by_chunk.get(&(form, file.to_owned(), chunk.to_owned())))
    }

    /// Returns the memories all of whose sources are chunks that these files no longer have.
    pub(crate) fn outdated(&self, files: &[FileVersion]) -> Vec<MemoryId> {
        let chunks: HashMap<&str, &HashSet<String>> =
            files.iter().map(|file| (file.file_id.as_str(), &file.chunks)).collect();
        let is_gone = |source: &SourceMessage| {
            let place = place_of(source);
            place.is_some_and(|(file, chunk)| chunks.get(file).is_some_and(|chunks| !chunks.contains(chunk)))
        };
        let is_outdated = |item: &&MemoryItem| {
            let sources = item.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
            let is_deleted = item.metadata.status == Some(Status::Deleted);
            !is_deleted && !sources.is_empty() && sources.iter().all(is_gone)
        };
        self.items.iter().filter(is_outdated).map(|item| item.id.clone()).collect()
    }
}

/// Returns file and chunk of each source that names them.
fn chunks_of(item: &MemoryItem) -> impl Iterator<Item = (&str, &str)> {
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    sources.iter().filter_map(place_of)
}

fn place_of(source: &SourceMessage) -> Option<(&str, &str)> {
    let file = source.file_info.as_ref()?.get("file_id")?.as_str()?;
    Some((file, source.extra.get(CHUNK)?.as_str()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn memory(number: u32, user: &str, sources: Value, tags: Value) -> MemoryItem {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let metadata = json!({"memory_type": "LongTermMemory", "user_id": user, "sources": sources, "tags": tags});
        MemoryItem::from_value(json!({"id": id, "memory": "x", "metadata": metadata}), String::new).unwrap()
    }

    fn source(file: &str, chunk: &str) -> Value {
        json!({"type": "file", "file_info": {"file_id": file}, "chunk": chunk})
    }

    fn version(file: &str, chunks: &[&str]) -> FileVersion {
        FileVersion { file_id: file.to_owned(), chunks: chunks.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn only_what_no_source_supports_any_more_is_outdated() {
        let items = vec![
            memory(1, "ann", json!([source("f", "kept")]), json!([])),
            memory(2, "ann", json!([source("f", "gone")]), json!(["mode:fast"])),
            memory(3, "ann", json!([source("f", "gone"), source("g", "gone")]), json!([])),
            memory(4, "ann", json!([source("f", "gone"), {"type": "chat", "content": "said"}]), json!([])),
            memory(5, "bob", json!([source("f", "gone")]), json!([])),
            memory(6, "ann", json!([]), json!([])),
        ];
        let held = Held::new(items.clone(), &"ann".into());
        assert_eq!(held.outdated(&[version("f", &["kept"])]), [items[1].id.clone()]);
        assert!(held.outdated(&[]).is_empty(), "a file that was not read removes nothing");
        assert_eq!(held.known_chunks().get(&("f".to_owned(), "kept".to_owned())), Some(&items[0].id));
        let again = memory(9, "ann", json!([source("f", "gone")]), json!(["mode:fast"]));
        assert_eq!(held.same(&again), Some(&items[1].id));
        let drawn = memory(9, "ann", json!([source("f", "new")]), json!([]));
        assert_eq!(held.same(&drawn), None);
    }
}
