//! `mem_archive`: memories are taken out of use; they stay known, with their history.

use mos_core::Origin;

use super::steps::{Failures, about, archive, ids_of, of_batch};
use crate::event::{ARCHIVE_MEMORY, Event, counted};
use crate::handler::{HandlerContext, HandlerError};
use crate::message::ScheduleMessage;

/// Handles `mem_archive` messages: a JSON list of ids, or `{"ids": [...], "reason": "..."}`; the reason may stand in the
/// message's `info` as well.
pub(crate) async fn handle(context: &HandlerContext, messages: &[ScheduleMessage]) -> Result<(), HandlerError> {
    for (index, message) in messages.iter().enumerate() {
        archive_all(context, message).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn archive_all(context: &HandlerContext, message: &ScheduleMessage) -> Result<(), HandlerError> {
    let ids = ids_of(message)?;
    let reason = reason(message);
    let mut origin = context.origin(message);
    if let Some(reason) = &reason {
        origin = Origin { reason: format!("{}: {reason}", message.label), ..origin };
    }
    let (mut archived, mut failures) = (Vec::new(), Failures::default());
    for id in &ids {
        match archive(context.cube.text.as_ref(), id, &[], origin.clone()).await {
            Ok(item) => archived.extend(item),
            Err(error) => failures.add(&format!("memory {id}"), &error.into()),
        }
    }
    if !archived.is_empty() {
        let first = archived[0].id.to_string();
        let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let said = format!("{} archived{why}", counted(archived.len(), "memory was", "memories were"));
        let event = Event::of(message, ARCHIVE_MEMORY, &first, said, context.clock.now());
        context.record(vec![about(event, &archived)]).await?;
    }
    failures.into_result()
}

fn reason(message: &ScheduleMessage) -> Option<String> {
    let content: Option<serde_json::Value> = serde_json::from_str(&message.content).ok();
    let own = content.as_ref().and_then(|content| content.get("reason")?.as_str());
    own.or_else(|| message.info_text("reason")).filter(|reason| !reason.trim().is_empty()).map(str::to_owned)
}
