//! What several requests have in common.

use mos_core::{Message, RawItem, Role};
use serde_json::{Value, json};

use super::error::{ProductError, ProductResult};
use super::read::{Field, Issue, RequestFields};

/// The conversation that additions and feedback belong to when none is named.
pub(super) const DEFAULT_SESSION: &str = "default_session";

words! {
    /// When something is done.
    literal_error pub enum AsyncMode as AsyncMode {
        /// What can wait is done in the background, where a scheduler runs.
        Async = "async",
        /// Everything is done when the call returns.
        Sync = "sync",
    }
}

words! {
    /// How much a search thinks before it looks.
    enum pub enum SearchMode as SearchMode {
        /// The question is searched for as it stands; no model is asked.
        Fast = "fast",
        /// A model says what the question is after.
        Fine = "fine",
        /// Both.
        Mixture = "mixture",
    }
}

impl From<SearchMode> for mos_core::SearchMode {
    fn from(mode: SearchMode) -> Self {
        match mode {
            SearchMode::Fast => Self::Fast,
            SearchMode::Fine => Self::Fine,
            SearchMode::Mixture => Self::Mixture,
        }
    }
}

/// A message of a conversation: an object with a `role` and what OpenAI's chat messages have besides.
impl Field for Message {
    fn read(value: &Value, fields: &mut RequestFields<'_>) -> Option<Self> {
        let Some(map) = value.as_object() else {
            fields.refuse("dict_type", "Input should be a valid dictionary", value);
            return None;
        };
        let Some(role) = map.get("role") else {
            fields.within("role", |fields| fields.refuse("missing", "Field required", value));
            return None;
        };
        if serde_json::from_value::<Role>(role.clone()).is_err() {
            let expected = "'system', 'user', 'assistant' or 'tool'";
            let (msg, ctx) = (format!("Input should be {expected}"), json!({"expected": expected}));
            fields.within("role", |fields| fields.refuse_with("literal_error", msg, role, Some(ctx)));
            return None;
        }
        match RawItem::from_value(value.clone()) {
            RawItem::Message(message) => Some(message),
            RawItem::Unreadable(reason) => {
                fields.refuse("value_error", format!("Value error, {reason}"), value);
                None
            }
            _ => {
                fields.refuse("value_error", "Value error, it is no message", value);
                None
            }
        }
    }
}

/// Refuses a body as a whole: status 422.
pub(super) fn refuse_body(msg: &str, input: Value) -> ProductError {
    let kind = "value_error".to_owned();
    ProductError::refused(vec![Issue {
        kind,
        loc: vec![json!("body")],
        msg: format!("Value error, {msg}"),
        input,
        ctx: None,
    }])
}

/// Returns the conversation that a request names: as `session_id`, or as `conversation_id`, which older clients write. Empty
/// ones name none.
///
/// # Errors
/// Status 422 when the two say different things.
pub(super) fn session_of(session_id: Option<&str>, conversation_id: Option<&str>) -> ProductResult<Option<String>> {
    let named = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    match (named(session_id), named(conversation_id)) {
        (Some(session), Some(conversation)) if session != conversation => Err(refuse_body(
            "`conversation_id` is another name of `session_id`; give one of them, or the same in both",
            json!({"session_id": session, "conversation_id": conversation}),
        )),
        (session, conversation) => Ok(session.or(conversation)),
    }
}

/// Returns the cubes that a request names: the list, or when that is empty the one cube that older clients write.
pub(super) fn cubes_of(many: Option<&[String]>, one: Option<&String>) -> Option<Vec<String>> {
    match many {
        Some(many) if !many.is_empty() => Some(many.to_vec()),
        _ => one.filter(|one| !one.is_empty()).map(|one| vec![one.clone()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Message, (String, Vec<Value>)> {
        let mut issues = Vec::new();
        let read = Message::read(value, &mut RequestFields::at("body", &mut issues));
        read.ok_or_else(|| issues.into_iter().map(|issue| (issue.kind, issue.loc)).next().unwrap())
    }

    #[test]
    fn messages_are_read_or_told_what_is_wrong_with_them() {
        assert_eq!(read(&json!({"role": "user", "content": "Hi"})).unwrap().text(), "Hi");
        assert_eq!(read(&json!("Hi")).unwrap_err(), ("dict_type".to_owned(), vec![json!("body")]));
        assert_eq!(
            read(&json!({"content": "Hi"})).unwrap_err(),
            ("missing".to_owned(), vec![json!("body"), json!("role")])
        );
        let robot = read(&json!({"role": "robot", "content": "Hi"})).unwrap_err();
        assert_eq!(robot, ("literal_error".to_owned(), vec![json!("body"), json!("role")]));
    }

    #[test]
    fn the_two_names_of_a_conversation_say_the_same() {
        assert_eq!(session_of(None, Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(session_of(Some("a"), Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(session_of(Some("a"), Some("")).unwrap().as_deref(), Some("a"));
        assert_eq!(session_of(None, Some("")).unwrap(), None);
        let error = session_of(Some("a"), Some("b")).unwrap_err();
        assert_eq!((error.status, error.detail[0].kind.as_str()), (422, "value_error"));
    }

    #[test]
    fn the_list_of_cubes_goes_before_the_one() {
        let (many, one) = (["a".to_owned(), "b".to_owned()], "c".to_owned());
        assert_eq!(cubes_of(Some(&many), Some(&one)), Some(many.to_vec()));
        assert_eq!(cubes_of(Some(&[]), Some(&one)), Some(vec![one.clone()]));
        assert_eq!(cubes_of(None, None), None);
    }
}
