//! What is in the log, and what is not.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mos_core::{
    Embedder, EmbeddingSpace, Filter, ModelError, PreferenceMemory, RecordStore, SearchRequest, TextMemory,
};
use mos_memory::{GeneralText, GeneralTextParts, PrefText, PrefTextParts, Recall, RecallOptions};
use mos_stores::{ExactVectors, TextAnalyzer};
use mos_testkit::embedder::WordEmbedder;

use crate::preference::{parts, preferences, stated};
use crate::{item, origin, shelf, store};

/// What a test must not find in the log.
pub(crate) const SECRET: &str = "wombatville";

/// What was logged, as text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what this thread logs, details too, until what is returned is dropped.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        let listening = tracing::subscriber::set_default(subscriber);
        tracing::debug!("listening");
        listening
    }

    /// Returns what was logged, when there was listening.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("listening"), "{text}");
        text
    }
}

/// Embeds nothing, and repeats what it was given, as servers do.
#[derive(Debug)]
pub(crate) struct Quoting;

#[async_trait]
impl Embedder for Quoting {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Err(ModelError::Invalid(format!("the request was refused: {}", texts.concat())))
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        WordEmbedder::new("words", 256).space().await
    }
}

fn general(record: &Arc<dyn RecordStore>, embedder: Arc<dyn Embedder>) -> GeneralText {
    let (vectors, analyzer) = (ExactVectors::following(Arc::clone(record)), Arc::new(TextAnalyzer::new()));
    let recall = Recall::following(Arc::clone(record), vectors, analyzer, RecallOptions::default());
    GeneralText::new(GeneralTextParts { shelf: shelf(record, "general"), recall, embedder })
}

#[tokio::test]
async fn texts_that_an_encoder_repeats_are_in_no_log() {
    let (_folder, record) = store();
    let words = Arc::new(WordEmbedder::new("words", 256));
    general(&record, words).add(vec![item(1, "tea")], origin().into()).await.unwrap();
    preferences(&record).add(vec![stated(2, "likes tea")], origin().into()).await.unwrap();
    let general = general(&record, Arc::new(Quoting));
    let preferences = PrefText::new(PrefTextParts { embedder: Arc::new(Quoting), ..parts(&record, None) });

    let log = Log::default();
    let listening = log.listen();
    let errors = [
        general.add(vec![item(3, SECRET)], origin().into()).await.unwrap_err(),
        general.search(&SearchRequest::new(SECRET, 5)).await.unwrap_err(),
        preferences.add(vec![stated(4, SECRET)], origin().into()).await.unwrap_err(),
        preferences.search(SECRET, 5, &Filter::Everything).await.unwrap_err(),
    ];
    drop(listening);
    assert!(errors.iter().all(|error| error.to_string().contains(SECRET)), "whoever asked is told: {errors:?}");
    let text = log.text();
    assert!(!text.contains(SECRET), "{text}");
}
