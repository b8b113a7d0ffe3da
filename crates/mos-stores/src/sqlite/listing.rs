//! Pages of memories, and how many there are: answered from indexes, so that no more memories are read than are told of.
//!
//! The fields that lists ask for most ([`LISTED`]) stand in the indexes: conditions on them cost no memory. Conditions on
//! others need each memory that passes the first.
//!
//! Invariant: the expressions here are those of the indexes, word for word; `SQLite` uses an index for nothing else.

use std::collections::HashMap;

use mos_core::{Filter, GroupCount, MemoryId, MemoryItem, Page, Paging, Scope, StoreError};
use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};

use super::apply::scope_key;
use super::fault::Fault;
use super::read::item;
use crate::codec;
use crate::graph::GroupCounter;
use crate::listed::{LISTED, is_listed, taken_apart};

/// How many different combinations of listed values are remembered with what a filter says of them.
const MAX_KNOWN: usize = 1000;

macro_rules! listed_value {
    ($field:literal) => {
        concat!(
            "(CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.",
            $field,
            "', 'null'), nullif(metadata -> '$.info.",
            $field,
            "', 'null')) END)"
        )
    };
}

macro_rules! listed_values {
    () => {
        concat!(listed_value!("memory_type"), ", ", listed_value!("status"), ", ", listed_value!("user_id"))
    };
}

macro_rules! made_at {
    () => {
        "(CASE WHEN json_valid(metadata) AND json_type(metadata, '$.created_at') = 'text'
               THEN metadata ->> '$.created_at' END)"
    };
}

/// Every memory of a scope, newest first, as an export has them.
const BY_TIME: &str = concat!(
    "SELECT node_key, id, ",
    listed_values!(),
    " FROM nodes INDEXED BY nodes_by_time WHERE scope = ?1 ORDER BY ",
    made_at!(),
    " DESC, id DESC"
);

/// Every memory of a scope, the one that was first written last before the others.
const BY_ARRIVAL: &str = concat!(
    "SELECT node_key, id, ",
    listed_values!(),
    " FROM nodes INDEXED BY nodes_in_order WHERE scope = ?1 ORDER BY node_key DESC"
);

/// Every memory of a scope in any order.
const UNORDERED: &str =
    concat!("SELECT node_key, NULL, ", listed_values!(), " FROM nodes INDEXED BY nodes_by_type WHERE scope = ?1");

const GROUPS: &str = concat!(
    "SELECT count(*), NULL, ",
    listed_values!(),
    " FROM nodes INDEXED BY nodes_by_type WHERE scope = ?1 GROUP BY 3, 4, 5"
);

/// Memories that are kept apart, the oldest first.
const KEPT_APART: &str = "SELECT node_key FROM nodes INDEXED BY nodes_kept_apart
     WHERE scope = ?1 AND (CASE WHEN json_valid(metadata) THEN json_type(metadata, '$.quarantine') END) = 'text'
     ORDER BY node_key";

const ONE: &str = "SELECT id, memory, metadata FROM nodes WHERE node_key = ?1";

/// The first column of listed values in the rows of every statement here.
const FIRST_LISTED: usize = 2;

/// What a filter says of listed values: the same ones come again and again.
#[derive(Debug)]
struct Decisions<'a> {
    filter: &'a Filter,
    known: HashMap<String, bool>,
    name: String,
}

impl<'a> Decisions<'a> {
    fn of(filter: &'a Filter) -> Self {
        Self { filter, known: HashMap::new(), name: String::new() }
    }

    fn let_pass(&mut self, row: &Row<'_>) -> Result<bool, Fault> {
        if *self.filter == Filter::Everything {
            return Ok(true);
        }
        self.name.clear();
        for column in FIRST_LISTED..FIRST_LISTED + LISTED.len() {
            self.name.push_str(text_of(row, column)?.unwrap_or_default());
            // No JSON text of one line holds it.
            self.name.push('\n');
        }
        if let Some(passes) = self.known.get(&self.name) {
            return Ok(*passes);
        }
        let passes = self.filter.matches("", &listed_metadata(row)?);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(self.name.clone(), passes);
        Ok(passes)
    }
}

fn text_of<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a str>, Fault> {
    Ok(row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?)
}

/// Returns what a row tells of a memory's metadata.
fn listed_metadata(row: &Row<'_>) -> Result<Map<String, Value>, Fault> {
    let mut metadata = Map::new();
    for (column, field) in (FIRST_LISTED..).zip(LISTED) {
        if let Some(text) = text_of(row, column)? {
            let value = serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
                what: format!("the field `{field}` of a memory"),
                detail: format!("{error}; restore the data from a backup"),
            })?;
            metadata.insert(field.to_owned(), value);
        }
    }
    Ok(metadata)
}

