//! Every route, by dialect.

pub(crate) mod admin;
pub(crate) mod dream;
pub(crate) mod health;
pub(crate) mod openai;
pub(crate) mod openmem;
pub(crate) mod product;
mod table;

use crate::dashboard;
use crate::{metrics, openapi};

pub use table::Route;
pub(crate) use table::{Routes, delete, get, post, put};

/// Returns all routes, without the layers around them.
pub(crate) fn all() -> Routes {
    let dialects = Routes::new().merge(product::routes()).merge(dream::routes());
    let others = Routes::new().merge(openai::routes()).merge(openmem::routes());
    let own = Routes::new().merge(health::routes()).merge(admin::routes()).merge(metrics::routes());
    own.merge(dashboard::routes()).merge(dialects).merge(others).merge(openapi::routes())
}
