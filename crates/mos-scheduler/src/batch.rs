//! One batch of messages: opening their cube, calling their handler, saying what became of them.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mos_core::{Claimed, Failed, StoreError, Ticket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use crate::cube::OpenError;
use crate::dispatcher::Shared;
use crate::event::{Event, TASK_STATUS};
use crate::handler::{HandlerContext, HandlerError, Registration};
use crate::message::ScheduleMessage;
use crate::status;

/// How long a handler that is dropped may take to notice. One that computes without ever waiting cannot be stopped.
const GRACE: Duration = Duration::from_secs(1);

/// How often the queue is told what became of a message when it cannot be reached.
const SAY_ATTEMPTS: u32 = 5;

/// The longest reason that is kept, in characters.
const MAX_REASON: usize = 1_000;

/// What became of a batch.
enum Outcome {
    Done,
    Failed(HandlerError),
    /// The process ends: others do it.
    Stopped,
    /// Others have it: the lease was over.
    Lost,
}

/// Handles claimed jobs of one group, and tells the queue.
pub(crate) async fn handle(shared: Arc<Shared>, claims: Vec<Claimed>, stop: watch::Receiver<bool>) {
    let (messages, tickets) = match read(&claims) {
        Ok(read) => read,
        Err(reason) => return end_failed(&shared, &claims, &HandlerError::GiveUp(reason)).await,
    };
    let (label, claim) = (messages[0].label.clone(), tickets[0].claim);
    let started = Instant::now();
    let listed = shared.running.begin(claim, &messages, shared.clock.now());
    let span = tracing::info_span!(
        "job", label = %label, cube = %messages[0].mem_cube_id, user = %messages[0].user_id,
        trace_id = %messages[0].trace_id, n_messages = messages.len()
    );
    let outcome = run(&shared, &messages, &tickets, stop).instrument(span.clone()).await;
    shared.metrics.took(&label, started.elapsed());
    async {
        match outcome {
            Outcome::Done => end_done(&shared, &claims).await,
            Outcome::Failed(error) => end_failed(&shared, &claims, &error).await,
            Outcome::Stopped => release(&shared, &claims, &label).await,
            Outcome::Lost => tracing::warn!("the lease was over before the handler was done; the job is done again"),
        }
        tell_tasks(&shared, &messages).await;
    }
    .instrument(span)
    .await;
    drop(listed);
}

/// The messages in jobs; all of one user and label, as jobs of one group are: a handler works with one user's rights.
fn read(claims: &[Claimed]) -> Result<(Vec<ScheduleMessage>, Vec<Ticket>), String> {
    let mut messages = Vec::with_capacity(claims.len());
    for claimed in claims {
        let message: ScheduleMessage = serde_json::from_value(claimed.job.payload.clone())
            .map_err(|error| format!("the job holds no message: {error}; it was written by another program"))?;
        if message.mem_cube_id != claimed.job.scope.cube {
            return Err("the message names another cube than the one whose queue it is in".to_owned());
        }
        let first = messages.first().unwrap_or(&message);
        if (&first.user_id, &first.label) != (&message.user_id, &message.label) || message.label != claimed.job.kind {
            return Err(
                "the message is of another user or label than its group; it was written by another program".to_owned()
            );
        }
        messages.push(message);
    }
    Ok((messages, claims.iter().map(|claimed| claimed.ticket.clone()).collect()))
}

/// Runs the handler beside a heartbeat that keeps the lease.
async fn run(
    shared: &Arc<Shared>,
    messages: &[ScheduleMessage],
    tickets: &[Ticket],
    mut stop: watch::Receiver<bool>,
) -> Outcome {
    let label = &messages[0].label;
    let Some(registration) = shared.registry.get(label) else {
        return Outcome::Failed(HandlerError::Retry(format!(
            "no handler is registered for label `{label}`; register one, then retry the message"
        )));
    };
    let limit = registration.limit.unwrap_or(shared.options.limit);
    let lease = shared.lease(&registration);
    let mut task = start(shared, registration, messages.to_vec());
    let outcome = tokio::select! {
        // What is done counts as done, whatever else happens in the same moment.
        biased;
        ended = task.join_next() => return ended_outcome(ended),
        () = lost(shared, tickets, lease) => Outcome::Lost,
        () = stopped(&mut stop) => Outcome::Stopped,
        () = tokio::time::sleep(limit) => {
            Outcome::Failed(HandlerError::Retry(format!("the handler took longer than {} s", limit.as_secs_f64())))
        }
    };
    if tokio::time::timeout(GRACE, task.shutdown()).await.is_err() {
        tracing::error!(
            "a handler computes without ever waiting and cannot be stopped; it should use a blocking thread"
        );
    }
    outcome
}

