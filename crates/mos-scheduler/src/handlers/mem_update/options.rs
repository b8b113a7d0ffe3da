//! How working memory follows the conversation.

use std::time::Duration;

use crate::monitor::{MAX_CAPACITY, RETENTION};
use crate::promote::PromotionOptions;

/// How turns work. The defaults are MemOS'.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnOptions {
    /// How many memories a turn chooses (`top_k`).
    pub top_k: usize,
    /// How many questions the monitor of questions keeps (`context_window_size`).
    pub context_window_size: usize,
    /// How many keywords a question has at most (`query_key_words_limit`).
    pub keywords: usize,
    /// How many memories the monitor of working memory holds at most (`working_mem_monitor_capacity`), and never more than 50.
    pub working_mem_monitor_capacity: usize,
    /// How many memories working memory takes. Its monitor holds two more at most.
    pub working_memory_limit: usize,
    /// How many memories stay that a turn did not choose again.
    pub retention: usize,
    /// From which TF-IDF cosine on two memories count as repetitions of one another.
    pub same_from: f64,
    /// Memories whose text is shorter are left out. A Chinese character counts as two.
    pub least_length: usize,
    /// After how long without a retrieval memories are retrieved although the model found the working memory enough
    /// (`query_trigger_interval`); `None`: the model's word counts.
    pub retrieve_after: Option<Duration>,
    /// When working memories become activation memory.
    pub promotion: PromotionOptions,
}

impl Default for TurnOptions {
    fn default() -> Self {
        Self {
            top_k: 5,
            context_window_size: 5,
            keywords: 20,
            working_mem_monitor_capacity: 30,
            working_memory_limit: 20,
            retention: RETENTION,
            same_from: 0.75,
            least_length: 6,
            retrieve_after: None,
            promotion: PromotionOptions::default(),
        }
    }
}

impl TurnOptions {
    /// How many memories the monitor of working memory holds.
    pub fn working_capacity(&self) -> usize {
        self.working_mem_monitor_capacity.min(self.working_memory_limit.saturating_add(2)).clamp(1, MAX_CAPACITY)
    }
}
