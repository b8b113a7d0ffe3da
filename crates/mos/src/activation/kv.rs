//! Caches of the model in this process, for all cubes.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use mos_core::{ActivationId, ActivationMemory, ActivationStats, MemoryError, Message, ModelError, Scope};
use mos_engine::LocalChatModel;
use mos_kv::{
    CheckLimits, DiskTier, FolderCheck, KvActivation, KvCacheItem, KvCacheMemory, KvCacheMemoryOptions, KvChatModel,
    KvChatOptions, KvEncoding, KvError, KvTiers, TierOptions, TierUsage, UnreadableFile, check_folder,
};
use tokio::sync::OnceCell;

use super::ActivationParts;

/// RAM for all cubes, unless the settings say otherwise.
const RAM_BYTES: u64 = 4 << 30;
/// Disk for all cubes, unless the settings say otherwise.
const DISK_BYTES: u64 = 32 << 30;

type OpenModel = Box<dyn Fn() -> BoxFuture<'static, Result<Arc<LocalChatModel>, ModelError>> + Send + Sync>;

/// Activation memories of all cubes over the configured local model, kept in files.
///
/// What needs no model (listing, showing, removing) loads none. Several processes may use the files: each looks at
/// the folder again before it answers.
pub struct KvCaches {
    options: KvCacheMemoryOptions,
    open_model: OpenModel,
    model: OnceCell<Arc<LocalChatModel>>,
    tiers: OnceCell<Arc<KvTiers>>,
    activation: OnceCell<Arc<KvActivation>>,
}

impl std::fmt::Debug for KvCaches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvCaches").field("options", &self.options).finish_non_exhaustive()
    }
}

impl KvCaches {
    pub(crate) fn new(parts: &ActivationParts, open_model: OpenModel) -> Self {
        let settings = &parts.settings;
        let disk = parts.folder.as_ref().map(|folder| DiskTier {
            folder: folder.join("caches"),
            bytes: settings.activation_disk_bytes.unwrap_or(DISK_BYTES),
            encoding: KvEncoding::F16,
        });
        let ram_bytes = settings.activation_ram_bytes.unwrap_or(RAM_BYTES);
        let options = KvCacheMemoryOptions {
            tiers: TierOptions { ram_bytes, disk, ..TierOptions::default() },
            calibration_folder: parts.folder.as_ref().map(|folder| folder.join("calibration")),
            clock: Arc::clone(&parts.clock),
            ids: Arc::clone(&parts.ids),
            ..KvCacheMemoryOptions::default()
        };
        Self { options, open_model, model: OnceCell::new(), tiers: OnceCell::new(), activation: OnceCell::new() }
    }

    /// Returns what all items take; `None` when nobody has asked for any yet.
    pub(crate) fn usage(&self) -> Option<TierUsage> {
        self.tiers.get().map(|tiers| tiers.usage())
    }

    async fn model(&self) -> Result<Arc<LocalChatModel>, ModelError> {
        self.model.get_or_try_init(|| (self.open_model)()).await.cloned()
    }

    /// Returns the memory of a cube; the model is loaded when it was not yet.
    pub(crate) async fn memory(&self, scope: &Scope) -> Result<Arc<KvCacheMemory>, MemoryError> {
        let activation = self.activation().await?;
        let scope = scope.clone();
        blocking(move || activation.memory(&scope)).await
    }

    /// Returns a cube's items without their keys and values, in the order in which they came.
    pub(crate) async fn items(&self, scope: &Scope) -> Result<Vec<KvCacheItem>, MemoryError> {
        if self.is_unused() { Ok(Vec::new()) } else { Ok(self.tiers().await?.list(scope.cube.as_str())) }
    }

    /// Whether there is no folder yet: looking makes none.
    fn is_unused(&self) -> bool {
        self.options.tiers.disk.as_ref().is_some_and(|disk| !disk.folder.exists())
    }

    /// Returns the files whose heads cannot be read, so that no cube's list shows them.
    pub(crate) async fn unreadable(&self) -> Result<Vec<UnreadableFile>, MemoryError> {
        if self.is_unused() {
            return Ok(Vec::new());
        }
        let tiers = self.tiers().await?;
        blocking(move || tiers.unreadable()).await
    }

    /// Removes a damaged file by its name; returns whether it was there.
    pub(crate) async fn remove_unreadable(&self, name: String) -> Result<bool, MemoryError> {
        if self.is_unused() {
            return Ok(false);
        }
        let tiers = self.tiers().await?;
        blocking(move || tiers.remove_unreadable(&name)).await
    }

    /// Checks the files of all cubes; `None` when they are in RAM only.
    pub(crate) async fn check(&self, limits: CheckLimits) -> Result<Option<FolderCheck>, MemoryError> {
        let Some(disk) = &self.options.tiers.disk else { return Ok(None) };
        let folder = disk.folder.clone();
        blocking(move || check_folder(&folder, limits)).await.map(Some)
    }

