//! OpenAI's "responses" interface.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::wire::{n_words, next_reply, pieces, receive, refuse, streamed, text_of};
use super::{Fault, Reply, State};

pub(super) async fn respond(Shared(state): Shared<Arc<State>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    let reply = next_reply(&state, &body);
    let whole = whole(&body, &reply);
    if body["stream"] != true || fault == Some(Fault::WholeAnswer) {
        return Json(whole).into_response();
    }
    let mut events = vec![event("response.created", json!({"response": {"status": "in_progress"}}))];
    for piece in pieces(reply.reasoning.as_deref().unwrap_or_default()) {
        events.push(event("response.reasoning_summary_text.delta", json!({"delta": piece})));
    }
    events.extend(
        pieces(&reply.text).into_iter().map(|piece| event("response.output_text.delta", json!({"delta": piece}))),
    );
    let items = whole["output"].as_array().into_iter().flatten();
    events.extend(items.map(|item| event("response.output_item.done", json!({"item": item}))));
    let last = if reply.is_cut { "response.incomplete" } else { "response.completed" };
    events.push(event(last, json!({"response": whole})));
    if let Some(Fault::ErrorInStream(after)) = fault {
        events.truncate(after);
        let error = json!({"code": "server_error", "message": "the model crashed"});
        events.push(event("response.failed", json!({"response": {"status": "failed", "error": error}})));
    }
    streamed(&state, fault, events, "text/event-stream")
}

fn event(kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    format!("event: {kind}\ndata: {data}\n\n")
}

fn whole(body: &Value, reply: &Reply) -> Value {
    let mut output = Vec::new();
    if let Some(reasoning) = &reply.reasoning {
        output.push(json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": reasoning}]}));
    }
    if !reply.text.is_empty() {
        let content = json!([{"type": "output_text", "text": reply.text}]);
        output.push(json!({"type": "message", "role": "assistant", "content": content}));
    }
    output.extend(reply.tool_calls.iter().map(|call| {
        json!({"type": "function_call", "call_id": call["id"], "name": call["function"]["name"],
               "arguments": call["function"]["arguments"]})
    }));
    let n_prompt: usize =
        body["input"].as_array().into_iter().flatten().map(|item| n_words(&text_of(&item["content"]))).sum();
    let usage = reply.has_usage.then(|| {
        json!({"input_tokens": n_prompt, "output_tokens": n_words(&reply.text),
               "input_tokens_details": {"cached_tokens": reply.cached_tokens}})
    });
    let mut answer = json!({"id": "resp", "object": "response", "status": "completed", "error": null,
                            "output": output, "usage": usage});
    if reply.is_cut {
        answer["status"] = "incomplete".into();
        answer["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    answer
}
