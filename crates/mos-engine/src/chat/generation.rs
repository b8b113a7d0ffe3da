//! One answer on its way, computed step by step.

use std::time::Instant;

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};
use mos_core::{ChatEvent, ChatUsage, FinishReason, ModelError, Sampling};
use tokio::sync::mpsc::UnboundedSender;

use super::kept::{KeptStates, Start, common_prefix};
use super::model::Engine;
use crate::decoder::{CancelToken, LogitRows};
use crate::error::internal;
use crate::kv::{KvPrefix, KvTail};
use crate::text::{PromptText, Streamed, TextStreamer};

/// A conversation, ready to be answered.
pub(super) struct Job {
    /// The conversation as the model sees it; empty when only its tokens are known.
    pub(super) text: PromptText,
    /// All tokens, those of the caller's prefix included.
    pub(super) tokens: Vec<u32>,
    /// What the caller computed already; used as it is.
    pub(super) prefix: Option<KvPrefix>,
    /// How many of the tokens belong to the stable base.
    pub(super) stable_tokens: usize,
    pub(super) sampling: Sampling,
    pub(super) context_length: usize,
    pub(super) no_cache: bool,
    /// Who shares what is kept of this conversation.
    pub(super) cache_scope: String,
    pub(super) asked: Instant,
    /// Never holds more than `max_tokens` texts, so it needs no other bound.
    pub(super) events: UnboundedSender<Result<ChatEvent, ModelError>>,
    pub(super) cancel: CancelToken,
}

/// What a step led to.
pub(super) enum Progress {
    More,
    Finished,
}

pub(super) struct Generation {
    job: Job,
    tokens: Vec<u32>,
    stable_tokens: usize,
    cached_tokens: usize,
    prefix: KvPrefix,
    tail: KvTail,
    sampler: LogitsProcessor,
    streamer: TextStreamer,
    /// Logits for the next token; empty while the prompt is being computed.
    logits: Vec<f32>,
    generated: Vec<u32>,
    first_text_at: Option<Instant>,
}

impl Generation {
    /// Finds out what need not be computed.
    pub(super) fn new(engine: &Engine, kept: &mut KeptStates, mut job: Job) -> Result<Self, ModelError> {
        let rendered = std::mem::take(&mut job.tokens);
        // States are kept by their tokens, which say nothing about how an inexact prefix was made.
        job.no_cache |= job.prefix.as_ref().is_some_and(|prefix| !prefix.is_exact());
        let given = job.prefix.take().unwrap_or_default();
        let Start { tokens, prefix, tail } = if job.no_cache {
            Start { tokens: rendered.clone(), prefix: given, tail: engine.decoder.new_tail() }
        } else if given.is_empty() {
            kept.start(&engine.decoder, &engine.codec, &job.cache_scope, &job.text, rendered.clone())?
        } else {
            kept.start_after(&engine.decoder, &job.cache_scope, given, rendered.clone())
        };
        let stable_tokens = if job.no_cache { 0 } else { job.stable_tokens.min(common_prefix(&rendered, &tokens)) };
        Ok(Self {
            stable_tokens: stable_tokens.min(tokens.len() - 1),
            cached_tokens: prefix.len() + tail.len(),
            sampler: LogitsProcessor::from_sampling(job.sampling.seed, candle_sampling(&job.sampling)),
            streamer: TextStreamer::new(&job.sampling.stop),
            job,
            tokens,
            prefix,
            tail,
            logits: Vec::new(),
            generated: Vec::new(),
            first_text_at: None,
        })
    }

    /// Computes a chunk of the prompt, or one token of the answer.
    pub(super) fn step(&mut self, engine: &Engine, kept: &mut KeptStates) -> Result<Progress, ModelError> {
        if self.job.cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        if self.logits.is_empty() {
            self.prefill(engine, kept)?;
            return Ok(Progress::More);
        }
        let token = self.sample()?;
        if engine.codec.is_end(token) {
            return self.finish(engine, FinishReason::Stop);
        }
        self.generated.push(token);
        match self.streamer.push(&engine.codec, token)? {
            Streamed::Stopped(text) => {
                self.send_text(text);
                self.send_done(FinishReason::Stop);
                return Ok(Progress::Finished);
            }
            Streamed::Text(text) => self.send_text(text),
        }
        let used = self.tokens.len() + self.generated.len();
        if self.generated.len() >= self.job.sampling.max_tokens || used >= self.job.context_length {
            return self.finish(engine, FinishReason::Length);
        }
        self.logits = self.forward(engine, &[token], LogitRows::Last)?;
        Ok(Progress::More)
    }

