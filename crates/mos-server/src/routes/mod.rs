//! Every route, by dialect.

pub(crate) mod admin;
pub(crate) mod dream;
pub(crate) mod health;
pub(crate) mod product;

use axum::Router;

use crate::state::ServerState;
use crate::{metrics, openapi};

/// Returns all routes, without the layers around them.
pub(crate) fn all() -> Router<ServerState> {
    let dialects = Router::new().merge(product::routes()).merge(dream::routes());
    let own = Router::new().merge(health::routes()).merge(admin::routes()).merge(metrics::routes());
    own.merge(dialects).merge(openapi::routes())
}
