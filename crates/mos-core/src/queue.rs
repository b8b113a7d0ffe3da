//! Jobs for later: pushed once, given to one consumer at a time, never lost.
//!
//! A job is delivered at least once. It counts as done when its consumer says so; a consumer that says nothing until
//! its lease is over has failed, and the job is given out again. What a job does must therefore bear being done twice.
//!
//! Not here: what a job does (the scheduler), where jobs are kept (the stores).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StoreError;
use crate::graph::{Page, Paging};
use crate::id::{CubeId, JobId};
use crate::queue_archive::QueueArchive;
use crate::record::Scope;

/// The most jobs that one call of [`JobQueue::claim`] returns.
pub const MAX_CLAIMED_AT_ONCE: usize = 256;

/// The priority of a job that says nothing about it.
pub const DEFAULT_PRIORITY: u8 = 100;

/// How often a job is tried when it says nothing about it.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 5;

/// A job to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Names the job within its tenant. Pushing an id again does nothing while the job is waiting, claimed or dead,
    /// and for some time after it was finished.
    pub id: JobId,
    /// What is to be done, for example the label of a handler.
    pub kind: String,
    /// With what. Stores bound its size as JSON text.
    pub payload: Value,
    /// Jobs of one group of a tenant are done one after another, in the order they were pushed, whatever their
    /// priorities: nothing of a group is claimed while the job before it is claimed or waits for its time. `None`: no
    /// order with any other job.
    pub group: Option<String>,
    /// Among the jobs of a tenant that could be claimed, higher goes first; equal ones go in the order they were pushed.
    pub priority: u8,
    /// Not to be claimed earlier, to the millisecond. `None`: at once.
    pub not_before: Option<Timestamp>,
    /// How often it is claimed at most before it is dead; at least 1.
    pub max_attempts: u32,
}

impl NewJob {
    /// Returns a job without group or delay, of ordinary priority.
    pub fn new(id: JobId, kind: impl Into<String>, payload: Value) -> Self {
        Self {
            id,
            kind: kind.into(),
            payload,
            group: None,
            priority: DEFAULT_PRIORITY,
            not_before: None,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
        }
    }
}

/// What a push did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushReceipt {
    /// Jobs that are in the queue because of this push, in the order given.
    pub new: Vec<JobId>,
    /// Jobs that were known already: nothing was done about them. So are those of a push that is repeated because its answer
    /// was lost.
    pub known: Vec<JobId>,
}

/// A job as it is given to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Whose it is.
    pub scope: Scope,
    /// Its name.
    pub id: JobId,
    /// What is to be done.
    pub kind: String,
    /// With what.
    pub payload: Value,
    /// The group whose order it keeps.
    pub group: Option<String>,
    /// Its priority.
    pub priority: u8,
    /// Which attempt this is, from 1; 0 for one that was never claimed.
    pub attempt: u32,
    /// How many attempts it has.
    pub max_attempts: u32,
    /// When it was pushed, or brought back from the dead.
    pub pushed_at: Timestamp,
    /// Why the attempt before failed, when there was one.
    pub last_error: Option<String>,
}

/// The right to say what became of a claimed job. It ends when the job is finished, failed, released, or given to
/// somebody else after the lease was over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose job.
    pub scope: Scope,
    /// Which job.
    pub id: JobId,
    /// Number of the claim; no two claims of a queue have the same.
    pub claim: u64,
}

/// A job in a consumer's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The job.
    pub job: Job,
    /// What to show when it is done or has failed.
    pub ticket: Ticket,
    /// When the lease is over.
    pub until: Timestamp,
}

/// How many jobs in a row tenants are given before it is the next one's turn. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(Arc<BTreeMap<CubeId, u32>>);

/// The largest weight of a tenant.
pub const MAX_WEIGHT: u32 = 1_000;

impl Weights {
    /// Returns the weights of these tenants, each from 1 to [`MAX_WEIGHT`] (what is beyond is taken as the nearest); all others
    /// have 1.
    pub fn new(weights: impl IntoIterator<Item = (CubeId, u32)>) -> Self {
        let bounded = weights.into_iter().map(|(cube, weight)| (cube, weight.clamp(1, MAX_WEIGHT)));
        Self(Arc::new(bounded.filter(|(_, weight)| *weight > 1).collect()))
    }

    /// Returns the weight of a tenant.
    pub fn of(&self, cube: &CubeId) -> u32 {
        self.0.get(cube).copied().unwrap_or(1)
    }

    /// Returns the tenants whose weight is more than 1, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&CubeId, u32)> {
        self.0.iter().map(|(cube, weight)| (cube, *weight))
    }
}

/// Who asks for how many jobs, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Names the consumer, for people who look into the queue.
    pub consumer: String,
    /// The most jobs, at least 1; never more than [`MAX_CLAIMED_AT_ONCE`] are given.
    pub limit: usize,
    /// How long the consumer has until it must finish, fail, release or extend; at least a millisecond.
    pub lease: Duration,
    /// How many jobs in a row each tenant is given. Consumers of one queue ask with the same weights.
    pub weights: Weights,
}

