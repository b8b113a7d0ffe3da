//! Messages of a conversation, in the OpenAI chat format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One part of a message with several parts, for example text next to an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// `{"type": "text", "text": ...}`
    Text {
        /// Always `text`.
        #[serde(rename = "type")]
        kind: TextTag,
        /// The text.
        text: String,
    },
    /// Any other part (`image_url`, `file`, `input_audio` ...), kept as it came.
    Other(Map<String, Value>),
}

impl Part {
    /// Returns a part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { kind: TextTag::Text, text: text.into() }
    }

    /// Returns an image by its address: `https:`, or `data:` with the image itself.
    pub fn image(url: impl Into<String>) -> Self {
        let part = json!({"type": "image_url", "image_url": {"url": url.into()}});
        match part {
            Value::Object(part) => Self::Other(part),
            _ => unreachable!("the literal above is an object"),
        }
    }

    /// Returns the address of the image that this part is, when it is one.
    pub fn image_url(&self) -> Option<&str> {
        let Self::Other(part) = self else { return None };
        let image = part.get("image_url")?;
        // Some clients leave the object out.
        image.as_str().or_else(|| image.get("url")?.as_str())
    }
}

/// The constant `text` in [`Part::Text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextTag {
    /// `text`
    Text,
}

/// What a message says: plain text, or parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Several parts, in order.
    Parts(Vec<Part>),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; absent in assistant messages that only call tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Tool calls of an assistant, as the model sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Value>>,
    /// Which tool call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Name of the speaker or the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was said, as the client wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_time: Option<String>,
    /// The client's id for the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

impl Message {
    /// Returns a message of plain text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            tool_calls: None,
            tool_call_id: None,
            name: None,
            chat_time: None,
            message_id: None,
        }
    }

    /// Returns a system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// Returns a user message.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// Returns an assistant message.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// Returns a user message of text and images, each by its address: `https:`, or `data:` with the image itself.
    pub fn user_with_images<T: Into<String>>(text: impl Into<String>, urls: impl IntoIterator<Item = T>) -> Self {
        let mut parts = vec![Part::text(text)];
        parts.extend(urls.into_iter().map(Part::image));
        Self { content: Some(Content::Parts(parts)), ..Self::new(Role::User, "") }
    }

    /// Returns the result of a tool call, for the model that asked for it by `call_id`.
    pub fn tool_result(call_id: impl Into<String>, result: impl Into<String>) -> Self {
        Self { tool_call_id: Some(call_id.into()), ..Self::new(Role::Tool, result) }
    }

    /// Returns the text of the message: its text parts joined by newlines, empty when there are none.
    pub fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| match part {
                        Part::Text { text, .. } => Some(text.as_str()),
                        Part::Other(_) => None,
                    })
                    .collect();
                texts.join("\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_unknown_parts_and_order() {
        let value = json!({"role": "user", "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            {"type": "text", "text": "there"},
        ]});
        let message: Message = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(message.text(), "look\nthere");
        assert_eq!(serde_json::to_value(&message).unwrap(), value);
    }

    #[test]
    fn images_and_tool_results_have_the_form_of_the_format() {
        let seen = Message::user_with_images("what is this?", ["data:image/png;base64,AAAA"]);
        let expected = json!({"role": "user", "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]});
        assert_eq!(serde_json::to_value(&seen).unwrap(), expected);
        let Some(Content::Parts(parts)) = &seen.content else { panic!("{seen:?}") };
        assert_eq!(parts[1].image_url(), Some("data:image/png;base64,AAAA"));
        assert_eq!(parts[0].image_url(), None);
        let result = Message::tool_result("call_1", "22 degrees");
        let expected = json!({"role": "tool", "content": "22 degrees", "tool_call_id": "call_1"});
        assert_eq!(serde_json::to_value(&result).unwrap(), expected);
    }

    #[test]
    fn developer_is_system_and_null_content_is_empty() {
        let message: Message = serde_json::from_value(json!({"role": "developer", "content": null})).unwrap();
        assert_eq!((message.role, message.text()), (Role::System, String::new()));
    }
}
