//! The thread that computes for one loaded model.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

use mos_core::ModelError;

use super::generation::{Generation, Job, Progress};
use super::kept::KeptStates;
use super::model::Engine;
use crate::error::internal;

/// Conversations that may wait; more are refused.
const QUEUE: usize = 64;
/// Answers that are made at the same time, a step of each in turn.
const AT_ONCE: usize = 4;

/// The way to the worker. The thread ends when this is dropped.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
}

impl Worker {
    pub(super) fn start(engine: Arc<Engine>, kept_state_bytes: usize) -> Result<Self, ModelError> {
        let (jobs, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("mos-engine".to_owned())
            .spawn(move || work(&engine, &queue, KeptStates::new(kept_state_bytes)))
            .map_err(|error| internal("starting the thread of a model", error))?;
        Ok(Self { jobs })
    }

    /// Queues a conversation.
    ///
    /// # Errors
    /// [`ModelError::Unavailable`] when too many wait already.
    pub(super) fn submit(&self, job: Job) -> Result<(), ModelError> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                ModelError::Unavailable(format!("the local model is busy: {QUEUE} conversations wait; try again later"))
            }
            TrySendError::Disconnected(_) => internal("asking the local model", "its thread has ended"),
        })
    }
}

fn work(engine: &Engine, queue: &Receiver<Job>, mut kept: KeptStates) {
    let mut active: VecDeque<Generation> = VecDeque::new();
    loop {
        while active.len() < AT_ONCE {
            let job = if active.is_empty() {
                match queue.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            } else {
                match queue.try_recv() {
                    Ok(job) => job,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            };
            if job.cancel.is_cancelled() {
                continue;
            }
            let events = job.events.clone();
            match guarded(|| Generation::new(engine, &mut kept, job)) {
                Ok(generation) => active.push_back(generation),
                // A listener that has gone needs no answer.
                Err(error) => drop(events.send(Err(error))),
            }
        }
        let Some(mut generation) = active.pop_front() else { continue };
        match guarded(|| generation.step(engine, &mut kept)) {
            Ok(Progress::More) => active.push_back(generation),
            Ok(Progress::Finished) | Err(ModelError::Cancelled) => {
                if let Err(error) = guarded(|| generation.keep(engine, &mut kept)) {
                    // The answer is complete; only the next one is slower.
                    tracing::warn!(%error, "the state of a conversation was not kept");
                }
            }
            Err(error) => generation.fail(error),
        }
    }
}

/// A defect in one conversation must not end the others.
fn guarded<T>(action: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        Err(internal("computing an answer", text.unwrap_or("a panic without text")))
    })
}
