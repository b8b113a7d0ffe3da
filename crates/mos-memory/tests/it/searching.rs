//! Searches with everything that takes part in them: models, rerankers, deduplication, limits and notes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mos_core::{
    Duplicates, Embedder, EmbeddingSpace, Filter, Found, KindLimits, MemoryError, MemoryId, MemoryItem, MemoryType,
    Message, ModelError, QueryPath, RecordStore, Scope, Scored, SearchMode, SearchRequest, StoreError, TextMemory,
    VectorStore,
};
use mos_memory::rerank::{CosineReranker, KeepOrderOnFailure, NoReranker};
use mos_memory::retrieve::Retrieval;
use mos_memory::{GeneralText, GeneralTextParts, Recall, RecallOptions};
use mos_stores::{ExactVectors, TextAnalyzer};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;
use tempfile::TempDir;

use crate::{item, origin, shelf, store, texts};

fn general(record: &Arc<dyn RecordStore>, retrieval: Retrieval) -> GeneralText {
    general_with(record, retrieval, Arc::new(WordEmbedder::new("words", 256)))
}

fn general_with(record: &Arc<dyn RecordStore>, retrieval: Retrieval, embedder: Arc<dyn Embedder>) -> GeneralText {
    let vectors = ExactVectors::following(Arc::clone(record));
    let analyzer = Arc::new(TextAnalyzer::new());
    let memory = GeneralText::new(GeneralTextParts {
        shelf: shelf(record, "cube"),
        recall: Recall::following(Arc::clone(record), vectors, analyzer, RecallOptions::default()),
        embedder,
    });
    memory.with_retrieval(retrieval)
}

/// A memory of these texts, in a store of its own.
async fn with(items: Vec<MemoryItem>, retrieval: Retrieval) -> (TempDir, GeneralText) {
    let (folder, record) = store();
    let memory = general(&record, retrieval);
    memory.add(items, origin().into()).await.unwrap();
    (folder, memory)
}

/// An encoder to which every question is one after Rex, and which reads memories as they are.
#[derive(Debug)]
struct AfterRex(WordEmbedder);

#[async_trait]
impl Embedder for AfterRex {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.0.embed(texts).await
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.0.embed(&vec!["Rex sleeps in the kitchen".to_owned(); queries.len()]).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.0.space().await
    }
}

#[tokio::test]
async fn questions_are_embedded_as_questions() {
    let (_folder, record) = store();
    let memory = general_with(&record, Retrieval::default(), Arc::new(AfterRex(WordEmbedder::new("words", 256))));
    memory.add(sample(), origin().into()).await.unwrap();
    let found = memory.search(&SearchRequest::new("xyzzy", 1)).await.unwrap();
    assert_eq!(told(&found), ["Rex sleeps in the kitchen"]);
}

fn asking(model: &Arc<ScriptedChat>) -> Retrieval {
    Retrieval { model: Some(model.clone()), ..Retrieval::default() }
}

fn sample() -> Vec<MemoryItem> {
    vec![
        item(1, "Anna lives in Rome"),
        item(2, "the kayak is blue"),
        item(3, "Rex sleeps in the kitchen"),
        item(4, "the weather is cold"),
    ]
}

fn told(found: &Found) -> Vec<&str> {
    texts(found.hits.iter().map(|hit| &hit.item))
}

fn falls(found: &Found) -> bool {
    found.hits.windows(2).all(|pair| pair[0].relativity >= pair[1].relativity)
        && found.hits.iter().all(|hit| (0.0..=1.0).contains(&hit.relativity))
}

const GOAL: &str = r#"{"memories": ["Rex sleeps"], "keys": [], "tags": [],
    "rephrased_instruction": "Which pet has Anna?", "internet_search": false}"#;

#[tokio::test]
async fn fast_asks_no_model_fine_asks_once_and_finds_by_what_the_model_says() {
    let model = Arc::new(ScriptedChat::new([GOAL, GOAL]));
    let (_folder, memory) = with(sample(), asking(&model)).await;
    let fast = memory.search(&SearchRequest::new("and hers?", 2)).await.unwrap();
    assert_eq!((fast.hits.len(), model.requests().len()), (2, 0));
    assert!(fast.hits.iter().all(|hit| hit.paths == [QueryPath::Question] && hit.reranked.is_none()));
    let mut request = SearchRequest { mode: SearchMode::Fine, ..SearchRequest::new("and hers?", 2) };
    request.conversation = vec![Message::user("My pet is a cat"), Message::assistant("And Anna's?")];
    let fine = memory.search(&request).await.unwrap();
    assert_eq!(model.requests().len(), 1);
    assert!(model.requests()[0].messages[1].text().contains("My pet is a cat"));
    assert_eq!(told(&fine)[0], "Rex sleeps in the kitchen");
    assert!(fine.hits[0].paths.contains(&QueryPath::Statement), "{:?}", fine.hits[0].paths);
    assert!(falls(&fast) && falls(&fine) && fine.notes.is_empty());
    let mixed = SearchRequest { mode: SearchMode::Mixture, ..request };
    assert_eq!(told(&memory.search(&mixed).await.unwrap())[0], "Rex sleeps in the kitchen");
    assert_eq!(model.requests().len(), 2);
}

