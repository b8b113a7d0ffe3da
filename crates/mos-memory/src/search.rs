//! What the searches of all textual memories do in the same way.

use mos_core::text_memory::Signal;
use mos_core::{Filter, Hit, MemoryType};

/// Of how many hits one may tell of what is true no more while there is enough that is.
const SUPERSEDED_SHARE: usize = 5;

/// Lets pass memories of these types; of any, when there are none.
pub(crate) fn of_types(types: &[MemoryType]) -> Filter {
    match types {
        [] => Filter::Everything,
        types => Filter::one_of("memory_type", types.iter().map(|kind| kind.as_str())),
    }
}

/// Returns at most `limit` hits: what is true in its order, then what is superseded. Of those, the ones that are among the
/// best `limit` have up to a fifth of the places; the others fill what is left. Scores keep falling.
pub(crate) fn true_first(hits: Vec<Hit>, limit: usize, is_superseded: impl Fn(&Hit) -> bool) -> Vec<Hit> {
    let n_among_best = hits.iter().take(limit).filter(|hit| is_superseded(hit)).count();
    let (superseded, mut found): (Vec<Hit>, Vec<Hit>) = hits.into_iter().partition(|hit| is_superseded(hit));
    found.truncate(limit - n_among_best.min(limit / SUPERSEDED_SHARE));
    let n_left = limit - found.len();
    for mut hit in superseded.into_iter().take(n_left) {
        hit.score = found.last().map_or(hit.score, |last| last.score.min(hit.score));
        hit.signals.push(Signal { name: "superseded", score: 1.0 });
        found.push(hit);
    }
    found
}

#[cfg(test)]
mod tests {
    use mos_core::{MemoryId, MemoryItem};

    use super::*;

    /// Hits of these scores; those whose names are in capitals are superseded.
    fn ordered(hits: &[(&str, f32)], limit: usize) -> Vec<(String, f32)> {
        let hits = hits.iter().map(|(name, score)| Hit {
            item: MemoryItem::new(MemoryId::from(*name), *name),
            score: *score,
            signals: Vec::new(),
        });
        let is_superseded = |hit: &Hit| hit.item.memory.chars().all(char::is_uppercase);
        let found = true_first(hits.collect(), limit, is_superseded);
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score), "scores fall");
        let marked = |hit: &Hit| hit.signals.iter().any(|signal| signal.name == "superseded");
        assert!(found.iter().all(|hit| marked(hit) == is_superseded(hit)));
        found.into_iter().map(|hit| (hit.item.memory, hit.score)).collect()
    }

    fn names(found: Vec<(String, f32)>) -> String {
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_is_true_no_more_stands_behind_and_costs_nobody_much() {
        assert_eq!(ordered(&[("P", 3.0), ("b", 2.0)], 2), [("b".to_owned(), 2.0), ("P".to_owned(), 2.0)]);
        assert_eq!(names(ordered(&[("P", 3.0), ("b", 2.0)], 1)), "b");
        let six = [("A", 9.0), ("B", 8.0), ("c", 7.0), ("d", 6.0), ("e", 5.0), ("f", 4.0), ("g", 3.0)];
        assert_eq!(names(ordered(&six, 5)), "cdefA", "a fifth for those among the best");
        let late = [("a", 9.0), ("b", 8.0), ("c", 7.0), ("d", 6.0), ("e", 5.0), ("F", 4.0)];
        assert_eq!(names(ordered(&late, 5)), "abcde");
        assert_eq!(names(ordered(&late, 10)), "abcdeF", "they fill what is left");
        assert!(ordered(&[], 5).is_empty());
    }
}
