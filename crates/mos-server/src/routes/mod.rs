//! Every route, by dialect.

pub(crate) mod admin;
pub(crate) mod dream;
pub(crate) mod health;
pub(crate) mod openai;
mod openmem;
pub(crate) mod product;

use axum::Router;

use crate::dashboard;
use crate::state::ServerState;
use crate::{metrics, openapi};

/// Returns all routes, without the layers around them.
pub(crate) fn all() -> Router<ServerState> {
    let dialects = Router::new().merge(product::routes()).merge(dream::routes());
    let others = Router::new().merge(openai::routes()).merge(openmem::routes());
    let own = Router::new().merge(health::routes()).merge(admin::routes()).merge(metrics::routes());
    own.merge(dashboard::routes()).merge(dialects).merge(others).merge(openapi::routes())
}
