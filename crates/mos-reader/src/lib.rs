//! Raw input: files become documents, documents become chunks, addresses become files.
//!
//! Not here: HTTP (the models crate implements [`fetch::Fetcher`]), models, stores.

pub mod chunk;
pub mod fetch;
pub mod parse;
