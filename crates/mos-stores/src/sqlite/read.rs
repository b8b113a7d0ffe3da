//! Views on the record. Each function reads inside one transaction, that is, of one moment.

use std::sync::Arc;

use mos_core::{
    Change, ChangedFields, EmbeddingSpace, FieldsOf, Filter, MemoryId, MemoryItem, News, Origin, Page, Paging, Scope,
    StoreError, VectorPoint, Version,
};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::apply::scope_key;
use super::fault::Fault;
use super::listing;
use super::spaces::{current_space, space_key};
use crate::codec;
use crate::listed::is_listed;

/// Columns that [`item`] reads, in its order.
macro_rules! item_columns {
    () => {
        "id, memory, metadata"
    };
}

pub(super) fn item(row: &Row<'_>) -> Result<MemoryItem, Fault> {
    let (id, memory, metadata): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let metadata = codec::parse_metadata(&id, &metadata)?;
    Ok(codec::restore_item(MemoryId::new(id), memory, metadata)?)
}

fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn nodes(connection: &Connection, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let sql = concat!("SELECT ", item_columns!(), " FROM nodes WHERE scope = ?1 AND id = ?2");
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    for id in ids {
        let mut rows = statement.query(params![scope, id.as_str()])?;
        if let Some(row) = rows.next()? {
            found.push(item(row)?);
        }
    }
    Ok(found)
}

pub(super) fn list(
    connection: &Connection,
    scope: &Scope,
    filter: &Filter,
    paging: Paging,
) -> Result<Page<MemoryItem>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Page { entries: Vec::new(), total: 0 }) };
    if *filter == Filter::Everything {
        return list_all(connection, scope, paging);
    }
    // All of them are read in one go below.
    if paging != Paging::ALL && is_listed(filter) {
        return listing::in_order(connection, scope, filter, paging);
    }
    let (mut entries, mut total) = (Vec::new(), 0);
    let end = paging.offset.saturating_add(paging.limit);
    each_passing(connection, scope, filter, |id, memory, metadata| {
        if (paging.offset..end).contains(&total) {
            entries.push(codec::restore_item(MemoryId::new(id), memory.to_owned(), metadata)?);
        }
        total += 1;
        Ok(())
    })?;
    Ok(Page { entries, total })
}

fn list_all(connection: &Connection, scope: i64, paging: Paging) -> Result<Page<MemoryItem>, Fault> {
    let total = n_documents(connection, scope)?;
    let sql = concat!("SELECT ", item_columns!(), " FROM nodes WHERE scope = ?1 ORDER BY node_key LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![scope, as_limit(paging.limit), as_limit(paging.offset)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(item(row)?);
    }
    Ok(Page { entries, total })
}

pub(super) fn count(connection: &Connection, scope: &Scope, filter: &Filter) -> Result<usize, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(0) };
    if *filter == Filter::Everything {
        return n_documents(connection, scope);
    }
    if is_listed(filter) {
        return listing::count(connection, scope, filter);
    }
    let mut n_passing = 0;
    each_passing(connection, scope, filter, |_, _, _| {
        n_passing += 1;
        Ok(())
    })?;
    Ok(n_passing)
}

fn n_documents(connection: &Connection, scope: i64) -> Result<usize, Fault> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM nodes WHERE scope = ?1")?;
    let n: i64 = statement.query_row([scope], |row| row.get(0))?;
    Ok(usize::try_from(n).unwrap_or(0))
}

pub(super) fn each_passing(
    connection: &Connection,
    scope: i64,
    filter: &Filter,
    mut visit: impl FnMut(String, &str, serde_json::Map<String, serde_json::Value>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let sql = concat!("SELECT ", item_columns!(), " FROM nodes WHERE scope = ?1 ORDER BY node_key");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([scope])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let memory = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let metadata = codec::parse_metadata(&id, row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?;
        if filter.matches(memory, &metadata) {
            visit(id, memory, metadata)?;
        }
    }
    Ok(())
}

pub(super) fn embedding_space(connection: &Connection, scope: &Scope) -> Result<Option<EmbeddingSpace>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(None) };
    Ok(current_space(connection, scope)?.map(|(_, space)| space))
}

