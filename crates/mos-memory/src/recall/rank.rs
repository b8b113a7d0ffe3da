//! What speaks for each memory, and the order that follows.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::{MemoryId, SessionId};

use super::Asked;
use super::dates::nearness;
use super::index::Index;
use super::options::RecallOptions;
use super::signals::Signals;
use super::window;

/// Similarities are from -1 to 1, words come to some more: this makes them alike.
const SIMILARITY_UNIT: f32 = 10.0;

/// A memory that was found, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// The memory.
    pub id: MemoryId,
    /// Greater is better; comparable between questions. Not greater than that of the one before.
    pub score: f32,
    /// What it is made of.
    pub signals: Signals,
}

/// A row with its signals.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    pub(super) row: u32,
    pub(super) arrival: u64,
    pub(super) score: f32,
    pub(super) signals: Signals,
}

impl Ranked {
    /// Takes in what comes over edges, when that is more than what is known already.
    pub(super) fn connect(&mut self, share: f32, options: &RecallOptions) {
        if share > self.signals.graph {
            self.signals.graph = share;
            self.score = self.signals.score(&options.weights);
        }
    }
}

/// Says for one question what speaks for each memory.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    index: &'a Index,
    asked: &'a Asked<'a>,
    options: &'a RecallOptions,
    /// By row: what shared words are worth.
    words: Vec<f32>,
    /// Rows with a key or tags that are asked for.
    labels: BTreeMap<u32, f32>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(index: &'a Index, asked: &'a Asked<'a>, options: &'a RecallOptions) -> Self {
        let words = index.word_scores(&asked.question.terms, &options.words);
        let labels = index.label_shares(asked.question, asked.hints);
        Self { index, asked, options, words, labels }
    }

    /// The rows with a key or tags that are asked for, those that have most first.
    pub(super) fn labelled(&self) -> Vec<u32> {
        let mut labelled: Vec<(u32, f32)> = self.labels.iter().map(|(row, share)| (*row, *share)).collect();
        labelled.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        labelled.into_iter().map(|(row, _)| row).collect()
    }

    /// Returns a row with its signals; `None` for one that holds no memory. `similarity` is that of the question to a row.
    pub(super) fn judge(&self, row: u32, similarity: impl Fn(u32) -> f32) -> Option<Ranked> {
        let Self { index, options, .. } = self;
        let question = self.asked.question;
        let turn = index.turn(row)?;
        let own = similarity(row);
        let window = window::similarity(row, index.around(row), options.window, similarity) / index.window_length(row);
        let is_meant = question.speaker.is_some() && question.speaker == turn.speaker;
        let priority = self.asked.hints.session.as_ref();
        let signals = Signals {
            words: self.words.get(row as usize).copied().unwrap_or_default(),
            context: SIMILARITY_UNIT * window,
            vector: SIMILARITY_UNIT * own,
            speaker: one_if(is_meant),
            date: nearness(turn.days.iter().copied(), &question.days),
            time: one_if(question.asks_when && turn.tells_time),
            question: one_if(turn.is_question),
            drawn: one_if(turn.is_drawn),
            graph: self.labels.get(&row).copied().unwrap_or_default(),
            session_priority: one_if(priority.is_some_and(|session| is_of(turn.session.as_deref(), session))),
            session: 0.0,
        };
        Some(Ranked { row, arrival: turn.arrival, score: signals.score(&options.weights), signals })
    }
}

/// Whether a session of the index, which begins with its user, is the one that is meant.
fn is_of(session: Option<&str>, meant: &SessionId) -> bool {
    session.and_then(|session| session.split_once('\n')).is_some_and(|(_, name)| name == meant.as_str().trim())
}

