//! Activation memory as MemOS lists it beside the texts.

use mos_core::{ActivationId, CubeId, UserId};
use mos_kv::{KvCacheItem, KvRecords, KvSummary, VllmKvCacheItem};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{CubeActivation, CubeHandle, Mos};
use crate::activation::{ActivationBackend, promoted_tenant};
use crate::error::Result;

/// The activation memory of one cube.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CubeKept {
    /// The cube.
    pub cube_id: CubeId,
    /// What is kept: the cube's own in the order in which it came, then what was promoted for the user and chats begin with now.
    /// Empty when a program brought an activation memory of its own, which cannot be listed.
    pub memories: Vec<KeptItem>,
}

/// One item of an activation memory, without its keys and values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptItem {
    /// Names it.
    pub id: ActivationId,
    /// What it takes, or the prompt that it is.
    pub memory: KeptState,
    /// Free data; an extracted item has `source_text` and `extracted_at`.
    pub metadata: Map<String, Value>,
    /// The texts that it was made from.
    pub records: KvRecords,
}

/// What an item of an activation memory shows of its state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum KeptState {
    /// Keys and values in this process: what they take, as far as that is known.
    Sizes(Option<KvSummary>),
    /// A prompt that the model's server keeps computed.
    Prompt(String),
}

impl From<KvCacheItem> for KeptItem {
    fn from(item: KvCacheItem) -> Self {
        let memory = KeptState::Sizes(item.summary());
        Self { id: item.id, memory, metadata: item.metadata, records: item.records }
    }
}

impl From<VllmKvCacheItem> for KeptItem {
    fn from(item: VllmKvCacheItem) -> Self {
        let VllmKvCacheItem { id, memory, metadata, records } = item;
        Self { id, memory: KeptState::Prompt(memory), metadata, records }
    }
}

fn listed<T: Into<KeptItem>>(items: Vec<T>) -> Vec<KeptItem> {
    items.into_iter().map(Into::into).collect()
}

impl Mos {
    /// Returns the activation memory of a cube that the user may read, with what was promoted for the user; `None` when the
    /// settings switch it off or the cube has none. No model is loaded for caches of this process.
    pub(super) async fn kept_of(&self, user: &UserId, cube: &CubeHandle) -> Result<Option<CubeKept>> {
        if !self.parts.settings.enable_activation_memory {
            return Ok(None);
        }
        let Some((backend, scope)) = cube.act_mem().map(CubeActivation::backend) else { return Ok(None) };
        let cube_id = cube.info().cube_id.clone();
        let of_user = promoted_tenant(cube.info(), user);
        let (mut memories, promoted) = match backend {
            ActivationBackend::Kv(caches) => {
                (listed(caches.items(scope).await?), listed(caches.items(&of_user).await?))
            }
            ActivationBackend::Prompts(prompts) => {
                (listed(prompts.items(scope).await?), listed(prompts.items(&of_user).await?))
            }
            ActivationBackend::Other(_) => (Vec::new(), Vec::new()),
        };
        if !promoted.is_empty() {
            let told = self.promoted(user, Some(&cube_id)).await?;
            let is_used = |item: &KeptItem| told.iter().any(|one| one.is_used && one.id == item.id);
            memories.extend(promoted.into_iter().filter(is_used));
        }
        Ok(Some(CubeKept { cube_id, memories }))
    }
}
