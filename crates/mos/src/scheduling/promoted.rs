//! Activation memory that the scheduler promoted: kept for each user of a cube apart, and what chats begin with.
//!
//! Which memories are promoted follows from a user's questions. So what is promoted for one user of a shared cube stands in
//! that user's chats only, under a tenant of its own in the caches: others learn nothing of the questions, and caches that
//! users made themselves are out of reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    ActivationId, ActivationStats, Clock, Expected, MemoryError, Message, Scope, StateStore, StoreError, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::beginning;
use crate::error::Error;
use crate::facade::CubeActivation;

/// What the documents of users begin with, in the state of a cube.
const PREFIX: &str = "activation/chats/";

/// States that are remembered of a user. The promoter deletes what it replaces; others are those of a broken-off run.
const MAX_STATES: usize = 8;

/// How often a document is written again when somebody else changed it meanwhile.
const MAX_ATTEMPTS: usize = 16;

/// Documents that one look at a cube reads.
const PAGE: usize = 1_000;

/// What was promoted for a user of a cube.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Promoted {
    /// For whom.
    pub(crate) user: UserId,
    /// What chats begin with.
    pub(crate) used: Option<ActivationId>,
    /// All that is kept, by name.
    pub(crate) states: BTreeMap<String, PromotedState>,
}

/// A state that was computed ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PromotedState {
    /// What it is the state after.
    pub(crate) messages: Vec<Message>,
    /// When it was promoted.
    pub(crate) promoted_at: String,
    /// How many chats began with it.
    pub(crate) n_chats: u64,
}

/// The document of a user: an id may be longer than a key.
fn key(user: &UserId) -> String {
    format!("{PREFIX}{}", blake3::hash(user.as_str().as_bytes()).to_hex())
}

fn parse(value: serde_json::Value) -> Result<Promoted, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Corrupt {
        what: "what is promoted for a user of a cube".to_owned(),
        detail: error.to_string(),
    })
}

/// Returns what was promoted for a user of a cube.
pub(crate) async fn read(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<Option<Promoted>, StoreError> {
    state.read(scope, &key(user)).await?.map(|document| parse(document.value)).transpose()
}

/// Returns what was promoted for all users of a cube.
pub(crate) async fn read_all(state: &dyn StateStore, scope: &Scope) -> Result<Vec<Promoted>, StoreError> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let keys = state.keys(scope, PREFIX, after.as_deref(), PAGE).await?;
        for key in &keys {
            // Somebody may have removed it since.
            if let Some(document) = state.read(scope, key).await? {
                all.push(parse(document.value)?);
            }
        }
        match keys.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(all),
        }
    }
}

/// Changes what is promoted for a user, once, whoever else changes it; writes nothing when it stays as it is. Where nothing is
/// kept of the user yet, that begins here.
async fn change<T: Send>(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    change: impl Fn(&mut Promoted) -> T + Send + Sync,
) -> Result<T, StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        if let Some(result) = change_known(state, scope, user, &change).await? {
            return Ok(result);
        }
        let mut begun = Promoted { user: user.clone(), used: None, states: BTreeMap::new() };
        let result = change(&mut begun);
        match state.write(scope, &key(user), &json!(begun), Expected::Absent).await {
            Ok(_) => return Ok(result),
            // Somebody else has begun.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_many())
}

