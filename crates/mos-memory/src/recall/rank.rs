//! The order of memories for a question.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::MemoryId;

use super::dates::nearness;
use super::index::Index;
use super::options::RecallOptions;
use super::question::Question;
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
    pub(super) score: f32,
    pub(super) signals: Signals,
}

/// Returns the candidates, best first; ties in the order of their first writes. `similar` is the similarity of the question
/// to rows; those that are not in it count as 0.
pub(super) fn rank(
    index: &Index,
    question: &Question,
    similar: &HashMap<u32, f32>,
    candidates: &[u32],
    options: &RecallOptions,
) -> Vec<Ranked> {
    let words = index.word_scores(&question.terms, &options.words);
    let similarity = |row: u32| similar.get(&row).copied().unwrap_or_default();
    let mut ranked: Vec<Ranked> = Vec::with_capacity(candidates.len());
    for &row in candidates {
        let Some(turn) = index.turn(row) else { continue };
        let window = window::similarity(row, index.around(row), options.window, similarity) / index.window_length(row);
        let is_meant = question.speaker.is_some() && question.speaker == turn.speaker;
        let signals = Signals {
            words: words[row as usize],
            context: SIMILARITY_UNIT * window,
            vector: SIMILARITY_UNIT * similarity(row),
            speaker: one_if(is_meant),
            date: nearness(turn.days.iter().copied(), &question.days),
            time: one_if(question.asks_when && turn.tells_time),
            question: one_if(turn.is_question),
            session: 0.0,
        };
        ranked.push(Ranked { row, score: signals.score(&options.weights), signals });
    }
    let arrival = |one: &Ranked| index.turn(one.row).map_or(u64::MAX, |turn| turn.arrival);
    ranked.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| arrival(left).cmp(&arrival(right))));
    let session = |one: &Ranked| index.turn(one.row).and_then(|turn| turn.session.clone());
    penalise(&mut ranked, session, options);
    ranked
}

fn one_if(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

/// Orders the best anew, so that not all come from one session: each that is taken costs the others of its session
/// something. What comes after the best keeps its order below them.
fn penalise(ranked: &mut [Ranked], session: impl Fn(&Ranked) -> Option<Arc<str>>, options: &RecallOptions) {
    let n_best = options.n_penalised.min(ranked.len());
    let (best, rest) = ranked.split_at_mut(n_best);
    let sessions: HashMap<u32, Arc<str>> = best.iter().filter_map(|one| Some((one.row, session(one)?))).collect();
    for place in 0..best.len() {
        let better = |chosen: usize, other: usize| if best[other].score > best[chosen].score { other } else { chosen };
        let chosen = (place..best.len()).fold(place, better);
        // The ones between keep their order, for ties.
        best[place..=chosen].rotate_right(1);
        let Some(taken) = sessions.get(&best[place].row) else { continue };
        for other in &mut best[place + 1..] {
            if sessions.get(&other.row) == Some(taken) {
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
        let one = |(row, score): (usize, &f32)| Ranked { row: row as u32, score: *score, signals: Signals::default() };
        scores.iter().enumerate().map(one).collect()
    }

    fn order(scores: &[f32], sessions: &[&str], n_penalised: usize) -> Vec<u32> {
        let mut ranked = ranked(scores);
        let session = |one: &Ranked| Some(sessions[one.row as usize]).filter(|name| !name.is_empty()).map(Arc::from);
        penalise(&mut ranked, session, &RecallOptions { n_penalised, ..RecallOptions::default() });
        assert!(ranked.windows(2).all(|pair| pair[0].score >= pair[1].score), "scores fall: {ranked:?}");
        ranked.iter().map(|one| one.row).collect()
    }

    #[test]
    fn other_sessions_come_forward() {
        assert_eq!(order(&[5.0, 4.9, 4.8, 1.0], &["a", "a", "b", "b"], 100), [0, 2, 1, 3]);
        // Two of `a` cost the third 0.3.
        assert_eq!(order(&[5.0, 4.9, 4.8, 4.7, 4.6], &["a", "a", "a", "b", "b"], 100), [0, 1, 3, 2, 4]);
    }

    #[test]
    fn memories_without_a_session_cost_nobody_anything() {
        assert_eq!(order(&[5.0, 4.9, 4.8], &["", "", ""], 100), [0, 1, 2]);
        assert_eq!(order(&[5.0, 5.0, 5.0], &["a", "", ""], 100), [0, 1, 2], "ties keep their order");
    }

    #[test]
    fn only_the_best_are_ordered_anew() {
        assert_eq!(order(&[5.0, 4.9, 4.85, 4.0], &["a", "a", "b", "b"], 2), [0, 1, 2, 3]);
        assert!(order(&[], &[], 100).is_empty());
    }
}
