//! Files of items: any bytes give an item or an error. The checksum would stop nearly every changed file at once, so
//! the target also tries the file with the checksum that its content has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mos_kv::decode_item;

const FIELD: &[u8] = b"\"checksum\":\"";
const DIGITS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut mended = bytes.to_vec();
    if mend(&mut mended).is_some() {
        read(&mended);
    }
});

fn read(bytes: &[u8]) {
    let Ok(item) = decode_item(bytes, "the fuzzed file") else { return };
    let Some(segment) = item.segment() else { return };
    let shape = segment.shape();
    for layer in 0..shape.layers {
        let len = shape.kv_heads * shape.head_dim * segment.len();
        assert_eq!((segment.keys(layer).len(), segment.values(layer).len()), (len, len));
    }
}

/// Writes the checksum of the content into the header, as the writer does.
fn mend(bytes: &mut [u8]) -> Option<()> {
    let header = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?.checked_add(8)?;
    let at = bytes.get(..header)?.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    bytes.get_mut(at..at + DIGITS)?.fill(b'0');
    let checksum = blake3::hash(bytes).to_hex();
    bytes[at..at + DIGITS].copy_from_slice(checksum.as_bytes());
    Some(())
}
