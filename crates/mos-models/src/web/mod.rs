//! Searches on the internet, one file per service.
//!
//! Invariants: only `http` and `https` addresses are asked and returned; redirects are not followed; what a service
//! says is bounded and becomes plain text before anybody sees it.

mod bing;
mod bocha;
mod google;
mod html;
mod tavily;
mod xinyu;

use std::collections::HashSet;
use std::time::Duration;

use mos_core::text::first_chars;
use mos_core::{ModelError, WebPage};
use reqwest::Url;
use serde_json::Value;

pub use bing::BingSearch;
pub use bocha::BochaSearch;
pub use google::GoogleSearch;
pub use tavily::{TavilyOptions, TavilySearch};
pub use xinyu::XinyuSearch;

use crate::http::Server;
use crate::options::{HttpOptions, ServerOptions};
use crate::secret::Secret;

/// The most characters of a query; services refuse longer ones, and what matters stands at the beginning.
const MAX_QUERY_CHARS: usize = 400;
/// The most characters of a page's title.
const MAX_TITLE_CHARS: usize = 300;
/// The most characters of what a service says about a page.
const MAX_SUMMARY_CHARS: usize = 4_000;
/// The most characters of what stands on a page.
const MAX_CONTENT_CHARS: usize = 16_000;

/// How to ask a search service.
#[derive(Clone, Debug, PartialEq)]
pub struct WebSearchOptions {
    /// The key of the account.
    pub api_key: Secret,
    /// Address of the service; `None` takes its public one, where there is one.
    pub endpoint: Option<String>,
    /// Time-outs and retries.
    pub http: HttpOptions,
    /// The most pages of one search, whatever its caller asks for.
    pub max_results: usize,
    /// Pages per request, for services that answer in pieces.
    pub per_request: usize,
}

impl WebSearchOptions {
    /// Returns options with the defaults of everything but the key: at most 20 pages, 10 per request, 15 seconds.
    pub fn new(api_key: Secret) -> Self {
        let http = HttpOptions::within(Duration::from_secs(15));
        Self { api_key, endpoint: None, http, max_results: 20, per_request: 10 }
    }
}

/// How a service learns who asks.
enum Credential {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of this name.
    Header(&'static str),
    /// A parameter, which the service's own code adds.
    Parameter,
}

/// What all services have in common.
#[derive(Debug)]
struct Service {
    name: &'static str,
    server: Server,
    max_results: usize,
    per_request: usize,
}

impl Service {
    /// # Errors
    /// [`ModelError::Invalid`] without a key, and for an address that cannot be one.
    fn open(
        name: &'static str,
        options: &WebSearchOptions,
        public: &str,
        credential: &Credential,
    ) -> Result<Self, ModelError> {
        if options.api_key.is_empty() {
            return Err(ModelError::Invalid(format!(
                "the internet retriever `{name}` has no key; set its `api_key`, for example to ${{NAME_OF_A_VARIABLE}}"
            )));
        }
        let mut server = ServerOptions::new(options.endpoint.as_deref().unwrap_or(public));
        server.http = options.http.clone();
        match credential {
            Credential::Bearer => server.api_key = Some(options.api_key.clone()),
            Credential::Header(header) => server.headers.push(((*header).to_owned(), options.api_key.clone())),
            Credential::Parameter => {}
        }
        let remedy = format!("check the address of the internet retriever `{name}`");
        let mut server = Server::at(&server, remedy)?;
        server.hide(options.api_key.clone());
        Ok(Self { name, server, max_results: options.max_results, per_request: options.per_request.max(1) })
    }

    /// Returns what is sent of a query, and how many pages are wanted; `None` when there is nothing to ask.
    fn plan<'a>(&self, query: &'a str, limit: usize) -> Option<(&'a str, usize)> {
        let query = first_chars(query.trim(), MAX_QUERY_CHARS).trim();
        let limit = limit.min(self.max_results);
        (!query.is_empty() && limit > 0).then_some((query, limit))
    }

    /// Returns the list at `path` of an answer. It may be missing where one of `marks` shows that the answer is the
    /// service's own: nothing was found then.
    fn list<'a>(&self, answer: &'a Value, path: &str, marks: &[&str]) -> Result<&'a [Value], ModelError> {
        match answer.pointer(path) {
            Some(Value::Array(entries)) => Ok(entries),
            None | Some(Value::Null) if marks.iter().any(|mark| answer.get(mark).is_some()) => Ok(&[]),
            _ => Err(self.bad(&format!("holds no results at `{path}`"))),
        }
    }

    fn bad(&self, what: &str) -> ModelError {
        ModelError::BadAnswer(format!(
            "the answer of {} {what}; check that it is the address of the service `{}`",
            self.server.place(),
            self.name
        ))
    }
}

/// Returns the text of a field, or nothing.
fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_default()
}

/// Returns the text of the first of several fields that has one.
fn first_text(entry: &Value, fields: &[&str]) -> Option<String> {
    fields.iter().map(|field| text(entry, field)).find(|text| !text.trim().is_empty()).map(str::to_owned)
}

/// Returns at most `limit` of the pages, in order: those with an address of the web, each address once, their texts
/// plain and bounded.
fn clean(pages: Vec<WebPage>, limit: usize) -> Vec<WebPage> {
    let mut known = HashSet::new();
    let pages = pages.into_iter().filter_map(|page| {
        let url = web_address(&page.url)?;
        known.insert(url.clone()).then(|| bounded(WebPage { url, ..page }))
    });
    pages.take(limit).collect()
}

/// Returns a page with plain texts that are not too long.
fn bounded(page: WebPage) -> WebPage {
    let plain = |text: &str, max: usize| first_chars(&html::plain(text), max).to_owned();
    WebPage {
        title: plain(&page.title, MAX_TITLE_CHARS),
        summary: plain(&page.summary, MAX_SUMMARY_CHARS),
        content: plain(&page.content, MAX_CONTENT_CHARS),
        published: page.published.map(|date| plain(&date, 64)).filter(|date| !date.is_empty()),
        score: page.score.filter(|score| score.is_finite()),
        url: page.url,
    }
}

/// Returns an address in its usual form, when it is one of the web that holds no credentials.
fn web_address(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let is_plain = ["http", "https"].contains(&url.scheme()) && url.has_host();
    (is_plain && url.username().is_empty() && url.password().is_none()).then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(url: &str) -> WebPage {
        WebPage { url: url.to_owned(), title: "<b>T</b>".to_owned(), ..WebPage::default() }
    }

    #[test]
    fn pages_are_of_the_web_and_come_once() {
        let urls = [
            "https://example.org",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "HTTPS://EXAMPLE.org/",
            "",
            "http://name:word@example.org/",
            "/relative",
            "http://example.org/2",
            "http://example.org/3",
        ];
        let found = clean(urls.iter().map(|url| page(url)).collect(), 2);
        let found: Vec<&str> = found.iter().map(|page| page.url.as_str()).collect();
        assert_eq!(found, ["https://example.org/", "http://example.org/2"]);
    }

    #[test]
    fn texts_are_plain_and_bounded() {
        let long = WebPage { content: "x".repeat(100_000), score: Some(f32::NAN), ..page("http://a.example") };
        let page = clean(vec![long], 1).remove(0);
        assert_eq!((page.title.as_str(), page.content.len(), page.score), ("T", MAX_CONTENT_CHARS, None));
    }
}
