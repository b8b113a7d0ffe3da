//! The record on a Neo4j server. Its tests are passed over without one.

mod equality;
mod import;
mod layout;
#[cfg(feature = "redis")]
mod outbox;
mod record;
mod schema;
mod server;
mod trouble;
