//! What stands between the network and the handlers: whose request it is allowed to be, and how much of everything it may take.
//!
//! From the outside in: connections and heads of requests have bounds of count, size and time; every answer has a trace id and
//! headers for browsers; foreign names and pages are refused; what panics or takes too long is answered all the same; callers
//! have a rate, and a share of the requests that are worked on; bodies end where they are too long, or come no further. The depth
//! of JSON, and how many values it has, are bounded where it is read (`extract`).
//!
//! Not here: who calls, and what they may do.

pub(crate) mod client;
pub(crate) mod connections;
mod head;
mod headers;
mod host;
mod origin;
mod panics;
mod places;
pub(crate) mod rates;
mod stalled;
pub(crate) mod trace;
mod work;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;

use crate::metrics;
use crate::state::ServerState;

pub(crate) use rates::Rates;
pub(crate) use work::Work;

/// Puts the guards around routes that need to know the caller: layers that are inside of the one that looks at keys.
pub(crate) fn within(routes: Router<ServerState>, state: &ServerState) -> Router<ServerState> {
    routes
        .layer(from_fn_with_state(state.clone(), head::bounded_body))
        .layer(DefaultBodyLimit::max(state.options().max_body_bytes))
        .layer(from_fn_with_state(state.clone(), work::shared))
        .layer(from_fn_with_state(state.clone(), rates::of_callers))
}

/// Puts the guards around everything, the layer that looks at keys included.
pub(crate) fn around(routes: Router<ServerState>, state: &ServerState) -> Router<ServerState> {
    // The last one is the outermost.
    routes
        .layer(from_fn_with_state(state.clone(), work::bounded))
        .layer(CatchPanicLayer::custom(panics::answer))
        .layer(from_fn_with_state(state.clone(), rates::of_strangers))
        .layer(origin::cors(state.options()))
        .layer(from_fn_with_state(state.clone(), origin::check))
        .layer(from_fn_with_state(state.clone(), host::check))
        .layer(from_fn_with_state(state.clone(), head::check))
        .layer(from_fn(headers::add))
        .layer(from_fn_with_state(state.clone(), metrics::observe))
        .layer(from_fn_with_state(state.clone(), trace::named))
}

/// Whether a request is never refused for there being too many: who watches the server must see it when it is busy.
fn is_exempt(method: &Method, path: &str) -> bool {
    let is_watched = matches!(path, "/health" | "/ready" | "/admin/health" | "/openapi.json" | "/docs");
    method == Method::OPTIONS || is_watched || path.starts_with("/docs/")
}

#[cfg(test)]
mod tests;