/// Visits the memories that pass a filter in the order of a statement, until a visit answers false.
fn each_passing(
    connection: &Connection,
    scope: i64,
    filter: &Filter,
    sql: &'static str,
    mut visit: impl FnMut(i64, &Row<'_>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let (listed, rest) = taken_apart(filter);
    let mut decisions = Decisions::of(&listed);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([scope])?;
    while let Some(row) = rows.next()? {
        let node: i64 = row.get(0)?;
        if !decisions.let_pass(row)? || !passes(connection, node, &rest)? {
            continue;
        }
        if !visit(node, row)? {
            break;
        }
    }
    Ok(())
}

/// Whether a memory passes conditions for which it must be read.
fn passes(connection: &Connection, node: i64, filter: &Filter) -> Result<bool, Fault> {
    if *filter == Filter::Everything {
        return Ok(true);
    }
    let mut statement = connection.prepare_cached(ONE)?;
    let mut rows = statement.query([node])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    let id: String = row.get(0)?;
    let memory = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
    let metadata = codec::parse_metadata(&id, row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?;
    Ok(filter.matches(memory, &metadata))
}

fn items(connection: &Connection, nodes: &[i64]) -> Result<Vec<MemoryItem>, Fault> {
    let mut statement = connection.prepare_cached(ONE)?;
    let mut items = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut rows = statement.query(params![node])?;
        if let Some(row) = rows.next()? {
            items.push(item(row)?);
        }
    }
    Ok(items)
}

fn page(
    connection: &Connection,
    scope: &Scope,
    filter: &Filter,
    paging: Paging,
    sql: &'static str,
) -> Result<Vec<MemoryItem>, Fault> {
    let Some(scope) = scope_key(connection, scope)?.filter(|_| paging.limit > 0) else { return Ok(Vec::new()) };
    let (mut nodes, mut before) = (Vec::new(), paging.offset);
    each_passing(connection, scope, filter, sql, |node, _| {
        if before > 0 {
            before -= 1;
        } else {
            nodes.push(node);
        }
        Ok(nodes.len() < paging.limit)
    })?;
    items(connection, &nodes)
}

/// Returns memories in the order of an export; those before and on the page are looked up in an index, no others.
pub(super) fn newest(
    connection: &Connection,
    scope: &Scope,
    filter: &Filter,
    paging: Paging,
) -> Result<Vec<MemoryItem>, Fault> {
    page(connection, scope, filter, paging, BY_TIME)
}

/// Returns memories in the order of their first write, the last one first.
pub(super) fn latest(
    connection: &Connection,
    scope: &Scope,
    filter: &Filter,
    paging: Paging,
) -> Result<Vec<MemoryItem>, Fault> {
    page(connection, scope, filter, paging, BY_ARRIVAL)
}

/// Returns keys and ids of the memories that pass, in the order of an export.
pub(super) fn newest_ids(connection: &Connection, scope: i64, filter: &Filter) -> Result<Vec<(i64, MemoryId)>, Fault> {
    let mut ids = Vec::new();
    each_passing(connection, scope, filter, BY_TIME, |node, row| {
        ids.push((node, MemoryId::new(row.get::<_, String>(1)?)));
        Ok(true)
    })?;
    Ok(ids)
}

/// Returns memories that are kept apart, the oldest first; no others are read.
pub(super) fn kept_apart(connection: &Connection, scope: &Scope, limit: usize) -> Result<Vec<MemoryItem>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(KEPT_APART)?;
    let mut rows = statement.query([scope])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let node: i64 = row.get(0)?;
        let kept = items(connection, &[node])?;
        found.extend(kept.into_iter().filter(MemoryItem::is_kept_apart));
    }
    Ok(found)
}

/// Returns a page in the order of first writes, and how many memories pass a filter that [`is_listed`].
pub(super) fn in_order(
    connection: &Connection,
    scope: i64,
    filter: &Filter,
    paging: Paging,
) -> Result<Page<MemoryItem>, Fault> {
    let mut nodes = Vec::new();
    each_passing(connection, scope, filter, UNORDERED, |node, _| {
        nodes.push(node);
        Ok(true)
    })?;
    nodes.sort_unstable();
    let wanted: Vec<i64> = nodes.iter().copied().skip(paging.offset).take(paging.limit).collect();
    Ok(Page { entries: items(connection, &wanted)?, total: nodes.len() })
}

/// Returns how many memories pass a filter that [`is_listed`].
pub(super) fn count(connection: &Connection, scope: i64, filter: &Filter) -> Result<usize, Fault> {
    let mut total = 0;
    each_group(connection, scope, filter, |_, count| total += count)?;
    Ok(total)
}

/// Counts the memories that pass a filter by the values of some fields; `None` when indexes do not tell.
pub(super) fn count_by(
    connection: &Connection,
    scope: i64,
    fields: &[String],
    filter: &Filter,
) -> Result<Option<Vec<GroupCount>>, Fault> {
    if !is_listed(filter) || !fields.iter().all(|field| LISTED.contains(&field.as_str())) {
        return Ok(None);
    }
    let mut counter = GroupCounter::new(fields);
    each_group(connection, scope, filter, |metadata, count| counter.add_many("", metadata, count))?;
    Ok(Some(counter.finish()))
}

/// Visits every combination of listed values that passes, with how many memories have it.
fn each_group(
    connection: &Connection,
    scope: i64,
    filter: &Filter,
    mut visit: impl FnMut(&Map<String, Value>, usize),
) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(GROUPS)?;
    let mut rows = statement.query([scope])?;
    while let Some(row) = rows.next()? {
        let metadata = listed_metadata(row)?;
        if filter.matches("", &metadata) {
            visit(&metadata, usize::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
