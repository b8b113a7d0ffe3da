//! Questions about edges and groups of memories. Each function reads inside one transaction, that is, of one moment.

use std::collections::{BTreeSet, HashMap, HashSet};

use mos_core::{Direction, Edge, Filter, Graph, GraphPage, GroupCount, MemoryId, MemoryItem, Paging, Scope, Tagged};
use rusqlite::{Connection, Row, params};

use super::apply::scope_key;
use super::fault::Fault;
use super::listing;
use super::read::{each_passing, item, nodes};
use crate::codec;
use crate::graph::{GroupCounter, n_shared};

pub(super) fn edges(
    connection: &Connection,
    scope: &Scope,
    ids: &[MemoryId],
    direction: Direction,
    kind: Option<&str>,
) -> Result<Vec<Edge>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let outgoing = matches!(direction, Direction::Outgoing | Direction::Any);
    let incoming = matches!(direction, Direction::Incoming | Direction::Any);
    let mut statement = connection.prepare_cached(
        "WITH here AS (SELECT node_key FROM nodes WHERE scope = ?1 AND id = ?2)
         SELECT s.id, t.id, e.kind FROM (
             SELECT source, target, kind FROM edges JOIN here ON source = node_key WHERE ?3
             UNION ALL SELECT source, target, kind FROM edges JOIN here ON target = node_key WHERE ?4) AS e
         JOIN nodes AS s ON s.node_key = e.source JOIN nodes AS t ON t.node_key = e.target
         WHERE ?5 IS NULL OR e.kind = ?5",
    )?;
    let mut found = BTreeSet::new();
    for id in ids {
        let rows = statement.query_map(params![scope, id.as_str(), outgoing, incoming, kind], edge)?;
        for edge in rows {
            found.insert(edge?);
        }
    }
    Ok(found.into_iter().collect())
}

pub(super) fn all_edges(connection: &Connection, scope: &Scope) -> Result<Vec<Edge>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT s.id, t.id, kind FROM nodes AS s JOIN edges ON source = s.node_key
         JOIN nodes AS t ON t.node_key = target WHERE s.scope = ?1 ORDER BY s.id, t.id, kind",
    )?;
    let rows = statement.query_map([scope], edge)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn edge(row: &Row<'_>) -> rusqlite::Result<Edge> {
    let (source, target): (String, String) = (row.get(0)?, row.get(1)?);
    Ok(Edge { source: MemoryId::new(source), target: MemoryId::new(target), kind: row.get(2)? })
}

/// Returns those that share most tags first. `SQLite` finds who has any of them.
pub(super) fn sharing_tags(
    connection: &Connection,
    scope: &Scope,
    tags: &[String],
    min_shared: usize,
    except: &[MemoryId],
    limit: usize,
    filter: &Filter,
) -> Result<Vec<Tagged>, Fault> {
    let Some(scope_key) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let wanted: HashSet<&str> = tags.iter().map(String::as_str).collect();
    let except: HashSet<&str> = except.iter().map(MemoryId::as_str).collect();
    let mut statement = connection.prepare_cached(
        "SELECT id, memory, metadata FROM nodes WHERE scope = ?1 AND EXISTS (
             SELECT 1 FROM json_each(metadata, '$.tags') WHERE value IN (SELECT value FROM json_each(?2)))",
    )?;
    let mut rows = statement.query(params![scope_key, serde_json::Value::from(tags).to_string()])?;
    let mut found: Vec<(usize, MemoryId)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        if except.contains(id.as_str()) {
            continue;
        }
        let memory = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let metadata = codec::parse_metadata(&id, row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?;
        let n_shared = n_shared(&metadata, &wanted);
        if n_shared >= min_shared.max(1) && filter.matches(memory, &metadata) {
            found.push((n_shared, MemoryId::new(id)));
        }
    }
    found.sort_by(|(left, left_id), (right, right_id)| (right, left_id).cmp(&(left, right_id)));
    found.truncate(limit);
    let ids: Vec<MemoryId> = found.iter().map(|(_, id)| id.clone()).collect();
    let items = nodes(connection, scope, &ids)?;
    Ok(items.into_iter().zip(found).map(|(item, (n_shared, _))| Tagged { item, n_shared }).collect())
}

pub(super) fn without_edges(
    connection: &Connection,
    scope: &Scope,
    kind: &str,
    limit: usize,
    filter: &Filter,
) -> Result<Vec<MemoryItem>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT id, memory, metadata FROM nodes WHERE scope = ?1
         AND NOT EXISTS (SELECT 1 FROM edges WHERE source = node_key AND kind = ?2)
         AND NOT EXISTS (SELECT 1 FROM edges WHERE target = node_key AND kind = ?2)
         ORDER BY node_key",
    )?;
    let mut rows = statement.query(params![scope, kind])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let item = item(row)?;
        if *filter == Filter::Everything || filter.matches(&item.memory, &codec::stored_metadata(&item)) {
            found.push(item);
        }
    }
    Ok(found)
}

pub(super) fn count_by(
    connection: &Connection,
    scope: &Scope,
    fields: &[String],
    filter: &Filter,
) -> Result<Vec<GroupCount>, Fault> {
    let mut counter = GroupCounter::new(fields);
    if let Some(scope) = scope_key(connection, scope)? {
        if let Some(groups) = listing::count_by(connection, scope, fields, filter)? {
            return Ok(groups);
        }
        each_passing(connection, scope, filter, |_, memory, metadata| {
            counter.add(memory, &metadata);
            Ok(())
        })?;
    }
    Ok(counter.finish())
}

pub(super) fn export(
    connection: &Connection,
    scope: &Scope,
    filter: &Filter,
    paging: Paging,
) -> Result<GraphPage, Fault> {
    let chosen = match scope_key(connection, scope)? {
        Some(scope) => listing::newest_ids(connection, scope, filter)?,
        None => Vec::new(),
    };
    let page: Vec<MemoryId> = chosen.iter().skip(paging.offset).take(paging.limit).map(|(_, id)| id.clone()).collect();
    let (edges, n_edges) = edges_among(connection, &chosen, paging)?;
    Ok(GraphPage { graph: Graph { nodes: nodes(connection, scope, &page)?, edges }, n_nodes: chosen.len(), n_edges })
}

/// Returns the edges among chosen memories that start at those of a page, sorted, and how many there are among all of the
/// chosen. Edges of other memories are not read.
fn edges_among(
    connection: &Connection,
    chosen: &[(i64, MemoryId)],
    paging: Paging,
) -> Result<(Vec<Edge>, usize), Fault> {
    let ids: HashMap<i64, &MemoryId> = chosen.iter().map(|(node, id)| (*node, id)).collect();
    let end = paging.offset.saturating_add(paging.limit);
    let mut statement = connection.prepare_cached("SELECT target, kind FROM edges WHERE source = ?1")?;
    let (mut edges, mut n_edges) = (Vec::new(), 0);
    for (place, (node, source)) in chosen.iter().enumerate() {
        let mut rows = statement.query(params![node])?;
        while let Some(row) = rows.next()? {
            let Some(target) = ids.get(&row.get::<_, i64>(0)?) else { continue };
            n_edges += 1;
            if (paging.offset..end).contains(&place) {
                edges.push(Edge { source: source.clone(), target: (*target).clone(), kind: row.get(1)? });
            }
        }
    }
    edges.sort_unstable();
    Ok((edges, n_edges))
}
