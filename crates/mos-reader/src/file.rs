//! Files: their content, its chunks, and the memories of them.

pub(crate) mod data;
mod pictures;
mod read;
mod summary;
mod version;

pub(crate) use pictures::Looking;
pub(crate) use read::{FileReader, FileReading};
pub use version::lasting_id;
