//! How many requests are worked on at a time, and for how long.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time;

use super::is_exempt;
use crate::error::ApiError;
use crate::options::ServerOptions;
use crate::state::ServerState;

/// The places for requests that are worked on.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    places: Arc<Semaphore>,
}

impl Work {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let n_places = options.max_concurrent_requests.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(n_places)) }
    }
}

/// Refuses a request when there are too many already, and ends one that takes too long. A stream is over here when it begins: it
/// may go on for as long as its caller listens.
pub(super) async fn bounded(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    if is_exempt(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_place) = state.work().places.try_acquire() else {
        let message = "the server has too much to do; come again in a second";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
            .into_response();
    };
    let limit = state.options().request_timeout;
    match time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::warn!(seconds = limit.as_secs_f64(), "a request took too long and was ended");
            let message = format!("the request took longer than {} seconds and was ended", limit.as_secs_f64());
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, message).into_response()
        }
    }
}
