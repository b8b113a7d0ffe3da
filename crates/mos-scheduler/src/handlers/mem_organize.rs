//! `mem_organize`: contradictions and repetitions among memories are settled, what belongs together is connected.

use mos_core::{MemoryId, MemoryItem};

use super::steps::{about, ids_of, of_batch};
use crate::event::{ARCHIVE_MEMORY, Event, MERGE_MEMORY};
use crate::handler::{HandlerContext, HandlerError};
use crate::label::MEM_ORGANIZE;
use crate::message::{MAX_DEPTH, ScheduleMessage};

/// Handles `mem_organize` messages: a JSON list of ids; everything when the content is empty.
pub(crate) async fn handle(context: &HandlerContext, messages: &[ScheduleMessage]) -> Result<(), HandlerError> {
    for (index, message) in messages.iter().enumerate() {
        organize(context, message).await.map_err(|error| of_batch(index, error))?;
    }
    Ok(())
}

async fn organize(context: &HandlerContext, message: &ScheduleMessage) -> Result<(), HandlerError> {
    let ids = if message.content.trim().is_empty() { None } else { Some(ids_of(message)?) };
    if ids.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let done = context.cube.work.organize(ids.as_deref()).await?;
    let mut events = Vec::new();
    for (label, name, ids, said) in [
        (MERGE_MEMORY, "merged", &done.merged, "memories took the place of others"),
        (ARCHIVE_MEMORY, "archived", &done.archived, "memories gave way to others"),
    ] {
        if !ids.is_empty() {
            let items = known(context, ids).await?;
            let said = format!("{} {said}", ids.len());
            events.push(about(Event::of(message, label, name, said, context.clock.now()), &items));
        }
    }
    context.record(events).await?;
    if !done.is_unfinished {
        return Ok(());
    }
    if message.depth < MAX_DEPTH {
        context.submit(vec![message.following(MEM_ORGANIZE, message.content.clone())]).await?;
    } else {
        tracing::info!(
            "organising is unfinished after {MAX_DEPTH} runs; it goes on when memories are added or on request"
        );
    }
    Ok(())
}

async fn known(context: &HandlerContext, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, HandlerError> {
    Ok(context.cube.text.get_by_ids(ids).await?)
}