    /// Removes items; returns how many there were.
    pub(crate) async fn remove(&self, scope: &Scope, ids: Vec<ActivationId>) -> Result<usize, MemoryError> {
        let (tiers, scope) = (self.tiers().await?, scope.clone());
        let open = self.activation.get().cloned();
        blocking(move || {
            // An open memory also forgets what it computed after a removed text.
            if let Some(open) = open {
                return open.memory(&scope)?.delete(&ids);
            }
            ids.iter().map(|id| tiers.remove(scope.cube.as_str(), id).map(usize::from)).sum()
        })
        .await
    }

    pub(super) async fn has_items(&self, scope: &Scope) -> Result<bool, MemoryError> {
        Ok(!self.items(scope).await?.is_empty())
    }

    pub(super) async fn forget(&self, scope: &Scope) -> Result<(), MemoryError> {
        let ids: Vec<ActivationId> = self.items(scope).await?.into_iter().map(|item| item.id).collect();
        if ids.is_empty() { Ok(()) } else { self.remove(scope, ids).await.map(drop) }
    }

    /// Returns what answers after the cube's items, and which they are: the first ones that leave the conversation
    /// half of the model's context. `None` when there are none.
    pub(super) async fn answering(
        &self,
        scope: &Scope,
    ) -> Result<Option<(KvChatModel, Vec<ActivationId>)>, MemoryError> {
        if !self.has_items(scope).await? {
            return Ok(None);
        }
        let memory = self.memory(scope).await?;
        let model = Arc::clone(memory.model());
        let room = mos_core::ChatModel::context_length(&*model).unwrap_or(usize::MAX) / 2;
        let mut n_tokens = 0;
        let mut ids = Vec::new();
        let mut n_left_out = 0;
        for item in memory.get_all() {
            let is_own = item.check_model(model.identity()).is_ok();
            if is_own && n_tokens + item.n_tokens() <= room {
                n_tokens += item.n_tokens();
                ids.push(item.id);
            } else {
                n_left_out += 1;
            }
        }
        if n_left_out > 0 {
            tracing::warn!(n_left_out, "items of the activation memory are of another model or too long for a chat");
        }
        if ids.is_empty() {
            return Ok(None);
        }
        Ok(Some((KvChatModel::new(memory, KvChatOptions::default()), ids)))
    }

    /// Returns what answers conversations that begin with the messages of an item; `None` when the item is gone, of another
    /// model, or leaves the conversation less than half of the model's context.
    pub(super) async fn continuing(
        &self,
        scope: &Scope,
        id: &ActivationId,
    ) -> Result<Option<KvChatModel>, MemoryError> {
        let Some(item) = self.items(scope).await?.into_iter().find(|item| item.id == *id) else { return Ok(None) };
        let memory = self.memory(scope).await?;
        let model = memory.model();
        let room = mos_core::ChatModel::context_length(&**model).unwrap_or(usize::MAX) / 2;
        if item.check_model(model.identity()).is_err() || item.n_tokens() > room {
            tracing::warn!(%id, "what was promoted is of another model or too long for a chat");
            return Ok(None);
        }
        Ok(Some(KvChatModel::new(memory, KvChatOptions::default())))
    }

    async fn activation(&self) -> Result<Arc<KvActivation>, MemoryError> {
        let (model, tiers) = (self.model().await?, self.tiers().await?);
        let open = || async { Arc::new(KvActivation::with_tiers(model, self.options.clone(), tiers)) };
        Ok(Arc::clone(self.activation.get_or_init(open).await))
    }

    /// Returns the tiers, as the folder is now.
    async fn tiers(&self) -> Result<Arc<KvTiers>, MemoryError> {
        let options = self.options.tiers.clone();
        let tiers = self.tiers.get_or_try_init(|| blocking(move || KvTiers::open(options))).await?;
        let following = Arc::clone(tiers);
        blocking(move || following.follow()).await?;
        Ok(Arc::clone(tiers))
    }
}

/// Does what reads and writes files where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, MemoryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            Err(ModelError::Internal { context: "working on activation memory", source: error.into() }.into())
        }
    }
}

#[async_trait]
impl ActivationMemory for KvCaches {
    async fn promote(&self, scope: &Scope, messages: &[Message]) -> Result<ActivationId, MemoryError> {
        self.activation().await?.promote(scope, messages).await
    }

    async fn delete(&self, scope: &Scope, id: &ActivationId) -> Result<bool, MemoryError> {
        Ok(self.remove(scope, vec![id.clone()]).await? > 0)
    }

    async fn stats(&self, scope: &Scope) -> Result<ActivationStats, MemoryError> {
        let tiers = self.tiers().await?;
        let items = tiers.list(scope.cube.as_str());
        let n_bytes = usize::try_from(tiers.ram_bytes_of(scope.cube.as_str())).unwrap_or(usize::MAX);
        let n_tokens = items.iter().map(KvCacheItem::n_tokens).sum();
        Ok(ActivationStats { n_items: items.len(), n_tokens, n_bytes })
    }

    async fn fingerprints(&self, scope: &Scope) -> Result<Vec<String>, MemoryError> {
        self.activation().await?.fingerprints(scope).await
    }

    async fn dump(&self, scope: &Scope, file: &Path) -> Result<(), MemoryError> {
        self.activation().await?.dump(scope, file).await
    }

    async fn load(&self, scope: &Scope, file: &Path) -> Result<usize, MemoryError> {
        self.activation().await?.load(scope, file).await
    }
}
