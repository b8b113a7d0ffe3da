//! Errors with the file and the remedy in them.

use std::path::Path;

use mos_core::{BoxError, ModelError};

/// Returns an error that says why a model's file cannot be used.
pub(crate) fn bad_model(path: &Path, detail: impl std::fmt::Display) -> ModelError {
    ModelError::BadModel(format!("{}: {detail}", path.display()))
}

/// Returns an error that says that a computation left the numbers: `what` are not finite.
pub(crate) fn not_finite(what: &str) -> ModelError {
    ModelError::BadModel(format!(
        "the model's {what} are not finite numbers: its weights, or the kept keys and values that it was given, are \
         damaged, or it needs a wider range than half precision has; fetch the model again, or serve it with an \
         OpenAI-compatible server"
    ))
}

/// Returns an error that says that a device could not compute.
pub(crate) fn device_failed(error: candle_core::Error) -> ModelError {
    let text = error.to_string();
    if text.to_lowercase().replace('_', " ").contains("out of memory") {
        let text = text.lines().next().unwrap_or_default();
        return ModelError::Unavailable(format!(
            "the memory of the device that computes is full ({text}); use a smaller model, a smaller context_length or \
             kept_state_bytes, or `device: cpu`"
        ));
    }
    internal("computing on a device", error)
}

/// Returns an error that only a defect of ours or of a library can cause.
pub(crate) fn internal(context: &'static str, source: impl Into<BoxError>) -> ModelError {
    ModelError::Internal { context, source: source.into() }
}
