//! What can go wrong at the facade, sorted by what the caller can do.

use mos_core::{CubeId, MemoryError, ModelError, StoreError, UserId};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Create the user first, or use another.
    #[error("User '{0}' does not exist or is inactive. Please register the user first.")]
    UnknownUser(UserId),
    /// Ask the owner to share the cube. Also the answer for a cube that does not exist, so that nobody learns
    /// which cubes others have.
    #[error("User '{user}' does not have access to cube '{cube}'. Please register the cube first or request access.")]
    NoAccess {
        /// Who asked.
        user: UserId,
        /// For which cube.
        cube: CubeId,
    },
    /// Ask the owner for the right to write.
    #[error(
        "User '{user}' may read cube '{cube}' but not write to it; ask its owner to share it with the right to read and \
         write."
    )]
    NotWriter {
        /// Who asked.
        user: UserId,
        /// For which cube.
        cube: CubeId,
    },
    /// The user's role does not allow this; the text says whose does.
    #[error("User '{user}' may not {what}.")]
    NotAllowed {
        /// Who asked.
        user: UserId,
        /// What the user may not do, and who may.
        what: String,
    },
    /// Only the owner may do this.
    #[error("User '{user}' may use cube '{cube}' but does not own it; ask its owner to do this.")]
    NotOwner {
        /// Who asked.
        user: UserId,
        /// For which cube.
        cube: CubeId,
    },
    /// Create or register a cube.
    #[error("No accessible cubes found for user '{0}'. Please register a cube first.")]
    NoCube(UserId),
    /// Register the cube again.
    #[error("MemCube with ID {0} is not registered. Please register it first.")]
    NotRegistered(CubeId),
    /// Fix the input; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// Fix the settings; the text says where.
    #[error(transparent)]
    Config(#[from] mos_config::ConfigError),
    /// A plugin refused the operation, or could not be loaded; its reason says what to change.
    #[error("plugin `{name}`: {reason}")]
    Plugin {
        /// The plugin.
        name: String,
        /// Why.
        reason: String,
    },
    /// A memory failed.
    #[error(transparent)]
    Memory(MemoryError),
}

impl Error {
    /// Returns what may be logged of it: what a model said is left out, as [`ModelError::without_quotes`] does.
    pub fn without_quotes(&self) -> String {
        match self {
            Self::Memory(MemoryError::Model(error)) => error.without_quotes(),
            error => error.to_string(),
        }
    }
}

impl From<MemoryError> for Error {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Invalid(text) => Self::Invalid(text),
            other => Self::Memory(other),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Memory(MemoryError::Store(error))
    }
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        Self::Memory(MemoryError::Model(error))
    }
}

/// What a call of the facade returns.
pub type Result<T> = std::result::Result<T, Error>;
