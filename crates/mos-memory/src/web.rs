//! What was found on the internet, as memories.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::memory::{SourceKind, SourceMessage, TreeFields, Visibility};
use mos_core::{
    Clock, Embedder, IdSource, InternetRetriever, MemoryError, MemoryId, MemoryItem, MemoryType, Metadata,
    MetadataForm, ModelError, WebPage,
};
use serde_json::Value;

/// Looks at what was found on the internet before a model sees it.
#[async_trait]
pub trait PageCheck: fmt::Debug + Send + Sync {
    /// Returns the pages, all of them in their order; those that nobody is to see are kept apart ([`MemoryItem::quarantine`]).
    ///
    /// # Errors
    /// [`MemoryError`] when they cannot be looked at; none of them is shown then.
    async fn checked(&self, pages: Vec<MemoryItem>) -> Result<Vec<MemoryItem>, MemoryError>;
}

/// What a search of the internet found.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// What may be shown.
    pub(crate) shown: Vec<MemoryItem>,
    /// Why others are withheld, one reason each.
    pub(crate) withheld: Vec<String>,
}

impl Pages {
    /// Returns a sentence on what is withheld; `None` when nothing is. It repeats nothing of the pages.
    pub(crate) fn note(&self) -> Option<String> {
        let mut reasons: Vec<&str> = Vec::new();
        for reason in self.withheld.iter().flat_map(|reason| reason.split("; ")) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let (n, reasons) = (self.withheld.len(), reasons.join("; "));
        match n {
            0 => None,
            1 => Some(format!("1 page of the internet is withheld, because it reads like instructions: {reasons}")),
            _ => {
                Some(format!("{n} pages of the internet are withheld, because they read like instructions: {reasons}"))
            }
        }
    }
}

/// A search of the internet whose results are memories.
#[derive(Clone, Debug)]
pub struct WebSearch {
    /// Where to search.
    pub retriever: Arc<dyn InternetRetriever>,
    /// Looks at what was found; without it, every page is shown.
    pub check: Option<Arc<dyn PageCheck>>,
    /// Embeds what was found; without it, the memories have no embeddings.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// The time of the memories.
    pub clock: Arc<dyn Clock>,
    /// Their ids.
    pub ids: Arc<dyn IdSource>,
}

impl WebSearch {
    /// Returns at most `limit` memories of the type `OuterMemory` in the order of the service, without those that the check keeps
    /// apart. They are stored nowhere.
    ///
    /// # Errors
    /// [`MemoryError::Model`] when the search or the encoder fails; what the check fails with.
    pub async fn search(&self, query: &str, limit: usize) -> Result<Vec<MemoryItem>, MemoryError> {
        Ok(self.pages(query, limit).await?.shown)
    }

    /// As [`WebSearch::search`], and tells why pages are withheld.
    pub(crate) async fn pages(&self, query: &str, limit: usize) -> Result<Pages, MemoryError> {
        let pages = self.retriever.search(query, limit).await?;
        let now = self.clock.now_text();
        let items: Vec<MemoryItem> = pages
            .iter()
            .map(|page| page_memory(page, MemoryId::new(self.ids.next_uuid()), self.retriever.name(), &now))
            .collect();
        let items = match &self.check {
            Some(check) => check.checked(items).await?,
            None => items,
        };
        let mut pages = Pages::default();
        for item in items {
            match item.quarantine_reason() {
                Some(reason) => pages.withheld.push(reason.to_owned()),
                None => pages.shown.push(item),
            }
        }
        self.embed(&mut pages.shown).await?;
        Ok(pages)
    }

    async fn embed(&self, items: &mut [MemoryItem]) -> Result<(), MemoryError> {
        let Some(embedder) = self.embedder.as_ref().filter(|_| !items.is_empty()) else { return Ok(()) };
        let texts: Vec<String> = items.iter().map(|item| item.memory.clone()).collect();
        let vectors = embedder.embed(&texts).await?;
        if vectors.len() != items.len() {
            let counts = format!("{} embeddings for {} pages", vectors.len(), items.len());
            return Err(ModelError::BadAnswer(format!("the encoder returned {counts}; use another one")).into());
        }
        for (item, vector) in items.iter_mut().zip(vectors) {
            if let MetadataForm::Tree(fields) = &mut item.metadata.form {
                fields.embedding = Some(vector);
            }
        }
        Ok(())
    }
}

