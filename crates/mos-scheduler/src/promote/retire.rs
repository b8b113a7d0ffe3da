//! The way down: a cache goes, its texts stay what they are in the cube, and a log says what was in it and why it went.
//!
//! Promotion copies memories and takes none away, so that what was in a cache is searchable as before. What was removed from
//! the cube meanwhile does not come back with its cache.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use mos_core::{ActivationId, MemoryId, MemoryItem, Scope, StateStore, Status, StoreError, UserId};
use serde::{Deserialize, Serialize};

use super::run::PromotionParts;
use super::{DOCUMENT, PromotionState, Retiring, Source};
use crate::cube::CubeActivation;
use crate::handler::HandlerError;
use crate::monitor::{prefix, read};

/// The log of retired caches.
pub(super) const LOG: &str = "scheduler/retired";

/// Retired caches that are remembered of a cube.
const KEPT: usize = 200;

/// How many documents are read at a time.
const PAGE: usize = 100;

/// Why a cache was retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetireReason {
    /// Other memories take its place.
    OtherMemories,
    /// The same memories begin conversations in another way: the model or its prompts changed.
    OtherBeginning,
    /// No memory is stable any more.
    NothingStable,
    /// Promotion is switched off.
    SwitchedOff,
    /// The process ended while it was made.
    Unfinished,
    /// Somebody asked for it.
    Asked,
}

impl fmt::Display for RetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherMemories => "other memories take their place",
            Self::OtherBeginning => "the model or its prompts changed",
            Self::NothingStable => "no memory is stable any more",
            Self::SwitchedOff => "promotion is switched off",
            Self::Unfinished => "the process ended while they were promoted",
            Self::Asked => "somebody asked for it",
        })
    }
}

/// What became of a memory whose cache was retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is in the cube as it was promoted, and searches find it.
    Searchable,
    /// It says something else by now; what was promoted is in its history.
    Changed,
    /// It is archived or marked as deleted; its history has it.
    PutAway,
    /// It was removed, or pushed out by newer ones. It stays so, and what it said is not in the log: its history has it, and
    /// undoing brings it back.
    Removed,
}

/// A memory whose cache was retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredMemory {
    /// The memory.
    pub id: MemoryId,
    /// What became of it.
    pub fate: Fate,
    /// What was promoted; `None` for a memory that was removed.
    pub text: Option<String>,
}

/// A cache that was retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The cache.
    pub id: ActivationId,
    /// Whose working memory it was made of.
    pub user_id: UserId,
    /// When its memories were promoted.
    pub promoted_at: Timestamp,
    /// When it was retired.
    pub retired_at: Timestamp,
    /// Why.
    pub reason: RetireReason,
    /// Whether the cache was deleted. It is not when somebody else made it, or uses it.
    pub is_deleted: bool,
    /// Its memories, in their order.
    pub memories: Vec<RetiredMemory>,
}

/// Retires a cache that no chat of this user begins with any more. A second time has the same effect.
pub(super) async fn retire(
    parts: PromotionParts<'_>,
    activation: &dyn CubeActivation,
    user: &UserId,
    known: &PromotionState,
    retiring: &Retiring,
) -> Result<Retired, HandlerError> {
    let (scope, kept) = (parts.cube.scope(), &retiring.kept);
    let memories = fates(parts, &kept.sources).await?;
    let is_current = known.current.as_ref().is_some_and(|current| current.id == kept.id);
    let is_shared = !activation.is_of_one_user() && of_others(parts.state, &scope, user, &kept.id).await?.is_some();
    let is_deleted = kept.is_ours && !is_current && !is_shared;
    let retired = Retired {
        id: kept.id.clone(),
        user_id: user.clone(),
        promoted_at: kept.at,
        retired_at: parts.clock.now(),
        reason: retiring.reason,
        is_deleted,
        memories,
    };
    // What was in it is written down before it goes.
    let entry = serde_json::to_value(&retired)
        .map_err(|error| StoreError::Invalid(format!("a retired cache cannot be written down: {error}")))?;
    parts.state.append(&scope, LOG, &[entry], KEPT).await?;
    if is_deleted {
        activation.delete(&kept.id).await?;
    }
    Ok(retired)
}

/// What other users of the cube know about a cache that their chats begin with: the same memories have the same one. `None`
/// when there is no such user, else whether promotion made it.
pub(super) async fn of_others(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    id: &ActivationId,
) -> Result<Option<bool>, StoreError> {
    let prefix = prefix(DOCUMENT);
    let (mut after, mut found): (Option<String>, Option<bool>) = (None, None);
    loop {
        let keys = state.keys(scope, &prefix, after.as_deref(), PAGE).await?;
        for key in &keys {
            let Some(document) = state.read(scope, key).await? else { continue };
            let of = UserId::new(document.value["user_id"].as_str().unwrap_or_default());
            if of == *user {
                continue;
            }
            let known: PromotionState = read(key, &of, document.value)?;
            if let Some(kept) = known.current.filter(|kept| kept.id == *id) {
                found = Some(found.unwrap_or(false) || kept.is_ours);
            }
        }
        if keys.len() < PAGE {
            return Ok(found);
        }
        after = keys.last().cloned();
    }
}

async fn fates(parts: PromotionParts<'_>, sources: &[Source]) -> Result<Vec<RetiredMemory>, HandlerError> {
    let ids: Vec<MemoryId> = sources.iter().map(|source| source.id.clone()).collect();
    let found = if ids.is_empty() { Vec::new() } else { parts.cube.text.get_by_ids(&ids).await? };
    let found: HashMap<MemoryId, MemoryItem> = found.into_iter().map(|item| (item.id.clone(), item)).collect();
    let mut memories = Vec::with_capacity(sources.len());
    for source in sources {
        let fate = match found.get(&source.id) {
            Some(item) if item.metadata.status.is_some_and(|status| status != Status::Activated) => Fate::PutAway,
            Some(item) if item.memory == source.text => Fate::Searchable,
            Some(_) => Fate::Changed,
            None => Fate::Removed,
        };
        let text = Some(source.text.clone()).filter(|_| fate != Fate::Removed);
        memories.push(RetiredMemory { id: source.id.clone(), fate, text });
    }
    Ok(memories)
}
