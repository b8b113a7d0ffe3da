//! What organising reads of a memory: whether it takes part, of whom and of what time it speaks.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mos_core::memory::{ArchivedVersion, UpdateType};
use mos_core::{Filter, MemoryItem, MemoryType, MetadataForm, Status, moment};
use serde_json::{Map, Value};

use crate::shelf::MAX_HISTORY_IN_ITEM;

/// The shelves that are organised. Working copies stand on another one.
pub(super) const SHELVES: [MemoryType; 2] = [MemoryType::LongTerm, MemoryType::User];

/// `metadata.type` of a memory that stands for others.
pub(super) const TOPIC: &str = "topic";
/// `metadata.type` of a memory that was concluded from others.
pub(super) const REASONING: &str = "reasoning";

pub(super) const VALID_FROM: &str = "valid_from";
pub(super) const VALID_TO: &str = "valid_to";
/// Marks a memory that may contradict an older one, to which an edge `CONFLICT` leads.
pub(crate) const CONFLICT_CANDIDATE: &str = "conflict_candidate";

/// Memories in use that somebody added, as opposed to those that organising made; of one shelf or of all, with those that
/// stand on none.
pub(super) fn facts(shelf: Option<MemoryType>) -> Filter {
    added(match shelf {
        Some(shelf) => on(shelf),
        None => Filter::Any(vec![Filter::one_of("memory_type", SHELVES.map(MemoryType::as_str)), on_no_shelf()]),
    })
}

/// Those facts that one may contradict or repeat: of its shelf, or such as it that stand on none.
pub(super) fn facts_beside(item: &MemoryItem) -> Filter {
    added(shelf_of(item).map_or_else(on_no_shelf, on))
}

fn added(of_shelves: Filter) -> Filter {
    let made = Filter::one_of("type", [TOPIC, REASONING]);
    in_use().and(of_shelves).and(Filter::Not(Box::new(made)))
}

/// Topics in use of a shelf.
pub(super) fn topics(shelf: MemoryType) -> Filter {
    in_use().and(on(shelf)).and(Filter::equals("type", TOPIC))
}

fn in_use() -> Filter {
    Filter::equals("status", Status::Activated.as_str())
}

fn on(shelf: MemoryType) -> Filter {
    Filter::equals("memory_type", shelf.as_str())
}

/// Memories of cubes that are no trees say no type.
fn on_no_shelf() -> Filter {
    Filter::Not(Box::new(Filter::one_of("memory_type", MemoryType::WORDS.iter().copied())))
}

/// Whether a memory passes [`facts`].
pub(super) fn is_fact(item: &MemoryItem) -> bool {
    let is_made = item.metadata.kind.as_deref().is_some_and(|kind| [TOPIC, REASONING].contains(&kind));
    let has_place = shelf_of(item).is_some() || item.metadata.form == MetadataForm::Base;
    item.metadata.status == Some(Status::Activated) && has_place && !is_made
}

/// The organised shelf that a memory stands on.
pub(super) fn shelf_of(item: &MemoryItem) -> Option<MemoryType> {
    item.metadata.tree().map(|tree| tree.memory_type).filter(|shelf| SHELVES.contains(shelf))
}

/// A moment that a memory tells of, perhaps only by its day.
#[derive(Clone, Debug)]
struct When {
    at: Timestamp,
    is_day: bool,
    text: String,
}

fn when(text: &str) -> Option<When> {
    let text = text.trim();
    let at = moment(text)?;
    Some(When { at, is_day: text.len() == "2026-01-02".len(), text: text.to_owned() })
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

fn info<'a>(item: &'a MemoryItem, key: &str) -> Option<&'a str> {
    text(item.metadata.info.as_ref()?, key)
}

/// When a memory was said, else stored.
fn said(item: &MemoryItem) -> Option<When> {
    let tree = item.metadata.tree();
    let sources = tree.and_then(|tree| tree.sources.as_deref()).unwrap_or_default();
    let message = info(item, "chat_time").and_then(when);
    let source = || sources.iter().filter_map(|source| when(source.chat_time.as_deref()?)).max_by_key(|when| when.at);
    let stored = || tree.and_then(|tree| when(tree.created_at.as_deref()?));
    message.or_else(source).or_else(stored).or_else(|| when(item.metadata.updated_at.as_deref()?))
}

/// From when on a memory is true.
fn begin(item: &MemoryItem) -> Option<When> {
    text(&item.metadata.extra, VALID_FROM).and_then(when).or_else(|| said(item))
}

