//! The record on a Neo4j server. Its tests are passed over without one.

mod equality;
mod import;
mod layout;
mod record;
mod schema;
mod server;
mod trouble;
