//! The built-in work that refines memories, as one set of handlers.

use std::sync::Arc;
use std::time::Duration;

use mos_core::StoreError;

use super::api_mix_search::{self, MixOptions};
use super::mem_dream::{self, DreamOptions};
use super::mem_feedback::{self, FeedbackOptions};
use super::mem_read::{self, ReadOptions};
use super::{mem_archive, mem_organize, pref_add};
use crate::handler::{HandlerContext, Registration};
use crate::label;
use crate::message::ScheduleMessage;
use crate::scheduler::Scheduler;

/// How long learning preferences may be silent before another consumer takes over; MemOS' number.
const PREFERENCES_MIN_IDLE: Duration = Duration::from_secs(600);

/// How long work may take that asks a model many times. What it has done when it is ended stays done.
const LONG: Duration = Duration::from_secs(3_600);

/// How the built-in work is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkOptions {
    /// How raw memories are refined.
    pub read: ReadOptions,
    /// How corrections in plain words are done.
    pub feedback: FeedbackOptions,
    /// How thorough answers are prepared.
    pub mix: MixOptions,
    /// How recent memories are reflected on; `None`: they are not.
    pub dream: Option<DreamOptions>,
}

/// Registers the handlers of `mem_read`, `mem_organize`, `pref_add`, `mem_feedback`, `mem_archive`, `mem_dream` and
/// `api_mix_search`. Without [`WorkOptions::dream`] a `mem_dream` message is given up, and says why.
///
/// # Errors
/// As [`Scheduler::register_handlers`].
pub fn register_work(scheduler: &Scheduler, options: WorkOptions) -> Result<(), StoreError> {
    let WorkOptions { read, feedback, mix, dream } = options;
    let (feedback, dream) = (Arc::new(feedback), dream.map(Arc::new));
    let handlers = [
        (
            label::MEM_READ,
            Registration::new(move |context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
                mem_read::handle(&context, &messages, read).await
            })
            .limit(LONG),
        ),
        (
            label::MEM_ORGANIZE,
            Registration::new(|context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
                mem_organize::handle(&context, &messages).await
            })
            .limit(LONG),
        ),
        (
            label::PREF_ADD,
            Registration::new(|context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
                pref_add::handle(&context, &messages).await
            })
            .min_idle(PREFERENCES_MIN_IDLE)
            .limit(LONG),
        ),
        (
            label::MEM_FEEDBACK,
            Registration::new(move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
                let options = Arc::clone(&feedback);
                async move { mem_feedback::handle(&context, &messages, &options).await }
            }),
        ),
        (
            label::MEM_ARCHIVE,
            Registration::new(|context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
                mem_archive::handle(&context, &messages).await
            }),
        ),
        (
            label::MEM_DREAM,
            Registration::new(move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
                let options = dream.clone();
                async move { mem_dream::handle(&context, &messages, options.as_deref()).await }
            }),
        ),
        (
            label::API_MIX_SEARCH,
            Registration::new(move |context: HandlerContext, messages: Vec<ScheduleMessage>| async move {
                api_mix_search::handle(&context, &messages, mix).await
            }),
        ),
    ];
    scheduler.register_handlers(handlers)
}
