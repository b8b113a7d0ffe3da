//! Heads of GGUF files: any bytes give a summary or an error.
#![no_main]

use std::cell::RefCell;
use std::io::{Seek, Write};

use libfuzzer_sys::fuzz_target;
use mos_engine::gguf_summary;
use tempfile::NamedTempFile;

thread_local! {
    /// The reader maps a file: one serves all runs.
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a temporary file can be made"));
}

fuzz_target!(|bytes: &[u8]| {
    FILE.with_borrow_mut(|file| {
        let handle = file.as_file_mut();
        handle
            .set_len(0)
            .and_then(|()| handle.rewind())
            .and_then(|()| handle.write_all(bytes))
            .expect("it can be written");
        // What the file says is its own affair; saying it must not break the reader.
        let _ = std::hint::black_box(gguf_summary(file.path()));
    });
});
