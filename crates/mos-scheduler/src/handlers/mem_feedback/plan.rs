//! What was decided about a correction.

use mos_core::MemoryId;
use serde::{Deserialize, Serialize};

/// Everything that is to be done, decided once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) unchanged: Vec<MemoryId>,
    pub(super) reasons: Vec<String>,
}

/// One change. `before` is the [`fingerprint`] of the text that it was decided on: a memory that says something else by then
/// is left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Step {
    /// A new memory.
    Add {
        id: MemoryId,
        text: String,
        key: Option<String>,
        /// The memories that it is about.
        about: Vec<MemoryId>,
        reason: String,
    },
    /// Another text.
    Update {
        id: MemoryId,
        before: String,
        text: String,
        /// Other memories that the text takes something from.
        #[serde(default)]
        about: Vec<MemoryId>,
        reason: String,
    },
    /// A word by another one.
    Replace { id: MemoryId, before: String, from: String, to: String },
    /// Out of use.
    Archive {
        id: MemoryId,
        before: String,
        /// The new memory that takes its place, by the id that its own step names.
        successor: Option<MemoryId>,
        reason: String,
    },
}

/// Tells a text from others, shortly.
pub(super) fn fingerprint(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}
