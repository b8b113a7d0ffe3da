//! Answers in pieces, in OpenAI's shape.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use mos_core::{ChatEvent, ChatUsage, ModelError};
use serde_json::{Value, json};

use super::super::app::Product;
use super::super::chat::Turn;
use super::super::pieces::{Piece, ThinkSplitter};
use super::answer::{Head, Share, finish_reason, numbered_calls, usage_of};
use super::completion::Answering;
use super::error::OpenAiError;
use crate::facade::ChatReply;

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum CompletionEvent {
    /// A `chat.completion.chunk`.
    Chunk(Value),
    /// Why the answer broke off; nothing follows.
    Failed(OpenAiError),
    /// The answer is whole (`[DONE]`); nothing follows.
    Done,
}

/// The pieces of an answer as they come. Dropping it cancels the answer, which is not remembered then.
pub type CompletionStream = BoxStream<'static, CompletionEvent>;

/// Tells an answer while it is made.
pub(super) struct Telling {
    product: Product,
    reply: ChatReply,
    head: Head,
    /// Until the answer is remembered.
    turn: Option<Turn>,
    includes_usage: bool,
    think: ThinkSplitter,
    answer: String,
    share: Share,
    ready: VecDeque<CompletionEvent>,
    is_over: bool,
}

impl Telling {
    /// Returns what tells an answer, with its first piece ready.
    pub(super) fn new(product: Product, answering: Answering, includes_usage: bool) -> Self {
        let Answering { reply, head, explained, turn } = answering;
        let mut telling = Self {
            product,
            reply,
            head,
            turn: Some(turn),
            includes_usage,
            think: ThinkSplitter::default(),
            answer: String::new(),
            share: Share::default(),
            ready: VecDeque::new(),
            is_over: false,
        };
        let mut first = telling.head.chunk(json!({"role": "assistant", "content": "", "refusal": null}), None);
        if let Some(explained) = explained {
            first["mos"] = explained;
        }
        telling.tell(first);
        telling
    }

    /// Returns the pieces as they come.
    pub(super) fn stream(self) -> CompletionStream {
        let events = stream::unfold(self, |mut telling| async move {
            let event = telling.next().await?;
            Some((event, telling))
        });
        events.boxed()
    }

    async fn next(&mut self) -> Option<CompletionEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            match self.reply.next().await {
                Some(Ok(ChatEvent::Text(more))) => {
                    let pieces = self.think.push(&more);
                    self.pieces(pieces);
                }
                Some(Ok(ChatEvent::Done(usage))) => self.finish(&usage),
                Some(Err(error)) => self.fail(error),
                None => {
                    self.fail(ModelError::BadAnswer("the answer broke off before its end; try again".to_owned()));
                }
            }
        }
    }

    fn pieces(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let delta = match piece {
                Piece::Reasoning(more) => {
                    self.share.thought += more.chars().count();
                    json!({"reasoning_content": more})
                }
                Piece::Text(more) => {
                    self.share.said += more.chars().count();
                    self.answer.push_str(&more);
                    json!({"content": more})
                }
            };
            self.tell(self.head.chunk(delta, None));
        }
    }

    fn finish(&mut self, usage: &ChatUsage) {
        let pieces = self.think.finish();
        self.pieces(pieces);
        if !usage.tool_calls.is_empty() {
            self.tell(self.head.chunk(json!({"tool_calls": numbered_calls(&usage.tool_calls)}), None));
        }
        self.tell(self.head.chunk(json!({}), Some(finish_reason(usage))));
        if self.includes_usage {
            self.tell(self.head.usage_chunk(usage_of(usage, self.share)));
        }
        self.ready.push_back(CompletionEvent::Done);
        self.is_over = true;
        if let Some(turn) = self.turn.take().filter(|_| usage.tool_calls.is_empty()) {
            self.product.keep_completion(turn, &self.answer);
        }
    }

    fn fail(&mut self, error: ModelError) {
        self.ready.push_back(CompletionEvent::Failed(error.into()));
        self.is_over = true;
    }

    /// Passes a piece on. Where the last one tells what the answer took, the others say that they do not.
    fn tell(&mut self, mut chunk: Value) {
        if self.includes_usage && chunk.get("usage").is_none() {
            chunk["usage"] = Value::Null;
        }
        self.ready.push_back(CompletionEvent::Chunk(chunk));
    }
}
