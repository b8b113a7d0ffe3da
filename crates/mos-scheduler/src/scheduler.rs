//! The scheduler as others see it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mos_core::{
    Clock, DeadJob, IdSource, JobId, JobQueue, JobState, NewJob, Page, Paging, QueueStats, Scope, StateStore,
    StoreError, Weights,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::batch;
use crate::cube::Cubes;
use crate::dispatcher::{self, Phase, Shared, Stopped};
use crate::event::{EventLog, EventSink};
use crate::handler::{Handler, Registration};
use crate::message::ScheduleMessage;
use crate::metrics::{LabelMetrics, Metrics};
use crate::options::SchedulerOptions;
use crate::recent::RecentMessage;
use crate::registry::Registry;
use crate::retriever::Retriever;
use crate::status::{self, ItemState, ItemStatus, Running, RunningTask, TaskStatus};
use crate::submit::{Submitted, Submitter};

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(100);

/// How many jobs are looked at together when one is sought.
const JOBS_AT_ONCE: usize = 100;

/// What a scheduler is made of.
#[derive(Debug)]
pub struct SchedulerParts {
    /// Keeps the jobs.
    pub queue: Arc<dyn JobQueue>,
    /// Keeps what must be known after a restart.
    pub state: Arc<dyn StateStore>,
    /// Opens the cubes of messages.
    pub cubes: Arc<dyn Cubes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// Where events go besides the log.
    pub sinks: Vec<Arc<dyn EventSink>>,
    /// How it works.
    pub options: SchedulerOptions,
}

/// Work in the background. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    run: Arc<Mutex<Option<Run>>>,
}

/// A dispatcher that runs.
#[derive(Debug)]
struct Run {
    phase: watch::Sender<Phase>,
    kill: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Returns a scheduler that takes messages; it handles them from [`Scheduler::start`] on.
    pub fn new(parts: SchedulerParts) -> Self {
        let SchedulerParts { queue, state, cubes, clock, ids, sinks, options } = parts;
        let (registry, metrics) = (Arc::<Registry>::default(), Arc::<Metrics>::default());
        let submitter = Submitter {
            queue,
            state: Arc::clone(&state),
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            recent: Arc::default(),
            disabled: options.disabled.clone().into(),
            max_attempts: options.max_attempts.max(1),
            kept_tasks: options.kept_tasks,
            awake: Arc::default(),
        };
        let shared = Shared {
            submitter,
            registry,
            metrics,
            cubes,
            events: EventLog::new(state, sinks),
            running: Running::default(),
            clock,
            ids,
            weights: RwLock::new(options.weights.clone()),
            options,
            ended: Notify::new(),
        };
        Self { shared: Arc::new(shared), run: Arc::default() }
    }

    /// Puts messages into the queue and returns once they are as durable as it makes them. Those of one cube are accepted all
    /// or none; a message that is known by its [`item_id`](ScheduleMessage::item_id) is the same message.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a message without label, of a label that is switched off, that follows from too many others,
    /// or that is too large; [`StoreError::Full`] when the cube has too many; [`StoreError::NotFound`] for a deleted cube;
    /// what the queue can meet. Submitting again is safe.
    pub async fn submit_messages(&self, messages: Vec<ScheduleMessage>) -> Result<Submitted, StoreError> {
        self.shared.submitter.submit(messages).await
    }

    /// Returns a message as the job that submitting it pushes: for a write that puts it into the queue itself
    /// ([`WriteBatch::jobs`](mos_core::WriteBatch)), so that both happen or neither does.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a message that is no good job.
    pub fn job(&self, message: &ScheduleMessage) -> Result<NewJob, StoreError> {
        self.shared.submitter.job(message)
    }

    /// Has the dispatcher of this process look into the queue: something was put there by a write.
    pub fn wake(&self) {
        self.shared.submitter.awake.notify_one();
    }

    /// Adds or replaces handlers.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there are handlers for too many labels; those before it are registered.
    pub fn register_handlers(
        &self,
        handlers: impl IntoIterator<Item = (impl Into<String>, Registration)>,
    ) -> Result<(), StoreError> {
        let handlers = handlers.into_iter().map(|(label, registration)| (label.into(), registration)).collect();
        self.shared.registry.register(handlers).map_err(|label| StoreError::Full {
            what: "the list of handlers".to_owned(),
            limit: 256,
            detail: format!("there is no room for `{label}`; unregister others"),
        })
    }

    /// Replaces each handler that is registered now by what `wrap` returns for it, for example one that looks at the messages
    /// first. Priorities and limits stay.
    pub fn wrap_handlers(&self, wrap: impl Fn(Arc<dyn Handler>) -> Arc<dyn Handler>) {
        self.shared.registry.wrap(wrap);
    }

    /// Removes handlers; returns for each label whether it had one. What is being handled goes on; messages that come later
    /// are retried, then given up, until there is a handler again.
    pub fn unregister_handlers(&self, labels: &[String]) -> BTreeMap<String, bool> {
        self.shared.registry.unregister(labels)
    }

