//! Scopes opened and closed for cubes that another store keeps.

use mos_core::Scope;
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::erase_scope;
use super::fault::Fault;
use crate::prepare::{Opening, opening};

/// Returns generation and whether the scope is closed; an unknown scope is an open one of no generation.
fn state(connection: &Connection, scope: &Scope) -> Result<(u64, bool), Fault> {
    let known: Option<(i64, bool)> = connection
        .prepare_cached("SELECT generation, is_closed FROM scopes WHERE cube_id = ?1")?
        .query_row([scope.cube.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(known.map_or((0, false), |(generation, is_closed)| (generation.unsigned_abs(), is_closed)))
}

pub(super) fn generation(connection: &Connection, scope: &Scope) -> Result<u64, Fault> {
    Ok(state(connection, scope)?.0)
}

fn erase(connection: &Connection, scope: &Scope, generation: u64, at: &str, is_closed: bool) -> Result<(), Fault> {
    erase_scope(connection, scope, at, is_closed)?;
    connection
        .prepare_cached("UPDATE scopes SET generation = ?2 WHERE cube_id = ?1")?
        .execute(params![scope.cube.as_str(), i64::try_from(generation).unwrap_or(i64::MAX)])?;
    Ok(())
}

pub(super) fn open(connection: &Connection, scope: &Scope, generation: u64, at: &str) -> Result<(), Fault> {
    match opening(scope, state(connection, scope)?, generation)? {
        Opening::Done => Ok(()),
        Opening::Erase => erase(connection, scope, generation, at, false),
    }
}

pub(super) fn close(connection: &Connection, scope: &Scope, generation: u64, at: &str) -> Result<(), Fault> {
    if generation < self::generation(connection, scope)? {
        return Ok(());
    }
    erase(connection, scope, generation, at, true)
}

pub(super) fn close_empty(connection: &Connection, scope: &Scope, generation: u64, at: &str) -> Result<bool, Fault> {
    if generation < self::generation(connection, scope)? {
        return Ok(true);
    }
    let is_empty: bool = connection
        .prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM nodes JOIN scopes ON scope_key = scope WHERE cube_id = ?1)")?
        .query_row([scope.cube.as_str()], |row| row.get(0))?;
    if is_empty {
        erase(connection, scope, generation, at, true)?;
    }
    Ok(is_empty)
}

/// Returns the cubes that hold memories.
pub(super) fn with_memories(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT cube_id FROM scopes WHERE EXISTS (SELECT 1 FROM nodes WHERE scope = scope_key) ORDER BY cube_id",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
