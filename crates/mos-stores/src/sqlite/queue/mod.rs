//! Jobs inside the writer's transaction.
//!
//! A job is written with the stage it is in, so that a claim looks only at jobs that can be given: never at those that
//! wait for their time or behind another one, however many there are. Where it matters, `INDEXED BY` makes `SQLite` refuse
//! any other way to find them.
//!
//! Invariant: of a group at most the first unfinished job is ready or delayed, and only while no consumer has a job of the
//! group. A consumer may have several that follow each other.

mod archive;
mod claim;
mod read;
mod store;

use mos_core::{JobId, PushReceipt, Scope, Ticket};
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::{ensure_scope, execute, scope_key};
use super::fault::Fault;
use crate::queue::{PreparedJob, QueueLimits, Sorting, ended, full};

/// What a job does; the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
enum Stage {
    Blocked = 0,
    Delayed = 1,
    Ready = 2,
    Claimed = 3,
    Dead = 4,
}

/// What is needed to move a job from stage to stage.
#[derive(Debug)]
struct Place {
    key: i64,
    scope: i64,
    group: Option<String>,
    /// When it may be claimed.
    due_ms: i64,
}

/// Ids of finished jobs are forgotten at every so many new ones, so that the bound costs next to nothing.
const FORGET_EVERY: i64 = 64;

/// What a job went through before it comes to this queue.
#[derive(Debug)]
struct Past<'a> {
    attempt: u32,
    pushed_ms: i64,
    last_error: Option<&'a str>,
    /// Why and when it was given up.
    death: Option<(&'a str, i64)>,
}

/// Adds new jobs, all or none: the caller rolls back what fails.
pub(super) fn push(
    connection: &Connection,
    scope: &Scope,
    jobs: &[PreparedJob],
    limits: &QueueLimits,
    now_ms: i64,
) -> Result<PushReceipt, Fault> {
    let nothing = || Past { attempt: 0, pushed_ms: now_ms, last_error: None, death: None };
    add(connection, scope, jobs.iter().map(|job| (job, nothing())), limits, now_ms)
}

/// Adds jobs, all or none: the caller rolls back what fails.
fn add<'a>(
    connection: &Connection,
    scope: &Scope,
    jobs: impl Iterator<Item = (&'a PreparedJob, Past<'a>)>,
    limits: &QueueLimits,
    now_ms: i64,
) -> Result<PushReceipt, Fault> {
    let scope_key = ensure_scope(connection, scope)?;
    let (mut sorting, mut n_new_dead) = (Sorting::default(), 0);
    for (job, past) in jobs {
        let is_new = !is_known(connection, scope_key, &job.id, limits.forgotten_until(now_ms))?;
        sorting.note(&job.id, is_new);
        if is_new {
            insert(connection, scope_key, job, &past, now_ms)?;
            n_new_dead += i64::from(past.death.is_some());
        }
    }
    let n_new = sorting.receipt.new.len();
    if n_new > 0 {
        let (n_jobs, n_dead) = count(connection, scope_key, n_new as i64, n_new_dead)?;
        if n_jobs.unsigned_abs() as usize > limits.max_jobs_per_tenant {
            return Err(full(scope, limits.max_jobs_per_tenant, n_dead.unsigned_abs() as usize).into());
        }
    }
    Ok(sorting.receipt)
}

fn is_known(connection: &Connection, scope: i64, id: &JobId, forgotten_until_ms: i64) -> Result<bool, Fault> {
    // One that is to be forgotten must go before its id can be finished again.
    execute(
        connection,
        "DELETE FROM finished_jobs WHERE scope = ?1 AND id = ?2 AND at_ms <= ?3",
        params![scope, id.as_str(), forgotten_until_ms],
    )?;
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM jobs WHERE scope = ?1 AND id = ?2)
             OR EXISTS (SELECT 1 FROM finished_jobs WHERE scope = ?1 AND id = ?2)",
    )?;
    Ok(statement.query_row(params![scope, id.as_str()], |row| row.get(0))?)
}

fn insert(connection: &Connection, scope: i64, job: &PreparedJob, past: &Past<'_>, now_ms: i64) -> Result<(), Fault> {
    let (stage, due_ms, reason) = match past.death {
        None => (Stage::Blocked, job.not_before_ms, None),
        Some((reason, died_ms)) => (Stage::Dead, died_ms, Some(reason)),
    };
    execute(
        connection,
        "INSERT INTO jobs (scope, id, kind, in_group, priority, attempt, max_attempts, pushed_ms, stage, due_ms, error,
                           reason, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            scope,
            job.id.as_str(),
            job.kind,
            job.group,
            job.priority,
            past.attempt,
            job.max_attempts,
            past.pushed_ms,
            stage as i64,
            due_ms,
            past.last_error,
            reason,
            job.payload
        ],
    )?;
    if stage == Stage::Dead {
        return Ok(());
    }
    let place = Place { key: connection.last_insert_rowid(), scope, group: job.group.clone(), due_ms };
    arrive(connection, &place, now_ms)
}

