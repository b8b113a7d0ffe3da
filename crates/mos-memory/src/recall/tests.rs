//! Whole searches over a record and an exact index.

use mos_core::{Embedder, EmbeddingWrite, Filter, MemoryItem, Origin, SystemClock, WriteBatch};
use mos_stores::{ExactVectors, InMemoryStore, TextAnalyzer};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Map, Value, json};

use super::*;

mod connected;
mod formulas;

struct House {
    record: Arc<dyn RecordStore>,
    embedder: WordEmbedder,
    recall: Arc<Recall>,
    scope: Scope,
    hints: Hints,
}

impl House {
    fn new(options: RecallOptions) -> Self {
        let record: Arc<dyn RecordStore> = InMemoryStore::new(Arc::new(SystemClock));
        let vectors = ExactVectors::following(Arc::clone(&record));
        let recall = Recall::following(Arc::clone(&record), vectors, Arc::new(TextAnalyzer::new()), options);
        let (embedder, scope) = (WordEmbedder::new("words", 64), Scope { cube: "cube".into() });
        Self { record, embedder, recall, scope, hints: Hints::default() }
    }

    async fn apply(&self, batch: WriteBatch) {
        self.record.apply(&self.scope, batch).await.unwrap();
    }

    async fn put(&self, items: Vec<MemoryItem>) {
        let texts: Vec<String> = items.iter().map(|item| item.memory.clone()).collect();
        let vectors = self.embedder.embed(&texts).await.unwrap();
        let ids = items.iter().map(|item| item.id.clone());
        let space = self.embedder.space().await.unwrap();
        let embeddings = EmbeddingWrite { space, vectors: ids.zip(vectors).collect(), made_of: None, aside: false };
        self.apply(WriteBatch {
            put: items,
            embeddings: Some(embeddings),
            ..WriteBatch::new(Origin::new("test", "test"))
        })
        .await;
    }

    async fn delete(&self, id: &str) {
        self.apply(WriteBatch { delete: vec![id.into()], ..WriteBatch::new(Origin::new("test", "test")) }).await;
    }

    async fn recalled(&self, question: &str, limit: usize, filter: &Filter) -> Vec<Recalled> {
        let space = self.embedder.space().await.unwrap();
        let question = self.recall.understand(&self.scope, &space, question).await.unwrap();
        let query = self.embedder.embed(std::slice::from_ref(&question.neutral)).await.unwrap().remove(0);
        let asked = Asked { question: &question, query: &query, hints: &self.hints };
        self.recall.search(&self.scope, &space, &asked, limit, filter).await.unwrap()
    }

    async fn found(&self, question: &str) -> Vec<String> {
        let recalled = self.recalled(question, 10, &Filter::Everything).await;
        recalled.iter().map(|one| one.id.to_string()).collect()
    }

    async fn best(&self, question: &str) -> String {
        self.found(question).await.into_iter().next().unwrap_or_default()
    }
}

/// A message: id, session, speaker, day, text.
fn message(id: &str, session: &str, speaker: &str, day: &str, text: &str) -> MemoryItem {
    let mut item = MemoryItem::new(id.into(), text);
    item.metadata.session_id = Some(session.to_owned());
    let mut info = Map::new();
    info.insert("name".to_owned(), json!(speaker));
    info.insert("chat_time".to_owned(), Value::from(format!("{day}T10:00:00")));
    item.metadata.info = Some(info);
    item
}

fn conversation() -> Vec<MemoryItem> {
    vec![
        message("a1", "one", "Anna", "2024-03-02", "Did you find a home for the kittens?"),
        message("a2", "one", "Tom", "2024-03-02", "My neighbour took both last week."),
        message("a3", "one", "Anna", "2024-03-02", "Lovely! I planted tulips in my garden."),
        message("b1", "two", "Tom", "2024-06-20", "I bought a red bicycle."),
        message("b2", "two", "Anna", "2024-06-20", "I bought a blue kayak."),
        message("b3", "two", "Tom", "2024-06-20", "The lake is wonderful."),
        message("c1", "three", "Anna", "2024-09-09", "The train was late again."),
        message("c2", "three", "Tom", "2024-09-09", "Mine as well."),
    ]
}