pub(super) fn without_embedding(
    connection: &Connection,
    scope: &Scope,
    space: &EmbeddingSpace,
    limit: usize,
) -> Result<Vec<MemoryItem>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let space = space_key(connection, space)?;
    let sql = concat!(
        "SELECT ",
        item_columns!(),
        " FROM nodes WHERE scope = ?1
          AND NOT EXISTS (SELECT 1 FROM embeddings WHERE node = node_key AND space = ?2)
          ORDER BY node_key LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![scope, space, as_limit(limit)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(item(row)?);
    }
    Ok(items)
}

pub(super) fn changes(connection: &Connection, scope: &Scope, after: u64, limit: usize) -> Result<Vec<Change>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut changes = puts(connection, scope, after, limit)?;
    let removed = |(sequence, id)| Change::Deleted { sequence, id };
    changes.extend(tombstones(connection, scope, after, limit)?.into_iter().map(removed));
    changes.sort_by_key(|change| match change {
        Change::Put { sequence, .. } | Change::Deleted { sequence, .. } => *sequence,
    });
    changes.truncate(limit);
    Ok(changes)
}

pub(super) fn changed_fields(
    connection: &Connection,
    scope: &Scope,
    fields: &[String],
    after: u64,
    limit: usize,
) -> Result<Vec<ChangedFields>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    if let Some(field) = fields.iter().find(|field| field.contains(['"', '\\'])) {
        return Err(StoreError::Invalid(format!("`{field}` is no name of a field that can be asked for")).into());
    }
    // `SQLite` goes through the metadata and makes nothing of what is not asked for.
    let columns: Vec<String> = (0..fields.len()).map(|number| format!("metadata -> ?{}", number + 4)).collect();
    let sql = format!(
        "SELECT sequence, id, node_key, json_array({}) FROM nodes WHERE scope = ?1 AND sequence > ?2
         ORDER BY sequence LIMIT ?3",
        columns.join(", ")
    );
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let numbers = [scope, after, as_limit(limit)].into_iter().map(SqlValue::from);
    let paths = fields.iter().map(|field| SqlValue::from(format!("$.\"{field}\"")));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(numbers.chain(paths)))?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let (sequence, id): (i64, String) = (row.get(0)?, row.get(1)?);
        let values =
            serde_json::from_str(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?).map_err(|error| {
                let detail = format!("its metadata cannot be read: {error}; restore the data from a backup");
                StoreError::Corrupt { what: format!("memory `{id}`"), detail }
            })?;
        let state = Some(FieldsOf { arrival: row.get::<_, i64>(2)?.unsigned_abs(), values });
        changes.push(ChangedFields { sequence: sequence.unsigned_abs(), id: MemoryId::new(id), state });
    }
    let removed = |(sequence, id)| ChangedFields { sequence, id, state: None };
    changes.extend(tombstones(connection, scope, after, limit)?.into_iter().map(removed));
    changes.sort_by_key(|change| change.sequence);
    changes.truncate(limit);
    Ok(changes)
}

/// Numbers and memories of removals.
fn tombstones(connection: &Connection, scope: i64, after: i64, limit: usize) -> Result<Vec<(u64, MemoryId)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, id FROM tombstones WHERE scope = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let deleted = statement.query_map(params![scope, after, as_limit(limit)], |row| {
        let (sequence, id): (i64, String) = (row.get(0)?, row.get(1)?);
        Ok((sequence.unsigned_abs(), MemoryId::new(id)))
    })?;
    Ok(deleted.collect::<Result<_, _>>()?)
}

