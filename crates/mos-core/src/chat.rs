//! Models that answer conversations.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ModelError;
use crate::id::ActivationId;
use crate::message::Message;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy: always the likeliest token.
    pub temperature: f64,
    /// Keep the likeliest tokens whose probabilities sum to this; 1 keeps all.
    pub top_p: f64,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Seed of the random choice; the same seed gives the same answer on the same model and machine.
    pub seed: u64,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// The answer ends before the first of these texts.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, max_tokens: 512, stop: Vec::new() }
    }
}

/// A conversation that waits for an answer.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// How to choose tokens; `None` takes the model's configured way.
    pub sampling: Option<Sampling>,
    /// Activation memory that stands before the conversation; local models only.
    pub prefix: Option<ActivationId>,
    /// How many of the first messages are the stable base that other conversations share. A local model keeps
    /// the computed state of this prefix for them; remote models ignore it.
    pub stable_messages: usize,
    /// Computes everything anew, as if nothing had been kept from earlier requests (for measurements).
    pub no_cache: bool,
    /// Who shares what a local model keeps computed: only requests of the same scope. Whoever serves several users
    /// gives each a scope of their own, or answers tell by their speed what others have asked.
    pub cache_scope: String,
    /// The JSON schema that the answer should fit. A server that can is made to keep to it; others, and models in this
    /// process, answer as they like, so that who asks still checks the answer.
    pub answer_schema: Option<Value>,
    /// Tools that the model may call, in OpenAI's form (`{"type": "function", "function": {"name": ...}}`). What it
    /// wants called is in [`ChatUsage::tool_calls`]. Models in this process know them only from the conversation.
    pub tools: Vec<Value>,
    /// What of the tools must be called; `None` leaves it to the model. Who cannot make a model do so refuses the request;
    /// models in this process call no tools, and do not heed it.
    pub tool_choice: Option<ToolChoice>,
}

/// What of the tools must be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// One of them, or several.
    Any,
    /// The one of this name.
    Named(String),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model was done, or a stop text came.
    Stop,
    /// `max_tokens` or the model's context was used up.
    Length,
}

/// What an answer took, and what it is besides its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatUsage {
    /// Tokens of the conversation.
    pub prompt_tokens: usize,
    /// How many of them were not computed because their state was kept.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
    /// From the request to the first text.
    pub time_to_first_token: Duration,
    /// Why the answer ended.
    pub finish: FinishReason,
    /// What the model wants called, in the order it said so, as [`Message::tool_calls`] takes it:
    /// `{"id": ..., "type": "function", "function": {"name": ..., "arguments": JSON as text}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatEvent {
    /// More text; whole characters only.
    Text(String),
    /// The end; always last, exactly once, when there was no error.
    Done(ChatUsage),
}

/// An answer as it is being made. Dropping it cancels the generation.
pub type ChatStream = BoxStream<'static, Result<ChatEvent, ModelError>>;

/// Answers conversations.
#[async_trait]
pub trait ChatModel: fmt::Debug + Send + Sync {
    /// The model's name.
    fn name(&self) -> &str;

    /// Whether the model runs in this process, so that kept state (prefixes) makes answers start sooner and the
    /// order "stable text first" pays.
    fn is_local(&self) -> bool;

    /// The most tokens of conversation and answer together, when it is known.
    fn context_length(&self) -> Option<usize>;

    /// Starts an answer.
    ///
    /// # Errors
    /// [`ModelError`] when the conversation is refused or the model cannot be reached. Errors after the start
    /// come in the stream.
    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError>;

    /// Returns the whole answer.
    ///
    /// # Errors
    /// As [`ChatModel::stream`], and any error of the stream: a part of an answer is never returned as a whole.
    async fn complete(&self, request: ChatRequest) -> Result<(String, ChatUsage), ModelError> {
        let mut stream = self.stream(request).await?;
        let mut text = String::new();
        while let Some(event) = stream.next().await {
            match event? {
                ChatEvent::Text(more) => text.push_str(&more),
                ChatEvent::Done(usage) => return Ok((text, usage)),
            }
        }
        Err(ModelError::BadAnswer("the answer broke off before its end; try again".to_owned()))
    }
}
