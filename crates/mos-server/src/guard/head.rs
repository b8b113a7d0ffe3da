//! How long the head of a request may be, and the body that it announces.
//!
//! The parser of HTTP has bounds of its own, far above these: a head that passes it is answered in the envelope.

use axum::RequestExt;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::state::ServerState;

/// Bytes of a path with its query.
const MAX_URI: usize = 8 * 1024;

/// Headers.
const MAX_HEADERS: usize = 64;

/// Bytes of all headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Bounds the body also for services that read it themselves, without the extractors that would do so.
pub(super) async fn bounded_body(request: Request, next: Next) -> Response {
    next.run(request.with_limited_body()).await
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