fn ended_outcome(ended: Option<Result<Result<(), HandlerError>, tokio::task::JoinError>>) -> Outcome {
    match ended {
        Some(Ok(Ok(()))) => Outcome::Done,
        Some(Ok(Err(error))) => Outcome::Failed(error),
        None => Outcome::Failed(HandlerError::Retry("the handler was never begun".to_owned())),
        Some(Err(error)) => Outcome::Failed(HandlerError::Retry(format!("the handler was ended: {error}"))),
    }
}

/// Starts the handler as a task of its own, so that one that never waits does not hold the heartbeat; it ends when the set is
/// dropped.
fn start(
    shared: &Arc<Shared>,
    registration: Registration,
    messages: Vec<ScheduleMessage>,
) -> JoinSet<Result<(), HandlerError>> {
    let shared = Arc::clone(shared);
    let work = async move {
        let (user, cube) = (messages[0].user_id.clone(), messages[0].mem_cube_id.clone());
        let cube = shared.cubes.open(&user, &cube).await.map_err(|error| match error {
            OpenError::Gone(reason) => HandlerError::GiveUp(reason),
            OpenError::Failed(reason) => HandlerError::Retry(reason),
        })?;
        let context = HandlerContext {
            cube,
            state: Arc::clone(&shared.submitter.state),
            events: shared.events.clone(),
            clock: Arc::clone(&shared.clock),
            ids: Arc::clone(&shared.ids),
            submitter: shared.submitter.clone(),
        };
        let handled = AssertUnwindSafe(registration.handler.handle(context, messages)).catch_unwind().await;
        handled.unwrap_or_else(|panic| Err(HandlerError::Retry(format!("the handler panicked: {}", said(&*panic)))))
    };
    let mut task = JoinSet::new();
    task.spawn(work.in_current_span());
    task
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it said nothing")
}

/// Keeps the leases; ends when one is lost for good.
async fn lost(shared: &Shared, tickets: &[Ticket], lease: Duration) {
    let usual = shared.options.lease;
    let mut pause = if lease > usual { Duration::ZERO } else { lease / 3 };
    loop {
        tokio::time::sleep(pause).await;
        pause = lease / 3;
        for ticket in tickets {
            match shared.submitter.queue.extend(ticket, lease).await {
                Ok(_) => {}
                Err(StoreError::Conflict(_) | StoreError::NotFound { .. }) => return,
                // A lease, perhaps still the usual one, has two thirds left for the store to come back.
                Err(error) => {
                    pause = usual / 3;
                    tracing::warn!(%error, "a lease could not be extended");
                }
            }
        }
    }
}

/// Ends when handlers are to be stopped at once.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could stop anything.
        std::future::pending::<()>().await;
    }
}

async fn end_done(shared: &Shared, claims: &[Claimed]) {
    for claimed in claims {
        let label = &claimed.job.kind;
        if say(|| shared.submitter.queue.complete(&claimed.ticket)).await {
            shared.metrics.change(label, |metrics| metrics.completed += 1);
        }
    }
}

/// The first of the batch failed; those after it go back unharmed, the last first, so that none goes before it.
async fn end_failed(shared: &Shared, claims: &[Claimed], error: &HandlerError) {
    let Some((first, others)) = claims.split_first() else { return };
    release(shared, others, &first.job.kind).await;
    let reason: String = error.to_string().chars().take(MAX_REASON).collect();
    let retry_at = match error {
        // Of several, nobody knows which one is hopeless: each is tried alone.
        HandlerError::GiveUp(_) if others.is_empty() => None,
        HandlerError::GiveUp(_) | HandlerError::Retry(_) => {
            Some(shared.clock.now() + shared.options.retry_after(first.job.attempt))
        }
    };
    let mut failed = Failed::Waits;
    let told = {
        let failed = &mut failed;
        let mut attempts = 0;
        loop {
            match shared.submitter.queue.fail(&first.ticket, &reason, retry_at).await {
                Ok(became) => {
                    *failed = became;
                    break true;
                }
                Err(error) if again(&error, &mut attempts).await => {}
                Err(_) => break false,
            }
        }
    };
    if !told {
        return;
    }
    let is_dead = failed == Failed::Dead;
    shared.metrics.change(&first.job.kind, |metrics| if is_dead { metrics.failed += 1 } else { metrics.retried += 1 });
    // Reasons may quote what a model said about memories: they are told to whoever may ask for the job.
    if is_dead {
        tracing::warn!(item = %first.job.id, attempt = first.job.attempt, "a job was given up; its status tells why");
    } else {
        tracing::debug!(item = %first.job.id, attempt = first.job.attempt, "a job failed and is tried again");
    }
}

