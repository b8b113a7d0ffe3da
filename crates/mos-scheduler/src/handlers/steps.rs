//! What several handlers do in the same way.

use std::collections::HashSet;

use mos_core::{MemoryError, MemoryId, MemoryItem, Origin, Status, TextMemory};
use serde_json::{Value, json};

use crate::event::Event;
use crate::handler::HandlerError;
use crate::message::ScheduleMessage;

/// The most ids that one message names.
const MAX_IDS: usize = 10_000;

/// The most reasons that one error tells.
const MAX_REASONS: usize = 5;

/// The most memories that one event shows; it counts all.
const MAX_SHOWN: usize = 50;

/// How much of a memory an event shows, in characters.
const MAX_SHOWN_CHARS: usize = 1_000;

/// Where a source names the memory that holds it.
pub(crate) const NODE_ID: &str = "node_id";

/// The tag of memories that are what was given, as it was.
const FAST: &str = "mode:fast";

/// What failed while the rest was done.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    reasons: Vec<String>,
    may_work_later: bool,
}

impl Failures {
    pub(crate) fn add(&mut self, what: &str, error: &HandlerError) {
        self.may_work_later |= matches!(error, HandlerError::Retry(_));
        self.reasons.push(format!("{what}: {error}"));
    }

    /// All failures as one error; it is worth trying again when one of them is.
    pub(crate) fn into_result(self) -> Result<(), HandlerError> {
        if self.reasons.is_empty() {
            return Ok(());
        }
        let n_more = self.reasons.len().saturating_sub(MAX_REASONS);
        let mut text = self.reasons.into_iter().take(MAX_REASONS).collect::<Vec<_>>().join("; ");
        if n_more > 0 {
            text.push_str(&format!("; and {n_more} more"));
        }
        Err(if self.may_work_later { HandlerError::Retry(text) } else { HandlerError::GiveUp(text) })
    }
}

/// Turns the error of one message into that of its batch. The first message of a batch stands for all: it must not be given
/// up because of another one, which is tried alone after it.
pub(crate) fn of_batch(index: usize, error: HandlerError) -> HandlerError {
    match index {
        0 => error,
        _ => HandlerError::Retry(format!("a message that was handled together with this one failed: {error}")),
    }
}

/// Returns the ids that a message lists, each once: its content is a JSON list of texts, or an object that has one as `ids`
/// or `memory_ids`.
pub(crate) fn ids_of(message: &ScheduleMessage) -> Result<Vec<MemoryId>, HandlerError> {
    let label = &message.label;
    let refused = |why: &str| {
        HandlerError::GiveUp(format!("the content of a `{label}` message is a JSON list of ids of memories; {why}"))
    };
    let value: Value =
        serde_json::from_str(&message.content).map_err(|error| refused(&format!("this one is no JSON: {error}")))?;
    let list = match &value {
        Value::Array(list) => list,
        Value::Object(map) => match map.get("ids").or_else(|| map.get("memory_ids")) {
            Some(Value::Array(list)) => list,
            _ => return Err(refused("this object has no list `ids`")),
        },
        _ => return Err(refused("this one is something else")),
    };
    if list.len() > MAX_IDS {
        return Err(refused(&format!("this one has {} ids, at most {MAX_IDS} are handled at once", list.len())));
    }
    let mut seen = HashSet::new();
    let mut ids = Vec::with_capacity(list.len());
    for value in list {
        let id = value.as_str().ok_or_else(|| refused("one of its elements is no text"))?;
        if seen.insert(id) {
            ids.push(MemoryId::from(id));
        }
    }
    Ok(ids)
}

/// Returns a memory; of a working copy, its original.
pub(crate) async fn original(text: &dyn TextMemory, id: &MemoryId) -> Result<Option<MemoryItem>, MemoryError> {
    let Some(found) = text.get_by_ids(std::slice::from_ref(id)).await?.into_iter().next() else { return Ok(None) };
    match found.working_copy_of().map(MemoryId::from) {
        Some(shown) => Ok(text.get_by_ids(&[shown]).await?.into_iter().next()),
        None => Ok(Some(found)),
    }
}

/// Archives a memory, with its history, and returns its new state; `None` when it is gone or out of use already.
pub(crate) async fn archive(
    text: &dyn TextMemory,
    id: &MemoryId,
    successors: &[MemoryId],
    origin: Origin,
) -> Result<Option<MemoryItem>, MemoryError> {
    let Some(found) = original(text, id).await? else { return Ok(None) };
    if !is_in_use(&found) {
        return Ok(None);
    }
    let id = found.id.clone();
    text.update(&id, as_archived(found, successors), origin).await.map(Some)
}

