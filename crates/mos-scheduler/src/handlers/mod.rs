//! The built-in work: what is done about messages of the known labels.

pub mod add;
pub mod answer;
pub mod api_mix_search;
pub mod mem_archive;
pub mod mem_dream;
pub mod mem_feedback;
pub mod mem_organize;
pub mod mem_read;
pub mod mem_update;
pub mod pref_add;
pub mod query;
pub mod refining;
mod said;
mod steps;

use std::sync::Arc;

use mos_core::StoreError;

use crate::handler::{HandlerContext, Registration};
use crate::label;
use crate::message::ScheduleMessage;
use crate::scheduler::Scheduler;
use mem_update::TurnOptions;

/// Registers the work around a question: `query`, `answer`, `add` and `mem_update`.
///
/// # Errors
/// [`StoreError::Full`] when there are handlers for too many labels.
pub fn register_turn(scheduler: &Scheduler, options: TurnOptions) -> Result<(), StoreError> {
    let options = Arc::new(options);
    let mem_update = move |context: HandlerContext, messages: Vec<ScheduleMessage>| {
        mem_update::mem_update(context, messages, Arc::clone(&options))
    };
    scheduler.register_handlers([
        (label::QUERY, Registration::new(query::query)),
        (label::ANSWER, Registration::new(answer::answer)),
        (label::ADD, Registration::new(add::add)),
        (label::MEM_UPDATE, Registration::new(mem_update)),
    ])
}
