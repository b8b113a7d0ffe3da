//! Files whose sizes are made up, and what is not written.

use std::borrow::Cow;
use std::sync::Arc;

use mos_core::ActivationId;
use mos_engine::{Fingerprint, KvSegment, KvShape, ModelIdentity, RopeLayout};
use serde_json::{Map, Value, json};

use super::layout::{NO_CHECKSUM, blocks, checksum_place};
use super::{Stamp, decode, prepare};
use crate::error::KvError;
use crate::item::KvCacheItem;
use crate::quantize::KvEncoding;

const SHAPE: KvShape = KvShape { layers: 2, kv_heads: 2, head_dim: 16 };

fn item(tokens: u32) -> KvCacheItem {
    let identity = ModelIdentity {
        weights: Fingerprint([1; 32]),
        tokenizer: [2; 32],
        template: [3; 32],
        rope_layout: RopeLayout::Halves,
        name: "small".to_owned(),
    };
    let rows = vec![0x3c00_u16; 2 * 16 * tokens as usize];
    let rows = |_| Ok((Cow::from(&rows), Cow::from(&rows)));
    let segment = KvSegment::from_rows(SHAPE, identity.weights, 0, (0..tokens).collect(), rows).unwrap();
    KvCacheItem::new(ActivationId::new("small"), identity, Arc::new(segment))
}

/// A file whose metadata say `said`, whose tensors are those of `held`, and whose checksum fits.
fn file(said: (KvShape, usize), held: (KvShape, usize), encoding: KvEncoding) -> Vec<u8> {
    let real = item(1);
    let whole = prepare(&real, encoding, Stamp::default()).unwrap().header;
    let mut header: Value = serde_json::from_slice(&whole[8..]).unwrap();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    let (KvShape { layers, kv_heads, head_dim }, tokens) = said;
    for (name, value) in [("layers", layers), ("kv_heads", kv_heads), ("head_dim", head_dim), ("tokens", tokens)] {
        metadata.insert(name.to_owned(), value.to_string().into());
    }
    let mut map = Map::new();
    map.insert("__metadata__".to_owned(), header["__metadata__"].clone());
    let mut end = 0;
    for block in blocks(held.0, held.1, encoding) {
        let start = end;
        end += block.bytes();
        map.insert(
            block.name.clone(),
            json!({"dtype": serde_json::to_value(block.dtype).unwrap(), "shape": block.shape, "data_offsets": [start, end]}),
        );
    }
    let text = serde_json::to_vec(&map).unwrap();
    let mut bytes = [&(text.len() as u64).to_le_bytes(), text.as_slice(), &vec![0; end]].concat();
    let checksum = blake3::hash(&bytes).to_hex();
    let at = checksum_place(&bytes, NO_CHECKSUM).unwrap();
    bytes[at..at + NO_CHECKSUM.len()].copy_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn sizes_that_no_file_holds_are_refused_before_anything_loops_over_them() {
    for encoding in [KvEncoding::F16, KvEncoding::Q8, KvEncoding::Q4] {
        let refused = |said: (KvShape, usize), held: (KvShape, usize)| {
            let error = decode(&file(said, held, encoding), "a file").unwrap_err();
            assert!(matches!(&error, KvError::Damaged { what, .. } if what == "a file"), "{error}");
            error.to_string()
        };
        assert_eq!(decode(&file((SHAPE, 9), (SHAPE, 9), encoding), "a file").unwrap().n_tokens(), 9);
        let many = KvShape { kv_heads: 1 << 40, ..SHAPE };
        assert!(refused((many, 0), (many, 0)).contains("hold 0 tokens"));
        assert!(refused((SHAPE, 0), (SHAPE, 0)).contains("hold 0 tokens"));
        assert!(refused((many, 9), (SHAPE, 9)).contains("1099511627776 heads"));
        assert!(refused((KvShape { kv_heads: usize::MAX, ..SHAPE }, 9), (SHAPE, 9)).contains("heads of 16"));
        assert!(refused((KvShape { head_dim: 0, ..many }, 9), (KvShape { head_dim: 0, ..many }, 9)).contains("of 0"));
        assert!(refused((KvShape { layers: 0, ..SHAPE }, 9), (SHAPE, 9)).contains("0 layers"));
        assert!(refused((KvShape { layers: 90, ..SHAPE }, 9), (SHAPE, 9)).contains("90 layers"));
        assert!(refused((SHAPE, 10), (SHAPE, 9)).contains("instead of"));
    }
}

#[test]
fn keys_of_no_token_are_not_written() {
    let error = prepare(&item(0), KvEncoding::F16, Stamp::default()).err().unwrap();
    assert!(matches!(&error, KvError::Invalid(text) if text.contains("no token")), "{error}");
}
