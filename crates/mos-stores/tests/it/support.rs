//! What tests of several stores need.

use std::time::Duration;

use mos_core::{ClaimRequest, NewJob};
use serde_json::json;

pub(crate) fn job(name: &str) -> NewJob {
    NewJob::new(name.into(), "label", json!(name))
}

/// Asks for jobs of any cube, for a minute.
pub(crate) fn request(limit: usize) -> ClaimRequest {
    ClaimRequest {
        consumer: "worker".to_owned(),
        limit,
        lease: Duration::from_secs(60),
        weights: mos_core::Weights::default(),
    }
}

/// The text of an error and of all its causes.
#[cfg(any(feature = "neo4j", feature = "qdrant", feature = "redis"))]
pub(crate) fn full_text(error: &mos_core::StoreError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