/// From when on a memory is no longer true; `None` while it is.
fn end(item: &MemoryItem) -> Option<Timestamp> {
    Some(when(text(&item.metadata.extra, VALID_TO)?)?.at)
}

/// Which of two memories speaks of the earlier time; equal when that cannot be told.
///
/// A date and a moment of the same day are told apart by when they were said.
pub(super) fn order(left: &MemoryItem, right: &MemoryItem) -> Ordering {
    let by_saying = || match (said(left), said(right)) {
        (Some(left), Some(right)) => left.at.cmp(&right.at),
        _ => Ordering::Equal,
    };
    match (begin(left), begin(right)) {
        (Some(first), Some(second)) if same_day(&first, &second) => by_saying(),
        (Some(first), Some(second)) => first.at.cmp(&second.at).then_with(by_saying),
        _ => Ordering::Equal,
    }
}

fn same_day(left: &When, right: &When) -> bool {
    let day = |when: &When| TimeZone::UTC.to_datetime(when.at).date();
    left.is_day != right.is_day && day(left) == day(right)
}

/// Two memories, the one that speaks of the earlier time first.
pub(super) struct InTime {
    pub(super) older: MemoryItem,
    pub(super) newer: MemoryItem,
    /// Whether the times differ; otherwise the order is that of the last changes.
    pub(super) differs: bool,
}

pub(super) fn in_time(left: MemoryItem, right: MemoryItem) -> InTime {
    let by_time = order(&left, &right);
    let changed = |item: &MemoryItem| item.metadata.updated_at.as_deref().and_then(moment);
    let tie = || changed(&left).cmp(&changed(&right)).then_with(|| left.id.cmp(&right.id));
    let is_in_order = by_time.then_with(tie).is_le();
    let (older, newer) = if is_in_order { (left, right) } else { (right, left) };
    InTime { older, newer, differs: by_time != Ordering::Equal }
}

impl InTime {
    /// Whether both are true at some time; a fact that was closed before the other began contradicts nothing.
    pub(super) fn overlaps(&self) -> bool {
        match (end(&self.older), begin(&self.newer)) {
            (Some(end), Some(begin)) => begin.at < end,
            _ => true,
        }
    }

    /// The end of the older one when the newer one takes its place.
    pub(super) fn turn(&self) -> Option<String> {
        let begin_of_newer = begin(&self.newer)?;
        let is_later = begin(&self.older).is_none_or(|older| older.at < begin_of_newer.at);
        if is_later { Some(begin_of_newer.text) } else { said(&self.newer).map(|said| said.text) }
    }

    /// From when on, and until when, what both say is true, for a memory that says both.
    pub(super) fn validity(&self) -> (Option<String>, Option<String>) {
        let from =
            text(&self.older.metadata.extra, VALID_FROM).or_else(|| text(&self.newer.metadata.extra, VALID_FROM));
        let until = match (end(&self.older), end(&self.newer)) {
            (Some(older), Some(newer)) if older > newer => text(&self.older.metadata.extra, VALID_TO),
            (Some(_), Some(_)) => text(&self.newer.metadata.extra, VALID_TO),
            _ => None,
        };
        (from.map(str::to_owned), until.map(str::to_owned))
    }
}

/// When a memory begins to be true, as text.
pub(super) fn begin_text(item: &MemoryItem) -> Option<String> {
    begin(item).map(|when| when.text)
}

/// Who says "I" in a memory: a name, else a role; `user` when nobody is named.
pub(super) fn speaker(item: &MemoryItem) -> String {
    let roles = item.metadata.tree().and_then(|tree| tree.sources.as_deref()).unwrap_or_default();
    let role = || {
        let mut roles = roles.iter().filter_map(|source| source.role.as_deref());
        let first = roles.next()?;
        roles.all(|role| role == first).then_some(first)
    };
    let named = info(item, "name").or_else(|| info(item, "role")).or_else(role);
    named.unwrap_or("user").to_lowercase()
}

