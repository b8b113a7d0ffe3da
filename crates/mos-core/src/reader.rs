//! Raw input that becomes memories, whatever reads it.

mod raw;
mod report;

use std::collections::{HashMap, HashSet};
use std::fmt;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::MemoryError;
use crate::id::{CubeId, MemoryId, SessionId, UserId};
use crate::memory::MemoryItem;
use crate::message::Message;

pub use raw::{FileData, RawFile, RawItem};
pub use report::{Dropped, ItemReport, Outcome, ReadReport};

/// The field of a source that names the chunk of a file, or the image in it: the same in every version of the file that has
/// the same chunk.
pub const CHUNK: &str = "chunk";

/// How thoroughly input is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// What was given, in windows and pieces; no model is asked.
    #[default]
    Fast,
    /// What was given, and beside it what a model draws from it.
    Fine,
}

impl ReadMode {
    /// The word that requests use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Fine => "fine",
        }
    }
}

/// What a reader may look at besides the input itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Whether files of this machine may be read. The library and the command line say yes; a server never does, or
    /// whoever can reach it reads its disk.
    pub local_paths: bool,
}

impl Sources {
    /// What input from elsewhere may ask for: no file of this machine.
    pub fn of_request() -> Self {
        Self { local_paths: false }
    }

    /// What the owner of the machine may ask for.
    pub fn of_owner() -> Self {
        Self { local_paths: true }
    }
}

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct ReadInput {
    /// What was given, in order.
    pub items: Vec<RawItem>,
    /// Whose memories they become.
    pub user: Option<UserId>,
    /// The conversation they belong to.
    pub session: Option<SessionId>,
    /// The cube they are stored in. The same input has other ids in another cube.
    pub cube: Option<CubeId>,
    /// Data of the application, noted in every memory.
    pub info: Map<String, Value>,
    /// Labels that are preferred when a model labels memories.
    pub custom_tags: Vec<String>,
    /// What may be looked at.
    pub sources: Sources,
    /// Chunks of files of which a model has drawn a memory before, by file and name ([`CHUNK`]), with this memory: no model is
    /// asked about them again.
    pub known_chunks: HashMap<(String, String), MemoryId>,
}

impl ReadInput {
    /// Returns a conversation to be read.
    pub fn messages(messages: Vec<Message>) -> Self {
        Self { items: messages.into_iter().map(RawItem::Message).collect(), ..Self::default() }
    }

    /// Returns a text to be read.
    pub fn text(text: impl Into<String>) -> Self {
        Self { items: vec![RawItem::Text(text.into())], ..Self::default() }
    }

    /// Returns a file to be read.
    pub fn file(file: RawFile) -> Self {
        Self { items: vec![RawItem::File(file)], ..Self::default() }
    }

    /// Returns what a request holds: a text, a message or part, or a list of these. What cannot be understood is among the
    /// items as [`RawItem::Unreadable`], so that the rest is read.
    pub fn from_value(value: Value) -> Self {
        let items = match value {
            Value::Array(values) => values.into_iter().map(RawItem::from_value).collect(),
            Value::Null => Vec::new(),
            one => vec![RawItem::from_value(one)],
        };
        Self { items, ..Self::default() }
    }
}

/// A file as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileVersion {
    /// The file, whatever it holds.
    pub file_id: String,
    /// The names of its chunks, as their sources have them ([`CHUNK`]).
    pub chunks: HashSet<String>,
}

/// What came of reading; nothing is stored yet.
///
/// Ids follow from the content: the same input, read again for the same user, session and cube, has the same ids.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What was given, as it was: windows of turns, chunks of files without a summary, references to what was not read.
    /// Marked with the tag `mode:fast`.
    pub raw: Vec<MemoryItem>,
    /// What a model drew from it, and the descriptions of tools and skills that were given. Each names its sources.
    pub memories: Vec<MemoryItem>,
    /// Chunks of files as they are (`RawFileMemory`), for [`TreeMemory::add_raw_files`](crate::TreeMemory::add_raw_files).
    /// Their metadata names their summaries among `memories` or `raw` and their neighbours.
    pub raw_files: Vec<MemoryItem>,
    /// The files that were read whole and take the place of their earlier versions.
    pub files: Vec<FileVersion>,
    /// What was kept, what was not, and why.
    pub report: ReadReport,
    /// Follows from the mode, the input and the files it names, not from what a model answers; for [`AddRequest::idempotency_key`](crate::AddRequest::idempotency_key).
    pub idempotency_key: String,
}

impl Reading {
    /// Returns the memories to store, raw ones first; `raw_files` are not among them.
    pub fn into_items(self) -> Vec<MemoryItem> {
        let mut items = self.raw;
        items.extend(self.memories);
        items
    }

    /// How many memories there are, chunks of raw files included.
    pub fn n_memories(&self) -> usize {
        self.raw.len() + self.memories.len() + self.raw_files.len()
    }

    /// Removes the memories whose ids are known in the cube: what was read before is there, and stays as it is.
    pub fn without_known(&mut self, known: &HashSet<MemoryId>) {
        for items in [&mut self.raw, &mut self.memories, &mut self.raw_files] {
            items.retain(|item| !known.contains(&item.id));
        }
    }

    /// Makes the chunks of files name their summaries by the ids under which these are stored: a memory that says what a
    /// known one says is stored under the id of the known one.
    pub fn rename_summaries(&mut self, stored: &HashMap<MemoryId, MemoryId>) {
        for chunk in &mut self.raw_files {
            let Some(Value::Array(ids)) = chunk.metadata.extra.get_mut("summary_ids") else { continue };
            for id in ids {
                let known = id.as_str().and_then(|text| stored.get(&MemoryId::new(text)));
                if let Some(known) = known {
                    *id = Value::String(known.to_string());
                }
            }
        }
    }
}

/// Makes memories of raw input. Implementations store nothing.
#[async_trait]
pub trait MemReader: fmt::Debug + Send + Sync {
    /// The backend's configuration key, for example `simple_struct`.
    fn backend(&self) -> &'static str;

    /// Reads input. What cannot be read, and what a model fails to refine, is told in the report; the rest is returned.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for input without items and for more than fits a bounded amount of work;
    /// [`MemoryError::Unsupported`] for [`ReadMode::Fine`] without a model.
    async fn read(&self, input: ReadInput, mode: ReadMode) -> Result<Reading, MemoryError>;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn chunks_follow_their_summaries_to_other_ids() {
        let chunk = json!({"id": "00000000-0000-4000-8000-000000000001", "memory": "x",
            "metadata": {"summary_ids": ["00000000-0000-4000-8000-000000000002", "y"]}});
        let chunk = MemoryItem::from_value(chunk, String::new).unwrap();
        let mut reading = Reading { raw_files: vec![chunk], ..Reading::default() };
        let stored = HashMap::from([("00000000-0000-4000-8000-000000000002".into(), "known".into())]);
        reading.rename_summaries(&stored);
        assert_eq!(reading.raw_files[0].metadata.extra["summary_ids"], json!(["known", "y"]));
    }

    #[test]
    fn a_request_may_be_one_thing_or_a_list() {
        assert_eq!(ReadInput::from_value(json!("note")).items.len(), 1);
        assert_eq!(ReadInput::from_value(json!([{"role": "user", "content": "hi"}, 7])).items.len(), 2);
        assert!(ReadInput::from_value(Value::Null).items.is_empty());
        assert!(!ReadInput::from_value(json!("x")).sources.local_paths, "a request never reads this machine's files");
    }
}
