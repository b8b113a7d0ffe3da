//! What is left of a user in the database when its cubes are gone, and how it goes.

use mos_core::users::ROOT_USER;
use mos_core::{CubeId, JobId, MemoryId, Scope, StoreError, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::apply::execute;
use super::fault::Fault;
use super::queue;
use super::users::not_found;

/// What stands where a user's id stood.
const NOBODY: &str = "erased";

/// Whether a row of `json_tree` is a field that names users and has the user `?1` as its value, or in its list. Texts elsewhere are
/// equal by chance: roles, labels, tasks, and cubes of others.
const NAMES: &str = "atom = ?1 AND (instr(key, 'user') > 0 OR (typeof(key) = 'integer' AND instr(path, 'user') > 0))";

/// What was taken out of cubes of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Jobs that named the user and are gone.
    pub n_jobs: usize,
    /// Jobs that name the user and are being worked on: they stay until they are done.
    pub n_jobs_at_work: usize,
    /// Documents of the scheduler that named the user.
    pub n_documents: usize,
    /// Entries of logs that named the user, and those before them.
    pub n_log_entries: usize,
    /// Changes that the user made, which now name nobody.
    pub n_changes: usize,
}

impl SqliteStore {
    /// Removes what the database still knows of a user outside of memories: that cubes of these ids were deleted, and in cubes
    /// of others jobs, documents, entries of logs and idempotency keys that name the user. Changes that the user made stay, and
    /// name nobody.
    ///
    /// With `with_past`, earlier states of memories that the user told go too, also in cubes of others.
    ///
    /// A late write to one of the cubes is not refused any more: end first whatever may write.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be written.
    pub async fn erase_traces(&self, user: &UserId, cubes: &[CubeId], with_past: bool) -> Result<Traces, StoreError> {
        let (user, cubes) = (user.clone(), cubes.to_vec());
        let now_ms = self.clock.now().as_millisecond();
        self.write(move |connection| {
            for cube in &cubes {
                forget_closed(connection, &Scope::of(cube))?;
                // A key keeps its bounds: one that was good for this cube alone is good for none.
                let sql = "UPDATE api_keys SET cubes = replace(cubes, json_quote(?1), json_quote(?2))";
                execute(connection, sql, params![cube.as_str(), NOBODY])?;
            }
            if with_past {
                let sql = "DELETE FROM versions WHERE json_extract(metadata, '$.user_id') = ?1";
                execute(connection, sql, [user.as_str()])?;
            }
            receipts(connection, &user)?;
            let (n_jobs, n_jobs_at_work) = jobs(connection, &user, now_ms)?;
            Ok(Traces {
                n_jobs,
                n_jobs_at_work,
                n_documents: documents(connection, &user)?,
                n_log_entries: log_entries(connection, &user)?,
                n_changes: changes(connection, &user)?,
            })
        })
        .await
    }

    /// Removes the earlier states of memories, and that they ever were. Those that still exist keep their present state.
    /// Whoever repeats a write of theirs with its idempotency key writes anew.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be written.
    pub async fn erase_history(&self, scope: &Scope, ids: &[MemoryId]) -> Result<(), StoreError> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        let listed = serde_json::json!(ids).to_string();
        self.write(move |connection| {
            let Some(scope) = super::apply::scope_key(connection, &scope)? else { return Ok(()) };
            for id in &ids {
                let sql = "DELETE FROM versions WHERE scope = ?1 AND id = ?2";
                execute(connection, sql, params![scope, id.as_str()])?;
            }
            let sql = "DELETE FROM idempotency WHERE scope = ?1 AND EXISTS (
                           SELECT 1 FROM json_each(receipt, '$.put') AS put
                           WHERE put.value IN (SELECT value FROM json_each(?2)))";
            execute(connection, sql, params![scope, listed])
        })
        .await
    }
}

