//! Chat models that count what they are asked and what that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use mos::config::ChatModelConfig;
use mos::{ChatModelFactory, Factories};
use mos_core::{ChatEvent, ChatModel, ChatRequest, ChatStream, ModelError};
use serde::Serialize;

/// What a language model was asked, and what that took by its own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Questions that were put to it, those that were not answered included.
    pub requests: u64,
    /// Answers that came to their end.
    pub answers: u64,
    /// Tokens of the questions that were answered.
    pub prompt: u64,
    /// Tokens of the answers.
    pub completion: u64,
}

/// Adds up what models take.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    requests: AtomicU64,
    answers: AtomicU64,
    prompt: AtomicU64,
    completion: AtomicU64,
}

impl Counter {
    /// Returns what was taken so far.
    pub(crate) fn tokens(&self) -> Tokens {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Tokens {
            requests: read(&self.requests),
            answers: read(&self.answers),
            prompt: read(&self.prompt),
            completion: read(&self.completion),
        }
    }

    fn answered(&self, prompt_tokens: usize, completion_tokens: usize) {
        let count = |tokens: usize| u64::try_from(tokens).unwrap_or(u64::MAX);
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.prompt.fetch_add(count(prompt_tokens), Ordering::Relaxed);
        self.completion.fetch_add(count(completion_tokens), Ordering::Relaxed);
    }
}

/// Returns the constructors of this build, whose chat models are counted by `counter`.
pub(crate) fn factories(counter: &Arc<Counter>) -> Factories {
    let inner = Factories::default();
    let mut counted = inner.clone();
    for key in ChatModelConfig::KEYS {
        let (inner, counter) = (inner.clone(), Arc::clone(counter));
        let factory: ChatModelFactory = Arc::new(move |config, context| {
            let (inner, counter) = (inner.clone(), Arc::clone(&counter));
            async move {
                let model = inner.chat_model(config, context).await?;
                let counted: Arc<dyn ChatModel> = Arc::new(CountedChat { model, counter });
                Ok::<_, ModelError>(counted)
            }
            .boxed()
        });
        counted.add_chat_model(*key, factory);
    }
    counted
}

#[derive(Debug)]
struct CountedChat {
    model: Arc<dyn ChatModel>,
    counter: Arc<Counter>,
}

#[async_trait]
impl ChatModel for CountedChat {
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
        self.counter.requests.fetch_add(1, Ordering::Relaxed);
        let stream = self.model.stream(request).await?;
        let counter = Arc::clone(&self.counter);
        let counted = stream.inspect(move |event| {
            if let Ok(ChatEvent::Done(usage)) = event {
                counter.answered(usage.prompt_tokens, usage.completion_tokens);
            }
        });
        Ok(counted.boxed())
    }
}
