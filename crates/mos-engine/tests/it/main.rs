//! The engine on real and on tiny models.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_files;
mod caches;
mod chat;
mod embedder;
mod reference;
mod support;
