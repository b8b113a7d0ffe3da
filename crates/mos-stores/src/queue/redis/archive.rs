//! Jobs that move to another queue or come from one.

use async_trait::async_trait;
use mos_core::queue_archive::MAX_ARCHIVED_BYTES;
use mos_core::{ArchivedJob, FinishedJob, JobId, JobPlace, PushReceipt, QueueArchive, Scope, StoreError};
use redis::Value;

use super::connection::Repeat;
use super::key::encode;
use super::{Fields, MAX_EXPIRY_MS, RedisQueue, parse_dead, unexpected};
use crate::queue::archive::{PreparedArchivedJob, dead_job, open_job, prepare_archived};
use crate::queue::{Sorting, full, moment, payload_to_show};

/// Larger numbers are no longer exact on the server, and nothing there is that large.
const LARGEST: usize = 1 << 50;

impl RedisQueue {
    /// Reads a page of one of the two streams of a tenant.
    async fn page(
        &self,
        scope: &Scope,
        stream: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedJob>, StoreError> {
        let arguments = vec![
            encode(scope.cube.as_str()),
            stream.to_owned(),
            after.map(|number| number.to_string()).unwrap_or_default(),
            limit.min(LARGEST).to_string(),
            MAX_ARCHIVED_BYTES.to_string(),
        ];
        let now_ms = self.now_ms();
        let rows: Vec<Vec<String>> = self.call(&self.scripts.archived, arguments, Repeat::Safe).await?;
        rows.iter().map(|row| parse_archived(scope, row, now_ms)).collect()
    }

    /// Pushes jobs, new ones or another queue's.
    pub(super) async fn push_prepared(
        &self,
        scope: &Scope,
        jobs: Vec<PreparedArchivedJob>,
    ) -> Result<PushReceipt, StoreError> {
        let limit = self.limits.max_jobs_per_tenant;
        let mut arguments =
            vec![encode(scope.cube.as_str()), self.now_ms().to_string(), limit.to_string(), self.forgotten_until()];
        let mut ids = Vec::with_capacity(jobs.len());
        for archived in jobs {
            let job = archived.job;
            let group = job.group.unwrap_or_default();
            let (reason, died_ms) =
                archived.death.map_or_else(Default::default, |(reason, died_ms)| (reason, died_ms.to_string()));
            ids.push(job.id.clone());
            arguments.extend([job.id.to_string(), job.kind, job.payload, encode(&group), group]);
            arguments.extend([job.priority.to_string(), job.not_before_ms.to_string(), job.max_attempts.to_string()]);
            arguments.extend([archived.attempt.to_string(), archived.pushed_ms.to_string()]);
            arguments.extend([archived.last_error.unwrap_or_default(), reason, died_ms]);
        }
        let answer: Vec<Value> = self.call(&self.scripts.push, arguments, Repeat::Safe).await?;
        if let [Value::BulkString(_), Value::Int(n_dead)] = answer.as_slice() {
            return Err(full(scope, limit, n_dead.unsigned_abs() as usize));
        }
        self.bell.ring();
        Self::sorted("push", &ids, &answer)
    }

    /// Sorts ids by what the server says of each.
    fn sorted(script: &str, ids: &[JobId], answer: &[Value]) -> Result<PushReceipt, StoreError> {
        if answer.len() != ids.len() {
            return Err(unexpected(script));
        }
        let mut sorting = Sorting::default();
        for (id, is_new) in ids.iter().zip(answer) {
            sorting.note(id, *is_new == Value::Int(1));
        }
        Ok(sorting.receipt)
    }
}

fn parse_archived(scope: &Scope, row: &[String], now_ms: i64) -> Result<ArchivedJob, StoreError> {
    let [number, stage, time, attempt, error, values @ ..] = row else { return Err(unexpected("archived")) };
    let number: u64 = number.parse().map_err(|_| unexpected("archived"))?;
    if stage == "dead" {
        let dead = parse_dead(scope, values)?;
        return Ok(dead_job(number, dead.job, dead.reason, dead.died_at.as_millisecond()));
    }
    let fields = Fields { values };
    let attempt = attempt.parse().map_err(|_| unexpected("archived"))?;
    let not_before_ms: i64 = time.parse().map_err(|_| unexpected("archived"))?;
    let payload = payload_to_show(fields.text("payload")?);
    let job = fields.job(scope.clone(), attempt, error, payload)?;
    Ok(open_job(number, job, not_before_ms, stage == "claimed", now_ms))
}

#[async_trait]
impl QueueArchive for RedisQueue {
    async fn archived_jobs(
        &self,
        scope: &Scope,
        after: Option<JobPlace>,
        limit: usize,
    ) -> Result<Vec<ArchivedJob>, StoreError> {
        let after_open = match after {
            None => Some(None),
            Some(JobPlace::Open(number)) => Some(Some(number)),
            Some(JobPlace::Dead(..)) => None,
        };
        if let Some(after) = after_open {
            let page = self.page(scope, "jobs", after, limit).await?;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        let after_dead = match after {
            Some(JobPlace::Dead(_, number)) => Some(number),
            _ => None,
        };
        self.page(scope, "dead", after_dead, limit).await
    }

    async fn archived_finished(
        &self,
        scope: &Scope,
        after: Option<&FinishedJob>,
        limit: usize,
    ) -> Result<Vec<FinishedJob>, StoreError> {
        let arguments = vec![
            encode(scope.cube.as_str()),
            after.map(|after| after.at.as_millisecond().to_string()).unwrap_or_default(),
            after.map(|after| after.id.to_string()).unwrap_or_default(),
            limit.min(LARGEST).to_string(),
            self.forgotten_until(),
        ];
        let answer: Vec<String> = self.call(&self.scripts.archived_finished, arguments, Repeat::Safe).await?;
        let parse = |pair: &[String]| {
            // The server tells scores as decimal numbers, which are whole ones here.
            let at_ms: f64 = pair[1].parse().map_err(|_| unexpected("archived_finished"))?;
            Ok(FinishedJob { at: moment(at_ms as i64), id: JobId::new(pair[0].as_str()) })
        };
        answer.chunks_exact(2).map(parse).collect()
    }

    async fn import_jobs(&self, scope: &Scope, jobs: Vec<ArchivedJob>) -> Result<PushReceipt, StoreError> {
        let jobs = prepare_archived(jobs, &self.limits)?;
        self.push_prepared(scope, jobs).await
    }

    async fn import_finished(&self, scope: &Scope, finished: Vec<FinishedJob>) -> Result<PushReceipt, StoreError> {
        let kept_ms = self.limits.finished_age.as_millis().min(MAX_EXPIRY_MS);
        let mut arguments = vec![encode(scope.cube.as_str()), self.forgotten_until(), kept_ms.to_string()];
        for FinishedJob { at, id } in &finished {
            arguments.extend([id.to_string(), at.as_millisecond().to_string()]);
        }
        let answer: Vec<Value> = self.call(&self.scripts.import_finished, arguments, Repeat::Safe).await?;
        let ids: Vec<JobId> = finished.into_iter().map(|finished| finished.id).collect();
        Self::sorted("import_finished", &ids, &answer)
    }
}
