//! A second server that is asked when the first one fails.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ChatModel, ChatRequest, ChatStream, EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};

/// Asks a second model once when the first one fails before its first text.
#[derive(Debug)]
pub struct BackupChat {
    first: Arc<dyn ChatModel>,
    second: Arc<dyn ChatModel>,
}

impl BackupChat {
    /// Returns the pair as one model, under the first one's name.
    pub fn open(first: Arc<dyn ChatModel>, second: Arc<dyn ChatModel>) -> Arc<dyn ChatModel> {
        Arc::new(Self { first, second })
    }
}

#[async_trait]
impl ChatModel for BackupChat {
    fn name(&self) -> &str {
        self.first.name()
    }

    fn is_local(&self) -> bool {
        self.first.is_local()
    }

    fn context_length(&self) -> Option<usize> {
        // A conversation must fit both.
        [self.first.context_length(), self.second.context_length()].into_iter().flatten().min()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        match self.first.stream(request.clone()).await {
            Err(error) => {
                tracing::warn!(error = error.without_quotes(), backup = self.second.name(), "asking the backup server");
                self.second.stream(request).await
            }
            answer => answer,
        }
    }
}

/// Asks a second encoder once when the first one fails. Both must make vectors of the same length; that they come
/// from the same model is the configuration's promise.
#[derive(Debug)]
pub struct BackupEmbedder {
    first: Arc<dyn Embedder>,
    second: Arc<dyn Embedder>,
}

impl BackupEmbedder {
    /// Returns the pair as one encoder.
    pub fn open(first: Arc<dyn Embedder>, second: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        Arc::new(Self { first, second })
    }
}

#[async_trait]
impl Embedder for BackupEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Query, queries).await?.vectors)
    }

    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        match self.first.embed_counted(purpose, texts).await {
            Err(error) => {
                tracing::warn!(error = error.without_quotes(), "asking the backup server");
                self.second.embed_counted(purpose, texts).await
            }
            embedded => embedded,
        }
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        match self.first.space().await {
            Err(_) => self.second.space().await,
            space => space,
        }
    }

    /// Either of the two may be asked.
    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        let limits = [self.first.max_tokens().await?, self.second.max_tokens().await?];
        Ok(limits.into_iter().flatten().min())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Mutex;

    use mos_core::Message;
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Keeps the fields of all events.
    #[derive(Clone, Debug, Default)]
    struct Told(Arc<Mutex<String>>);

    impl Visit for Told {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.lock().unwrap().push_str(&format!("{}={value:?}; ", field.name()));
        }
    }

    impl Subscriber for Told {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    /// Fails with what it is asked.
    #[derive(Debug)]
    struct Quoting(fn(String) -> ModelError);

    #[async_trait]
    impl ChatModel for Quoting {
        fn name(&self) -> &str {
            "quoting"
        }

        fn is_local(&self) -> bool {
            false
        }

        fn context_length(&self) -> Option<usize> {
            None
        }

        async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
            Err((self.0)(format!("it makes no sense: {}", request.messages[0].text())))
        }
    }

    #[async_trait]
    impl Embedder for Quoting {
        async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
            Err((self.0)(format!("it makes no sense: {}", texts.concat())))
        }

        async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
            Err(ModelError::Unavailable("away".to_owned()))
        }
    }

    type Fault = fn(String) -> ModelError;

    #[tokio::test]
    async fn the_log_says_that_a_server_failed_and_quotes_no_text() {
        let told = Told::default();
        let _listening = tracing::subscriber::set_default(told.clone());
        let cases: [(Fault, &str); 2] =
            [(ModelError::BadAnswer, "its answer broke off"), (ModelError::Invalid, "it refused the request")];
        for (fail, why) in cases {
            told.0.lock().unwrap().clear();
            let chat = BackupChat::open(Arc::new(Quoting(fail)), Arc::new(Quoting(fail)));
            let request = ChatRequest { messages: vec![Message::user("my secret")], ..ChatRequest::default() };
            assert!(chat.stream(request).await.err().unwrap().to_string().contains("my secret"));
            let encoder = BackupEmbedder::open(Arc::new(Quoting(fail)), Arc::new(Quoting(fail)));
            assert!(encoder.embed(&["my secret".to_owned()]).await.unwrap_err().to_string().contains("my secret"));
            let log = told.0.lock().unwrap().clone();
            assert_eq!(log.matches(why).count(), 2, "{log}");
            assert!(!log.contains("my secret"), "{log}");
        }
        let away = ModelError::Unavailable("http://a cannot be reached".to_owned()).without_quotes();
        assert_eq!(away, "http://a cannot be reached");
    }
}