/// Returns a page as a memory: title and date, what the service says about it, what stands on it, its address, each
/// on lines of its own and only where it is known.
pub fn page_memory(page: &WebPage, id: MemoryId, retriever: &str, now: &str) -> MemoryItem {
    let mut item = MemoryItem::new(id, page_text(page));
    item.metadata = Metadata {
        source: Some(SourceKind::Web),
        visibility: Some(Visibility::Public),
        kind: Some("web".to_owned()),
        key: Some(page.title.clone()).filter(|title| !title.is_empty()),
        tags: Some(vec!["web".to_owned(), retriever.to_owned()]),
        updated_at: Some(now.to_owned()),
        form: MetadataForm::Tree(Box::new(TreeFields {
            memory_type: MemoryType::Outer,
            sources: Some(vec![page_source(page)]),
            created_at: Some(now.to_owned()),
            background: Some(page.summary.clone()),
            ..TreeFields::default()
        })),
        ..Metadata::default()
    };
    item
}

fn page_text(page: &WebPage) -> String {
    let heading = match &page.published {
        Some(published) => format!("{} ({published})", page.title),
        None => page.title.clone(),
    };
    // What repeats the beginning of the page says nothing new.
    let summary = if page.content.contains(&page.summary) { "" } else { &page.summary };
    let lines = [heading.trim(), summary, &page.content, &page.url];
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

fn page_source(page: &WebPage) -> SourceMessage {
    let mut source = SourceMessage { kind: "web".to_owned(), ..SourceMessage::default() };
    let fields = [("url", Some(&page.url)), ("title", Some(&page.title)), ("published", page.published.as_ref())];
    for (key, text) in fields {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            source.extra.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_an_outer_memory_with_its_address() {
        let page = WebPage {
            url: "https://example.org/".to_owned(),
            title: "Paris".to_owned(),
            summary: "The capital.".to_owned(),
            content: "Paris is the capital of France.".to_owned(),
            published: Some("2024-05-01".to_owned()),
            score: None,
        };
        let item =
            page_memory(&page, "00000000-0000-4000-8000-000000000001".into(), "bing", "2026-01-01T00:00:00+00:00");
        assert_eq!(
            item.memory,
            "Paris (2024-05-01)\nThe capital.\nParis is the capital of France.\nhttps://example.org/"
        );
        let value = item.to_compact_value();
        assert_eq!(value["metadata"]["memory_type"], "OuterMemory");
        assert_eq!(value["metadata"]["source"], "web");
        assert_eq!(value["metadata"]["sources"][0]["type"], "web");
        assert_eq!(value["metadata"]["sources"][0]["url"], "https://example.org/");
        assert_eq!(MemoryItem::from_value(item.to_value(), String::new).unwrap(), item);
    }

    #[test]
    fn what_is_withheld_is_counted_and_each_reason_told_once() {
        let note = |reasons: &[&str]| {
            let withheld = reasons.iter().map(|reason| (*reason).to_owned()).collect();
            Pages { withheld, ..Pages::default() }.note()
        };
        assert_eq!(note(&[]), None);
        assert!(note(&["gives the model orders"]).unwrap().ends_with(": gives the model orders"));
        let two = note(&["hides characters", "gives the model orders; hides characters"]).unwrap();
        assert!(two.starts_with("2 pages") && two.ends_with(": hides characters; gives the model orders"), "{two}");
    }

    #[test]
    fn what_is_not_known_leaves_no_trace() {
        let page =
            WebPage { summary: "Only this".to_owned(), content: "Only this and more".to_owned(), ..WebPage::default() };
        let item = page_memory(&page, "00000000-0000-4000-8000-000000000001".into(), "tavily", "now");
        assert_eq!((item.memory.as_str(), item.metadata.key), ("Only this and more", None));
        assert_eq!(page_source(&page).to_value(false), serde_json::json!({"type": "web"}));
    }
}
