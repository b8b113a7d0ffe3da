//! Errors as HTTP has them.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mos::product::ProductError;
use serde_json::json;

/// An error that is answered: a status, the envelope, and headers that go with it.
#[derive(Debug)]
pub struct ApiError {
    error: ProductError,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// Returns an error of this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ProductError::new(status.as_u16(), message).into()
    }

    /// Returns the error of a caller without a good key: 401, with the way to authenticate.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, message);
        error.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Names the operation in the message of a refused request, as MemOS does.
    #[must_use]
    pub fn on(mut self, method: &str, path: &str) -> Self {
        if self.error.status == 422 {
            let faults = self.error.message.strip_prefix("Parameter validation error: ");
            if let Some(faults) = faults.map(str::to_owned) {
                self.error.message = format!("Parameter validation error on {method} {path}: {faults}");
            }
        }
        self
    }

    /// What is told to the caller.
    pub fn error(&self) -> &ProductError {
        &self.error
    }
}

impl From<ProductError> for ApiError {
    fn from(error: ProductError) -> Self {
        Self { error, headers: Vec::new() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!(self.error);
        // What frameworks of other clients look at.
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) && body.get("detail").is_none() {
            body["detail"] = json!(self.error.message);
        }
        let mut response = (status, Json(body)).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
