//! The queue of jobs in the database.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::queue::MAX_CLAIMED_AT_ONCE;
use mos_core::{
    ClaimRequest, Claimed, DeadJob, Failed, JobId, JobQueue, JobState, NewJob, Page, Paging, PushReceipt, QueueArchive,
    QueueStats, Scope, StoreError, Ticket,
};
use rusqlite::Connection;

use super::super::{SqliteStore, blocking, fault::Fault};
use super::{claim, read};
use crate::queue::{check_request, lease_ms, moment, prepare_jobs, round_up_to_ms};

impl SqliteStore {
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Changes the queue, then wakes those who wait for it.
    pub(super) async fn change<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let value = self.write(work).await?;
        self.bell.ring();
        Ok(value)
    }
}

#[async_trait]
impl JobQueue for SqliteStore {
    async fn push(&self, scope: &Scope, jobs: Vec<NewJob>) -> Result<PushReceipt, StoreError> {
        let limits = self.options.queue.clone();
        let (jobs, limits) = blocking(move || prepare_jobs(jobs, &limits).map(|jobs| (jobs, limits))).await??;
        let (scope, now_ms) = (scope.clone(), self.now_ms());
        self.change(move |connection| super::push(connection, &scope, &jobs, &limits, now_ms)).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        let (limit, lease_ms) = check_request(request)?;
        let (request, now_ms) = (request.clone(), self.now_ms());
        self.write(move |connection| claim::claim(connection, &request, limit, lease_ms, now_ms)).await
    }

    async fn claim_following(
        &self,
        ticket: &Ticket,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let (limit, lease_ms) = (limit.min(MAX_CLAIMED_AT_ONCE), lease_ms(lease)?);
        let (ticket, now_ms) = (ticket.clone(), self.now_ms());
        self.write(move |connection| claim::claim_following(connection, &ticket, limit, lease_ms, now_ms)).await
    }

    async fn extend(&self, ticket: &Ticket, lease: Duration) -> Result<Timestamp, StoreError> {
        let (ticket, lease_ms, now_ms) = (ticket.clone(), lease_ms(lease)?, self.now_ms());
        self.write(move |connection| claim::extend(connection, &ticket, lease_ms, now_ms)).await.map(moment)
    }

    async fn complete(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let (ticket, limits, now_ms) = (ticket.clone(), self.options.queue.clone(), self.now_ms());
        self.change(move |connection| claim::complete(connection, &ticket, &limits, now_ms)).await
    }

    async fn release(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let (ticket, now_ms) = (ticket.clone(), self.now_ms());
        self.change(move |connection| claim::release(connection, &ticket, now_ms)).await
    }

    async fn fail(&self, ticket: &Ticket, reason: &str, retry_at: Option<Timestamp>) -> Result<Failed, StoreError> {
        let (ticket, reason, now_ms) = (ticket.clone(), reason.to_owned(), self.now_ms());
        let retry_ms = retry_at.map(round_up_to_ms);
        self.change(move |connection| claim::fail(connection, &ticket, &reason, retry_ms, now_ms)).await
    }

    async fn find(&self, scope: &Scope, id: &JobId) -> Result<Option<JobState>, StoreError> {
        let (scope, id) = (scope.clone(), id.clone());
        let forgotten_until_ms = self.options.queue.forgotten_until(self.now_ms());
        self.read(move |connection| read::find(connection, &scope, &id, forgotten_until_ms)).await
    }

    async fn remove(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        let (scope, ids, now_ms) = (scope.clone(), ids.to_vec(), self.now_ms());
        self.change(move |connection| super::remove(connection, &scope, &ids, now_ms)).await
    }

    async fn dead(&self, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| read::dead(connection, &scope, paging)).await
    }

    async fn retry_dead(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        let (scope, ids, now_ms) = (scope.clone(), ids.to_vec(), self.now_ms());
        self.change(move |connection| super::retry_dead(connection, &scope, &ids, now_ms)).await
    }

    async fn stats(&self, scope: &Scope) -> Result<QueueStats, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| read::stats(connection, &scope)).await
    }

    async fn tenants(&self) -> Result<Vec<Scope>, StoreError> {
        self.read(read::tenants).await
    }

    async fn remove_tenant(&self, scope: &Scope) -> Result<usize, StoreError> {
        let scope = scope.clone();
        self.change(move |connection| super::remove_tenant(connection, &scope)).await
    }

    async fn next_ready_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let now_ms = self.now_ms();
        Ok(self.read(move |connection| read::next_ready_ms(connection, now_ms)).await?.map(moment))
    }

    async fn wait(&self, timeout: Duration) -> Result<(), StoreError> {
        self.bell.wait(self, &*self.clock, timeout).await
    }

    fn job_archive(&self) -> Option<&dyn QueueArchive> {
        Some(self)
    }
}
