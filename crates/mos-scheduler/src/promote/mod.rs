//! Activation memory that is computed ahead of time: memories that stay in working memory become the beginning of the cube's
//! next chats, and go the way back when they do not matter any more.
//!
//! Which memories those are is decided by what the monitor of working memory counted. They are composed in a fixed order, so
//! that the same memories give the same beginning, which is computed once. What was promoted, what is being promoted and what
//! has to be cleaned up stands in one document per user and cube, written before and after each step: whenever the process
//! ends, the next run finds what it left behind. Only what promotion made itself is ever deleted.
//!
//! Not here: how caches are computed and kept ([`CubeActivation`](crate::CubeActivation)).

mod choose;
mod options;
mod read;
mod retire;
mod run;
mod target;

use std::time::Duration;

use jiff::Timestamp;
use mos_core::{ActivationId, MemoryId};
use serde::{Deserialize, Serialize};

pub use options::PromotionOptions;
pub use read::{Promoted, PromotedMemory, is_as_promoted, promoted, retired};
pub use retire::{Fate, RetireReason, Retired, RetiredMemory};
pub use run::{Outcome, Promotion, PromotionParts, run, withdraw};
pub use target::PromotionTarget;

/// Under which name the documents of promotion stand.
pub(crate) const DOCUMENT: &str = "promotion";

/// Whether so much time lies between two moments.
pub(crate) fn has_passed(since: Timestamp, interval: Duration, now: Timestamp) -> bool {
    // A clock that was set back must not stop promotion until it has caught up.
    Duration::try_from(now.duration_since(since)).map_or(true, |passed| passed >= interval)
}

/// A memory and what it said when it was promoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) id: MemoryId,
    pub(crate) text: String,
}

/// A cache that promotion made use of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: ActivationId,
    pub(crate) sources: Vec<Source>,
    pub(crate) at: Timestamp,
    /// Whether promotion made it. A cache of the same name that was there before belongs to somebody else.
    pub(crate) is_ours: bool,
}

/// A cache that is being made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) sources: Vec<Source>,
    /// How many caches the cube had before.
    pub(crate) n_items: usize,
}

/// A cache that is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retiring {
    pub(crate) kept: Kept,
    pub(crate) reason: RetireReason,
}

/// What is known about a user's promoted memories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PromotionState {
    /// When it was last looked whether the set has changed.
    pub(crate) checked_at: Option<Timestamp>,
    /// What chats begin with.
    pub(crate) current: Option<Kept>,
    /// What is being made.
    pub(crate) pending: Option<Pending>,
    /// What has to go.
    pub(crate) retiring: Vec<Retiring>,
}

impl PromotionState {
    /// Whether an earlier run left something to do.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.pending.is_some() || !self.retiring.is_empty()
    }
}

pub(crate) fn texts(sources: &[Source]) -> Vec<String> {
    sources.iter().map(|source| source.text.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_passes_once_and_a_clock_that_goes_back_stops_nothing() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let minute = Duration::from_secs(60);
        assert!(!has_passed(at(100), minute, at(159)));
        assert!(has_passed(at(100), minute, at(160)));
        assert!(has_passed(at(100), minute, at(10)));
        assert!(has_passed(at(100), Duration::ZERO, at(100)));
    }
}
