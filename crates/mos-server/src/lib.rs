//! The HTTP side of `mos`.
//!
//! Handlers parse, call [`mos::product`], and render; nothing is decided here but who calls and how much they may send. The
//! router is a function of the state, so tests need no socket.
//!
//! Invariants: every route is listed as it is registered ([`operations`]), and every one but those of [`server::PUBLIC`] has a
//! caller, found by its key; logs carry no memory text; every body, stream, list and wait is bounded.

mod audit;
mod auth;
mod dashboard;
mod error;
mod extract;
mod guard;
mod mcp;
mod metrics;
mod openapi;
mod options;
mod routes;
mod server;
mod sse;
mod state;
#[cfg(feature = "opentelemetry")]
pub mod telemetry;

pub use auth::first_key;
pub use error::ApiError;
pub use mcp::{McpServer, serve_stdio};
pub use options::{AuthMode, RateLimit, ServerOptions, Telemetry, check};
pub use routes::Route;
pub use server::{PUBLIC, Server, operations, router};
pub use state::ServerState;
