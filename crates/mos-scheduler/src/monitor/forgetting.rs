//! Memories that were removed leave the monitors of all users.

use std::collections::HashSet;

use mos_core::{Document, Expected, MemoryId, Scope, StateStore, StoreError, UserId};
use serde_json::Value;

use super::stored::{MonitorKind, QUERIES, key, prefix};
use crate::handlers::api_mix_search;

/// Documents that are listed at a time.
const PAGE: usize = 1_000;

/// How often a document is written again when somebody else changed it meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// Takes memories (all with `None`) out of what is kept of the users' working memory and activation memory, and removes prepared
/// answers that hold them, so that their texts do not stay there until others take their places.
///
/// # Errors
/// [`StoreError::Conflict`] when a document is changed by others again and again; store errors.
pub async fn forget(state: &dyn StateStore, scope: &Scope, ids: Option<&[MemoryId]>) -> Result<(), StoreError> {
    let ids: Option<HashSet<&str>> = ids.map(|ids| ids.iter().map(MemoryId::as_str).collect());
    for kind in [MonitorKind::Working, MonitorKind::Activation] {
        let prefix = prefix(kind.document());
        let mut last: Option<String> = None;
        loop {
            let keys = state.keys(scope, &prefix, last.as_deref(), PAGE).await?;
            for key in &keys {
                forget_in(state, scope, key, ids.as_ref()).await?;
            }
            match keys.len() {
                PAGE => last = keys.last().cloned(),
                _ => break,
            }
        }
    }
    api_mix_search::forget(state, scope, ids.as_ref()).await
}

/// Removes what is kept of a user's questions, prepared answers, working memory and activation memory in a cube.
///
/// # Errors
/// Store errors.
pub async fn forget_user(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<(), StoreError> {
    for document in [QUERIES, MonitorKind::Working.document(), MonitorKind::Activation.document()] {
        state.remove(scope, &key(document, user)).await?;
    }
    api_mix_search::forget_user(state, scope, user).await
}

async fn forget_in(
    state: &dyn StateStore,
    scope: &Scope,
    key: &str,
    ids: Option<&HashSet<&str>>,
) -> Result<(), StoreError> {
    let mut attempt = 1;
    loop {
        let Some(Document { mut value, version }) = state.read(scope, key).await? else { return Ok(()) };
        if !take_out(&mut value, ids) {
            return Ok(());
        }
        match state.write(scope, key, &value, Expected::Version(version)).await {
            Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
            written => return written.map(drop),
        }
    }
}

/// Returns whether there was something to take out.
fn take_out(document: &mut Value, ids: Option<&HashSet<&str>>) -> bool {
    let Some(items) = document.pointer_mut("/value/list/items").and_then(Value::as_array_mut) else { return false };
    let n_before = items.len();
    items.retain(|item| {
        let id = item["memory_id"].as_str();
        ids.is_some_and(|ids| id.is_none_or(|id| !ids.contains(id)))
    });
    items.len() < n_before
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mos_core::{CubeId, SystemClock, UserId};
    use mos_stores::InMemoryStore;

    use super::*;
    use crate::monitor::{MonitorItem, Stored, WorkingState, load, monitors, save};

    #[tokio::test]
    async fn removed_memories_leave_the_monitors_of_every_user() {
        let state = InMemoryStore::new(Arc::new(SystemClock));
        let scope = Scope::of(&CubeId::from("notes"));
        let users = [UserId::from("ann"), UserId::from("bob")];
        let document = MonitorKind::Working.document();
        for user in &users {
            let mut stored: Stored<WorkingState> = load(state.as_ref(), &scope, document, user).await.unwrap();
            for id in ["tea", "coffee"] {
                let item = MonitorItem::new(Some(MemoryId::new(id)), &format!("likes {id}"), 1.0, 1.0);
                stored.value.list.items.push(item);
            }
            save(state.as_ref(), &scope, document, user, &mut stored).await.unwrap();
        }
        let texts = async |user: &UserId| {
            let list = monitors(state.as_ref(), &scope, user, MonitorKind::Working).await.unwrap();
            list.items.into_iter().map(|item| item.memory_text).collect::<Vec<_>>()
        };
        forget(state.as_ref(), &scope, Some(&[MemoryId::new("tea")])).await.unwrap();
        for user in &users {
            assert_eq!(texts(user).await, ["likes coffee"]);
        }
        forget(state.as_ref(), &scope, None).await.unwrap();
        for user in &users {
            assert!(texts(user).await.is_empty());
        }
    }
}