async fn release(shared: &Shared, claims: &[Claimed], label: &str) {
    for claimed in claims.iter().rev() {
        if say(|| shared.submitter.queue.release(&claimed.ticket)).await {
            shared.metrics.change(label, |metrics| metrics.released += 1);
        }
    }
}

/// Tells the queue something, again when it cannot be reached; returns whether it knows. If it does not, the lease ends and
/// the job is done again.
async fn say<F: Future<Output = Result<(), StoreError>>>(tell: impl Fn() -> F) -> bool {
    let mut attempts = 0;
    loop {
        match tell().await {
            Ok(()) => return true,
            Err(error) if again(&error, &mut attempts).await => {}
            Err(_) => return false,
        }
    }
}

/// Whether to tell the queue again, after a while.
async fn again(error: &StoreError, attempts: &mut u32) -> bool {
    *attempts += 1;
    let has_ended = matches!(error, StoreError::Conflict(_) | StoreError::NotFound { .. });
    if has_ended || *attempts >= SAY_ATTEMPTS {
        tracing::warn!(%error, "the queue could not be told what became of a job; it is done again when its lease is over");
        return false;
    }
    tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(*attempts)).await;
    true
}

/// Tells of tasks that have ended with these messages, each once.
pub(crate) async fn tell_tasks(shared: &Shared, messages: &[ScheduleMessage]) {
    let mut looked_at = BTreeSet::new();
    for message in messages {
        let Some(task_id) = message.task_id.as_deref().filter(|task| !task.is_empty()) else { continue };
        if !looked_at.insert(task_id) {
            continue;
        }
        let scope = mos_core::Scope::of(&message.mem_cube_id);
        let (queue, state) = (&*shared.submitter.queue, &*shared.submitter.state);
        let told = match status::end_to_tell(queue, state, &scope, task_id).await {
            Ok(Some(word)) => {
                let said = format!("task {task_id} {word}");
                let mut event = Event::of(message, TASK_STATUS, word, said, shared.clock.now());
                event.status = Some(word.to_owned());
                shared.events.record(&scope, vec![event]).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "the end of a task could not be told; its status is right all the same");
        }
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{Job, JobId, RandomIds, Scope, SystemClock};

    use super::*;

    fn claimed(user: &str, label: &str, kind: &str) -> Claimed {
        let message = ScheduleMessage::new(label, user, "cube", "", &SystemClock, &RandomIds);
        let (scope, id) = (Scope::of(&message.mem_cube_id), JobId::new(message.item_id.as_str()));
        let job = Job {
            scope: scope.clone(),
            id: id.clone(),
            kind: kind.to_owned(),
            payload: serde_json::to_value(&message).unwrap(),
            group: Some("group".to_owned()),
            priority: 0,
            attempt: 1,
            max_attempts: 5,
            pushed_at: message.timestamp,
            last_error: None,
        };
        Claimed { job, ticket: Ticket { scope, id, claim: 1 }, until: message.timestamp }
    }

    #[test]
    fn a_batch_is_of_one_user_and_label() {
        let (messages, tickets) = read(&[claimed("ann", "add", "add"), claimed("ann", "add", "add")]).unwrap();
        assert_eq!((messages.len(), tickets.len()), (2, 2));
        for (user, label, kind) in [("bob", "add", "add"), ("ann", "query", "query"), ("ann", "query", "add")] {
            let error = read(&[claimed("ann", "add", "add"), claimed(user, label, kind)]).unwrap_err();
            assert!(error.contains("another user or label"), "{error}");
        }
    }
}
