//! The formats of the scripted server.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};

use super::schema::{instance_of, schema_of};
use super::{DIMENSION, Fault, RecordedRequest, Reply, State, toy_embedding};

/// More than any client should read of one answer.
const FLOOD_BYTES: usize = 64 << 20;

/// Long enough for the server to write what it holds.
const FLUSH: std::time::Duration = std::time::Duration::from_millis(20);

/// Records a request and takes the fault that was queued for it.
pub(super) fn receive(state: &State, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> (Value, Option<Fault>) {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let mut script = state.script();
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
    script.requests.push(RecordedRequest { path, query, headers, body: body.clone() });
    (body, script.faults.pop_front())
}

/// Returns the refusal that a fault stands for, after the wait that it asks for.
pub(super) async fn refuse(fault: Option<&Fault>) -> Option<Response> {
    match fault? {
        Fault::Status(status, body) => {
            let status = StatusCode::from_u16(*status).expect("a test names a valid status");
            Some((status, Json(body.clone())).into_response())
        }
        Fault::RateLimited(after) => {
            let body = Json(json!({"error": {"message": "too many requests", "type": "requests"}}));
            let mut response = (StatusCode::TOO_MANY_REQUESTS, body).into_response();
            if let Some(seconds) = after {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            Some(response)
        }
        Fault::Busy(after) => {
            let body = Json(json!({"error": {"message": "overloaded", "type": "server_error"}}));
            let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, (*after).into());
            Some(response)
        }
        Fault::SlowFirstByte(wait) => {
            tokio::time::sleep(*wait).await;
            None
        }
        Fault::Garbage => {
            Some(([(header::CONTENT_TYPE, "application/json")], "\u{0}<html>{{{ not json").into_response())
        }
        Fault::Flood => {
            let chunk = Bytes::from(vec![b'x'; 1 << 20]);
            let chunks = (0..FLOOD_BYTES >> 20).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
            Some(
                ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream::iter(chunks))).into_response(),
            )
        }
        _ => None,
    }
}

pub(super) fn next_reply(state: &State, body: &Value) -> Reply {
    let mut script = state.script();
    if let Some(reply) = script.replies.pop_front() {
        return reply;
    }
    if let Some(answerer) = &script.answerer {
        return answerer(body);
    }
    if let Some(schema) = schema_of(body) {
        return Reply::text(instance_of(schema).to_string());
    }
    let last = ["messages", "input"].into_iter().find_map(|key| body[key].as_array()?.last());
    Reply::text(last.map_or_else(String::new, |message| text_of(&message["content"])))
}

/// Returns a text, or the texts among parts, joined by newlines.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

pub(super) fn n_words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn n_prompt_words(body: &Value) -> usize {
    body["messages"].as_array().map_or(0, |all| all.iter().map(|m| n_words(&text_of(&m["content"]))).sum())
}

/// Splits a text into words with the white space that follows them.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    text.split_inclusive(char::is_whitespace).collect()
}

