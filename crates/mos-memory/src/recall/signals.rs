//! What speaks for a memory, and what it comes to.

use mos_core::text_memory::Signal;

use super::options::Weights;

/// The signals of one memory, before they are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// Shared words, with those of the memories around.
    pub words: f32,
    /// Ten times the cosine of the question with the window of five memories.
    pub context: f32,
    /// Ten times the cosine of the question with the memory.
    pub vector: f32,
    /// 1 when the question is about who said it.
    pub speaker: f32,
    /// Up to 1 when the question names its days.
    pub date: f32,
    /// 1 when the question asks for a time and the memory tells one.
    pub time: f32,
    /// 1 for a memory that is a question itself.
    pub question: f32,
    /// 1 for a memory that was drawn from messages and is none itself.
    pub drawn: f32,
    /// Up to 1: 1 for a memory whose key is asked for; the part that it has of the tags that are asked for, from two on; what
    /// comes over edges from good memories.
    pub graph: f32,
    /// 1 for a memory of the session that comes first.
    pub session_priority: f32,
    /// What better memories of its session cost it, from 0 down; it is added to the score as it is.
    pub session: f32,
}

impl Signals {
    /// Returns the score.
    pub fn score(&self, weights: &Weights) -> f32 {
        weights.words * self.words
            + weights.context * self.context
            + weights.vector * self.vector
            + weights.speaker * self.speaker
            + weights.date * self.date
            + weights.time * self.time
            + weights.question * self.question
            + self.session
            // Last: what has neither keeps its score to the bit.
            + weights.graph * self.graph
            + weights.session_priority * self.session_priority
            + weights.drawn * self.drawn
    }

    /// Returns the signals by name; those that are 0 say nothing and are left out, but for `vector`.
    pub fn named(&self) -> Vec<Signal> {
        let all = [
            ("vector", self.vector),
            ("context", self.context),
            ("words", self.words),
            ("speaker", self.speaker),
            ("date", self.date),
            ("time", self.time),
            ("question", self.question),
            ("drawn", self.drawn),
            ("graph", self.graph),
            ("session_priority", self.session_priority),
            ("session", self.session),
        ];
        let says = |(name, score): &(&'static str, f32)| *name == "vector" || *score != 0.0;
        all.into_iter().filter(says).map(|(name, score)| Signal { name, score }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_the_weighted_sum() {
        let signals =
            Signals { words: 2.0, context: 4.0, vector: 5.0, speaker: 1.0, date: 0.5, time: 1.0, ..Signals::default() };
        // 3.6 + 3 + 1 + 2.6 + 2.2 + 2.6
        assert!((signals.score(&Weights::default()) - 15.0).abs() < 1e-5);
        let penalised = Signals { session: -0.3, ..signals };
        assert!((penalised.score(&Weights::default()) - 14.7).abs() < 1e-5);
        let asking = Signals { question: 1.0, ..signals };
        assert!((asking.score(&Weights::default()) - 14.4).abs() < 1e-5);
        let connected = Signals { graph: 0.5, session_priority: 1.0, ..signals };
        assert!((connected.score(&Weights::default()) - 21.0).abs() < 1e-5);
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let names = |signals: Signals| signals.named().into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(Signals::default()), ["vector"]);
        let some = Signals { words: 1.0, question: 1.0, session: -0.15, ..Signals::default() };
        assert_eq!(names(some), ["vector", "words", "question", "session"]);
    }
}