/// Returns the next state of a memory: one version on, with the earlier one in its history.
pub(super) fn next_state(
    old: &MemoryItem,
    now: &str,
    why: UpdateType,
    change: impl FnOnce(&mut MemoryItem),
) -> MemoryItem {
    let mut next = old.clone();
    next.metadata.history.push(ArchivedVersion {
        version: old.metadata.version,
        is_fast: old.metadata.is_fast.unwrap_or(false),
        memory: old.memory.clone(),
        update_type: why,
        archived_memory_id: None,
        created_at: now.to_owned(),
        timespec: None,
        memory_form: None,
    });
    let surplus = next.metadata.history.len().saturating_sub(MAX_HISTORY_IN_ITEM);
    next.metadata.history.drain(..surplus);
    next.metadata.version = old.metadata.version + 1;
    next.metadata.updated_at = Some(now.to_owned());
    change(&mut next);
    next
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;
    use serde_json::json;

    use super::*;

    fn item(number: u32, metadata: Value) -> MemoryItem {
        let id = MemoryId::new(format!("00000000-0000-4000-8000-{number:012}"));
        let value = json!({"id": id, "memory": "text", "metadata": metadata});
        MemoryItem::from_value(value, String::new).unwrap()
    }

    #[test]
    fn the_time_a_memory_speaks_of_decides_before_the_time_it_was_stored() {
        let rome =
            item(1, json!({"valid_from": "2010-01-01", "created_at": "2024-01-02T00:00:00Z", "background": "b"}));
        let paris = item(2, json!({"created_at": "2020-01-01T00:00:00Z", "background": "b"}));
        assert_eq!(order(&rome, &paris), Ordering::Less);
        let both = in_time(paris, rome);
        assert_eq!(both.older.id, item(1, json!({})).id);
        assert!(both.differs && both.overlaps());
        assert_eq!(both.turn().as_deref(), Some("2020-01-01T00:00:00Z"));
    }

    #[test]
    fn a_day_and_a_moment_in_it_are_told_apart_by_when_they_were_said() {
        let day = item(1, json!({"valid_from": "2024-05-01", "created_at": "2024-05-01T12:00:00Z", "background": "b"}));
        let moment = item(2, json!({"created_at": "2024-05-01T10:00:00Z", "background": "b"}));
        assert_eq!(order(&moment, &day), Ordering::Less);
        let both = in_time(day.clone(), moment);
        assert_eq!(both.turn().as_deref(), Some("2024-05-01T12:00:00Z"), "a fact never ends before it begins");
        assert!(!in_time(day.clone(), day).differs);
    }

    #[test]
    fn a_fact_that_was_closed_before_the_other_began_overlaps_nothing() {
        let old = json!({"valid_from": "2010-01-01", "valid_to": "2012-01-01", "background": "b"});
        let new = json!({"valid_from": "2012-01-01", "background": "b"});
        assert!(!in_time(item(1, old.clone()), item(2, new)).overlaps());
        let early = json!({"valid_from": "2011-06-01", "background": "b"});
        assert!(in_time(item(1, old), item(2, early)).overlaps());
        assert!(in_time(item(1, json!({})), item(2, json!({}))).overlaps(), "without times nothing is ruled out");
    }

    #[test]
    fn speakers_are_names_then_roles() {
        assert_eq!(speaker(&item(1, json!({"info": {"name": "Ann", "role": "user"}}))), "ann");
        assert_eq!(speaker(&item(1, json!({"info": {"role": "assistant"}}))), "assistant");
        assert_eq!(speaker(&item(1, json!({"sources": [{"role": "assistant", "content": "x"}]}))), "assistant");
        assert_eq!(speaker(&item(1, json!({"sources": [{"role": "user"}, {"role": "assistant"}]}))), "user");
    }

    #[test]
    fn only_added_memories_of_the_two_shelves_and_of_none_take_part() {
        for one in [json!({"memory_type": "UserMemory"}), json!({"info": {"role": "user"}})] {
            let item = item(1, one);
            assert!(is_fact(&item));
            assert!(facts(None).matches(&item.memory, &item.metadata.to_map()));
            assert!(facts_beside(&item).matches(&item.memory, &item.metadata.to_map()));
        }
        let (typed, untyped) = (item(1, json!({"memory_type": "UserMemory"})), item(2, json!({})));
        assert!(!facts_beside(&typed).matches("text", &untyped.metadata.to_map()));
        assert!(!facts_beside(&untyped).matches("text", &typed.metadata.to_map()));
        for other in [
            json!({"memory_type": "WorkingMemory"}),
            json!({"memory_type": "LongTermMemory", "type": "topic"}),
            json!({"memory_type": "LongTermMemory", "status": "archived"}),
            json!({"memory_type": "PreferenceMemory"}),
            json!({"status": "archived"}),
        ] {
            let item = item(1, other);
            assert!(!is_fact(&item));
            assert!(!facts(None).matches(&item.memory, &item.metadata.to_map()));
        }
    }
}
