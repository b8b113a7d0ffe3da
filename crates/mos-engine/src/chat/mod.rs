//! A chat model on this machine.
//!
//! [`LocalChatModel`] renders and tokenises a conversation; one worker thread per loaded model computes, a step of
//! each waiting answer in turn, and keeps what it computed for later conversations.

mod generation;
mod kept;
mod model;
mod options;
mod worker;

pub use model::LocalChatModel;
pub use options::ChatModelOptions;
