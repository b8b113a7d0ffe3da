//! What files and environments load as, and what is said about those that do not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod automatic;
mod compat;
mod container;
mod environment;
mod errors;
mod ready_to_run;
mod retrieval;

use std::path::PathBuf;

/// Returns a path in the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..").join(path)
}

/// Returns the environment that a test wants.
fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
