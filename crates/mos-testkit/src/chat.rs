//! A chat model in this process whose answers are written beforehand; over HTTP there is [`crate::model_server`].

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use mos_core::{ChatEvent, ChatModel, ChatRequest, ChatStream, ChatUsage, FinishReason, ModelError};

type Answerer = Box<dyn Fn(&ChatRequest) -> String + Send + Sync>;

/// Gives its answers in order, then those of a closure when there is one; otherwise it is unavailable. Keeps what it
/// was asked.
pub struct ScriptedChat {
    answers: Mutex<VecDeque<String>>,
    answerer: Option<Answerer>,
    requests: Mutex<Vec<ChatRequest>>,
}

impl std::fmt::Debug for ScriptedChat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedChat").finish_non_exhaustive()
    }
}

impl ScriptedChat {
    /// Returns a model that gives these answers and is unavailable afterwards.
    pub fn new<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Self {
        let answers = answers.into_iter().map(Into::into).collect();
        Self { answers: Mutex::new(answers), answerer: None, requests: Mutex::default() }
    }

    /// Returns a model that answers by a closure over the request.
    pub fn answering(answerer: impl Fn(&ChatRequest) -> String + Send + Sync + 'static) -> Self {
        let mut model = Self::new(Vec::<String>::new());
        model.answerer = Some(Box::new(answerer));
        model
    }

    /// Adds an answer behind the others.
    pub fn reply(&self, answer: impl Into<String>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer.into());
    }

    /// Returns the requests so far, oldest first.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl ChatModel for ScriptedChat {
    fn name(&self) -> &str {
        "scripted"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn context_length(&self) -> Option<usize> {
        None
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        let written = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let answer = written.or_else(|| self.answerer.as_ref().map(|answer| answer(&request)));
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let answer = answer.ok_or_else(|| ModelError::Unavailable("the script has no more answers".to_owned()))?;
        let usage = ChatUsage {
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            time_to_first_token: Duration::ZERO,
            finish: FinishReason::Stop,
            tool_calls: Vec::new(),
        };
        Ok(futures::stream::iter([Ok(ChatEvent::Text(answer)), Ok(ChatEvent::Done(usage))]).boxed())
    }
}