    fn prefill(&mut self, engine: &Engine, kept: &mut KeptStates) -> Result<(), ModelError> {
        let start = self.prefix.len() + self.tail.len();
        // The stable base ends a chunk, so that it can be kept by itself.
        let border = if start < self.stable_tokens { self.stable_tokens } else { self.tokens.len() };
        let end = start + engine.decoder.next_chunk(border - start);
        let want = if end == self.tokens.len() { LogitRows::Last } else { LogitRows::None };
        let chunk = self.tokens[start..end].to_vec();
        self.logits = self.forward(engine, &chunk, want)?;
        if end == self.stable_tokens {
            let tail = std::mem::replace(&mut self.tail, engine.decoder.new_tail());
            self.prefix.push(std::sync::Arc::new(tail.freeze()?));
            kept.keep_prefix(&self.job.cache_scope, self.prefix.clone(), engine.decoder.new_tail());
        }
        Ok(())
    }

    fn forward(&mut self, engine: &Engine, tokens: &[u32], want: LogitRows) -> Result<Vec<f32>, ModelError> {
        engine.decoder.forward(tokens, &self.prefix, &mut self.tail, want, &self.job.cancel)
    }

    fn sample(&mut self) -> Result<u32, ModelError> {
        let logits = std::mem::take(&mut self.logits);
        let count = logits.len();
        Tensor::from_vec(logits, count, &Device::Cpu)
            .and_then(|logits| self.sampler.sample(&logits))
            .map_err(|error| internal("choosing a token", error))
    }

    fn finish(&mut self, engine: &Engine, reason: FinishReason) -> Result<Progress, ModelError> {
        let (text, reason) = match self.streamer.finish(&engine.codec)? {
            Streamed::Text(text) => (text, reason),
            Streamed::Stopped(text) => (text, FinishReason::Stop),
        };
        self.send_text(text);
        self.send_done(reason);
        Ok(Progress::Finished)
    }

    fn send_text(&mut self, text: String) {
        if !text.is_empty() {
            self.first_text_at.get_or_insert_with(Instant::now);
            self.send(Ok(ChatEvent::Text(text)));
        }
    }

    fn send_done(&mut self, finish: FinishReason) {
        let first = self.first_text_at.unwrap_or_else(Instant::now);
        self.send(Ok(ChatEvent::Done(ChatUsage {
            prompt_tokens: self.tokens.len(),
            cached_tokens: self.cached_tokens,
            completion_tokens: self.generated.len(),
            time_to_first_token: first.duration_since(self.job.asked),
            finish,
            tool_calls: Vec::new(),
        })));
    }

    fn send(&self, event: Result<ChatEvent, ModelError>) {
        // Nobody listens any more: the next step sees that the answer was cancelled.
        if self.job.events.send(event).is_err() {
            self.job.cancel.cancel();
        }
    }

    /// Tells the listener that the answer cannot be made.
    pub(super) fn fail(&self, error: ModelError) {
        self.send(Err(error));
    }

    /// Keeps what was computed for the next conversation, however this one ended.
    pub(super) fn keep(mut self, engine: &Engine, kept: &mut KeptStates) -> Result<(), ModelError> {
        if self.job.no_cache {
            return Ok(());
        }
        let computed = self.prefix.len() + self.tail.len();
        // The last token of an answer is known, but not computed.
        let text = match computed.checked_sub(self.tokens.len()) {
            Some(answered) if !self.job.text.is_empty() => {
                self.job.text.push_answer(&engine.codec.decode(&self.generated[..answered], true)?);
                self.job.text
            }
            _ => PromptText::default(),
        };
        kept.keep_session(self.job.cache_scope, text, self.prefix, self.tail);
        Ok(())
    }
}

/// Refuses settings that mean nothing.
pub(super) fn check_sampling(sampling: &Sampling) -> Result<(), ModelError> {
    let Sampling { temperature, top_p, max_tokens, .. } = sampling;
    if !(temperature.is_finite() && *temperature >= 0.0) {
        return Err(ModelError::Invalid(format!("the temperature is {temperature}; it must be 0 or more")));
    }
    if !(*top_p > 0.0 && *top_p <= 1.0) {
        return Err(ModelError::Invalid(format!("top_p is {top_p}; it must be above 0 and at most 1")));
    }
    if *max_tokens == 0 {
        return Err(ModelError::Invalid("max_tokens is 0; it must be at least 1".to_owned()));
    }
    Ok(())
}

fn candle_sampling(sampling: &Sampling) -> CandleSampling {
    let &Sampling { temperature, top_p: p, top_k: k, .. } = sampling;
    match (temperature < 1e-7, k > 0, p < 1.0) {
        (true, ..) => CandleSampling::ArgMax,
        (_, false, false) => CandleSampling::All { temperature },
        (_, true, false) => CandleSampling::TopK { k, temperature },
        (_, false, true) => CandleSampling::TopP { p, temperature },
        (_, true, true) => CandleSampling::TopKThenTopP { k, p, temperature },
    }
}