/// As [`change`], but returns `None` and writes nothing where nothing is kept of the user: one who was erased meanwhile is
/// named by nothing again.
pub(crate) async fn change_known<T: Send>(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    change: impl Fn(&mut Promoted) -> T + Send + Sync,
) -> Result<Option<T>, StoreError> {
    let key = key(user);
    for _ in 0..MAX_ATTEMPTS {
        let Some(found) = state.read(scope, &key).await? else { return Ok(None) };
        let expected = Expected::Version(found.version);
        let before = parse(found.value)?;
        let mut promoted = before.clone();
        let result = change(&mut promoted);
        if before == promoted {
            return Ok(Some(result));
        }
        match state.write(scope, &key, &json!(promoted), expected).await {
            Ok(_) => return Ok(Some(result)),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_many())
}

fn too_many() -> StoreError {
    StoreError::Conflict("what is promoted for a user is changed by too many at once; try again".to_owned())
}

/// Removes the document of a user.
pub(crate) async fn remove(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<(), StoreError> {
    state.remove(scope, &key(user)).await.map(drop)
}

/// The part of a cube's activation memory that is promoted for one user.
#[derive(Debug)]
pub(crate) struct PromotedActivation {
    activation: CubeActivation,
    state: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    scope: Scope,
    user: UserId,
    base: Option<String>,
}

impl PromotedActivation {
    /// Returns that of a user; `base` are the instructions that chats have when they bring none of their own.
    pub(crate) fn new(
        activation: CubeActivation,
        state: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        scope: Scope,
        user: UserId,
        base: Option<String>,
    ) -> Self {
        Self { activation, state, clock, scope, user, base }
    }
}

/// What the scheduler is told of an error of the facade.
pub(crate) fn memory_error(error: Error) -> MemoryError {
    match error {
        Error::Memory(error) => error,
        other => MemoryError::Invalid(other.to_string()),
    }
}

#[async_trait]
impl mos_scheduler::CubeActivation for PromotedActivation {
    async fn promote(&self, messages: &[Message]) -> Result<ActivationId, MemoryError> {
        // First, so that whoever deletes the cube meanwhile knows for whom something is kept.
        change(&*self.state, &self.scope, &self.user, |_| ()).await?;
        let id = self.activation.promote(messages).await.map_err(memory_error)?;
        let promoted_at = self.clock.now_text();
        change(&*self.state, &self.scope, &self.user, |promoted| {
            let state = PromotedState { messages: messages.to_vec(), promoted_at: promoted_at.clone(), n_chats: 0 };
            promoted.states.entry(id.to_string()).or_insert(state);
            if promoted.states.len() > MAX_STATES {
                let used = promoted.used.as_ref().map(ToString::to_string);
                promoted.states.retain(|name, _| name == id.as_str() || Some(name) == used.as_ref());
            }
        })
        .await?;
        Ok(id)
    }

    fn beginning(&self, texts: &[String]) -> Vec<Message> {
        beginning::compose(self.base.as_deref(), texts)
    }

    fn is_of_one_user(&self) -> bool {
        true
    }

    async fn use_in_chats(&self, id: Option<&ActivationId>) -> Result<(), MemoryError> {
        let is_known = change_known(&*self.state, &self.scope, &self.user, |promoted| {
            let is_known = id.is_none_or(|id| promoted.states.contains_key(id.as_str()));
            if is_known {
                promoted.used = id.cloned();
            }
            is_known
        })
        .await?
        .unwrap_or(id.is_none());
        match id {
            Some(id) if !is_known => {
                Err(MemoryError::Invalid(format!("`{id}` was not promoted here; promote it first")))
            }
            _ => Ok(()),
        }
    }

    async fn delete(&self, id: &ActivationId) -> Result<bool, MemoryError> {
        // First what chats look at: none begins with what is gone.
        change_known(&*self.state, &self.scope, &self.user, |promoted| {
            promoted.states.remove(id.as_str());
            if promoted.used.as_ref() == Some(id) {
                promoted.used = None;
            }
        })
        .await?;
        self.activation.delete(id).await.map_err(memory_error)
    }

    async fn stats(&self) -> Result<ActivationStats, MemoryError> {
        self.activation.stats().await.map_err(memory_error)
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{CubeId, SystemClock};
    use mos_stores::InMemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_only_looks_for_a_user_begins_nothing() {
        let store = InMemoryStore::new(Arc::new(SystemClock));
        let (state, scope, user) = (&*store as &dyn StateStore, Scope::of(&CubeId::new("notes")), UserId::new("ann"));
        let count = |promoted: &mut Promoted| promoted.states.len();
        assert_eq!(change_known(state, &scope, &user, count).await.unwrap(), None);
        assert!(read_all(state, &scope).await.unwrap().is_empty(), "nobody is named");
        // A promotion says first for whom it will be.
        assert_eq!(change(state, &scope, &user, count).await.unwrap(), 0);
        assert_eq!(read_all(state, &scope).await.unwrap().len(), 1);
        let used = |promoted: &mut Promoted| promoted.used = Some(ActivationId::new("one"));
        assert_eq!(change_known(state, &scope, &user, used).await.unwrap(), Some(()));
        assert_eq!(read(state, &scope, &user).await.unwrap().unwrap().used, Some(ActivationId::new("one")));
        remove(state, &scope, &user).await.unwrap();
        assert_eq!(change_known(state, &scope, &user, used).await.unwrap(), None);
        assert_eq!(read(state, &scope, &user).await.unwrap(), None, "what was removed stays so");
    }
}
