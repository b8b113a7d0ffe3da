//! A queue's jobs leave for another queue and come from one.

use mos_core::{ArchivedJob, FinishedJob, Job, JobPlace, PushReceipt, Scope, StoreError};

use super::super::archive::{PageBound, PreparedArchivedJob, dead_job, open_job};
use super::super::{QueueLimits, Sorting, damaged, moment};
use super::{Entry, QueueState, Stage, Tenant, next};

impl QueueState {
    /// Returns a page of a tenant's jobs: those that are not dead in their order, then the dead.
    pub(crate) fn archived_jobs(
        &self,
        scope: &Scope,
        after: Option<JobPlace>,
        limit: usize,
        now_ms: i64,
    ) -> Vec<ArchivedJob> {
        let Some(tenant) = self.tenants.get(scope) else { return Vec::new() };
        let mut bound = PageBound::new(limit);
        let mut page = Vec::new();
        let first = match after {
            None => Some(0),
            Some(JobPlace::Open(number)) => number.checked_add(1),
            Some(JobPlace::Dead(..)) => None,
        };
        for (number, entry) in first.into_iter().flat_map(|first| tenant.jobs.range(first..)) {
            if matches!(entry.stage, Stage::Dead { .. }) {
                continue;
            }
            if !bound.takes(entry.job.payload.to_string().len()) {
                return page;
            }
            let is_claimed = matches!(entry.stage, Stage::Claimed { .. });
            page.push(open_job(*number, entry.job.clone(), entry.not_before_ms, is_claimed, now_ms));
        }
        if !page.is_empty() {
            return page;
        }
        for (died_ms, number) in tenant.dead_after(after) {
            let Some(Entry { job, stage: Stage::Dead { reason, .. }, .. }) = tenant.jobs.get(&number) else { continue };
            if !bound.takes(job.payload.to_string().len()) {
                break;
            }
            page.push(dead_job(number, job.clone(), reason.clone(), died_ms));
        }
        page
    }

    /// Returns a page of a tenant's finished jobs.
    pub(crate) fn archived_finished(
        &self,
        scope: &Scope,
        after: Option<&FinishedJob>,
        limit: usize,
        forgotten_until_ms: i64,
    ) -> Vec<FinishedJob> {
        let Some(tenant) = self.tenants.get(scope) else { return Vec::new() };
        let known = tenant.finished.iter().filter(|(_, (_, at_ms))| *at_ms > forgotten_until_ms);
        let told = known.map(|(id, (_, at_ms))| FinishedJob { at: moment(*at_ms), id: id.clone() });
        let mut finished: Vec<FinishedJob> =
            told.filter(|finished| after.is_none_or(|after| finished > after)).collect();
        finished.sort_unstable();
        finished.truncate(limit);
        finished
    }

    /// Adds jobs, new ones or another queue's.
    pub(crate) fn import_jobs(
        &mut self,
        scope: &Scope,
        archived: Vec<PreparedArchivedJob>,
        limits: &QueueLimits,
        now_ms: i64,
    ) -> Result<PushReceipt, StoreError> {
        self.check_room_of(scope, archived.iter().map(|archived| &archived.job.id), limits, now_ms)?;
        let mut sorting = Sorting::default();
        for PreparedArchivedJob { job, attempt, pushed_ms, last_error, death } in archived {
            let tenant = self.tenants.entry(scope.clone()).or_default();
            tenant.forget_finished(limits, now_ms);
            let is_new = !tenant.knows(&job.id, limits.forgotten_until(now_ms));
            sorting.note(&job.id, is_new);
            if !is_new {
                continue;
            }
            let payload = serde_json::from_str(&job.payload)
                .map_err(|error| damaged(job.id.as_str(), &format!("its payload cannot be read: {error}")))?;
            let whole = Job {
                scope: scope.clone(),
                id: job.id,
                kind: job.kind,
                payload,
                group: job.group,
                priority: job.priority,
                attempt,
                max_attempts: job.max_attempts,
                pushed_at: moment(pushed_ms),
                last_error,
            };
            match death {
                None => self.insert(whole, job.not_before_ms, now_ms),
                Some((reason, died_ms)) => self.insert_dead(whole, reason, died_ms),
            }
        }
        Ok(sorting.receipt)
    }

    fn insert_dead(&mut self, job: Job, reason: String, died_ms: i64) {
        let number = next(&mut self.last_number);
        let tenant = self.tenants.entry(job.scope.clone()).or_default();
        tenant.numbers.insert(job.id.clone(), number);
        tenant.dead.push(number);
        let stage = Stage::Dead { reason, died_ms };
        tenant.jobs.insert(number, Entry { job, not_before_ms: 0, stage });
    }

    /// Notes that jobs of another queue were done.
    pub(crate) fn import_finished(
        &mut self,
        scope: &Scope,
        finished: Vec<FinishedJob>,
        limits: &QueueLimits,
        now_ms: i64,
    ) -> PushReceipt {
        let until_ms = limits.forgotten_until(now_ms);
        let tenant = self.tenants.entry(scope.clone()).or_default();
        tenant.forget_finished(limits, now_ms);
        let mut sorting = Sorting::default();
        for FinishedJob { at, id } in finished {
            let at_ms = at.as_millisecond();
            let is_new = at_ms > until_ms && !tenant.knows(&id, until_ms);
            sorting.note(&id, is_new);
            if is_new {
                // No claim has this number.
                tenant.finished.insert(id.clone(), (0, at_ms));
                tenant.finished_order.push_back((at_ms, id));
            }
        }
        sorting.receipt
    }
}

impl Tenant {
    /// When dead jobs died, and their numbers, in this order.
    fn dead_after(&self, after: Option<JobPlace>) -> Vec<(i64, u64)> {
        let place = |number: &u64| match self.jobs.get(number).map(|entry| &entry.stage) {
            Some(Stage::Dead { died_ms, .. }) => Some((*died_ms, *number)),
            _ => None,
        };
        let is_later = |(died_ms, number): &(i64, u64)| match after {
            Some(after) => JobPlace::Dead(*died_ms, *number) > after,
            None => true,
        };
        let mut dead: Vec<(i64, u64)> = self.dead.iter().filter_map(place).filter(is_later).collect();
        dead.sort_unstable();
        dead
    }
}
