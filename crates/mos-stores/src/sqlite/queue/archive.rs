//! Jobs that move to another queue or come from one.

use async_trait::async_trait;
use mos_core::{ArchivedJob, CubeId, FinishedJob, JobId, JobPlace, PushReceipt, QueueArchive, Scope, StoreError};
use rusqlite::{Connection, Rows, params};

use super::super::apply::{ensure_scope, execute, scope_key};
use super::super::fault::Fault;
use super::super::{SqliteStore, blocking};
use super::claim::RawJob;
use super::{Past, Stage, add, is_known};
use crate::queue::archive::{PageBound, PreparedArchivedJob, dead_job, open_job, prepare_archived};
use crate::queue::{QueueLimits, Sorting, moment, payload_to_show};

/// Columns that [`RawJob`] reads, then stage and key.
macro_rules! archived_columns {
    () => {
        "SELECT id, kind, in_group, priority, attempt, max_attempts, pushed_ms, error, payload, due_ms, reason, stage, job_key
         FROM jobs "
    };
}

#[async_trait]
impl QueueArchive for SqliteStore {
    async fn archived_jobs(
        &self,
        scope: &Scope,
        after: Option<JobPlace>,
        limit: usize,
    ) -> Result<Vec<ArchivedJob>, StoreError> {
        let (scope, now_ms) = (scope.clone(), self.now_ms());
        self.read(move |connection| jobs(connection, &scope, after, limit, now_ms)).await
    }

    async fn archived_finished(
        &self,
        scope: &Scope,
        after: Option<&FinishedJob>,
        limit: usize,
    ) -> Result<Vec<FinishedJob>, StoreError> {
        let (scope, after) = (scope.clone(), after.cloned());
        let until_ms = self.options.queue.forgotten_until(self.now_ms());
        self.read(move |connection| finished(connection, &scope, after.as_ref(), limit, until_ms)).await
    }

    async fn import_jobs(&self, scope: &Scope, jobs: Vec<ArchivedJob>) -> Result<PushReceipt, StoreError> {
        let limits = self.options.queue.clone();
        let (jobs, limits) = blocking(move || prepare_archived(jobs, &limits).map(|jobs| (jobs, limits))).await??;
        let (scope, now_ms) = (scope.clone(), self.now_ms());
        self.change(move |connection| import_jobs(connection, &scope, &jobs, &limits, now_ms)).await
    }

    async fn import_finished(&self, scope: &Scope, finished: Vec<FinishedJob>) -> Result<PushReceipt, StoreError> {
        let scope = scope.clone();
        let until_ms = self.options.queue.forgotten_until(self.now_ms());
        self.write(move |connection| import_finished(connection, &scope, &finished, until_ms)).await
    }
}

fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn jobs(
    connection: &Connection,
    scope: &Scope,
    after: Option<JobPlace>,
    limit: usize,
    now_ms: i64,
) -> Result<Vec<ArchivedJob>, Fault> {
    let Some(key) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let first_open = match after {
        None => Some(-1),
        Some(JobPlace::Open(number)) => Some(bound(number)),
        Some(JobPlace::Dead(..)) => None,
    };
    let limit_of_rows = bound(limit as u64);
    if let Some(after) = first_open {
        let mut statement = connection.prepare_cached(concat!(
            archived_columns!(),
            "WHERE scope = ?1 AND stage < 4 AND job_key > ?2 ORDER BY job_key LIMIT ?3"
        ))?;
        let page = read_page(statement.query(params![key, after, limit_of_rows])?, &scope.cube, limit, now_ms)?;
        if !page.is_empty() {
            return Ok(page);
        }
    }
    let (died_ms, number) = match after {
        Some(JobPlace::Dead(died_ms, number)) => (died_ms, bound(number)),
        _ => (i64::MIN, -1),
    };
    let mut statement = connection.prepare_cached(concat!(
        archived_columns!(),
        "WHERE scope = ?1 AND stage = 4 AND (due_ms, job_key) > (?2, ?3) ORDER BY due_ms, job_key LIMIT ?4"
    ))?;
    read_page(statement.query(params![key, died_ms, number, limit_of_rows])?, &scope.cube, limit, now_ms)
}

