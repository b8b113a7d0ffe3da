//! Prompts that a server computes ahead: its own prefix cache is the activation memory.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos_core::{
    ActivationId, ChatModel, ChatRequest, ChatUsage, Clock, IdSource, MemoryItem, Message, ModelError, Sampling,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::atomic::write_bytes;
use crate::error::KvError;
use crate::extract::ExtractInput;
use crate::item::KvRecords;
use crate::pickle::{looks_like_pickle, read_upstream_items};

const FORMAT: &str = "mos-vllm-kv/1";
const FORMAT_START: &str = "mos-vllm-kv/";
/// Tokens that the preloading request asks for: it is the prompt that counts.
const PRELOAD_TOKENS: usize = 2;

/// A prompt that a server was asked to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VllmKvCacheItem {
    /// Names the item.
    #[serde(alias = "kv_cache_id")]
    pub id: ActivationId,
    /// The prompt: the text of its messages.
    #[serde(alias = "kv_cache")]
    pub memory: String,
    /// Free data; an extracted item has `source_text` and `extracted_at`.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The texts.
    #[serde(default)]
    pub records: KvRecords,
}

/// What came of asking a server to compute a prompt.
#[derive(Debug)]
pub struct Preload {
    /// The prompt: the text of its messages, joined by newlines.
    pub prompt: String,
    /// The messages that conversations must begin with to profit.
    pub messages: Vec<Message>,
    /// What the request took, or why it failed. Either way the prompt can be used: it is just not faster.
    pub outcome: Result<ChatUsage, ModelError>,
}

/// Asks a server to compute the prompt of an input, by a request for two tokens.
///
/// # Errors
/// [`KvError::Empty`] when there is no text. A failed request is told in [`Preload::outcome`].
pub async fn build_vllm_kv_cache(
    model: &dyn ChatModel,
    input: &ExtractInput,
    lead_in: &str,
) -> Result<Preload, KvError> {
    let messages = input.messages(lead_in)?;
    let prompt = messages.iter().map(Message::text).collect::<Vec<_>>().join("\n");
    let request = ChatRequest {
        messages: messages.clone(),
        sampling: Some(Sampling { max_tokens: PRELOAD_TOKENS, ..Sampling::default() }),
        stable_messages: messages.len(),
        ..ChatRequest::default()
    };
    let outcome = model.complete(request).await.map(|(_, usage)| usage);
    Ok(Preload { prompt, messages, outcome })
}

/// Prompts that a server keeps computed.
pub struct VllmKvCacheMemory {
    model: Arc<dyn ChatModel>,
    memory_filename: String,
    lead_in: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// In the order in which they came.
    items: Mutex<Vec<VllmKvCacheItem>>,
}

impl fmt::Debug for VllmKvCacheMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VllmKvCacheMemory").field("model", &self.model).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Dump {
    format: String,
    items: Vec<VllmKvCacheItem>,
}

impl VllmKvCacheMemory {
    /// Returns an empty memory over a server's chat model.
    pub fn new(
        model: Arc<dyn ChatModel>,
        memory_filename: String,
        lead_in: String,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self { model, memory_filename, lead_in, clock, ids, items: Mutex::default() }
    }

    fn items(&self) -> MutexGuard<'_, Vec<VllmKvCacheItem>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server to compute a prompt and returns its item; it is not stored. When the request fails there is a
    /// warning, and the item is returned all the same: conversations work, they only start later.
    ///
    /// # Errors
    /// [`KvError::Empty`] when there is no text.
    pub async fn extract(&self, input: impl Into<ExtractInput>) -> Result<VllmKvCacheItem, KvError> {
        let input = input.into();
        let preload = build_vllm_kv_cache(&*self.model, &input, &self.lead_in).await?;
        if let Err(error) = &preload.outcome {
            // It may repeat the prompt.
            tracing::warn!(error = error.without_quotes(), "the server did not preload a prompt");
        }
        Ok(VllmKvCacheItem {
            id: ActivationId::new(self.ids.next_uuid()),
            memory: preload.prompt,
            metadata: input.metadata(&*self.clock)?,
            records: input.records(&*self.clock),
        })
    }

    /// As [`VllmKvCacheMemory::extract`], of a textual memory; its metadata is the memory's.
    ///
    /// # Errors
    /// [`KvError::Empty`] when there is no text.
    pub async fn from_textual_memory(&self, memory: &MemoryItem) -> Result<VllmKvCacheItem, KvError> {
        let item = self.extract(memory.memory.as_str()).await?;
        Ok(VllmKvCacheItem { metadata: memory.metadata.to_map(), ..item })
    }

    /// Stores items; a known id is replaced and keeps its place.
    pub fn add(&self, new: impl IntoIterator<Item = VllmKvCacheItem>) {
        let mut items = self.items();
        for item in new {
            match items.iter_mut().find(|known| known.id == item.id) {
                Some(known) => *known = item,
                None => items.push(item),
            }
        }
    }

    /// Returns an item.
    pub fn get(&self, id: &str) -> Option<VllmKvCacheItem> {
        self.items().iter().find(|item| item.id.as_str() == id).cloned()
    }

