//! Vectors of texts that were embedded lately: a question that is asked of several cubes is embedded once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use mos_core::{EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};
use tokio::sync::OnceCell;

/// How many texts are remembered: some 2 MB of vectors.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");

/// Longer texts are not remembered: they are documents, which are embedded once.
const MAX_TEXT_BYTES: usize = 2048;

/// An encoder that remembers the vectors of single short texts, which questions are.
#[derive(Debug)]
pub(crate) struct CachedEmbedder {
    inner: Arc<dyn Embedder>,
    /// By what the text is for and the text: an encoder may tell questions from what answers them.
    recent: Mutex<LruCache<(EmbedUse, String), Arc<Vector>>>,
}

/// A vector that is computed once, for all who wait for it.
type Vector = OnceCell<Vec<f32>>;

impl CachedEmbedder {
    pub(crate) fn new(inner: Arc<dyn Embedder>) -> Self {
        Self { inner, recent: Mutex::new(LruCache::new(CAPACITY)) }
    }

    /// Forgets every text.
    pub(crate) fn clear(&self) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns the vector of one text, and what it took.
    async fn embed_one(&self, purpose: EmbedUse, texts: &[String]) -> Result<(Vec<f32>, Option<u64>), ModelError> {
        let Embedded { vectors, tokens } = self.inner.embed_counted(purpose, texts).await?;
        let n_vectors = vectors.len();
        let vector = vectors.into_iter().next().filter(|_| n_vectors == 1).ok_or_else(|| {
            ModelError::BadAnswer(format!("the encoder returned {n_vectors} vectors for one text; check the encoder"))
        })?;
        Ok((vector, tokens))
    }
}

#[async_trait]
impl Embedder for CachedEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Query, queries).await?.vectors)
    }

    /// What is remembered takes no tokens.
    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let text = match texts {
            [text] if text.len() <= MAX_TEXT_BYTES => text,
            _ => return self.inner.embed_counted(purpose, texts).await,
        };
        let cell = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(recent.get_or_insert((purpose, text.clone()), Arc::default))
        };
        // Cubes that ask for the same text at the same time wait for one computation; other texts do not wait.
        let took = OnceLock::new();
        let vector = cell.get_or_try_init(|| async {
            let (vector, tokens) = self.embed_one(purpose, texts).await?;
            took.get_or_init(|| tokens);
            Ok::<_, ModelError>(vector)
        });
        let vectors = vec![vector.await?.clone()];
        Ok(Embedded { vectors, tokens: took.into_inner().unwrap_or(Some(0)) })
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.inner.space().await
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        self.inner.max_tokens().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl Embedder for Counting {
        async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
            self.0.fetch_add(texts.len(), Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
        }

        async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
            Ok(EmbeddingSpace { model: "counting".to_owned(), dimension: 1 })
        }
    }

    /// An encoder whose tokens are words.
    #[derive(Debug)]
    struct Telling;

    #[async_trait]
    impl Embedder for Telling {
        async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
            Ok(vec![vec![1.0]; texts.len()])
        }

        async fn embed_counted(&self, _: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
            let n_words: usize = texts.iter().map(|text| text.split(' ').count()).sum();
            Ok(Embedded { vectors: self.embed(texts).await?, tokens: Some(n_words as u64) })
        }

        async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
            Ok(EmbeddingSpace { model: "telling".to_owned(), dimension: 1 })
        }
    }

    #[tokio::test]
    async fn a_question_is_embedded_once_also_when_asked_at_the_same_time() {
        let counting = Arc::new(Counting::default());
        let cached = CachedEmbedder::new(counting.clone());
        let question = vec!["who?".to_owned()];
        let (one, two) = tokio::join!(cached.embed(&question), cached.embed(&question));
        assert_eq!((one.unwrap(), two.unwrap()), (vec![vec![4.0]], vec![vec![4.0]]));
        assert_eq!(counting.0.load(Ordering::SeqCst), 1);
        cached.embed(&["x".repeat(MAX_TEXT_BYTES + 1)]).await.unwrap();
        cached.embed(&["a".to_owned(), "b".to_owned()]).await.unwrap();
        assert_eq!(counting.0.load(Ordering::SeqCst), 4, "documents and batches pass through");
        cached.embed_queries(&question).await.unwrap();
        cached.embed_queries(&question).await.unwrap();
        assert_eq!(counting.0.load(Ordering::SeqCst), 5, "a question is not what answers it");
    }

    #[tokio::test]
    async fn what_is_remembered_takes_no_tokens() {
        let cached = CachedEmbedder::new(Arc::new(Telling));
        let took = async |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            cached.embed_counted(EmbedUse::Query, &texts).await.unwrap().tokens
        };
        assert_eq!((took(&["a b c"]).await, took(&["a b c"]).await), (Some(3), Some(0)));
        assert_eq!(took(&["a b c", "d"]).await, Some(4));
    }
}
