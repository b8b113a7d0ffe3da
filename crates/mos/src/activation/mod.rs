//! Activation memories of cubes: which kinds there are, where they are kept, and how a chat begins with them.
//!
//! | key | what is kept | where |
//! |---|---|---|
//! | `kv_cache` | keys and values of the model in this process | `<data>/activation/caches` |
//! | `vllm_kv_cache` | prompts that the model's server is asked to compute ahead | `<data>/activation/prompts` |
//!
//! Invariant: what is kept belongs to one cube of one owner. Its tenant is named by the cube's id, owner and birth, so
//! that a new cube never sees what a deleted one of the same id had.

mod kv;
mod prompts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use mos_config::{ChatModelConfig, Settings};
use mos_core::{
    ActivationId, ActivationMemory, ChatModel, ChatRequest, ChatStream, Clock, Cube, CubeId, IdSource, Message,
    ModelError, Scope, UserId,
};
use mos_kv::{KvChatModel, MergeStrategy, TierUsage};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::factories::{ModelContext, not_built};
use crate::lazy::Lazy;

pub use kv::KvCaches;
pub use prompts::ServerPrompts;

/// What a constructor of an activation memory may use.
#[derive(Clone, Debug)]
pub struct ActivationParts {
    /// The settings; their chat model is the one whose state is kept.
    pub settings: Settings,
    /// Where models are.
    pub context: ModelContext,
    /// The folder that everything is kept under; `None` keeps everything in RAM.
    pub folder: Option<PathBuf>,
    /// The time of new items.
    pub clock: Arc<dyn Clock>,
    /// Names new items.
    pub ids: Arc<dyn IdSource>,
    pub(crate) chat_model: Arc<Lazy<dyn ChatModel>>,
}

/// An activation memory, and what the facade can do with it.
#[derive(Clone, Debug)]
pub enum ActivationBackend {
    /// Caches of the model in this process.
    Kv(Arc<KvCaches>),
    /// Prompts that a server keeps computed.
    Prompts(Arc<ServerPrompts>),
    /// A program's own. Chats do not begin with it.
    Other(Arc<dyn ActivationMemory>),
}

impl ActivationBackend {
    /// The memory as schedulers and cubes see it.
    pub fn memory(&self) -> Arc<dyn ActivationMemory> {
        match self {
            Self::Kv(caches) => Arc::clone(caches) as _,
            Self::Prompts(prompts) => Arc::clone(prompts) as _,
            Self::Other(memory) => Arc::clone(memory),
        }
    }

    /// The scope that a cube has in it.
    pub(crate) fn scope(&self, cube: &Cube) -> Scope {
        match self {
            Self::Other(_) => Scope::of(&cube.cube_id),
            Self::Kv(_) | Self::Prompts(_) => tenant(cube),
        }
    }

    /// Whether a dump of the cube has anything to write; no model is loaded to find that out.
    pub(crate) async fn has_items(&self, scope: &Scope) -> Result<bool> {
        Ok(match self {
            Self::Kv(caches) => caches.has_items(scope).await?,
            Self::Prompts(prompts) => prompts.has_items(scope).await?,
            Self::Other(memory) => memory.stats(scope).await?.n_items > 0,
        })
    }

    /// Returns what answers conversations that begin with the messages of a promoted state; `None` when that is of no use:
    /// it is gone, of another model, or too long for a chat. The answer is that of `model` to the same conversation.
    pub(crate) async fn continuing(
        &self,
        scope: &Scope,
        id: &ActivationId,
        model: &Arc<dyn ChatModel>,
    ) -> Result<Option<Arc<dyn ChatModel>>> {
        match self {
            Self::Kv(caches) => {
                let Some(model) = caches.continuing(scope, id).await? else { return Ok(None) };
                Ok(Some(Arc::new(AfterCaches { model, ids: vec![id.clone()] })))
            }
            Self::Prompts(prompts) => Ok(prompts.has(scope, id).await?.then(|| Arc::clone(model))),
            Self::Other(_) => Ok(None),
        }
    }

    /// Whether chats can begin with what is promoted to it.
    pub(crate) fn has_chats(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Forgets all that is kept of a cube that goes away. A program's own memory sees to that itself.
    pub(crate) async fn forget(&self, scope: &Scope) -> Result<()> {
        match self {
            Self::Kv(caches) => Ok(caches.forget(scope).await?),
            Self::Prompts(prompts) => Ok(prompts.forget(scope).await?),
            Self::Other(_) => Ok(()),
        }
    }

    /// Returns a model that shows `model` the cube's items before each conversation, and which those are; `None` when
    /// there are none.
    pub(crate) async fn answering(
        &self,
        scope: &Scope,
        model: &Arc<dyn ChatModel>,
    ) -> Result<Option<(Arc<dyn ChatModel>, Vec<ActivationId>)>> {
        match self {
            Self::Kv(caches) => {
                let Some((model, ids)) = caches.answering(scope).await? else { return Ok(None) };
                Ok(Some((Arc::new(AfterCaches { model, ids: ids.clone() }), ids)))
            }
            Self::Prompts(prompts) => {
                let Some((id, messages)) = prompts.newest(scope).await? else { return Ok(None) };
                Ok(Some((Arc::new(AfterMessages { model: Arc::clone(model), messages }), vec![id])))
            }
            Self::Other(_) => Ok(None),
        }
    }
}

/// The activation memories of an installation.
#[derive(Debug)]
pub(crate) struct Activations {
    /// For every cube, whatever its configuration says.
    own: Option<ActivationBackend>,
    by_key: BTreeMap<String, ActivationBackend>,
    /// The key of cubes whose configuration names none.
    default: Option<&'static str>,
    /// Why there are no caches; `None` when there are.
    no_caches: Option<String>,
}

impl Activations {
    pub(crate) fn own(backend: ActivationBackend) -> Self {
        Self { own: Some(backend), by_key: BTreeMap::new(), default: None, no_caches: None }
    }