async fn house() -> House {
    let house = House::new(RecallOptions::default());
    house.put(conversation()).await;
    house
}

#[tokio::test]
async fn the_one_who_said_it_is_found() {
    let house = house().await;
    assert_eq!(house.best("What did Anna buy?").await, "b2");
    assert_eq!(house.best("What did Tom buy?").await, "b1");
}

#[tokio::test]
async fn an_answer_is_found_by_the_words_of_the_turn_before() {
    let house = house().await;
    // What Tom says shares no word with the question, and nothing else that he says stands beside one that does.
    let found = house.recalled("Where is the home of the kittens that Tom found?", 2, &Filter::Everything).await;
    let answer = found.iter().find(|one| one.id.as_str() == "a2").unwrap();
    assert!(answer.signals.words > 0.0 && answer.signals.speaker == 1.0, "{found:?}");
}

#[tokio::test]
async fn days_that_are_named_count() {
    let house = house().await;
    let found = house.found("What happened in September 2024?").await;
    assert!(found[..2].iter().all(|id| id.starts_with('c')), "{found:?}");
    let found = house.recalled("What happened on 2 March?", 3, &Filter::Everything).await;
    assert!(found.iter().all(|one| one.signals.date == 1.0 && one.id.as_str().starts_with('a')), "{found:?}");
}

#[tokio::test]
async fn signals_are_what_the_constants_say() {
    let house = House::new(RecallOptions::default());
    let alone = MemoryItem::new("x".into(), "purple umbrella");
    house.put(vec![alone]).await;
    let found = house.recalled("purple umbrella", 1, &Filter::Everything).await;
    let signals = found[0].signals;
    // One memory that holds both words: each idf is ln(1 + 0.5 / 1.5), and saturation is at 1.6 / 1.6.
    let idf = (1.0_f32 + 0.5 / 1.5).ln();
    let words = 2.0 * idf / (1.0 + 2.0 * idf).sqrt();
    assert!((signals.words - words).abs() < 1e-5, "{signals:?}");
    assert!((signals.vector - 10.0).abs() < 1e-4 && (signals.context - 10.0).abs() < 1e-4, "{signals:?}");
    assert!((found[0].score - (1.8 * words + 7.5 + 2.0)).abs() < 1e-3, "{found:?}");
}

#[tokio::test]
async fn questions_for_a_time_want_turns_that_tell_one() {
    let house = house().await;
    let found = house.recalled("When were the kittens taken?", 8, &Filter::Everything).await;
    let time = |id: &str| found.iter().find(|one| one.id.as_str() == id).map(|one| one.signals.time);
    assert_eq!((time("a2"), time("a3")), (Some(1.0), Some(0.0)));
    assert_eq!(found.iter().find(|one| one.id.as_str() == "a1").unwrap().signals.question, 1.0);
}

#[tokio::test]
async fn filters_limits_and_nothing() {
    let house = house().await;
    let only = Filter::equals("session_id", "one");
    let found = house.recalled("What did Anna buy?", 10, &only).await;
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|one| one.id.as_str().starts_with('a')));
    assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
    assert_eq!(house.recalled("kayak", 2, &Filter::Everything).await.len(), 2);
    assert!(house.recalled("kayak", 0, &Filter::Everything).await.is_empty());
    let empty = House::new(RecallOptions::default());
    assert!(empty.found("anything?").await.is_empty());
}

#[tokio::test]
async fn writes_are_seen_at_once() {
    let house = house().await;
    assert_eq!(house.best("blue kayak").await, "b2");
    house.put(vec![message("b2", "two", "Anna", "2024-06-20", "I sold a green tent.")]).await;
    assert_eq!(house.best("green tent").await, "b2");
    house.delete("b2").await;
    assert!(!house.found("green tent").await.contains(&"b2".to_owned()));
    house.apply(WriteBatch { clear: true, ..WriteBatch::new(Origin::new("test", "test")) }).await;
    assert!(house.found("green tent").await.is_empty());
}

