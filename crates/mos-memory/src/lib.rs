//! Textual memories of a cube: [`NaiveText`] finds by shared words, [`GeneralText`] by words, meaning, speaker
//! and time, as [`recall`] ranks them, [`TreeText`] likewise in a graph with shelves, which [`organize`] keeps
//! consistent. [`rerank`] puts what was found in order; [`WebSearch`] makes memories of pages of the internet. Beside them
//! [`PrefText`], what users like, and [`LoraPlaceholder`]; [`NoText`] stands for the textual memory that a cube has not.
//!
//! Invariant: this crate knows stores and models only by the traits of `mos-core`. Memories are stored through
//! [`RecordStore::apply`](mos_core::RecordStore::apply), one batch per call.
//!
//! Not here: rights (the facade checks them), the layout of a cube's directory (`mos-cube`).

mod absent;
mod ask;
mod by_scope;
mod conversation;
mod embedded;
mod extract;
mod file;
mod finder;
mod general;
mod moments;
mod naive;
pub mod organize;
mod parametric;
mod preference;
pub mod recall;
mod reembed;
pub mod rerank;
pub mod retrieve;
mod schema;
mod search;
mod shelf;
pub mod time;
pub mod tree;
mod web;

use mos_core::answer;

pub use absent::NoText;
pub use extract::Extractor;
pub use general::{GeneralText, GeneralTextParts};
pub use moments::asked_moment;
pub use naive::NaiveText;
pub use organize::{OrganizeOptions, Organizer, OrganizerParts};
pub use parametric::LoraPlaceholder;
pub use preference::{AddLocks, AddMode, PREFERENCE_FILE_NAME, PrefText, PrefTextParts};
pub use recall::{Recall, RecallOptions};
pub use reembed::{Reembedded, reembed, without_embedding};
pub use shelf::{DEFAULT_FILE_NAME, Shelf};
pub use tree::{TreeMode, TreeOptions, TreeShelves, TreeText, TreeTextParts};
pub use web::{PageCheck, WebSearch, page_memory};
