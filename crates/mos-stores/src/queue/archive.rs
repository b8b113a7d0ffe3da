//! What every queue has in common when its jobs move: bounds of a page, checks, and how a job is told.

use mos_core::queue_archive::MAX_ARCHIVED_BYTES;
use mos_core::{ArchivedJob, Death, Job, JobPlace, NewJob, StoreError};

use super::{PreparedJob, QueueLimits, moment, prepare_jobs, short_reason};

/// A job that is right as far as it can be told without looking into the queue, and what it went through before it comes.
#[derive(Clone, Debug)]
pub(crate) struct PreparedArchivedJob {
    pub(crate) job: PreparedJob,
    pub(crate) attempt: u32,
    pub(crate) pushed_ms: i64,
    pub(crate) last_error: Option<String>,
    /// Why and when it was given up.
    pub(crate) death: Option<(String, i64)>,
}

impl PreparedArchivedJob {
    /// Returns a job that is pushed now: it went through nothing.
    pub(crate) fn pushed(job: PreparedJob, now_ms: i64) -> Self {
        Self { job, attempt: 0, pushed_ms: now_ms, last_error: None, death: None }
    }
}

/// Checks jobs and writes their payloads as text.
///
/// # Errors
/// [`StoreError::Invalid`].
pub(crate) fn prepare_archived(
    archived: Vec<ArchivedJob>,
    limits: &QueueLimits,
) -> Result<Vec<PreparedArchivedJob>, StoreError> {
    let (mut jobs, mut rests) = (Vec::with_capacity(archived.len()), Vec::with_capacity(archived.len()));
    for ArchivedJob { job, not_before, death, .. } in archived {
        let death = death.map(|death| (short_reason(&death.reason).to_owned(), death.at.as_millisecond()));
        let last_error = job.last_error.as_deref().map(|error| short_reason(error).to_owned());
        rests.push((job.attempt, job.pushed_at.as_millisecond(), last_error, death));
        jobs.push(NewJob {
            id: job.id,
            kind: job.kind,
            payload: job.payload,
            group: job.group,
            priority: job.priority,
            not_before,
            max_attempts: job.max_attempts,
        });
    }
    let prepared = prepare_jobs(jobs, limits)?.into_iter().zip(rests);
    let join = |(job, (attempt, pushed_ms, last_error, death))| PreparedArchivedJob {
        job,
        attempt,
        pushed_ms,
        last_error,
        death,
    };
    Ok(prepared.map(join).collect())
}

/// Tells of a job that is not dead. One that a consumer has waits, and its attempt was not made.
pub(crate) fn open_job(number: u64, job: Job, not_before_ms: i64, is_claimed: bool, now_ms: i64) -> ArchivedJob {
    let attempt = job.attempt.saturating_sub(u32::from(is_claimed));
    let waits = !is_claimed && not_before_ms > now_ms;
    ArchivedJob {
        place: JobPlace::Open(number),
        job: Job { attempt, ..job },
        not_before: waits.then(|| moment(not_before_ms)),
        death: None,
    }
}

/// Tells of a dead job.
pub(crate) fn dead_job(number: u64, job: Job, reason: String, died_ms: i64) -> ArchivedJob {
    let death = Some(Death { reason, at: moment(died_ms) });
    ArchivedJob { place: JobPlace::Dead(died_ms, number), job, not_before: None, death }
}

/// How much a page takes.
#[derive(Debug)]
pub(crate) struct PageBound {
    n_left: usize,
    n_bytes: usize,
    is_empty: bool,
}

impl PageBound {
    pub(crate) fn new(limit: usize) -> Self {
        Self { n_left: limit, n_bytes: 0, is_empty: true }
    }

    /// Whether a job with a payload of so many bytes fits; it is counted then.
    pub(crate) fn takes(&mut self, n_bytes: usize) -> bool {
        let fits = self.n_left > 0 && (self.is_empty || self.n_bytes + n_bytes <= MAX_ARCHIVED_BYTES);
        if fits {
            self.n_left -= 1;
            self.n_bytes += n_bytes;
            self.is_empty = false;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_at_least_one_job_and_is_bounded_in_number_and_bytes() {
        let mut bound = PageBound::new(2);
        assert!(bound.takes(1) && bound.takes(1) && !bound.takes(1));
        let mut bound = PageBound::new(10);
        assert!(bound.takes(MAX_ARCHIVED_BYTES * 2), "one that is too large comes alone");
        assert!(!bound.takes(1));
        assert!(!PageBound::new(0).takes(1));
    }
}