#[tokio::test]
async fn ranks_do_not_depend_on_the_way_there() {
    let grown = House::new(RecallOptions::default());
    for item in conversation() {
        grown.put(vec![item]).await;
        grown.found("kayak").await;
    }
    let at_once = house().await;
    for question in ["What did Anna buy?", "When was the train late?", "home of the kittens", "on 20 June"] {
        let filter = Filter::Everything;
        let (left, right) =
            (grown.recalled(question, 10, &filter).await, at_once.recalled(question, 10, &filter).await);
        let ids = |found: &[Recalled]| found.iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&left), ids(&right), "{question}");
        for (one, other) in left.iter().zip(&right) {
            assert!((one.score - other.score).abs() < 1e-4, "{question}: {one:?} {other:?}");
        }
    }
}

#[tokio::test]
async fn large_scopes_are_searched_by_candidates() {
    let house = House::new(RecallOptions { max_exhaustive: 4, n_candidates: 3, ..RecallOptions::default() });
    house.put(conversation()).await;
    assert_eq!(house.best("What did Anna buy, a blue kayak?").await, "b2");
    let found = house.recalled("the train was late", 10, &Filter::equals("session_id", "three")).await;
    assert_eq!(found[0].id.as_str(), "c1");
    assert!(found.iter().all(|one| one.id.as_str().starts_with('c')));
}

#[tokio::test]
async fn another_model_is_refused_and_an_adopted_one_followed() {
    let mut house = house().await;
    assert_eq!(house.best("blue kayak").await, "b2");
    let other = WordEmbedder::new("other", 32);
    let space = other.space().await.unwrap();
    let error = house.recall.understand(&house.scope, &space, "blue kayak").await.unwrap_err();
    assert!(matches!(error, StoreError::EmbeddingSpace { .. }), "{error}");
    let items = conversation();
    let texts: Vec<String> = items.iter().map(|item| item.memory.clone()).collect();
    let vectors = items.iter().map(|item| item.id.clone()).zip(other.embed(&texts).await.unwrap()).collect();
    let embeddings = EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: true };
    house.apply(WriteBatch { embeddings: Some(embeddings), ..WriteBatch::new(Origin::new("test", "test")) }).await;
    house.record.adopt_space(&house.scope, &space).await.unwrap();
    house.embedder = other;
    assert_eq!(house.best("blue kayak").await, "b2");
    assert_eq!(house.found("blue kayak").await.len(), 8);
}

#[tokio::test]
async fn scopes_above_the_limit_are_loaded_again() {
    let mut house = House::new(RecallOptions { max_bytes: 1, ..RecallOptions::default() });
    house.put(conversation()).await;
    assert_eq!(house.best("blue kayak").await, "b2");
    house.scope = Scope { cube: "other".into() };
    house.put(vec![message("z", "one", "Anna", "2024-01-01", "a yellow submarine")]).await;
    assert_eq!(house.best("yellow submarine").await, "z");
    assert_eq!(house.recall.indexes.len(), 1, "only the one that was searched last stays");
    house.scope = Scope { cube: "cube".into() };
    assert_eq!(house.best("blue kayak").await, "b2");
}

#[tokio::test]
async fn chinese_is_understood() {
    let house = House::new(RecallOptions::default());
    house
        .put(vec![
            message("q1", "s", "小明", "2024-05-01", "我昨天在北京买了一辆自行车。"),
            message("q2", "s", "小红", "2024-05-01", "我买了一只猫。"),
            message("q3", "t", "小红", "2024-08-01", "今天的天气很好。"),
        ])
        .await;
    assert_eq!(house.best("小明买了什么？").await, "q1");
    assert_eq!(house.best("小红买了什么？").await, "q2");
    assert_eq!(house.best("2024年8月说了什么？").await, "q3");
    let found = house.recalled("小明什么时候买的自行车？", 3, &Filter::Everything).await;
    assert_eq!((found[0].id.as_str(), found[0].signals.time, found[0].signals.speaker), ("q1", 1.0, 1.0));
}
