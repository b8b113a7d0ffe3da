//! Jobs in the hands of consumers.

use mos_core::{ClaimRequest, Claimed, CubeId, Failed, Job, JobId, Scope, Ticket};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::super::apply::execute;
use super::super::fault::Fault;
use super::{
    FORGET_EVERY, Held, Place, Stage, admit, count, end_turn, held, leave_line, let_next_go, set_turn, wait_again,
};
use crate::queue::{MAX_WOKEN_PER_CLAIM, QueueLimits, lease_over, moment, short_reason, silent, unreadable};

/// Columns that [`RawJob`] reads, in its order.
macro_rules! job_columns {
    () => {
        "SELECT id, kind, in_group, priority, attempt, max_attempts, pushed_ms, error, payload, due_ms, reason FROM jobs "
    };
}
pub(super) use job_columns;

/// Gives jobs to a consumer, tenants in turn.
pub(super) fn claim(
    connection: &Connection,
    request: &ClaimRequest,
    limit: usize,
    lease_ms: i64,
    now_ms: i64,
) -> Result<Vec<Claimed>, Fault> {
    wake(connection, now_ms)?;
    let mut claimed = Vec::new();
    while claimed.len() < limit
        && let Some((scope, cube)) = first_in_line(connection)?
    {
        let until_ms = now_ms.saturating_add(lease_ms);
        match best(connection, scope)? {
            Some(key) => {
                claimed.extend(give(connection, key, scope, &cube, &request.consumer, until_ms, now_ms)?);
                end_turn(connection, scope, request.weights.of(&cube))?;
                leave_line(connection, scope)?;
            }
            None => set_turn(connection, scope, None)?,
        }
    }
    Ok(claimed)
}

/// Gives the holder of a claim those that follow it in its group: of its kind, as long as each is ready.
pub(super) fn claim_following(
    connection: &Connection,
    ticket: &Ticket,
    limit: usize,
    lease_ms: i64,
    now_ms: i64,
) -> Result<Vec<Claimed>, Fault> {
    let held = held(connection, ticket)?;
    let until_ms = now_ms.saturating_add(lease_ms);
    let consumer: String = connection
        .prepare_cached("SELECT coalesce(consumer, '') FROM jobs WHERE job_key = ?1")?
        .query_row([held.key], |row| row.get(0))?;
    let mut claimed = Vec::new();
    for key in following(connection, &held, limit, now_ms)? {
        claimed.extend(give(connection, key, held.scope, &ticket.scope.cube, &consumer, until_ms, now_ms)?);
    }
    Ok(claimed)
}

/// Those that follow a claimed job in its group and could be given with it, in their order.
fn following(connection: &Connection, held: &Held, limit: usize, now_ms: i64) -> Result<Vec<i64>, Fault> {
    let Some(group) = &held.group else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT job_key, stage = 0 AND due_ms <= ?4 AND kind = (SELECT kind FROM jobs WHERE job_key = ?3)
         FROM jobs INDEXED BY jobs_in_group
         WHERE scope = ?1 AND in_group = ?2 AND in_group IS NOT NULL AND stage < 4 AND job_key > ?3
         ORDER BY job_key LIMIT ?5",
    )?;
    let values = params![held.scope, group, held.key, now_ms, limit as i64];
    let mut rows = statement.query(values)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, is_ready): (i64, bool) = (row.get(0)?, row.get(1)?);
        if !is_ready {
            break;
        }
        keys.push(key);
    }
    Ok(keys)
}

fn first_in_line(connection: &Connection) -> Result<Option<(i64, CubeId)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT scope, cube_id FROM queues JOIN scopes ON scope_key = scope WHERE turn IS NOT NULL
         ORDER BY turn LIMIT 1",
    )?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, CubeId::new(row.get::<_, String>(1)?)));
    Ok(statement.query_row([], read).optional()?)
}

/// The best ready job of a tenant.
fn best(connection: &Connection, scope: i64) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT job_key FROM jobs INDEXED BY jobs_by_stage WHERE scope = ?1 AND stage = 2
         ORDER BY priority DESC, job_key LIMIT 1",
    )?;
    Ok(statement.query_row([scope], |row| row.get(0)).optional()?)
}