pub(super) fn news(connection: &Connection, scope: &Scope, after: u64) -> Result<News, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM nodes WHERE scope = scope_key AND sequence > ?2)
             OR EXISTS (SELECT 1 FROM tombstones WHERE scope = scope_key AND sequence > ?2),
             may_have_edges, model, dimension
         FROM scopes LEFT JOIN spaces ON space_key = space WHERE cube_id = ?1",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let read = |row: &Row<'_>| {
        let space: (Option<String>, Option<i64>) = (row.get(2)?, row.get(3)?);
        let space = space.0.zip(space.1);
        let space =
            space.map(|(model, dimension)| EmbeddingSpace { model, dimension: dimension.unsigned_abs() as usize });
        Ok(News { is_behind: row.get(0)?, may_have_edges: row.get(1)?, space })
    };
    let news = statement.query_row(params![scope.cube.as_str(), after], read).optional()?;
    // Before its first write it has nothing.
    Ok(news.unwrap_or_default())
}

fn puts(connection: &Connection, scope: i64, after: i64, limit: usize) -> Result<Vec<Change>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, id, memory, metadata, vector, node_key FROM nodes
         LEFT JOIN embeddings ON node = node_key AND space = (SELECT s.space FROM scopes AS s WHERE scope_key = ?1)
         WHERE scope = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let mut rows = statement.query(params![scope, after, as_limit(limit)])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let (sequence, id): (i64, String) = (row.get(0)?, row.get(1)?);
        let vector = row.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let point = match vector {
            None => None,
            Some(bytes) => {
                let metadata = codec::parse_metadata(&id, row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?)?;
                Some(VectorPoint {
                    id: MemoryId::new(&id),
                    vector: codec::vector_from_bytes(bytes),
                    memory: Arc::from(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?),
                    metadata: Arc::new(codec::index_metadata(metadata)),
                })
            }
        };
        let arrival = row.get::<_, i64>(5)?.unsigned_abs();
        changes.push(Change::Put { sequence: sequence.unsigned_abs(), arrival, id: MemoryId::new(id), point });
    }
    Ok(changes)
}

pub(super) fn embeddings(
    connection: &Connection,
    scope: &Scope,
    ids: &[MemoryId],
) -> Result<Vec<(MemoryId, Vec<f32>)>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT vector FROM nodes JOIN embeddings ON node = node_key
         WHERE scope = ?1 AND id = ?2 AND space = (SELECT s.space FROM scopes AS s WHERE scope_key = ?1)",
    )?;
    let mut found = Vec::new();
    for id in ids {
        let bytes: Option<Vec<u8>> = statement.query_row(params![scope, id.as_str()], |row| row.get(0)).optional()?;
        if let Some(bytes) = bytes {
            found.push((id.clone(), codec::vector_from_bytes(&bytes)));
        }
    }
    Ok(found)
}

pub(super) fn history(connection: &Connection, scope: &Scope, id: &MemoryId) -> Result<Vec<Version>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT number, actor, reason, message_id, changed_at, memory, metadata, edges FROM versions
         WHERE scope = ?1 AND id = ?2
         UNION ALL
         SELECT number, actor, reason, message_id, changed_at, memory, metadata, NULL FROM nodes
         WHERE scope = ?1 AND id = ?2
         ORDER BY number",
    )?;
    let mut rows = statement.query(params![scope, id.as_str()])?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        versions.push(history_entry(id, row)?);
    }
    Ok(versions)
}

/// Reads number, actor, reason, message, time, text, metadata and edges of a version.
pub(super) fn history_entry(id: &MemoryId, row: &Row<'_>) -> Result<Version, Fault> {
    let state: (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
    let item = match state {
        (Some(memory), Some(metadata)) => {
            let metadata = codec::parse_metadata(id.as_str(), &metadata)?;
            Some(codec::restore_item(id.clone(), memory, metadata)?)
        }
        (None, None) => None,
        _ => {
            return Err(StoreError::Corrupt {
                what: format!("the history of memory `{id}`"),
                detail: "a version has text or metadata alone; restore the data from a backup".to_owned(),
            }
            .into());
        }
    };
    let edges: Option<String> = row.get(7)?;
    Ok(Version {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        item,
        edges: codec::parse_edges(id, edges.as_deref())?,
        origin: Origin { actor: row.get(1)?, reason: row.get(2)?, message_id: row.get(3)? },
        at: row.get(4)?,
    })
}
