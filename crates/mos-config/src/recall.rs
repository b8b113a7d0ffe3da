//! How memories are ranked for a question.

use crate::read::{Fields, nothing_given};

section! {
    /// How much each signal counts in the score of a memory, which is their weighted sum; 0 leaves a signal out.
    pub struct RecallWeights {
        /// Words shared with the question, by the memory and those around it in its session.
        default words: f64 = 1.8,
        /// Ten times the cosine of the question with the memory and those around it in its session.
        default context: f64 = 0.75,
        /// Ten times the cosine of the question with the memory.
        default vector: f64 = 0.2,
        /// 1 when the question is about who said it.
        default speaker: f64 = 2.6,
        /// Up to 1 when the question names the days on which it was said, or which it speaks of.
        default date: f64 = 4.4,
        /// 1 when the question asks for a time and the memory tells one.
        default time: f64 = 2.6,
        /// 1 for a memory that is a question itself; what answers is seldom one.
        default question: f64 = -0.6,
        /// 1 for a memory that was drawn from messages: between equals the words themselves go first.
        default drawn: f64 = -1.0,
        /// Up to 1 for a memory with a key or tags that are asked for, or at an edge of a good one.
        default graph: f64 = 6.0,
        /// 1 for a memory of the session that comes first, when a search names one.
        default session_priority: f64 = 3.0,
    }
    check: check_weights;
}

section! {
    /// How memories are ranked for a question.
    pub struct RecallConfig {
        /// How much each signal counts.
        default weights: RecallWeights = RecallWeights::default(),
        /// What each hit of a session costs the session's other memories; 0 for no such cost.
        default session_penalty: f64 = 0.15,
        /// How many edges away from a good memory others are looked for, at most 3; 0: edges are not looked at.
        default graph_hops: usize = 1,
        /// Bytes of RAM that the indexes of all cubes may take together.
        default max_bytes: u64 = 256 << 20,
    }
    check: check_recall;
}

impl Default for RecallWeights {
    fn default() -> Self {
        nothing_given()
    }
}

impl Default for RecallConfig {
    fn default() -> Self {
        nothing_given()
    }
}

fn check_weights(weights: &RecallWeights, fields: &mut Fields<'_, '_>) {
    let RecallWeights { words, context, vector, speaker, date, time, question, drawn, graph, session_priority } =
        weights;
    let all = [
        ("words", words),
        ("context", context),
        ("vector", vector),
        ("speaker", speaker),
        ("date", date),
        ("time", time),
        ("question", question),
        ("drawn", drawn),
        ("graph", graph),
        ("session_priority", session_priority),
    ];
    for (key, weight) in all {
        if !(-1000.0..=1000.0).contains(weight) {
            fields.refuse(key, "must be from -1000 to 1000");
        }
    }
}

fn check_recall(recall: &RecallConfig, fields: &mut Fields<'_, '_>) {
    if !(0.0..=1000.0).contains(&recall.session_penalty) {
        fields.refuse("session_penalty", "must be from 0 to 1000");
    }
    if recall.graph_hops > 3 {
        fields.refuse("graph_hops", "must be from 0 to 3");
    }
    if recall.max_bytes == 0 {
        fields.refuse("max_bytes", "must be at least 1; the cube that is searched always stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_to_be_given() {
        assert_eq!(RecallConfig::default().weights, RecallWeights::default());
    }
}
