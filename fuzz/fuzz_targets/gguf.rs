//! GGUF files: any bytes give a summary or an error, and a model or an error. Settings, tokenizer, template and weights
//! are read each by itself, so that damage in one does not hide the others.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use mos_engine::{gguf_summary, read_gguf};
use tempfile::TempDir;

/// Where temporary files stay in memory, on systems that have such a place.
const MEMORY: &str = "/dev/shm";

thread_local! {
    /// The readers map a file, and look for others beside it: one folder of its own serves all runs.
    static FOLDER: TempDir = folder();
}

fn folder() -> TempDir {
    let folder = if Path::new(MEMORY).is_dir() { TempDir::new_in(MEMORY) } else { TempDir::new() };
    folder.expect("a temporary folder can be made")
}

fuzz_target!(|bytes: &[u8]| {
    let file: PathBuf = FOLDER.with(|folder| folder.path().join("fuzzed.gguf"));
    std::fs::write(&file, bytes).expect("it can be written");
    // What the file says is its own affair; saying it must not break the readers.
    let _ = std::hint::black_box(gguf_summary(&file));
    let _ = std::hint::black_box(read_gguf(&file));
});
