//! How many requests are worked on at a time, how many of them are one caller's, and for how long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time;

use super::is_exempt;
use super::rates::{self, Bucket};
use crate::error::ApiError;
use crate::options::ServerOptions;
use crate::state::ServerState;

/// Which part of the places one caller may take: the fourth.
const PARTS: usize = 4;

/// Requests under way by who asks. Callers without any are not in it, so that it is bounded by the number of places.
type UnderWay = Mutex<HashMap<Bucket, usize>>;

/// The places for requests that are worked on.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    places: Arc<Semaphore>,
    under_way: Arc<UnderWay>,
    /// Places of one caller at a time.
    share: usize,
}

/// The part of a caller's share that a request takes, given back when it is dropped.
#[derive(Debug)]
struct Taken {
    caller: Bucket,
    under_way: Arc<UnderWay>,
}

impl Work {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let n_places = options.max_concurrent_requests.clamp(1, Semaphore::MAX_PERMITS);
        let share = (n_places / PARTS).max(1);
        Self { places: Arc::new(Semaphore::new(n_places)), under_way: Arc::default(), share }
    }

    /// Counts a request of a caller for as long as what is returned is there; `None` when the caller has all that it may.
    fn take(&self, caller: Bucket) -> Option<Taken> {
        let mut under_way = lock(&self.under_way);
        let n_taken = under_way.get(&caller).copied().unwrap_or(0);
        if n_taken >= self.share {
            return None;
        }
        under_way.insert(caller.clone(), n_taken + 1);
        Some(Taken { caller, under_way: Arc::clone(&self.under_way) })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        match under_way.get_mut(&self.caller) {
            Some(n_taken) if *n_taken > 1 => *n_taken -= 1,
            _ => {
                under_way.remove(&self.caller);
            }
        }
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<Bucket, usize>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses a request of a caller that has its share of the places already, so that some are left for others. As with the places, a
/// stream is over here when it begins. It is inside of the layer that looks at keys.
pub(super) async fn shared(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    if is_exempt(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let Some(_taken) = state.work().take(rates::bucket_of(&state, &request)) else {
        let message = "too many requests of this caller are under way; wait for one to end, then come again";
        return rates::refused(message, Duration::from_secs(1));
    };
    next.run(request).await
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
