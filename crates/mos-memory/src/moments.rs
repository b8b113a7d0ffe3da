//! The times of memories: when they were said, from when to when they are true.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use mos_core::clock::timestamp_text;
use mos_core::filter::{VALID_FROM, VALID_TO};
use mos_core::{Condition, Filter, MemoryError, MemoryItem, Operator, moment};
use serde_json::Value;

use crate::time;

/// Two days against which a time of an application is read: it is one only if both give the same day.
const ANCHORS: [Date; 2] = [Date::constant(1999, 3, 3), Date::constant(2021, 10, 16)];

/// Returns a date or moment in ISO 8601 as it is kept: a date as it is, a moment in UTC; `None` for other texts.
pub(crate) fn normal(text: &str) -> Option<String> {
    let text = text.trim();
    match day(text) {
        Some(day) => Some(day.to_string()),
        None => moment(text).map(timestamp_text),
    }
}

/// A text that is a date and nothing else.
fn day(text: &str) -> Option<Date> {
    if text.len() == "2026-01-02".len() { text.parse().ok() } else { None }
}

/// Returns the moment at which the truth is asked for. A day alone means its end.
///
/// # Errors
/// [`MemoryError::Invalid`] for a text that is no time.
pub fn asked_moment(text: &str) -> Result<Timestamp, MemoryError> {
    let text = text.trim();
    let end_of_day = |day: Date| TimeZone::UTC.to_timestamp(day.at(23, 59, 59, 999_999_000)).ok();
    let found = match day(text) {
        Some(day) => end_of_day(day),
        None => moment(text),
    };
    found.ok_or_else(|| {
        MemoryError::Invalid(format!("`{text}` is no time to ask about; write 2026-01-31 or 2026-01-31T18:00:00Z"))
    })
}

/// Lets pass what was true at a moment. What does not say since when counts from the time it was made.
pub(crate) fn true_at(at: Timestamp) -> Filter {
    let at = timestamp_text(at);
    let is = |field: &str, operator: Operator| {
        Filter::Is(Condition { field: field.to_owned(), operator, value: Value::from(at.as_str()) })
    };
    let not = |filter: Filter| Filter::Not(Box::new(filter));
    Filter::All(vec![
        not(is(VALID_FROM, Operator::Gt)),
        not(is(VALID_TO, Operator::Lte)),
        Filter::Any(vec![is(VALID_FROM, Operator::Lte), not(is("created_at", Operator::Gt))]),
    ])
}

/// Whether what a memory says has stopped being true.
pub(crate) fn is_superseded(item: &MemoryItem, now: Timestamp) -> bool {
    valid_to(item).and_then(moment).is_some_and(|end| end <= now)
}

/// The time at which a memory stops being true, when it is known.
pub(crate) fn valid_to(item: &MemoryItem) -> Option<&str> {
    item.metadata.extra.get(VALID_TO).and_then(Value::as_str)
}

/// Returns when a memory was said, as it is kept: the time of its message, else of its source, else of its making.
pub(crate) fn said_at(item: &MemoryItem) -> Option<String> {
    let metadata = &item.metadata;
    let of_message = || metadata.info.as_ref()?.get("chat_time")?.as_str().and_then(time_of);
    let of_source = || metadata.tree()?.sources.as_ref()?.first()?.chat_time.as_deref().and_then(time_of);
    let of_making = || metadata.tree()?.created_at.as_deref().and_then(normal);
    let of_change = || metadata.updated_at.as_deref().and_then(normal);
    of_message().or_else(of_source).or_else(of_making).or_else(of_change)
}

/// Returns since when a memory is true: the begin of the time that it speaks of, else the time at which it was said.
pub(crate) fn true_since(item: &MemoryItem) -> Option<String> {
    let said_at = said_at(item)?;
    let spoken_of = spoken_days(item).map(|days| days.first().to_string());
    Some(spoken_of.unwrap_or(said_at))
}

/// Returns the days that a memory speaks of, from the first to the last; `None` when it speaks of none.
pub(crate) fn spoken_days(item: &MemoryItem) -> Option<time::Days> {
    let said_on = said_at(item)?.get(..10)?.parse().ok()?;
    time::days_of(&item.memory, said_on)
}

