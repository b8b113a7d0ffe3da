//! Preferences over a real store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mos_core::graph::{Direction, Paging, kinds};
use mos_core::memory::{MetadataForm, PreferenceFields, SourceMessage, TreeFields};
use mos_core::{
    AddRequest, ChatModel, Embedder, EmbeddingSpace, Filter, Hit, MemoryError, MemoryId, MemoryItem, MemoryType,
    Message, ModelError, PreferenceMemory, PreferenceType, Ranked, RecordStore, RerankCandidate, RerankQuery, Reranker,
    Scope, SearchRequest, Status, StoreError, TextMemory,
};
use mos_memory::{
    AddLocks, AddMode, GeneralText, GeneralTextParts, NaiveText, PrefText, PrefTextParts, Recall, RecallOptions,
};
use mos_stores::{ExactVectors, TextAnalyzer};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::clock::CountingIds;
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use crate::{item, origin, shelf, store, texts};

pub(crate) fn parts(record: &Arc<dyn RecordStore>, model: Option<&Arc<ScriptedChat>>) -> PrefTextParts {
    let mut shelf = shelf(record, "cube");
    shelf.file_name = "preferences.json".to_owned();
    PrefTextParts {
        shelf,
        vectors: ExactVectors::following(Arc::clone(record)),
        embedder: Arc::new(WordEmbedder::new("words", 256)),
        reranker: None,
        model: model.map(|model| Arc::clone(model) as Arc<dyn ChatModel>),
        mode: AddMode::Fast,
        ids: Arc::new(CountingIds::default()),
        locks: Arc::default(),
    }
}

pub(crate) fn preferences(record: &Arc<dyn RecordStore>) -> PrefText {
    PrefText::new(parts(record, None))
}

fn general(record: &Arc<dyn RecordStore>) -> GeneralText {
    let (vectors, analyzer) = (ExactVectors::following(Arc::clone(record)), Arc::new(TextAnalyzer::new()));
    GeneralText::new(GeneralTextParts {
        shelf: shelf(record, "cube"),
        recall: Recall::following(Arc::clone(record), vectors, analyzer, RecallOptions::default()),
        embedder: Arc::new(WordEmbedder::new("words", 256)),
    })
}

pub(crate) fn scope() -> Scope {
    Scope { cube: "cube".into() }
}

/// A stated preference from one message.
pub(crate) fn stated(number: u32, text: &str) -> MemoryItem {
    let mut item = item(number, text);
    let source = SourceMessage { message_id: Some(format!("m{number}")), ..SourceMessage::chat(&Message::user(text)) };
    let fields = TreeFields { sources: Some(vec![source]), ..TreeFields::default() };
    item.metadata.form = MetadataForm::Tree(Box::new(fields));
    item
}

pub(crate) fn concluded(number: u32, text: &str) -> MemoryItem {
    let mut item = stated(number, text);
    item.metadata.extra.insert("preference_type".to_owned(), json!("implicit_preference"));
    item
}

async fn add(memory: &PrefText, item: MemoryItem) -> MemoryId {
    memory.add(vec![item], origin().into()).await.unwrap().remove(0)
}

async fn found(memory: &PrefText, query: &str) -> Vec<String> {
    hit_texts(&memory.search(query, 5, &Filter::Everything).await.unwrap().hits)
}

fn hit_texts(hits: &[Hit]) -> Vec<String> {
    texts(hits.iter().map(|hit| &hit.item)).into_iter().map(str::to_owned).collect()
}

async fn all(memory: &PrefText) -> Vec<MemoryItem> {
    memory.get_all().await.unwrap().into_values().flatten().collect()
}

fn message_ids(item: &MemoryItem) -> Vec<&str> {
    let sources = item.metadata.tree().unwrap().sources.as_ref().unwrap();
    sources.iter().map(|source| source.message_id.as_deref().unwrap()).collect()
}

/// Counts the questions that are embedded.
#[derive(Debug)]
struct Counted {
    embedder: WordEmbedder,
    n_questions: AtomicUsize,
}

