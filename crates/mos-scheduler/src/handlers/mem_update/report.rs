//! What a turn did, for people and tests.

use jiff::Timestamp;
use mos_core::{MemoryId, MemoryItem};
use serde::Serialize;
use serde_json::{Value, json};

use crate::event::{ARCHIVE_MEMORY, Event, UPDATE_MEMORY, counted};
use crate::message::ScheduleMessage;
use crate::monitor::{MAX_CAPACITY, clipped};
use crate::promote::{Outcome, Promotion, RetiredMemory};

/// The most characters of a text in an event.
const MAX_SHOWN: usize = 600;

/// Why memories were retrieved, or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// There was no question that had not been dealt with before.
    #[default]
    NoQuestion,
    /// The working memory was empty.
    NothingKnown,
    /// There is no model that could say whether the working memory is enough.
    NoModel,
    /// The model gave no answer.
    ModelFailed,
    /// The model said that something is missing.
    Missing,
    /// The model found the working memory enough, but nothing was retrieved for too long.
    Overdue,
    /// The model found the working memory enough.
    NotNeeded,
}

impl Trigger {
    /// Whether memories are retrieved.
    pub fn retrieves(self) -> bool {
        !matches!(self, Self::NoQuestion | Self::NotNeeded)
    }

    /// Whether anything was done.
    pub fn is_a_turn(self) -> bool {
        self != Self::NoQuestion
    }
}

/// A memory as a turn saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TurnMemory {
    /// The memory.
    pub id: MemoryId,
    /// Its text.
    pub text: String,
}

/// What a turn did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Turn {
    /// The questions.
    pub queries: Vec<String>,
    /// The keywords of the latest questions.
    pub keywords: Vec<String>,
    /// Why memories were retrieved, or not.
    pub trigger: Trigger,
    /// What was searched for.
    pub evidences: Vec<String>,
    /// What was found, the best first.
    pub retrieved: Vec<TurnMemory>,
    /// The user's working memory before, the most important memories first.
    pub before: Vec<TurnMemory>,
    /// What the turn made the working memory, the most important memories first.
    pub after: Vec<TurnMemory>,
    /// Whether a model gave the order; otherwise it is that of the search.
    pub is_reranked: bool,
    /// What the model failed at, and what was done instead.
    pub notes: Vec<String>,
}

impl Turn {
    /// A turn in which nothing was asked.
    pub(super) fn of_nothing(working: &[MemoryItem]) -> Self {
        let working = shown(working);
        Self { before: working.clone(), after: working, ..Self::default() }
    }
}

pub(super) fn shown(items: &[MemoryItem]) -> Vec<TurnMemory> {
    items.iter().map(|item| TurnMemory { id: item.id.clone(), text: item.memory.clone() }).collect()
}

/// The event of a turn: `memcube_log_content` holds the working memory, the one entry of `metadata` what the turn did.
pub(super) fn turn_event(message: &ScheduleMessage, turn: &Turn, at: Timestamp) -> Event {
    let said = format!(
        "{} retrieved; working memory has {}, before {}",
        counted(turn.retrieved.len(), "memory", "memories"),
        counted(turn.after.len(), "memory", "memories"),
        turn.before.len()
    );
    let content = turn.after.iter().map(|memory| entry(&memory.id, &memory.text)).collect();
    let details = json!({
        "queries": turn.queries.iter().map(|query| clipped(query, MAX_SHOWN)).collect::<Vec<_>>(),
        "keywords": turn.keywords,
        "trigger": turn.trigger,
        "evidences": turn.evidences.iter().map(|evidence| clipped(evidence, MAX_SHOWN)).collect::<Vec<_>>(),
        "retrieved": entries(&turn.retrieved),
        "before": entries(&turn.before),
        "is_reranked": turn.is_reranked,
        "notes": turn.notes.iter().map(|note| clipped(note, MAX_SHOWN)).collect::<Vec<_>>(),
    });
    let event = Event::of(message, UPDATE_MEMORY, "working_memory", said, at);
    event.moved("LongTermMemory", "WorkingMemory").about(content, vec![details])
}

/// The events of what became of activation memory; none when nothing did.
pub(super) fn promotion_events(message: &ScheduleMessage, promotion: &Promotion, at: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    if let (Outcome::Promoted, Some(promoted)) = (promotion.outcome, &promotion.promoted) {
        let said = format!("{} activation memory now", counted(promoted.memories.len(), "memory is", "memories are"));
        let content = promoted.memories.iter().map(|memory| entry(&memory.id, &memory.text)).collect();
        let details = json!({"activation_id": promoted.id});
        let event = Event::of(message, UPDATE_MEMORY, "activation_memory", said, at);
        events.push(event.moved("WorkingMemory", "ActivationMemory").about(content, vec![details]));
    }
    for retired in &promotion.retired {
        let said = format!(
            "{} no activation memory any more: {}",
            counted(retired.memories.len(), "memory is", "memories are"),
            retired.reason
        );
        let content = retired.memories.iter().map(retired_entry).collect();
        let details = json!({
            "activation_id": retired.id,
            "reason": retired.reason,
            "is_deleted": retired.is_deleted,
            "promoted_at": retired.promoted_at,
        });
        let event = Event::of(message, ARCHIVE_MEMORY, retired.id.as_str(), said, at);
        events.push(event.moved("ActivationMemory", "LongTermMemory").about(content, vec![details]));
    }
    events
}

fn entry(id: &MemoryId, text: &str) -> Value {
    json!({"ref_id": id, "content": clipped(text, MAX_SHOWN)})
}

/// Of many memories the first ones: an event has an end.
fn entries(memories: &[TurnMemory]) -> Vec<Value> {
    memories.iter().take(MAX_CAPACITY).map(|memory| entry(&memory.id, &memory.text)).collect()
}

fn retired_entry(memory: &RetiredMemory) -> Value {
    let text = memory.text.as_deref().unwrap_or_default();
    json!({"ref_id": memory.id, "content": clipped(text, MAX_SHOWN), "fate": memory.fate})
}

#[cfg(test)]
mod tests {
    use mos_core::state::checked_text;
    use mos_core::{RandomIds, SystemClock};

    use super::*;

    #[test]
    fn the_event_of_a_turn_that_found_very_much_can_be_recorded() {
        let message = ScheduleMessage::new("mem_update", "ann", "cube", "tea?", &SystemClock, &RandomIds);
        let memory = TurnMemory { id: MemoryId::new("00000000-0000-4000-8000-000000000001"), text: "茶".repeat(900) };
        let few = vec![memory.clone(); MAX_CAPACITY];
        let turn = Turn { retrieved: vec![memory; 5_000], before: few.clone(), after: few, ..Turn::default() };
        let event = turn_event(&message, &turn, message.timestamp);
        assert!(event.log_content.starts_with("5000 memories retrieved"), "{}", event.log_content);
        checked_text(&json!(event)).unwrap();
    }
}
