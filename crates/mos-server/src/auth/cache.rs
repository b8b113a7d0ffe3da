//! Keys that were looked up lately, so that not every request asks the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mos_core::{ApiKey, KeyHash};
use tokio::time::Instant;

/// How long a key is taken without asking again: so late other servers notice that it was revoked.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The most keys that are remembered.
const MAX_ENTRIES: usize = 4_096;

/// What is known of a hash.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// It was looked up a moment ago.
    Fresh(Arc<ApiKey>),
    /// It was a key a while ago; the store knows whether it still is.
    Stale,
    /// Nothing.
    Never,
}

#[derive(Debug)]
struct Entry {
    key: Arc<ApiKey>,
    looked_up: Instant,
}

#[derive(Debug, Default)]
struct Entries {
    by_hash: HashMap<KeyHash, Entry>,
    /// Counts how often something was forgotten.
    moment: u64,
}

/// Keys by their hashes; bounded.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: Mutex<Entries>,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, hash: &KeyHash) -> Known {
        match self.lock().by_hash.get(hash) {
            Some(entry) if entry.looked_up.elapsed() < MAX_AGE => Known::Fresh(Arc::clone(&entry.key)),
            Some(_) => Known::Stale,
            None => Known::Never,
        }
    }

    /// Returns what [`Cache::put`] has to be given: the moment before the store was asked.
    pub(super) fn moment(&self) -> u64 {
        self.lock().moment
    }

    /// Remembers a key, unless something was forgotten since the store was asked: it may have been this one.
    pub(super) fn put(&self, hash: KeyHash, key: Arc<ApiKey>, moment: u64) {
        let mut entries = self.lock();
        if entries.moment != moment {
            return;
        }
        if entries.by_hash.len() >= MAX_ENTRIES && !entries.by_hash.contains_key(&hash) {
            let oldest = entries.by_hash.iter().min_by_key(|(_, entry)| entry.looked_up).map(|(hash, _)| *hash);
            if let Some(oldest) = oldest {
                entries.by_hash.remove(&oldest);
            }
        }
        entries.by_hash.insert(hash, Entry { key, looked_up: Instant::now() });
    }

    pub(super) fn forget(&self, hash: &KeyHash) {
        self.lock().by_hash.remove(hash);
    }

    /// Forgets some, and whatever is being looked up just now.
    pub(super) fn forget_where(&self, is_gone: impl Fn(&ApiKey) -> bool) {
        let mut entries = self.lock();
        entries.moment += 1;
        entries.by_hash.retain(|_, entry| !is_gone(&entry.key));
    }
}

#[cfg(test)]
mod tests {
    use mos::keys::NewKey;
    use mos_core::KeyId;

    use super::*;

    fn key(id: &str) -> Arc<ApiKey> {
        let NewKey { user, scopes, cubes, description, .. } = NewKey::program();
        let created_at = jiff::Timestamp::UNIX_EPOCH;
        let (id, prefix) = (KeyId::new(id), String::new());
        let (last_used_at, expires_at, is_active) = (None, None, true);
        Arc::new(ApiKey {
            id,
            prefix,
            user,
            scopes,
            cubes,
            description,
            created_at,
            last_used_at,
            expires_at,
            is_active,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_asked_for_again_after_a_while() {
        let (cache, hash) = (Cache::default(), KeyHash::new([1; 32]));
        assert!(matches!(cache.get(&hash), Known::Never));
        cache.put(hash, key("1"), cache.moment());
        tokio::time::advance(MAX_AGE - Duration::from_millis(1)).await;
        assert!(matches!(cache.get(&hash), Known::Fresh(_)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(matches!(cache.get(&hash), Known::Stale));
    }

    #[tokio::test]
    async fn what_is_forgotten_while_it_is_looked_up_stays_forgotten() {
        let (cache, hash) = (Cache::default(), KeyHash::new([1; 32]));
        let moment = cache.moment();
        cache.forget_where(|key| key.id.as_str() == "1");
        cache.put(hash, key("1"), moment);
        assert!(matches!(cache.get(&hash), Known::Never));
        cache.put(hash, key("1"), cache.moment());
        cache.forget_where(|key| key.id.as_str() == "1");
        assert!(matches!(cache.get(&hash), Known::Never));
    }

    #[tokio::test]
    async fn it_is_bounded() {
        let cache = Cache::default();
        for number in 0..u32::try_from(MAX_ENTRIES).unwrap() + 10 {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            cache.put(KeyHash::new(bytes), key("1"), cache.moment());
        }
        assert_eq!(cache.lock().by_hash.len(), MAX_ENTRIES);
    }
}
