//! Tavily's search.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{InternetRetriever, ModelError, WebPage};
use serde_json::{Value, json};

use super::{Credential, Service, WebSearchOptions, bounded, clean, first_text, text};

const PUBLIC: &str = "https://api.tavily.com/search";
/// What the service answers at most.
const MOST_IN_ALL: usize = 20;

/// How to ask Tavily.
#[derive(Clone, Debug, PartialEq)]
pub struct TavilyOptions {
    /// Key, address and limits.
    pub search: WebSearchOptions,
    /// `basic`, or `advanced`, which takes longer and costs more.
    pub search_depth: String,
    /// Lets the service write an answer of its own. It comes first, without an address.
    pub include_answer: bool,
}

impl TavilyOptions {
    /// Returns options with the defaults of everything but the key.
    pub fn new(search: WebSearchOptions) -> Self {
        Self { search, search_depth: "basic".to_owned(), include_answer: false }
    }
}

/// Tavily. It answers with the passages of the pages that fit.
#[derive(Debug)]
pub struct TavilySearch {
    service: Service,
    options: TavilyOptions,
}

impl TavilySearch {
    /// Returns the retriever. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] without a key, and for an address that cannot be one.
    pub fn open(options: TavilyOptions) -> Result<Arc<dyn InternetRetriever>, ModelError> {
        let service = Service::open("tavily", &options.search, PUBLIC, &Credential::Bearer)?;
        Ok(Arc::new(Self { service, options }))
    }
}

fn page(entry: &Value) -> WebPage {
    WebPage {
        url: text(entry, "url").to_owned(),
        title: text(entry, "title").to_owned(),
        summary: text(entry, "content").to_owned(),
        content: text(entry, "raw_content").to_owned(),
        published: first_text(entry, &["published_date"]),
        score: entry["score"].as_f64().map(|score| score as f32),
    }
}

/// Returns what the service wrote itself, when it wrote something.
fn own_answer(answer: &Value) -> Option<WebPage> {
    let written = first_text(answer, &["answer"])?;
    let page = bounded(WebPage { title: "Tavily's answer".to_owned(), content: written, ..WebPage::default() });
    Some(page).filter(|page| !page.content.is_empty())
}

#[async_trait]
impl InternetRetriever for TavilySearch {
    fn name(&self) -> &str {
        self.service.name
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        let Some((query, limit)) = self.service.plan(query, limit.min(MOST_IN_ALL)) else { return Ok(Vec::new()) };
        let body = json!({
            "query": query,
            "max_results": limit,
            "search_depth": self.options.search_depth,
            "include_answer": self.options.include_answer,
        });
        let answer = self.service.server.ask("", &body).await?;
        let mut pages: Vec<WebPage> =
            if self.options.include_answer { own_answer(&answer).into_iter().collect() } else { Vec::new() };
        let found = self.service.list(&answer, "/results", &[])?.iter().map(page).collect();
        pages.extend(clean(found, limit - pages.len()));
        Ok(pages)
    }
}
