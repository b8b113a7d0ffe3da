//! The engine on real and on tiny models.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod architectures;
mod bad_files;
mod batch;
mod blend;
mod caches;
mod chat;
mod continuation;
mod cross_encoder;
mod device;
mod device_pairs;
mod embedder;
mod embedder_reference;
mod gemma;
mod merged;
mod numbers;
mod oracle;
mod plain;
mod reference;
mod seeds;
mod segments;
mod support;
mod tiny_gguf;
mod tokenizers;
mod xlm_roberta;