/// A new last one of its group waits behind the others; one that is alone may go.
fn arrive(connection: &Connection, place: &Place, now_ms: i64) -> Result<(), Fault> {
    if let Some(group) = &place.group
        && head(connection, place.scope, group)?.is_some_and(|head| head.key != place.key)
    {
        return Ok(());
    }
    admit(connection, place, now_ms)
}

/// The first unfinished job of a group.
fn head(connection: &Connection, scope: i64, group: &str) -> Result<Option<Place>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT job_key, due_ms FROM jobs INDEXED BY jobs_in_group
         WHERE scope = ?1 AND in_group = ?2 AND in_group IS NOT NULL AND stage < 4 ORDER BY job_key LIMIT 1",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Place { key: row.get(0)?, scope, group: Some(group.to_owned()), due_ms: row.get(1)? })
    };
    Ok(statement.query_row(params![scope, group], read).optional()?)
}

/// A job that nothing is in front of becomes ready, or waits for its time. `place.due_ms` is written as that time.
fn admit(connection: &Connection, place: &Place, now_ms: i64) -> Result<(), Fault> {
    let stage = if place.due_ms > now_ms { Stage::Delayed } else { Stage::Ready };
    execute(
        connection,
        "UPDATE jobs SET stage = ?2, due_ms = ?3, claim = NULL, consumer = NULL WHERE job_key = ?1",
        params![place.key, stage as i64, place.due_ms],
    )?;
    if stage == Stage::Ready {
        stand_in_line(connection, place.scope)?;
    }
    Ok(())
}

/// A tenant that has a ready job stands in line; one that stands there keeps its place.
fn stand_in_line(connection: &Connection, scope: i64) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached("SELECT turn FROM queues WHERE scope = ?1")?;
    let turn: Option<Option<i64>> = statement.query_row([scope], |row| row.get(0)).optional()?;
    match turn {
        Some(Some(_)) => Ok(()),
        Some(None) | None => set_turn(connection, scope, Some(next_turn(connection)?)),
    }
}

fn next_turn(connection: &Connection) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached("UPDATE queue SET last_turn = last_turn + 1 RETURNING last_turn")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn set_turn(connection: &Connection, scope: i64, turn: Option<i64>) -> Result<(), Fault> {
    execute(
        connection,
        "INSERT INTO queues (scope, n_jobs, n_dead, turn) VALUES (?1, 0, 0, ?2)
         ON CONFLICT (scope) DO UPDATE SET turn = excluded.turn, given = 0",
        params![scope, turn],
    )
}

/// A tenant that was served as often as its weight says goes to the end of the line.
fn end_turn(connection: &Connection, scope: i64, weight: u32) -> Result<(), Fault> {
    if weight > 1 {
        let mut statement =
            connection.prepare_cached("UPDATE queues SET given = given + 1 WHERE scope = ?1 RETURNING given")?;
        let given: i64 = statement.query_row([scope], |row| row.get(0))?;
        if given < i64::from(weight) {
            return Ok(());
        }
    }
    set_turn(connection, scope, Some(next_turn(connection)?))
}

/// A tenant without a ready job leaves the line. Called after a ready job became something else.
fn leave_line(connection: &Connection, scope: i64) -> Result<(), Fault> {
    execute(
        connection,
        "UPDATE queues SET turn = NULL, given = 0 WHERE scope = ?1 AND turn IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.scope = ?1 AND stage = 2)",
        [scope],
    )
}

