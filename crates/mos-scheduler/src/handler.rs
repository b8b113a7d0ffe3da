//! Handlers: what is done about messages.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mos_core::{Clock, IdSource, MemoryError, ModelError, Origin, StateStore, StoreError};

use crate::cube::SchedulerCube;
use crate::event::{Event, EventLog};
use crate::label::Priority;
use crate::message::ScheduleMessage;
use crate::submit::{Submitted, Submitter};

/// Why a handler did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// It may work later: the message is tried again, after a while, as often as it has attempts.
    #[error("{0}")]
    Retry(String),
    /// It will not work later either: the message is given up with this reason.
    #[error("{0}")]
    GiveUp(String),
}

impl HandlerError {
    /// It may work later.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// It will not work later either.
    pub fn give_up(reason: impl fmt::Display) -> Self {
        Self::GiveUp(reason.to_string())
    }
}

/// With everything that caused it: the reason is all that people see.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<StoreError> for HandlerError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Invalid(_)
            | StoreError::Dimension { .. }
            | StoreError::NotFound { .. }
            | StoreError::EmbeddingSpace { .. }
            | StoreError::NotBuilt { .. } => Self::GiveUp(whole(&error)),
            _ => Self::Retry(whole(&error)),
        }
    }
}

impl From<ModelError> for HandlerError {
    fn from(error: ModelError) -> Self {
        match &error {
            ModelError::Invalid(_) | ModelError::TooLong { .. } | ModelError::NotBuilt { .. } => {
                Self::GiveUp(whole(&error))
            }
            _ => Self::Retry(whole(&error)),
        }
    }
}

impl From<MemoryError> for HandlerError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Store(error) => error.into(),
            MemoryError::Model(error) => error.into(),
            MemoryError::Invalid(_)
            | MemoryError::Validation(_)
            | MemoryError::NotFound(_)
            | MemoryError::Unsupported(_) => Self::GiveUp(whole(&error)),
            other => Self::Retry(whole(&other)),
        }
    }
}

/// What a handler works with, besides the messages.
#[derive(Clone, Debug)]
pub struct HandlerContext {
    /// The cube of the messages.
    pub cube: Arc<SchedulerCube>,
    /// Documents and logs of cubes.
    pub state: Arc<dyn StateStore>,
    /// What happened, for people.
    pub events: EventLog,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids. What must be the same when the handler runs twice is named by [`HandlerContext::key`] instead.
    pub ids: Arc<dyn IdSource>,
    pub(crate) submitter: Submitter,
}

impl HandlerContext {
    /// Submits messages that follow from the one that is handled; see [`ScheduleMessage::following`].
    ///
    /// # Errors
    /// [`HandlerError::GiveUp`] for one that follows from more than [`MAX_DEPTH`](crate::message::MAX_DEPTH) others; what
    /// the queue refuses.
    pub async fn submit(&self, messages: Vec<ScheduleMessage>) -> Result<Submitted, HandlerError> {
        Ok(self.submitter.submit(messages).await?)
    }

    /// Writes down what happened.
    ///
    /// # Errors
    /// Store errors.
    pub async fn record(&self, events: Vec<Event>) -> Result<(), HandlerError> {
        self.events.record(&self.cube.scope(), events).await?;
        Ok(())
    }

    /// A key for a write that a message leads to: the same each time the message is handled, so that the write has effect
    /// once. `what` tells several writes of one message apart.
    pub fn key(&self, message: &ScheduleMessage, what: &str) -> String {
        format!("job:{}:{what}", message.item_id)
    }

    /// Who changes memories, and why.
    pub fn origin(&self, message: &ScheduleMessage) -> Origin {
        Origin {
            actor: "scheduler".to_owned(),
            reason: message.label.clone(),
            message_id: Some(message.item_id.clone()),
        }
    }
}

/// Does what messages ask for.
///
/// It gets messages of one user, cube and label, in the order in which they were submitted; all are done, or none: an error
/// or a panic is one of each. It may be called again with messages that it has done already (a process can end between the
/// work and saying so), so what it does must have effect once: see [`HandlerContext::key`]. It is dropped in the middle when it
/// takes longer than its limit, or the process ends.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a batch, at least one message.
    ///
    /// # Errors
    /// Why it was not done, and whether it may work later.
    async fn handle(&self, context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError>;
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(HandlerContext, Vec<ScheduleMessage>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    async fn handle(&self, context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError> {
        self(context, messages).await
    }
}

/// A handler and how its messages are treated.
#[derive(Clone)]
pub struct Registration {
    /// Does the work.
    pub handler: Arc<dyn Handler>,
    /// How urgent they are; `None`: as before for a label that had a handler, else [`Priority::of_label`].
    pub priority: Option<Priority>,
    /// How long a message stays with a consumer that says nothing before another one gets it, when that is longer than the
    /// scheduler's lease; `None`: that lease.
    pub min_idle: Option<Duration>,
    /// How long one batch may take; `None`: the scheduler's limit.
    pub limit: Option<Duration>,
}

impl Registration {
    /// Returns a registration without further wishes.
    pub fn new(handler: impl Handler + 'static) -> Self {
        Self { handler: Arc::new(handler), priority: None, min_idle: None, limit: None }
    }

    /// Its messages are so urgent.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// A message stays so long with a consumer that says nothing.
    #[must_use]
    pub fn min_idle(mut self, min_idle: Duration) -> Self {
        self.min_idle = Some(min_idle);
        self
    }

    /// One batch may take so long.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, min_idle, limit, .. } = self;
        let mut shown = f.debug_struct("Registration");
        shown.field("priority", priority).field("min_idle", min_idle).field("limit", limit).finish_non_exhaustive()
    }
}
