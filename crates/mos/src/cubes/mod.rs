//! Cubes on their way: where they come from, and how they leave.
//!
//! Here: the sources of a cube that is registered (git and hub repositories become a directory first), dumps of chosen
//! memories, one file of a cube. Not here: what a dump looks like (`mos-cube`), who owns what (the facade's `cubes`).

mod git;
mod hub;
mod moving;
mod source;

pub use git::GitSource;
pub use hub::HubSource;
pub use moving::{Exported, Imported};
pub use source::RegisterOptions;

pub(crate) use source::OpenedCube;
