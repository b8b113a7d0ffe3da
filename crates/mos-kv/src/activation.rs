//! Activation memory of all cubes, as scheduler and cubes see it: no tensors.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mos_core::{ActivationId, ActivationMemory, ActivationStats, MemoryError, Message, Scope};
use mos_engine::{CancelToken, LocalChatModel};

use crate::chat::{CancelOnDrop, KvChatModel, KvChatOptions};
use crate::dump::ForeignItems;
use crate::error::KvError;
use crate::extract::ExtractInput;
use crate::memory::{KvCacheMemory, KvCacheMemoryOptions};
use crate::tiers::KvTiers;

/// Memories that are kept open; those that nobody holds are closed first.
const MAX_OPEN: usize = 256;
/// Hexadecimal digits of an activation's name.
const NAME_DIGITS: usize = 32;

/// The activation memories of all cubes over one model. Their budgets are common, their items are not: a cube sees its
/// own only.
#[derive(Debug)]
pub struct KvActivation {
    model: Arc<LocalChatModel>,
    options: KvCacheMemoryOptions,
    tiers: Arc<KvTiers>,
    memories: Mutex<HashMap<Scope, Arc<KvCacheMemory>>>,
    /// Held while something is promoted, so that the same messages are computed once.
    promoting: tokio::sync::Mutex<()>,
}

impl KvActivation {
    /// Opens the activation memories; `options.scope` is ignored.
    ///
    /// # Errors
    /// As [`KvCacheMemory::open`].
    pub fn open(model: Arc<LocalChatModel>, options: KvCacheMemoryOptions) -> Result<Self, KvError> {
        let tiers = KvTiers::open(options.tiers.clone())?;
        Ok(Self::with_tiers(model, options, tiers))
    }

    /// Returns the activation memories over tiers that are open; `options.scope` and `options.tiers` are ignored.
    pub fn with_tiers(model: Arc<LocalChatModel>, options: KvCacheMemoryOptions, tiers: Arc<KvTiers>) -> Self {
        Self { model, options, tiers, memories: Mutex::default(), promoting: tokio::sync::Mutex::default() }
    }

    /// Returns the memory of a cube.
    ///
    /// # Errors
    /// As [`KvCacheMemory::open`].
    pub fn memory(&self, scope: &Scope) -> Result<Arc<KvCacheMemory>, KvError> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = memories.get(scope) {
            return Ok(Arc::clone(memory));
        }
        if memories.len() >= MAX_OPEN {
            // Their items stay in the tiers.
            memories.retain(|_, memory| Arc::strong_count(memory) > 1);
        }
        let options = KvCacheMemoryOptions { scope: scope.cube.to_string(), ..self.options.clone() };
        let memory = KvCacheMemory::with_tiers(Arc::clone(&self.model), options, Arc::clone(&self.tiers))?;
        let memory = Arc::new(memory);
        memories.insert(scope.clone(), Arc::clone(&memory));
        Ok(memory)
    }

    /// Returns a chat model that takes the cube's activations as prefixes.
    ///
    /// # Errors
    /// As [`KvCacheMemory::open`].
    pub fn chat_model(&self, scope: &Scope, options: KvChatOptions) -> Result<KvChatModel, KvError> {
        Ok(KvChatModel::new(self.memory(scope)?, options))
    }

    /// Does something with a cube's memory where blocking is allowed.
    async fn with<T: Send + 'static>(
        &self,
        scope: &Scope,
        work: impl FnOnce(&KvCacheMemory, &CancelToken) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, MemoryError> {
        let memory = self.memory(scope)?;
        let cancel = CancelToken::default();
        // Whoever stops waiting needs no result.
        let on_drop = CancelOnDrop(cancel.clone());
        let done = tokio::task::spawn_blocking(move || work(&memory, &cancel)).await;
        drop(on_drop);
        Ok(done.map_err(|error| KvError::internal("working on activation memory", error))??)
    }
}

/// The name of what these messages are in this cube with this model.
fn name(memory: &KvCacheMemory, messages: &[Message]) -> Result<ActivationId, KvError> {
    let text = serde_json::to_vec(messages).map_err(|error| KvError::internal("naming an activation", error))?;
    let identity = memory.identity();
    let mut hasher = blake3::Hasher::new();
    for part in [memory.scope().as_bytes(), &identity.weights.0, &identity.tokenizer, &identity.template, &text] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Ok(ActivationId::new(format!("kv-{}", &hasher.finalize().to_hex()[..NAME_DIGITS])))
}

#[async_trait]
impl ActivationMemory for KvActivation {
    async fn promote(&self, scope: &Scope, messages: &[Message]) -> Result<ActivationId, MemoryError> {
        let input = ExtractInput::Messages(messages.to_vec());
        let promoting = self.promoting.lock().await;
        let id = self.with(scope, move |memory, cancel| {
            let ExtractInput::Messages(messages) = &input else {
                return Err(KvError::Empty("there are no messages"));
            };
            let id = name(memory, messages)?;
            let known = memory.tiers().peek(memory.scope(), &id);
            if known.is_some_and(|item| item.check_model(memory.identity()).is_ok()) {
                return Ok(id);
            }
            let mut item = memory.extractor().extract(&input, cancel)?;
            item.id = id.clone();
            memory.add([item])?;
            Ok(id)
        });
        let id = id.await;
        drop(promoting);
        id
    }

    async fn delete(&self, scope: &Scope, id: &ActivationId) -> Result<bool, MemoryError> {
        let id = id.clone();
        self.with(scope, move |memory, _| Ok(memory.delete(&[id])? > 0)).await
    }

    async fn stats(&self, scope: &Scope) -> Result<ActivationStats, MemoryError> {
        let memory = self.memory(scope)?;
        let items = memory.get_all();
        let n_bytes = usize::try_from(memory.tiers().ram_bytes_of(memory.scope())).unwrap_or(usize::MAX);
        Ok(ActivationStats {
            n_items: items.len(),
            n_tokens: items.iter().map(crate::KvCacheItem::n_tokens).sum(),
            n_bytes,
        })
    }

    async fn fingerprints(&self, scope: &Scope) -> Result<Vec<String>, MemoryError> {
        let items = self.memory(scope)?.get_all();
        let identities = items.iter().filter_map(|item| item.identity.as_ref());
        let weights: BTreeSet<String> = identities.map(|identity| identity.weights.to_string()).collect();
        Ok(weights.into_iter().collect())
    }

    async fn dump(&self, scope: &Scope, file: &Path) -> Result<(), MemoryError> {
        let file = file.to_owned();
        self.with(scope, move |memory, _| memory.dump_to(&file)).await
    }

    async fn load(&self, scope: &Scope, file: &Path) -> Result<usize, MemoryError> {
        let file = file.to_owned();
        self.with(scope, move |memory, _| memory.load_from(&file, ForeignItems::Recompute)).await
    }
}
