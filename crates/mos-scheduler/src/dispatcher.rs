//! Takes jobs from the queue as long as there are workers for them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mos_core::{ClaimRequest, Claimed, Clock, IdSource, StoreError, Weights};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::batch;
use crate::cube::Cubes;
use crate::event::EventLog;
use crate::handler::Registration;
use crate::metrics::Metrics;
use crate::options::SchedulerOptions;
use crate::registry::Registry;
use crate::status::Running;
use crate::submit::Submitter;

/// How long the queue is waited for at a time; what this process submits wakes at once.
const WAIT: Duration = Duration::from_secs(1);

/// How long a queue that cannot be read is left alone.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// What all parts of a scheduler share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) submitter: Submitter,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cubes: Arc<dyn Cubes>,
    pub(crate) events: EventLog,
    pub(crate) running: Running,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) options: SchedulerOptions,
    /// Those of the options, until others are set.
    pub(crate) weights: RwLock<Weights>,
    /// Rings when a batch has ended.
    pub(crate) ended: Notify,
}

impl Shared {
    pub(crate) fn weights(&self) -> Weights {
        self.weights.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long messages of a handler stay with a consumer that says nothing. A claim takes those of every label for the usual
    /// time; whoever handles them makes it longer.
    pub(crate) fn lease(&self, registration: &Registration) -> Duration {
        registration.min_idle.map_or(self.options.lease, |min_idle| min_idle.max(self.options.lease))
    }
}

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Jobs are taken.
    Taking,
    /// Jobs are taken until none comes due in time: the queue ends with the process.
    Emptying,
    /// No job is taken any more.
    Stopping,
}

/// What was left when a scheduler stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Batches that were not done in time. Their messages went back into the queue.
    pub unfinished: usize,
    /// Messages that still waited in a queue that ends with the process, and are lost with it; always 0 for a durable queue.
    pub lost: usize,
}

/// Runs until it is stopped; returns when every batch has ended.
pub(crate) async fn run(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>, kill: watch::Receiver<bool>) {
    let workers = Arc::new(Semaphore::new(shared.options.workers.max(1)));
    let mut batches = JoinSet::new();
    let mut emptying_since = None;
    while *phase.borrow() != Phase::Stopping {
        let free = tokio::select! {
            changed = phase.changed() => match changed {
                Ok(()) => continue,
                // Nobody is left who could submit or stop.
                Err(_) => break,
            },
            // Closed by nobody.
            permit = Arc::clone(&workers).acquire_owned() => drop_permit(permit, &workers),
        };
        let claims = match claim(&shared, free).await {
            Ok(claims) => claims,
            Err(error) => {
                tracing::warn!(%error, "the queue cannot be read; trying again");
                tokio::select! {
                    _ = phase.changed() => {}
                    () = tokio::time::sleep(QUEUE_PAUSE) => {}
                }
                continue;
            }
        };
        if claims.is_empty() {
            let is_emptying = *phase.borrow() == Phase::Emptying;
            if is_emptying && batches_done(&mut batches) {
                let since = *emptying_since.get_or_insert_with(Instant::now);
                if !comes_due(&shared, since).await {
                    break;
                }
            }
            idle(&shared, &mut phase).await;
        }
        for batch in claims {
            let Ok(permit) = Arc::clone(&workers).acquire_owned().await else { break };
            let (shared, kill) = (Arc::clone(&shared), kill.clone());
            batches.spawn(async move {
                batch::handle(Arc::clone(&shared), batch, kill).await;
                drop(permit);
                shared.ended.notify_waiters();
            });
        }
        batches_done(&mut batches);
    }
    while batches.join_next().await.is_some() {}
}

/// The workers that are free, this one included.
fn drop_permit(permit: Result<tokio::sync::OwnedSemaphorePermit, tokio::sync::AcquireError>, all: &Semaphore) -> usize {
    drop(permit);
    all.available_permits().max(1)
}

/// Forgets batches that have ended; returns whether none is left. Batches tell of their failures themselves.
fn batches_done(batches: &mut JoinSet<()>) -> bool {
    while let Some(ended) = batches.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(%error, "a batch ended in a way that it should not; its jobs are done again");
        }
    }
    batches.is_empty()
}

/// Whether something waits for its time that comes before stopping gives up; `since` is when emptying the queue began.
async fn comes_due(shared: &Shared, since: Instant) -> bool {
    let next = match shared.submitter.queue.next_ready_at().await {
        Ok(next) => next,
        Err(error) => {
            tracing::warn!(%error, "the queue cannot be asked what waits in it; what does is lost with it");
            return false;
        }
    };
    let left = shared.options.drain_retries.min(shared.options.drain).saturating_sub(since.elapsed());
    // What is past its time is due now.
    next.is_some_and(|at| Duration::try_from(at.duration_since(shared.clock.now())).map_or(true, |wait| wait < left))
}

/// Waits for something to do.
async fn idle(shared: &Shared, phase: &mut watch::Receiver<Phase>) {
    // A job that ended may have let the next of its group go.
    let ended = shared.ended.notified();
    tokio::select! {
        _ = phase.changed() => {}
        () = shared.submitter.awake.notified() => {}
        () = ended => {}
        waited = shared.submitter.queue.wait(WAIT) => {
            if let Err(error) = waited {
                tracing::warn!(%error, "the queue cannot be waited for; trying again");
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
        }
    }
}

/// Claims at most `free` batches.
async fn claim(shared: &Shared, free: usize) -> Result<Vec<Vec<Claimed>>, StoreError> {
    let lease = shared.options.lease;
    let queue = &shared.submitter.queue;
    let (consumer, weights) = (shared.options.consumer.clone(), shared.weights());
    let request = ClaimRequest { consumer, limit: free, lease, weights };
    let mut batches = Vec::new();
    for first in queue.claim(&request).await? {
        let more = shared.options.batch.saturating_sub(1);
        // What failed before is tried alone, so that one bad message does not hold those with it; and what has one attempt
        // only, so that it is not given up for another's fault.
        let following = if more > 0 && first.job.attempt <= 1 && first.job.max_attempts > 1 {
            queue.claim_following(&first.ticket, more, lease).await
        } else {
            Ok(Vec::new())
        };
        let mut batch = vec![first];
        match following {
            Ok(following) => batch.extend(following),
            // They come again when their lease is over.
            Err(error) => tracing::warn!(%error, "what follows in a group could not be claimed"),
        }
        batches.push(batch);
    }
    Ok(batches)
}