/// Gives a job that is ready, or follows one that the consumer has, to a consumer; one that cannot be read dies instead.
fn give(
    connection: &Connection,
    key: i64,
    scope: i64,
    cube: &CubeId,
    consumer: &str,
    until_ms: i64,
    now_ms: i64,
) -> Result<Option<Claimed>, Fault> {
    let claim: i64 = connection
        .prepare_cached("UPDATE queue SET last_claim = last_claim + 1 RETURNING last_claim")?
        .query_row([], |row| row.get(0))?;
    execute(
        connection,
        "UPDATE jobs SET stage = 3, due_ms = ?2, claim = ?3, consumer = ?4, attempt = attempt + 1 WHERE job_key = ?1",
        params![key, until_ms, claim, consumer],
    )?;
    let mut statement = connection.prepare_cached(concat!(job_columns!(), "WHERE job_key = ?1"))?;
    let raw = statement.query_row([key], RawJob::read)?;
    let payload = match serde_json::from_str(&raw.payload) {
        Ok(payload) => payload,
        Err(error) => {
            bury(connection, key, scope, raw.group.as_deref(), &unreadable(&error), now_ms)?;
            return Ok(None);
        }
    };
    let job = raw.job(cube, payload);
    let ticket = Ticket { scope: job.scope.clone(), id: job.id.clone(), claim: claim.unsigned_abs() };
    Ok(Some(Claimed { job, ticket, until: moment(until_ms) }))
}

/// A job as it is written.
#[derive(Debug)]
pub(super) struct RawJob {
    id: String,
    kind: String,
    group: Option<String>,
    priority: u8,
    attempt: u32,
    max_attempts: u32,
    pushed_ms: i64,
    error: Option<String>,
    pub(super) payload: String,
    pub(super) due_ms: i64,
    pub(super) reason: Option<String>,
}

impl RawJob {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            kind: row.get(1)?,
            group: row.get(2)?,
            priority: row.get(3)?,
            attempt: row.get(4)?,
            max_attempts: row.get(5)?,
            pushed_ms: row.get(6)?,
            error: row.get(7)?,
            payload: row.get(8)?,
            due_ms: row.get(9)?,
            reason: row.get(10)?,
        })
    }

    pub(super) fn job(self, cube: &CubeId, payload: Value) -> Job {
        Job {
            scope: Scope::of(cube),
            id: JobId::new(self.id),
            kind: self.kind,
            payload,
            group: self.group,
            priority: self.priority,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            pushed_at: moment(self.pushed_ms),
            last_error: self.error,
        }
    }
}

/// A job whose time has come.
struct Due {
    place: Place,
    stage: i64,
    attempt: u32,
    max_attempts: u32,
    consumer: Option<String>,
}

/// Delayed jobs become ready, and what a silent consumer had does again.
fn wake(connection: &Connection, now_ms: i64) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT job_key, scope, in_group, stage, attempt, max_attempts, consumer FROM jobs
         INDEXED BY jobs_due WHERE stage IN (1, 3) AND due_ms <= ?1 ORDER BY due_ms, job_key LIMIT ?2",
    )?;
    let read = |row: &Row<'_>| {
        let place = Place { key: row.get(0)?, scope: row.get(1)?, group: row.get(2)?, due_ms: now_ms };
        Ok(Due { place, stage: row.get(3)?, attempt: row.get(4)?, max_attempts: row.get(5)?, consumer: row.get(6)? })
    };
    let due: Vec<Due> =
        statement.query_map(params![now_ms, MAX_WOKEN_PER_CLAIM as i64], read)?.collect::<Result<_, _>>()?;
    for one in due {
        let place = &one.place;
        if one.stage == Stage::Claimed as i64 {
            let consumer = one.consumer.as_deref().unwrap_or_default();
            let values = params![place.key, lease_over(consumer)];
            execute(connection, "UPDATE jobs SET error = ?2 WHERE job_key = ?1", values)?;
            if one.attempt >= one.max_attempts {
                bury(
                    connection,
                    place.key,
                    place.scope,
                    place.group.as_deref(),
                    &silent(consumer, one.attempt),
                    now_ms,
                )?;
                continue;
            }
            wait_again(connection, place, now_ms)?;
        } else {
            admit(connection, place, now_ms)?;
        }
    }
    Ok(())
}