    /// The labels that have a handler.
    pub fn handlers(&self) -> Vec<String> {
        self.shared.registry.labels()
    }

    /// Begins to handle messages; a second call changes nothing. Must be called within a tokio runtime.
    pub fn start(&self) {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.as_ref().is_some_and(|run| !run.task.is_finished()) {
            return;
        }
        let ((phase, phases), (kill, kills)) = (watch::channel(Phase::Taking), watch::channel(false));
        let task = tokio::spawn(dispatcher::run(Arc::clone(&self.shared), phases, kills));
        *run = Some(Run { phase, kill, task });
    }

    /// Whether messages are handled.
    pub fn is_running(&self) -> bool {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.as_ref().is_some_and(|run| !run.task.is_finished())
    }

    /// Stops handling messages: takes no more, lets those that are being handled end, and gives back what has not ended after
    /// [`SchedulerOptions::drain`]. A queue that ends with the process is emptied first, as far as that time allows: of what
    /// failed, further attempts that come due in [`SchedulerOptions::drain_retries`] are made. What is left is counted in
    /// [`Stopped::lost`]. What waits in a durable queue is handled after the next start.
    pub async fn stop(&self) -> Stopped {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Run { phase, kill, mut task }) = run else { return Stopped::default() };
        let first = if self.shared.options.is_durable { Phase::Stopping } else { Phase::Emptying };
        phase.send_replace(first);
        if tokio::time::timeout(self.shared.options.drain, &mut task).await.is_ok() {
            return Stopped { unfinished: 0, lost: self.n_lost().await };
        }
        let unfinished = self.shared.running.all().len();
        phase.send_replace(Phase::Stopping);
        kill.send_replace(true);
        if let Err(error) = task.await {
            tracing::error!(%error, "the dispatcher ended in a way that it should not");
        }
        Stopped { unfinished, lost: self.n_lost().await }
    }

    /// How many messages end with a queue that ends with the process.
    async fn n_lost(&self) -> usize {
        if self.shared.options.is_durable {
            return 0;
        }
        let counted = async {
            let mut n_lost = 0;
            for scope in self.queue().tenants().await? {
                let stats = self.queue().stats(&scope).await?;
                n_lost += stats.waiting + stats.claimed;
            }
            Ok::<usize, StoreError>(n_lost)
        };
        match counted.await {
            Ok(0) => 0,
            Ok(n_lost) => {
                tracing::warn!(n_lost, "messages still wait in a queue that ends with the process");
                n_lost
            }
            Err(error) => {
                tracing::warn!(%error, "the queue cannot be asked what is lost with it");
                0
            }
        }
    }

    /// Drops everything that is being handled and tells nobody, as a process does that is killed: messages are handled again when
    /// their leases are over. For tests of what survives that.
    pub async fn crash(&self) {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Run { phase, kill, task }) = run else { return };
        task.abort();
        // Cancelled, which is what was asked for.
        drop(task.await);
        drop((phase, kill));
    }

    /// Stops handling messages and waits for nothing: what is being handled is broken off and given back, as far as the runtime
    /// lives long enough for that; else its leases end. For when nobody is left who could call [`Scheduler::stop`].
    pub fn abandon(&self) {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(run) = run {
            run.phase.send_replace(Phase::Stopping);
            run.kill.send_replace(true);
        }
    }

    /// Waits until nothing waits and nothing is being handled, by any process; returns whether that was so before `timeout`.
    ///
    /// # Errors
    /// Store errors.
    pub async fn wait_until_idle(&self, timeout: Duration) -> Result<bool, StoreError> {
        let end = Instant::now() + timeout;
        loop {
            let ended = self.shared.ended.notified();
            if self.is_idle().await? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            // Another process may have done the last job.
            drop(tokio::time::timeout(LOOK.min(end - Instant::now()), ended).await);
        }
    }

    async fn is_idle(&self) -> Result<bool, StoreError> {
        for scope in self.queue().tenants().await? {
            let stats = self.queue().stats(&scope).await?;
            if stats.waiting + stats.claimed > 0 {
                return Ok(false);
            }
        }
        Ok(self.shared.running.is_empty())
    }

    /// Returns where a message stands; `None` for one that is unknown, or was done long ago.
    ///
    /// # Errors
    /// Store errors.
    pub async fn item_status(&self, scope: &Scope, item_id: &str) -> Result<Option<ItemStatus>, StoreError> {
        status::item(&**self.queue(), &*self.shared.submitter.state, scope, item_id).await
    }

    /// Returns where the messages of a task of the application stand that are for this cube; `None` for an unknown task, and
    /// for one whose messages were all refused.
    ///
    /// # Errors
    /// Store errors.
    pub async fn task_status(&self, scope: &Scope, task_id: &str) -> Result<Option<TaskStatus>, StoreError> {
        status::task(&**self.queue(), &*self.shared.submitter.state, scope, task_id).await
    }

    /// Takes a message back that waits or was given up; returns false when it is being handled, was done, or is unknown. The task
    /// that ends with it is told.
    ///
    /// # Errors
    /// Store errors.
    pub async fn cancel(&self, scope: &Scope, item_id: &str) -> Result<bool, StoreError> {
        let id = JobId::new(item_id);
        match self.queue().find(scope, &id).await? {
            Some(JobState::Waiting | JobState::Dead { .. }) => {}
            _ => return Ok(false),
        }
        let message = self.message(scope, &id).await?;
        // Said first: a message that is gone and not known as cancelled would look done.
        status::note_cancelled(&*self.shared.submitter.state, scope, item_id).await?;
        let is_taken_back = self.queue().remove(scope, &[id]).await? > 0;
        if is_taken_back && let Some(message) = message {
            batch::tell_tasks(&self.shared, &[message]).await;
        }
        Ok(is_taken_back)
    }

    /// The message of a job that waits or was given up; `None` where the queue does not show its jobs.
    async fn message(&self, scope: &Scope, id: &JobId) -> Result<Option<ScheduleMessage>, StoreError> {
        let Some(archive) = self.queue().job_archive() else { return Ok(None) };
        let mut after = None;
        loop {
            let jobs = archive.archived_jobs(scope, after, JOBS_AT_ONCE).await?;
            let Some(last) = jobs.last() else { return Ok(None) };
            after = Some(last.place);
            if let Some(found) = jobs.into_iter().find(|found| found.job.id == *id) {
                // What holds no message belongs to no task.
                return Ok(serde_json::from_value(found.job.payload).ok());
            }
        }
    }

    /// What is being handled in this process.
    pub fn running(&self) -> Vec<RunningTask> {
        self.shared.running.all()
    }

    /// Returns the messages that this process has sent in the last week, of all users, oldest first; at most the last 4,000.
    /// One that [`Scheduler::item_status`] does not know was never accepted, or was done long ago.
    pub fn recent(&self) -> Vec<RecentMessage> {
        self.shared.submitter.recent.all(self.shared.clock.now())
    }

    /// Returns where messages of [`Scheduler::recent`] stand, in their order; those that are not known, as never accepted, are
    /// left out. The queue is asked for those that were not seen to be done before.
    ///
    /// # Errors
    /// Store errors.
    pub async fn recent_states(
        &self,
        messages: Vec<RecentMessage>,
    ) -> Result<Vec<(RecentMessage, ItemState)>, StoreError> {
        let mut states = Vec::with_capacity(messages.len());
        for message in messages {
            let found = if message.is_completed {
                Some(ItemState::Completed)
            } else {
                let found = self.item_status(&Scope::of(&message.mem_cube_id), &message.item_id).await?;
                found.map(|found| found.status)
            };
            states.extend(found.map(|state| (message, state)));
        }
        self.shared.submitter.recent.note_completed(&states);
        Ok(states)
    }

    /// Returns how much a cube has in the queue.
    ///
    /// # Errors
    /// Store errors.
    pub async fn queue_status(&self, scope: &Scope) -> Result<QueueStats, StoreError> {
        self.queue().stats(scope).await
    }

    /// Returns messages that were given up, first given up first.
    ///
    /// # Errors
    /// Store errors.
    pub async fn given_up(&self, scope: &Scope, paging: Paging) -> Result<Page<DeadJob>, StoreError> {
        self.queue().dead(scope, paging).await
    }

    /// Has messages handled that were given up; returns how many there were.
    ///
    /// # Errors
    /// Store errors.
    pub async fn retry(&self, scope: &Scope, item_ids: &[String]) -> Result<usize, StoreError> {
        let ids: Vec<JobId> = item_ids.iter().map(|id| JobId::new(id.as_str())).collect();
        let n_retried = self.queue().retry_dead(scope, &ids).await?;
        self.wake();
        Ok(n_retried)
    }

    /// Has cubes given so many batches in a row from the next claim on, in this process; programs that share a queue must say the
    /// same. A turn that has lasted longer already ends.
    pub fn set_weights(&self, weights: Weights) {
        *self.shared.weights.write().unwrap_or_else(PoisonError::into_inner) = weights;
    }

    /// How many batches in a row cubes are given, where it is more than one.
    pub fn weights(&self) -> Weights {
        self.shared.weights()
    }

    /// What became of messages since the process began, by label.
    pub fn metrics(&self) -> BTreeMap<String, LabelMetrics> {
        self.shared.metrics.all()
    }

    /// Searches the cubes that it works on.
    pub fn retriever(&self) -> Retriever {
        Retriever::new(Arc::clone(&self.shared.cubes))
    }

    /// What happened to memories.
    pub fn events(&self) -> &EventLog {
        &self.shared.events
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn JobQueue> {
        &self.shared.submitter.queue
    }

    /// Documents and logs of cubes.
    pub fn state(&self) -> &Arc<dyn StateStore> {
        &self.shared.submitter.state
    }
}
