//! Writes small files of items, one per encoding, into the folder that is named: seeds for the target `kv_file`.
#![allow(clippy::unwrap_used, reason = "a tool for developers: it stops at the first thing that fails")]

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use mos_core::ActivationId;
use mos_engine::{Fingerprint, KvSegment, KvShape, ModelIdentity, RopeLayout};
use mos_kv::{KvCacheItem, KvEncoding, write_item};

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("name the folder to write to"));
    let shape = KvShape { layers: 2, kv_heads: 2, head_dim: 8 };
    let identity = ModelIdentity {
        weights: Fingerprint([1; 32]),
        tokenizer: [2; 32],
        template: [3; 32],
        rope_layout: RopeLayout::Interleaved,
        name: "seed".to_owned(),
    };
    for (name, encoding, tokens) in [
        ("f16", KvEncoding::F16, 5_u16),
        ("q8", KvEncoding::Q8, 40),
        ("q4", KvEncoding::Q4, 70),
        ("one", KvEncoding::F16, 1),
    ] {
        let rows: Vec<u16> = (0..tokens * 16).map(|number| 0x3c00 + number).collect();
        let segment = KvSegment::from_rows(shape, identity.weights, 0, (0..u32::from(tokens)).collect(), |_| {
            Ok((Cow::Borrowed(&rows), Cow::Borrowed(&rows)))
        });
        let id = serde_json::from_value::<ActivationId>(name.into()).unwrap();
        let mut item = KvCacheItem::new(id, identity.clone(), Arc::new(segment.unwrap()));
        item.metadata.insert("source_text".to_owned(), "a seed".into());
        write_item(&folder.join(format!("{name}.safetensors")), &item, encoding).unwrap();
    }
}