    /// Returns items in the order asked, `None` in the place of those that are not there.
    pub fn get_by_ids<I: AsRef<str>>(&self, ids: &[I]) -> Vec<Option<VllmKvCacheItem>> {
        ids.iter().map(|id| self.get(id.as_ref())).collect()
    }

    /// Returns all items in the order in which they came.
    pub fn get_all(&self) -> Vec<VllmKvCacheItem> {
        self.items().clone()
    }

    /// Returns the prompt of the last of these ids that exists: a server's cache has one prompt at a time.
    pub fn get_cache<I: AsRef<str>>(&self, ids: &[I]) -> Option<String> {
        ids.iter().rev().find_map(|id| self.get(id.as_ref())).map(|item| item.memory)
    }

    /// Returns the messages that a conversation must begin with to profit from an item; `None` when there is none.
    ///
    /// # Errors
    /// [`KvError::Empty`] when its text is empty.
    pub fn messages(&self, id: &str) -> Result<Option<Vec<Message>>, KvError> {
        let Some(item) = self.get(id) else { return Ok(None) };
        let given = item.metadata.get("source_text").and_then(|value| serde_json::from_value(value.clone()).ok());
        match given {
            Some(input) => ExtractInput::messages(&input, &self.lead_in).map(Some),
            None => Ok(Some(vec![Message::system(item.memory)])),
        }
    }

    /// Removes items and returns how many there were; unknown ids are no error.
    pub fn delete<I: AsRef<str>>(&self, ids: &[I]) -> usize {
        let mut items = self.items();
        let before = items.len();
        items.retain(|item| !ids.iter().any(|id| id.as_ref() == item.id.as_str()));
        before - items.len()
    }

    /// Removes all items and returns how many there were.
    pub fn delete_all(&self) -> usize {
        std::mem::take(&mut *self.items()).len()
    }

    /// Writes all items to the memory's file in a folder, whole or not at all.
    ///
    /// # Errors
    /// [`KvError::Io`].
    pub fn dump(&self, dir: &Path) -> Result<(), KvError> {
        self.dump_to(&dir.join(&self.memory_filename))
    }

    /// As [`VllmKvCacheMemory::dump`], to a file of any name.
    ///
    /// # Errors
    /// As [`VllmKvCacheMemory::dump`].
    pub fn dump_to(&self, path: &Path) -> Result<(), KvError> {
        let dump = Dump { format: FORMAT.to_owned(), items: self.get_all() };
        let text = serde_json::to_vec_pretty(&dump).map_err(|error| KvError::internal("writing prompts", error))?;
        write_bytes(path, &text)
    }

    /// Reads the memory's file in a folder, ours or upstream's, in place of what is stored; returns how many items
    /// there were. A folder without the file changes nothing and holds none. The server is not asked again.
    ///
    /// # Errors
    /// [`KvError::Damaged`], [`KvError::Newer`], [`KvError::Pickle`], [`KvError::Io`]. Then everything is as it was.
    pub fn load(&self, dir: &Path) -> Result<usize, KvError> {
        self.load_from(&dir.join(&self.memory_filename))
    }

    /// As [`VllmKvCacheMemory::load`], from a file of any name.
    ///
    /// # Errors
    /// As [`VllmKvCacheMemory::load`].
    pub fn load_from(&self, path: &Path) -> Result<usize, KvError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(KvError::io("cannot read", path, error)),
        };
        let what = path.display().to_string();
        let items = if looks_like_pickle(&bytes) { upstream(&bytes, &what)? } else { own(&bytes, &what)? };
        let count = items.len();
        *self.items() = items;
        Ok(count)
    }
}

fn own(bytes: &[u8], what: &str) -> Result<Vec<VllmKvCacheItem>, KvError> {
    let damaged = |error: serde_json::Error| KvError::damaged(what, error);
    let value: Value = serde_json::from_slice(bytes).map_err(damaged)?;
    let format = value["format"].as_str().unwrap_or_default();
    if format != FORMAT {
        return Err(if format.starts_with(FORMAT_START) {
            KvError::Newer { what: what.to_owned(), found: format.to_owned(), known: FORMAT }
        } else {
            KvError::damaged(what, "it does not hold prompts of a server")
        });
    }
    Ok(serde_json::from_value::<Dump>(value).map_err(damaged)?.items)
}

fn upstream(bytes: &[u8], what: &str) -> Result<Vec<VllmKvCacheItem>, KvError> {
    let items = read_upstream_items(bytes).map_err(|source| KvError::Pickle { path: what.to_owned(), source })?;
    let read = items.into_iter().map(|item| {
        let prompt = item.prompt.ok_or_else(|| {
            KvError::Invalid(format!(
                "{what}: item {} holds keys and values, not a prompt; load it as `kv_cache`",
                item.id
            ))
        })?;
        let id = ActivationId::parse(item.id).map_err(|error| KvError::Invalid(error.to_string()))?;
        let records = item.records.map(|records| KvRecords {
            text_memories: records.text_memories,
            composed_text_memory: records.composed_text_memory,
            timestamp: records.timestamp.unwrap_or_default(),
        });
        Ok(VllmKvCacheItem { id, memory: prompt, metadata: item.metadata, records: records.unwrap_or_default() })
    });
    read.collect()
}
