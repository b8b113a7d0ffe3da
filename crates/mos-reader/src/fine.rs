//! What a model draws from a conversation, as far as its turns support it.

mod check;
mod extract;
pub(crate) mod support;

pub(crate) use extract::{Asking, draw};
