//! What an operation of the product API answers when it fails: one table from errors to statuses.

use std::fmt;

use mos_core::{MemoryError, ModelError, StoreError};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::read::Issue;
use crate::error::Error;

/// Why an operation failed, in the shape of the API: `{"code", "message", "data": null}`, and `detail` for faults of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductError {
    /// The status of HTTP.
    pub status: u16,
    /// What is told to the caller. It holds no secret and nothing of other users.
    pub message: String,
    /// The faults of a request.
    pub detail: Vec<Issue>,
}

/// What an operation of the product API returns.
pub type ProductResult<T> = Result<T, ProductError>;

impl ProductError {
    /// Returns an error of this status.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), detail: Vec::new() }
    }

    /// Returns the error of a request with faults: 422.
    pub fn refused(detail: Vec<Issue>) -> Self {
        let faults: Vec<String> = detail
            .iter()
            .map(|issue| {
                let place: Vec<String> = issue.loc.iter().map(shown).collect();
                format!("[{}] {} (type: {})", place.join(" -> "), issue.msg, issue.kind)
            })
            .collect();
        Self { status: 422, message: format!("Parameter validation error: {}", faults.join("; ")), detail }
    }

    /// Returns the error of a value that cannot be used: 400.
    pub fn bad_value(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// Returns the error of a caller that may not do this: 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }
}

fn shown(part: &Value) -> String {
    part.as_str().map_or_else(|| part.to_string(), str::to_owned)
}

impl fmt::Display for ProductError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProductError {}

impl Serialize for ProductError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = json!({"code": self.status, "message": self.message, "data": null});
        if !self.detail.is_empty() {
            body["detail"] = json!(self.detail);
        }
        body.serialize(serializer)
    }
}

impl From<Error> for ProductError {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::UnknownUser(_) | Error::NoCube(_) | Error::Invalid(_) | Error::NotRegistered(_) => 400,
            Error::NoAccess { .. }
            | Error::NotOwner { .. }
            | Error::NotWriter { .. }
            | Error::NotAllowed { .. }
            | Error::Plugin { .. } => 403,
            Error::Config(_) => 500,
            Error::Memory(error) => memory_status(error),
        };
        if let Error::Memory(MemoryError::Model(ModelError::BadAnswer(_))) = &error {
            // It quotes what the model said, which may be what the model was told: neither for the log nor for the caller.
            tracing::error!("the answer of a model broke off or could not be used; `mos doctor` asks each of them");
            return Self::new(500, "the answer of the model broke off or could not be used; try again");
        }
        if let Error::Memory(MemoryError::Model(unusable)) = &error
            && matches!(
                unusable,
                ModelError::NotFound(_) | ModelError::BadModel(_) | ModelError::NotBuilt { .. } | ModelError::Denied(_)
            )
        {
            tracing::error!(%error, "a model cannot be used");
            return Self::new(500, "a model that is needed cannot be used here; the log of the server tells why");
        }
        if status == 500 {
            // Addresses and paths of the installation are in the log alone.
            tracing::error!(error = error.without_quotes(), "an operation failed");
            return Self::new(500, "the operation failed inside; the log of the server tells why");
        }
        let is_away = match &error {
            Error::Memory(MemoryError::Model(error)) => error.is_away(),
            Error::Memory(MemoryError::Store(error)) => matches!(error, StoreError::Unavailable { .. }),
            _ => false,
        };
        if is_away {
            tracing::warn!(%error, "something that is needed cannot be reached");
            return Self::new(503, "something that is needed cannot be reached at the moment; try again later");
        }
        Self::new(status, error.to_string())
    }
}

fn memory_status(error: &MemoryError) -> u16 {
    match error {
        MemoryError::Invalid(_) | MemoryError::Validation(_) | MemoryError::Unsupported(_) => 400,
        MemoryError::NotFound(_) => 404,
        MemoryError::Store(error) => store_status(error),
        MemoryError::Model(error) => model_status(error),
        _ => 500,
    }
}

fn store_status(error: &StoreError) -> u16 {
    match error {
        StoreError::Invalid(_) => 400,
        StoreError::NotFound { .. } => 404,
        StoreError::Conflict(_) | StoreError::EmbeddingSpace { .. } => 409,
        StoreError::Full { .. } | StoreError::Busy { .. } | StoreError::Unavailable { .. } => 503,
        _ => 500,
    }
}

fn model_status(error: &ModelError) -> u16 {
    match error {
        ModelError::TooLong { .. } | ModelError::Invalid(_) => 400,
        ModelError::RateLimited { .. } | ModelError::BudgetSpent { .. } => 429,
        error if error.is_away() => 503,
        _ => 500,
    }
}

impl From<MemoryError> for ProductError {
    fn from(error: MemoryError) -> Self {
        Error::from(error).into()
    }
}

impl From<StoreError> for ProductError {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<ModelError> for ProductError {
    fn from(error: ModelError) -> Self {
        Error::from(error).into()
    }
}
