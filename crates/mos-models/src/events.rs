//! Server-sent events of an answer, as JSON.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use mos_core::ModelError;
use reqwest::Response;
use serde_json::Value;
use sse_stream::SseByteStream;

use crate::answer::{Delta, Deltas, bounded_bytes};
use crate::http::{Refusal, Server, is_media};

/// What one event, or a whole answer, says.
pub(crate) type ReadEvent = fn(&Server, &Value) -> Result<Vec<Delta>, Refusal>;

/// Returns what an answer says, piece by piece: events that `read` understands until `[DONE]` or the end, or one whole
/// answer that `read_whole` understands, when the server has not streamed.
pub(crate) async fn read_answer(
    server: &Arc<Server>,
    response: Response,
    read: ReadEvent,
    read_whole: ReadEvent,
) -> Result<Deltas, Refusal> {
    if is_media(&response, "application/json") {
        let whole = whole(server, response).await?;
        let mut deltas = read_whole(server, &whole)?;
        deltas.push(Delta::End);
        return Ok(stream::iter(deltas.into_iter().map(Ok)).boxed());
    }
    if is_media(&response, "text/html") {
        return Err(Refusal::lasting(ModelError::BadAnswer(format!(
            "{} answered with a web page; the address usually ends in /v1",
            server.place()
        ))));
    }
    Ok(streamed(server, response, read))
}

/// Reads an answer that came whole although a stream was asked for.
async fn whole(server: &Arc<Server>, response: Response) -> Result<Value, Refusal> {
    let limit = server.options.max_body_bytes;
    let started = std::time::Instant::now();
    let body = server.body(response, started, limit).await.map_err(Refusal::lasting)?;
    serde_json::from_slice(&body).map_err(|error| {
        Refusal::lasting(ModelError::BadAnswer(format!(
            "the answer of {} is not JSON ({error}); is it a model server?",
            server.place()
        )))
    })
}

fn streamed(server: &Arc<Server>, response: Response, read: ReadEvent) -> Deltas {
    let bytes = bounded_bytes(server, response).map_ok(std::io::Cursor::new).map_err(Carried);
    let server = Arc::clone(server);
    SseByteStream::new(Box::pin(bytes))
        .map(move |event| {
            let data = match event {
                Ok(event) => event.data.unwrap_or_default(),
                Err(error) => return Err(carried(&server, error)),
            };
            match data.trim() {
                "" => Ok(Vec::new()),
                "[DONE]" => Ok(vec![Delta::End]),
                text => {
                    let event: Value =
                        serde_json::from_str(text).map_err(|_| Refusal::lasting(not_understood(&server)))?;
                    read(&server, &event)
                }
            }
        })
        .map_ok(|deltas| stream::iter(deltas.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// Carries a refusal through the stream of events, whose errors must be `std` errors.
struct Carried(Refusal);

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0.error, f)
    }
}

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0.error, f)
    }
}

impl std::error::Error for Carried {}

fn carried(server: &Server, error: sse_stream::Error) -> Refusal {
    match error {
        sse_stream::Error::Body(error) => match error.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(_) => Refusal::lasting(not_understood(server)),
        },
        _ => Refusal::lasting(not_understood(server)),
    }
}

pub(crate) fn not_understood(server: &Server) -> ModelError {
    ModelError::BadAnswer(format!("the answer of {} is not in the format that was asked for", server.place()))
}

/// Sorts an error inside an answer, by its status when it has one.
pub(crate) fn error_inside(server: &Server, holder: &Value) -> Refusal {
    let error = &holder["error"];
    let status = [&error["code"], &error["status"]].into_iter().find_map(Value::as_u64);
    let said = server.message(holder, &[]);
    match status.and_then(|status| u16::try_from(status).ok()) {
        Some(status) if status >= 400 => server.sort(status, holder, &said, None),
        _ => Refusal::lasting(ModelError::BadAnswer(format!("{} failed while answering: {said}", server.place()))),
    }
}

/// Returns a count of tokens.
pub(crate) fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok())
}
