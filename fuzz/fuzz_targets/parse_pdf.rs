//! PDF: any bytes after the mark of one give a document or an error.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mos_reader::parse::{ParseLimits, parse};

fuzz_target!(|bytes: &[u8]| {
    let limits = ParseLimits {
        max_bytes: 1 << 20,
        max_unpacked_bytes: 4 << 20,
        timeout: Duration::from_secs(20),
        ..ParseLimits::default()
    };
    let file = if bytes.starts_with(b"%PDF-") { bytes.to_vec() } else { [&b"%PDF-1.7\n"[..], bytes].concat() };
    if let Ok(document) = parse(None, &file, &limits) {
        assert!(document.blocks.iter().all(|block| block.position.page.is_some_and(|page| page > 0)));
    }
});
