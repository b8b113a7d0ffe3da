//! OpenAI's chat format: messages out, pieces of answers in.

use mos_core::{FinishReason, Message, ModelError, ServerWords};
use serde_json::{Value, json};

use crate::answer::{Delta, ToolCallPiece};
use crate::events::{count, error_inside, not_understood};
use crate::http::{Refusal, Server};
use crate::request::ToolCall;

/// Returns a message with the keys of the format only: servers refuse others.
pub(super) fn message(message: &Message) -> Value {
    let mut value = json!({"role": message.role.as_str(), "content": message.content});
    if let Some(calls) = message.tool_calls.as_ref().filter(|calls| !calls.is_empty()) {
        value["tool_calls"] = calls.iter().map(tool_call).collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.clone().into();
    }
    if let Some(name) = &message.name {
        value["name"] = name.clone().into();
    }
    value
}

/// Returns a call with its arguments as text, as the format has it; what is no call stays as it is.
fn tool_call(call: &Value) -> Value {
    let Some(read) = ToolCall::read(call) else { return call.clone() };
    let mut value = call.clone();
    value["type"] = "function".into();
    if !call["function"]["arguments"].is_string() {
        value["function"]["arguments"] = read.arguments_text().into();
    }
    value
}

/// Returns what a whole answer says.
pub(super) fn read_whole(server: &Server, answer: &Value) -> Result<Vec<Delta>, Refusal> {
    let is_known = answer["choices"].is_array() || !answer["error"].is_null() || answer["base_resp"].is_object();
    if is_known { read_chunk(server, answer) } else { Err(Refusal::lasting(not_understood(server))) }
}

/// Returns what one chunk of a stream, or a whole answer, says.
pub(super) fn read_chunk(server: &Server, chunk: &Value) -> Result<Vec<Delta>, Refusal> {
    if !chunk["error"].is_null() {
        return Err(error_inside(server, chunk));
    }
    check_minimax(server, &chunk["base_resp"])?;
    let mut deltas = Vec::new();
    let choice = &chunk["choices"][0];
    let said = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
    for key in ["reasoning_content", "reasoning"] {
        if let Some(text) = said[key].as_str().filter(|text| !text.is_empty()) {
            deltas.push(Delta::Reasoning(text.to_owned()));
            break;
        }
    }
    // A refusal is an answer too: whoever asked should read it.
    for key in ["content", "refusal"] {
        if let Some(text) = said[key].as_str().filter(|text| !text.is_empty()) {
            deltas.push(Delta::Text(text.to_owned()));
        }
    }
    deltas.extend(said["tool_calls"].as_array().into_iter().flatten().enumerate().map(tool_call_piece));
    match choice["finish_reason"].as_str() {
        None => {}
        Some("content_filter") => {
            return Err(Refusal::lasting(ModelError::Invalid(format!(
                "{} refused to go on: its content filter stopped the answer",
                server.place()
            ))));
        }
        Some("length") => deltas.push(Delta::Finish(FinishReason::Length)),
        Some(_) => deltas.push(Delta::Finish(FinishReason::Stop)),
    }
    deltas.extend(usage(&chunk["usage"]));
    Ok(deltas)
}

/// A piece of the tool call with this place in its list; streams number them instead.
fn tool_call_piece((place, piece): (usize, &Value)) -> Delta {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let function = &piece["function"];
    let arguments = match &function["arguments"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        // Some servers forget that arguments are text.
        other => other.to_string(),
    };
    Delta::ToolCall(ToolCallPiece {
        index: Some(count(&piece["index"]).unwrap_or(place)),
        id: text(&piece["id"]),
        name: text(&function["name"]),
        arguments,
    })
}

fn usage(usage: &Value) -> Option<Delta> {
    usage.is_object().then(|| Delta::Usage {
        prompt: count(&usage["prompt_tokens"]),
        // DeepSeek has a name of its own for it.
        cached: count(&usage["prompt_tokens_details"]["cached_tokens"])
            .or_else(|| count(&usage["prompt_cache_hit_tokens"])),
        completion: count(&usage["completion_tokens"]),
    })
}

/// Refuses what MiniMax calls an error although its status is a success.
fn check_minimax(server: &Server, outcome: &Value) -> Result<(), Refusal> {
    let Some(code) = outcome["status_code"].as_i64().filter(|code| *code != 0) else { return Ok(()) };
    let place = server.place();
    let said = server.message(&json!({"message": outcome["status_msg"]}), &[]);
    Err(match code {
        1002 | 1039 => Refusal::passing(ModelError::RateLimited { retry_after: None }),
        1000 | 1001 | 1013 | 1024 | 1033 => {
            let fault = format!("{place} failed with code {code}");
            Refusal::passing(ModelError::ServerFault { fault, said: ServerWords(said) })
        }
        1004 | 2049 => Refusal::lasting(ModelError::Denied(format!(
            "{place} refused the credentials (code {code}); check the API key"
        ))),
        1008 => Refusal::lasting(ModelError::Denied(format!("{place}: the account's balance is used up"))),
        _ => Refusal::lasting(ModelError::Invalid(format!("{place} refused the request (code {code}): {said}"))),
    })
}
