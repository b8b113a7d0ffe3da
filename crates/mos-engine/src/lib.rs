//! Local inference with candle: a decoder with explicit caches, a sentence encoder, chat templates.
//!
//! [`LocalChatModel`] and [`LocalEmbedder`] are what programs open; [`Decoder`], [`KvSegment`], [`KvPrefix`] and
//! [`KvTail`] are for those that manage caches themselves.
//!
//! Invariant: the result of a computation depends on tokens and weights alone, bit by bit; not on chunks, kept
//! prefixes, threads, or the processor's instructions. (K-quants go through candle's kernels: there the processor may
//! show.)
//!
//! Not here: storing caches, fetching models, prompts.

mod chat;
mod compute;
mod cpu;
mod decoder;
mod encoder;
mod error;
mod kv;
mod summary;
mod text;
mod weights;

pub use chat::{ChatModelOptions, LocalChatModel};
pub use cpu::cpu_path;
pub use decoder::{ArchSpec, CHUNK_TOKENS, CancelToken, Decoder, Fingerprint, LogitRows, RopeLayout, RopeScaling};
pub use encoder::{EmbedderOptions, LocalEmbedder};
pub use kv::{KvPrefix, KvSegment, KvShape, KvTail};
pub use summary::{GgufSummary, gguf_summary};