/// Returns a time of an application as it is kept: ISO 8601, or a text with a whole date in it such as "1:56 pm on 8 May,
/// 2023". `None` for others, such as "09:00".
fn time_of(text: &str) -> Option<String> {
    normal(text).or_else(|| {
        let [first, second] = ANCHORS.map(|anchor| time::days_of(text, anchor));
        let is_one_day = first == second && first.is_some_and(|days| days.length() == 0);
        first.filter(|_| is_one_day).map(|days| days.first().to_string())
    })
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;
    use serde_json::json;

    use super::*;

    fn item(text: &str, metadata: Value) -> MemoryItem {
        let id = "00000000-0000-4000-8000-000000000001";
        let value = json!({"id": id, "memory": text, "metadata": metadata});
        let item = MemoryItem::from_value(value, String::new).unwrap();
        assert_eq!(item.id, MemoryId::from(id));
        item
    }

    #[test]
    fn times_are_kept_as_days_or_as_moments_in_utc() {
        assert_eq!(normal("2024-02-29").as_deref(), Some("2024-02-29"));
        assert_eq!(normal("2024-01-02T03:00:00+02:00").as_deref(), Some("2024-01-02T01:00:00.000000+00:00"));
        assert_eq!(normal("2024-01-02T03:00:00").as_deref(), Some("2024-01-02T03:00:00.000000+00:00"));
        assert_eq!((normal("2023-02-29"), normal("soon"), normal("")), (None, None, None));
    }

    #[test]
    fn the_time_of_a_message_is_read_in_the_forms_that_applications_use() {
        for (text, expected) in [
            ("1:56 pm on 8 May, 2023", Some("2023-05-08")),
            ("08:51 PM on 13 January, 2026", Some("2026-01-13")),
            ("2023-05-10T09:00:00", Some("2023-05-10T09:00:00.000000+00:00")),
            ("09:00", None),
            ("yesterday", None),
            ("8 May", None),
            ("May 2023", None),
        ] {
            assert_eq!(time_of(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_memory_is_true_since_the_time_it_speaks_of_else_since_it_was_said() {
        let info = json!({"info": {"chat_time": "2023-05-10T09:00:00"}, "memory_type": "LongTermMemory"});
        assert_eq!(true_since(&item("I moved yesterday", info.clone())).as_deref(), Some("2023-05-09"));
        let said = Some("2023-05-10T09:00:00.000000+00:00");
        assert_eq!(true_since(&item("I live in Paris", info)).as_deref(), said);
        let source = json!({"sources": [{"type": "chat", "chat_time": "8 May, 2023"}], "memory_type": "UserMemory"});
        assert_eq!(true_since(&item("I live in Paris", source)).as_deref(), Some("2023-05-08"));
        let made = json!({"created_at": "2022-01-01T00:00:00+00:00", "memory_type": "UserMemory"});
        assert_eq!(true_since(&item("x", made)).as_deref(), Some("2022-01-01T00:00:00.000000+00:00"));
        assert_eq!(true_since(&item("I live in Paris", json!({}))), None);
    }

    #[test]
    fn what_was_true_at_a_moment_passes() {
        let passes = |at: &str, metadata: Value| {
            let filter = true_at(asked_moment(at).unwrap());
            filter.matches("", metadata.as_object().unwrap())
        };
        let paris = json!({"valid_from": "2020-01-01", "valid_to": "2024-05-01T08:00:00.000000+00:00"});
        assert!(passes("2020-01-01", paris.clone()) && passes("2024-05-01T07:59:59Z", paris.clone()));
        assert!(!passes("2019-12-31", paris.clone()) && !passes("2024-05-01T08:00:00Z", paris.clone()));
        assert!(!passes("2024-05-01", paris), "a day is asked about at its end");
        assert!(passes("2030-01-01", json!({"valid_from": "2024-05-01"})), "what has no end is still true");
        assert!(passes("2024-01-01", json!({})) && passes("2024-01-01", json!({"created_at": "2023-01-01"})));
        assert!(!passes("2024-01-01", json!({"created_at": "2025-01-01"})));
        let told_later = json!({"valid_from": "2020-01-01", "created_at": "2025-01-01"});
        assert!(passes("2024-01-01", told_later), "the time it speaks of counts, not that of the telling");
        assert!(asked_moment("last week").is_err());
    }

    #[test]
    fn a_fact_is_superseded_when_its_end_has_come() {
        let now = asked_moment("2024-06-01").unwrap();
        assert!(is_superseded(&item("x", json!({"valid_to": "2024-05-01"})), now));
        assert!(!is_superseded(&item("x", json!({"valid_to": "2024-07-01"})), now));
        assert!(!is_superseded(&item("x", json!({})), now));
    }
}
