//! Chat with memory, models and embeddings in OpenAI's shapes, for clients that know no others.
//!
//! The conversation is the one that the client sends; memories of the user are put into it, and the turn is remembered once
//! its answer is whole. Answers have every field of OpenAI's, and beside them `mos`: what was recalled for it.

mod answer;
mod completion;
mod context;
mod embeddings;
mod error;
mod models;
mod request;
mod stream;

pub use completion::ChatCompletion;
pub use context::CompletionContext;
pub use error::{OpenAiError, OpenAiResult};
pub use stream::{CompletionEvent, CompletionStream};
