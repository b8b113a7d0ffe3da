//! What people ask and do about jobs: where they stand, which are dead, and taking them out.

use mos_core::{DeadJob, Job, JobId, JobState, Page, Paging, QueueStats, Scope};

use super::super::moment;
use super::{Entry, QueueState, Stage};

impl QueueState {
    pub(crate) fn find(&self, scope: &Scope, id: &JobId, forgotten_until_ms: i64) -> Option<JobState> {
        let tenant = self.tenants.get(scope)?;
        let Some(number) = tenant.numbers.get(id) else {
            return tenant.knows(id, forgotten_until_ms).then_some(JobState::Finished);
        };
        Some(match &tenant.jobs.get(number)?.stage {
            Stage::Blocked | Stage::Delayed | Stage::Ready => JobState::Waiting,
            Stage::Claimed { consumer, until_ms, .. } => {
                JobState::Claimed { consumer: consumer.clone(), until: moment(*until_ms) }
            }
            Stage::Dead { reason, .. } => JobState::Dead { reason: reason.clone() },
        })
    }

    fn number_where(&self, scope: &Scope, id: &JobId, is_meant: impl Fn(&Stage) -> bool) -> Option<u64> {
        let tenant = self.tenants.get(scope)?;
        let number = tenant.numbers.get(id)?;
        tenant.jobs.get(number).filter(|entry| is_meant(&entry.stage)).map(|_| *number)
    }

    pub(crate) fn remove(&mut self, scope: &Scope, ids: &[JobId], now_ms: i64) -> usize {
        let mut n_removed = 0;
        for id in ids {
            if let Some(number) = self.number_where(scope, id, |stage| !matches!(stage, Stage::Claimed { .. })) {
                n_removed += usize::from(self.take(scope, number, now_ms).is_some());
            }
        }
        n_removed
    }

    pub(crate) fn dead(&self, scope: &Scope, paging: Paging) -> Page<DeadJob> {
        let Some(tenant) = self.tenants.get(scope) else { return Page { entries: Vec::new(), total: 0 } };
        let read = |number: &u64| match tenant.jobs.get(number) {
            Some(Entry { job, stage: Stage::Dead { reason, died_ms }, .. }) => {
                Some(DeadJob { job: job.clone(), reason: reason.clone(), died_at: moment(*died_ms) })
            }
            _ => None,
        };
        let entries = tenant.dead.iter().skip(paging.offset).take(paging.limit).filter_map(read).collect();
        Page { entries, total: tenant.dead.len() }
    }

    pub(crate) fn retry_dead(&mut self, scope: &Scope, ids: &[JobId], now_ms: i64) -> usize {
        let mut n_back = 0;
        for id in ids {
            let number = self.number_where(scope, id, |stage| matches!(stage, Stage::Dead { .. }));
            if let Some(entry) = number.and_then(|number| self.take(scope, number, now_ms)) {
                self.insert(Job { attempt: 0, pushed_at: moment(now_ms), ..entry.job }, 0, now_ms);
                n_back += 1;
            }
        }
        n_back
    }

    pub(crate) fn stats(&self, scope: &Scope) -> QueueStats {
        let Some(tenant) = self.tenants.get(scope) else { return QueueStats::default() };
        let is_dead = |entry: &&Entry| matches!(entry.stage, Stage::Dead { .. });
        let claimed = tenant.jobs.values().filter(|entry| matches!(entry.stage, Stage::Claimed { .. })).count();
        let dead = tenant.dead.len();
        let oldest = tenant.jobs.values().filter(|entry| !is_dead(entry)).map(|entry| entry.job.pushed_at).min();
        QueueStats { waiting: tenant.jobs.len() - claimed - dead, claimed, dead, oldest }
    }

    pub(crate) fn tenants(&self) -> Vec<Scope> {
        let with_jobs = self.tenants.iter().filter(|(_, tenant)| !tenant.jobs.is_empty());
        let mut scopes: Vec<Scope> = with_jobs.map(|(scope, _)| scope.clone()).collect();
        scopes.sort();
        scopes
    }

    pub(crate) fn remove_tenant(&mut self, scope: &Scope) -> usize {
        let Some(tenant) = self.tenants.remove(scope) else { return 0 };
        self.due.retain(|(_, _, of)| of != scope);
        if let Some(turn) = tenant.turn {
            self.line.remove(&turn);
        }
        tenant.jobs.len()
    }

    /// Returns when something can be claimed: `now_ms` when it can at once.
    pub(crate) fn next_ready_ms(&self, now_ms: i64) -> Option<i64> {
        if !self.line.is_empty() {
            return Some(now_ms);
        }
        self.due.first().map(|(at, ..)| *at)
    }
}
