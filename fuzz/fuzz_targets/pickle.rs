//! Upstream's activation memories: any bytes give items or an error, and tensors stay within the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mos_kv::read_upstream_items;

fuzz_target!(|bytes: &[u8]| {
    let Ok(items) = read_upstream_items(bytes) else { return };
    let mut elements = 0;
    for layer in items.iter().flat_map(|item| &item.layers) {
        assert_eq!(layer.keys.shape(), layer.values.shape());
        for tensor in [&layer.keys, &layer.values] {
            let rows = tensor.to_f32();
            assert_eq!(rows.len(), tensor.heads() * tensor.tokens() * tensor.head_dim());
            elements += rows.len();
            if let Ok(halves) = tensor.to_f16_bits() {
                assert_eq!(halves.len(), rows.len());
            }
        }
    }
    // Two bytes an element, at most twice the file and a mebibyte.
    assert!(elements <= bytes.len() + (1 << 19), "{elements} elements from {} bytes", bytes.len());
});
