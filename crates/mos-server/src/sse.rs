//! Streams of events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::Serialize;

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Returns a response that sends each item as `data: <json>`, and ends with the stream.
pub(crate) fn frames<T: Serialize + Send + 'static>(items: impl Stream<Item = T> + Send + 'static) -> Response {
    let events = items.map(|item| {
        let event = Event::default().json_data(&item).unwrap_or_else(|error| {
            tracing::error!(%error, "a frame of a stream could not be written");
            Event::default().data(r#"{"type":"error","content":"the stream failed inside"}"#)
        });
        Ok::<_, Infallible>(event)
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