fn one_if(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

/// A higher score first, then the earlier first write.
pub(super) fn best_first(left: &Ranked, right: &Ranked) -> Ordering {
    let tie = || (left.arrival, left.row).cmp(&(right.arrival, right.row));
    right.score.total_cmp(&left.score).then_with(tie)
}

/// Keeps the `limit` best, in any order.
pub(super) fn keep_best(ranked: &mut Vec<Ranked>, limit: usize) {
    if limit < ranked.len() {
        if limit > 0 {
            ranked.select_nth_unstable_by(limit - 1, best_first);
        }
        ranked.truncate(limit);
    }
}

/// Returns the `limit` best, best first, ties in the order of their first writes.
pub(super) fn order(index: &Index, mut ranked: Vec<Ranked>, limit: usize, options: &RecallOptions) -> Vec<Ranked> {
    // Whoever comes after these cannot come before them: the penalty changes the order of the best alone.
    keep_best(&mut ranked, limit.max(options.n_penalised));
    ranked.sort_unstable_by(best_first);
    // What was drawn from messages says what they say: it costs the others of their session nothing, and pays nothing.
    let message = |one: &Ranked| index.turn(one.row).filter(|turn| !turn.is_drawn);
    let session = |one: &Ranked| message(one).and_then(|turn| turn.session.clone());
    penalise(&mut ranked, session, options);
    ranked.truncate(limit);
    ranked
}

/// Orders the best anew, so that not all come from one session: each that is taken costs the others of its session
/// something. What comes after the best keeps its order below them.
fn penalise(ranked: &mut [Ranked], session: impl Fn(&Ranked) -> Option<Arc<str>>, options: &RecallOptions) {
    let n_best = options.n_penalised.min(ranked.len());
    let (best, rest) = ranked.split_at_mut(n_best);
    // In the order of `best`, whatever that becomes.
    let mut sessions: Vec<Option<Arc<str>>> = best.iter().map(session).collect();
    for place in 0..best.len() {
        let better = |chosen: usize, other: usize| if best[other].score > best[chosen].score { other } else { chosen };
        let chosen = (place..best.len()).fold(place, better);
        // The ones between keep their order, for ties.
        best[place..=chosen].rotate_right(1);
        sessions[place..=chosen].rotate_right(1);
        let Some((Some(taken), after)) = sessions[place..].split_first() else { continue };
        for (other, session) in best[place + 1..].iter_mut().zip(after) {
            if session.as_ref() == Some(taken) {
                other.score -= options.session_penalty;
                other.signals.session -= options.session_penalty;
            }
        }
    }
    let lowest = best.last().map_or(f32::INFINITY, |one| one.score);
    for one in rest {
        one.score = one.score.min(lowest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(scores: &[f32]) -> Vec<Ranked> {
        let one = |(row, score): (usize, &f32)| Ranked {
            row: row as u32,
            arrival: row as u64,
            score: *score,
            signals: Signals::default(),
        };
        scores.iter().enumerate().map(one).collect()
    }

    fn order_of(scores: &[f32], sessions: &[&str], n_penalised: usize) -> Vec<u32> {
        let mut ranked = ranked(scores);
        let session = |one: &Ranked| Some(sessions[one.row as usize]).filter(|name| !name.is_empty()).map(Arc::from);
        penalise(&mut ranked, session, &RecallOptions { n_penalised, ..RecallOptions::default() });
        assert!(ranked.windows(2).all(|pair| pair[0].score >= pair[1].score), "scores fall: {ranked:?}");
        ranked.iter().map(|one| one.row).collect()
    }

    #[test]
    fn other_sessions_come_forward() {
        assert_eq!(order_of(&[5.0, 4.9, 4.8, 1.0], &["a", "a", "b", "b"], 100), [0, 2, 1, 3]);
        // Two of `a` cost the third 0.3.
        assert_eq!(order_of(&[5.0, 4.9, 4.8, 4.7, 4.6], &["a", "a", "a", "b", "b"], 100), [0, 1, 3, 2, 4]);
    }

    #[test]
    fn memories_without_a_session_cost_nobody_anything() {
        assert_eq!(order_of(&[5.0, 4.9, 4.8], &["", "", ""], 100), [0, 1, 2]);
        assert_eq!(order_of(&[5.0, 5.0, 5.0], &["a", "", ""], 100), [0, 1, 2], "ties keep their order");
    }

    #[test]
    fn only_the_best_are_ordered_anew() {
        assert_eq!(order_of(&[5.0, 4.9, 4.85, 4.0], &["a", "a", "b", "b"], 2), [0, 1, 2, 3]);
        assert!(order_of(&[], &[], 100).is_empty());
    }

    #[test]
    fn the_best_are_those_of_the_whole_order() {
        let scores: Vec<f32> = (0_u32..200).map(|row| (row.wrapping_mul(2_654_435_761) >> 28) as f32).collect();
        let mut whole = ranked(&scores);
        whole.sort_by(best_first);
        for limit in [0, 1, 7, 100, 199, 200, 1000] {
            let mut best = ranked(&scores);
            keep_best(&mut best, limit);
            best.sort_unstable_by(best_first);
            let rows = |ranked: &[Ranked]| ranked.iter().take(limit).map(|one| one.row).collect::<Vec<_>>();
            assert_eq!(rows(&best), rows(&whole), "{limit}");
        }
    }

    #[test]
    fn a_session_is_meant_whoever_has_it() {
        assert!(is_of(Some("ann\nmonday"), &SessionId::from("monday")));
        assert!(is_of(Some("\nmonday"), &SessionId::from("monday")));
        assert!(!is_of(Some("monday\ntuesday"), &SessionId::from("monday")) && !is_of(None, &SessionId::from("x")));
    }
}
