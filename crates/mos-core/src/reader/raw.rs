//! One thing that was given, before anybody has understood it.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::message::Message;

/// A file that was given.
#[derive(Clone, Debug, PartialEq)]
pub struct RawFile {
    /// The application's id for it; without one its content names it.
    pub id: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// Where somebody else has fetched its content from: what comes from an address is a stranger's. A file that the reader
    /// fetches itself needs none.
    pub url: Option<String>,
    /// Where its content is.
    pub data: FileData,
}

/// The content of a file, or where it is.
#[derive(Clone, Debug, PartialEq)]
pub enum FileData {
    /// The content.
    Bytes(Vec<u8>),
    /// As a request has it: a URL (a `@` before it is passed over), a data URL, base64, or text.
    Text(String),
    /// A file of this machine; read only where [`Sources::local_paths`](super::Sources::local_paths) allows it.
    Path(PathBuf),
    /// Nothing was said about it.
    Absent,
}

/// One thing that was given.
#[derive(Clone, Debug, PartialEq)]
pub enum RawItem {
    /// Plain text.
    Text(String),
    /// A message of a conversation.
    Message(Message),
    /// A part that stands by itself, for example `{"type": "file", "file": {..}}`.
    Part(Map<String, Value>),
    /// A file.
    File(RawFile),
    /// A zip archive of skills.
    Skills(RawFile),
    /// What could not be understood, and why.
    Unreadable(String),
}

impl RawItem {
    /// Reads one item of a request; what is almost right is understood.
    pub fn from_value(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Object(map) if map.contains_key("role") => match message(map) {
                Ok(message) => Self::Message(message),
                Err(reason) => Self::Unreadable(reason),
            },
            Value::Object(map) if map.get("type").is_some_and(Value::is_string) => Self::Part(map),
            Value::Object(_) => {
                Self::Unreadable("it has neither a `role`, as messages have, nor a `type`, as parts have".to_owned())
            }
            other => Self::Unreadable(format!("a message is an object or a text, not {}", kind_of(&other))),
        }
    }
}

fn message(mut map: Map<String, Value>) -> Result<Message, String> {
    if !map.get("role").is_some_and(Value::is_string) {
        return Err("its `role` must be a text: system, user, assistant or tool".to_owned());
    }
    if let Some(content) = map.get_mut("content") {
        mend_content(content);
    }
    if let Some(calls) = map.get_mut("tool_calls")
        && calls.is_object()
    {
        *calls = Value::Array(vec![calls.take()]);
    }
    for field in ["chat_time", "message_id", "name", "tool_call_id"] {
        if let Some(value) = map.get_mut(field)
            && value.is_number()
        {
            *value = Value::String(value.to_string());
        }
    }
    serde_json::from_value(Value::Object(map)).map_err(|error| format!("it is no message: {error}"))
}

/// Parts that are no objects become parts of a type that nobody knows, and are reported as such.
fn mend_content(content: &mut Value) {
    match content {
        Value::Array(parts) => {
            for part in parts {
                match part {
                    Value::Object(_) => {}
                    Value::String(text) => *part = json!({"type": "text", "text": text}),
                    other => *other = json!({"type": kind_of(other)}),
                }
            }
        }
        Value::Object(map) if map.get("type").is_some_and(Value::is_string) => {
            let part = content.take();
            *content = Value::Array(vec![part]);
        }
        Value::Object(_) | Value::Number(_) | Value::Bool(_) => *content = Value::String(content.to_string()),
        Value::Null | Value::String(_) => {}
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, Part, Role};

    fn read(value: Value) -> Message {
        match RawItem::from_value(value) {
            RawItem::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_almost_a_message_is_understood() {
        let message = read(json!({"role": "user", "content": ["hi", 7, {"type": "x"}], "chat_time": 5}));
        assert_eq!((message.text().as_str(), message.chat_time.as_deref()), ("hi", Some("5")));
        let Some(Content::Parts(parts)) = &message.content else { panic!("{message:?}") };
        assert!(parts.len() == 3 && matches!(&parts[1], Part::Other(map) if map["type"] == "a number"));
        assert_eq!(read(json!({"role": "tool", "content": {"ok": true}})).text(), r#"{"ok":true}"#);
        assert_eq!(read(json!({"role": "assistant", "tool_calls": {"id": "c"}})).tool_calls.unwrap().len(), 1);
        let single = read(json!({"role": "user", "content": {"type": "text", "text": "one"}}));
        assert_eq!((single.role, single.text().as_str()), (Role::User, "one"));
    }

    #[test]
    fn what_is_no_item_says_why() {
        for (value, reason) in [
            (json!(7), "not a number"),
            (json!({"content": "x"}), "neither a `role`"),
            (json!({"role": "robot", "content": "x"}), "robot"),
            (json!({"role": 3}), "must be a text"),
        ] {
            let RawItem::Unreadable(told) = RawItem::from_value(value.clone()) else { panic!("{value}") };
            assert!(told.contains(reason), "{told}");
        }
        assert_eq!(RawItem::from_value(json!("note")), RawItem::Text("note".to_owned()));
        assert!(matches!(RawItem::from_value(json!({"type": "file", "file": {}})), RawItem::Part(_)));
    }
}
