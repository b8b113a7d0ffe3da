//! What can go wrong with kept caches, sorted by what the caller can do about it.

use std::path::Path;

use mos_core::{BoxError, MemoryError, ModelError, StoreError};

use crate::pickle::PickleError;

/// What went wrong with a kept cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// Give a text or messages.
    #[error("there is nothing to compute a cache from: {0}")]
    Empty(&'static str),
    /// Fix the call; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// Compute the cache again from its kept text, or open the model that it was made with.
    #[error(
        "{what} was computed with the model {found}, but this is {wanted}; compute it again from its text \
         (`mos kv extract`, or load with `ForeignItems::Recompute`), or open the model that it was made with"
    )]
    ForeignModel {
        /// The item or file.
        what: String,
        /// The model that the cache belongs to.
        found: String,
        /// The model that is open.
        wanted: String,
    },
    /// Merge items of one model only.
    #[error(
        "the items cannot be merged: {first_item} was computed with {first}, {second_item} with {second}; \
         compute one of them again with the other's model"
    )]
    MixedModels {
        /// An item.
        first_item: String,
        /// Its model.
        first: String,
        /// An item of another model.
        second_item: String,
        /// Its model.
        second: String,
    },
    /// Use fewer or shorter items, or a model with a longer context.
    #[error("the cache has {n_tokens} tokens and the model takes {limit}; use fewer or shorter items")]
    TooLong {
        /// Tokens that were asked for.
        n_tokens: usize,
        /// Tokens that the model takes.
        limit: usize,
    },
    /// Raise the tier's budget, or keep shorter items: this one can never fit.
    #[error("one item takes {item_bytes} bytes, but the whole budget of the {tier} tier is {budget_bytes}; raise it")]
    BudgetTooSmall {
        /// `RAM`, `disk` or `remote`.
        tier: &'static str,
        /// Bytes that the tier may hold.
        budget_bytes: u64,
        /// Bytes of the item.
        item_bytes: u64,
    },
    /// Delete items, raise the tier's budget, or add a tier below it.
    #[error(
        "the {tier} tier holds {used_bytes} of {budget_bytes} bytes and nothing can make room for {item_bytes} more; \
         delete items, raise the budget, or add a tier below"
    )]
    NoRoom {
        /// `RAM`, `disk` or `remote`.
        tier: &'static str,
        /// Bytes that the tier may hold.
        budget_bytes: u64,
        /// Bytes that it holds.
        used_bytes: u64,
        /// Bytes of the item.
        item_bytes: u64,
    },
    /// The file ends too early: write it again, or load a whole copy.
    #[error("{what} is truncated: {detail}; dump it again, or copy the whole file")]
    Truncated {
        /// The file.
        what: String,
        /// Where it ends.
        detail: String,
    },
    /// The file's content is not what was written: restore it, or compute the item again.
    #[error("{what} is damaged: {detail}; restore it from a copy, or compute the item again from its text")]
    Damaged {
        /// The file.
        what: String,
        /// How it shows.
        detail: String,
    },
    /// Use a newer program: a newer one wrote the file.
    #[error("{what} has the format {found}, this program knows {known}; use a newer `mos`, the file is unchanged")]
    Newer {
        /// The file.
        what: String,
        /// The format found.
        found: String,
        /// The newest format known.
        known: &'static str,
    },
    /// Do not trust the file, or copy it again; nothing in it was executed.
    #[error("{path}: {source}")]
    Pickle {
        /// The file.
        path: String,
        /// What was refused, and where.
        source: PickleError,
    },
    /// Nothing can compute the item again: its text was not kept.
    #[error("item {0} keeps no text to compute it from; extract it anew")]
    NoText(String),
    /// The item's keys and values are not here: it was read from JSON, which never holds them.
    #[error("item {0} holds no keys and values: it was read from its JSON form; load it from its dump, or compute it")]
    NoState(String),
    /// Fix permissions or free space; nothing was half-written.
    #[error("{what}: {source}")]
    Io {
        /// The file or folder, and what was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Retry: the remote store failed; nothing half-written is visible.
    #[error("the remote tier failed while {context}: {source}")]
    Remote {
        /// What was being done.
        context: &'static str,
        /// What the store said.
        source: BoxError,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl KvError {
    pub(crate) fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what: format!("{doing} {}", path.display()), source }
    }

    pub(crate) fn damaged(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Damaged { what: what.into(), detail: detail.to_string() }
    }

    pub(crate) fn truncated(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Truncated { what: what.into(), detail: detail.to_string() }
    }

    /// A defect of ours or of a library.
    pub(crate) fn internal(context: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Model(ModelError::Internal { context, source: source.into() })
    }
}

impl From<KvError> for MemoryError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Model(error) => Self::Model(error),
            KvError::TooLong { n_tokens, limit } => Self::Model(ModelError::TooLong { n_tokens, limit }),
            KvError::Io { what, source } => Self::File { path: what, detail: source.to_string() },
            KvError::Truncated { ref what, .. }
            | KvError::Damaged { ref what, .. }
            | KvError::Newer { ref what, .. } => Self::File { path: what.clone(), detail: error.to_string() },
            error @ KvError::Remote { .. } => {
                Self::Store(StoreError::Unavailable { backend: "object_store", source: error.into() })
            }
            KvError::Pickle { path, source } => Self::File { path, detail: source.to_string() },
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<KvError> for ModelError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Model(error) => error,
            KvError::TooLong { n_tokens, limit } => Self::TooLong { n_tokens, limit },
            KvError::Remote { .. } => Self::Unavailable(error.to_string()),
            other => Self::Invalid(other.to_string()),
        }
    }
}