/// Removes a user for good, with its shares. Its cubes must be gone.
pub(super) fn user(connection: &Connection, id: &UserId) -> Result<(), Fault> {
    if id.as_str() == ROOT_USER {
        return Err(Fault::Store(StoreError::Invalid(format!("the user `{ROOT_USER}` cannot be erased"))));
    }
    let key: Option<i64> = connection
        .prepare_cached("SELECT row_key FROM users WHERE user_id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    let key = key.ok_or_else(|| not_found("user", id.as_str()))?;
    let n_cubes: i64 =
        connection.prepare_cached("SELECT count(*) FROM cubes WHERE owner = ?1")?.query_row([key], |row| row.get(0))?;
    if n_cubes > 0 {
        return Err(Fault::Store(StoreError::Conflict(format!(
            "the user `{id}` still owns {n_cubes} cubes; delete them first"
        ))));
    }
    execute(connection, "DELETE FROM shares WHERE user = ?1", [key])?;
    execute(connection, "DELETE FROM users WHERE row_key = ?1", [key])
}

/// Removes the mark that a deleted cube left behind.
fn forget_closed(connection: &Connection, scope: &Scope) -> Result<(), Fault> {
    let key: Option<i64> = connection
        .prepare_cached("SELECT scope_key FROM scopes WHERE cube_id = ?1 AND is_closed")?
        .query_row([scope.cube.as_str()], |row| row.get(0))
        .optional()?;
    let Some(key) = key else { return Ok(()) };
    queue::remove_tenant(connection, scope)?;
    super::state::remove_all(connection, scope)?;
    for sql in [
        "DELETE FROM tombstones WHERE scope = ?1",
        "DELETE FROM versions WHERE scope = ?1",
        "DELETE FROM idempotency WHERE scope = ?1",
        "DELETE FROM scopes WHERE scope_key = ?1",
    ] {
        execute(connection, sql, [key])?;
    }
    Ok(())
}

/// Removes the receipts of the user's own idempotency keys, which hold the user's id after its length, and perhaps something
/// before that.
fn receipts(connection: &Connection, user: &UserId) -> Result<(), Fault> {
    let named = format!("{}:{user}:", user.as_str().len());
    // With another digit before it the length is another one.
    let sql = "DELETE FROM idempotency WHERE instr(key, ?1) = 1
               OR (instr(key, ?1) > 1 AND substr(key, instr(key, ?1) - 1, 1) NOT BETWEEN '0' AND '9')";
    execute(connection, sql, [named])
}

/// Returns how many jobs went, and how many are being worked on.
fn jobs(connection: &Connection, user: &UserId, now_ms: i64) -> Result<(usize, usize), Fault> {
    let sql = format!(
        "SELECT cube_id, id FROM jobs JOIN scopes ON scope_key = jobs.scope
         WHERE EXISTS (SELECT 1 FROM json_tree(payload) WHERE {NAMES})"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([user.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let found: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
    let (n_found, mut n_removed) = (found.len(), 0);
    for (cube, id) in found {
        n_removed += queue::remove(connection, &Scope::of(&CubeId::new(cube)), &[JobId::new(id)], now_ms)?;
    }
    Ok((n_removed, n_found.saturating_sub(n_removed)))
}

fn documents(connection: &Connection, user: &UserId) -> Result<usize, Fault> {
    let sql = format!(
        "DELETE FROM state_documents WHERE EXISTS (SELECT 1 FROM json_tree(state_documents.value) WHERE {NAMES})"
    );
    Ok(connection.prepare_cached(&sql)?.execute([user.as_str()])?)
}

/// A log may lack its oldest entries, but none between two others: what stands before an entry of the user goes with it.
fn log_entries(connection: &Connection, user: &UserId) -> Result<usize, Fault> {
    let sql = format!(
        "DELETE FROM state_entries WHERE sequence <= (
             SELECT max(named.sequence) FROM state_entries AS named WHERE named.log = state_entries.log
             AND EXISTS (SELECT 1 FROM json_tree(named.value) WHERE {NAMES}))"
    );
    Ok(connection.prepare_cached(&sql)?.execute([user.as_str()])?)
}

fn changes(connection: &Connection, user: &UserId) -> Result<usize, Fault> {
    let mut n_changes = 0;
    for sql in ["UPDATE nodes SET actor = ?2 WHERE actor = ?1", "UPDATE versions SET actor = ?2 WHERE actor = ?1"] {
        n_changes += connection.prepare_cached(sql)?.execute(params![user.as_str(), NOBODY])?;
    }
    Ok(n_changes)
}
