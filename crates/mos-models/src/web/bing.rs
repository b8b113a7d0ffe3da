//! Bing's web search, version 7.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{InternetRetriever, ModelError, WebPage};
use serde_json::Value;

use super::{Credential, Service, WebSearchOptions, clean, first_text, text};

const PUBLIC: &str = "https://api.bing.microsoft.com/v7.0/search";
/// What the service answers at most per request.
const MOST_PER_REQUEST: usize = 50;

/// Bing.
#[derive(Debug)]
pub struct BingSearch {
    service: Service,
}

impl BingSearch {
    /// Returns the retriever. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] without a key, and for an address that cannot be one.
    pub fn open(options: &WebSearchOptions) -> Result<Arc<dyn InternetRetriever>, ModelError> {
        let service = Service::open("bing", options, PUBLIC, &Credential::Header("Ocp-Apim-Subscription-Key"))?;
        Ok(Arc::new(Self { service }))
    }

    async fn part(&self, query: &str, offset: usize, count: usize) -> Result<Vec<WebPage>, ModelError> {
        let parameters = [
            ("q", query.to_owned()),
            ("count", count.to_string()),
            ("offset", offset.to_string()),
            ("responseFilter", "Webpages".to_owned()),
            ("textFormat", "Raw".to_owned()),
        ];
        let answer = self.service.server.look_up(&parameters).await?;
        let pages = self.service.list(&answer, "/webPages/value", &["_type", "queryContext"])?;
        Ok(pages.iter().map(page).collect())
    }
}

fn page(entry: &Value) -> WebPage {
    WebPage {
        url: text(entry, "url").to_owned(),
        title: text(entry, "name").to_owned(),
        summary: text(entry, "snippet").to_owned(),
        published: first_text(entry, &["datePublished", "dateLastCrawled"]),
        ..WebPage::default()
    }
}

#[async_trait]
impl InternetRetriever for BingSearch {
    fn name(&self) -> &str {
        self.service.name
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        let Some((query, limit)) = self.service.plan(query, limit) else { return Ok(Vec::new()) };
        let mut pages = Vec::new();
        while pages.len() < limit {
            let count = (limit - pages.len()).min(self.service.per_request).min(MOST_PER_REQUEST);
            let mut part = self.part(query, pages.len(), count).await?;
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
