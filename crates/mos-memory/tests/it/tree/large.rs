//! A cube of many memories: 100,000 when `MOS_TEST_LONG` is set, a few thousand otherwise. Vectors are made up: what is
//! tested is that nothing is lost, doubled or mixed up, not what an encoder finds.

use std::collections::HashSet;
use std::sync::Arc;

use mos_core::{
    Clock, Embedder, EmbeddingWrite, Filter, Hit, MemoryId, MemoryItem, MemoryType, Paging, SearchRequest, TextMemory,
    TreeMemory, WriteBatch,
};
use mos_memory::{TreeOptions, TreeShelves};
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use super::{House, kind, scope, with};
use crate::{item, origin, texts};

const DIMENSION: usize = 256;
const PER_BATCH: u32 = 1000;
const WORKING_LIMIT: usize = 10;

fn n_memories() -> u32 {
    if std::env::var_os("MOS_TEST_LONG").is_some() { 100_000 } else { 3000 }
}

/// A memory of its own words.
fn memory(number: u32) -> MemoryItem {
    let memory_type = if number.is_multiple_of(2) { "LongTermMemory" } else { "UserMemory" };
    let text = format!("parcel{number} stands in row{} of hall{}", number % 97, number % 7);
    let metadata = json!({"memory_type": memory_type, "key": format!("parcel {number}"), "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z"});
    with(number, &text, metadata)
}

async fn fill(house: &House, n_memories: u32) {
    let embedder = WordEmbedder::new("words", DIMENSION);
    for first in (0..n_memories).step_by(PER_BATCH as usize) {
        let put: Vec<MemoryItem> = (first..n_memories.min(first + PER_BATCH)).map(memory).collect();
        let made: Vec<String> = put.iter().map(|item| item.memory.clone()).collect();
        let vectors = embedder.embed(&made).await.unwrap();
        let space = embedder.space().await.unwrap();
        let vectors = put.iter().map(|item| item.id.clone()).zip(vectors).collect();
        let embeddings = Some(EmbeddingWrite { space, vectors, made_of: None, aside: false });
        house.record.apply(&scope(), WriteBatch { put, embeddings, ..WriteBatch::new(origin()) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_large_cube_is_searched_limited_and_emptied() {
    let (house, n_memories) = (House::sqlite(), n_memories());
    fill(&house, n_memories).await;
    let half = n_memories as usize / 2;
    let limits = [(MemoryType::Working, WORKING_LIMIT), (MemoryType::User, half)].into();
    let options = TreeOptions { limits, ..TreeOptions::default() };
    let embedder = Arc::new(WordEmbedder::new("words", DIMENSION));
    let tree = house.tree_of(embedder.clone(), options.clone(), Arc::clone(&house.shelves));
    assert_eq!(tree.sizes().await.unwrap()[&MemoryType::LongTerm], half);

    // Any of them is found by its words, and by its key.
    for number in [0, 1, n_memories / 2, n_memories - 1] {
        let request = SearchRequest::new(format!("where is parcel{number}"), 5);
        let found = tree.search(&request).await.unwrap();
        assert_eq!(first_id(found.hits), item(number, "").id);
        let found = tree.search(&SearchRequest::new(format!("news of Parcel {number}?"), 5)).await.unwrap();
        assert_eq!(first_id(found.hits), item(number, "").id);
    }

    // Working memory shows the newest; the shelf that is full lets its oldest go.
    let added: Vec<u32> = (0..20).map(|step| n_memories + step).collect();
    for numbers in added.chunks(5) {
        house.wait();
        let now = house.clock.now_text();
        let mut items: Vec<MemoryItem> = numbers.iter().map(|number| memory(*number)).collect();
        items.iter_mut().for_each(|item| item.metadata.updated_at = Some(now.clone()));
        tree.add(items, origin().into()).await.unwrap();
    }
    let working = tree.working_memory().await.unwrap();
    assert_eq!(working.len(), WORKING_LIMIT);
    let newest: HashSet<String> = added[10..].iter().map(|number| memory(*number).memory).collect();
    assert!(texts(&working).into_iter().all(|text| newest.contains(text)), "{:?}", texts(&working));
    let sizes = tree.sizes().await.unwrap();
    assert_eq!((sizes[&MemoryType::User], sizes[&MemoryType::LongTerm]), (half, half + 10));
    assert_eq!(sizes[&MemoryType::Working], WORKING_LIMIT);
    assert!(tree.get(&item(1, "").id).await.is_err(), "the oldest of the full shelf has gone");
    assert!(tree.get(&item(n_memories - 1, "").id).await.is_ok());

    // Another process begins with shelves of its own and sees the same.
    let other = house.tree_of(embedder, options, Arc::new(TreeShelves::default()));
    assert_eq!(other.working_memory().await.unwrap(), working);

    // All of it at once, each memory once.
    let all = tree.get_all().await.unwrap();
    let ids: HashSet<&MemoryId> = all.iter().map(|item| &item.id).collect();
    assert_eq!((all.len(), ids.len()), (2 * half + 10 + WORKING_LIMIT, all.len()));
    let page = tree.graph(&Filter::Everything, Paging { offset: 0, limit: 7 }).await.unwrap();
    assert_eq!((page.graph.nodes.len(), page.n_nodes), (7, all.len()));

    let some: Vec<MemoryId> =
        all.iter().filter(|item| kind(item) == MemoryType::LongTerm).map(|item| item.id.clone()).collect();
    assert_eq!(tree.delete(&some, origin()).await.unwrap(), some.len());
    let sizes = tree.sizes().await.unwrap();
    assert_eq!((sizes.get(&MemoryType::LongTerm), sizes[&MemoryType::User]), (None, half));
    let n_left = tree.get_all().await.unwrap().len();
    assert_eq!(tree.delete_all(origin()).await.unwrap(), n_left);
    assert!(tree.get_all().await.unwrap().is_empty() && tree.working_memory().await.unwrap().is_empty());
}

fn first_id(hits: Vec<Hit>) -> MemoryId {
    hits.into_iter().next().unwrap().item.id
}
