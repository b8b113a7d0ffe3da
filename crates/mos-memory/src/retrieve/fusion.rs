//! What several queries found, as one.

use std::collections::HashMap;

use mos_core::{Hit, MemoryId, QueryPath, Signal};

use super::relativity;

/// What a query that fits less adds to the score of the one that fits best, as a share of its own score: a memory that
/// several queries find comes before one that a single query finds as well.
const SHARE_OF_OTHERS: f32 = 0.05;

/// A memory that a query found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    pub(crate) id: MemoryId,
    pub(crate) score: f32,
    pub(crate) signals: Vec<Signal>,
    pub(crate) paths: Vec<QueryPath>,
}

/// Returns every memory once, best first; ties in the order of the lists. A single list stays as it is.
pub(crate) fn fused(mut lists: Vec<Vec<Trace>>) -> Vec<Trace> {
    if lists.len() == 1 {
        return lists.pop().unwrap_or_default();
    }
    let mut places: HashMap<MemoryId, usize> = HashMap::new();
    let mut traces: Vec<Trace> = Vec::new();
    for trace in lists.into_iter().flatten() {
        match places.get(&trace.id) {
            Some(&place) => {
                let known = &mut traces[place];
                join(&mut known.score, &mut known.signals, &mut known.paths, (trace.score, trace.signals, trace.paths));
            }
            None => {
                places.insert(trace.id.clone(), traces.len());
                traces.push(trace);
            }
        }
    }
    traces.sort_by(|left, right| right.score.total_cmp(&left.score));
    traces
}

/// Adds what was found later to what is there; best first.
pub(crate) fn add(hits: &mut Vec<Hit>, later: Vec<Hit>) {
    let mut places: HashMap<MemoryId, usize> =
        hits.iter().enumerate().map(|(place, hit)| (hit.item.id.clone(), place)).collect();
    for hit in later {
        match places.get(&hit.item.id) {
            Some(&place) => {
                let known = &mut hits[place];
                join(&mut known.score, &mut known.signals, &mut known.paths, (hit.score, hit.signals, hit.paths));
                known.relativity = relativity::of_score(known.score);
            }
            None => {
                places.insert(hit.item.id.clone(), hits.len());
                hits.push(hit);
            }
        }
    }
    hits.sort_by(|left, right| right.score.total_cmp(&left.score));
}

fn join(
    score: &mut f32,
    signals: &mut Vec<Signal>,
    paths: &mut Vec<QueryPath>,
    (other_score, other_signals, other_paths): (f32, Vec<Signal>, Vec<QueryPath>),
) {
    let less = score.min(other_score);
    if other_score > *score {
        (*score, *signals) = (other_score, other_signals);
    }
    *score += SHARE_OF_OTHERS * less.max(0.0);
    paths.extend(other_paths);
    paths.sort_unstable();
    paths.dedup();
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryItem;

    use super::*;

    fn trace(id: &str, score: f32, path: QueryPath) -> Trace {
        Trace { id: id.into(), score, signals: vec![Signal { name: path.as_str(), score }], paths: vec![path] }
    }

    fn order(traces: &[Trace]) -> Vec<&str> {
        traces.iter().map(|trace| trace.id.as_str()).collect()
    }

    #[test]
    fn a_single_list_stays_as_it_is() {
        let list = vec![trace("a", 1.0, QueryPath::Question), trace("b", 1.0, QueryPath::Question)];
        assert_eq!(fused(vec![list.clone()]), list);
        assert!(fused(Vec::new()).is_empty());
    }

    #[test]
    fn the_best_score_counts_and_others_add_a_little() {
        let asked = vec![trace("a", 10.0, QueryPath::Question), trace("b", 9.9, QueryPath::Question)];
        let stated = vec![trace("c", 9.0, QueryPath::Statement), trace("b", 8.0, QueryPath::Statement)];
        let found = fused(vec![asked, stated]);
        assert_eq!(order(&found), ["b", "a", "c"]);
        assert!((found[0].score - 10.3).abs() < 1e-4);
        assert_eq!(found[0].paths, [QueryPath::Question, QueryPath::Statement]);
        assert_eq!(found[0].signals[0].name, "question", "signals of the query that fits best");
    }

    #[test]
    fn what_comes_later_takes_its_place_among_what_is_there() {
        let hit = |id: &str, score: f32, path: QueryPath| Hit {
            paths: vec![path],
            ..Hit::new(MemoryItem::new(id.into(), id), score, relativity::of_score(score), Vec::new())
        };
        let mut hits = vec![hit("a", 5.0, QueryPath::Question), hit("b", 1.0, QueryPath::Question)];
        add(&mut hits, vec![hit("b", 8.0, QueryPath::Deep), hit("c", 2.0, QueryPath::Deep)]);
        let order: Vec<&str> = hits.iter().map(|hit| hit.item.id.as_str()).collect();
        assert_eq!(order, ["b", "a", "c"]);
        assert_eq!(hits[0].paths, [QueryPath::Question, QueryPath::Deep]);
        assert!(hits.windows(2).all(|pair| pair[0].relativity >= pair[1].relativity));
    }
}
