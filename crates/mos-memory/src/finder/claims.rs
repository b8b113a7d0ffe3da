//! Possible conflicts among what was found: of two memories that may contradict each other, the newer one comes first.

use mos_core::graph::kinds;
use mos_core::{Direction, Edge, Hit, MemoryError, MemoryId, Signal};
use serde_json::Value;

use super::Finder;
use crate::organize::CONFLICT_CANDIDATE;

impl Finder {
    /// Returns hits, best first, with each newer memory of a marked possible conflict before the older one, where both are
    /// among them. Hits without a mark cost no look at the record and stay as they are.
    pub(super) async fn newer_first(&self, hits: Vec<Hit>) -> Result<Vec<Hit>, MemoryError> {
        let marked: Vec<MemoryId> =
            hits.iter().filter(|hit| is_candidate(hit)).map(|hit| hit.item.id.clone()).collect();
        if marked.is_empty() {
            return Ok(hits);
        }
        let conflicts = Some(kinds::CONFLICT);
        let edges = self.shelf.record.edges(&self.shelf.scope, &marked, Direction::Outgoing, conflicts).await?;
        Ok(lifted(hits, &edges))
    }
}

/// Whether organising has found, without a model, that the memory may contradict an older one.
fn is_candidate(hit: &Hit) -> bool {
    hit.item.metadata.extra.get(CONFLICT_CANDIDATE) == Some(&Value::Bool(true))
}

/// Lifts the source of each edge to the place before its target, with the signal `conflict_candidate`. Scores and
/// relativities keep falling.
fn lifted(mut hits: Vec<Hit>, edges: &[Edge]) -> Vec<Hit> {
    // One may be newer than a second and older than a third: each round settles at least one more step of such a chain.
    for _ in 0..=edges.len() {
        let mut has_moved = false;
        for edge in edges {
            let place = |id: &MemoryId| hits.iter().position(|hit| hit.item.id == *id);
            if let (Some(newer), Some(older)) = (place(&edge.source), place(&edge.target))
                && newer > older
            {
                lift(&mut hits, newer, older);
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    hits
}

fn lift(hits: &mut Vec<Hit>, from: usize, to: usize) {
    let mut hit = hits.remove(from);
    hit.score = hit.score.max(hits[to].score);
    hit.relativity = hit.relativity.max(hits[to].relativity);
    if !hit.signals.iter().any(|signal| signal.name == CONFLICT_CANDIDATE) {
        hit.signals.push(Signal { name: CONFLICT_CANDIDATE, score: 1.0 });
    }
    hits.insert(to, hit);
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryItem;

    use super::*;

    fn hits(names: &str) -> Vec<Hit> {
        let hit = |(place, name): (usize, char)| {
            let score = 9.0 - place as f32;
            let item = MemoryItem::new(MemoryId::new(name.to_string()), name.to_string());
            Hit::new(item, score, score / 10.0, Vec::new())
        };
        names.chars().enumerate().map(hit).collect()
    }

    fn order(names: &str, edges: &[(&str, &str)]) -> String {
        let edge = |(newer, older): &(&str, &str)| Edge {
            source: MemoryId::new(*newer),
            target: MemoryId::new(*older),
            kind: kinds::CONFLICT.to_owned(),
        };
        let edges: Vec<Edge> = edges.iter().map(edge).collect();
        let lifted = lifted(hits(names), &edges);
        assert!(
            lifted.windows(2).all(|pair| pair[0].score >= pair[1].score && pair[0].relativity >= pair[1].relativity)
        );
        lifted.iter().map(|hit| hit.item.memory.as_str()).collect()
    }

    #[test]
    fn the_newer_one_stands_before_the_older_one_and_the_rest_where_it_stood() {
        assert_eq!(order("apxb", &[("b", "p")]), "abpx");
        assert_eq!(order("bap", &[("b", "p")]), "bap", "it is first already");
        assert_eq!(order("apx", &[("b", "p")]), "apx", "it was not found");
        assert_eq!(order("apx", &[]), "apx");
    }

    #[test]
    fn the_newest_of_several_comes_first_whatever_order_their_edges_have() {
        assert_eq!(order("123", &[("2", "1"), ("3", "2")]), "321");
        assert_eq!(order("123", &[("3", "2"), ("2", "1")]), "321");
        // Edges that an application wrote may go in a circle.
        assert_eq!(order("12", &[("2", "1"), ("1", "2")]).len(), 2);
    }

    #[test]
    fn a_hit_says_that_it_was_lifted() {
        let edge = Edge { source: "b".into(), target: "a".into(), kind: kinds::CONFLICT.to_owned() };
        let found = lifted(hits("ab"), &[edge]);
        let is_told = |hit: &Hit| hit.signals.iter().any(|signal| signal.name == "conflict_candidate");
        assert!(is_told(&found[0]) && !is_told(&found[1]), "{found:?}");
    }
}
