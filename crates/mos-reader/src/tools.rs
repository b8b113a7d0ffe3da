//! Tools: their descriptions in system prompts, and how they were used.

mod schema;
mod trajectory;

pub(crate) use schema::tool_schemas;
pub(crate) use trajectory::{TrajectoryReader, check_calls};