#[tokio::test]
async fn a_model_that_answers_nonsense_or_is_missing_leaves_the_fast_search_with_a_note() {
    let model = Arc::new(ScriptedChat::new(["I would look for pets.", "{\"memories\": \"oh"]));
    let (_folder, memory) = with(sample(), asking(&model)).await;
    let fast = memory.search(&SearchRequest::new("where does Anna live?", 4)).await.unwrap();
    let fine = SearchRequest { mode: SearchMode::Fine, ..SearchRequest::new("where does Anna live?", 4) };
    let found = memory.search(&fine).await.unwrap();
    assert_eq!(found.hits, fast.hits);
    assert!(found.notes[0].contains("gave no goal"), "{:?}", found.notes);
    let (_folder, alone) = with(sample(), Retrieval::default()).await;
    let everything = SearchRequest { deep: true, sub_questions: true, internet: true, ..fine };
    let found = alone.search(&everything).await.unwrap();
    assert_eq!(told(&found), told(&fast));
    assert_eq!(found.notes.len(), 4, "mode, parts, internet and depth: {:?}", found.notes);
}

#[tokio::test]
async fn parts_of_a_question_are_searched_for_when_the_cube_or_the_request_says_so() {
    let split = r#"{"is_complex": true, "sub_questions": ["Where does Rex sleep?", "Which colour has the kayak?"]}"#;
    let model = Arc::new(ScriptedChat::new([split]));
    let retrieval = Retrieval { splits_questions: true, ..asking(&model) };
    let (_folder, memory) = with(sample(), retrieval).await;
    let found = memory.search(&SearchRequest::new("beds and boats", 2)).await.unwrap();
    let mut texts = told(&found);
    texts.sort_unstable();
    assert_eq!(texts, ["Rex sleeps in the kitchen", "the kayak is blue"]);
    assert!(found.hits.iter().all(|hit| hit.paths.contains(&QueryPath::SubQuestion)));
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn a_deep_search_finds_what_was_missing_and_stops_when_that_is_enough() {
    let more = r#"{"can_answer": false, "reason": "no boat", "retrieval_phrases": ["blue kayak"]}"#;
    let enough = r#"{"can_answer": true, "reason": "there it is"}"#;
    let model = Arc::new(ScriptedChat::new([more, enough]));
    let (_folder, memory) = with(sample(), asking(&model)).await;
    let request = SearchRequest { deep: true, ..SearchRequest::new("Anna lives in Rome", 2) };
    let found = memory.search(&request).await.unwrap();
    assert_eq!(model.requests().len(), 2);
    assert!(found.notes.is_empty() && found.hits.len() == 2 && falls(&found), "{found:?}");
    let kayak = found.hits.iter().find(|hit| hit.item.memory == "the kayak is blue").unwrap();
    assert!(kayak.paths.contains(&QueryPath::Deep));
    // The second stage names the same phrase again, which brings nothing new.
    let model = Arc::new(ScriptedChat::answering(move |_| more.to_owned()));
    let (_folder, memory) = with(sample(), asking(&model)).await;
    let found = memory.search(&request).await.unwrap();
    assert!(model.requests().len() <= 3 && found.notes[0].contains("no boat"), "{:?}", found.notes);
}

#[tokio::test]
async fn a_reranker_gives_the_order_unless_the_request_keeps_that_of_recall() {
    let weights = BTreeMap::from([("topic".to_owned(), 3.0)]);
    let reranker = Arc::new(CosineReranker::new(None, weights).unwrap());
    let mut topic = item(2, "the dog of my friend");
    topic.metadata.kind = Some("topic".to_owned());
    let items = vec![item(1, "my dog is called Max"), topic, item(3, "the weather is cold")];
    let retrieval = Retrieval { reranker: Some(reranker), ..Retrieval::default() };
    let (_folder, memory) = with(items.clone(), retrieval).await;
    let request = SearchRequest::new("my dog is called", 2);
    let found = memory.search(&request).await.unwrap();
    assert_eq!(told(&found), ["the dog of my friend", "my dog is called Max"]);
    let reranked = found.hits[0].reranked.as_ref().unwrap();
    assert!(reranked.name == "cosine_local" && reranked.score > 1.0 && falls(&found), "{found:?}");
    let kept = memory.search(&SearchRequest { rerank: false, ..request.clone() }).await.unwrap();
    assert_eq!(told(&kept), ["my dog is called Max", "the dog of my friend"]);
    assert!(kept.hits.iter().all(|hit| hit.reranked.is_none()) && falls(&kept));
    // One that wants no order changes nothing.
    let none = Retrieval { reranker: Some(Arc::new(NoReranker)), ..Retrieval::default() };
    let (_folder, memory) = with(items.clone(), none).await;
    let unordered = memory.search(&request).await.unwrap();
    assert_eq!(told(&unordered), told(&kept));
    assert!(unordered.hits.iter().all(|hit| hit.reranked.is_none()) && unordered.notes.is_empty(), "{unordered:?}");
    // Without weights it agrees with recall here.
    let wrapped = KeepOrderOnFailure::new(Arc::new(CosineReranker::new(None, BTreeMap::new()).unwrap()));
    let (_folder, memory) = with(items, Retrieval { reranker: Some(Arc::new(wrapped)), ..Retrieval::default() }).await;
    let found = memory.search(&request).await.unwrap();
    assert_eq!((told(&found)[0], found.notes.len()), ("my dog is called Max", 0));
    assert!(found.hits[0].reranked.is_some());
}

#[tokio::test]
async fn the_same_text_comes_once_and_others_take_its_place() {
    let mut items: Vec<MemoryItem> = (1..6).map(|number| item(number, "the dog sleeps")).collect();
    items.push(item(6, "The dog  SLEEPS"));
    items.push(item(7, "a dog"));
    let (_folder, memory) = with(items, Retrieval::default()).await;
    let request = SearchRequest::new("the dog sleeps", 2);
    let found = memory.search(&request).await.unwrap();
    assert_eq!(told(&found), ["the dog sleeps", "a dog"]);
    let all = SearchRequest { duplicates: Duplicates::Keep, ..request.clone() };
    assert_eq!(told(&memory.search(&all).await.unwrap()), ["the dog sleeps", "the dog sleeps"]);
    for (how, expected) in [(Duplicates::Similar(0.4), 1), (Duplicates::MarginalRelevance(0.5), 2)] {
        let found = memory.search(&SearchRequest { duplicates: how, ..request.clone() }).await.unwrap();
        assert_eq!((found.hits.len(), falls(&found)), (expected, true), "{how:?}");
    }
}

#[tokio::test]
async fn tools_and_skills_have_places_of_their_own_when_that_is_asked_for() {
    let of_kind = |number: u32, text: &str, kind: &str| {
        let value = serde_json::json!({"id": item(number, "").id, "memory": text, "metadata": {"memory_type": kind}});
        MemoryItem::from_value(value, String::new).unwrap()
    };
    let items = vec![
        of_kind(1, "how to feed the dog", "SkillMemory"),
        of_kind(2, "feed the dog at noon", "LongTermMemory"),
        of_kind(3, "feed", "LongTermMemory"),
        of_kind(4, "the dog feeder's switch", "ToolSchemaMemory"),
    ];
    let (_folder, memory) = with(items, Retrieval::default()).await;
    let kinds = |found: &Found| {
        let mut kinds: Vec<MemoryType> = found.hits.iter().filter_map(|hit| hit.item.metadata.memory_type()).collect();
        kinds.sort_by_key(|kind| kind.as_str());
        kinds
    };
    let request =
        SearchRequest { kinds: Some(KindLimits { tools: 1, skills: 1 }), ..SearchRequest::new("feed the dog", 1) };
    let found = memory.search(&request).await.unwrap();
    assert_eq!(kinds(&found), [MemoryType::LongTerm, MemoryType::Skill, MemoryType::ToolSchema]);
    assert!(falls(&found));
    let plain = SearchRequest { kinds: Some(KindLimits::NONE), top_k: 9, ..request };
    assert_eq!(kinds(&memory.search(&plain).await.unwrap()), [MemoryType::LongTerm, MemoryType::LongTerm]);
}

/// Counts how often near vectors are asked for.
#[derive(Debug)]
struct Counted {
    vectors: Arc<ExactVectors>,
    n_asked: AtomicUsize,
}

#[async_trait]
impl VectorStore for Counted {
    async fn nearest(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        self.n_asked.fetch_add(1, Ordering::SeqCst);
        self.vectors.nearest(scope, space, query, limit, filter).await
    }

    async fn similarities(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        ids: &[MemoryId],
    ) -> Result<Vec<Option<f32>>, StoreError> {
        self.vectors.similarities(scope, space, query, ids).await
    }

    async fn count(&self, scope: &Scope) -> Result<usize, StoreError> {
        self.vectors.count(scope).await
    }
}

#[tokio::test]
async fn only_kinds_that_the_cube_has_are_looked_for() {
    let (_folder, record) = store();
    let vectors =
        Arc::new(Counted { vectors: ExactVectors::following(Arc::clone(&record)), n_asked: AtomicUsize::new(0) });
    let memory = GeneralText::new(GeneralTextParts {
        shelf: shelf(&record, "cube"),
        recall: Recall::following(
            Arc::clone(&record),
            vectors.clone(),
            Arc::new(TextAnalyzer::new()),
            RecallOptions::default(),
        ),
        embedder: Arc::new(WordEmbedder::new("words", 256)),
    });
    let request =
        SearchRequest { kinds: Some(KindLimits { tools: 1, skills: 1 }), ..SearchRequest::new("feed the dog", 1) };
    let asked = async || {
        let before = vectors.n_asked.load(Ordering::SeqCst);
        let found = memory.search(&request).await.unwrap();
        (found.hits.len(), vectors.n_asked.load(Ordering::SeqCst) - before)
    };
    memory.add(vec![item(1, "feed the dog at noon")], origin().into()).await.unwrap();
    assert_eq!(asked().await, (1, 1));
    let skill = serde_json::json!({
        "id": item(2, "").id, "memory": "how to feed the dog", "metadata": {"memory_type": "SkillMemory"},
    });
    let skill = MemoryItem::from_value(skill, String::new).unwrap();
    memory.add(vec![skill.clone()], origin().into()).await.unwrap();
    assert_eq!(asked().await, (2, 2), "it is found as soon as it is there");
    memory.delete(&[skill.id], origin()).await.unwrap();
    assert_eq!(asked().await, (1, 1));
}

#[tokio::test]
async fn memories_of_a_preferred_conversation_come_earlier_and_the_others_stay() {
    let of = |number: u32, text: &str, session: &str| {
        let mut one = item(number, text);
        one.metadata.session_id = Some(session.to_owned());
        one
    };
    let items = vec![of(1, "dog number one", "a"), of(2, "dog number two", "b"), item(3, "the weather is cold")];
    let (_folder, memory) = with(items, Retrieval::default()).await;
    let request = SearchRequest::new("dog number", 2);
    assert_eq!(told(&memory.search(&request).await.unwrap())[0], "dog number one", "ties in the order of storing");
    let preferred = SearchRequest { session: Some("b".into()), ..request };
    assert_eq!(told(&memory.search(&preferred).await.unwrap()), ["dog number two", "dog number one"]);
}

#[tokio::test]
async fn nothing_is_found_without_a_reason() {
    let (_folder, record) = store();
    let memory = general(&record, Retrieval::default());
    let empty = memory.search(&SearchRequest::new("anything", 5)).await.unwrap();
    assert_eq!((empty.hits.len(), empty.notes), (0, vec!["the cube has no memories yet".to_owned()]));
    memory.add(vec![item(1, "likes tea")], origin().into()).await.unwrap();
    let search = async |request: SearchRequest| memory.search(&request).await.unwrap();
    let one = search(SearchRequest::new("what is liked", 5)).await;
    assert_eq!((told(&one), one.notes.len()), (vec!["likes tea"], 0));
    let none = search(SearchRequest { filter: Filter::equals("key", "no such"), ..SearchRequest::new("tea", 5) }).await;
    assert!(
        none.hits.is_empty() && none.notes[0].contains("lets none of the cube's memories pass"),
        "{:?}",
        none.notes
    );
    let typed = search(SearchRequest { types: vec![MemoryType::Skill], ..SearchRequest::new("tea", 5) }).await;
    assert!(typed.hits.is_empty() && typed.notes[0].contains("types"), "{:?}", typed.notes);
    let relevant = search(SearchRequest { relevance: 0.99, ..SearchRequest::new("the weather", 5) }).await;
    assert!(relevant.hits.is_empty() && relevant.notes[0].contains("below 0.99"), "{:?}", relevant.notes);
    let zero = search(SearchRequest::new("tea", 0)).await;
    assert!(zero.hits.is_empty() && zero.notes[0].contains("top_k is 0"));
    assert_eq!(search(SearchRequest::new("🙂", 5)).await.hits.len(), 1);
    let long = search(SearchRequest::new("tea ".repeat(12_500), 5)).await;
    assert!(long.hits.len() == 1 && long.notes[0].contains("50000 characters"), "{:?}", long.notes);
    for bad in ["", " \n\t"] {
        assert!(matches!(memory.search(&SearchRequest::new(bad, 5)).await, Err(MemoryError::Invalid(_))));
    }
    let wrong = SearchRequest { relevance: 1.5, ..SearchRequest::new("tea", 5) };
    assert!(matches!(memory.search(&wrong).await, Err(MemoryError::Invalid(text)) if text.contains("1.5")));
}
