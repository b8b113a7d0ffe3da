//! Errors in OpenAI's shape.

use std::fmt;
use std::time::Duration;

use mos_core::{MemoryError, ModelError};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::super::chat::told;
use super::super::error::ProductError;
use crate::error::Error;

/// Why a request in OpenAI's shape failed; its JSON is `{"error": {"message", "type", "param", "code"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAiError {
    /// The status of HTTP.
    pub status: u16,
    /// What is told to the caller. It holds no secret and nothing of other users.
    pub message: String,
    /// What kind of error it is, in OpenAI's words: `invalid_request_error`, `rate_limit_error`, `server_error` ...
    pub kind: &'static str,
    /// The field of the request that is to blame, when it is one.
    pub param: Option<String>,
    /// What programs compare, for errors that have a code: `model_not_found`, `context_length_exceeded` ...
    pub code: Option<&'static str>,
    /// How long to wait before the next attempt, when that is known.
    pub retry_after: Option<Duration>,
}

/// What an operation in OpenAI's shape returns.
pub type OpenAiResult<T> = Result<T, OpenAiError>;

impl OpenAiError {
    /// Returns an error of this status, with the kind and the code that go with it.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        let (kind, code) = match status {
            401 => ("authentication_error", Some("invalid_api_key")),
            403 => ("permission_error", Some("permission_denied")),
            429 => ("rate_limit_error", Some("rate_limit_exceeded")),
            400..=499 => ("invalid_request_error", None),
            503 => ("server_error", Some("service_unavailable")),
            _ => ("server_error", None),
        };
        Self { status, message: message.into(), kind, param: None, code, retry_after: None }
    }

    /// Returns the error of a field that cannot be used: 400.
    pub(super) fn field(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(name.into()), code: Some("invalid_value"), ..Self::new(400, message) }
    }

    /// Returns the error of something that is asked for and not done here: 400.
    pub(super) fn unsupported(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::field(name, message) }
    }

    /// Returns the error of a model that nobody has configured: 404.
    pub(super) fn unknown_model(name: &str, known: &[String]) -> Self {
        let message = format!("The model `{name}` does not exist here; use one of: {}", known.join(", "));
        Self { param: Some("model".to_owned()), code: Some("model_not_found"), ..Self::new(404, message) }
    }
}

impl fmt::Display for OpenAiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OpenAiError {}

impl Serialize for OpenAiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let error = json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code});
        json!({"error": error}).serialize(serializer)
    }
}

impl From<ProductError> for OpenAiError {
    fn from(error: ProductError) -> Self {
        let status = if error.status == 422 { 400 } else { error.status };
        let param = error.detail.first().map(|issue| {
            let path =
                issue.loc.iter().skip(1).map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
            path.collect::<Vec<_>>().join(".")
        });
        Self { param, ..Self::new(status, error.message) }
    }
}

impl From<Error> for OpenAiError {
    fn from(error: Error) -> Self {
        let (kind, code, retry_after) = match &error {
            Error::Memory(MemoryError::Model(ModelError::TooLong { .. })) => {
                ("invalid_request_error", "context_length_exceeded", None)
            }
            Error::Memory(MemoryError::Model(ModelError::BudgetSpent { .. })) => {
                ("insufficient_quota", "insufficient_quota", None)
            }
            Error::Memory(MemoryError::Model(ModelError::RateLimited { retry_after })) => {
                ("rate_limit_error", "rate_limit_exceeded", *retry_after)
            }
            _ => return told(error).into(),
        };
        Self { kind, code: Some(code), retry_after, ..told(error).into() }
    }
}

impl From<ModelError> for OpenAiError {
    fn from(error: ModelError) -> Self {
        Error::from(error).into()
    }
}

impl From<MemoryError> for OpenAiError {
    fn from(error: MemoryError) -> Self {
        Error::from(error).into()
    }
}

/// Returns the text of a value that should be one.
pub(super) fn text_of<'a>(value: &'a Value, name: &str) -> OpenAiResult<&'a str> {
    value.as_str().ok_or_else(|| OpenAiError::field(name, format!("`{name}` should be a string")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_openais_four_fields_and_the_status_that_goes_with_it() {
        let error = OpenAiError::unknown_model("huge", &["mos".to_owned(), "small".to_owned()]);
        let message = "The model `huge` does not exist here; use one of: mos, small";
        let expected = json!({"error": {"message": message, "type": "invalid_request_error", "param": "model",
            "code": "model_not_found"}});
        assert_eq!((error.status, json!(error)), (404, expected));
        let too_long = OpenAiError::from(ModelError::TooLong { n_tokens: 9, limit: 8 });
        assert_eq!((too_long.status, too_long.code), (400, Some("context_length_exceeded")));
        let busy = OpenAiError::from(ModelError::RateLimited { retry_after: Some(Duration::from_secs(3)) });
        assert_eq!((busy.status, busy.retry_after), (429, Some(Duration::from_secs(3))));
        let hidden = OpenAiError::from(ModelError::Unavailable("http://10.0.0.1 is away".to_owned()));
        assert_eq!((hidden.status, hidden.kind), (503, "server_error"));
        assert!(!hidden.message.contains("10.0.0.1"), "{hidden}");
        assert_eq!(OpenAiError::from(ProductError::forbidden("no")).kind, "permission_error");
    }
}
