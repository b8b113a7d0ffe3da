//! Files: their content, its chunks, and the memories of them.

pub(crate) mod data;
mod read;

pub(crate) use read::{FileReader, FileReading};
