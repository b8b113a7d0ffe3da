//! Local inference with candle: a decoder with explicit caches, a sentence encoder, a cross-encoder, chat templates.
//!
//! [`LocalChatModel`], [`LocalEmbedder`] and [`LocalCrossEncoder`] are what programs open; [`Decoder`],
//! [`KvSegment`], [`KvPrefix`] and [`KvTail`] are for those that manage caches themselves; [`ModelIdentity`] says whose
//! caches they are.
//!
//! The decoder and the sentence encoder compute with kernels of our own on the processor; candle reads their weights,
//! computes on devices, and runs the cross-encoder.
//!
//! Invariant: on the processor, the result of a computation depends on tokens and weights alone, bit by bit; not on
//! chunks, exact prefixes, other sequences of a batch, threads, or the processor's instructions. (Q2_K and Q3_K go
//! through candle's kernels: there the processor may show. So does the cross-encoder, where the other pairs of a batch
//! may show, too.) On a device the same holds up to rounding. Prefixes that were merged otherwise know that they are not
//! exact.
//!
//! Not here: storing caches, fetching models, prompts.

mod bert;
mod chat;
mod compute;
mod cpu;
mod cross_encoder;
mod decoder;
mod device;
mod encoder;
mod error;
mod identity;
mod kv;
mod sentence_model;
mod summary;
mod text;
mod text_encoder;
mod weights;

pub use chat::{ChatModelOptions, LocalChatModel};
pub use cpu::cpu_path;
pub use cross_encoder::{CrossEncoderOptions, LocalCrossEncoder};
pub use decoder::{
    Activation, ArchSpec, AttentionBias, CHUNK_TOKENS, CancelToken, Decoder, Fingerprint, LogitRows, RandomWeights,
    RopeLayout, RopeScaling, Sequence, SlidingWindow,
};
pub use device::ComputeDevice;
pub use encoder::{EmbedderOptions, LocalEmbedder, Pooling};
pub use identity::ModelIdentity;
pub use kv::{KvPart, KvPrefix, KvSegment, KvShape, KvTail, context_of};
#[doc(hidden)]
pub use summary::read_gguf;
pub use summary::{GgufSummary, gguf_summary};
