//! A chat model whose answers are counted, and an encoder whose texts are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use mos_core::{
    ChatEvent, ChatModel, ChatRequest, ChatStream, ChatUsage, EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError,
};

use super::in_flight::Reservation;
use super::{Payer, TokenSums, UsageMeter};

/// How long an answer is expected to be when the request does not bound it, in tokens.
const EXPECTED_ANSWER_TOKENS: usize = 1_024;

/// Counts what a model's answers took, and refuses when that was too much.
#[derive(Debug)]
pub(super) struct MeteredChat {
    model: Arc<dyn ChatModel>,
    meter: Arc<UsageMeter>,
    payer: Payer,
}

impl MeteredChat {
    pub(super) fn new(model: Arc<dyn ChatModel>, meter: Arc<UsageMeter>, payer: Payer) -> Self {
        Self { model, meter, payer }
    }
}

#[async_trait]
impl ChatModel for MeteredChat {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn is_local(&self) -> bool {
        self.model.is_local()
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        let prompt_tokens: u64 = request.messages.iter().map(|message| estimated_tokens(&message.text())).sum();
        let longest_answer = request.sampling.as_ref().map_or(EXPECTED_ANSWER_TOKENS, |sampling| sampling.max_tokens);
        let expected_tokens = u64::try_from(longest_answer).unwrap_or(u64::MAX).saturating_add(prompt_tokens);
        let reservation = self.meter.reserve(&self.payer, expected_tokens).await?;
        let stream = self.model.stream(request).await?;
        let tally = Tally {
            meter: Arc::clone(&self.meter),
            payer: self.payer.clone(),
            model: self.model.name().to_owned(),
            so_far: TokenSums { calls: 1, prompt_tokens, ..TokenSums::default() },
            is_counted: false,
            reservation,
        };
        Ok(Counted { stream, tally }.boxed())
    }
}

/// About how many tokens a text has: an ASCII character counts a third of one, any other character one.
fn estimated_tokens(text: &str) -> u64 {
    text.chars().map(|letter| if letter.is_ascii() { 1 } else { 3 }).sum::<u64>().div_ceil(3)
}

/// What an answer took so far; it is counted when the answer is over, or left.
struct Tally {
    meter: Arc<UsageMeter>,
    payer: Payer,
    model: String,
    /// An estimate until the model tells.
    so_far: TokenSums,
    is_counted: bool,
    reservation: Option<Reservation>,
}

impl Tally {
    fn learn(&mut self, usage: &ChatUsage) {
        let count = |tokens: usize| u64::try_from(tokens).unwrap_or(u64::MAX);
        self.so_far = TokenSums {
            calls: 1,
            prompt_tokens: count(usage.prompt_tokens),
            cached_tokens: count(usage.cached_tokens),
            completion_tokens: count(usage.completion_tokens),
            embedded_tokens: 0,
        };
    }

    /// Counts the answer, once, and lets others have what was reserved for it: whoever holds an answer that is over may ask
    /// for the next.
    fn count(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.meter.record(&self.payer, &self.model, self.so_far);
        }
        self.reservation = None;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.count();
    }
}

struct Counted {
    stream: ChatStream,
    tally: Tally,
}

impl Stream for Counted {
    type Item = Result<ChatEvent, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.poll_next_unpin(context);
        if let (Poll::Ready(Some(Ok(_))), Some(reservation)) = (&next, &self.tally.reservation) {
            reservation.note_piece();
        }
        match &next {
            Poll::Ready(Some(Ok(ChatEvent::Text(more)))) => {
                self.tally.so_far.completion_tokens += estimated_tokens(more);
            }
            Poll::Ready(Some(Ok(ChatEvent::Done(usage)))) => {
                self.tally.learn(usage);
                self.tally.count();
            }
            Poll::Ready(Some(Err(_)) | None) => self.tally.count(),
            Poll::Pending => {}
        }
        next
    }
}

/// Counts the tokens of the texts that an encoder is given. It never refuses: whoever has spent a budget can still find what
/// was remembered.
#[derive(Debug)]
pub(super) struct MeteredEmbedder {
    embedder: Arc<dyn Embedder>,
    meter: Arc<UsageMeter>,
    payer: Payer,
}

impl MeteredEmbedder {
    pub(super) fn new(embedder: Arc<dyn Embedder>, meter: Arc<UsageMeter>, payer: Payer) -> Self {
        Self { embedder, meter, payer }
    }
}

#[async_trait]
impl Embedder for MeteredEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Query, queries).await?.vectors)
    }

    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let embedded = self.embedder.embed_counted(purpose, texts).await?;
        if let Some(n_tokens) = embedded.tokens.filter(|n_tokens| *n_tokens > 0) {
            // It has just answered, so that nobody has to be asked for its name.
            let space = self.embedder.space().await?;
            self.meter.record_embedded(&self.payer, &space.model, n_tokens);
        }
        Ok(embedded)
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.embedder.space().await
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        self.embedder.max_tokens().await
    }
}