#[async_trait]
impl Embedder for Counted {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.embedder.embed(texts).await
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.n_questions.fetch_add(queries.len(), Ordering::SeqCst);
        self.embedder.embed(queries).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.embedder.space().await
    }
}

#[tokio::test]
async fn a_question_to_a_cube_without_preferences_is_not_embedded() {
    let (_folder, record) = store();
    let counted = Arc::new(Counted { embedder: WordEmbedder::new("words", 256), n_questions: AtomicUsize::new(0) });
    let memory = PrefText::new(PrefTextParts { embedder: counted.clone(), ..parts(&record, None) });
    let asked = async || {
        let before = counted.n_questions.load(Ordering::SeqCst);
        let found = found(&memory, "trains").await;
        (found.len(), counted.n_questions.load(Ordering::SeqCst) - before)
    };
    assert_eq!(asked().await, (0, 0));
    general(&record).add(vec![item(9, "trains are late")], origin().into()).await.unwrap();
    assert_eq!(asked().await, (0, 0), "memories of other kinds are no preferences");
    let id = add(&memory, concluded(1, "The user prefers trains.")).await;
    assert_eq!(asked().await, (1, 1), "it is found as soon as it is there");
    memory.delete(&[id], origin()).await.unwrap();
    assert_eq!(asked().await, (0, 0));
}

#[tokio::test]
async fn the_same_preference_told_twice_is_one_record_that_knows_both_messages() {
    let (_folder, record) = store();
    let memory = preferences(&record);
    let first = add(&memory, stated(1, "The user prefers 7 Days Inn.")).await;
    let again = add(&memory, stated(2, "the user prefers 7 days inn")).await;
    assert_eq!((&again, first.as_str()), (&first, stated(1, "").id.as_str()));
    let [kept] = &all(&memory).await[..] else { panic!("one record") };
    assert_eq!((kept.memory.as_str(), kept.metadata.version), ("The user prefers 7 Days Inn.", 2));
    assert_eq!(message_ids(kept), ["m1", "m2"]);
    assert_eq!(kept.metadata.memory_type(), Some(MemoryType::Preference));
    assert_eq!(kept.metadata.extra["preference_type"], "explicit_preference");
    assert!(kept.metadata.tree().unwrap().created_at.is_some());
    assert_eq!(add(&memory, stated(2, "The user prefers 7 Days Inn")).await, first);
    assert_eq!(memory.get(&first).await.unwrap().metadata.version, 2, "what is known already changes nothing");
}

#[tokio::test]
async fn what_was_concluded_becomes_stated_when_the_user_states_it() {
    let (_folder, record) = store();
    let memory = preferences(&record);
    let id = add(&memory, concluded(1, "The user prefers trains.")).await;
    assert_eq!(add(&memory, stated(2, "The user prefers trains.")).await, id);
    let kinds = memory.get_all().await.unwrap();
    assert_eq!((kinds[&PreferenceType::Explicit].len(), kinds[&PreferenceType::Implicit].len()), (1, 0));
    add(&memory, concluded(3, "The user prefers trains.")).await;
    assert_eq!(memory.get_all().await.unwrap()[&PreferenceType::Explicit].len(), 1, "and stays stated");
}

#[tokio::test]
async fn without_a_model_only_equal_terms_are_the_same() {
    let (_folder, record) = store();
    let memory = preferences(&record);
    let long = "likes long walks by the quiet river in spring with old friends and a red umbrella at hand in case rain \
                comes down on all of us";
    let id = add(&memory, stated(1, long)).await;
    assert_eq!(add(&memory, stated(2, &long.replace("the quiet", "a quiet"))).await, id);
    for (number, other) in [(3, long.replace("red", "no red")), (4, format!("{long} 2"))] {
        assert_ne!(add(&memory, stated(number, &other)).await, id, "{other}");
    }
    assert_eq!(all(&memory).await.len(), 3);
}

