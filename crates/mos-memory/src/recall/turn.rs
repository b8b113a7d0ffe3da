//! What the ranking looks at in one memory.

use std::sync::{Arc, LazyLock};

use jiff::civil::Date;
use mos_core::{MemoryId, VectorPoint};
use regex::Regex;
use serde_json::{Map, Value};

use super::dates::day_of;
use crate::time::{Days, expressions};

/// Words that tell a time.
static TELLS_TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        \b(?:yesterday|today|tonight|tomorrow|last\ night|this\ morning|the\ other\ day|recently|since|ago
          |weeks?|months?|years?|weekend
          |(?:last|next|past|this)\ (?:summer|fall|autumn|winter|spring|few\ days)
          |monday|tuesday|wednesday|thursday|friday|saturday|sunday
          |january|february|april|june|july|august|september|october|november|december|sept
          |(?:19|20)\d\d|in\ \d{4}
          |for\ (?:\d+|a|an|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|few|several|couple)\ days?
        )\b
        |昨天|昨晚|前天|前几天|今天|今晚|今早|明天|后天|去年|前年|今年|明年|上周|这周|下周|周末|[上下这]个?月|星期|礼拜
        |周[一二三四五六日]|\d月|\d{4}年|(?:天|周|月|年)(?:之?前|以前|之?后|以后)|最近",
    )
    .ok()
});

/// One memory, without its words and its vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) id: MemoryId,
    /// Its place among the first writes of the scope.
    pub(super) arrival: u64,
    /// The conversation it is a part of; a memory without one stands alone.
    pub(super) session: Option<Arc<str>>,
    /// Who said it: a name, else a role.
    pub(super) speaker: Option<Arc<str>>,
    /// The day it was said on, and the days it speaks of.
    pub(super) days: Box<[Days]>,
    /// Whether it tells a time.
    pub(super) tells_time: bool,
    /// Whether it is a question itself.
    pub(super) is_question: bool,
    /// Whether it was drawn from messages, and is none itself.
    pub(super) is_drawn: bool,
}

impl Turn {
    /// Reads what an index is told of a memory.
    pub(super) fn read(point: &VectorPoint, arrival: u64) -> Self {
        let metadata = &point.metadata;
        let said_on = said_on(metadata);
        let said = said(&point.memory);
        Self {
            id: point.id.clone(),
            arrival,
            session: session(metadata).map(Arc::from),
            speaker: speaker(metadata).map(Arc::from),
            days: days(said, said_on),
            tells_time: tells_time(said),
            is_question: said.trim_end().ends_with(['?', '？']),
            is_drawn: is_drawn(metadata),
        }
    }

    /// The day it was said on, when that is known.
    pub(super) fn said_on(&self) -> Option<Days> {
        self.days.first().copied()
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len() + 16);
        // The id is there twice, here and in the map of ids.
        size_of::<Self>()
            + 2 * (self.id.as_str().len() + size_of::<MemoryId>())
            + text(&self.session)
            + text(&self.speaker)
            + self.days.len() * size_of::<Days>()
    }
}

/// Returns a non-empty text of the metadata, or of the application's data in it.
fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

fn info<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    text(metadata.get("info")?.as_object()?, key)
}

/// Sessions of different users are different, even when they have the same id.
fn session(metadata: &Map<String, Value>) -> Option<String> {
    let session = text(metadata, "session_id")?;
    Some(format!("{}\n{session}", text(metadata, "user_id").unwrap_or_default()))
}

fn speaker(metadata: &Map<String, Value>) -> Option<&str> {
    let role = || info(metadata, "role").filter(|role| ["user", "assistant"].contains(role));
    info(metadata, "name").or_else(role)
}

/// A message has a speaker, or an id in its conversation; what was drawn from some has only their time.
fn is_drawn(metadata: &Map<String, Value>) -> bool {
    let has = |key| info(metadata, key).is_some();
    has("chat_time") && !["role", "name", "message_id"].into_iter().any(has)
}

