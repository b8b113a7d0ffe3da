//! The format of the "responses" interface: items of input out, events in.

use mos_core::{Content, FinishReason, Message, ModelError, Part, Role};
use serde_json::{Map, Value, json};

use crate::answer::{Delta, ToolCallPiece};
use crate::events::{count, error_inside, not_understood};
use crate::http::{Refusal, Server};
use crate::request::ToolCall;

/// Returns a conversation as items of input.
pub(super) fn input(messages: &[Message]) -> Result<Vec<Value>, ModelError> {
    let mut items = Vec::with_capacity(messages.len());
    for message in messages {
        if message.role == Role::Tool {
            let call_id = message.tool_call_id.as_deref().ok_or_else(|| {
                ModelError::Invalid("a tool's result does not say which call it answers (tool_call_id)".to_owned())
            })?;
            items.push(json!({"type": "function_call_output", "call_id": call_id, "output": message.text()}));
            continue;
        }
        let calls: Vec<ToolCall<'_>> = message.tool_calls.iter().flatten().filter_map(ToolCall::read).collect();
        let says_nothing = message.content.is_none() || (!calls.is_empty() && message.text().is_empty());
        if !says_nothing {
            items.push(json!({"role": message.role.as_str(), "content": content(message)}));
        }
        for (at, call) in calls.iter().enumerate() {
            let call_id = call.id.map_or_else(|| format!("call_{at}"), str::to_owned);
            items.push(json!({"type": "function_call", "call_id": call_id, "name": call.name,
                              "arguments": call.arguments_text()}));
        }
    }
    Ok(items)
}

/// Plain text as it is; parts by the names that this interface has for them.
fn content(message: &Message) -> Value {
    let Some(Content::Parts(parts)) = &message.content else { return message.text().into() };
    // What the model said itself is output, also when it is sent back.
    let text_type = if message.role == Role::Assistant { "output_text" } else { "input_text" };
    let part = |part: &Part| match part {
        Part::Text { text, .. } => json!({"type": text_type, "text": text}),
        Part::Other(other) => match part.image_url() {
            Some(url) => json!({"type": "input_image", "image_url": url, "detail": detail(other)}),
            None => file(other).unwrap_or_else(|| Value::Object(other.clone())),
        },
    };
    parts.iter().map(part).collect()
}

fn detail(image: &Map<String, Value>) -> &str {
    image.get("image_url").and_then(|image| image.get("detail")?.as_str()).unwrap_or("auto")
}

/// Turns a file of the chat format into one of this interface.
fn file(part: &Map<String, Value>) -> Option<Value> {
    let mut input =
        part.get("file").filter(|_| part.get("type").is_some_and(|kind| kind == "file"))?.as_object()?.clone();
    input.insert("type".to_owned(), "input_file".into());
    Some(Value::Object(input))
}

/// Returns a tool as this interface has it: without the object around the function.
pub(super) fn tool(tool: &Value) -> Value {
    let Some(function) = tool["function"].as_object() else { return tool.clone() };
    let mut flat = function.clone();
    flat.insert("type".to_owned(), "function".into());
    Value::Object(flat)
}

/// Returns what a whole answer says.
pub(super) fn read_whole(server: &Server, answer: &Value) -> Result<Vec<Delta>, Refusal> {
    if !answer["error"].is_null() {
        return Err(error_inside(server, answer));
    }
    let items = answer["output"].as_array().ok_or_else(|| Refusal::lasting(not_understood(server)))?;
    let mut deltas = Vec::new();
    for item in items {
        match item["type"].as_str() {
            Some("reasoning") => deltas.extend(texts(&item["summary"]).map(Delta::Reasoning)),
            Some("message") => deltas.extend(texts(&item["content"]).map(Delta::Text)),
            _ => deltas.extend(function_call(item)),
        }
    }
    deltas.extend(end(server, answer)?);
    Ok(deltas)
}

/// The texts of a list of parts; a refusal is an answer too.
fn texts(parts: &Value) -> impl Iterator<Item = String> + '_ {
    let texts = parts.as_array().into_iter().flatten();
    texts.filter_map(|part| part["text"].as_str().or_else(|| part["refusal"].as_str())).map(str::to_owned)
}

/// Returns what one event of a stream says.
pub(super) fn read_event(server: &Server, event: &Value) -> Result<Vec<Delta>, Refusal> {
    let more = || event["delta"].as_str().unwrap_or_default().to_owned();
    let kind = event["type"].as_str().ok_or_else(|| {
        // Some servers send a bare error instead of an event.
        if event["error"].is_null() { Refusal::lasting(not_understood(server)) } else { error_inside(server, event) }
    })?;
    Ok(match kind {
        "response.output_text.delta" | "response.refusal.delta" => vec![Delta::Text(more())],
        "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" | "response.reasoning.delta" => {
            vec![Delta::Reasoning(more())]
        }
        "response.output_item.done" => function_call(&event["item"]).into_iter().collect(),
        "response.completed" | "response.incomplete" => {
            let mut deltas = end(server, &event["response"])?;
            deltas.push(Delta::End);
            deltas
        }
        "response.failed" => return Err(error_inside(server, &event["response"])),
        "error" if event["error"].is_null() => return Err(error_inside(server, &json!({"error": event}))),
        "error" => return Err(error_inside(server, event)),
        // Beginnings and ends of parts, and what later versions add.
        _ => Vec::new(),
    })
}

fn function_call(item: &Value) -> Option<Delta> {
    (item["type"] == "function_call").then(|| {
        Delta::ToolCall(ToolCallPiece {
            index: None,
            id: item["call_id"].as_str().map(str::to_owned),
            name: item["name"].as_str().map(str::to_owned),
            arguments: item["arguments"].as_str().unwrap_or_default().to_owned(),
        })
    })
}

/// Returns why an answer ended and what it took.
fn end(server: &Server, answer: &Value) -> Result<Vec<Delta>, Refusal> {
    let reason = match answer["incomplete_details"]["reason"].as_str() {
        Some("content_filter") => {
            return Err(Refusal::lasting(ModelError::Invalid(format!(
                "{} refused to go on: its content filter stopped the answer",
                server.place()
            ))));
        }
        Some("max_output_tokens") => FinishReason::Length,
        _ if answer["status"] == "incomplete" => FinishReason::Length,
        _ => FinishReason::Stop,
    };
    let mut deltas = vec![Delta::Finish(reason)];
    let usage = &answer["usage"];
    if usage.is_object() {
        deltas.push(Delta::Usage {
            prompt: count(&usage["input_tokens"]),
            cached: count(&usage["input_tokens_details"]["cached_tokens"]),
            completion: count(&usage["output_tokens"]),
        });
    }
    Ok(deltas)
}
