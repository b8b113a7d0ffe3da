//! Ranking of documents that are given with the question.

use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::{RerankCandidate, RerankQuery, Reranker};
use mos_memory::rerank::CosineReranker;
use serde_json::{Value, json};

use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::{ProductError, ProductResult};
use super::super::reply::Reply;
use crate::usage::Payer;

/// The most documents of a request.
const MAX_DOCUMENTS: usize = 200;

/// The longest document or question, in bytes.
const MAX_BYTES: usize = 32 * 1024;

request! {
    /// Documents that are put in the order in which they answer a question.
    pub struct RerankRequest as RerankRequest {
        /// The question.
        required query: String;
        /// The documents: at most 200 texts of at most 32 KiB.
        required documents: Vec<String>;
        /// The most documents of the answer; without this all of them.
        optional top_n: usize, at least 1.0;
        /// Accepted and not used: the reranker is a matter of the settings.
        optional model: String;
    }
}

impl Product {
    /// Returns the documents that answer a question best, best first: `results` with `index`, `document` and
    /// `relevance_score` of each. The reranker of the settings ranks them; without one the similarity of embeddings does.
    ///
    /// # Errors
    /// Status 400 for an empty question, an empty document, and for too much; 403 without the right to read; errors of the
    /// reranker.
    pub async fn rerank(&self, request: RerankRequest) -> ProductResult<Reply<Value>> {
        self.caller.check(Scope::Read)?;
        check(&request)?;
        let reranker = self.reranker()?;
        let candidates: Vec<RerankCandidate<'_>> =
            request.documents.iter().map(|text| RerankCandidate::new(text)).collect();
        let top_n = request.top_n.unwrap_or(candidates.len());
        let ranked = reranker.rerank(RerankQuery::from(request.query.as_str()), &candidates, top_n).await?;
        let results = ranked.iter().filter_map(|one| {
            let document = request.documents.get(one.index)?;
            Some(json!({"index": one.index, "document": document, "relevance_score": one.score}))
        });
        let results: Vec<Value> = results.collect();
        let data = json!({"id": self.mos().parts.ids.next_uuid(), "model": reranker.name(), "results": results});
        Ok(Reply::new("Documents ranked successfully", data))
    }

    /// The reranker of the settings, else one that compares embeddings, which are on the account of who calls.
    fn reranker(&self) -> ProductResult<Arc<dyn Reranker>> {
        let parts = &self.mos().parts;
        if let Some(reranker) = parts.retrieving.reranker(&Value::Null, "text_mem") {
            return Ok(reranker);
        }
        let user = self.mos().user_or_default(self.acting(None)?.as_ref());
        let embedder = parts.usage.metered_embedder(Arc::clone(&parts.embedder), Payer { user, cube: None });
        Ok(Arc::new(CosineReranker::new(Some(embedder), BTreeMap::new())?))
    }
}

fn check(request: &RerankRequest) -> ProductResult<()> {
    let too_long = |text: &str| text.len() > MAX_BYTES;
    let reason = if request.query.trim().is_empty() {
        "the query is empty; ask for something".to_owned()
    } else if request.documents.is_empty() {
        "there are no documents to rank; give at least one".to_owned()
    } else if request.documents.len() > MAX_DOCUMENTS {
        format!("at most {MAX_DOCUMENTS} documents can be ranked at once")
    } else if too_long(&request.query) || request.documents.iter().any(|text| too_long(text)) {
        format!("the query and each document have at most {MAX_BYTES} bytes")
    } else if let Some(place) = request.documents.iter().position(|text| text.trim().is_empty()) {
        format!("document {place} is empty; leave it out")
    } else {
        return Ok(());
    };
    Err(ProductError::bad_value(reason))
}
