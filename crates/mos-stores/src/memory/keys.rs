//! Keys in memory.

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::keys::{MAX_KEYS, MAX_LISTED_KEYS, full_of_keys};
use mos_core::{ApiKey, KeyHash, KeyId, KeyStore, StoreError, UserId};

use super::InMemoryStore;
use crate::prepare::key_is_taken;

/// Keys and the hashes of their texts, in the order they were made.
#[derive(Debug, Default)]
pub(super) struct KeysState {
    keys: Vec<(KeyHash, ApiKey)>,
}

impl KeysState {
    fn create(&mut self, key: &ApiKey, hash: &KeyHash) -> Result<(), StoreError> {
        key.check()?;
        if self.keys.iter().any(|(known, other)| known == hash || other.id == key.id) {
            return Err(key_is_taken(&key.id));
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(full_of_keys());
        }
        self.keys.push((*hash, key.clone()));
        Ok(())
    }

    fn n_usable(&self, at: Timestamp) -> usize {
        self.keys.iter().filter(|(_, key)| key.is_usable(at)).count()
    }

    fn find_mut(&mut self, id: &KeyId) -> Option<&mut ApiKey> {
        self.keys.iter_mut().map(|(_, key)| key).find(|key| key.id == *id)
    }
}

#[async_trait]
impl KeyStore for InMemoryStore {
    async fn create_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<(), StoreError> {
        self.write().keys.create(key, hash)
    }

    async fn create_first_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<bool, StoreError> {
        key.check()?;
        let mut state = self.write();
        if state.keys.n_usable(key.created_at) > 0 {
            return Ok(false);
        }
        state.keys.create(key, hash)?;
        Ok(true)
    }

    async fn find_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.read().keys.keys.iter().find(|(known, _)| known == hash).map(|(_, key)| key.clone()))
    }

    async fn list_keys(&self, user: Option<&UserId>) -> Result<Vec<ApiKey>, StoreError> {
        let state = self.read();
        let newest_first = state.keys.keys.iter().rev().map(|(_, key)| key);
        let wanted = newest_first.filter(|key| user.is_none() || key.user.as_ref() == user);
        Ok(wanted.take(MAX_LISTED_KEYS).cloned().collect())
    }

    async fn archived_keys(&self) -> Result<Vec<(KeyHash, ApiKey)>, StoreError> {
        Ok(self.read().keys.keys.clone())
    }

    async fn revoke_key(&self, id: &KeyId) -> Result<ApiKey, StoreError> {
        let mut state = self.write();
        let not_found = || StoreError::NotFound { what: "key", id: id.to_string() };
        let key = state.keys.find_mut(id).ok_or_else(not_found)?;
        let was = key.clone();
        key.is_active = false;
        Ok(was)
    }

    async fn touch_key(&self, id: &KeyId, at: Timestamp) -> Result<(), StoreError> {
        if let Some(key) = self.write().keys.find_mut(id) {
            key.last_used_at = Some(at);
        }
        Ok(())
    }

    async fn count_usable_keys(&self, at: Timestamp) -> Result<usize, StoreError> {
        Ok(self.read().keys.n_usable(at))
    }

    async fn remove_keys_of(&self, user: &UserId) -> Result<usize, StoreError> {
        let mut state = self.write();
        let keys = &mut state.keys.keys;
        let n_before = keys.len();
        keys.retain(|(_, key)| key.user.as_ref() != Some(user));
        Ok(n_before - keys.len())
    }
}
