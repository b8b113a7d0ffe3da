//! How long the head of a request may be, and the body that it announces; how long that may take to go on.
//!
//! The parser of HTTP has bounds of its own, far above these: a head that passes it is answered in the envelope.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::RequestExt;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tokio::time;

use crate::error::ApiError;
use crate::state::ServerState;

/// Bytes of a path with its query.
const MAX_URI: usize = 8 * 1024;

/// Headers.
const MAX_HEADERS: usize = 64;

/// Bytes of all headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Bounds the body also for services that read it themselves, without the extractors that would do so, and ends a request whose
/// body does not go on.
pub(super) async fn bounded_body(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let patience = state.options().header_timeout;
    let has_stalled = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&has_stalled);
    let request = request.map(|body| impatient(body, patience, noted));
    let response = next.run(request.with_limited_body()).await;
    // Every reader has its own words for a body that breaks off; some would call it a fault of the server.
    if has_stalled.load(Ordering::Relaxed) {
        let message = format!("nothing more of the body came for {} seconds", patience.as_secs_f64());
        return ApiError::new(StatusCode::REQUEST_TIMEOUT, message).into_response();
    }
    response
}

/// Returns a body that breaks off, and says so, when its reader has waited for the next piece for as long as `patience`.
fn impatient(body: Body, patience: Duration, has_stalled: Arc<AtomicBool>) -> Body {
    let pieces = (body.into_data_stream(), has_stalled);
    Body::from_stream(stream::unfold(Some(pieces), move |pieces| async move {
        let (mut pieces, has_stalled) = pieces?;
        match time::timeout(patience, pieces.next()).await {
            Ok(next) => next.map(|piece| (piece, Some((pieces, has_stalled)))),
            Err(elapsed) => {
                has_stalled.store(true, Ordering::Relaxed);
                Some((Err(axum::Error::new(elapsed)), None))
            }
        }
    }))
}

/// Refuses requests whose address, headers or announced body are too long. A body that is not announced is bounded where it is
/// read.
pub(super) async fn check(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let n_uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if n_uri > MAX_URI {
        let message = format!("the address of the request is longer than {MAX_URI} bytes; send long values in a body");
        return ApiError::new(StatusCode::URI_TOO_LONG, message).into_response();
    }
    let headers = request.headers();
    let n_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || n_bytes > MAX_HEADER_BYTES {
        let message = format!("a request may have {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes together");
        return ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message).into_response();
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let longest = state.options().max_body_bytes;
    if announced.is_some_and(|length| length > u64::try_from(longest).unwrap_or(u64::MAX)) {
        let message = format!("the body of the request is longer than {longest} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).into_response();
    }
    next.run(request).await
}
