//! What a server gains that is shown the memories before the question comes.

use std::sync::Arc;

use futures::StreamExt;
use mos_core::{ChatEvent, ChatModel, ChatRequest, Message, Sampling};
use serde::Serialize;

use super::measure::median;
use super::text::prose;
use crate::error::KvError;

/// English prose has about this many bytes a token.
const BYTES_PER_TOKEN: usize = 4;
/// No server takes more tokens in one prompt.
const MAX_TOKENS: usize = 10_000_000;
/// The most tokens of an answer: only the first one counts.
const ANSWER_TOKENS: usize = 8;

/// What is measured.
#[derive(Clone, Debug)]
pub struct PreloadBenchOptions {
    /// Tokens of the memories, about.
    pub memories: Vec<usize>,
    /// Tokens of the conversation that follows, about.
    pub contexts: Vec<usize>,
    /// Times are medians of this many runs.
    pub runs: usize,
    /// Stands before every text, so that what a server kept of earlier measurements does not help.
    pub salt: String,
}

/// One cell. Times are seconds until the first text of the answer, medians of the runs.
#[derive(Clone, Debug, Serialize)]
pub struct PreloadCell {
    /// Tokens of the memories, about.
    pub memory: usize,
    /// Tokens of the conversation, about.
    pub context: usize,
    /// Without preloading.
    pub without_s: f64,
    /// After the server was shown the memories.
    pub with_s: f64,
    /// The one by the other.
    pub speedup: f64,
    /// The one less the other.
    pub difference_s: f64,
}

/// Measures every cell: each run asks once about memories that the server has not seen, and once about others that it
/// was shown before.
///
/// # Errors
/// [`KvError::Invalid`] for options that make no sense; errors of the server.
pub async fn bench_preload(
    model: &Arc<dyn ChatModel>,
    options: &PreloadBenchOptions,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<PreloadCell>, KvError> {
    if options.memories.is_empty() || options.contexts.is_empty() || options.runs == 0 {
        return Err(KvError::Invalid("memories, contexts and runs must be at least 1".to_owned()));
    }
    if let Some(count) = options.memories.iter().chain(&options.contexts).find(|count| **count > MAX_TOKENS) {
        return Err(KvError::Invalid(format!("{count} tokens are more than any server takes; at most {MAX_TOKENS}")));
    }
    let mut cells = Vec::new();
    let mut number = 0;
    for &memory in &options.memories {
        for &context in &options.contexts {
            progress(&format!("memories of {memory} tokens, conversation of {context}"));
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for _ in 0..options.runs {
                for is_preloaded in [false, true] {
                    number += 1;
                    let memories = Message::system(salted(&options.salt, number, memory));
                    let question = Message::user(prose(number, context * BYTES_PER_TOKEN));
                    if is_preloaded {
                        let alone = vec![memories.clone(), Message::user("Ready?")];
                        first_text(model, alone, 1).await?;
                    }
                    let seconds = first_text(model, vec![memories, question], ANSWER_TOKENS).await?;
                    if is_preloaded { with.push(seconds) } else { without.push(seconds) }
                }
            }
            let (without_s, with_s) = (median(without), median(with));
            let speedup = without_s / with_s;
            let difference_s = without_s - with_s;
            cells.push(PreloadCell { memory, context, without_s, with_s, speedup, difference_s });
        }
    }
    Ok(cells)
}

fn salted(salt: &str, number: usize, tokens: usize) -> String {
    format!("{salt} {number}. {}", prose(number, tokens * BYTES_PER_TOKEN))
}

/// Seconds from the request to the first text; the answer is read to its end, so that the server is free again.
async fn first_text(model: &Arc<dyn ChatModel>, messages: Vec<Message>, max_tokens: usize) -> Result<f64, KvError> {
    let sampling = Some(Sampling { max_tokens, ..Sampling::default() });
    let start = std::time::Instant::now();
    let mut answer = model.stream(ChatRequest { messages, sampling, ..ChatRequest::default() }).await?;
    let mut seconds = None;
    while let Some(event) = answer.next().await {
        match event? {
            ChatEvent::Text(_) => seconds = seconds.or_else(|| Some(start.elapsed().as_secs_f64())),
            ChatEvent::Done(_) => break,
        }
    }
    // An answer without text counts to its end.
    Ok(seconds.unwrap_or_else(|| start.elapsed().as_secs_f64()))
}
