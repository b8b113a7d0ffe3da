//! Keys that programs and users prove themselves with.
//!
//! Invariant: a store of keys never sees the text of a key, only its SHA-256; who reads the store can use no key.
//!
//! Not here: making texts of keys and looking callers up (the facade), reading them out of requests (the server).

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::id::{CubeId, KeyId, UserId};

/// The most keys that a store keeps, revoked ones too.
pub const MAX_KEYS: usize = 10_000;

/// The most cubes that one key may be restricted to.
pub const MAX_KEY_CUBES: usize = 100;

/// The most bytes of a description.
pub const MAX_KEY_DESCRIPTION_BYTES: usize = 2_000;

/// The most keys that one listing returns.
pub const MAX_LISTED_KEYS: usize = 1_000;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// Search, read and chat.
    Read,
    /// Add, change and remove memories; make cubes.
    Write,
    /// Administer users and keys.
    Admin,
}

impl KeyScope {
    /// Every scope, the smallest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The word that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// Returns the scope of a word, `None` for an unknown one.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// The SHA-256 of a key's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Returns the hash of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the hash that 64 hexadecimal digits spell, `None` for other texts.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0_u8; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hexadecimal digits, in lower case.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// What is known of a key; never its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id; no secret.
    pub id: KeyId,
    /// The first characters of its text, by which people tell keys apart.
    pub prefix: String,
    /// The only user it acts for; without this it is a program's, which acts for any.
    pub user: Option<UserId>,
    /// What it allows.
    pub scopes: BTreeSet<KeyScope>,
    /// The only cubes it may be used for; without this all that its user may use.
    pub cubes: Option<BTreeSet<CubeId>>,
    /// What it is for, in its maker's words.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, give or take a few minutes.
    pub last_used_at: Option<Timestamp>,
    /// From when on it is refused; without this never.
    pub expires_at: Option<Timestamp>,
    /// False once revoked.
    pub is_active: bool,
}

impl ApiKey {
    /// Whether its time is over at a moment.
    pub fn is_expired(&self, at: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= at)
    }

    /// Whether it opens anything at a moment.
    pub fn is_usable(&self, at: Timestamp) -> bool {
        self.is_active && !self.is_expired(at)
    }

    /// Refuses a key that no store takes.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for one without scopes, with too many cubes or too long a description.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.scopes.is_empty() {
            return Err(StoreError::Invalid("a key needs at least one scope: read, write or admin".to_owned()));
        }
        if self.cubes.as_ref().is_some_and(|cubes| cubes.is_empty() || cubes.len() > MAX_KEY_CUBES) {
            return Err(StoreError::Invalid(format!(
                "a key is restricted to 1 to {MAX_KEY_CUBES} cubes; name fewer, or none for all of its user's"
            )));
        }
        let n_bytes = self.description.as_ref().map_or(0, String::len);
        if n_bytes > MAX_KEY_DESCRIPTION_BYTES {
            return Err(StoreError::Invalid(format!(
                "a description has at most {MAX_KEY_DESCRIPTION_BYTES} bytes, this one {n_bytes}; shorten it"
            )));
        }
        Ok(())
    }
}

/// Returns the error of a store that has [`MAX_KEYS`] keys.
pub fn full_of_keys() -> StoreError {
    StoreError::Full {
        what: "the list of keys".to_owned(),
        limit: MAX_KEYS,
        detail: "revoked and expired ones count; remove those of users who are gone".to_owned(),
    }
}

/// Keys by the SHA-256 of their texts. Every call is one transaction, and what was written is as durable as the store makes
/// it.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Keeps a key.
    ///
    /// # Errors
    /// What [`ApiKey::check`] refuses; [`StoreError::Conflict`] when the id or the hash is known; [`StoreError::Full`] when
    /// there are [`MAX_KEYS`].
    async fn create_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<(), StoreError>;

    /// As [`KeyStore::create_key`], but only when no key is usable at the moment the new one was made; returns whether it was
    /// kept. Of several programs that try at the same time one succeeds.
    ///
    /// # Errors
    /// As [`KeyStore::create_key`].
    async fn create_first_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<bool, StoreError>;

    /// Returns the key of a hash, revoked and expired ones too; `None` for an unknown one.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn find_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError>;

    /// Returns at most [`MAX_LISTED_KEYS`] keys of a user, with `None` of all users and programs, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn list_keys(&self, user: Option<&UserId>) -> Result<Vec<ApiKey>, StoreError>;

    /// Returns every key, revoked and expired ones too, with the hash of its text, oldest first; at most [`MAX_KEYS`]. With
    /// [`KeyStore::create_key`] elsewhere a key moves there and stays what it is.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_keys(&self) -> Result<Vec<(KeyHash, ApiKey)>, StoreError>;

    /// Revokes a key for good and returns it as it was; a second time is no error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn revoke_key(&self, id: &KeyId) -> Result<ApiKey, StoreError>;

    /// Notes that a key was used; an unknown one is no error.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn touch_key(&self, id: &KeyId, at: Timestamp) -> Result<(), StoreError>;

    /// Returns how many keys are usable at a moment.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn count_usable_keys(&self, at: Timestamp) -> Result<usize, StoreError>;

    /// Erases the keys of a user and returns how many there were.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn remove_keys_of(&self, user: &UserId) -> Result<usize, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_read_what_they_write_and_show_nothing() {
        let hash = KeyHash::new([0xab; 32]);
        assert_eq!(hash.hex(), "ab".repeat(32));
        assert_eq!(KeyHash::parse(&hash.hex()), Some(hash));
        for text in [String::new(), "ab".to_owned(), "zz".repeat(32), "é".repeat(32)] {
            assert_eq!(KeyHash::parse(&text), None, "{text}");
        }
        assert!(!format!("{hash:?}").contains("ab"));
    }

    #[test]
    fn a_key_ends_at_its_moment() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let key = ApiKey {
            id: KeyId::new("1"),
            prefix: "krlk_0123456".to_owned(),
            user: None,
            scopes: [KeyScope::Read].into(),
            cubes: None,
            description: None,
            created_at: at(0),
            last_used_at: None,
            expires_at: Some(at(10)),
            is_active: true,
        };
        assert!(key.is_usable(at(9)) && !key.is_usable(at(10)));
        assert!(!ApiKey { is_active: false, ..key.clone() }.is_usable(at(9)));
        assert!(ApiKey { scopes: BTreeSet::new(), ..key.clone() }.check().is_err());
        assert!(ApiKey { cubes: Some(BTreeSet::new()), ..key }.check().is_err());
    }
}
