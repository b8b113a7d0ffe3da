//! The message or document that a memory was drawn from.

use serde_json::{Map, Value};

/// Where in a conversation or a document a memory has its origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceMessage {
    /// `chat`, `doc`, `file`, `image`, `web` ...
    pub kind: String,
    /// Who spoke.
    pub role: Option<String>,
    /// When it was said, as the client wrote it.
    pub chat_time: Option<String>,
    /// The client's id for the message.
    pub message_id: Option<String>,
    /// The text.
    pub content: Option<String>,
    /// Path or URL of the document.
    pub doc_path: Option<String>,
    /// About the file.
    pub file_info: Option<Value>,
    /// About the image.
    pub image_info: Option<Value>,
    /// Everything else that producers wrote, in order.
    pub extra: Map<String, Value>,
}

impl SourceMessage {
    /// Returns a `chat` source for a message of a conversation.
    pub fn chat(message: &crate::message::Message) -> Self {
        Self {
            kind: "chat".to_owned(),
            role: Some(message.role.as_str().to_owned()),
            chat_time: message.chat_time.clone(),
            message_id: message.message_id.clone(),
            content: Some(message.text()),
            ..Self::default()
        }
    }

    /// Returns the JSON form; absent fields are null when `keep_nulls`, else left out.
    pub fn to_value(&self, keep_nulls: bool) -> Value {
        let text = |field: &Option<String>| field.clone().map_or(Value::Null, Value::String);
        let mut map = Map::new();
        map.insert("type".to_owned(), Value::String(self.kind.clone()));
        map.insert("role".to_owned(), text(&self.role));
        map.insert("chat_time".to_owned(), text(&self.chat_time));
        map.insert("message_id".to_owned(), text(&self.message_id));
        map.insert("content".to_owned(), text(&self.content));
        map.insert("doc_path".to_owned(), text(&self.doc_path));
        map.insert("file_info".to_owned(), self.file_info.clone().unwrap_or(Value::Null));
        map.insert("image_info".to_owned(), self.image_info.clone().unwrap_or(Value::Null));
        map.extend(self.extra.clone());
        if !keep_nulls {
            map.retain(|_, value| !value.is_null());
        }
        Value::Object(map)
    }

    fn from_map(mut map: Map<String, Value>) -> Self {
        let mut text = |field: &str| match map.shift_remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
        };
        let (kind, role) = (text("type"), text("role"));
        let (chat_time, message_id, content, doc_path) =
            (text("chat_time"), text("message_id"), text("content"), text("doc_path"));
        let mut value = |field: &str| map.shift_remove(field).filter(|value| !value.is_null());
        let (file_info, image_info) = (value("file_info"), value("image_info"));
        let spoken = matches!(role.as_deref(), Some("user" | "assistant" | "system"));
        let kind = kind.unwrap_or_else(|| if spoken { "chat" } else { "doc" }.to_owned());
        Self { kind, role, chat_time, message_id, content, doc_path, file_info, image_info, extra: map }
    }

    fn document(text: String) -> Self {
        Self { kind: "doc".to_owned(), content: Some(text), ..Self::default() }
    }
}

/// Returns sources from any form that producers write: a list of objects, JSON objects in strings, or plain
/// strings; or one string `[a, b]`.
///
/// # Errors
/// A message when `value` is none of these.
pub fn parse_sources(value: Value) -> Result<Vec<SourceMessage>, String> {
    let values = match value {
        Value::Array(values) => values,
        Value::String(text) if text.starts_with('[') && text.ends_with(']') => {
            let inner = &text[1..text.len() - 1];
            inner.split(',').map(|part| Value::String(part.trim().to_owned())).collect()
        }
        _ => return Err("sources must be a list".to_owned()),
    };
    values.into_iter().map(parse_source).collect()
}

fn parse_source(value: Value) -> Result<SourceMessage, String> {
    match value {
        Value::Object(map) => Ok(SourceMessage::from_map(map)),
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(map)) => Ok(SourceMessage::from_map(map)),
            _ => Ok(SourceMessage::document(text)),
        },
        other => Err(format!("a source must be an object or a string, not {other}")),
    }
}
