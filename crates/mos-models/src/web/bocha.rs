//! Bocha's web search.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{InternetRetriever, ModelError, WebPage};
use serde_json::{Value, json};

use super::{Credential, Service, WebSearchOptions, clean, first_text, text};

const PUBLIC: &str = "https://api.bochaai.com/v1/web-search";
/// What the service answers at most.
const MOST_IN_ALL: usize = 50;

/// Bocha. It answers with summaries of the pages.
#[derive(Debug)]
pub struct BochaSearch {
    service: Service,
}

impl BochaSearch {
    /// Returns the retriever. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] without a key, and for an address that cannot be one.
    pub fn open(options: &WebSearchOptions) -> Result<Arc<dyn InternetRetriever>, ModelError> {
        Ok(Arc::new(Self { service: Service::open("bocha", options, PUBLIC, &Credential::Bearer)? }))
    }

    /// Returns the results of an answer in its documented shape (Bing's, below `data`), or in the flat one that MemOS
    /// reads.
    fn results<'a>(&self, answer: &'a Value) -> Result<&'a [Value], ModelError> {
        // The service tells of errors with a success as status.
        if let Some(code) = answer["code"].as_u64().filter(|code| *code != 200) {
            let code = u16::try_from(code).unwrap_or(500);
            let said = ["msg", "message"].iter().map(|field| text(answer, field)).find(|text| !text.is_empty());
            let said = self.service.server.message(&json!({"message": said.unwrap_or("no reason given")}), &[]);
            return Err(self.service.server.sort(code, answer, &said, None).error);
        }
        if let Some(results) = answer["results"].as_array() {
            return Ok(results);
        }
        let answer = if answer["data"].is_object() { &answer["data"] } else { answer };
        self.service.list(answer, "/webPages/value", &["_type", "queryContext"])
    }
}

fn page(entry: &Value) -> WebPage {
    WebPage {
        url: text(entry, "url").to_owned(),
        title: first_text(entry, &["name", "title"]).unwrap_or_default(),
        summary: first_text(entry, &["summary", "snippet"]).unwrap_or_default(),
        content: text(entry, "content").to_owned(),
        published: first_text(entry, &["datePublished", "dateLastCrawled"]),
        score: None,
    }
}

#[async_trait]
impl InternetRetriever for BochaSearch {
    fn name(&self) -> &str {
        self.service.name
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        let Some((query, limit)) = self.service.plan(query, limit.min(MOST_IN_ALL)) else { return Ok(Vec::new()) };
        let body = json!({"query": query, "summary": true, "freshness": "noLimit", "count": limit});
        let answer = self.service.server.ask("", &body).await?;
        Ok(clean(self.results(&answer)?.iter().map(page).collect(), limit))
    }
}
