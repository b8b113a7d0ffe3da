//! Prompts that the chat model's server is asked to compute ahead.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    ActivationId, ActivationMemory, ActivationStats, ChatModel, Clock, IdSource, MemoryError, Message, Scope,
};
use mos_kv::{DEFAULT_LEAD_IN, DEFAULT_MEMORY_FILENAME, ExtractInput, VllmKvCacheItem, VllmKvCacheMemory};
use tokio::sync::Mutex;

use super::ActivationParts;
use crate::lazy::Lazy;

/// The file in a cube's folder that whoever changes prompts holds locked.
const LOCK: &str = ".lock";

/// Prompts of all cubes, one file per cube; the server's own prefix cache is the memory.
///
/// A conversation begins with the cube's newest prompt: a server's cache has one beginning at a time.
pub struct ServerPrompts {
    /// `None` keeps prompts in RAM.
    folder: Option<PathBuf>,
    model: Arc<Lazy<dyn ChatModel>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// Prompts that have no file.
    in_ram: Mutex<HashMap<Scope, Arc<VllmKvCacheMemory>>>,
    /// Held while prompts are read, changed and written, so that no change is lost.
    changing: Mutex<()>,
}

impl std::fmt::Debug for ServerPrompts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerPrompts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ServerPrompts {
    pub(crate) fn new(parts: &ActivationParts) -> Self {
        Self {
            folder: parts.folder.as_ref().map(|folder| folder.join("prompts")),
            model: Arc::clone(&parts.chat_model),
            clock: Arc::clone(&parts.clock),
            ids: Arc::clone(&parts.ids),
            in_ram: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// The folder of a cube; its name says nothing about the cube's id, which may be anything.
    fn folder_of(&self, scope: &Scope) -> Option<PathBuf> {
        let name = blake3::hash(scope.cube.as_str().as_bytes()).to_hex();
        self.folder.as_ref().map(|folder| folder.join(name.as_str()))
    }

    async fn memory(&self, scope: &Scope) -> Result<Arc<VllmKvCacheMemory>, MemoryError> {
        let mut in_ram = self.in_ram.lock().await;
        if let Some(memory) = in_ram.get(scope) {
            return Ok(Arc::clone(memory));
        }
        let model = self.model.get().await?;
        let (clock, ids) = (Arc::clone(&self.clock), Arc::clone(&self.ids));
        let (file, lead_in) = (DEFAULT_MEMORY_FILENAME.to_owned(), DEFAULT_LEAD_IN.to_owned());
        let memory = Arc::new(VllmKvCacheMemory::new(model, file, lead_in, clock, ids));
        match self.folder_of(scope) {
            // Read anew each time: other processes write there too.
            Some(folder) => drop(memory.load(&folder)?),
            None => drop(in_ram.insert(scope.clone(), Arc::clone(&memory))),
        }
        Ok(memory)
    }

    /// Keeps other processes from changing a cube's prompts, until the file is dropped; `None` without a folder.
    async fn lock(&self, scope: &Scope) -> Result<Option<File>, MemoryError> {
        let Some(folder) = self.folder_of(scope) else { return Ok(None) };
        let place = folder.join(LOCK);
        let failed = |detail: String| MemoryError::File { path: place.display().to_string(), detail };
        let path = place.clone();
        let locked = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            file.lock()?;
            Ok::<_, std::io::Error>(file)
        });
        let file = locked.await.map_err(|error| failed(format!("cannot be locked: {error}")))?;
        file.map(Some).map_err(|error| failed(format!("cannot be locked: {error}")))
    }

    fn save(&self, scope: &Scope, memory: &VllmKvCacheMemory) -> Result<(), MemoryError> {
        match self.folder_of(scope) {
            Some(folder) => Ok(memory.dump(&folder)?),
            None => Ok(()),
        }
    }

    pub(super) async fn has_items(&self, scope: &Scope) -> Result<bool, MemoryError> {
        Ok(!self.memory(scope).await?.get_all().is_empty())
    }

    /// Returns the prompts of a cube in the order in which they came.
    pub(crate) async fn items(&self, scope: &Scope) -> Result<Vec<VllmKvCacheItem>, MemoryError> {
        Ok(self.memory(scope).await?.get_all())
    }

    /// Returns the newest prompt as messages.
    pub(super) async fn newest(&self, scope: &Scope) -> Result<Option<(ActivationId, Vec<Message>)>, MemoryError> {
        let memory = self.memory(scope).await?;
        let Some(item) = memory.get_all().pop() else { return Ok(None) };
        Ok(memory.messages(item.id.as_str())?.map(|messages| (item.id, messages)))
    }

    pub(super) async fn has(&self, scope: &Scope, id: &ActivationId) -> Result<bool, MemoryError> {
        Ok(self.memory(scope).await?.get(id.as_str()).is_some())
    }

    pub(super) async fn forget(&self, scope: &Scope) -> Result<(), MemoryError> {
        self.in_ram.lock().await.remove(scope);
        let Some(folder) = self.folder_of(scope) else { return Ok(()) };
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(MemoryError::File { path: folder.display().to_string(), detail: format!("cannot remove: {error}") })
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl ActivationMemory for ServerPrompts {
    async fn promote(&self, scope: &Scope, messages: &[Message]) -> Result<ActivationId, MemoryError> {
        let input = ExtractInput::Messages(messages.to_vec());
        let text = serde_json::to_vec(&input)
            .map_err(|error| MemoryError::Invalid(format!("the messages cannot be kept: {error}")))?;
        let id = ActivationId::new(format!("prompt-{}", &blake3::hash(&text).to_hex()[..32]));
        let mut item = self.memory(scope).await?.extract(input).await?;
        item.id = id.clone();
        let _changing = self.changing.lock().await;
        let _locked = self.lock(scope).await?;
        let memory = self.memory(scope).await?;
        // It becomes the newest.
        memory.delete(std::slice::from_ref(&id));
        memory.add([item]);
        self.save(scope, &memory)?;
        Ok(id)
    }

    async fn delete(&self, scope: &Scope, id: &ActivationId) -> Result<bool, MemoryError> {
        let _changing = self.changing.lock().await;
        let _locked = self.lock(scope).await?;
        let memory = self.memory(scope).await?;
        let was_there = memory.delete(std::slice::from_ref(id)) > 0;
        if was_there {
            self.save(scope, &memory)?;
        }
        Ok(was_there)
    }

    /// Tokens are the server's: they count as none.
    async fn stats(&self, scope: &Scope) -> Result<ActivationStats, MemoryError> {
        let items = self.memory(scope).await?.get_all();
        let n_bytes = items.iter().map(|item| item.memory.len()).sum();
        Ok(ActivationStats { n_items: items.len(), n_tokens: 0, n_bytes })
    }

    async fn dump(&self, scope: &Scope, file: &Path) -> Result<(), MemoryError> {
        Ok(self.memory(scope).await?.dump_to(file)?)
    }

    async fn load(&self, scope: &Scope, file: &Path) -> Result<usize, MemoryError> {
        let _changing = self.changing.lock().await;
        let _locked = self.lock(scope).await?;
        let memory = self.memory(scope).await?;
        let n_items = memory.load_from(file)?;
        self.save(scope, &memory)?;
        Ok(n_items)
    }
}
