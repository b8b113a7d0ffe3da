//! What was promoted, and what was before.

use jiff::Timestamp;
use mos_core::{ActivationId, MemoryError, MemoryId, Scope, StateStore, Status, StoreError, TextMemory, UserId};
use serde::Serialize;

use super::retire::{LOG, Retired};
use super::{DOCUMENT, PromotionState, Source};
use crate::monitor::{MonitorKind, MonitorList, load, monitors};

/// A memory in activation memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromotedMemory {
    /// The memory.
    pub id: MemoryId,
    /// What it said when it was promoted.
    pub text: String,
    /// How many turns retrieved it since it came into working memory.
    pub recalls: u64,
    /// How many turns it has been in working memory.
    pub turns: u64,
}

/// What the chats of a user with a cube begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promoted {
    /// The cache.
    pub id: ActivationId,
    /// The memories in it, in their order.
    pub memories: Vec<PromotedMemory>,
    /// When they were promoted.
    pub at: Timestamp,
    /// When it was last looked whether they still are the right ones; `None` while that is being done for the first time.
    pub checked_at: Option<Timestamp>,
    /// Whether promotion made the cache, and may delete it.
    pub is_ours: bool,
}

/// Returns what was promoted for a user; `None` when nothing is.
///
/// # Errors
/// [`StoreError::Corrupt`] for documents of another form; store errors.
pub async fn promoted(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<Option<Promoted>, StoreError> {
    let known: PromotionState = load(state, scope, DOCUMENT, user).await?.value;
    let working = monitors(state, scope, user, MonitorKind::Working).await?;
    let activation = monitors(state, scope, user, MonitorKind::Activation).await?;
    Ok(shown(known, &working, &activation))
}

pub(super) fn shown(known: PromotionState, working: &MonitorList, activation: &MonitorList) -> Option<Promoted> {
    let kept = known.current?;
    // What left working memory is counted as it was when it was last looked at.
    let counted = |id: &MemoryId| {
        let mut items = working.items.iter().chain(&activation.items);
        items.find(|item| item.memory_id.as_ref() == Some(id)).map_or((0, 0), |item| (item.recalls, item.turns))
    };
    let memory = |source: Source| {
        let (recalls, turns) = counted(&source.id);
        PromotedMemory { id: source.id, text: source.text, recalls, turns }
    };
    Some(Promoted {
        id: kept.id,
        memories: kept.sources.into_iter().map(memory).collect(),
        at: kept.at,
        checked_at: known.checked_at,
        is_ours: kept.is_ours,
    })
}

/// Returns whether the memories in a cache that was promoted for a user are in use and say what they said then; `None` for a
/// cache that promotion knows nothing of: who made it answers for it.
///
/// # Errors
/// [`StoreError::Corrupt`] for a document of another form; store errors.
pub async fn is_as_promoted(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    id: &ActivationId,
    text: &dyn TextMemory,
) -> Result<Option<bool>, MemoryError> {
    let known: PromotionState = load(state, scope, DOCUMENT, user).await?.value;
    // Chats begin with the one before as long as the next one is on its way.
    let mut all = known.current.into_iter().chain(known.retiring.into_iter().map(|retiring| retiring.kept));
    let Some(kept) = all.find(|kept| kept.id == *id) else { return Ok(None) };
    let ids: Vec<MemoryId> = kept.sources.iter().map(|source| source.id.clone()).collect();
    let mut found = if ids.is_empty() { Vec::new() } else { text.get_by_ids(&ids).await? };
    found.retain(|item| item.metadata.status.is_none_or(|status| status == Status::Activated));
    let is_same = |source: &Source| found.iter().any(|item| item.id == source.id && item.memory == source.text);
    Ok(Some(kept.sources.iter().all(is_same)))
}

/// Returns at most `limit` caches that were retired in a cube, after the entry number `after` of their log, oldest first, each
/// with its number. A retirement that a process did not live to complete may stand there twice.
///
/// # Errors
/// [`StoreError::Corrupt`] for an entry of another form; store errors.
pub async fn retired(
    state: &dyn StateStore,
    scope: &Scope,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Retired)>, StoreError> {
    let entries = state.entries(scope, LOG, after, limit).await?;
    let read = entries.into_iter().map(|entry| -> Result<(u64, Retired), StoreError> {
        let retired = serde_json::from_value(entry.value).map_err(|error| StoreError::Corrupt {
            what: format!("entry {} of the log of retired caches", entry.sequence),
            detail: error.to_string(),
        })?;
        Ok((entry.sequence, retired))
    });
    read.collect()
}