fn said_on(metadata: &Map<String, Value>) -> Option<Date> {
    let day = |time: Option<&str>| time.and_then(day_of);
    day(info(metadata, "chat_time"))
        .or_else(|| day(text(metadata, "created_at")))
        .or_else(|| day(text(metadata, "updated_at")))
}

/// The words of a memory without a last line in brackets, which tells of what was shown.
fn said(memory: &str) -> &str {
    match memory.trim_end().rsplit_once('\n') {
        Some((said, shown)) if shown.starts_with('[') && shown.ends_with(']') => said,
        _ => memory,
    }
}

fn tells_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    // The pattern is a constant: a test uses it.
    TELLS_TIME.as_ref().is_some_and(|pattern| pattern.is_match(&lower))
}

/// The day on which a text was said comes first. Without one nothing can be dated.
fn days(text: &str, said_on: Option<Date>) -> Box<[Days]> {
    let Some(said_on) = said_on else { return Box::default() };
    let spoken_of = expressions(text, said_on).into_iter().map(|expression| expression.days);
    std::iter::once(Days::one(said_on)).chain(spoken_of).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::json;

    use super::*;

    fn turn(memory: &str, metadata: Value) -> Turn {
        let metadata = metadata.as_object().unwrap().clone();
        let point =
            VectorPoint { id: "a".into(), vector: vec![1.0], memory: Arc::from(memory), metadata: Arc::new(metadata) };
        Turn::read(&point, 7)
    }

    #[test]
    fn a_message_tells_who_spoke_where_and_when() {
        let info = json!({"role": "user", "name": "Anna", "chat_time": "2023-05-10T09:00:00"});
        let turn = turn("I went there yesterday", json!({"session_id": "s", "user_id": "u", "info": info}));
        assert_eq!((turn.arrival, turn.speaker.as_deref(), turn.session.as_deref()), (7, Some("Anna"), Some("u\ns")));
        assert_eq!(*turn.days, [Days::one(date(2023, 5, 10)), Days::one(date(2023, 5, 9))]);
        assert!(turn.tells_time && !turn.is_question);
    }

    #[test]
    fn a_memory_without_anything_stands_alone() {
        let turn = turn("likes tea", json!({}));
        assert_eq!((&turn.session, &turn.speaker, turn.said_on()), (&None, &None, None));
        assert!(!turn.tells_time && !turn.is_question);
    }

    #[test]
    fn roles_stand_for_names_and_times_of_storage_for_times_of_messages() {
        let one = turn(
            "hello",
            json!({"info": {"role": "assistant", "chat_time": "09:00"}, "updated_at": "2024-01-02T03:04:05"}),
        );
        assert_eq!(one.speaker.as_deref(), Some("assistant"));
        assert_eq!(one.said_on(), Some(Days::one(date(2024, 1, 2))));
        assert_eq!(turn("hello", json!({"info": {"role": "system"}})).speaker, None);
        assert_eq!(turn("hello", json!({"session_id": " "})).session, None);
    }

    #[test]
    fn questions_and_times_are_seen_in_what_was_said() {
        let is_question = |text: &str| turn(text, json!({})).is_question;
        assert!(is_question("Really? ") && is_question("真的吗？") && is_question("Look?\n[picture: a dog]"));
        assert!(!is_question("Why? Because.") && !is_question("Look\n[picture: why?]"));
        let tells_time = |text: &str| turn(text, json!({})).tells_time;
        for text in
            ["It was in 2019.", "Two WEEKS now", "see you Friday", "last summer", "去年夏天", "三天前", "for 3 days"]
        {
            assert!(tells_time(text), "{text}");
        }
        for text in ["I may march", "a nice day", "any time", "你好", "room 12"] {
            assert!(!tells_time(text), "{text}");
        }
    }
}
