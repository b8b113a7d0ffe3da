//! Between text and tokens: tokenizer, chat template, streaming detokenisation.

mod codec;
mod gguf_pieces;
mod gguf_tokenizer;
mod prompt;
mod streamer;
mod template;

pub(crate) use codec::{TextCodec, read_tokenizer};
pub(crate) use prompt::{ControlTexts, PromptText};
pub(crate) use streamer::{Streamed, TextStreamer};
pub(crate) use template::ChatTemplate;
