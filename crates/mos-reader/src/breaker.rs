//! A model that is not asked for ever when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mos_core::{ChatModel, ChatRequest, ChatStream, ModelError};

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
        if self.n_failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return Err(ModelError::Unavailable(format!(
                "the model `{}` failed {MAX_FAILURES} times in a row and is not asked about the rest; see the first failures, \
                 and try again",
                self.model.name()
            )));
        }
        let answered = self.model.stream(request).await;
        match &answered {
            Ok(_) => self.n_failures.store(0, Ordering::Relaxed),
            // The question may be the reason: the next one is another.
            Err(ModelError::Invalid(_)) => {}
            Err(_) => {
                self.n_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use mos_core::Message;
    use mos_testkit::chat::ScriptedChat;

    use super::*;

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
