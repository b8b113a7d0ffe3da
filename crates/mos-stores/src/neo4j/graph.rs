//! Questions about edges and groups of memories.

use std::collections::{BTreeSet, HashMap, HashSet};

use mos_core::{
    Direction, Edge, Filter, Graph, GraphPage, GroupCount, MemoryId, MemoryItem, Paging, StoreError, Tagged,
};
use serde::Deserialize;

use super::connection::Connection;
use super::layout::{ItemRow, necessary};
use super::read::{MAX_IDS, as_texts, candidates, items, nodes};
use super::statements::{self, query};
use super::values::{integer, texts};
use crate::graph::{GroupCounter, created_at, export_edges, export_page, n_shared};

/// Of how many memories the edges are read at a time.
const EDGES_OF: usize = 1000;

/// The fewest and the most memories with tags that are asked for at a time.
const FEWEST_TAGGED: usize = 50;
const MOST_TAGGED: usize = 1000;

/// How many tags a memory shares, as a statement returns it.
#[derive(Debug, Deserialize)]
struct TaggedRow {
    id: String,
    n_shared: u64,
}

/// An edge as a statement returns it.
#[derive(Debug, Deserialize)]
pub(super) struct EdgeRow {
    source: String,
    target: String,
    kind: String,
}

impl EdgeRow {
    pub(super) fn edge(self) -> Edge {
        Edge { source: MemoryId::new(self.source), target: MemoryId::new(self.target), kind: self.kind }
    }
}

pub(super) async fn edges(
    connection: &Connection,
    tenant: &str,
    ids: &[MemoryId],
    direction: Direction,
    kind: Option<&str>,
) -> Result<Vec<Edge>, StoreError> {
    let asked: HashSet<&MemoryId> = ids.iter().collect();
    let is_meant = |edge: &Edge| match direction {
        Direction::Outgoing => asked.contains(&edge.source),
        Direction::Incoming => asked.contains(&edge.target),
        Direction::Any => true,
    };
    let mut found = BTreeSet::new();
    for part in ids.chunks(MAX_IDS) {
        let statement =
            query(statements::EDGES).param("tenant", tenant).param("ids", as_texts(part)).param("kind", kind);
        let rows: Vec<EdgeRow> = connection.read(statement).await?;
        found.extend(rows.into_iter().map(EdgeRow::edge).filter(is_meant));
    }
    Ok(found.into_iter().collect())
}

/// Returns every edge, of one type or (with `None`) of any, sorted.
pub(super) async fn all_edges(
    connection: &Connection,
    tenant: &str,
    kind: Option<&str>,
) -> Result<Vec<Edge>, StoreError> {
    let statement = query(statements::ALL_EDGES).param("tenant", tenant).param("kind", kind);
    let rows: Vec<EdgeRow> = connection.read(statement).await?;
    let mut edges: Vec<Edge> = rows.into_iter().map(EdgeRow::edge).collect();
    edges.sort_unstable();
    Ok(edges)
}

