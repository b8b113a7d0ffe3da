//! What an operation of the product API answers when it succeeds.

use serde::Serialize;

/// `{"code": 200, "message", "data"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply<T> {
    /// Always 200.
    pub code: u16,
    /// A literal that clients compare.
    pub message: String,
    /// The result.
    pub data: T,
}

impl<T> Reply<T> {
    /// Returns the answer with a message and the result.
    pub fn new(message: impl Into<String>, data: T) -> Self {
        Self { code: 200, message: message.into(), data }
    }
}
