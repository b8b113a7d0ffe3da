//! Looking at a cube: pages of its memories, what lies around one, its preferences, what is kept of it.

use std::collections::{HashMap, HashSet};

use mos_core::{
    Access, ActivationId, CubeId, Direction, Edge, Filter, MemoryError, MemoryId, MemoryItem, Page, Paging, Subgraph,
    UserId,
};
use mos_kv::{KvCacheItem, VllmKvCacheItem};
use serde::Serialize;

use super::{CubeActivation, CubeHandle, Mos, PromotedCache};
use crate::activation::{ActivationBackend, promoted_tenant};
use crate::error::Result;

/// A kept cache, or a prompt that the model's server keeps computed, for people who look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptCache {
    /// Its name.
    pub id: ActivationId,
    /// Whether the scheduler promoted it for the user; else it is the cube's own.
    pub is_promoted: bool,
    /// The model that computed it; `None` when that is not known.
    pub model: Option<String>,
    /// Tokens; 0 when that is not known.
    pub n_tokens: usize,
    /// Bytes of keys and values; 0 when that is not known.
    pub n_bytes: u64,
    /// Seconds that computing it took: what a chat saves that begins with it.
    pub seconds_per_chat: f64,
    /// How many chats began with it; `None` where that is not counted.
    pub n_chats: Option<u64>,
    /// The texts in it.
    pub texts: Vec<String>,
    /// When it was made, ISO 8601; empty when that is not known.
    pub made_at: String,
    /// Whether chats begin with it now.
    pub is_used: bool,
}

/// What is kept of a cube.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptCaches {
    /// The cube's own, in the order in which they came, then those that were promoted for the user.
    pub caches: Vec<KeptCache>,
    /// Why the cube keeps none; `None` when it can.
    pub why_none: Option<String>,
}

impl Mos {
    /// Returns what a user may do with a cube.
    ///
    /// # Errors
    /// [`Error::UnknownUser`](crate::Error::UnknownUser), [`Error::NoAccess`](crate::Error::NoAccess).
    pub async fn cube_access(&self, user: &UserId, cube: &CubeId) -> Result<Access> {
        Ok(self.checked_cube(user, cube).await?.1)
    }

    /// Returns a page of the memories of a cube that pass a filter, newest first, and how many pass it on all pages; of a tree
    /// those that are not marked as deleted. No more than the page is read when the filter asks for types, status and users. There
    /// are none while textual memory is off (`enable_textual_memory`).
    ///
    /// # Errors
    /// Rights; store errors.
    pub async fn memory_page(
        &self,
        user: &UserId,
        cube: &CubeId,
        filter: &Filter,
        paging: Paging,
    ) -> Result<Page<MemoryItem>> {
        let cube = self.looked_at(user, cube).await?;
        if !self.parts.settings.enable_textual_memory {
            return Ok(Page { entries: Vec::new(), total: 0 });
        }
        Ok(cube.text_mem().page(filter, paging).await?)
    }

    /// Returns the edges that have both ends among some memories of a cube, sorted by source, target and type.
    ///
    /// # Errors
    /// Rights; store errors.
    pub async fn edges_among(&self, user: &UserId, cube: &CubeId, ids: &[MemoryId]) -> Result<Vec<Edge>> {
        let cube = self.looked_at(user, cube).await?;
        let mut edges = self.parts.record.edges(&cube.scope(), ids, Direction::Outgoing, None).await?;
        let members: HashSet<&MemoryId> = ids.iter().collect();
        edges.retain(|edge| members.contains(&edge.target));
        Ok(edges)
    }

    /// Returns a memory with at most `limit` others that can be reached from it over at most `depth` edges, nearest first.
    /// Memories that are marked as deleted are passed over.
    ///
    /// # Errors
    /// Rights; an error for an unknown id; store errors.
    pub async fn neighbourhood(
        &self,
        user: &UserId,
        cube: &CubeId,
        id: &MemoryId,
        depth: usize,
        limit: usize,
    ) -> Result<Subgraph> {
        let cube = self.looked_at(user, cube).await?;
        let alive = Filter::Not(Box::new(Filter::equals("status", "deleted")));
        let found = self.parts.record.subgraph(&cube.scope(), id, depth, limit, &alive).await?;
        found.ok_or_else(|| MemoryError::NotFound(id.clone()).into())
    }

