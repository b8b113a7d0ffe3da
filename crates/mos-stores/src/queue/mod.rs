//! What every queue of jobs has in common: bounds, checks, wording, and how a consumer waits.

pub(crate) mod archive;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use mos_core::id::MAX_ID_BYTES;
use mos_core::queue::MAX_CLAIMED_AT_ONCE;
use mos_core::{ClaimRequest, Clock, JobId, JobQueue, NewJob, PushReceipt, Scope, StoreError, Ticket};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most bytes of a failure's reason that are kept.
const MAX_REASON_BYTES: usize = 4096;
/// The longest lease: a consumer that needs more extends it.
const MAX_LEASE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a consumer that waits looks for what other processes pushed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The most jobs, due or with a lease that is over, that one claim looks at before it gives any: bounds how long one
/// claim takes after a long pause.
pub(crate) const MAX_WOKEN_PER_CLAIM: usize = 1000;

/// How much a queue takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most bytes of a job's payload as JSON text.
    pub max_payload_bytes: usize,
    /// The most jobs that are pushed together.
    pub max_jobs_per_push: usize,
    /// The most bytes of all payloads that are pushed together.
    pub max_bytes_per_push: usize,
    /// The most jobs of a tenant: waiting, claimed and dead together.
    pub max_jobs_per_tenant: usize,
    /// The most finished jobs of a tenant whose ids are remembered; the oldest are forgotten first.
    pub max_finished_ids: usize,
    /// How long ids of finished jobs are remembered.
    pub finished_age: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            max_payload_bytes: 1 << 20,
            max_jobs_per_push: 1000,
            max_bytes_per_push: 16 << 20,
            max_jobs_per_tenant: 250_000,
            max_finished_ids: 10_000,
            finished_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl QueueLimits {
    /// The last moment, in milliseconds, whose finished jobs are forgotten now.
    pub(crate) fn forgotten_until(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::try_from(self.finished_age.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A job that is right as far as it can be told without looking into the queue.
#[derive(Clone, Debug)]
pub(crate) struct PreparedJob {
    pub(crate) id: JobId,
    pub(crate) kind: String,
    /// JSON text.
    pub(crate) payload: String,
    pub(crate) group: Option<String>,
    pub(crate) priority: u8,
    /// When it may be claimed, in milliseconds since 1970; 0 for at once.
    pub(crate) not_before_ms: i64,
    pub(crate) max_attempts: u32,
}

/// Checks jobs and writes their payloads as text. Of two jobs with one id the first counts.
///
/// # Errors
/// [`StoreError::Invalid`].
pub(crate) fn prepare_jobs(jobs: Vec<NewJob>, limits: &QueueLimits) -> Result<Vec<PreparedJob>, StoreError> {
    if jobs.len() > limits.max_jobs_per_push {
        return Err(StoreError::Invalid(format!(
            "{} jobs are pushed together, at most {} may be; push them in parts",
            jobs.len(),
            limits.max_jobs_per_push
        )));
    }
    let prepared = jobs.into_iter().map(|job| prepare_job(job, limits)).collect::<Result<Vec<_>, _>>()?;
    let n_bytes: usize = prepared.iter().map(|job| job.payload.len()).sum();
    if n_bytes > limits.max_bytes_per_push {
        return Err(StoreError::Invalid(format!(
            "jobs with {n_bytes} bytes of payload are pushed together, at most {} bytes may be; push them in parts",
            limits.max_bytes_per_push
        )));
    }
    Ok(prepared)
}

fn prepare_job(job: NewJob, limits: &QueueLimits) -> Result<PreparedJob, StoreError> {
    check_name("job id", job.id.as_str())?;
    check_name("kind of the job", &job.kind)?;
    if let Some(group) = &job.group {
        check_name("group of the job", group)?;
    }
    let invalid = |what: String| StoreError::Invalid(format!("job `{}`: {what}", job.id));
    if job.max_attempts == 0 {
        return Err(invalid("it is to be tried 0 times; give it at least one attempt".to_owned()));
    }
    let payload = job.payload.to_string();
    if payload.len() > limits.max_payload_bytes {
        return Err(invalid(format!(
            "its payload has {} bytes, at most {} are allowed; keep the data elsewhere and push its id",
            payload.len(),
            limits.max_payload_bytes
        )));
    }
    Ok(PreparedJob {
        not_before_ms: job.not_before.map_or(0, round_up_to_ms),
        id: job.id,
        kind: job.kind,
        payload,
        group: job.group,
        priority: job.priority,
        max_attempts: job.max_attempts,
    })
}

/// Names become parts of keys and lines of lists: short, and nothing that cannot be seen.
fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    let fault = if name.is_empty() {
        "is empty; give it at least one character".to_owned()
    } else if name.len() > MAX_ID_BYTES {
        format!("has {} bytes; at most {MAX_ID_BYTES} are allowed", name.len())
    } else if name.chars().any(char::is_control) {
        "holds control characters; remove them".to_owned()
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid(format!("the {what} {fault}")))
}

/// Returns how many jobs a request may be given, and the length of its lease in milliseconds.
///
/// # Errors
/// [`StoreError::Invalid`].
pub(crate) fn check_request(request: &ClaimRequest) -> Result<(usize, i64), StoreError> {
    check_name("name of the consumer", &request.consumer)?;
    if request.limit == 0 {
        return Err(StoreError::Invalid("a claim of 0 jobs; ask for at least one".to_owned()));
    }
    Ok((request.limit.min(MAX_CLAIMED_AT_ONCE), lease_ms(request.lease)?))
}

/// # Errors
/// [`StoreError::Invalid`] for a lease that is over at once, or practically never.
pub(crate) fn lease_ms(lease: Duration) -> Result<i64, StoreError> {
    if lease < Duration::from_millis(1) || lease > MAX_LEASE {
        return Err(StoreError::Invalid(format!(
            "a lease of {lease:?}; it must be from 1 millisecond to {} days, and can be extended",
            MAX_LEASE.as_secs() / (24 * 3600)
        )));
    }
    // At most 30 days: far below the limit of the type.
    Ok(lease.as_millis() as i64)
}

/// Never earlier than asked for.
pub(crate) fn round_up_to_ms(at: Timestamp) -> i64 {
    let ms = at.as_millisecond();
    if moment(ms) < at { ms + 1 } else { ms }
}

/// Returns the moment of so many milliseconds after 1970; the nearest one in the calendar when there is none.
pub(crate) fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Returns the beginning of a reason, as much of it as is kept.
pub(crate) fn short_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}

/// Why a job is dead whose consumers all fell silent.
pub(crate) fn silent(consumer: &str, attempt: u32) -> String {
    format!("attempt {attempt}, the last one: the consumer `{consumer}` said nothing until its lease was over")
}

/// Why the attempt before failed, when nobody said so.
pub(crate) fn lease_over(consumer: &str) -> String {
    format!("the consumer `{consumer}` said nothing until its lease was over")
}

/// Returns the error for a ticket that has ended.
pub(crate) fn ended(ticket: &Ticket) -> StoreError {
    StoreError::Conflict(format!(
        "the claim on job `{}` has ended: the job was finished, given to another consumer after the lease was over, or \
         removed; drop this attempt",
        ticket.id
    ))
}

/// Returns the error for a tenant that has too many jobs.
pub(crate) fn full(scope: &Scope, limit: usize, n_dead: usize) -> StoreError {
    StoreError::Full {
        what: format!("the job queue of cube `{}`", scope.cube),
        limit,
        detail: format!("{n_dead} of them are dead; retry or remove those, or wait until others are done"),
    }
}

/// Returns the error for something in the queue that cannot be read.
pub(crate) fn damaged(id: &str, detail: &str) -> StoreError {
    StoreError::Corrupt { what: format!("job `{id}`"), detail: format!("{detail}; remove the job and push it again") }
}

/// Why a job is dead whose payload cannot be read: giving it out would only fail, and must not hold up the others.
pub(crate) fn unreadable(error: &serde_json::Error) -> String {
    format!("its payload cannot be read ({error}); remove the job and push it again")
}

/// Reads a payload for people to look at: one that is no JSON is shown as the text it is.
pub(crate) fn payload_to_show(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()))
}

