//! Reranking models behind HTTP.

mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::text::first_chars;
use mos_core::{ModelError, Ranked, RerankCandidate, RerankQuery, Reranker};

use crate::http::Server;
use crate::options::ServerOptions;

/// How much is sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerankLimits {
    /// Texts per request.
    pub batch_size: usize,
    /// Bytes of texts per request; a longer single text goes alone.
    pub batch_bytes: usize,
    /// The question is cut at this many characters.
    pub max_query_chars: usize,
    /// Each text is cut at this many characters.
    pub max_document_chars: usize,
}

impl Default for RerankLimits {
    fn default() -> Self {
        Self { batch_size: 64, batch_bytes: 512 << 10, max_query_chars: 8000, max_document_chars: 32_000 }
    }
}

/// How to ask a reranking model behind a server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRerankerOptions {
    /// The server. Its address is asked as it stands, for example `http://host:8080/v1/rerank`.
    pub server: ServerOptions,
    /// The model's name there.
    pub model: String,
    /// The name that explanations of hits show.
    pub name: String,
    /// How much is sent at once.
    pub limits: RerankLimits,
}

impl HttpRerankerOptions {
    /// Returns options for a model at a server, with the defaults of everything else.
    pub fn new(server: ServerOptions, model: impl Into<String>) -> Self {
        Self { server, model: model.into(), name: "http_bge".to_owned(), limits: RerankLimits::default() }
    }
}

/// A reranking model behind a server that takes `{model, query, documents, top_n}`: Jina's, Cohere's, vLLM's,
/// Xinference's and others.
///
/// Scores are those of the server, unchanged.
#[derive(Debug)]
pub struct HttpReranker {
    server: Server,
    options: HttpRerankerOptions,
}

impl HttpReranker {
    /// Returns the model. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for an address or a header that cannot be one, or an empty model name.
    pub fn open(options: HttpRerankerOptions) -> Result<Arc<dyn Reranker>, ModelError> {
        if options.model.trim().is_empty() {
            return Err(ModelError::Invalid("the reranker's model name is empty; set `model`".to_owned()));
        }
        let remedy = format!(
            "check that the reranker's url is the whole address of the endpoint (often it ends in /rerank) and that \
             the model `{}` is served there",
            options.model
        );
        Ok(Arc::new(Self { server: Server::at(&options.server, remedy)?, options }))
    }

    /// Returns one score per document.
    async fn batch(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, ModelError> {
        let answer = self.server.ask("", &wire::request(&self.options.model, query, documents)).await?;
        wire::scores(&answer, documents.len()).map_err(|what| {
            ModelError::BadAnswer(format!(
                "the answer of {} {what}; check that the url is that of a reranking endpoint and the model a \
                 reranking model",
                self.server.place()
            ))
        })
    }
}

#[async_trait]
impl Reranker for HttpReranker {
    fn name(&self) -> &str {
        &self.options.name
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        if candidates.is_empty() || top_k == 0 {
            return Ok(Vec::new());
        }
        let limits = &self.options.limits;
        let query = first_chars(query.text, limits.max_query_chars);
        let documents: Vec<&str> =
            candidates.iter().map(|candidate| first_chars(candidate.text, limits.max_document_chars)).collect();
        let mut scores = Vec::with_capacity(documents.len());
        let mut rest = documents.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(n_fitting(rest, limits));
            scores.extend(self.batch(query, batch).await?);
            rest = later;
        }
        let ranked = scores.into_iter().enumerate().map(|(index, score)| Ranked { index, score }).collect();
        Ok(Ranked::best_first(ranked, top_k))
    }
}

/// Returns how many of the first documents go into one request: at least one.
fn n_fitting(documents: &[&str], limits: &RerankLimits) -> usize {
    let mut n_bytes = 0;
    let fitting = documents.iter().take(limits.batch_size).take_while(|document| {
        n_bytes += document.len();
        n_bytes <= limits.batch_bytes
    });
    fitting.count().max(1)
}
