//! Raw input to memories: conversations, texts, files, images, tool calls and skills.
//!
//! ```text
//! input ── sorted ──┬─ turns ── windows ─────────┬─ raw memories (fast)
//!                   │                            └─ model ── filter ── memories (fine)
//!                   ├─ files ── fetch, parse, chunk ── chunks ── model ── summaries and raw files
//!                   │                └─ images in them ─┐
//!                   ├─ images ── vision model ──────────┴─ descriptions
//!                   ├─ tool calls and results ── trajectories ── experience
//!                   ├─ tool schemas in system prompts
//!                   └─ archives of skills
//! ```
//!
//! Invariants: reading stores nothing ([`store()`] does, through the traits of `mos-core`); what a model says is kept only
//! as far as the source supports it, and whatever it says, the raw input stays; ids follow from the content. The crate knows
//! models and memories only by the traits of `mos-core`.
//!
//! Not here: how memories are kept (`mos-memory`), rights and choosing a reader (the facade).

mod breaker;
pub mod chunk;
pub mod fetch;
mod file;
mod fine;
mod held;
mod identity;
mod image;
mod item;
mod options;
pub mod parse;
mod place;
mod prompts;
mod python_json;
mod quarantine;
mod reader;
pub mod skill;
mod sorted;
mod store;
mod tools;
mod turn;
mod window;

pub use file::lasting_id;
pub use fine::support::check_support;
pub use held::Held;
pub use options::{ConversationCut, ReaderKind, ReaderOptions};
pub use quarantine::{Sign, keep_all_apart, keep_changed_apart, signs};
pub use reader::{Reader, ReaderParts};
pub use store::{REPLACED, Stored, store, store_over};
