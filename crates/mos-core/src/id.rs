//! Names of users, cubes, sessions and memories.
//!
//! Every id is opaque text: ids minted elsewhere keep their exact spelling and may hold `/`, `..`, spaces and
//! any Unicode. Therefore an id is never used as a path or as the name of a collection. Clones share their text: a search
//! hands thousands of ids on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::MemoryError;

/// The most bytes an id may have.
pub const MAX_ID_BYTES: usize = 512;

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the id as it was given.
            ///
            /// # Errors
            /// [`MemoryError::Invalid`] when `text` is empty, longer than [`MAX_ID_BYTES`] or holds control characters.
            pub fn parse(text: impl Into<String>) -> Result<Self, MemoryError> {
                let text: String = text.into();
                check_id($what, &text)?;
                Ok(Self(text.into()))
            }

            /// Wraps text that is known to be a good id (a literal, or one read back from a store).
            pub fn new(text: impl Into<String>) -> Self {
                let text: String = text.into();
                Self(text.into())
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

opaque_id!(
    /// Names one memory for its whole life, across dump, load and merge.
    MemoryId,
    "memory"
);
opaque_id!(
    /// Names one user.
    UserId,
    "user"
);
opaque_id!(
    /// Names one memory cube; the wall between tenants.
    CubeId,
    "cube"
);
opaque_id!(
    /// Names one conversation of a user.
    SessionId,
    "session"
);
opaque_id!(
    /// Names one job in a queue, within its cube.
    JobId,
    "job"
);
opaque_id!(
    /// Names one activation memory (a kept KV cache).
    ActivationId,
    "activation"
);
opaque_id!(
    /// Names one key that somebody proves themselves with; no secret.
    KeyId,
    "key"
);

fn check_id(what: &str, text: &str) -> Result<(), MemoryError> {
    let fault = if text.is_empty() {
        "is empty; give it at least one character".to_owned()
    } else if text.len() > MAX_ID_BYTES {
        format!("has {} bytes; at most {MAX_ID_BYTES} are allowed", text.len())
    } else if text.chars().any(char::is_control) {
        "holds control characters; remove them".to_owned()
    } else {
        return Ok(());
    };
    Err(MemoryError::Invalid(format!("the {what} id {fault}")))
}

/// Makes new ids; injected, so that tests can foresee them.
pub trait IdSource: fmt::Debug + Send + Sync {
    /// Returns a new UUID in its hyphenated lower-case form.
    fn next_uuid(&self) -> String;
}

/// Random (version 4) UUIDs.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

#[allow(clippy::disallowed_methods, reason = "this is the one place that makes ids")]
impl IdSource for RandomIds {
    fn next_uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_exact_spelling() {
        for text in ["root/mem_cube_kv_cache", "../x", "a b", "记忆"] {
            assert_eq!(CubeId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn empty_long_and_control_ids_are_refused() {
        for text in [String::new(), "x".repeat(MAX_ID_BYTES + 1), "a\nb".to_owned()] {
            assert!(UserId::parse(text).is_err());
        }
    }
}