/// Sends pieces as a body, with the fault that was asked for. Each piece travels in two halves, cut at a byte that
/// may lie inside a character.
pub(super) fn streamed(
    state: &Arc<State>,
    fault: Option<Fault>,
    pieces: Vec<String>,
    content_type: &'static str,
) -> Response {
    /// Tells the server when the client leaves before the end.
    struct Watch {
        state: Arc<State>,
        is_finished: bool,
    }
    impl Watch {
        fn finish(&mut self) {
            self.is_finished = true;
        }
    }
    impl Drop for Watch {
        fn drop(&mut self) {
            if !self.is_finished {
                self.state.abandon();
            }
        }
    }
    let halves: Vec<Bytes> = pieces
        .into_iter()
        .flat_map(|piece| {
            let bytes = Bytes::from(piece);
            let middle = bytes.len() / 2;
            [bytes.slice(..middle), bytes.slice(middle..)]
        })
        .collect();
    let watch = Watch { state: Arc::clone(state), is_finished: false };
    let body = stream::unfold((watch, halves, 0_usize), move |(mut watch, halves, index)| {
        let fault = fault.clone();
        async move {
            let n_sent = index / 2;
            match fault {
                Some(Fault::Stall(after)) if n_sent >= after => watch.state.stop.cancelled().await,
                Some(Fault::SlowChunks(wait)) if index % 2 == 0 => tokio::time::sleep(wait).await,
                Some(Fault::CutOff(after)) if n_sent >= after => {
                    // While the stream waits, what was sent so far leaves the buffers.
                    tokio::time::sleep(FLUSH).await;
                    watch.finish();
                    let error = std::io::Error::other("the test cuts the connection");
                    // The index leaves the list, so that the stream ends after the error.
                    return Some((Err(error), (watch, Vec::new(), usize::MAX)));
                }
                Some(Fault::EndEarly(after)) if n_sent >= after => {
                    watch.finish();
                    return None;
                }
                _ => {}
            }
            let Some(half) = halves.get(index).cloned() else {
                watch.finish();
                return None;
            };
            Some((Ok(half), (watch, halves, index.saturating_add(1))))
        }
    });
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(body)).into_response()
}

