//! Jobs of a write, kept in its transaction and brought to the queue from there.
//!
//! A job is a node `MosJob` until the queue has it. Bringing it there twice does no harm, because the queue knows its id;
//! so a program that is killed in between leaves nothing undone, and any program that opens the database goes on. The node
//! `MosOutbox` is held while jobs of its cube are on their way: they keep their order, and none arrives after the cube was
//! deleted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use mos_core::{ArchivedJob, CubeId, Job, JobId, JobPlace, JobQueue, NewJob, Scope, StoreError};
use neo4rs::BoltType;
use serde::Deserialize;
use tokio::sync::Notify;

use super::apply::Writing;
use super::connection::{Transaction, Work};
use super::fault::Fault;
use super::statements::{self, query};
use super::values::{integer, map, row};
use super::{Neo4jStore, read::unexpected};
use crate::queue::{PreparedJob, QueueLimits, full, moment};

/// The most jobs that are brought to the queue at a time.
const MAX_JOBS: usize = 500;
/// The most bytes of their payloads, unless one job has more.
const MAX_BYTES: usize = 8 << 20;
/// The most cubes that one look at the outbox serves.
const MAX_TENANTS: usize = 1000;
/// How often it is looked for what others left behind, and what could not be brought before.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a write waits for its jobs to be in the queue.
const PATIENCE: Duration = Duration::from_secs(2);

/// The queue that jobs are for, and who brings them there.
pub(super) struct Outbox {
    pub(super) queue: Arc<dyn JobQueue>,
    bell: Notify,
    /// The queue did not take jobs when it was asked last: writes do not wait for it.
    is_behind: AtomicBool,
}

impl Outbox {
    pub(super) fn new(queue: Arc<dyn JobQueue>) -> Self {
        Self { queue, bell: Notify::new(), is_behind: AtomicBool::new(false) }
    }
}

#[derive(Debug, Deserialize)]
struct JobRow {
    number: u64,
    id: String,
    kind: String,
    payload: String,
    group: Option<String>,
    priority: u8,
    not_before_ms: i64,
    max_attempts: u32,
}

#[derive(Debug, Deserialize)]
struct TenantRow {
    tenant: String,
}

#[derive(Debug, Deserialize)]
struct CountRow {
    count: u64,
}

impl JobRow {
    fn job(self) -> Result<NewJob, StoreError> {
        let payload = serde_json::from_str(&self.payload)
            .map_err(|error| unexpected(&format!("the payload of job `{}` is no JSON ({error})", self.id)))?;
        Ok(NewJob {
            id: JobId::new(self.id),
            kind: self.kind,
            payload,
            group: self.group,
            priority: self.priority,
            not_before: (self.not_before_ms > 0).then(|| moment(self.not_before_ms)),
            max_attempts: self.max_attempts,
        })
    }
}

/// Drops the last ones when there are too many bytes. The first one stays.
fn bound_bytes(rows: &mut Vec<JobRow>) {
    let mut n_bytes = 0;
    let mut fits = |row: &JobRow| {
        n_bytes += row.payload.len();
        n_bytes <= MAX_BYTES
    };
    let n_jobs = rows.iter().take_while(|row| fits(row)).count().max(1);
    rows.truncate(n_jobs);
}

/// Writes jobs in the transaction of a batch.
pub(super) async fn write(
    writing: &mut Writing<'_>,
    scope: &Scope,
    prefix: &str,
    jobs: &[PreparedJob],
) -> Result<(), Fault> {
    let limit = QueueLimits::default().max_jobs_per_tenant;
    let waiting: Vec<CountRow> = writing.rows(statements::COUNT_JOBS).await?;
    let n_waiting = waiting.first().map_or(0, |row| usize::try_from(row.count).unwrap_or(usize::MAX));
    if n_waiting + jobs.len() > limit {
        return Err(full(scope, limit, 0).into());
    }
    let first = writing.scope_row.n_jobs + 1;
    let rows = (first..).zip(jobs).map(|(number, job)| {
        row([
            ("number", integer(number)),
            ("prefix", prefix.into()),
            ("id", job.id.as_str().into()),
            ("kind", job.kind.as_str().into()),
            ("payload", job.payload.as_str().into()),
            ("in_group", job.group.clone().into()),
            ("priority", integer(job.priority)),
            ("not_before_ms", job.not_before_ms.into()),
            ("max_attempts", integer(job.max_attempts)),
        ])
    });
    let rows: Vec<BoltType> = rows.collect();
    writing.run(statements::ADD_OUTBOX).await?;
    writing.write_parts(statements::ADD_JOBS, "rows", rows).await?;
    let n_jobs = map([("n_jobs", integer(first + jobs.len() as u64 - 1))]);
    writing.set_properties(n_jobs).await
}

/// Waits until nobody brings jobs of the cube to the queue, and removes those that are left.
pub(super) async fn forget(writing: &mut Writing<'_>) -> Result<(), Fault> {
    writing.run(statements::HOLD_OUTBOX).await?;
    writing.run(statements::FORGET_JOBS).await
}

/// Brings the first jobs of a cube to the queue. Returns how many there were.
struct Deliver {
    scope: Scope,
    tenant: String,
    queue: Arc<dyn JobQueue>,
}

#[async_trait]
impl Work for Deliver {
    type Output = usize;

