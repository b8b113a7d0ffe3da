//! The page where people look at memories, and the JSON that it asks for.
//!
//! The page itself ([`assets`]) is the same for everybody and needs no key. All data comes through `/dashboard/api/*`, where
//! every operation acts as one user with the rights of the caller: [`asking::Asking`] finds out who that is.
//!
//! Not here: what memories are, and who may see them (the facade).

mod asking;
mod assets;
mod caches;
mod graph;
mod memories;
mod preferences;
mod quarantine;
mod scheduler;
mod search;
mod session;
mod usage;

use axum::Json;
use axum::response::{IntoResponse, Response};
use mos::product::ProductError;
use serde_json::Value;

use crate::error::ApiError;
use crate::routes::{Routes, get, post};

/// Returns the page and its operations.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .merge(assets::routes())
        .route("/dashboard/api/session", get(session::session))
        .route("/dashboard/api/cubes", post(session::create_cube))
        .route("/dashboard/api/memories", get(memories::list).post(memories::add))
        .route("/dashboard/api/memories/{id}", get(memories::one).put(memories::update).delete(memories::remove))
        .route("/dashboard/api/memories/{id}/history", get(memories::history))
        .route("/dashboard/api/memories/{id}/undo", post(memories::undo))
        .route("/dashboard/api/memories/{id}/release", post(quarantine::release))
        .route("/dashboard/api/quarantine", get(quarantine::list))
        .route("/dashboard/api/search", post(search::search))
        .route("/dashboard/api/graph", get(graph::graph))
        .route("/dashboard/api/preferences", get(preferences::list))
        .route("/dashboard/api/scheduler", get(scheduler::status))
        .route("/dashboard/api/scheduler/retry", post(scheduler::retry))
        .route("/dashboard/api/events", get(scheduler::events))
        .route("/dashboard/api/events/stream", get(scheduler::stream))
        .route("/dashboard/api/caches", get(caches::list))
        .route("/dashboard/api/usage", get(usage::usage))
}

/// What the operations answer.
type Answer = Result<Json<Value>, Refused>;

/// An error of any room below, as it is answered.
#[derive(Debug)]
struct Refused(ApiError);

impl<E: Into<ProductError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(ApiError::from(error.into()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

#[cfg(test)]
mod tests;
