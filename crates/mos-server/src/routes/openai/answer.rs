//! Answers as clients of OpenAI's API read them.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use mos::product::{CompletionEvent, CompletionStream, OpenAiError};
use serde_json::{Value, json};

use super::PREFIX;

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The longest body of an error that is brought into shape, in bytes.
const MAX_ERROR: usize = 64 * 1024;

/// An error that is answered. Boxed, because handlers return it beside small answers.
#[derive(Debug)]
pub(super) struct Refusal(Box<OpenAiError>);

impl From<OpenAiError> for Refusal {
    fn from(error: OpenAiError) -> Self {
        Self(Box::new(error))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(json!(self.0))).into_response();
        if let Some(wait) = self.0.retry_after {
            // A part of a second is waited for as a whole one.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Returns a response with each piece as `data: <json>`, which ends with `data: [DONE]` when the answer is whole.
pub(super) fn streamed(events: CompletionStream) -> Response {
    let events = events.map(|event| {
        let data = match event {
            CompletionEvent::Chunk(chunk) => chunk.to_string(),
            CompletionEvent::Failed(error) => json!(error).to_string(),
            CompletionEvent::Done => "[DONE]".to_owned(),
        };
        Ok::<_, Infallible>(Event::default().data(data))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Gives errors that come from elsewhere in the server (keys, limits, JSON that is none) OpenAI's shape where clients expect
/// it; a layer around all others.
pub(crate) async fn shaped(request: Request, next: Next) -> Response {
    let is_ours = request.uri().path().starts_with(PREFIX);
    let response = next.run(request).await;
    let status = response.status();
    if !is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // What cannot be read says nothing.
    let bytes = to_bytes(body, MAX_ERROR).await.unwrap_or_default();
    let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if told["error"].is_object() {
        return Response::from_parts(parts, Body::from(bytes));
    }
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        parts.status = StatusCode::BAD_REQUEST;
    }
    let usual = status.canonical_reason().unwrap_or("the request failed");
    let error = OpenAiError::new(parts.status.as_u16(), told["message"].as_str().unwrap_or(usual));
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(json!(error).to_string()))
}
