//! Errors with the file and the remedy in them.

use std::path::Path;

use mos_core::{BoxError, ModelError};

/// Returns an error that says why a model's file cannot be used.
pub(crate) fn bad_model(path: &Path, detail: impl std::fmt::Display) -> ModelError {
    ModelError::BadModel(format!("{}: {detail}", path.display()))
}

/// Returns an error that only a defect of ours or of a library can cause.
pub(crate) fn internal(context: &'static str, source: impl Into<BoxError>) -> ModelError {
    ModelError::Internal { context, source: source.into() }
}