    /// Returns a page of the preferences of a cube that are not marked as deleted, oldest first, and how many there are; `None`
    /// for a cube without preference memory. Pages count from 1.
    ///
    /// # Errors
    /// Rights; store errors; [`Error::Invalid`](crate::Error::Invalid) for page or size 0.
    pub async fn preference_page(
        &self,
        user: &UserId,
        cube: &CubeId,
        page: usize,
        page_size: usize,
    ) -> Result<Option<(Vec<MemoryItem>, usize)>> {
        let cube = self.looked_at(user, cube).await?;
        let Some(memory) = cube.pref_mem() else { return Ok(None) };
        let alive = Filter::Not(Box::new(Filter::equals("status", "deleted")));
        Ok(Some(memory.get_by_filter(&alive, page, page_size).await?))
    }

    /// Returns what is kept of a cube, and what was promoted there for the user. No model is loaded for caches of this process.
    ///
    /// # Errors
    /// Rights; store errors.
    pub async fn kept_caches(&self, user: &UserId, cube: &CubeId) -> Result<KeptCaches> {
        let handle = self.looked_at(user, cube).await?;
        let backend = handle.act_mem().map(CubeActivation::backend);
        let (mut caches, tiered, why_none): (Vec<KeptCache>, Vec<KvCacheItem>, Option<String>) = match backend {
            Some((ActivationBackend::Kv(caches), scope)) => {
                let promoted = caches.items(&promoted_tenant(handle.info(), user)).await?;
                (caches.items(scope).await?.iter().map(own_cache).collect(), promoted, None)
            }
            Some((ActivationBackend::Prompts(prompts), scope)) => {
                (own_prompts(prompts.items(scope).await?), Vec::new(), None)
            }
            Some((ActivationBackend::Other(_), _)) => (Vec::new(), Vec::new(), None),
            None => (Vec::new(), Vec::new(), Some(handle.why_no_caches.clone())),
        };
        let mut items: HashMap<ActivationId, KvCacheItem> =
            tiered.into_iter().map(|item| (item.id.clone(), item)).collect();
        let promoted = self.promoted(user, Some(cube)).await?;
        caches.extend(promoted.into_iter().map(|one| promoted_cache(items.remove(&one.id).as_ref(), one)));
        Ok(KeptCaches { caches, why_none })
    }

    /// The cube, for somebody who reads it.
    async fn looked_at(&self, user: &UserId, cube: &CubeId) -> Result<CubeHandle> {
        self.target_to_read(user, Some(cube)).await
    }
}

fn own_cache(item: &KvCacheItem) -> KeptCache {
    KeptCache {
        id: item.id.clone(),
        is_promoted: false,
        model: item.identity().map(|model| model.name.clone()),
        n_tokens: item.n_tokens(),
        n_bytes: item.summary().map_or(0, |summary| summary.size_bytes),
        seconds_per_chat: item.saved_seconds(),
        n_chats: None,
        texts: texts_of(item),
        made_at: item.records.timestamp.clone(),
        is_used: true,
    }
}

/// Shows prompts, in the order in which they came: a conversation begins with the newest. What they take is the server's.
fn own_prompts(prompts: Vec<VllmKvCacheItem>) -> Vec<KeptCache> {
    let n_prompts = prompts.len();
    let shown = |(at, prompt): (usize, VllmKvCacheItem)| KeptCache {
        id: prompt.id,
        is_promoted: false,
        model: None,
        n_tokens: 0,
        n_bytes: 0,
        seconds_per_chat: 0.0,
        n_chats: None,
        texts: vec![prompt.memory],
        made_at: prompt.records.timestamp,
        is_used: at + 1 == n_prompts,
    };
    prompts.into_iter().enumerate().map(shown).collect()
}

fn texts_of(item: &KvCacheItem) -> Vec<String> {
    if item.records.text_memories.is_empty() {
        let composed = &item.records.composed_text_memory;
        return if composed.is_empty() { Vec::new() } else { vec![composed.clone()] };
    }
    item.records.text_memories.clone()
}

fn promoted_cache(item: Option<&KvCacheItem>, promoted: PromotedCache) -> KeptCache {
    let PromotedCache { id, memories, n_chats, promoted_at, is_used, .. } = promoted;
    KeptCache {
        id,
        is_promoted: true,
        model: item.and_then(KvCacheItem::identity).map(|model| model.name.clone()),
        n_tokens: item.map_or(0, KvCacheItem::n_tokens),
        n_bytes: item.and_then(KvCacheItem::summary).map_or(0, |summary| summary.size_bytes),
        seconds_per_chat: item.map_or(0.0, KvCacheItem::saved_seconds),
        n_chats: Some(n_chats),
        texts: memories,
        made_at: promoted_at,
        is_used,
    }
}