/// Returns a memory as it is when others have taken its place.
pub(crate) fn as_archived(mut item: MemoryItem, successors: &[MemoryId]) -> MemoryItem {
    item.metadata.status = Some(Status::Archived);
    for successor in successors.iter().map(ToString::to_string) {
        if !item.metadata.evolve_to.contains(&successor) {
            item.metadata.evolve_to.push(successor);
        }
    }
    item
}

pub(crate) fn is_in_use(item: &MemoryItem) -> bool {
    !matches!(item.metadata.status, Some(Status::Archived | Status::Deleted))
}

/// Whether a memory is what was said or given, and nothing that was drawn from it.
pub(crate) fn is_raw(item: &MemoryItem) -> bool {
    let metadata = &item.metadata;
    let is_message = metadata.info.as_ref().is_some_and(|info| info.get("role").is_some_and(Value::is_string));
    metadata.is_fast == Some(true) || metadata.tags.iter().flatten().any(|tag| tag == FAST) || is_message
}

/// Whether everything that a memory rests on is another memory: it was drawn from them.
pub(crate) fn is_drawn(item: &MemoryItem) -> bool {
    let sources = item.metadata.tree().and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    !sources.is_empty() && sources.iter().all(|source| source.extra.contains_key(NODE_ID))
}

/// Takes the mark of raw memories off one that was drawn or corrected, and returns it: a tree in asynchronous mode marks
/// whatever is added.
pub(crate) async fn finish(
    text: &dyn TextMemory,
    item: MemoryItem,
    origin: &Origin,
) -> Result<MemoryItem, MemoryError> {
    let is_marked = item.metadata.is_fast == Some(true) || item.metadata.tags.iter().flatten().any(|tag| tag == FAST);
    if !is_marked {
        return Ok(item);
    }
    let id = item.id.clone();
    let mut next = item;
    next.metadata.is_fast = None;
    if let Some(tags) = &mut next.metadata.tags {
        tags.retain(|tag| tag != FAST);
    }
    text.update(&id, next, origin.clone()).await
}

/// Adds memories to an event, as a page shows them.
pub(crate) fn about(event: Event, items: &[MemoryItem]) -> Event {
    let shown: Vec<&MemoryItem> = items.iter().take(MAX_SHOWN).collect();
    let content = shown.iter().map(|item| json!({"content": cut(&item.memory), "ref_id": item.id.as_str()})).collect();
    let metadata = shown.iter().map(|item| entry(item)).collect();
    let mut event = event.about(content, metadata);
    event.memory_len = Some(items.len());
    event
}

fn entry(item: &MemoryItem) -> Value {
    let metadata = &item.metadata;
    json!({
        "ref_id": item.id.as_str(),
        "id": item.id.as_str(),
        "key": metadata.key,
        "memory": cut(&item.memory),
        "memory_type": metadata.memory_type(),
        "status": metadata.status,
        "confidence": metadata.confidence,
        "tags": metadata.tags,
        "updated_at": metadata.updated_at,
    })
}

/// The beginning of a text, as far as people need it.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use mos_core::RandomIds;
    use mos_core::SystemClock;

    use super::*;

    fn message(content: &str) -> ScheduleMessage {
        ScheduleMessage::new("mem_read", "ann", "cube", content, &SystemClock, &RandomIds)
    }

    #[test]
    fn ids_are_read_in_both_forms_and_each_once() {
        let wanted = [MemoryId::from("a"), MemoryId::from("b")];
        assert_eq!(ids_of(&message(r#"["a", "b", "a"]"#)).unwrap(), wanted);
        assert_eq!(ids_of(&message(r#"{"ids": ["a", "b"]}"#)).unwrap(), wanted);
        for bad in ["a", "[1]", "{}", "7"] {
            let error = ids_of(&message(bad)).unwrap_err();
            assert!(matches!(&error, HandlerError::GiveUp(text) if text.contains("mem_read")), "{error}");
        }
    }

    #[test]
    fn failures_are_worth_another_attempt_when_one_of_them_is() {
        let mut failures = Failures::default();
        failures.add("a", &HandlerError::give_up("wrong"));
        failures.add("b", &HandlerError::retry("down"));
        let error = failures.into_result().unwrap_err();
        assert!(matches!(&error, HandlerError::Retry(text) if text == "a: wrong; b: down"), "{error}");
        let mut failures = Failures::default();
        (0..7).for_each(|_| failures.add("a", &HandlerError::give_up("wrong")));
        let error = failures.into_result().unwrap_err();
        assert!(matches!(&error, HandlerError::GiveUp(text) if text.ends_with("and 2 more")), "{error}");
        Failures::default().into_result().unwrap();
    }

    #[test]
    fn the_first_of_a_batch_is_not_given_up_for_another() {
        assert!(matches!(of_batch(0, HandlerError::give_up("x")), HandlerError::GiveUp(_)));
        assert!(matches!(of_batch(1, HandlerError::give_up("x")), HandlerError::Retry(_)));
    }
}