/// Counts jobs in or out; returns how many there are now, and how many of them are dead.
fn count(connection: &Connection, scope: i64, jobs: i64, dead: i64) -> Result<(i64, i64), Fault> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO queues (scope, n_jobs, n_dead) VALUES (?1, ?2, ?3)
         ON CONFLICT (scope) DO UPDATE SET n_jobs = n_jobs + excluded.n_jobs, n_dead = n_dead + excluded.n_dead
         RETURNING n_jobs, n_dead",
    )?;
    Ok(statement.query_row(params![scope, jobs, dead], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// After a job has left its group, or its consumer, the first one of the group may go unless a consumer has another.
fn let_next_go(connection: &Connection, scope: i64, group: Option<&str>, now_ms: i64) -> Result<(), Fault> {
    let Some(group) = group else { return Ok(()) };
    let Some(head) = head(connection, scope, group)? else { return Ok(()) };
    let may_go: bool = connection
        .prepare_cached(
            "SELECT stage = 0 AND NOT EXISTS (
                 SELECT 1 FROM jobs AS held INDEXED BY jobs_claimed_in_group
                 WHERE held.scope = ?2 AND held.in_group = ?3 AND held.in_group IS NOT NULL AND held.stage = 3)
             FROM jobs WHERE job_key = ?1",
        )?
        .query_row(params![head.key, scope, group], |row| row.get(0))?;
    if may_go { admit(connection, &head, now_ms) } else { Ok(()) }
}

/// A job that was claimed waits again, at its place in its group. `place.due_ms` is written as its time.
fn wait_again(connection: &Connection, place: &Place, now_ms: i64) -> Result<(), Fault> {
    if place.group.is_none() {
        return admit(connection, place, now_ms);
    }
    execute(
        connection,
        "UPDATE jobs SET stage = ?2, due_ms = ?3, claim = NULL, consumer = NULL WHERE job_key = ?1",
        params![place.key, Stage::Blocked as i64, place.due_ms],
    )?;
    let_next_go(connection, place.scope, place.group.as_deref(), now_ms)
}

/// Removes a job that waits or is dead; returns whether there was one.
fn remove_one(connection: &Connection, scope: i64, id: &JobId, now_ms: i64) -> Result<bool, Fault> {
    let mut statement = connection
        .prepare_cached("DELETE FROM jobs WHERE scope = ?1 AND id = ?2 AND stage <> 3 RETURNING stage, in_group")?;
    let removed: Option<(i64, Option<String>)> =
        statement.query_row(params![scope, id.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((stage, group)) = removed else { return Ok(false) };
    let is_dead = stage == Stage::Dead as i64;
    count(connection, scope, -1, -i64::from(is_dead))?;
    if !is_dead {
        let_next_go(connection, scope, group.as_deref(), now_ms)?;
        leave_line(connection, scope)?;
    }
    Ok(true)
}

/// Removes jobs that wait or are dead, and returns how many there were.
pub(super) fn remove(connection: &Connection, scope: &Scope, ids: &[JobId], now_ms: i64) -> Result<usize, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(0) };
    let mut n_removed = 0;
    for id in ids {
        n_removed += usize::from(remove_one(connection, scope, id, now_ms)?);
    }
    Ok(n_removed)
}

/// Brings dead jobs back as the newest ones, and returns how many there were.
pub(super) fn retry_dead(connection: &Connection, scope: &Scope, ids: &[JobId], now_ms: i64) -> Result<usize, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(0) };
    let mut n_back = 0;
    for id in ids {
        // A new key is a new place in the order; the largest key ever used is never used again.
        let mut statement = connection.prepare_cached(
            "UPDATE jobs SET job_key = (SELECT max(seq) + 1 FROM sqlite_sequence WHERE name = 'jobs'), stage = 0,
                             due_ms = 0, attempt = 0, pushed_ms = ?3, reason = NULL
             WHERE scope = ?1 AND id = ?2 AND stage = 4 RETURNING job_key, in_group",
        )?;
        let back: Option<(i64, Option<String>)> = statement
            .query_row(params![scope, id.as_str(), now_ms], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((key, group)) = back else { continue };
        execute(connection, "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'jobs'", [key])?;
        count(connection, scope, 0, -1)?;
        arrive(connection, &Place { key, scope, group, due_ms: 0 }, now_ms)?;
        n_back += 1;
    }
    Ok(n_back)
}

/// Removes everything of a tenant, and returns how many jobs there were.
pub(super) fn remove_tenant(connection: &Connection, scope: &Scope) -> Result<usize, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(0) };
    let n_jobs = connection.prepare_cached("DELETE FROM jobs WHERE scope = ?1")?.execute([scope])?;
    execute(connection, "DELETE FROM finished_jobs WHERE scope = ?1", [scope])?;
    execute(connection, "DELETE FROM queues WHERE scope = ?1", [scope])?;
    Ok(n_jobs)
}

/// The job that a ticket is for, while the ticket holds.
#[derive(Debug)]
struct Held {
    key: i64,
    scope: i64,
    group: Option<String>,
    attempt: u32,
    max_attempts: u32,
}

fn held(connection: &Connection, ticket: &Ticket) -> Result<Held, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT job_key, scope, in_group, attempt, max_attempts FROM jobs JOIN scopes ON scope_key = scope
         WHERE cube_id = ?1 AND id = ?2 AND stage = 3 AND claim = ?3",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Held {
            key: row.get(0)?,
            scope: row.get(1)?,
            group: row.get(2)?,
            attempt: row.get(3)?,
            max_attempts: row.get(4)?,
        })
    };
    let values = params![ticket.scope.cube.as_str(), ticket.id.as_str(), ticket.claim as i64];
    statement.query_row(values, read).optional()?.ok_or_else(|| ended(ticket).into())
}
