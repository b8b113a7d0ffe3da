//! The queue of jobs in memory.

use std::sync::RwLockWriteGuard;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::queue::MAX_CLAIMED_AT_ONCE;
use mos_core::{
    ArchivedJob, ClaimRequest, Claimed, DeadJob, Failed, FinishedJob, JobId, JobPlace, JobQueue, JobState, NewJob,
    Page, Paging, PushReceipt, QueueArchive, QueueStats, Scope, StoreError, Ticket,
};

use super::{InMemoryStore, State};
use crate::prepare::closed;
use crate::queue::archive::prepare_archived;
use crate::queue::memory::QueueState;
use crate::queue::{check_request, lease_ms, moment, prepare_jobs, round_up_to_ms};

impl InMemoryStore {
    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Returns what is stored, to add jobs of a cube that is not closed.
    fn write_open(&self, scope: &Scope) -> Result<RwLockWriteGuard<'_, State>, StoreError> {
        let state = self.write();
        if state.scopes.get(scope).is_some_and(|state| state.is_closed()) {
            return Err(closed(scope));
        }
        Ok(state)
    }

    /// Changes the queue, then wakes those who wait for it.
    fn change<T>(&self, work: impl FnOnce(&mut QueueState) -> T) -> T {
        let value = work(&mut self.write().queue);
        self.bell.ring();
        value
    }
}

#[async_trait]
impl JobQueue for InMemoryStore {
    async fn push(&self, scope: &Scope, jobs: Vec<NewJob>) -> Result<PushReceipt, StoreError> {
        let jobs = prepare_jobs(jobs, &self.queue_limits)?;
        let now_ms = self.now_ms();
        let mut state = self.write_open(scope)?;
        let receipt = state.queue.push(scope, jobs, &self.queue_limits, now_ms);
        drop(state);
        self.bell.ring();
        receipt
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        let (limit, lease_ms) = check_request(request)?;
        Ok(self.write().queue.claim(request, limit, lease_ms, self.now_ms()))
    }

    async fn claim_following(
        &self,
        ticket: &Ticket,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let (limit, lease_ms) = (limit.min(MAX_CLAIMED_AT_ONCE), lease_ms(lease)?);
        self.write().queue.claim_following(ticket, limit, lease_ms, self.now_ms())
    }

    async fn extend(&self, ticket: &Ticket, lease: Duration) -> Result<Timestamp, StoreError> {
        let lease_ms = lease_ms(lease)?;
        self.write().queue.extend(ticket, lease_ms, self.now_ms()).map(moment)
    }

    async fn complete(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let now_ms = self.now_ms();
        self.change(|queue| queue.complete(ticket, &self.queue_limits, now_ms))
    }

    async fn release(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let now_ms = self.now_ms();
        self.change(|queue| queue.release(ticket, now_ms))
    }

    async fn fail(&self, ticket: &Ticket, reason: &str, retry_at: Option<Timestamp>) -> Result<Failed, StoreError> {
        let (now_ms, retry_ms) = (self.now_ms(), retry_at.map(round_up_to_ms));
        self.change(|queue| queue.fail(ticket, reason, retry_ms, now_ms))
    }

    async fn find(&self, scope: &Scope, id: &JobId) -> Result<Option<JobState>, StoreError> {
        Ok(self.read().queue.find(scope, id, self.queue_limits.forgotten_until(self.now_ms())))
    }

    async fn remove(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        let now_ms = self.now_ms();
        Ok(self.change(|queue| queue.remove(scope, ids, now_ms)))
    }

    async fn dead(&self, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, StoreError> {
        Ok(self.read().queue.dead(scope, paging))
    }

    async fn retry_dead(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        let now_ms = self.now_ms();
        Ok(self.change(|queue| queue.retry_dead(scope, ids, now_ms)))
    }

    async fn stats(&self, scope: &Scope) -> Result<QueueStats, StoreError> {
        Ok(self.read().queue.stats(scope))
    }

    async fn tenants(&self) -> Result<Vec<Scope>, StoreError> {
        Ok(self.read().queue.tenants())
    }

    async fn remove_tenant(&self, scope: &Scope) -> Result<usize, StoreError> {
        Ok(self.change(|queue| queue.remove_tenant(scope)))
    }

    async fn next_ready_at(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.read().queue.next_ready_ms(self.now_ms()).map(moment))
    }

    async fn wait(&self, timeout: Duration) -> Result<(), StoreError> {
        self.bell.wait(self, &*self.clock, timeout).await
    }

    fn job_archive(&self) -> Option<&dyn QueueArchive> {
        Some(self)
    }
}

#[async_trait]
impl QueueArchive for InMemoryStore {
    async fn archived_jobs(
        &self,
        scope: &Scope,
        after: Option<JobPlace>,
        limit: usize,
    ) -> Result<Vec<ArchivedJob>, StoreError> {
        let now_ms = self.now_ms();
        Ok(self.read().queue.archived_jobs(scope, after, limit, now_ms))
    }

    async fn archived_finished(
        &self,
        scope: &Scope,
        after: Option<&FinishedJob>,
        limit: usize,
    ) -> Result<Vec<FinishedJob>, StoreError> {
        let until_ms = self.queue_limits.forgotten_until(self.now_ms());
        Ok(self.read().queue.archived_finished(scope, after, limit, until_ms))
    }

    async fn import_jobs(&self, scope: &Scope, jobs: Vec<ArchivedJob>) -> Result<PushReceipt, StoreError> {
        let jobs = prepare_archived(jobs, &self.queue_limits)?;
        let now_ms = self.now_ms();
        let mut state = self.write_open(scope)?;
        let receipt = state.queue.import_jobs(scope, jobs, &self.queue_limits, now_ms);
        drop(state);
        self.bell.ring();
        receipt
    }

    async fn import_finished(&self, scope: &Scope, finished: Vec<FinishedJob>) -> Result<PushReceipt, StoreError> {
        let now_ms = self.now_ms();
        let mut state = self.write_open(scope)?;
        Ok(state.queue.import_finished(scope, finished, &self.queue_limits, now_ms))
    }
}
