//! What happens around recall: what a question is after, which of the found memories say the same, how many of each kind are
//! returned, and searching again when what was found does not answer.
//!
//! - [`Goal`]: the question, understood; without a model the question itself.
//! - [`sub_questions`]: a hard question as several easier ones.
//! - [`Duplicates`]: memories that repeat better ones are left out, by text, by meaning, or weighed against relevance.
//! - [`Limits`]: at most so many of each kind.
//! - [`deepen`]: asks a model whether the memories answer the question, and searches for what is missing.
//!
//! Invariant: nothing here reads or writes a store; a model that fails costs what it would have added, never a hit.

mod deep;
mod duplicates;
mod goal;
mod limits;
mod prompts;
mod split;

pub use deep::{Deepened, MAX_STAGES, deepen};
pub use duplicates::Duplicates;
pub use goal::Goal;
pub use limits::Limits;
pub use split::{MAX_SUB_QUESTIONS, sub_questions};
