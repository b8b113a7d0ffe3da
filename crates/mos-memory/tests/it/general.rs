use std::sync::Arc;

use mos_core::{Embedder, Filter, MemoryError, MemoryId, RecordStore, SearchRequest, Status, StoreError, TextMemory};
use mos_memory::{GeneralText, GeneralTextParts, Recall, RecallOptions, reembed};
use mos_stores::{ExactVectors, TextAnalyzer};
use mos_testkit::embedder::WordEmbedder;

use crate::{item, origin, shelf, store, texts};

fn general(record: &Arc<dyn RecordStore>, cube: &str, model: &str, dimension: usize) -> GeneralText {
    let vectors = ExactVectors::following(Arc::clone(record));
    let analyzer = Arc::new(TextAnalyzer::new());
    GeneralText::new(GeneralTextParts {
        shelf: shelf(record, cube),
        recall: Recall::following(Arc::clone(record), vectors, analyzer, RecallOptions::default()),
        embedder: Arc::new(WordEmbedder::new(model, dimension)),
    })
}

async fn found(memory: &GeneralText, query: &str) -> Vec<String> {
    let hits = memory.search(&SearchRequest::new(query, 5)).await.unwrap().hits;
    texts(hits.iter().map(|hit| &hit.item)).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_was_added_is_found_and_each_hit_says_why() {
    let (_folder, record) = store();
    let memory = general(&record, "cube", "words", 64);
    let items = vec![item(1, "my dog is called Max"), item(2, "the weather is cold"), item(3, "call me tomorrow")];
    memory.add(items, origin().into()).await.unwrap();
    let hits = memory.search(&SearchRequest::new("what is my dog called", 2)).await.unwrap().hits;
    assert_eq!(hits[0].item.memory, "my dog is called Max");
    assert!(hits[0].score > hits[1].score);
    let signals: Vec<&str> = hits[0].signals.iter().map(|signal| signal.name).collect();
    assert_eq!(signals, ["vector", "context", "words"]);
}

#[tokio::test]
async fn an_updated_memory_is_found_by_its_new_text_only() {
    let (_folder, record) = store();
    let memory = general(&record, "cube", "words", 64);
    memory.add(vec![item(1, "likes tea"), item(2, "plays chess")], origin().into()).await.unwrap();
    memory.update(&item(1, "").id, item(1, "likes coffee"), origin()).await.unwrap();
    assert_eq!(found(&memory, "coffee").await[0], "likes coffee");
    assert!(!found(&memory, "tea").await.contains(&"likes tea".to_owned()));
}

#[tokio::test]
async fn deleted_and_archived_memories_are_not_found() {
    let (_folder, record) = store();
    let memory = general(&record, "cube", "words", 64);
    let mut archived = item(2, "old dog");
    archived.metadata.status = Some(Status::Archived);
    memory.add(vec![item(1, "dog one"), archived, item(3, "dog three")], origin().into()).await.unwrap();
    assert_eq!(memory.delete(&[item(1, "").id], origin()).await.unwrap(), 1);
    assert_eq!(found(&memory, "dog").await, ["dog three"]);
}

#[tokio::test]
async fn filters_work_inside_the_search() {
    let (_folder, record) = store();
    let memory = general(&record, "cube", "words", 64);
    let items = (0..60).map(|number| {
        let mut one = item(number, &format!("dog number {number}"));
        one.metadata.session_id = Some(if number == 59 { "wanted" } else { "other" }.to_owned());
        one
    });
    memory.add(items.collect(), origin().into()).await.unwrap();
    let mut request = SearchRequest::new("dog number 1", 3);
    request.filter = Filter::equals("session_id", "wanted");
    let hits = memory.search(&request).await.unwrap().hits;
    assert_eq!(texts(hits.iter().map(|hit| &hit.item)), ["dog number 59"]);
}

#[tokio::test]
async fn two_cubes_never_see_each_other() {
    let (_folder, record) = store();
    let (ann, bob) = (general(&record, "ann", "words", 64), general(&record, "bob", "words", 64));
    ann.add(vec![item(1, "secret of ann")], origin().into()).await.unwrap();
    assert!(found(&bob, "secret").await.is_empty());
    bob.add(vec![item(1, "secret of bob")], origin().into()).await.unwrap();
    assert_eq!(found(&bob, "secret").await, ["secret of bob"]);
    assert_eq!(found(&ann, "secret").await, ["secret of ann"]);
}

#[tokio::test]
async fn dump_then_load_is_the_identity_vectors_included() {
    let (folder, record) = store();
    let memory = general(&record, "cube", "words", 16);
    memory.add(vec![item(1, "a dog"), item(2, "a cat")], origin().into()).await.unwrap();
    let ids: Vec<MemoryId> = vec![item(1, "").id, item(2, "").id];
    let scope = mos_core::Scope { cube: "cube".into() };
    let before = (memory.get_all().await.unwrap(), record.embeddings(&scope, &ids).await.unwrap());
    memory.dump(folder.path()).await.unwrap();
    let config = serde_json::json!({"text_mem": {"config": {"embedder": {"config": {"model_name_or_path": "words"}}}}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    memory.delete_all(origin()).await.unwrap();
    assert_eq!(memory.load(folder.path(), origin()).await.unwrap(), 2);
    let after = (memory.get_all().await.unwrap(), record.embeddings(&scope, &ids).await.unwrap());
    assert_eq!(after, before);
    assert_eq!(found(&memory, "cat").await[0], "a cat");
}

#[tokio::test]
async fn a_text_that_could_not_be_added_cannot_be_loaded_either() {
    let (folder, record) = store();
    let memory = general(&record, "cube", "words", 16);
    for (text, reason) in [(" \n".to_owned(), "is empty"), ("x".repeat((1 << 20) + 1), "has 1048577 bytes")] {
        let entry = |number, text: &str| serde_json::json!({"payload": item(number, text).to_value()});
        let entries = serde_json::json!([entry(1, "fine"), entry(2, &text)]);
        std::fs::write(folder.path().join("textual_memory.json"), entries.to_string()).unwrap();
        let error = memory.load(folder.path(), origin()).await.unwrap_err().to_string();
        for part in ["textual_memory.json", "entry 1", reason] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert!(memory.get_all().await.unwrap().is_empty());
}

#[tokio::test]
async fn another_encoder_is_refused_with_the_remedy_and_embedding_anew_mends_it() {
    let (_folder, record) = store();
    let old = general(&record, "my cube", "old", 16);
    let items = (0..150).map(|number| item(number, &format!("fact number {number}"))).collect();
    old.add(items, origin().into()).await.unwrap();
    let new = general(&record, "my cube", "new", 32);
    for error in [
        new.search(&SearchRequest::new("fact", 1)).await.unwrap_err(),
        new.add(vec![item(900, "another")], origin().into()).await.unwrap_err(),
    ] {
        assert!(matches!(error, MemoryError::Store(StoreError::EmbeddingSpace { .. })));
        assert!(error.to_string().contains("mos cube reembed my cube"), "{error}");
    }
    assert_eq!(new.get_all().await.unwrap().len(), 150, "it opens and lists");
    let before = new.get_all().await.unwrap();
    let encoder = WordEmbedder::new("new", 32);
    let scope = mos_core::Scope { cube: "my cube".into() };
    let mut told = Vec::new();
    let done = reembed(&scope, record.as_ref(), &encoder, "test", false, |n| told.push(n)).await.unwrap();
    assert_eq!((done.n_embedded, told.last().copied()), (150, Some(150)));
    assert_eq!(new.get_all().await.unwrap(), before, "ids and texts stay");
    assert!(found(&new, "fact number 77").await.contains(&"fact number 77".to_owned()));
    let again = reembed(&scope, record.as_ref(), &encoder, "test", false, |_| {}).await.unwrap();
    assert_eq!(again.n_embedded, 0);
    let forced = reembed(&scope, record.as_ref(), &encoder, "test", true, |_| {}).await.unwrap();
    assert_eq!(forced.n_embedded, 150);
}

/// Changes one memory and removes another while texts are being embedded.
#[derive(Debug)]
struct Meddling {
    encoder: WordEmbedder,
    memory: GeneralText,
    done: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl Embedder for Meddling {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, mos_core::ModelError> {
        if !self.done.swap(true, std::sync::atomic::Ordering::SeqCst) {
            self.memory.update(&item(3, "").id, item(3, "another fact"), origin()).await.unwrap();
            self.memory.delete(&[item(4, "").id], origin()).await.unwrap();
        }
        self.encoder.embed(texts).await
    }

    async fn space(&self) -> Result<mos_core::EmbeddingSpace, mos_core::ModelError> {
        self.encoder.space().await
    }
}

#[tokio::test]
async fn memories_that_change_while_a_cube_is_embedded_anew_get_the_vector_of_their_last_text() {
    let (_folder, record) = store();
    let old = general(&record, "cube", "old", 16);
    let items = (0..10).map(|number| item(number, &format!("fact number {number}"))).collect();
    old.add(items, origin().into()).await.unwrap();
    let scope = mos_core::Scope { cube: "cube".into() };
    let encoder = WordEmbedder::new("new", 32);
    let meddling = Meddling { encoder, memory: old, done: false.into() };
    reembed(&scope, record.as_ref(), &meddling, "test", false, |_| {}).await.unwrap();
    let ids = [item(3, "").id, item(4, "").id];
    let found = record.embeddings(&scope, &ids).await.unwrap();
    let expected = meddling.encoder.embed(&["another fact".to_owned()]).await.unwrap().remove(0);
    let [(_, vector)] = found.as_slice() else { panic!("one of them is gone: {found:?}") };
    let cosine: f32 = vector.iter().zip(&expected).map(|(a, b)| a * b).sum();
    assert!((cosine - 1.0).abs() < 1e-5, "the vector is that of the text as it is now");
}

/// Stops after a number of texts, as a process that is killed would.
#[derive(Debug)]
struct Interrupted(WordEmbedder, std::sync::atomic::AtomicI64);

#[async_trait::async_trait]
impl Embedder for Interrupted {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, mos_core::ModelError> {
        let left = self.1.fetch_sub(texts.len() as i64, std::sync::atomic::Ordering::SeqCst);
        if left <= 0 {
            return Err(mos_core::ModelError::Unavailable("interrupted".to_owned()));
        }
        self.0.embed(texts).await
    }

    async fn space(&self) -> Result<mos_core::EmbeddingSpace, mos_core::ModelError> {
        self.0.space().await
    }
}

#[tokio::test]
async fn embedding_anew_goes_on_where_it_was_interrupted_and_the_cube_stays_searchable() {
    let (_folder, record) = store();
    let old = general(&record, "cube", "old", 16);
    let items = (0..150).map(|number| item(number, &format!("fact number {number}"))).collect();
    old.add(items, origin().into()).await.unwrap();
    let scope = mos_core::Scope { cube: "cube".into() };
    let broken = Interrupted(WordEmbedder::new("new", 32), 100.into());
    reembed(&scope, record.as_ref(), &broken, "test", false, |_| {}).await.unwrap_err();
    assert!(!found(&old, "fact number 3").await.is_empty(), "the old encoder still finds");
    let done = reembed(&scope, record.as_ref(), &WordEmbedder::new("new", 32), "test", false, |_| {}).await.unwrap();
    assert!(done.n_embedded < 150 && done.n_embedded > 0, "{done:?}");
    assert!(!found(&general(&record, "cube", "new", 32), "fact number 3").await.is_empty());
}
