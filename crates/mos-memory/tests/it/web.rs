//! Pages of the internet as memories.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::memory::SourceKind;
use mos_core::{
    Embedder, InternetRetriever, MemoryError, MemoryItem, MemoryType, ModelError, RandomIds, SystemClock, WebPage,
};
use mos_memory::{PageCheck, WebSearch};
use mos_testkit::embedder::WordEmbedder;

/// Finds numbered pages about anything.
#[derive(Debug)]
struct Numbered;

#[async_trait]
impl InternetRetriever for Numbered {
    fn name(&self) -> &str {
        "numbered"
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<WebPage>, ModelError> {
        if query == "refuse" {
            return Err(ModelError::Denied("the key is wrong".to_owned()));
        }
        let page = |number: usize| WebPage {
            url: format!("https://example.org/{number}"),
            title: format!("Page {number}"),
            summary: format!("about {query}"),
            ..WebPage::default()
        };
        Ok((1..=limit).map(page).collect())
    }
}

fn search(embedder: Option<Arc<dyn Embedder>>) -> WebSearch {
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(RandomIds));
    WebSearch { retriever: Arc::new(Numbered), check: None, embedder, clock, ids }
}

/// Keeps the second page apart.
#[derive(Debug)]
struct NotTheSecond;

#[async_trait]
impl PageCheck for NotTheSecond {
    async fn checked(&self, mut pages: Vec<MemoryItem>) -> Result<Vec<MemoryItem>, MemoryError> {
        pages.iter_mut().filter(|page| page.memory.contains("Page 2")).for_each(|page| page.quarantine("gives orders"));
        Ok(pages)
    }
}

#[tokio::test]
async fn pages_that_a_check_keeps_apart_are_not_shown() {
    let embedder: Arc<dyn Embedder> = Arc::new(WordEmbedder::new("words", 16));
    let search = WebSearch { check: Some(Arc::new(NotTheSecond)), ..search(Some(embedder)) };
    let items = search.search("Paris", 3).await.unwrap();
    let titles: Vec<&str> = items.iter().filter_map(|item| item.metadata.key.as_deref()).collect();
    assert_eq!(titles, ["Page 1", "Page 3"]);
    assert!(items.iter().all(|item| item.metadata.embedding().is_some()));
}

#[tokio::test]
async fn pages_are_outer_memories_with_embeddings_and_sources() {
    let embedder: Arc<dyn Embedder> = Arc::new(WordEmbedder::new("words", 16));
    let items = search(Some(Arc::clone(&embedder))).search("Paris", 2).await.unwrap();
    assert_eq!(items.len(), 2);
    assert_ne!(items[0].id, items[1].id);
    for (number, item) in (1..).zip(&items) {
        let url = format!("https://example.org/{number}");
        assert_eq!(item.memory, format!("Page {number}\nabout Paris\n{url}"));
        assert_eq!(item.metadata.source, Some(SourceKind::Web));
        let fields = item.metadata.tree().unwrap();
        assert_eq!(fields.memory_type, MemoryType::Outer);
        let source = &fields.sources.as_ref().unwrap()[0];
        assert_eq!((source.kind.as_str(), source.extra["url"].as_str()), ("web", Some(url.as_str())));
        let expected = embedder.embed(std::slice::from_ref(&item.memory)).await.unwrap().remove(0);
        assert_eq!(fields.embedding, Some(expected));
    }
}

#[tokio::test]
async fn without_an_encoder_memories_have_no_embedding_and_errors_pass_through() {
    let items = search(None).search("Paris", 1).await.unwrap();
    assert_eq!(items[0].metadata.tree().unwrap().embedding, None);
    assert_eq!(search(None).search("Paris", 0).await.unwrap(), []);
    let error = search(None).search("refuse", 1).await.unwrap_err();
    assert!(matches!(error, MemoryError::Model(ModelError::Denied(_))), "{error}");
}