/// Sorts the jobs of a push into those that are new and those that were known.
#[derive(Debug, Default)]
pub(crate) struct Sorting {
    pub(crate) receipt: PushReceipt,
}

impl Sorting {
    pub(crate) fn note(&mut self, id: &JobId, is_new: bool) {
        let side = if is_new { &mut self.receipt.new } else { &mut self.receipt.known };
        side.push(id.clone());
    }
}

/// Wakes those of this process who wait for jobs.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Notify,
}

impl Bell {
    /// Something changed that may be worth a look.
    pub(crate) fn ring(&self) {
        self.rung.notify_waiters();
    }

    /// Returns when `queue` has something to claim, and after `timeout` at the latest.
    pub(crate) async fn wait(
        &self,
        queue: &dyn JobQueue,
        clock: &dyn Clock,
        timeout: Duration,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        loop {
            // Listening begins before the look, so that nothing is missed in between.
            let mut rung = pin!(self.rung.notified());
            rung.as_mut().enable();
            let next = queue.next_ready_at().await?;
            let until_ready = match next {
                Some(at) => match Duration::try_from(at.duration_since(clock.now())) {
                    Ok(left) if !left.is_zero() => left,
                    _ => return Ok(()),
                },
                None => POLL_INTERVAL,
            };
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            // An error means that nobody rang for that long, which is a reason to look again as good as the bell.
            let _ = tokio::time::timeout(until_ready.min(POLL_INTERVAL).min(left), rung).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(id: &str) -> NewJob {
        NewJob::new(id.into(), "kind", json!({"text": "x"}))
    }

    fn refusal(job: NewJob) -> String {
        prepare_jobs(vec![job], &QueueLimits::default()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_a_remedy() {
        assert!(refusal(job("")).contains("empty"));
        assert!(refusal(job(&"x".repeat(513))).contains("513 bytes"));
        assert!(refusal(NewJob { kind: "a\nb".to_owned(), ..job("a") }).contains("control characters"));
        assert!(refusal(NewJob { group: Some(String::new()), ..job("a") }).contains("group"));
        assert!(refusal(NewJob { max_attempts: 0, ..job("a") }).contains("at least one attempt"));
        let large = json!("x".repeat(10 << 20));
        assert!(refusal(NewJob { payload: large, ..job("a") }).contains("push its id"));
    }

    #[test]
    fn a_push_is_bounded_as_a_whole() {
        let limits = QueueLimits { max_jobs_per_push: 2, max_bytes_per_push: 100, ..QueueLimits::default() };
        let jobs = |n: usize, text: &str| {
            (0..n).map(|n| NewJob { payload: json!(text), ..job(&n.to_string()) }).collect::<Vec<_>>()
        };
        assert!(prepare_jobs(jobs(2, ""), &limits).is_ok());
        assert!(prepare_jobs(jobs(3, ""), &limits).unwrap_err().to_string().contains("in parts"));
        assert!(prepare_jobs(jobs(2, &"x".repeat(60)), &limits).unwrap_err().to_string().contains("in parts"));
    }

    #[test]
    fn times_are_never_rounded_down() {
        let at = Timestamp::from_microsecond(1_000_001).unwrap();
        assert_eq!(round_up_to_ms(at), 1001);
        assert_eq!(round_up_to_ms(moment(1000)), 1000);
        assert_eq!(round_up_to_ms(Timestamp::from_microsecond(-1).unwrap()), 0);
    }

    #[test]
    fn leases_have_bounds() {
        assert_eq!(lease_ms(Duration::from_secs(2)).unwrap(), 2000);
        assert!(lease_ms(Duration::from_micros(1)).is_err());
        assert!(lease_ms(Duration::MAX).is_err());
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let long = "记".repeat(2000);
        assert_eq!(short_reason(&long).len(), 4095);
        assert_eq!(short_reason("short"), "short");
    }
}
