//! Monitors: what of a cube a user's conversation is about, and how much each memory has mattered to it.
//!
//! A [`MonitorList`] holds memories in the order of their importance; a [`QueryMonitor`] the latest questions and their
//! keywords. Both are kept per user and cube as documents of a [`StateStore`](mos_core::StateStore): what a user asked moves
//! nothing for the other users of a shared cube.
//!
//! Not here: which memories come in (the turn), which of them become activation memory ([`promote`](crate::promote)).

mod forgetting;
mod item;
mod key;
mod keywords;
mod list;
mod queries;
mod similar;
mod stored;

pub use forgetting::{forget, forget_user};
pub use item::{ImportanceWeights, MonitorItem, importance};
pub use key::{is_all_chinese, is_all_english, mapping_key};
pub use keywords::{content_words, keywords_score};
pub use list::{MonitorList, RETENTION};
pub use queries::{QueryItem, QueryMonitor};
pub use similar::{TfIdf, is_same_text};
pub use stored::{MonitorKind, monitors, query_monitor};

pub(crate) use similar::distinct;
pub(crate) use stored::{QUERIES, Stored, WorkingState, load, prefix, read, save};

/// The most characters of a memory's text that a monitor keeps; the memory itself has all of it.
pub(crate) const MAX_TEXT: usize = 1_000;

/// The most characters of a question that are kept.
pub(crate) const MAX_QUERY: usize = 4_000;

/// The most memories of a list: with [`MAX_TEXT`] it stays within a document.
pub(crate) const MAX_CAPACITY: usize = 50;

/// The first `n` characters.
pub(crate) fn clipped(text: &str, n: usize) -> String {
    text.chars().take(n).collect()
}
