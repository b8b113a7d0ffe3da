//! Keys move with all that they say and the hashes of their texts: who has one goes on with it. Nobody learns a text by it.
//!
//! A key of the target stays what it is, but for one thing: what was revoked on one side opens nothing on the other.

use std::collections::{HashMap, HashSet};

use mos_core::keys::{MAX_KEYS, full_of_keys};
use mos_core::users::ROOT_USER;
use mos_core::{ApiKey, KeyHash, KeyId, StoreError, User, UserId};

use super::endpoint::Endpoint;
use crate::error::Result;

/// What is to be done with the keys of the source.
#[derive(Debug, Default)]
pub(super) struct PlannedKeys {
    new: Vec<(KeyHash, ApiKey)>,
    /// Keys of the target that were revoked in the source.
    revoke: Vec<KeyId>,
    pub(super) n_known: usize,
    /// How many do not move.
    pub(super) n_left: usize,
}

impl PlannedKeys {
    pub(super) fn n_new(&self) -> usize {
        self.new.len()
    }
}

/// Looks at the keys of both sides. They come along when everything moves (`users` are all users then): a key opens more than the
/// cubes that somebody chose. `known` are the users of the target: one of the same id that was made at another time is somebody
/// else, whom no key of the source opens. Only `root` is the same everywhere.
///
/// # Errors
/// [`StoreError::Conflict`] when the target has another key of an id, [`StoreError::Full`] when they do not fit; errors of the
/// stores.
pub(super) async fn look(
    from: &Endpoint,
    to: &Endpoint,
    moves_all: bool,
    users: &[User],
    known: &[User],
) -> Result<PlannedKeys> {
    let mut planned = PlannedKeys::default();
    let Some(source) = from.users.key_store() else { return Ok(planned) };
    let keys = source.archived_keys().await?;
    let target = to.users.key_store().filter(|_| moves_all);
    let Some(target) = target else {
        planned.n_left = keys.len();
        return Ok(planned);
    };
    let known: HashMap<&UserId, &str> = known.iter().map(|user| (&user.user_id, user.created_at.as_str())).collect();
    let is_same = |user: &User| {
        user.user_id.as_str() == ROOT_USER || known.get(&user.user_id).is_none_or(|made_at| *made_at == user.created_at)
    };
    let users: HashSet<&UserId> = users.iter().filter(|user| is_same(user)).map(|user| &user.user_id).collect();
    let there = target.archived_keys().await?;
    let by_hash: HashMap<&KeyHash, &ApiKey> = there.iter().map(|(hash, key)| (hash, key)).collect();
    let ids: HashSet<&KeyId> = there.iter().map(|(_, key)| &key.id).collect();
    for (hash, key) in keys {
        match by_hash.get(&hash) {
            Some(known) => {
                planned.n_known += 1;
                if known.is_active && !key.is_active {
                    planned.revoke.push(known.id.clone());
                }
            }
            None if ids.contains(&key.id) => {
                let text = format!(
                    "there is another key `{}` in {}; nothing was written. Remove one of them",
                    key.id, to.users_name
                );
                return Err(StoreError::Conflict(text).into());
            }
            // Who was made since the users were read does not come along, and who is somebody else there has other keys.
            None if key.user.as_ref().is_some_and(|user| !users.contains(user)) => planned.n_left += 1,
            None => planned.new.push((hash, key)),
        }
    }
    if there.len() + planned.new.len() > MAX_KEYS {
        return Err(full_of_keys().into());
    }
    Ok(planned)
}

/// Moves them. Last of all: what they open is there then.
///
/// # Errors
/// Errors of the store.
pub(super) async fn bring(to: &Endpoint, planned: PlannedKeys) -> Result<()> {
    let Some(target) = to.users.key_store() else { return Ok(()) };
    for (hash, key) in &planned.new {
        target.create_key(key, hash).await?;
    }
    for id in &planned.revoke {
        target.revoke_key(id).await?;
    }
    Ok(())
}
