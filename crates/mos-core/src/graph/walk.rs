//! Walks along edges: one question to the store for each step away from where they start.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Direction, Edge, Graph, GraphStore, Subgraph};
use crate::error::StoreError;
use crate::filter::Filter;
use crate::id::MemoryId;
use crate::memory::MemoryItem;
use crate::record::Scope;

/// The most memories that a search for a way looks at.
const MAX_VISITED: usize = 100_000;

pub(super) async fn subgraph<S: GraphStore + ?Sized>(
    store: &S,
    scope: &Scope,
    center: &MemoryId,
    depth: usize,
    limit: usize,
    filter: &Filter,
) -> Result<Option<Subgraph>, StoreError> {
    let found = passing(store, scope, std::slice::from_ref(center), filter).await?;
    let Some(center) = found.into_iter().next() else { return Ok(None) };
    let mut seen = BTreeSet::from([center.id.clone()]);
    let mut layer = vec![center.id.clone()];
    let mut nodes: Vec<MemoryItem> = Vec::new();
    let mut is_cut = false;
    for _ in 0..depth {
        if layer.is_empty() {
            break;
        }
        let edges = store.edges(scope, &layer, Direction::Any, None).await?;
        let ends = edges.into_iter().flat_map(|edge| [edge.source, edge.target]);
        // A set, so that ties are broken by id.
        let next: BTreeSet<MemoryId> = ends.filter(|id| !seen.contains(id)).collect();
        seen.extend(next.iter().cloned());
        let mut found = passing(store, scope, &Vec::from_iter(next), filter).await?;
        let room = limit - nodes.len();
        if found.len() > room {
            is_cut = true;
            found.truncate(room);
        }
        layer = found.iter().map(|item| item.id.clone()).collect();
        nodes.extend(found);
        if is_cut {
            break;
        }
    }
    let ids: Vec<MemoryId> = nodes.iter().map(|item| &item.id).chain([&center.id]).cloned().collect();
    let members: HashSet<&MemoryId> = ids.iter().collect();
    let mut edges: Vec<Edge> = store.edges(scope, &ids, Direction::Outgoing, None).await?;
    edges.retain(|edge| members.contains(&edge.target));
    Ok(Some(Subgraph { center, around: Graph { nodes, edges }, is_cut }))
}

/// Returns those among some nodes that pass a filter, in the order asked.
async fn passing<S: GraphStore + ?Sized>(
    store: &S,
    scope: &Scope,
    ids: &[MemoryId],
    filter: &Filter,
) -> Result<Vec<MemoryItem>, StoreError> {
    let mut items = store.nodes(scope, ids).await?;
    items.retain(|item| *filter == Filter::Everything || filter.matches(&item.memory, &item.metadata.to_map()));
    Ok(items)
}

pub(super) async fn path<S: GraphStore + ?Sized>(
    store: &S,
    scope: &Scope,
    from: &MemoryId,
    to: &MemoryId,
    direction: Direction,
    max_edges: usize,
) -> Result<Option<Vec<MemoryId>>, StoreError> {
    let ends = if from == to { vec![from.clone()] } else { vec![from.clone(), to.clone()] };
    if store.nodes(scope, &ends).await?.len() < ends.len() {
        return Ok(None);
    }
    // From where each memory was reached first. A layer is walked in the order of the ways to its memories.
    let mut came_from: BTreeMap<MemoryId, Option<MemoryId>> = BTreeMap::from([(from.clone(), None)]);
    let mut layer = vec![from.clone()];
    for _ in 0..max_edges {
        if came_from.contains_key(to) || layer.is_empty() {
            break;
        }
        let edges = store.edges(scope, &layer, direction, None).await?;
        let mut steps: BTreeMap<&MemoryId, BTreeSet<&MemoryId>> = BTreeMap::new();
        for edge in &edges {
            if direction != Direction::Incoming {
                steps.entry(&edge.source).or_default().insert(&edge.target);
            }
            if direction != Direction::Outgoing {
                steps.entry(&edge.target).or_default().insert(&edge.source);
            }
        }
        let mut next = Vec::new();
        for at in &layer {
            for &step in steps.get(at).into_iter().flatten() {
                if !came_from.contains_key(step) {
                    came_from.insert(step.clone(), Some(at.clone()));
                    next.push(step.clone());
                }
            }
        }
        if came_from.len() > MAX_VISITED {
            return Err(StoreError::Invalid(format!(
                "more than {MAX_VISITED} memories lie around `{from}`; ask for a shorter way"
            )));
        }
        layer = next;
    }
    if !came_from.contains_key(to) {
        return Ok(None);
    }
    let mut way = vec![to.clone()];
    while let Some(Some(before)) = way.last().and_then(|at| came_from.get(at)) {
        way.push(before.clone());
    }
    way.reverse();
    Ok(Some(way))
}
