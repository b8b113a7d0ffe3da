//! Google's Custom Search JSON API.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{InternetRetriever, ModelError, WebPage};
use serde_json::Value;

use super::{Credential, Service, WebSearchOptions, clean, text};
use crate::secret::Secret;

const PUBLIC: &str = "https://www.googleapis.com/customsearch/v1";
/// What the service answers at most per request, and per query in all.
const MOST_PER_REQUEST: usize = 10;
const MOST_IN_ALL: usize = 100;

/// Google, asked with a key and a search engine of one's own.
#[derive(Debug)]
pub struct GoogleSearch {
    service: Service,
    key: Secret,
    engine: String,
}

impl GoogleSearch {
    /// Returns the retriever. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] without a key or an engine, and for an address that cannot be one.
    pub fn open(
        options: WebSearchOptions,
        engine: impl Into<String>,
    ) -> Result<Arc<dyn InternetRetriever>, ModelError> {
        let engine = engine.into();
        if engine.trim().is_empty() {
            return Err(ModelError::Invalid(
                "the internet retriever `google` has no search engine; set its `search_engine_id`".to_owned(),
            ));
        }
        let service = Service::open("google", &options, PUBLIC, &Credential::Parameter)?;
        Ok(Arc::new(Self { service, key: options.api_key, engine }))
    }

    /// Returns up to `count` pages from the result number `start`, counted from 1.
    async fn part(&self, query: &str, start: usize, count: usize) -> Result<Vec<WebPage>, ModelError> {
        let parameters = [
            ("key", self.key.expose().to_owned()),
            ("cx", self.engine.clone()),
            ("q", query.to_owned()),
            ("num", count.to_string()),
            ("start", start.to_string()),
        ];
        let answer = self.service.server.look_up(&parameters).await?;
        let items = self.service.list(&answer, "/items", &["kind", "searchInformation"])?;
        Ok(items.iter().map(page).collect())
    }
}

fn page(item: &Value) -> WebPage {
    let published = item
        .pointer("/pagemap/metatags/0/article:published_time")
        .or_else(|| item.pointer("/pagemap/metatags/0/og:updated_time"))
        .and_then(Value::as_str);
    WebPage {
        url: text(item, "link").to_owned(),
        title: text(item, "title").to_owned(),
        summary: text(item, "snippet").to_owned(),
        published: published.map(str::to_owned),
        ..WebPage::default()
    }
}

#[async_trait]
impl InternetRetriever for GoogleSearch {
    fn name(&self) -> &str {
        self.service.name
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        let Some((query, limit)) = self.service.plan(query, limit.min(MOST_IN_ALL)) else { return Ok(Vec::new()) };
        let mut pages = Vec::new();
        while pages.len() < limit {
            let count = (limit - pages.len()).min(self.service.per_request).min(MOST_PER_REQUEST);
            let mut part = self.part(query, pages.len() + 1, count).await?;
            let is_last = part.len() < count;
            part.truncate(count);
            pages.extend(part);
            if is_last {
                break;
            }
        }
        Ok(clean(pages, limit))
    }
}
