//! Queues that break a promise on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::{
    ClaimRequest, Claimed, Clock, DeadJob, Failed, JobId, JobQueue, JobState, NewJob, Page, Paging, PushReceipt,
    QueueStats, Scope, StoreError, SystemClock, Ticket,
};
use mos_stores::InMemoryStore;

use super::world::Violation;

/// A promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A job counts as done when it is given out.
    AcknowledgesBeforeTheWork,
    /// A lease is not made longer although it is said so.
    LosesLeases,
    /// Jobs of a group overtake each other.
    Reorders,
    /// Some pushed jobs are forgotten.
    Forgets,
    /// One tenant is served before all others.
    Favours,
}

impl Fault {
    pub(super) const ALL: [Self; 5] =
        [Self::AcknowledgesBeforeTheWork, Self::LosesLeases, Self::Reorders, Self::Forgets, Self::Favours];

    /// Whether a violation is one that this fault leads to.
    pub(super) fn shows_as(self, violation: &Violation) -> bool {
        match self {
            Self::AcknowledgesBeforeTheWork => matches!(violation, Violation::DoneWithoutEffect { .. }),
            Self::LosesLeases => matches!(violation, Violation::TwoAtOnce { .. } | Violation::OutOfOrder { .. }),
            Self::Reorders => matches!(violation, Violation::OutOfOrder { .. } | Violation::TwoAtOnce { .. }),
            Self::Forgets => matches!(violation, Violation::Lost { .. }),
            Self::Favours => matches!(violation, Violation::Starved { .. }),
        }
    }
}

/// A queue with a fault.
#[derive(Debug)]
pub(super) struct Faulty {
    queue: Arc<InMemoryStore>,
    fault: Fault,
    n_pushed: AtomicU64,
}

impl Faulty {
    pub(super) fn new(queue: Arc<InMemoryStore>, fault: Fault) -> Self {
        Self { queue, fault, n_pushed: AtomicU64::new(0) }
    }

    /// Claims of the tenant that is favoured only, as long as it has any.
    async fn claim_favoured(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        let mut kept = Vec::new();
        let mut others = Vec::new();
        while kept.len() < request.limit {
            let one = ClaimRequest { limit: 1, ..request.clone() };
            let Some(claimed) = self.queue.claim(&one).await?.pop() else { break };
            let side = if claimed.job.scope.cube.as_str().ends_with("big") { &mut kept } else { &mut others };
            side.push(claimed);
        }
        if kept.is_empty() {
            let n_given = request.limit.min(others.len());
            kept.extend(others.drain(..n_given));
        }
        for claimed in others {
            self.queue.release(&claimed.ticket).await?;
        }
        Ok(kept)
    }
}

#[async_trait]
impl JobQueue for Faulty {
    async fn push(&self, scope: &Scope, mut jobs: Vec<NewJob>) -> Result<PushReceipt, StoreError> {
        let mut receipt = PushReceipt::default();
        if self.fault == Fault::Reorders {
            for job in &mut jobs {
                job.group = None;
                job.priority = u8::try_from(self.n_pushed.fetch_add(1, Ordering::SeqCst) % 200).unwrap();
            }
        }
        if self.fault == Fault::Forgets {
            let is_forgotten = |_: &NewJob| self.n_pushed.fetch_add(1, Ordering::SeqCst) % 10 == 9;
            let (forgotten, kept): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_forgotten);
            receipt.new.extend(forgotten.into_iter().map(|job| job.id));
            jobs = kept;
        }
        if !jobs.is_empty() {
            let real = self.queue.push(scope, jobs).await?;
            receipt.new.extend(real.new);
            receipt.known.extend(real.known);
        }
        Ok(receipt)
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        if self.fault == Fault::Favours {
            return self.claim_favoured(request).await;
        }
        let claimed = JobQueue::claim(&*self.queue, request).await?;
        if self.fault == Fault::AcknowledgesBeforeTheWork {
            for one in &claimed {
                self.queue.complete(&one.ticket).await?;
            }
        }
        Ok(claimed)
    }

    async fn extend(&self, ticket: &Ticket, lease: Duration) -> Result<Timestamp, StoreError> {
        match self.fault {
            Fault::LosesLeases => Ok(SystemClock.now() + lease),
            _ => self.queue.extend(ticket, lease).await,
        }
    }

    async fn complete(&self, ticket: &Ticket) -> Result<(), StoreError> {
        self.queue.complete(ticket).await
    }

    async fn release(&self, ticket: &Ticket) -> Result<(), StoreError> {
        self.queue.release(ticket).await
    }

    async fn fail(&self, ticket: &Ticket, reason: &str, retry_at: Option<Timestamp>) -> Result<Failed, StoreError> {
        self.queue.fail(ticket, reason, retry_at).await
    }

    async fn find(&self, scope: &Scope, id: &JobId) -> Result<Option<JobState>, StoreError> {
        self.queue.find(scope, id).await
    }

    async fn remove(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        JobQueue::remove(&*self.queue, scope, ids).await
    }

    async fn dead(&self, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, StoreError> {
        self.queue.dead(scope, paging).await
    }

    async fn retry_dead(&self, scope: &Scope, ids: &[JobId]) -> Result<usize, StoreError> {
        self.queue.retry_dead(scope, ids).await
    }

    async fn stats(&self, scope: &Scope) -> Result<QueueStats, StoreError> {
        self.queue.stats(scope).await
    }

    async fn tenants(&self) -> Result<Vec<Scope>, StoreError> {
        self.queue.tenants().await
    }

    async fn remove_tenant(&self, scope: &Scope) -> Result<usize, StoreError> {
        self.queue.remove_tenant(scope).await
    }

    async fn next_ready_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.queue.next_ready_at().await
    }

    async fn wait(&self, timeout: Duration) -> Result<(), StoreError> {
        self.queue.wait(timeout).await
    }
}
