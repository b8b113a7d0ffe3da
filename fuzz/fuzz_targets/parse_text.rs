//! Files of text: any bytes, under a name that their first byte chooses, give a document or an error.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mos_reader::fetch::{base64_bytes, data_url};
use mos_reader::parse::{ParseLimits, parse};

const NAMES: [&str; 8] = ["a.txt", "a.md", "a.html", "a.csv", "a.json", "a.jsonl", "a.pdf", "a"];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let limits = ParseLimits {
        max_bytes: 1 << 20,
        max_unpacked_bytes: 1 << 20,
        timeout: Duration::from_secs(20),
        ..ParseLimits::default()
    };
    if let Ok(document) = parse(Some(NAMES[usize::from(*first) % NAMES.len()]), rest, &limits) {
        assert!(document.blocks.iter().all(|block| !block.text.is_empty() && block.text.trim() == block.text));
    }
    if let Ok(text) = std::str::from_utf8(rest) {
        assert!(base64_bytes(text, 64).is_ok_and(|bytes| bytes.len() <= 64) || base64_bytes(text, 64).is_err());
        let _ = std::hint::black_box(data_url(text, 64));
    }
});