/// What became of a job that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It waits for its next attempt.
    Waits,
    /// It is dead: it had its last attempt, or is not worth another.
    Dead,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits: for its time, its turn, or the job before it in its group.
    Waiting,
    /// A consumer has it.
    Claimed {
        /// The consumer.
        consumer: String,
        /// When the lease is over; perhaps it is.
        until: Timestamp,
    },
    /// It was given up.
    Dead {
        /// Why.
        reason: String,
    },
    /// It was done, not too long ago.
    Finished,
}

/// A job that was given up. It stays until it is retried or removed, and counts for the length of the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadJob {
    /// The job after its last attempt.
    pub job: Job,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub died_at: Timestamp,
}

/// How much a tenant has in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that wait for their time or turn.
    pub waiting: usize,
    /// Jobs in the hands of consumers; those whose lease is over count until the next claim finds them.
    pub claimed: usize,
    /// Jobs that were given up.
    pub dead: usize,
    /// When the oldest of those that wait or are claimed was pushed.
    pub oldest: Option<Timestamp>,
}

/// A queue of jobs, shared by tenants and consumers.
///
/// Tenants take turns: of those that have a job to give, the one that was given its last one longest ago goes first,
/// so that a tenant with many jobs delays another's first job by one job at most, or by as many as its weight says: weighted
/// round robin.
#[async_trait]
pub trait JobQueue: fmt::Debug + Send + Sync {
    /// Adds jobs, all or none, and returns once they are as durable as the store makes them.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the tenant has too many jobs; [`StoreError::Invalid`] for a job that is too large, or
    /// has a bad name; [`StoreError::NotFound`] when the store knows that the tenant's cube was deleted;
    /// [`StoreError::Unavailable`], [`StoreError::Storage`], [`StoreError::Busy`]. Pushing again is safe.
    async fn push(&self, scope: &Scope, jobs: Vec<NewJob>) -> Result<PushReceipt, StoreError>;

    /// Gives the caller jobs whose time has come, tenants in turn; none when there is nothing to do. Every job counts
    /// an attempt. Jobs whose lease is over are given again; those that had their last attempt are dead instead.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a bad request; [`StoreError`] when the store cannot be written. What was claimed
    /// although its answer was lost comes again when its lease is over.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, StoreError>;

    /// Gives the holder of a claim at most `limit` of the jobs that follow it in its group, in their order, as one more claim
    /// each: those of the same kind, as long as each is ready. They come without regard to tenants' turns, so ask for few.
    /// Nothing follows a job without a group. A store may return fewer, or none, at any time.
    ///
    /// The caller ends them in their order; when one fails, it fails or releases those after it first.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the ticket has ended; as [`JobQueue::claim`].
    async fn claim_following(
        &self,
        ticket: &Ticket,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let _ = (ticket, limit, lease);
        Ok(Vec::new())
    }

    /// Sets the lease anew, from now; returns when it is over.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the ticket has ended: stop working on the job.
    async fn extend(&self, ticket: &Ticket, lease: Duration) -> Result<Timestamp, StoreError>;

    /// Ends a job: it was done. Saying so again with the same ticket is no error for some time.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the ticket has ended otherwise.
    async fn complete(&self, ticket: &Ticket) -> Result<(), StoreError>;

    /// Gives a job back unharmed, for example at the end of the process: the attempt does not count.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the ticket has ended.
    async fn release(&self, ticket: &Ticket) -> Result<(), StoreError>;

    /// Says that an attempt failed. The job is tried again at `retry_at`; without one, or after its last attempt, it
    /// is dead. Of a long reason the beginning is kept.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the ticket has ended.
    async fn fail(&self, ticket: &Ticket, reason: &str, retry_at: Option<Timestamp>) -> Result<Failed, StoreError>;

    /// Returns where a job stands; `None` for one that was never pushed, was removed, or was finished long ago.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn find(&self, scope: &Scope, id: &JobId) -> Result<Option<JobState>, StoreError>;

    /// Removes jobs that wait or are dead, and returns how many there were. Unknown ones and those that are claimed
    /// are passed over. A removed id may be pushed again.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn remove(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError>;

    /// Returns the dead jobs of a tenant, first dead first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn dead(&self, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, StoreError>;

    /// Brings dead jobs back with all their attempts, as if they were pushed now in the order given; returns how many
    /// there were. Others are passed over.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn retry_dead(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError>;

    /// Returns how much a tenant has in the queue.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn stats(&self, scope: &Scope) -> Result<QueueStats, StoreError>;

    /// Returns the tenants that have jobs, dead ones included, by cube id.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn tenants(&self) -> Result<Vec<Scope>, StoreError>;

    /// Removes everything of a tenant, claimed jobs and the memory of finished ones included, and returns how many
    /// jobs there were. Tickets for them have ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn remove_tenant(&self, scope: &Scope) -> Result<usize, StoreError>;

    /// Returns when [`JobQueue::claim`] will next find something as far as is known now: a moment that is past when it
    /// will at once, `None` when nothing waits and nothing is claimed.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn next_ready_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns when there may be something to claim, and after `timeout` at the latest. What other processes push is
    /// noticed after a fraction of a second.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn wait(&self, timeout: Duration) -> Result<(), StoreError>;

    /// Returns what moves the jobs of a tenant elsewhere and others' here; `None` when it cannot.
    fn job_archive(&self) -> Option<&dyn QueueArchive> {
        None
    }
}
