//! Monitors as documents of a cube: one of each kind per user.

use std::collections::VecDeque;

use jiff::Timestamp;
use mos_core::state::MAX_STATE_KEY_BYTES;
use mos_core::{Expected, Scope, StateStore, StoreError, UserId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{MonitorList, QueryMonitor};

/// Messages that are remembered as done.
const KEPT_DONE: usize = 64;

/// What a list of memories is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorKind {
    /// Working memory.
    Working,
    /// Activation memory.
    Activation,
}

impl MonitorKind {
    /// Under which name its documents stand.
    pub(crate) fn document(self) -> &'static str {
        match self {
            Self::Working => "monitor/working",
            Self::Activation => "monitor/activation",
        }
    }
}

pub(crate) const QUERIES: &str = "monitor/queries";

/// What is kept about a user's working memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkingState {
    /// The memories.
    pub(crate) list: MonitorList,
    /// When memories were last retrieved.
    #[serde(default)]
    pub(crate) retrieved_at: Option<Timestamp>,
    /// The latest messages whose turns are in the list, so that a turn counts once.
    #[serde(default)]
    done: VecDeque<String>,
}

impl WorkingState {
    pub(crate) fn is_done(&self, item_id: &str) -> bool {
        self.done.iter().any(|done| done == item_id)
    }

    pub(crate) fn note_done(&mut self, item_id: &str) {
        self.done.push_back(item_id.to_owned());
        while self.done.len() > KEPT_DONE {
            self.done.pop_front();
        }
    }
}

/// A document as it was read: it is written only if nobody else wrote it meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    expected: Expected,
}

/// Returns the memories that a monitor knows, the most important ones first; none before the first turn.
///
/// # Errors
/// [`StoreError::Corrupt`] for a document of another form; store errors.
pub async fn monitors(
    state: &dyn StateStore,
    scope: &Scope,
    user: &UserId,
    kind: MonitorKind,
) -> Result<MonitorList, StoreError> {
    Ok(load::<WorkingState>(state, scope, kind.document(), user).await?.value.list)
}

/// Returns the latest questions of a user about a cube.
///
/// # Errors
/// As [`monitors`].
pub async fn query_monitor(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<QueryMonitor, StoreError> {
    Ok(load::<QueryMonitor>(state, scope, QUERIES, user).await?.value)
}

/// Reads a user's document of a kind; what is not there is as a new one.
pub(crate) async fn load<T: DeserializeOwned + Default>(
    state: &dyn StateStore,
    scope: &Scope,
    document: &str,
    user: &UserId,
) -> Result<Stored<T>, StoreError> {
    let key = key(document, user);
    let Some(found) = state.read(scope, &key).await? else {
        return Ok(Stored { value: T::default(), expected: Expected::Absent });
    };
    let value = read(&key, user, found.value)?;
    Ok(Stored { value, expected: Expected::Version(found.version) })
}

/// Writes a document that was read, and knows its new version.
///
/// # Errors
/// [`StoreError::Conflict`] when somebody else wrote it meanwhile; what a write can meet.
pub(crate) async fn save<T: Serialize>(
    state: &dyn StateStore,
    scope: &Scope,
    document: &str,
    user: &UserId,
    stored: &mut Stored<T>,
) -> Result<(), StoreError> {
    let value = serde_json::to_value(&stored.value)
        .map_err(|error| StoreError::Invalid(format!("`{document}` cannot be written: {error}")))?;
    let whole = json!({"user_id": user, "value": value});
    let version = state.write(scope, &key(document, user), &whole, stored.expected).await?;
    stored.expected = Expected::Version(version);
    Ok(())
}

/// The value in a document of this user.
pub(crate) fn read<T: DeserializeOwned>(key: &str, user: &UserId, mut document: Value) -> Result<T, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { what: format!("document `{key}`"), detail };
    if document["user_id"].as_str() != Some(user.as_str()) {
        return Err(corrupt("it belongs to another user".to_owned()));
    }
    serde_json::from_value(document["value"].take()).map_err(|error| corrupt(error.to_string()))
}

/// The key of a user's document. Keys are shorter than ids may be: of a long id the beginning stands, and what tells it from
/// others that begin so; the document itself names the user, so that nobody reads another one's.
pub(crate) fn key(document: &str, user: &UserId) -> String {
    let (prefix, id) = (prefix(document), user.as_str());
    let room = MAX_STATE_KEY_BYTES - prefix.len();
    if id.len() <= room {
        return format!("{prefix}{id}");
    }
    let mut end = room - 40;
    while !id.is_char_boundary(end) {
        end -= 1;
    }
    format!("{prefix}{}#{}#{:016x}", &id[..end], id.len(), fnv_1a(id))
}

/// What the keys of all users' documents of a kind begin with.
pub(crate) fn prefix(document: &str) -> String {
    format!("scheduler/{document}/")
}

/// Stays the same from one version of the program to the next, as keys must.
fn fnv_1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_long_ids_fit_and_differ() {
        let (one, other) = (format!("{}é1", "u".repeat(500)), format!("{}é2", "u".repeat(500)));
        let keys = [&one, &other].map(|id| key(MonitorKind::Working.document(), &UserId::new(id.as_str())));
        assert_ne!(keys[0], keys[1]);
        assert!(keys.iter().all(|key| key.len() <= MAX_STATE_KEY_BYTES));
        assert_eq!(key("monitor/working", &UserId::from("ann")), "scheduler/monitor/working/ann");
    }

    #[test]
    fn a_document_of_another_user_is_refused() {
        let document = json!({"user_id": "ann", "value": {"items": []}});
        assert!(read::<MonitorList>("k", &UserId::from("ann"), document.clone()).is_ok());
        let error = read::<MonitorList>("k", &UserId::from("bob"), document).unwrap_err().to_string();
        assert!(error.contains("another user"), "{error}");
    }
}
