//! What a run has done.

use std::collections::BTreeMap;

use mos_core::MemoryId;
use serde::Serialize;

/// The most failures that are told one by one.
const MAX_FAILURES: usize = 100;

/// What one run has done, what failed, and what is left to do. Everything that it counts is on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Pairs of memories that were compared.
    pub n_pairs: usize,
    /// Calls of the model, repeated ones included.
    pub n_model_calls: usize,
    /// Pairs that the model found to be compatible; they are not asked about again.
    pub n_independent: usize,
    /// Facts that were closed because a later one took their place.
    pub n_closed: usize,
    /// Pairs that were merged into a new memory.
    pub n_merged: usize,
    /// Older memories that gave way to the newer one as a whole.
    pub n_replaced: usize,
    /// Newer memories that said the same as an older one, which has the sources of both now.
    pub n_deduplicated: usize,
    /// Possible conflicts that were marked for somebody to judge.
    pub n_conflict_candidates: usize,
    /// Memories that joined a topic that existed.
    pub n_joined: usize,
    /// New topics of memories.
    pub n_topics: usize,
    /// New topics of topics.
    pub n_top_topics: usize,
    /// New edges between related memories, by type.
    pub relations: BTreeMap<String, usize>,
    /// New memories that were concluded from two others.
    pub n_inferred: usize,
    /// New memories that sum up related ones.
    pub n_aggregates: usize,
    /// The memories that the run made, in order.
    pub created: Vec<MemoryId>,
    /// How many things failed.
    pub n_failures: usize,
    /// The first 100 of them.
    pub failures: Vec<Failure>,
    /// What was not even tried, and what it would need.
    pub notes: Vec<String>,
    /// What the next run has to look at.
    pub left: LeftOver,
}

/// Something that could not be done. The memories are as they were.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// What was being done: `conflicts`, `topics` or `relations`.
    pub step: &'static str,
    /// The memories that it was about.
    pub memories: Vec<MemoryId>,
    /// Why it failed.
    pub reason: String,
}

/// What a run did not finish, because its budget was used up or something failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    /// Memories to look at again for conflicts.
    pub conflicts: Vec<MemoryId>,
    /// Whether topics are to be looked at again.
    pub topics: bool,
    /// Memories to look at again for relations.
    pub relations: Vec<MemoryId>,
}

impl LeftOver {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.conflicts.is_empty() && !self.topics && self.relations.is_empty()
    }
}

impl Report {
    /// Whether the run has changed what memories say or how they are connected, not only what is remembered of questions.
    pub fn has_changes(&self) -> bool {
        let counts = [
            self.n_closed,
            self.n_merged,
            self.n_replaced,
            self.n_deduplicated,
            self.n_conflict_candidates,
            self.n_joined,
            self.n_topics,
            self.n_top_topics,
            self.n_inferred,
            self.n_aggregates,
        ];
        counts.iter().any(|count| *count > 0) || !self.relations.is_empty()
    }

    pub(super) fn fail(&mut self, step: &'static str, memories: Vec<MemoryId>, reason: String) {
        self.n_failures += 1;
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(Failure { step, memories, reason });
        }
    }

    pub(super) fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }

    pub(super) fn count_relation(&mut self, kind: &str) {
        *self.relations.entry(kind.to_owned()).or_default() += 1;
    }
}
