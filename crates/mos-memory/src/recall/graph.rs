//! What edges say: memories that are connected with good ones.

use std::collections::HashMap;

use mos_core::graph::kinds;
use mos_core::{Direction, MemoryId, RecordStore, Scope, StoreError};

use super::options::GraphOptions;

/// The most edges that any options go.
const MAX_HOPS: usize = 3;

/// How much of what speaks for a memory speaks for the one at the other end of an edge. What was replaced, or contradicts, is
/// not wanted more because it stands beside something good.
fn weight(kind: &str) -> f32 {
    match kind {
        kinds::CAUSE | kinds::CONDITION | kinds::INFERS | kinds::SUMMARY | kinds::MATERIAL => 1.0,
        kinds::RELATE | kinds::FOLLOWS | kinds::AGGREGATE_TO => 0.8,
        kinds::PARENT | kinds::FOLLOWING | kinds::PRECEDING => 0.6,
        kinds::MERGED_TO | kinds::CONFLICT | kinds::SUPERSEDES => 0.0,
        // An application's own.
        _ => 0.5,
    }
}

/// Goes out from some memories, each with what speaks for it (from 0 to 1), and returns what comes to others over edges: of
/// several ways to a memory the best one counts. A memory to start from gets what comes from the others, and nothing of its
/// own back. At most `n_neighbours` per step, best first, ties by id; one read per step.
///
/// # Errors
/// [`StoreError`] when the record cannot be read.
pub(super) async fn spread(
    record: &dyn RecordStore,
    scope: &Scope,
    seeds: Vec<(MemoryId, f32)>,
    options: &GraphOptions,
) -> Result<Vec<(MemoryId, f32)>, StoreError> {
    let mut reached: HashMap<MemoryId, f32> = HashMap::new();
    // What speaks for those that were gone out from already.
    let mut known: HashMap<MemoryId, f32> = seeds.iter().cloned().collect();
    let mut frontier = seeds;
    for hop in 0..options.n_hops.min(MAX_HOPS) {
        if frontier.is_empty() {
            break;
        }
        let share_of: HashMap<&MemoryId, f32> = frontier.iter().map(|(id, share)| (id, *share)).collect();
        let ids: Vec<MemoryId> = frontier.iter().map(|(id, _)| id.clone()).collect();
        let mut arrived: HashMap<MemoryId, f32> = HashMap::new();
        for edge in record.edges(scope, &ids, Direction::Any, None).await? {
            let kept = options.decay * weight(&edge.kind);
            for (from, to) in [(&edge.source, &edge.target), (&edge.target, &edge.source)] {
                let Some(share) = share_of.get(from).filter(|_| kept > 0.0 && from != to) else { continue };
                if hop == 0 || !known.contains_key(to) {
                    let best = arrived.entry(to.clone()).or_default();
                    *best = best.max(kept * share);
                }
            }
        }
        let mut arrived: Vec<(MemoryId, f32)> = arrived.into_iter().collect();
        sort(&mut arrived);
        arrived.truncate(options.n_neighbours);
        let mut next: Vec<(MemoryId, f32)> = Vec::new();
        for (id, share) in arrived {
            let best = reached.entry(id.clone()).or_default();
            *best = best.max(share);
            if next.len() < options.n_seeds && known.get(&id).is_none_or(|known| share > *known) {
                known.insert(id.clone(), share);
                next.push((id, share));
            }
        }
        frontier = next;
    }
    let mut reached: Vec<(MemoryId, f32)> = reached.into_iter().collect();
    sort(&mut reached);
    Ok(reached)
}

fn sort(shares: &mut [(MemoryId, f32)]) {
    shares.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mos_core::{Edge, MemoryItem, Origin, SystemClock, WriteBatch};
    use mos_stores::InMemoryStore;

    use super::*;

    const EDGES: [(&str, &str, &str); 7] = [
        ("a", "b", kinds::CAUSE),
        ("c", "b", kinds::RELATE),
        ("c", "d", kinds::CAUSE),
        ("d", "e", kinds::PARENT),
        ("a", "old", kinds::SUPERSEDES),
        ("a", "a", kinds::RELATE),
        ("own", "a", "LIKES"),
    ];

    async fn reached(seeds: &[(&str, f32)], options: GraphOptions) -> Vec<(String, f32)> {
        let store = InMemoryStore::new(Arc::new(SystemClock));
        let scope = Scope { cube: "cube".into() };
        let ids = ["a", "b", "c", "d", "e", "old", "own"];
        let put = ids.map(|id| MemoryItem::new(id.into(), id)).to_vec();
        let edge = |(source, target, kind): (&str, &str, &str)| Edge {
            source: source.into(),
            target: target.into(),
            kind: kind.to_owned(),
        };
        let put_edges = EDGES.map(edge).to_vec();
        let batch = WriteBatch { put, put_edges, ..WriteBatch::new(Origin::new("test", "test")) };
        store.apply(&scope, batch).await.unwrap();
        let seeds = seeds.iter().map(|(id, share)| (MemoryId::from(*id), *share)).collect();
        let reached = spread(&*store, &scope, seeds, &options).await.unwrap();
        reached.into_iter().map(|(id, share)| (id.to_string(), share)).collect()
    }

    fn hops(n_hops: usize) -> GraphOptions {
        GraphOptions { n_hops, decay: 0.5, ..GraphOptions::default() }
    }

    #[tokio::test]
    async fn each_step_leaves_less_as_its_type_says() {
        let one = reached(&[("a", 1.0)], hops(1)).await;
        assert_eq!(one, [("b".to_owned(), 0.5), ("own".to_owned(), 0.25)], "nothing comes to what was replaced");
        let two = reached(&[("a", 1.0)], hops(2)).await;
        assert_eq!(two[2], ("c".to_owned(), 0.5 * 0.5 * 0.8), "against the direction, too");
        let three = reached(&[("a", 1.0)], hops(3)).await;
        assert_eq!(three.len(), 4);
        assert_eq!(reached(&[("a", 1.0)], hops(9)).await, three, "nobody goes further than three");
        assert!(reached(&[("a", 1.0)], hops(0)).await.is_empty());
    }

    #[tokio::test]
    async fn what_speaks_for_one_comes_to_another_but_not_back() {
        let both = reached(&[("a", 1.0), ("b", 0.4)], hops(2)).await;
        let share = |id: &str| both.iter().find(|one| one.0 == id).map(|one| one.1);
        assert_eq!((share("a"), share("b"), share("c")), (Some(0.2), Some(0.5), Some(0.4 * 0.5 * 0.8)));
        let alone = reached(&[("a", 1.0)], hops(3)).await;
        assert!(alone.iter().all(|(id, _)| id != "a"), "{alone:?}");
    }

    #[tokio::test]
    async fn steps_are_bounded() {
        let few = reached(&[("a", 1.0)], GraphOptions { n_neighbours: 1, ..hops(1) }).await;
        assert_eq!(few, [("b".to_owned(), 0.5)]);
    }
}
