//! What the queue holds.

use mos_core::{CubeId, DeadJob, JobId, JobState, Page, Paging, QueueStats, Scope};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::apply::scope_key;
use super::super::fault::Fault;
use super::Stage;
use super::claim::{RawJob, job_columns};
use crate::queue::{moment, payload_to_show};

/// Returns where a job stands.
pub(super) fn find(
    connection: &Connection,
    scope: &Scope,
    id: &JobId,
    forgotten_until_ms: i64,
) -> Result<Option<JobState>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT stage, due_ms, coalesce(reason, consumer, '') FROM jobs WHERE scope = ?1 AND id = ?2",
    )?;
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, String>(2)?));
    let found = statement.query_row(params![scope, id.as_str()], read).optional()?;
    let Some((stage, due_ms, text)) = found else {
        let mut statement = connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM finished_jobs WHERE scope = ?1 AND id = ?2 AND at_ms > ?3)",
        )?;
        let is_finished: bool =
            statement.query_row(params![scope, id.as_str(), forgotten_until_ms], |row| row.get(0))?;
        return Ok(is_finished.then_some(JobState::Finished));
    };
    Ok(Some(if stage == Stage::Claimed as i64 {
        JobState::Claimed { consumer: text, until: moment(due_ms) }
    } else if stage == Stage::Dead as i64 {
        JobState::Dead { reason: text }
    } else {
        JobState::Waiting
    }))
}

/// Returns the dead jobs of a tenant, first dead first.
pub(super) fn dead(connection: &Connection, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, Fault> {
    let Some(key) = scope_key(connection, scope)? else { return Ok(Page { entries: Vec::new(), total: 0 }) };
    let total: i64 = connection
        .prepare_cached("SELECT count(*) FROM jobs WHERE scope = ?1 AND stage = 4")?
        .query_row([key], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(concat!(
        job_columns!(),
        "WHERE scope = ?1 AND stage = 4 ORDER BY due_ms, job_key LIMIT ?2 OFFSET ?3"
    ))?;
    let bound = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let values = params![key, bound(paging.limit), bound(paging.offset)];
    let rows: Vec<RawJob> = statement.query_map(values, RawJob::read)?.collect::<Result<_, _>>()?;
    let show = |mut raw: RawJob| {
        let (reason, died_at) = (raw.reason.take().unwrap_or_default(), moment(raw.due_ms));
        let payload = payload_to_show(&raw.payload);
        DeadJob { job: raw.job(&scope.cube, payload), reason, died_at }
    };
    let entries = rows.into_iter().map(show).collect();
    Ok(Page { entries, total: total.unsigned_abs() as usize })
}

/// Returns how much a tenant has in the queue.
pub(super) fn stats(connection: &Connection, scope: &Scope) -> Result<QueueStats, Fault> {
    let mut stats = QueueStats::default();
    let Some(scope) = scope_key(connection, scope)? else { return Ok(stats) };
    let mut statement = connection
        .prepare_cached("SELECT stage, count(*), min(pushed_ms) FROM jobs WHERE scope = ?1 GROUP BY stage")?;
    let mut rows = statement.query([scope])?;
    while let Some(row) = rows.next()? {
        let (stage, n_jobs, pushed_ms): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let n_jobs = n_jobs.unsigned_abs() as usize;
        if stage == Stage::Dead as i64 {
            stats.dead = n_jobs;
            continue;
        }
        if stage == Stage::Claimed as i64 {
            stats.claimed = n_jobs;
        } else {
            stats.waiting += n_jobs;
        }
        let pushed_at = moment(pushed_ms);
        stats.oldest = Some(stats.oldest.map_or(pushed_at, |oldest| oldest.min(pushed_at)));
    }
    Ok(stats)
}

/// Returns the tenants that have jobs.
pub(super) fn tenants(connection: &Connection) -> Result<Vec<Scope>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT cube_id FROM queues JOIN scopes ON scope_key = scope WHERE n_jobs > 0 ORDER BY cube_id",
    )?;
    let rows = statement.query_map([], |row| Ok(Scope { cube: CubeId::new(row.get::<_, String>(0)?) }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns when something can be claimed: `now_ms` when it can at once.
pub(super) fn next_ready_ms(connection: &Connection, now_ms: i64) -> Result<Option<i64>, Fault> {
    let is_ready: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM queues WHERE turn IS NOT NULL)")?
        .query_row([], |row| row.get(0))?;
    if is_ready {
        return Ok(Some(now_ms));
    }
    let mut statement =
        connection.prepare_cached("SELECT min(due_ms) FROM jobs INDEXED BY jobs_due WHERE stage IN (1, 3)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}
