//! Xinyu's search.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{InternetRetriever, ModelError, WebPage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Credential, Service, WebSearchOptions, clean, first_text, text};

/// Xinyu. It has no public address: the settings name it.
#[derive(Debug)]
pub struct XinyuSearch {
    service: Service,
}

impl XinyuSearch {
    /// Returns the retriever. No request is made.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] without a key or an address, and for an address that cannot be one.
    pub fn open(options: &WebSearchOptions) -> Result<Arc<dyn InternetRetriever>, ModelError> {
        if options.endpoint.as_deref().is_none_or(|address| address.trim().is_empty()) {
            return Err(ModelError::Invalid(
                "the internet retriever `xinyu` has no address; set its `endpoint` (or, as in MemOS, its \
                 `search_engine_id`) to the address of the service"
                    .to_owned(),
            ));
        }
        Ok(Arc::new(Self { service: Service::open("xinyu", options, "", &Credential::Header("token"))? }))
    }
}

fn page(entry: &Value) -> WebPage {
    WebPage {
        url: text(entry, "url").to_owned(),
        title: text(entry, "title").to_owned(),
        summary: text(entry, "summary").to_owned(),
        content: text(entry, "content").to_owned(),
        published: first_text(entry, &["publish_time"]),
        score: None,
    }
}

/// The service wants an id for every request; that of the same query is the same, so that nothing random is needed.
fn request_id(query: &str) -> String {
    let mut id = "mos-".to_owned();
    for byte in &Sha256::digest(query.as_bytes())[..16] {
        // Writing to a text cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

#[async_trait]
impl InternetRetriever for XinyuSearch {
    fn name(&self) -> &str {
        self.service.name
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        let Some((query, limit)) = self.service.plan(query, limit) else { return Ok(Vec::new()) };
        let field = |switch: bool| json!({"switch": switch, "mode": "relevance", "type": "page"});
        let body = json!({
            "search_type": ["online"],
            "online_search": {
                "max_entries": limit,
                "cache_switch": false,
                "baidu_field": field(false),
                "bing_field": field(true),
                "sogou_field": field(false),
            },
            "request_id": request_id(query),
            "queries": query,
        });
        let answer = self.service.server.ask("", &body).await?;
        let path = if answer["results"].is_array() { "/results" } else { "/results/online" };
        Ok(clean(self.service.list(&answer, path, &[])?.iter().map(page).collect(), limit))
    }
}