    async fn run(&self, transaction: &mut Transaction) -> Result<usize, Fault> {
        let of_tenant = |text| query(text).param("tenant", self.tenant.as_str());
        transaction.run(of_tenant(statements::HOLD_OUTBOX)).await?;
        let first = of_tenant(statements::UNDELIVERED).param("after", integer(0_u64)).param("limit", integer(MAX_JOBS));
        let mut rows: Vec<JobRow> = transaction.rows(first).await?;
        bound_bytes(&mut rows);
        let Some(last) = rows.last().map(|row| row.number) else { return Ok(0) };
        let n_jobs = rows.len();
        let jobs = rows.into_iter().map(JobRow::job).collect::<Result<Vec<_>, _>>()?;
        match self.queue.push(&self.scope, jobs).await {
            // Nobody waits for the jobs of a cube that is gone.
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        transaction.run(of_tenant(statements::DELIVERED).param("number", integer(last))).await?;
        Ok(n_jobs)
    }

    /// The queue knows what it was given.
    fn is_repeatable(&self) -> bool {
        true
    }
}

impl Neo4jStore {
    /// Brings all jobs of a cube to the queue.
    async fn deliver(&self, outbox: &Outbox, scope: &Scope) -> Result<usize, StoreError> {
        let mut n_delivered = 0;
        loop {
            let (scope, tenant, queue) = (scope.clone(), self.tenant(scope), Arc::clone(&outbox.queue));
            match self.connection.transact(Deliver { scope, tenant, queue }).await? {
                0 => return Ok(n_delivered),
                n_jobs => n_delivered += n_jobs,
            }
        }
    }

    /// Brings what a write has left in the outbox to the queue; what does not succeed now is tried again by itself.
    pub(super) async fn deliver_soon(&self, outbox: &Outbox, scope: &Scope) {
        let is_done = !outbox.is_behind.load(Ordering::Relaxed)
            && matches!(tokio::time::timeout(PATIENCE, self.deliver(outbox, scope)).await, Ok(Ok(_)));
        if !is_done {
            outbox.is_behind.store(true, Ordering::Relaxed);
            outbox.bell.notify_one();
        }
    }

    /// Brings the jobs of all cubes to the queue, and returns how many there were. [`Neo4jStore::open_with_queue`] does so
    /// by itself every few seconds.
    ///
    /// # Errors
    /// Those of the queue, and of reading and writing the record: the first one, after every cube was tried.
    pub async fn deliver_jobs(&self) -> Result<usize, StoreError> {
        let Some(outbox) = &self.outbox else { return Ok(0) };
        let (mut n_delivered, mut failure) = (0, None);
        for scope in self.scopes_with_jobs().await? {
            match self.deliver(outbox, &scope).await {
                Ok(n_jobs) => n_delivered += n_jobs,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        outbox.is_behind.store(failure.is_some(), Ordering::Relaxed);
        failure.map_or(Ok(n_delivered), Err)
    }

    /// Returns jobs of a cube that are on their way to the queue and come after `after` (from the first one with `None`), in the
    /// order in which they were written; none when there are no more. They stay there. When they were written is not known:
    /// they count as pushed when the store was opened.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn jobs_on_their_way(
        &self,
        scope: &Scope,
        after: Option<JobPlace>,
    ) -> Result<Vec<ArchivedJob>, StoreError> {
        let after = match after {
            None => 0,
            Some(JobPlace::Open(number)) => number,
            Some(JobPlace::Dead(..)) => return Ok(Vec::new()),
        };
        let statement = query(statements::UNDELIVERED)
            .param("tenant", self.tenant(scope))
            .param("after", integer(after))
            .param("limit", integer(MAX_JOBS));
        let mut rows: Vec<JobRow> = self.connection.read(statement).await?;
        bound_bytes(&mut rows);
        let now = self.clock.now();
        let archived = |row: JobRow| {
            let place = JobPlace::Open(row.number);
            let NewJob { id, kind, payload, group, priority, not_before, max_attempts } = row.job()?;
            let (scope, pushed_at) = (scope.clone(), self.opened_at);
            let job = Job {
                scope,
                id,
                kind,
                payload,
                group,
                priority,
                attempt: 0,
                max_attempts,
                pushed_at,
                last_error: None,
            };
            Ok::<_, StoreError>(ArchivedJob { place, job, not_before: not_before.filter(|at| *at > now), death: None })
        };
        rows.into_iter().map(archived).collect()
    }

    /// Returns how many jobs of a cube are on their way to the queue.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn n_jobs_on_their_way(&self, scope: &Scope) -> Result<usize, StoreError> {
        let statement = query(statements::COUNT_JOBS).param("tenant", self.tenant(scope));
        let rows: Vec<CountRow> = self.connection.read(statement).await?;
        Ok(rows.first().map_or(0, |row| usize::try_from(row.count).unwrap_or(usize::MAX)))
    }

    /// Returns the cubes whose jobs are on their way.
    pub(super) async fn scopes_with_jobs(&self) -> Result<Vec<Scope>, StoreError> {
        let prefix = self.options.tenant_prefix.as_str();
        let statement = query(statements::WITH_JOBS).param("prefix", prefix).param("limit", integer(MAX_TENANTS));
        let rows: Vec<TenantRow> = self.connection.read(statement).await?;
        let cube = |row: &TenantRow| row.tenant.strip_prefix(prefix).map(|cube| Scope::of(&CubeId::new(cube)));
        Ok(rows.iter().filter_map(cube).collect())
    }
}

/// Brings jobs to the queue as long as the store is in use.
pub(super) async fn serve(store: Weak<Neo4jStore>, outbox: Arc<Outbox>) {
    loop {
        let Some(store) = store.upgrade() else { return };
        match store.deliver_jobs().await {
            Ok(0) => {}
            Ok(n_jobs) => tracing::info!(n_jobs, "brought jobs to the queue"),
            Err(error) => tracing::warn!(%error, "jobs could not be brought to the queue; it will be tried again"),
        }
        drop(store);
        // Whether it is rung for or not, there may be something.
        let _ = tokio::time::timeout(INTERVAL, outbox.bell.notified()).await;
    }
}
