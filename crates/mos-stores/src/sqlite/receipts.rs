//! Idempotency keys, and what the writes with them answered.

use mos_core::{Receipt, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::execute;
use super::fault::Fault;

/// How long and how many idempotency keys are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyLimits {
    pub(super) max_per_cube: u32,
    pub(super) max_age_s: i64,
    pub(super) now_ms: i64,
}

/// Keys are pruned at every so many new ones, so that the bound costs next to nothing.
const PRUNE_EVERY: i64 = 64;

/// Returns what an earlier write with the key answered.
pub(super) fn earlier_receipt(connection: &Connection, scope_key: i64, key: &str) -> Result<Option<Receipt>, Fault> {
    let mut statement = connection.prepare_cached("SELECT receipt FROM idempotency WHERE scope = ?1 AND key = ?2")?;
    let text: Option<String> = statement.query_row(params![scope_key, key], |row| row.get(0)).optional()?;
    let Some(text) = text else { return Ok(None) };
    let receipt: Receipt = serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
        what: "the receipt of an earlier write".to_owned(),
        detail: format!("{error}; repeat the write with another idempotency key"),
    })?;
    Ok(Some(Receipt { replayed: true, ..receipt }))
}

/// Keeps what a write with a key answers. Too old and too many keys are forgotten now and then.
pub(super) fn keep_receipt(
    connection: &Connection,
    scope_key: i64,
    key: &str,
    receipt: &Receipt,
    limits: KeyLimits,
) -> Result<(), Fault> {
    let text = serde_json::to_string(receipt)
        .map_err(|error| StoreError::Invalid(format!("the receipt cannot be kept: {error}")))?;
    execute(
        connection,
        "INSERT INTO idempotency (scope, key, receipt, at_s) VALUES (?1, ?2, ?3, ?4)",
        params![scope_key, key, text, limits.now_ms / 1000],
    )?;
    if connection.last_insert_rowid() % PRUNE_EVERY == 0 {
        prune_keys(connection, scope_key, limits)?;
    }
    Ok(())
}

fn prune_keys(connection: &Connection, scope_key: i64, limits: KeyLimits) -> Result<(), Fault> {
    execute(connection, "DELETE FROM idempotency WHERE at_s < ?1", [limits.now_ms / 1000 - limits.max_age_s])?;
    execute(
        connection,
        "DELETE FROM idempotency WHERE scope = ?1 AND row_key <= (
             SELECT row_key FROM idempotency WHERE scope = ?1 ORDER BY row_key DESC LIMIT 1 OFFSET ?2)",
        params![scope_key, limits.max_per_cube],
    )
}
