//! Keys: what they look like, who calls with one, and why one is refused.
//!
//! A key is `mk_` (a program's) or `krlk_` (a user's) and 64 hexadecimal digits of the system's random source. Its text is
//! shown once, when it is made; only its SHA-256 is kept. A slow hash would add nothing: 256 random bits cannot be guessed.
//! For the same reason it gives nothing away how long it takes to look a hash up.

use std::collections::BTreeSet;
use std::time::Duration;

use mos_config::Secret;
use mos_core::{ApiKey, CubeId, KeyHash, KeyScope, UserId};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::product::{Caller, Identity, Scope};

/// What begins the key of a program.
pub const PROGRAM_PREFIX: &str = "mk_";

/// What begins the key of a user.
pub const USER_PREFIX: &str = "krlk_";

/// How many characters of a key are kept, so that people tell keys apart.
const SHOWN_CHARACTERS: usize = 12;

/// Random bytes of a key.
const N_RANDOM_BYTES: usize = 32;

/// A key to make.
///
/// ```no_run
/// use mos::keys::NewKey;
///
/// # async fn run(mos: mos::Mos) -> Result<(), Box<dyn std::error::Error>> {
/// let made = mos.create_key(NewKey::user("ann")).await?;
/// println!("{} (shown this once)", made.text.expose());
/// let key = mos.find_key(made.text.expose()).await?;
/// assert_eq!(key.id, made.key.id);
/// mos.revoke_key(&key.id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The only user it acts for; without this it acts for any.
    pub user: Option<UserId>,
    /// What it allows.
    pub scopes: BTreeSet<KeyScope>,
    /// The only cubes it may be used for; without this all that its user may use.
    pub cubes: Option<BTreeSet<CubeId>>,
    /// What it is for.
    pub description: Option<String>,
    /// How long it is good for; without this for ever.
    pub expires_in: Option<Duration>,
}

impl NewKey {
    /// Returns the key of a program: it does everything for everybody.
    pub fn program() -> Self {
        Self { user: None, scopes: KeyScope::ALL.into(), cubes: None, description: None, expires_in: None }
    }

    /// Returns the key of a user, who reads and writes with it.
    pub fn user(user: impl Into<UserId>) -> Self {
        Self { user: Some(user.into()), scopes: [KeyScope::Read, KeyScope::Write].into(), ..Self::program() }
    }

    /// Refuses what would allow more than it says.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cubes.is_some() && self.scopes.contains(&KeyScope::Admin) {
            let text = "a key that is restricted to cubes cannot have the scope `admin`, which is about all of them";
            return Err(Error::Invalid(text.to_owned()));
        }
        Ok(())
    }
}

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct MadeKey {
    /// Its text; it cannot be had again.
    pub text: Secret,
    /// What is kept of it.
    pub key: ApiKey,
}

/// Why a key opens nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It cannot be a key.
    #[error("Invalid API key format")]
    Malformed,
    /// Nobody has it.
    #[error("Invalid or expired API key")]
    Unknown,
    /// Its time is over.
    #[error("Invalid or expired API key")]
    Expired,
    /// It was revoked.
    #[error("Invalid or expired API key")]
    Revoked,
    /// Its user was deleted.
    #[error("Invalid or expired API key")]
    NoUser,
    /// It could not be looked up.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Returns the hash of a key's text; `None` for what cannot be one.
pub fn hash_of(text: &str) -> Option<KeyHash> {
    let digits = text.strip_prefix(PROGRAM_PREFIX).or_else(|| text.strip_prefix(USER_PREFIX))?;
    let is_key = digits.len() == 2 * N_RANDOM_BYTES && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then(|| KeyHash::new(Sha256::digest(text.as_bytes()).into()))
}

/// Returns the text of a new key and its hash.
///
/// # Errors
/// [`Error::Invalid`] when the system has no random numbers.
pub fn new_text(is_program: bool) -> Result<(Secret, KeyHash)> {
    let mut bytes = [0_u8; N_RANDOM_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Invalid(format!("the system gives no random numbers ({error}); no key was made")))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{}{digits}", if is_program { PROGRAM_PREFIX } else { USER_PREFIX });
    let hash = KeyHash::new(Sha256::digest(text.as_bytes()).into());
    Ok((Secret::new(text), hash))
}

/// Returns the scopes that words name; `all` is every scope. `None` for an unknown word.
pub fn scopes_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<BTreeSet<KeyScope>> {
    let mut scopes = BTreeSet::new();
    for word in words {
        match word {
            "all" => scopes.extend(KeyScope::ALL),
            word => {
                scopes.insert(KeyScope::parse(word)?);
            }
        }
    }
    Some(scopes)
}

/// The beginning of a key's text.
pub(crate) fn shown_prefix(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

impl From<&ApiKey> for Caller {
    fn from(key: &ApiKey) -> Self {
        let identity = key.user.clone().map_or(Identity::Program, Identity::User);
        let scope = |scope: &KeyScope| match scope {
            KeyScope::Read => Scope::Read,
            KeyScope::Write => Scope::Write,
            KeyScope::Admin => Scope::Admin,
        };
        Self { identity, scopes: key.scopes.iter().map(scope).collect(), cubes: key.cubes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_texts_are_keys_and_differ() {
        let ((first, hash), (second, _)) = (new_text(true).unwrap(), new_text(false).unwrap());
        assert_eq!(hash_of(first.expose()), Some(hash));
        assert_eq!((first.expose().len(), second.expose().len()), (67, 69));
        assert_ne!(first.expose()[3..], second.expose()[5..]);
        assert!(!format!("{first:?}").contains(&first.expose()[3..]));
    }

    #[test]
    fn what_cannot_be_a_key_has_no_hash() {
        let digits = "0123456789abcdef".repeat(4);
        assert!(hash_of(&format!("krlk_{digits}")).is_some());
        for text in
            ["", "mk_", &digits, &format!("mk_{digits}0"), &format!("sk-{digits}"), &format!("mk_{}", "é".repeat(32))]
        {
            assert_eq!(hash_of(text), None, "{text}");
        }
    }
}
