//! What a run has done.

use std::collections::BTreeMap;

use mos_core::MemoryId;
use serde::Serialize;

/// The most failures that are told one by one.
const MAX_FAILURES: usize = 100;

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// What contradicts or repeats each other is settled.
    Conflicts,
    /// What belongs together gets a topic.
    Topics,
    /// What has to do with each other is linked.
    Relations,
}

impl Step {
    /// Every part, in the order in which they are done.
    pub const ALL: [Self; 3] = [Self::Conflicts, Self::Topics, Self::Relations];
}

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

    /// Takes what a following run has done into this report; what is left is what that one left.
    pub fn absorb(&mut self, next: Self) {
        self.n_pairs += next.n_pairs;
        self.n_model_calls += next.n_model_calls;
        self.n_independent += next.n_independent;
        self.n_closed += next.n_closed;
        self.n_merged += next.n_merged;
        self.n_replaced += next.n_replaced;
        self.n_deduplicated += next.n_deduplicated;
        self.n_conflict_candidates += next.n_conflict_candidates;
        self.n_joined += next.n_joined;
        self.n_topics += next.n_topics;
        self.n_top_topics += next.n_top_topics;
        for (kind, n_edges) in next.relations {
            *self.relations.entry(kind).or_default() += n_edges;
        }
        self.n_inferred += next.n_inferred;
        self.n_aggregates += next.n_aggregates;
        self.created.extend(next.created);
        self.n_failures += next.n_failures;
        let room = MAX_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(next.failures.into_iter().take(room));
        next.notes.iter().for_each(|note| self.note(note));
        self.left = next.left;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_runs_that_follow_each_other_are_one() {
        let ids = |number: u32| vec![MemoryId::new(format!("00000000-0000-4000-8000-{number:012}"))];
        let run = |number: u32, relation: &str| {
            let mut report = Report { n_pairs: 2, n_closed: 1, created: ids(number), ..Report::default() };
            report.count_relation(relation);
            report.fail("conflicts", ids(number), "the model is away".to_owned());
            report.note("no model");
            report.left.conflicts = ids(number);
            report
        };
        let mut whole = run(1, "CAUSE");
        whole.absorb(run(2, "CAUSE"));
        whole.absorb(Report { left: LeftOver::default(), ..run(3, "RELATE") });
        assert_eq!((whole.n_pairs, whole.n_closed, whole.n_failures, whole.failures.len()), (6, 3, 3, 3));
        assert_eq!(whole.relations, BTreeMap::from([("CAUSE".to_owned(), 2), ("RELATE".to_owned(), 1)]));
        assert_eq!((whole.created.len(), whole.notes.len()), (3, 1));
        assert!(whole.left.is_empty(), "what was left in between is done");
    }
}
