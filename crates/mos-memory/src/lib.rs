//! Textual memories of a cube: [`NaiveText`] finds by shared words, [`GeneralText`] by words, meaning, speaker
//! and time, as [`recall`] ranks them. [`rerank`] puts what was found in order; [`WebSearch`] makes memories of pages of
//! the internet.
//!
//! Invariant: this crate knows stores and models only by the traits of `mos-core`. Memories are stored through
//! [`RecordStore::apply`](mos_core::RecordStore::apply), one batch per call.
//!
//! Not here: rights (the facade checks them), the layout of a cube's directory (`mos-cube`).

mod ask;
mod embedded;
mod file;
mod general;
mod naive;
pub mod recall;
mod reembed;
pub mod rerank;
pub mod retrieve;
mod shelf;
pub mod time;
mod web;

pub use general::{GeneralText, GeneralTextParts};
pub use naive::NaiveText;
pub use recall::{Recall, RecallOptions};
pub use reembed::{Reembedded, reembed};
pub use shelf::{DEFAULT_FILE_NAME, Shelf};
pub use web::{WebSearch, page_memory};
