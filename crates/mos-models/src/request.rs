//! What all formats of requests share: checks, schemas of answers, tool calls.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ChatRequest, ChatStream, Content, Message, ModelError};
use serde_json::{Map, Value, json};

use crate::answer::{Deltas, answer};
use crate::http::{Refusal, Server};
use crate::text::estimate_tokens;

/// The name under which a schema is sent, which some formats insist on.
pub(crate) const SCHEMA_NAME: &str = "answer";

/// Tokens that an image is estimated to have; servers tell the true number.
const IMAGE_TOKENS: usize = 800;

/// Refuses conversations that no server can answer, and estimates the tokens of others.
pub(crate) fn check_request(request: &ChatRequest) -> Result<usize, ModelError> {
    if request.messages.is_empty() {
        return Err(ModelError::Invalid("the conversation is empty".to_owned()));
    }
    if request.prefix.is_some() {
        return Err(ModelError::Invalid(
            "a remote model cannot start from activation memory; use a model that runs in this process".to_owned(),
        ));
    }
    Ok(request.messages.iter().map(estimated_tokens).sum())
}

fn estimated_tokens(message: &Message) -> usize {
    let images = match &message.content {
        Some(Content::Parts(parts)) => parts.iter().filter(|part| part.image_url().is_some()).count(),
        _ => 0,
    };
    estimate_tokens(&message.text()) + images * IMAGE_TOKENS
}

/// Whether OpenAI can be made to keep strictly to a schema: an object in which, at every depth, all keys are required
/// and no others allowed.
pub(crate) fn is_strict(schema: &Value) -> bool {
    schema["type"] == "object" && is_closed(schema)
}

fn is_closed(schema: &Value) -> bool {
    match schema {
        Value::Array(all) => all.iter().all(is_closed),
        Value::Object(map) => {
            let is_closed_itself = match map.get("properties").and_then(Value::as_object) {
                None => map.get("type") != Some(&Value::from("object")),
                Some(properties) => {
                    let required = map.get("required").and_then(Value::as_array);
                    let is_required = |key: &String| {
                        required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(key.as_str())))
                    };
                    map.get("additionalProperties") == Some(&Value::Bool(false)) && properties.keys().all(is_required)
                }
            };
            is_closed_itself && map.values().all(is_closed)
        }
        _ => true,
    }
}

/// A server that is asked in some format.
#[async_trait]
pub(crate) trait Asked: Send + Sync {
    fn server(&self) -> &Arc<Server>;

    /// Whether reasoning is left out of answers.
    fn removes_reasoning(&self) -> bool;

    /// Sends a request and returns what its answer says, piece by piece.
    async fn start(&self, body: &Value) -> Result<Deltas, Refusal>;
}

/// Asks until the first event of an answer is there. A server that refuses one of the keys that a request may do without
/// is asked again without it.
pub(crate) async fn ask(
    asked: &dyn Asked,
    estimated_prompt: usize,
    body: Map<String, Value>,
) -> Result<ChatStream, ModelError> {
    let mut body = Value::Object(body);
    // It ends: each time round the request has one key less.
    loop {
        let answered = answer(asked.server(), asked.removes_reasoning(), estimated_prompt, || asked.start(&body)).await;
        let reason = match answered {
            Err(ModelError::Invalid(reason)) => reason,
            other => return other,
        };
        let Some((keys, key)) = body.as_object_mut().and_then(|keys| {
            let key = refused_key(&reason, keys)?;
            Some((keys, key))
        }) else {
            return Err(ModelError::Invalid(reason));
        };
        tracing::debug!(server = %asked.server().place(), key, "the server refuses a key; asking again without it");
        keys.shift_remove(key);
    }
}

/// Returns which key of a request a server has refused, by what it says, when the request may do without it.
pub(crate) fn refused_key(reason: &str, body: &Map<String, Value>) -> Option<&'static str> {
    let reason = reason.to_lowercase();
    // The first words name a key, the others what goes wrong with a schema.
    let optional: [(&'static str, &[&str]); 5] = [
        ("stream_options", &["stream_options"]),
        ("store", &["'store'", "\"store\"", "`store`", ": store"]),
        ("response_format", &["response_format", "json_schema", "json_object", "schema", "json"]),
        ("text", &["text.format", "json_schema", "schema"]),
        ("format", &["format", "schema"]),
    ];
    let refused = optional
        .into_iter()
        .find(|(key, words)| body.contains_key(*key) && words.iter().any(|word| reason.contains(word)));
    refused.map(|(key, _)| key)
}

/// A tool call of a message, however it was written.
pub(crate) struct ToolCall<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) name: &'a str,
    /// JSON.
    pub(crate) arguments: Value,
}

impl<'a> ToolCall<'a> {
    /// Reads a call in OpenAI's form. `None` for what names no function.
    pub(crate) fn read(call: &'a Value) -> Option<Self> {
        let function = &call["function"];
        let arguments = match &function["arguments"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
            Value::Null => json!({}),
            other => other.clone(),
        };
        Some(Self { id: call["id"].as_str(), name: function["name"].as_str()?, arguments })
    }

    /// Returns the arguments as most formats write them: JSON as text.
    pub(crate) fn arguments_text(&self) -> String {
        match &self.arguments {
            // What is no JSON goes back as the model wrote it.
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closed_schemas_are_strict() {
        let closed = json!({"type": "object", "additionalProperties": false, "required": ["all"], "properties": {
            "all": {"type": "array", "items": {
                "type": "object", "additionalProperties": false, "required": ["type"],
                "properties": {"type": {"type": "string"}}}}}});
        assert!(is_strict(&closed));
        let mut open = closed.clone();
        open["properties"]["all"]["items"]["required"] = json!([]);
        assert!(!is_strict(&open), "an optional key at any depth");
        let mut more = closed;
        more["additionalProperties"] = json!(true);
        assert!(!is_strict(&more));
        assert!(!is_strict(&json!({"type": "array", "items": {"type": "string"}})), "not an object");
        assert!(!is_strict(&json!({"type": "object"})), "any object");
    }

    #[test]
    fn what_a_server_refuses_is_found_by_its_words() {
        let body = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect::<Map<_, _>>();
        let chat = body(&["model", "stream_options", "response_format"]);
        assert_eq!(refused_key("Unrecognized argument: stream_options", &chat), Some("stream_options"));
        assert_eq!(
            refused_key("'response_format' of type json_schema is not supported", &chat),
            Some("response_format")
        );
        assert_eq!(refused_key("the context is too long", &chat), None);
        assert_eq!(refused_key("response_format is unknown", &body(&["model"])), None, "it was not sent");
        assert_eq!(refused_key("cannot unmarshal object into field format", &body(&["format"])), Some("format"));
    }

    #[test]
    fn calls_are_read_with_arguments_of_any_form() {
        let call = json!({"id": "a", "function": {"name": "f", "arguments": "{\"x\": 1}"}});
        let read = ToolCall::read(&call).unwrap();
        assert_eq!((read.id, read.name, &read.arguments), (Some("a"), "f", &json!({"x": 1})));
        let object = json!({"function": {"name": "f", "arguments": {"x": 1}}});
        assert_eq!(ToolCall::read(&object).unwrap().arguments_text(), r#"{"x":1}"#);
        let prose = json!({"function": {"name": "f", "arguments": "no json"}});
        assert_eq!(ToolCall::read(&prose).unwrap().arguments_text(), "no json");
        assert!(ToolCall::read(&json!({"name": "f"})).is_none());
    }
}
