//! Models over real HTTP, against a scripted server, and fetching against a local hub.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod chat;
mod embeddings;
mod fetching;
mod fetching_files;
mod formats;
mod local_hub;
mod reranking;
mod searching;

use std::time::Duration;

use mos_models::{HttpOptions, Secret, ServerOptions};

/// The key of every test; it must never be seen.
const KEY: &str = "sk-test-very-private";

/// Options with short waits.
fn server(base_url: String) -> ServerOptions {
    ServerOptions {
        api_key: Some(Secret::new(KEY)),
        http: HttpOptions {
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(60),
            max_retries: 2,
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_secs(2),
            max_body_bytes: 1 << 20,
        },
        ..ServerOptions::new(base_url)
    }
}
