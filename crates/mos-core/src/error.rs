//! What can go wrong, sorted by what the caller can do about it.

use std::time::Duration;

use crate::embed::EmbeddingSpace;
use crate::validate::ValidationError;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Ask for something else: it is not there.
    #[error("no {what} `{id}` here")]
    NotFound {
        /// The kind of thing, for example `memory`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Fix the request.
    #[error("{0}")]
    Invalid(String),
    /// Fix the embedding: its length is not the one the store holds.
    #[error("the embedding has {got} dimensions, the store holds {want}")]
    Dimension {
        /// Length of the embedding that was given.
        got: usize,
        /// Length of the embeddings that are stored.
        want: usize,
    },
    /// Choose the other encoder, or embed the cube anew.
    #[error(
        "cube `{cube}` was embedded with {have}, but the configured encoder is {got}; \
         run `mos cube reembed {cube}`, or configure the encoder that the cube was made with"
    )]
    EmbeddingSpace {
        /// The cube.
        cube: String,
        /// What the cube's embeddings were made with.
        have: EmbeddingSpace,
        /// What the caller's embeddings were made with.
        got: EmbeddingSpace,
    },
    /// Read again and decide anew: somebody else changed it, or it exists already.
    #[error("{0}")]
    Conflict(String),
    /// Wait until there is room, or make some. Nothing was added.
    #[error("{what} is full: at most {limit} fit; {detail}")]
    Full {
        /// What is full, for example the queue of a cube.
        what: String,
        /// How many it takes.
        limit: usize,
        /// What it is full of, and what to do.
        detail: String,
    },
    /// Retry with backoff: another process holds the store; writes are idempotent.
    #[error("{what} is held by another process: {detail}")]
    Busy {
        /// What is held, for example the path of the database.
        what: String,
        /// Who holds it, as far as it is known, and what to do.
        detail: String,
    },
    /// Retry with backoff; writes are idempotent.
    #[error("{backend} is unavailable")]
    Unavailable {
        /// The backend's configuration key.
        backend: &'static str,
        /// The driver's error.
        #[source]
        source: BoxError,
    },
    /// Free space, or fix permissions: the disk refused a write. Nothing was half-written.
    #[error("cannot write to {path}: {detail}; nothing was changed")]
    Storage {
        /// The file or folder.
        path: String,
        /// What the system said and what to do.
        detail: String,
    },
    /// Fix the settings or the server: it answers, but not to this address, user, password or database.
    #[error("{backend}: {detail}")]
    Refused {
        /// The backend's configuration key.
        backend: &'static str,
        /// What the server refused and what to do. Holds no secret.
        detail: String,
    },
    /// Use a newer program: the data was written by one.
    #[error(
        "{path} has format version {found}, this program knows up to {known}; use a newer `mos`, the data is unchanged"
    )]
    Newer {
        /// The file.
        path: String,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// Restore from a backup: the data is damaged.
    #[error("{what} is damaged: {detail}")]
    Corrupt {
        /// What is damaged.
        what: String,
        /// How it shows, and what to do.
        detail: String,
    },
    /// Build with the feature.
    #[error("this build lacks the `{feature}` feature")]
    NotBuilt {
        /// The cargo feature.
        feature: &'static str,
    },
    /// Report it: a driver failed in a way that has no remedy of its own.
    #[error("{backend}: {source}")]
    Backend {
        /// The backend's configuration key.
        backend: &'static str,
        /// The driver's error.
        source: BoxError,
    },
}

/// What went wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Fetch the model, or correct its name; the text says how.
    #[error("{0}")]
    NotFound(String),
    /// Replace the model's files: they cannot be used; the text says which file and why.
    #[error("{0}")]
    BadModel(String),
    /// Fix the request (empty, too long, not accepted by the server).
    #[error("{0}")]
    Invalid(String),
    /// Shorten the conversation.
    #[error("the conversation has {n_tokens} tokens and the model takes {limit}; shorten it or clear the history")]
    TooLong {
        /// Tokens of the conversation.
        n_tokens: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// Build with the feature, or ask for something that this build can do.
    #[error(
        "{what} needs the `{feature}` feature, which this build lacks; build it with `cargo build --features {feature}`"
    )]
    NotBuilt {
        /// What was asked for.
        what: String,
        /// The cargo feature.
        feature: &'static str,
    },
    /// Fix the credentials.
    #[error("{0}")]
    Denied(String),
    /// Wait, then retry.
    #[error("the model server asks to slow down")]
    RateLimited {
        /// How long the server asked to wait, when it said so.
        retry_after: Option<Duration>,
    },
    /// Wait until the period is over, or raise the limit: the tokens that may be used are used up. No model was asked.
    #[error(
        "{whose} has used {used} of {limit} tokens {period}{}; wait, or raise `{key}` under `model_budget` in the settings",
        on_their_way(*.expected)
    )]
    BudgetSpent {
        /// Whose budget, for example "user `ann`".
        whose: String,
        /// Tokens used so far in the period.
        used: u64,
        /// Tokens that answers on their way may take.
        expected: u64,
        /// Tokens that may be used.
        limit: u64,
        /// `today (UTC)` or `in all`.
        period: &'static str,
        /// The key of the limit in the settings.
        key: &'static str,
    },
    /// Retry later: no connection, or a time-out. Secrets are masked.
    #[error("{0}")]
    Unavailable(String),
    /// Retry later: the model server failed.
    #[error("{fault}")]
    ServerFault {
        /// Which server, and its status.
        fault: String,
        /// What the server said. It is a source, and no part of the text, because it may repeat the request, which holds
        /// memories: whoever asked may read it, a log may not.
        #[source]
        said: ServerWords,
    },
    /// Retry, or use another model: the answer could not be understood or broke off.
    #[error("{0}")]
    BadAnswer(String),
    /// Nothing to do: the caller stopped listening.
    #[error("the generation was cancelled")]
    Cancelled,
    /// Report it.
    #[error("{context}: {source}")]
    Internal {
        /// What was being done.
        context: &'static str,
        /// The cause.
        source: BoxError,
    },
}

/// What a server said of its failure, short and without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServerWords(pub String);

/// Tells of tokens that are not used yet.
fn on_their_way(expected: u64) -> String {
    if expected == 0 { String::new() } else { format!(", and answers on their way may take {expected} more") }
}

impl ModelError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. }) || self.is_away()
    }

    /// Whether nobody answers, or a server that failed.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::ServerFault { .. })
    }

    /// Returns what may be logged of it: what was said of a request or an answer is left out, because it may repeat texts
    /// of either.
    pub fn without_quotes(&self) -> String {
        match self {
            Self::BadAnswer(_) => "its answer broke off or could not be used".to_owned(),
            Self::Invalid(_) => "it refused the request".to_owned(),
            error => error.to_string(),
        }
    }
}

/// What went wrong in a memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Fix the input; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// Fix the fields that are named.
    #[error(transparent)]
    Validation(#[from] ValidationError),
    /// Ask for another memory.
    #[error("Memory with ID {0} not found")]
    NotFound(crate::id::MemoryId),
    /// Choose another memory backend: this one cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// A file could not be read or written; the text names it.
    #[error("{path}: {detail}")]
    File {
        /// The file or folder.
        path: String,
        /// What failed and what to do.
        detail: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}
