//! The spaces of embeddings, and which one a scope is searched in.

use mos_core::{EmbeddingSpace, Scope, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::{ensure_scope, execute, read_sequence, write_sequence};
use super::fault::Fault;

/// Makes `space` the scope's and drops every embedding of the scope in another one.
pub(super) fn adopt_space(connection: &Connection, scope: &Scope, space: &EmbeddingSpace) -> Result<(), Fault> {
    let scope_key = ensure_scope(connection, scope)?;
    let space_key = ensure_space(connection, space)?;
    let current = current_space(connection, scope_key)?.map(|(key, _)| key);
    let n_missing: i64 = connection.query_row(
        "SELECT count(*) FROM nodes JOIN embeddings AS old ON old.node = node_key AND old.space = ?2
         WHERE scope = ?1 AND NOT EXISTS (SELECT 1 FROM embeddings WHERE node = node_key AND space = ?3)",
        params![scope_key, current, space_key],
        |row| row.get(0),
    )?;
    if n_missing > 0 {
        return Err(StoreError::Conflict(format!(
            "{n_missing} memories of cube `{}` have no embedding by {space} yet; embed them, then adopt it again",
            scope.cube
        ))
        .into());
    }
    if current != Some(space_key) {
        renumber_embedded(connection, scope_key, space_key)?;
    }
    connection.execute(
        "DELETE FROM embeddings WHERE space <> ?2 AND node IN (SELECT node_key FROM nodes WHERE scope = ?1)",
        params![scope_key, space_key],
    )?;
    connection.execute("UPDATE scopes SET space = ?2 WHERE scope_key = ?1", params![scope_key, space_key])?;
    Ok(())
}

/// Every memory with an embedding in the new space appears in the feed again: its vector has changed.
fn renumber_embedded(connection: &Connection, scope_key: i64, space_key: i64) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT node_key FROM nodes JOIN embeddings ON node = node_key AND space = ?2 WHERE scope = ?1 ORDER BY sequence",
    )?;
    let nodes: Vec<i64> =
        statement.query_map(params![scope_key, space_key], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut sequence = read_sequence(connection)?;
    for node in nodes {
        sequence += 1;
        execute(connection, "UPDATE nodes SET sequence = ?2 WHERE node_key = ?1", params![node, sequence])?;
    }
    write_sequence(connection, sequence)
}

/// Returns key and name of the space whose embeddings are searched.
pub(super) fn current_space(connection: &Connection, scope_key: i64) -> Result<Option<(i64, EmbeddingSpace)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT space_key, model, dimension FROM scopes JOIN spaces ON space_key = space WHERE scope_key = ?1",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get(0)?,
            EmbeddingSpace { model: row.get(1)?, dimension: row.get::<_, i64>(2)?.unsigned_abs() as usize },
        ))
    };
    Ok(statement.query_row([scope_key], read).optional()?)
}

/// Returns the key of a space, `None` for one that was never used.
pub(super) fn space_key(connection: &Connection, space: &EmbeddingSpace) -> Result<Option<i64>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT space_key FROM spaces WHERE model = ?1 AND dimension = ?2")?;
    Ok(statement.query_row(params![space.model, space.dimension as i64], |row| row.get(0)).optional()?)
}

pub(super) fn ensure_space(connection: &Connection, space: &EmbeddingSpace) -> Result<i64, Fault> {
    if let Some(key) = space_key(connection, space)? {
        return Ok(key);
    }
    let values = params![space.model, space.dimension as i64];
    execute(connection, "INSERT INTO spaces (model, dimension) VALUES (?1, ?2)", values)?;
    Ok(connection.last_insert_rowid())
}