/// Reads rows until a page is full.
fn read_page(mut rows: Rows<'_>, cube: &CubeId, limit: usize, now_ms: i64) -> Result<Vec<ArchivedJob>, Fault> {
    let mut bound = PageBound::new(limit);
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let (stage, number): (i64, i64) = (row.get(11)?, row.get(12)?);
        let number = number.unsigned_abs();
        let mut raw = RawJob::read(row)?;
        if !bound.takes(raw.payload.len()) {
            break;
        }
        let (due_ms, reason, payload) = (raw.due_ms, raw.reason.take(), payload_to_show(&raw.payload));
        let job = raw.job(cube, payload);
        page.push(if stage == Stage::Dead as i64 {
            dead_job(number, job, reason.unwrap_or_default(), due_ms)
        } else {
            open_job(number, job, due_ms, stage == Stage::Claimed as i64, now_ms)
        });
    }
    Ok(page)
}

fn finished(
    connection: &Connection,
    scope: &Scope,
    after: Option<&FinishedJob>,
    limit: usize,
    forgotten_until_ms: i64,
) -> Result<Vec<FinishedJob>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    // No id is empty.
    let (at_ms, id) = after.map_or((i64::MIN, ""), |after| (after.at.as_millisecond(), after.id.as_str()));
    let mut statement = connection.prepare_cached(
        "SELECT at_ms, id FROM finished_jobs WHERE scope = ?1 AND at_ms > ?2 AND (at_ms, id) > (?3, ?4)
         ORDER BY at_ms, id LIMIT ?5",
    )?;
    let mut rows = statement.query(params![scope, forgotten_until_ms, at_ms, id, bound(limit as u64)])?;
    let mut finished = Vec::new();
    while let Some(row) = rows.next()? {
        finished.push(FinishedJob { at: moment(row.get(0)?), id: JobId::new(row.get::<_, String>(1)?) });
    }
    Ok(finished)
}

/// Adds another queue's jobs, all or none: the caller rolls back what fails.
fn import_jobs(
    connection: &Connection,
    scope: &Scope,
    jobs: &[PreparedArchivedJob],
    limits: &QueueLimits,
    now_ms: i64,
) -> Result<PushReceipt, Fault> {
    add(connection, scope, jobs.iter().map(|archived| (&archived.job, past_of(archived))), limits, now_ms)
}

fn past_of(archived: &PreparedArchivedJob) -> Past<'_> {
    Past {
        attempt: archived.attempt,
        pushed_ms: archived.pushed_ms,
        last_error: archived.last_error.as_deref(),
        death: archived.death.as_ref().map(|(reason, died_ms)| (reason.as_str(), *died_ms)),
    }
}

/// Notes that jobs of another queue were done.
fn import_finished(
    connection: &Connection,
    scope: &Scope,
    finished: &[FinishedJob],
    forgotten_until_ms: i64,
) -> Result<PushReceipt, Fault> {
    let scope = ensure_scope(connection, scope)?;
    let mut sorting = Sorting::default();
    for FinishedJob { at, id } in finished {
        let at_ms = at.as_millisecond();
        let is_new = at_ms > forgotten_until_ms && !is_known(connection, scope, id, forgotten_until_ms)?;
        sorting.note(id, is_new);
        if is_new {
            // No claim has this number.
            execute(
                connection,
                "INSERT INTO finished_jobs (scope, id, claim, at_ms) VALUES (?1, ?2, 0, ?3)",
                params![scope, id.as_str(), at_ms],
            )?;
        }
    }
    Ok(sorting.receipt)
}