pub(super) async fn openai_chat(
    Shared(state): Shared<Arc<State>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    let reply = next_reply(&state, &body);
    let finish = match (reply.is_cut, reply.tool_calls.is_empty()) {
        (true, _) => "length",
        (false, true) => "stop",
        (false, false) => "tool_calls",
    };
    let (n_prompt, n_answer) = (n_prompt_words(&body), n_words(&reply.text));
    let usage = reply.has_usage.then(|| {
        json!({"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer,
               "prompt_tokens_details": {"cached_tokens": reply.cached_tokens}})
    });
    if body["stream"] != true || fault == Some(Fault::WholeAnswer) {
        let mut message = json!({"role": "assistant", "content": reply.text, "reasoning_content": reply.reasoning});
        if !reply.tool_calls.is_empty() {
            message["tool_calls"] = reply.tool_calls.clone().into();
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": finish});
        return Json(json!({"id": "chat", "object": "chat.completion", "choices": [choice], "usage": usage}))
            .into_response();
    }
    let event = |choices: Value, usage: Value| {
        let chunk = json!({"id": "chat", "object": "chat.completion.chunk", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| {
        event(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    for piece in pieces(reply.reasoning.as_deref().unwrap_or_default()) {
        events.push(delta(json!({"reasoning_content": piece}), Value::Null));
    }
    events.extend(pieces(&reply.text).into_iter().map(|piece| delta(json!({"content": piece}), Value::Null)));
    for (index, call) in reply.tool_calls.iter().enumerate() {
        events.extend(
            call_pieces(index, call).into_iter().map(|piece| delta(json!({"tool_calls": [piece]}), Value::Null)),
        );
    }
    events.push(delta(json!({}), finish.into()));
    if let Some(usage) = usage.filter(|_| body["stream_options"]["include_usage"] == true) {
        events.push(event(json!([]), usage));
    }
    events.push("data: [DONE]\n\n".to_owned());
    if let Some(Fault::ErrorInStream(after)) = fault {
        events.truncate(after);
        events.push(format!("data: {}\n\n", json!({"error": {"message": "the model crashed", "code": 500}})));
    }
    streamed(&state, fault, events, "text/event-stream")
}

/// A tool call as streams have it: first its name, then its arguments in two halves.
fn call_pieces(index: usize, call: &Value) -> Vec<Value> {
    let function = &call["function"];
    let arguments = function["arguments"].as_str().unwrap_or_default();
    let middle = (arguments.len() / 2..=arguments.len()).find(|at| arguments.is_char_boundary(*at)).unwrap_or(0);
    let head = json!({"index": index, "id": call["id"], "type": "function",
                      "function": {"name": function["name"], "arguments": ""}});
    let part = |text: &str| json!({"index": index, "function": {"arguments": text}});
    vec![head, part(&arguments[..middle]), part(&arguments[middle..])]
}

pub(super) async fn ollama_chat(
    Shared(state): Shared<Arc<State>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    let reply = next_reply(&state, &body);
    let line = |message: Value| format!("{}\n", json!({"model": body["model"], "message": message, "done": false}));
    let mut lines = Vec::new();
    for piece in pieces(reply.reasoning.as_deref().unwrap_or_default()) {
        lines.push(line(json!({"role": "assistant", "content": "", "thinking": piece})));
    }
    lines.extend(pieces(&reply.text).into_iter().map(|piece| line(json!({"role": "assistant", "content": piece}))));
    if !reply.tool_calls.is_empty() {
        // Here arguments are an object, and calls have no ids.
        let calls = reply.tool_calls.iter().map(|call| {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"function": {"name": call["function"]["name"], "arguments": arguments}})
        });
        lines.push(line(json!({"role": "assistant", "content": "", "tool_calls": calls.collect::<Vec<Value>>()})));
    }
    let reason = if reply.is_cut { "length" } else { "stop" };
    let mut last = json!({"model": body["model"], "message": {"role": "assistant", "content": ""},
                          "done": true, "done_reason": reason});
    if reply.has_usage {
        last["prompt_eval_count"] = n_prompt_words(&body).into();
        last["eval_count"] = n_words(&reply.text).into();
    }
    lines.push(format!("{last}\n"));
    if let Some(Fault::ErrorInStream(after)) = fault {
        lines.truncate(after);
        lines.push(format!("{}\n", json!({"error": "the model crashed"})));
    }
    streamed(&state, fault, lines, "application/x-ndjson")
}

/// Returns the embeddings of a request's `input`, as JSON, with the fault that was asked for.
fn embeddings(body: &Value, fault: Option<&Fault>) -> Vec<Value> {
    let texts: Vec<String> = match &body["input"] {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().map(text_of).collect(),
        _ => Vec::new(),
    };
    // A length that is asked for counts, as with models that can shorten their vectors.
    let asked = body["dimensions"].as_u64().and_then(|asked| usize::try_from(asked).ok());
    let dimension = asked.unwrap_or_else(|| dimension(fault));
    let n_answered = texts.len() - usize::from(fault == Some(&Fault::TooFew) && !texts.is_empty());
    let mut vectors: Vec<Value> =
        texts[..n_answered].iter().map(|text| Value::from(toy_embedding(text, dimension))).collect();
    if fault == Some(&Fault::NotANumber)
        && let Some(first) = vectors.first_mut()
    {
        first[0] = Value::Null;
    }
    vectors
}

/// Returns the length of vectors.
pub(super) fn dimension(fault: Option<&Fault>) -> usize {
    match fault {
        Some(Fault::Dimension(dimension)) => *dimension,
        _ => DIMENSION,
    }
}

pub(super) async fn openai_embeddings(
    Shared(state): Shared<Arc<State>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    let data = embeddings(&body, fault.as_ref())
        .into_iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}));
    // The order of the list means nothing in this format, so it is turned around.
    let data: Vec<Value> = data.rev().collect();
    Json(json!({"object": "list", "model": body["model"], "data": data})).into_response()
}

pub(super) async fn ollama_embed(
    Shared(state): Shared<Arc<State>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (body, fault) = receive(&state, &uri, &headers, &body);
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    Json(json!({"model": body["model"], "embeddings": embeddings(&body, fault.as_ref())})).into_response()
}

pub(super) async fn openai_models(Shared(state): Shared<Arc<State>>, uri: Uri, headers: HeaderMap) -> Response {
    let (_, fault) = receive(&state, &uri, &headers, &Bytes::new());
    if let Some(refusal) = refuse(fault.as_ref()).await {
        return refusal;
    }
    Json(json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]})).into_response()
}
