//! `query`: a user asked something.

use crate::handler::{HandlerContext, HandlerError};
use crate::label::MEM_UPDATE;
use crate::message::ScheduleMessage;

/// Tells of questions, and has working memory follow them: a message of label `mem_update` follows from each, unless that
/// label is switched off.
///
/// # Errors
/// Store errors; what the queue refuses.
pub async fn query(context: HandlerContext, messages: Vec<ScheduleMessage>) -> Result<(), HandlerError> {
    let at = context.clock.now();
    context.record(messages.iter().map(|message| super::said::said(message, "user", at)).collect()).await?;
    if context.submitter.disabled.iter().any(|label| label == MEM_UPDATE) {
        return Ok(());
    }
    context.submit(messages.iter().map(|message| message.with_label(MEM_UPDATE)).collect()).await?;
    Ok(())
}
