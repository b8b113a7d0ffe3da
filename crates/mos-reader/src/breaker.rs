//! A model that is not asked for ever when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mos_core::{ChatModel, ChatRequest, ChatStream, ChatUsage, ModelError};

/// After so many failures in a row a model is not asked any more. Its client has repeated each request by then.
const MAX_FAILURES: usize = 5;

/// A model for the questions about one input, of which there may be thousands.
#[derive(Debug)]
pub(crate) struct Breaker {
    model: Arc<dyn ChatModel>,
    n_failures: AtomicUsize,
}

impl Breaker {
    /// Returns a model that gives up when this one fails again and again.
    pub(crate) fn around(model: Arc<dyn ChatModel>) -> Arc<dyn ChatModel> {
        Arc::new(Self { model, n_failures: AtomicUsize::new(0) })
    }

    /// # Errors
    /// [`ModelError::Unavailable`] after too many failures.
    fn check(&self) -> Result<(), ModelError> {
        if self.n_failures.load(Ordering::Relaxed) < MAX_FAILURES {
            return Ok(());
        }
        Err(ModelError::Unavailable(format!(
            "the model `{}` failed {MAX_FAILURES} times in a row and is not asked about the rest; see the first failures, and \
             try again",
            self.model.name()
        )))
    }

    fn note(&self, error: Option<&ModelError>) {
        match error {
            None => self.n_failures.store(0, Ordering::Relaxed),
            // The question may be the reason: the next one is another.
            Some(ModelError::Invalid(_) | ModelError::TooLong { .. }) => {}
            Some(_) => {
                self.n_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[async_trait]
impl ChatModel for Breaker {
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
        self.check()?;
        let answered = self.model.stream(request).await;
        self.note(answered.as_ref().err());
        answered
    }

    /// An answer that breaks off is a failure, too.
    async fn complete(&self, request: ChatRequest) -> Result<(String, ChatUsage), ModelError> {
        self.check()?;
        let answered = self.model.complete(request).await;
        self.note(answered.as_ref().err());
        answered
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use mos_core::{ChatEvent, Message};
    use mos_testkit::chat::ScriptedChat;

    use super::*;

    /// Refuses long questions, and breaks off all other answers.
    #[derive(Debug, Default)]
    struct Poor {
        n_asked: AtomicUsize,
    }

    #[async_trait]
    impl ChatModel for Poor {
        fn name(&self) -> &str {
            "poor"
        }

        fn is_local(&self) -> bool {
            false
        }

        fn context_length(&self) -> Option<usize> {
            None
        }

        async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
            self.n_asked.fetch_add(1, Ordering::Relaxed);
            match request.messages.len() {
                1 => Ok(futures::stream::iter([Ok(ChatEvent::Text("half".to_owned()))]).boxed()),
                n_tokens => Err(ModelError::TooLong { n_tokens, limit: 1 }),
            }
        }
    }

    #[tokio::test]
    async fn answers_that_break_off_are_failures_and_long_questions_are_not() {
        let inner = Arc::new(Poor::default());
        let model = Breaker::around(inner.clone());
        for (n_messages, n_asked) in [(2, 2 * MAX_FAILURES), (1, 3 * MAX_FAILURES)] {
            for _ in 0..2 * MAX_FAILURES {
                let messages = vec![Message::user("Who?"); n_messages];
                model.complete(ChatRequest { messages, ..ChatRequest::default() }).await.unwrap_err();
            }
            assert_eq!(inner.n_asked.load(Ordering::Relaxed), n_asked);
        }
    }

    #[tokio::test]
    async fn only_failures_in_a_row_end_the_asking() {
        let inner = Arc::new(ScriptedChat::new(["one"]));
        let model = Breaker::around(inner.clone());
        let ask = async || {
            let request = ChatRequest { messages: vec![Message::user("Who?")], ..ChatRequest::default() };
            model.complete(request).await
        };
        ask().await.unwrap();
        for _ in 0..MAX_FAILURES - 1 {
            assert!(ask().await.unwrap_err().to_string().contains("no more answers"));
        }
        inner.reply("well again");
        assert_eq!(ask().await.unwrap().0, "well again");
        for _ in 0..2 * MAX_FAILURES {
            ask().await.unwrap_err();
        }
        assert_eq!(inner.requests().len(), 2 * MAX_FAILURES + 1);
        assert!(ask().await.unwrap_err().to_string().contains("5 times in a row"));
    }
}
