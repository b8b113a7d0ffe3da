//! What every implementation of a store must do: one suite per trait, three lines per backend.
//!
//! Each suite takes a function that makes a fresh, empty store, and panics with the claim that does not hold.

pub mod archive;
pub mod keys;
pub mod queue;
pub mod record;
pub mod rerank;
pub mod scopes;
pub mod state;
pub mod state_scopes;
pub mod users;
pub mod vectors;

mod chosen;
mod embeddings;
mod followed;
mod full_text;
pub mod graph;
mod samples;
mod users_at_once;
