//! What happens around recall: what a question is after, which of the found memories say the same, how many of each kind are
//! returned, and searching again when what was found does not answer. The searches of `general_text` and `tree_text` put
//! these together.
//!
//! - [`Retrieval`]: the models and services that take part.
//! - [`Goal`]: the question, understood; without a model the question itself.
//! - [`sub_questions`]: a hard question as several easier ones.
//! - `relativity`: scores of every kind from 0 to 1. `fusion`: what several queries found, as one.
//! - `duplicates`: memories that repeat better ones are left out, by text, by meaning, or weighed against relevance.
//! - [`Limits`]: at most so many of each kind.
//! - [`deepen`]: asks a model whether the memories answer the question, and searches for what is missing.
//!
//! Invariant: nothing here reads or writes a store; a model that fails costs what it would have added, never a hit.

mod deep;
pub(crate) mod duplicates;
pub(crate) mod fusion;
mod goal;
mod limits;
mod parts;
mod prompts;
pub(crate) mod relativity;
mod split;

pub use deep::{Deepened, MAX_STAGES, deepen};
pub use goal::Goal;
pub use limits::Limits;
pub(crate) use limits::is_tool_or_skill;
pub use parts::Retrieval;
pub use split::{MAX_SUB_QUESTIONS, sub_questions};