/// Returns those that share most tags first. The server counts them; memories are sent as many as are asked for.
pub(super) async fn sharing_tags(
    connection: &Connection,
    tenant: &str,
    tags: &[String],
    min_shared: usize,
    except: &[MemoryId],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Tagged>, StoreError> {
    let wanted: HashSet<&str> = tags.iter().map(String::as_str).collect();
    let least = min_shared.max(1);
    let statement = query(statements::TAGGED)
        .param("tenant", tenant)
        .param("tags", texts(wanted.iter().copied()))
        .param("least", integer(least))
        .param("ids", as_texts(except))
        .param("necessary", necessary(filter));
    let mut ranked: Vec<TaggedRow> = connection.read(statement).await?;
    ranked.sort_by(|left, right| (right.n_shared, &left.id).cmp(&(left.n_shared, &right.id)));
    let mut found = Vec::new();
    for portion in ranked.chunks(limit.clamp(FEWEST_TAGGED, MOST_TAGGED)) {
        if found.len() >= limit {
            break;
        }
        let ids = texts(portion.iter().map(|row| row.id.as_str()));
        let rows = items(connection, query(statements::NODES).param("tenant", tenant).param("ids", ids)).await?;
        let mut rows: HashMap<String, ItemRow> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        for TaggedRow { id, .. } in portion {
            // It may be gone since.
            let Some(row) = rows.remove(id) else { continue };
            let metadata = row.metadata()?;
            let n_shared = n_shared(&metadata, &wanted);
            if found.len() < limit && n_shared >= least && filter.matches(&row.memory, &metadata) {
                found.push(Tagged { item: row.item()?, n_shared });
            }
        }
    }
    Ok(found)
}

/// Looks through a cube whose nodes do not tell their order. The edges are compared here: asked for memories without edges, the
/// server may look at every relationship there is.
pub(super) async fn without_edges(
    connection: &Connection,
    tenant: &str,
    kind: &str,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<MemoryItem>, StoreError> {
    let edges = all_edges(connection, tenant, Some(kind)).await?;
    let joined: HashSet<&str> = edges.iter().flat_map(|edge| [edge.source.as_str(), edge.target.as_str()]).collect();
    let mut found = Vec::new();
    for row in candidates(connection, tenant, filter).await? {
        if found.len() >= limit {
            break;
        }
        if !joined.contains(row.id.as_str()) && filter.matches(&row.memory, &row.metadata()?) {
            found.push(row.item()?);
        }
    }
    Ok(found)
}

pub(super) async fn count_by(
    connection: &Connection,
    tenant: &str,
    fields: &[String],
    filter: &Filter,
) -> Result<Vec<GroupCount>, StoreError> {
    let mut counter = GroupCounter::new(fields);
    for row in candidates(connection, tenant, filter).await? {
        let metadata = row.metadata()?;
        if filter.matches(&row.memory, &metadata) {
            counter.add(&row.memory, &metadata);
        }
    }
    Ok(counter.finish())
}

/// Returns a page of memories, newest first, of a cube that is looked through whole: the order is made here.
pub(super) async fn newest(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
    paging: Paging,
) -> Result<Vec<MemoryItem>, StoreError> {
    let passing = passing(connection, tenant, filter).await?;
    export_page(passing, paging).into_iter().map(|(row, _)| row.item()).collect()
}

/// Returns the ids of the memories that pass a filter in the order of an export, of a cube that is looked through whole.
pub(super) async fn newest_ids(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
) -> Result<Vec<MemoryId>, StoreError> {
    let passing = passing(connection, tenant, filter).await?;
    Ok(export_page(passing, Paging::ALL).into_iter().map(|(_, id)| id).collect())
}

/// Returns the memories that pass a filter, with what their order is made of.
async fn passing(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
) -> Result<Vec<(ItemRow, MemoryId, Option<String>)>, StoreError> {
    let mut passing = Vec::new();
    for row in candidates(connection, tenant, filter).await? {
        let metadata = row.metadata()?;
        if filter.matches(&row.memory, &metadata) {
            let id = MemoryId::new(&row.id);
            passing.push((row, id, created_at(&metadata)));
        }
    }
    Ok(passing)
}

/// Returns a page of the graph of chosen memories, which come in its order. Edges of others are not read.
pub(super) async fn export(
    connection: &Connection,
    tenant: &str,
    chosen: &[MemoryId],
    paging: Paging,
) -> Result<GraphPage, StoreError> {
    let page: Vec<MemoryId> = chosen.iter().skip(paging.offset).take(paging.limit).cloned().collect();
    let nodes = nodes(connection, tenant, &page).await?;
    let members: HashSet<&MemoryId> = chosen.iter().collect();
    let of_page: HashSet<&MemoryId> = nodes.iter().map(|item| &item.id).collect();
    let (mut edges, mut n_edges) = (Vec::new(), 0);
    for portion in chosen.chunks(EDGES_OF) {
        let statement = query(statements::EDGES_FROM).param("tenant", tenant).param("ids", as_texts(portion));
        let rows: Vec<EdgeRow> = connection.read(statement).await?;
        let from: Vec<Edge> = rows.into_iter().map(EdgeRow::edge).collect();
        let (found, n_found) = export_edges(&from, &members, &of_page);
        edges.extend(found);
        n_edges += n_found;
    }
    edges.sort_unstable();
    Ok(GraphPage { graph: Graph { nodes, edges }, n_nodes: chosen.len(), n_edges })
}
