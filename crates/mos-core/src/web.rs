//! Finding pages on the internet.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::error::ModelError;

/// A page that a search on the internet found. Texts are plain: no HTML.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WebPage {
    /// Its address, `http` or `https`; empty for a text that the service itself wrote about the question.
    pub url: String,
    /// Its title.
    pub title: String,
    /// What the service says about it.
    pub summary: String,
    /// What stands on it, as far as the service returns it.
    pub content: String,
    /// When it was published, as the service writes it.
    pub published: Option<String>,
    /// How well it fits the question, where the service says so.
    pub score: Option<f32>,
}

/// Searches the internet.
#[async_trait]
pub trait InternetRetriever: fmt::Debug + Send + Sync {
    /// The service's configuration key, for example `bing`.
    fn name(&self) -> &str;

    /// Returns at most `limit` pages in the order of the service, every address at most once. A query without text,
    /// or a limit of 0, gives no pages without asking the service.
    ///
    /// # Errors
    /// [`ModelError`] when the service cannot be asked, refuses, or answers what is not understood; the text holds
    /// neither the credentials nor the query.
    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError>;
}