    pub(crate) fn by_key(
        by_key: BTreeMap<String, ActivationBackend>,
        model: &ChatModelConfig,
        has_own_model: bool,
    ) -> Self {
        let no_caches = if has_own_model {
            Some("the program brought a chat model of its own".to_owned())
        } else if !computes_here(model) {
            Some(format!("chat_model is `{}`, which does not compute in this process", model.backend()))
        } else {
            None
        };
        let default = no_caches.is_none().then_some("kv_cache");
        Self { own: None, by_key, default, no_caches }
    }

    /// Returns the activation memory of a cube, when it has one.
    pub(crate) fn of(&self, cube: &Cube) -> Result<Option<&ActivationBackend>> {
        if let Some(own) = &self.own {
            return Ok(Some(own));
        }
        let named = cube.config.pointer("/act_mem/backend").and_then(Value::as_str);
        let key = match named.filter(|key| *key != "uninitialized") {
            None => self.default,
            // Its model is the configured one; without that there is nothing to keep.
            Some("kv_cache") if self.no_caches.is_some() => None,
            Some(key) => Some(key),
        };
        let Some(key) = key else { return Ok(None) };
        match self.by_key.get(key) {
            Some(backend) => Ok(Some(backend)),
            None => Err(Error::Invalid(not_built("activation memory", key, self.by_key.keys()))),
        }
    }

    /// Forgets all that was ever kept of a cube, also by a memory that the settings no longer choose.
    pub(crate) async fn forget(&self, cube: &Cube) -> Result<()> {
        for backend in self.own.iter().chain(self.by_key.values()) {
            backend.forget(&backend.scope(cube)).await?;
        }
        Ok(())
    }

    /// Forgets all that was ever promoted for a user of a cube, also to a memory that the settings no longer choose.
    pub(crate) async fn forget_promoted(&self, cube: &Cube, user: &UserId) -> Result<()> {
        let scope = promoted_tenant(cube, user);
        for backend in self.own.iter().chain(self.by_key.values()) {
            backend.forget(&scope).await?;
        }
        Ok(())
    }

    /// Returns what the caches of all cubes take; `None` when none were opened yet.
    pub(crate) fn cache_usage(&self) -> Option<TierUsage> {
        self.caches().find_map(|caches| caches.usage())
    }

    /// Returns the caches of all cubes, also those that the settings no longer choose.
    pub(crate) fn caches(&self) -> impl Iterator<Item = &Arc<KvCaches>> {
        self.own.iter().chain(self.by_key.values()).filter_map(|backend| match backend {
            ActivationBackend::Kv(caches) => Some(caches),
            ActivationBackend::Prompts(_) | ActivationBackend::Other(_) => None,
        })
    }

    /// Returns why a cube has no caches, for people.
    pub(crate) fn why_none(&self) -> String {
        let why = self.no_caches.as_deref().unwrap_or("its configuration names another activation memory");
        format!("{why}; caches need `chat_model` with the backend `local`, and `act_mem` with `kv_cache` or none")
    }
}

/// Whether a chat model of these settings computes in this process, so that its state can be kept.
pub(crate) fn computes_here(config: &ChatModelConfig) -> bool {
    matches!(config.backend(), "local" | "huggingface" | "huggingface_singleton")
}

fn tenant(cube: &Cube) -> Scope {
    // Ids hold no control characters, so no two cubes share a name.
    Scope::of(&CubeId::new(format!("{}\n{}\n{}", cube.cube_id, cube.owner_id, cube.created_at)))
}

/// The tenant of what is promoted for one user of a cube.
pub(crate) fn promoted_tenant(cube: &Cube, user: &UserId) -> Scope {
    Scope::of(&CubeId::new(format!("{}\npromoted\n{user}", tenant(cube).cube)))
}

/// Answers after caches of a cube, exactly as if nothing had been kept.
#[derive(Debug)]
struct AfterCaches {
    model: KvChatModel,
    ids: Vec<ActivationId>,
}

#[async_trait]
impl ChatModel for AfterCaches {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn is_local(&self) -> bool {
        true
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    async fn stream(&self, request: ChatRequest) -> std::result::Result<ChatStream, ModelError> {
        self.model.stream_after(&self.ids, Some(MergeStrategy::PrefixTree.into()), request).await
    }
}

/// Answers after messages that the server has computed already.
#[derive(Debug)]
struct AfterMessages {
    model: Arc<dyn ChatModel>,
    messages: Vec<Message>,
}

#[async_trait]
impl ChatModel for AfterMessages {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn is_local(&self) -> bool {
        self.model.is_local()
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    async fn stream(&self, mut request: ChatRequest) -> std::result::Result<ChatStream, ModelError> {
        request.stable_messages += self.messages.len();
        request.messages.splice(0..0, self.messages.iter().cloned());
        self.model.stream(request).await
    }
}
