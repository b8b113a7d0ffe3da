//! `answer`: a user got an answer.

use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;

/// Tells of answers.
///
/// # Errors
/// Store errors.
pub async fn answer(context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError> {
    let at = context.clock.now();
    context.record(messages.iter().map(|message| super::said::said(message, "assistant", at)).collect()).await
}
