//! One memory of a monitor, and how much it matters.

use mos_core::MemoryId;
use serde::{Deserialize, Serialize};

use super::{MAX_TEXT, clipped, mapping_key};

/// What a point of keywords counts, and how many points count.
const KEYWORD_POINT: f64 = 0.05;
const MAX_KEYWORD_POINTS: f64 = 5.0;

/// What one more recording counts, and how many points count.
const RECORDING_POINT: f64 = 0.05;
const MAX_RECORDING_POINTS: f64 = 2.0;

/// How much each part of the importance weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportanceWeights {
    /// The place among what was retrieved last.
    pub sorting: f64,
    /// Keywords of the latest questions.
    pub keywords: f64,
    /// How often it was recorded.
    pub recording: f64,
}

impl Default for ImportanceWeights {
    /// MemOS' numbers.
    fn default() -> Self {
        Self { sorting: 0.9, keywords: 0.05, recording: 0.05 }
    }
}

/// Returns the importance of a memory by MemOS' formula. Scores below 0 mean that they are not set, and count as 0.
pub fn importance(sorting_score: f64, keywords_score: f64, recording_count: u64, weights: ImportanceWeights) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "40 recordings count as much as all that come after them")]
    let recordings = recording_count as f64;
    let keywords = (KEYWORD_POINT * keywords_score.max(0.0)).min(MAX_KEYWORD_POINTS);
    let recordings = (RECORDING_POINT * recordings).min(MAX_RECORDING_POINTS);
    weights.sorting * sorting_score.max(0.0) + weights.keywords * keywords + weights.recording * recordings
}

/// A memory as a monitor knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorItem {
    /// The memory; `None` for a text that is no memory.
    pub memory_id: Option<MemoryId>,
    /// The beginning of its text.
    pub memory_text: String,
    /// The key of that text.
    pub mapping_key: String,
    /// How well it fits the keywords of the latest questions.
    pub keywords_score: f64,
    /// Its place among what was retrieved last: as many points as there were memories for the first, 1 for the last.
    pub sorting_score: f64,
    /// How much it matters: [`importance`].
    pub importance_score: f64,
    /// How many turns in a row it was among what a turn chose.
    pub recording_count: u64,
    /// How many turns retrieved it since it came in.
    #[serde(default)]
    pub recalls: u64,
    /// How many turns it has been in.
    #[serde(default)]
    pub turns: u64,
}

impl MonitorItem {
    /// Returns a memory that was recorded once.
    pub fn new(memory_id: Option<MemoryId>, text: &str, sorting_score: f64, keywords_score: f64) -> Self {
        let memory_text = clipped(text, MAX_TEXT);
        let mut item = Self {
            memory_id,
            mapping_key: mapping_key(&memory_text),
            memory_text,
            keywords_score,
            sorting_score,
            importance_score: 0.0,
            recording_count: 1,
            recalls: 0,
            turns: 0,
        };
        item.weigh();
        item
    }

    /// Computes the importance from the scores.
    pub(super) fn weigh(&mut self) {
        let weights = ImportanceWeights::default();
        self.importance_score = importance(self.sorting_score, self.keywords_score, self.recording_count, weights);
    }

    /// Whether both are of one memory.
    pub(super) fn is_memory_of(&self, other: &Self) -> bool {
        self.memory_id.is_some() && self.memory_id == other.memory_id
    }

    /// Whether both say the same but for case, blanks and signs.
    pub(super) fn says_what(&self, other: &Self) -> bool {
        !self.mapping_key.is_empty() && self.mapping_key == other.mapping_key
    }

    /// Gives it the text that its memory has now.
    pub(crate) fn refresh(&mut self, text: &str) {
        self.memory_text = clipped(text, MAX_TEXT);
        self.mapping_key = mapping_key(&self.memory_text);
    }
}
