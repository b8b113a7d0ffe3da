//! When memories become activation memory, and how many.

use std::time::Duration;

/// The most bytes that [`PromotionOptions::max_bytes`] allows: what was promoted is kept in a document.
const BYTES_LIMIT: usize = 100_000;

/// How promotion works. The interval and the number of memories are MemOS'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromotionOptions {
    /// Whether memories are promoted (`enable_activation_memory`). What was promoted before is withdrawn when they are not.
    pub is_enabled: bool,
    /// How long a cube's activation memory stays as it is for a user, at least (`act_mem_update_interval`).
    pub interval: Duration,
    /// How many memories are promoted at most (`activation_mem_monitor_capacity`).
    pub max_texts: usize,
    /// How many bytes their texts have at most, in all; never more than 100,000. A memory that does not fit is left out.
    pub max_bytes: usize,
    /// After how many turns in working memory a memory counts as stable.
    pub stable_turns: u64,
    /// After how many retrievals a memory counts as stable, however short it has been in working memory.
    pub stable_recalls: u64,
}

impl Default for PromotionOptions {
    fn default() -> Self {
        Self {
            is_enabled: false,
            interval: Duration::from_secs(300),
            max_texts: 20,
            max_bytes: 16_384,
            stable_turns: 2,
            stable_recalls: 3,
        }
    }
}

impl PromotionOptions {
    pub(super) fn byte_limit(&self) -> usize {
        self.max_bytes.min(BYTES_LIMIT)
    }
}