#[tokio::test]
async fn a_model_that_says_same_brings_the_known_one_up_to_date() {
    let (_folder, record) = store();
    let model = Arc::new(ScriptedChat::new([r#"{"relation": "same"}"#]));
    let memory = PrefText::new(parts(&record, Some(&model)));
    let id = add(&memory, stated(1, "The user prefers hotels near the station.")).await;
    let mut newer = stated(2, "The user prefers quiet hotels near the station.");
    newer.metadata.tags = Some(vec!["hotels".to_owned()]);
    newer.metadata.extra.insert("reasoning".to_owned(), json!("asked for quiet"));
    assert_eq!(add(&memory, newer).await, id);
    let now = memory.get(&id).await.unwrap();
    assert_eq!(now.memory, "The user prefers quiet hotels near the station.");
    assert_eq!(now.metadata.extra["preference"], json!(now.memory));
    assert_eq!(now.metadata.extra["reasoning"], "asked for quiet");
    assert_eq!((now.metadata.version, now.metadata.history.len()), (2, 1));
    assert_eq!(message_ids(&now), ["m1", "m2"]);
    assert_eq!(now.metadata.tags.as_deref(), Some(["hotels".to_owned()].as_slice()));
    let hits =
        memory.search("quiet hotels near the station user prefers the", 5, &Filter::Everything).await.unwrap().hits;
    assert!(hits[0].score > 0.99, "its vector is that of the new text: {}", hits[0].score);
    assert_eq!(record.history(&scope(), &id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_contradicting_preference_archives_the_old_one_with_its_history() {
    let (_folder, record) = store();
    let model = Arc::new(ScriptedChat::new([r#"{"relation": "contradicts"}"#]));
    let memory = PrefText::new(parts(&record, Some(&model)));
    let old = add(&memory, stated(1, "The user prefers the aisle seat.")).await;
    let new = add(&memory, stated(2, "The user prefers the window seat.")).await;
    assert_ne!(old, new);
    assert_eq!(found(&memory, "which seat").await, ["The user prefers the window seat."]);
    let archived = memory.get(&old).await.unwrap();
    assert_eq!((archived.metadata.status, archived.metadata.version), (Some(Status::Archived), 2));
    assert_eq!(archived.metadata.evolve_to, [new.to_string()]);
    let edges =
        record.edges(&scope(), std::slice::from_ref(&new), Direction::Outgoing, Some(kinds::SUPERSEDES)).await.unwrap();
    assert_eq!((edges.len(), &edges[0].target), (1, &old));
    let history = memory.get(&new).await.unwrap().metadata.history;
    assert_eq!(history[0].memory, "The user prefers the aisle seat.");
    assert_eq!(history[0].archived_memory_id.as_deref(), Some(old.as_str()));
    assert_eq!(record.history(&scope(), &old).await.unwrap().len(), 2);
    assert_eq!(all(&memory).await.len(), 2, "archived preferences are listed");
}

#[tokio::test]
async fn fine_mode_writes_all_that_the_model_says_in_one_write() {
    let (_folder, record) = store();
    let model = Arc::new(ScriptedChat::new([
        r#"{"operations": [{"action": "insert"}]}"#,
        r#"{"operations": [{"action": "insert"}]}"#,
        r#"{"operations": [
            {"action": "update", "number": 1, "preference": "The user drinks green tea, hot, in the morning."},
            {"action": "delete", "number": 2}]}"#,
    ]));
    let memory = PrefText::new(PrefTextParts { mode: AddMode::Fine, ..parts(&record, Some(&model)) });
    let tea = add(&memory, stated(1, "The user drinks green tea in the morning.")).await;
    let coffee = add(&memory, stated(2, "The user drinks coffee in the morning.")).await;
    add(&memory, stated(3, "The user drinks water at night.")).await;
    let kept = add(&memory, stated(4, "The user drinks hot green tea in the morning.")).await;
    assert_eq!(kept, tea);
    let now = memory.get(&tea).await.unwrap();
    assert_eq!(now.memory, "The user drinks green tea, hot, in the morning.");
    assert_eq!(message_ids(&now), ["m1", "m4"]);
    let coffee_now = memory.get(&coffee).await.unwrap();
    assert_eq!(coffee_now.metadata.status, Some(Status::Archived));
    assert_eq!(coffee_now.metadata.evolve_to, [tea.to_string()]);
    let asked = model.requests().last().unwrap().messages[1].text();
    assert!(asked.contains("1. The user drinks green tea") && asked.contains("2. The user drinks coffee"), "{asked}");
}

#[tokio::test]
async fn a_model_that_is_away_loses_no_preference() {
    let (_folder, record) = store();
    let away = Arc::new(ScriptedChat::new(Vec::<String>::new()));
    let memory = PrefText::new(parts(&record, Some(&away)));
    add(&memory, stated(1, "The user prefers the aisle seat.")).await;
    add(&memory, stated(2, "The user prefers the window seat.")).await;
    assert_eq!(away.requests().len(), 1);
    assert_eq!(all(&memory).await.len(), 2);
    let error = memory.extract(&[Message::user("I like tea.")], &Default::default()).await.unwrap_err();
    assert!(matches!(error, MemoryError::Model(ModelError::Unavailable(_))), "{error}");
    let none = preferences(&record).extract(&[Message::user("I like tea.")], &Default::default()).await.unwrap_err();
    assert!(none.to_string().contains("extractor_llm"), "{none}");
}

#[tokio::test]
async fn two_users_of_a_cube_have_preferences_of_their_own() {
    let (_folder, record) = store();
    let memory = preferences(&record);
    let of = |number, user: &str| {
        let mut item = stated(number, "The user prefers tea.");
        item.metadata.user_id = Some(user.to_owned());
        item
    };
    let ann = add(&memory, of(1, "ann")).await;
    assert_ne!(add(&memory, of(2, "bob")).await, ann);
    assert_eq!(add(&memory, of(3, "ann")).await, ann);
}

#[tokio::test]
async fn stated_preferences_come_first_and_only_what_passes() {
    let (_folder, record) = store();
    let memory = preferences(&record);
    let mut sent_away = stated(5, "prefers trains to Rome");
    sent_away.metadata.status = Some(Status::Deleted);
    let items = vec![
        concluded(1, "prefers trains"),
        stated(2, "prefers trains at night"),
        stated(3, "prefers tea"),
        concluded(4, "prefers buses"),
        sent_away,
    ];
    memory.add(items, origin().into()).await.unwrap();
    let hits = memory.search("prefers trains", 1, &Filter::Everything).await.unwrap().hits;
    assert_eq!(hit_texts(&hits), ["prefers trains at night", "prefers trains"]);
    assert!(hits[1].score > hits[0].score && hits[0].signals[0].name == "vector");
    let only = memory.search("prefers trains", 3, &Filter::equals("memory", "prefers tea")).await.unwrap().hits;
    assert_eq!(hit_texts(&only), ["prefers tea"]);
    assert!(memory.search("prefers", 0, &Filter::Everything).await.unwrap().hits.is_empty());
    assert!(matches!(memory.search(" ", 1, &Filter::Everything).await, Err(MemoryError::Invalid(_))));
    assert!(memory.search("🙂", 3, &Filter::equals("memory", "x")).await.unwrap().hits.is_empty());
    assert_eq!(memory.get_all().await.unwrap().values().map(Vec::len).sum::<usize>(), 4, "deleted ones are hidden");
}

/// Puts the longest text first.
#[derive(Debug)]
struct LongestFirst;

#[async_trait::async_trait]
impl Reranker for LongestFirst {
    fn name(&self) -> &str {
        "longest"
    }

    async fn rerank(
        &self,
        _query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        let score = |(index, one): (usize, &RerankCandidate<'_>)| Ranked { index, score: one.text.len() as f32 };
        Ok(Ranked::best_first(candidates.iter().enumerate().map(score).collect(), top_k))
    }
}

#[tokio::test]
async fn a_reranker_orders_each_type_and_hits_tell_its_score() {
    let (_folder, record) = store();
    let memory = PrefText::new(PrefTextParts { reranker: Some(Arc::new(LongestFirst)), ..parts(&record, None) });
    let items = vec![stated(1, "prefers tea"), stated(2, "prefers tea with a lot of milk"), concluded(3, "hates tea")];
    memory.add(items, origin().into()).await.unwrap();
    let hits = memory.search("prefers tea", 1, &Filter::Everything).await.unwrap().hits;
    assert_eq!(hit_texts(&hits), ["prefers tea with a lot of milk", "hates tea"]);
    let signals: Vec<&str> = hits[0].signals.iter().map(|signal| signal.name).collect();
    assert_eq!((signals, hits[0].score), (vec!["vector", "rerank"], 30.0));
}

#[tokio::test]
async fn textual_memories_of_the_cube_do_not_show_preferences_unless_asked() {
    let (_folder, record) = store();
    let (memory, text) = (preferences(&record), general(&record));
    add(&memory, stated(1, "prefers tea")).await;
    text.add(vec![item(2, "drank tea today")], origin().into()).await.unwrap();
    for query in ["tea", "prefers tea"] {
        let hits = text.search(&SearchRequest::new(query, 9)).await.unwrap().hits;
        assert_eq!(hit_texts(&hits), ["drank tea today"]);
    }
    let naive = NaiveText::new(shelf(&record, "cube"));
    assert_eq!(
        hit_texts(&naive.search(&SearchRequest::new("prefers tea", 9)).await.unwrap().hits),
        ["drank tea today"]
    );
    assert_eq!(texts(&text.get_all().await.unwrap()), ["drank tea today"]);
    assert_eq!(found(&memory, "tea").await, ["prefers tea"]);
    let mut asked = SearchRequest::new("tea", 9);
    asked.filter = Filter::equals("memory_type", "PreferenceMemory");
    assert_eq!(hit_texts(&naive.search(&asked).await.unwrap().hits), ["prefers tea"]);
    assert!(text.search(&asked).await.unwrap().hits.is_empty(), "what ranks texts knows of no preferences");
    let other = PrefText::new(PrefTextParts {
        shelf: mos_memory::Shelf { scope: Scope { cube: "other".into() }, ..shelf(&record, "cube") },
        ..parts(&record, None)
    });
    assert!(all(&other).await.is_empty() && found(&other, "tea").await.is_empty(), "a cube is a wall");
    assert_eq!(text.delete_all(origin()).await.unwrap(), 1);
    assert_eq!(found(&memory, "tea").await, ["prefers tea"], "deleting texts leaves preferences");
    text.add(vec![item(3, "more tea")], origin().into()).await.unwrap();
    assert_eq!(memory.delete_all(origin()).await.unwrap(), 1);
    assert_eq!(texts(&text.get_all().await.unwrap()), ["more tea"], "and the other way round");
}

#[tokio::test]
async fn deletions_and_pages_concern_preferences_alone() {
    let (_folder, record) = store();
    let (memory, text) = (preferences(&record), general(&record));
    text.add(vec![item(90, "a fact")], origin().into()).await.unwrap();
    let topics = ["tea", "trains", "maps", "dogs", "rain"];
    let items = topics.iter().zip(1..).map(|(topic, number)| stated(number, &format!("prefers {topic}")));
    memory.add(items.collect(), origin().into()).await.unwrap();
    let everything = Filter::Everything;
    let page = |page, size| memory.get_by_filter(&everything, page, size);
    let (second, total) = page(2, 2).await.unwrap();
    assert_eq!((texts(&second), total), (vec!["prefers maps", "prefers dogs"], 5));
    assert_eq!(page(9, 2).await.unwrap(), (vec![], 5));
    assert!(matches!(page(0, 2).await, Err(MemoryError::Invalid(_))));
    assert!(matches!(memory.get(&item(90, "").id).await, Err(MemoryError::NotFound(_))));
    assert_eq!(memory.delete(&[item(90, "").id, item(1, "").id, item(77, "").id], origin()).await.unwrap(), 1);
    let of_dogs = Filter::equals("memory", "prefers dogs");
    assert_eq!(memory.delete_by_filter(&of_dogs, origin()).await.unwrap(), 1);
    assert_eq!(memory.delete_by_filter(&of_dogs, origin()).await.unwrap(), 0);
    assert_eq!(texts(&all(&memory).await), ["prefers trains", "prefers maps", "prefers rain"]);
    assert_eq!(record.list(&scope(), &Filter::Everything, Paging::ALL).await.unwrap().total, 4);
}

#[tokio::test]
async fn bad_items_are_refused_and_items_of_memos_form_are_taken() {
    let (_folder, record) = store();
    let memory = preferences(&record);
    let mut no_type = stated(1, "prefers tea");
    no_type.metadata.extra.insert("preference_type".to_owned(), json!("wild"));
    for bad in [stated(1, " "), no_type] {
        assert!(matches!(memory.add(vec![bad], origin().into()).await, Err(MemoryError::Invalid(_))));
    }
    let mut given = item(2, "A talk about tea.");
    given.metadata.form = MetadataForm::Preference(Box::new(PreferenceFields {
        preference_type: PreferenceType::Implicit,
        dialog_id: Some("d1".to_owned()),
        original_text: Some("tea please".to_owned()),
        embedding: Some(vec![1.0; 3]),
        preference: Some("prefers tea".to_owned()),
        created_at: Some("2026-01-01T00:00:00+00:00".to_owned()),
        mem_cube_id: None,
        score: Some(0.5),
    }));
    let id = add(&memory, given).await;
    let kept = memory.get(&id).await.unwrap();
    let extra = &kept.metadata.extra;
    assert_eq!((&extra["preference_type"], &extra["dialog_id"]), (&json!("implicit_preference"), &json!("d1")));
    assert_eq!((&extra["preference"], extra.contains_key("score")), (&json!("prefers tea"), false));
    let taken = memory.add(vec![stated(2, "prefers something else")], origin().into()).await.unwrap_err();
    assert!(matches!(taken, MemoryError::Store(StoreError::Conflict(_))), "{taken}");
    assert_eq!(all(&memory).await.len(), 1);
    assert!(memory.add(vec![], origin().into()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeated_request_changes_nothing_and_returns_the_same_ids() {
    let (_folder, record) = store();
    let model = Arc::new(ScriptedChat::answering(|_| r#"{"relation": "different"}"#.to_owned()));
    let memory = PrefText::new(parts(&record, Some(&model)));
    let request = || AddRequest { idempotency_key: Some("key".to_owned()), ..AddRequest::from(origin()) };
    let first = memory.add(vec![stated(1, "prefers tea"), stated(2, "prefers hot tea")], request()).await.unwrap();
    // A model may word them otherwise the second time.
    let again = memory.add(vec![stated(3, "prefers any tea"), stated(4, "prefers warm tea")], request()).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(texts(&all(&memory).await), ["prefers tea", "prefers hot tea"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_preference_told_at_the_same_time_is_one_record() {
    let (_folder, record) = store();
    let locks: Arc<AddLocks> = Arc::default();
    let adders = (0..8).map(|number| {
        let memory = PrefText::new(PrefTextParts { locks: Arc::clone(&locks), ..parts(&record, None) });
        tokio::spawn(async move { add(&memory, stated(number, "The user prefers tea.")).await })
    });
    let mut ids = Vec::new();
    for adder in adders.collect::<Vec<_>>() {
        ids.push(adder.await.unwrap());
    }
    ids.dedup();
    let [kept] = &all(&preferences(&record)).await[..] else { panic!("one record") };
    assert_eq!((ids, message_ids(kept).len()), (vec![kept.id.clone()], 8));
}

#[tokio::test]
async fn another_encoder_is_refused_with_the_remedy() {
    let (_folder, record) = store();
    add(&preferences(&record), stated(1, "prefers tea")).await;
    let other =
        PrefText::new(PrefTextParts { embedder: Arc::new(WordEmbedder::new("new", 32)), ..parts(&record, None) });
    for error in [
        other.search("tea", 1, &Filter::Everything).await.unwrap_err(),
        other.add(vec![stated(2, "prefers maps")], origin().into()).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("mos cube reembed cube"), "{error}");
    }
}
