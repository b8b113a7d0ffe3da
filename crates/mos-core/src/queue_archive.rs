//! The jobs of a tenant, page by page, so that they can move to another queue and wait there as they waited here.
//!
//! Jobs that a consumer has are told as waiting ones, without the attempt that is being made: who has them may never say what
//! became of it to the other queue.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::StoreError;
use crate::id::JobId;
use crate::queue::{Job, JobQueue, PushReceipt};
use crate::record::Scope;

/// The most bytes of payloads in a page of jobs, unless the first one alone has more.
pub const MAX_ARCHIVED_BYTES: usize = 4 << 20;

/// The place of a job among those of its tenant: all that are not dead come first, in the order in which they were pushed, then the
/// dead. Places are each queue's own and do not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobPlace {
    /// Not dead: by number.
    Open(u64),
    /// Dead: since when, in milliseconds since 1970, and a number.
    Dead(i64, u64),
}

/// Why and when a job was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A job as it is in its queue.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedJob {
    /// Its place. Importing does not heed it, but the order of what is imported.
    pub place: JobPlace,
    /// The job; `attempt` counts those that have ended.
    pub job: Job,
    /// When it may be claimed, where that is not past.
    pub not_before: Option<Timestamp>,
    /// Why and when it was given up; `None` for one that waits.
    pub death: Option<Death>,
}

/// A job that was done, whose id is still known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FinishedJob {
    /// When it was done.
    pub at: Timestamp,
    /// Its name.
    pub id: JobId,
}

/// A queue whose jobs can move.
#[async_trait]
pub trait QueueArchive: JobQueue {
    /// Returns at most `limit` jobs that come after `after` (all with `None`), in the order of their places, and of no more than
    /// [`MAX_ARCHIVED_BYTES`]; none when there are no more.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_jobs(
        &self,
        scope: &Scope,
        after: Option<JobPlace>,
        limit: usize,
    ) -> Result<Vec<ArchivedJob>, StoreError>;

    /// Returns at most `limit` finished jobs that are still known and come after `after`, by time and id.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn archived_finished(
        &self,
        scope: &Scope,
        after: Option<&FinishedJob>,
        limit: usize,
    ) -> Result<Vec<FinishedJob>, StoreError>;

    /// Adds jobs behind those that are there, in the order given, all or none. Known ids are passed over, finished ones too: doing it
    /// again changes nothing.
    ///
    /// # Errors
    /// As [`JobQueue::push`].
    async fn import_jobs(&self, scope: &Scope, jobs: Vec<ArchivedJob>) -> Result<PushReceipt, StoreError>;

    /// Notes that jobs were done, so that their ids are known. Those that are known already, or were done too long ago, are passed
    /// over.
    ///
    /// # Errors
    /// As [`JobQueue::push`].
    async fn import_finished(&self, scope: &Scope, finished: Vec<FinishedJob>) -> Result<PushReceipt, StoreError>;
}