/// A claimed job dies.
fn bury(
    connection: &Connection,
    key: i64,
    scope: i64,
    group: Option<&str>,
    reason: &str,
    now_ms: i64,
) -> Result<(), Fault> {
    execute(
        connection,
        "UPDATE jobs SET stage = 4, due_ms = ?2, claim = NULL, consumer = NULL, reason = ?3 WHERE job_key = ?1",
        params![key, now_ms, reason],
    )?;
    count(connection, scope, 0, 1)?;
    let_next_go(connection, scope, group, now_ms)
}

/// Sets a lease anew; returns when it is over.
pub(super) fn extend(connection: &Connection, ticket: &Ticket, lease_ms: i64, now_ms: i64) -> Result<i64, Fault> {
    let held = held(connection, ticket)?;
    let until_ms = now_ms.saturating_add(lease_ms);
    execute(connection, "UPDATE jobs SET due_ms = ?2 WHERE job_key = ?1", params![held.key, until_ms])?;
    Ok(until_ms)
}

/// Ends a job that was done.
pub(super) fn complete(
    connection: &Connection,
    ticket: &Ticket,
    limits: &QueueLimits,
    now_ms: i64,
) -> Result<(), Fault> {
    let by: Option<i64> = connection
        .prepare_cached(
            "SELECT claim FROM finished_jobs JOIN scopes ON scope_key = scope
             WHERE cube_id = ?1 AND id = ?2 AND at_ms > ?3",
        )?
        .query_row(params![ticket.scope.cube.as_str(), ticket.id.as_str(), limits.forgotten_until(now_ms)], |row| {
            row.get(0)
        })
        .optional()?;
    if by == Some(ticket.claim as i64) {
        return Ok(());
    }
    let held = held(connection, ticket)?;
    execute(connection, "DELETE FROM jobs WHERE job_key = ?1", [held.key])?;
    count(connection, held.scope, -1, 0)?;
    execute(
        connection,
        "INSERT OR REPLACE INTO finished_jobs (scope, id, claim, at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![held.scope, ticket.id.as_str(), ticket.claim as i64, now_ms],
    )?;
    if connection.last_insert_rowid() % FORGET_EVERY == 0 {
        forget_finished(connection, held.scope, limits, now_ms)?;
    }
    let_next_go(connection, held.scope, held.group.as_deref(), now_ms)
}

fn forget_finished(connection: &Connection, scope: i64, limits: &QueueLimits, now_ms: i64) -> Result<(), Fault> {
    execute(connection, "DELETE FROM finished_jobs WHERE at_ms <= ?1", [limits.forgotten_until(now_ms)])?;
    execute(
        connection,
        "DELETE FROM finished_jobs WHERE scope = ?1 AND row_key <= (
             SELECT row_key FROM finished_jobs WHERE scope = ?1 ORDER BY row_key DESC LIMIT 1 OFFSET ?2)",
        params![scope, limits.max_finished_ids as i64],
    )
}

/// Takes a job back unharmed.
pub(super) fn release(connection: &Connection, ticket: &Ticket, now_ms: i64) -> Result<(), Fault> {
    let held = held(connection, ticket)?;
    execute(connection, "UPDATE jobs SET attempt = attempt - 1 WHERE job_key = ?1", [held.key])?;
    wait_again(connection, &Place { key: held.key, scope: held.scope, group: held.group, due_ms: now_ms }, now_ms)
}

/// Notes that an attempt failed.
pub(super) fn fail(
    connection: &Connection,
    ticket: &Ticket,
    reason: &str,
    retry_ms: Option<i64>,
    now_ms: i64,
) -> Result<Failed, Fault> {
    let held = held(connection, ticket)?;
    let reason = short_reason(reason);
    execute(connection, "UPDATE jobs SET error = ?2 WHERE job_key = ?1", params![held.key, reason])?;
    match retry_ms.filter(|_| held.attempt < held.max_attempts) {
        None => {
            bury(connection, held.key, held.scope, held.group.as_deref(), reason, now_ms)?;
            Ok(Failed::Dead)
        }
        Some(due_ms) => {
            wait_again(connection, &Place { key: held.key, scope: held.scope, group: held.group, due_ms }, now_ms)?;
            Ok(Failed::Waits)
        }
    }
}
