//! The record on a Neo4j server: the contracts, and what is particular to this store.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{
    Condition, CubeId, Edge, EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, JobId, MemoryId, MemoryItem, NewJob,
    Operator, Origin, Paging, RecordStore, Scope, ScopeLifecycle, StoreError, SystemClock, VectorStore, WriteBatch,
};
use mos_stores::{ExactVectors, InMemoryStore, Neo4jOptions, Neo4jStore};
use mos_testkit::contracts;
use neo4rs::Query;
use serde_json::json;

use super::server::Neo4jServer;

pub(super) fn scope(cube: &str) -> Scope {
    Scope::of(&CubeId::new(cube))
}

pub(super) fn batch(put: Vec<MemoryItem>) -> WriteBatch {
    WriteBatch { put, ..WriteBatch::new(Origin::new("ann", "test")) }
}

pub(super) fn item(id: &str, memory: &str) -> MemoryItem {
    MemoryItem::new(MemoryId::new(id), memory)
}

fn query(text: &str) -> Query {
    Query::new(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn neo4j_keeps_the_record_contract() {
    let Some(server) = Neo4jServer::given() else { return };
    contracts::record::run(async || server.fresh_store().await as Arc<dyn RecordStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neo4j_keeps_the_archive_contract() {
    let Some(server) = Neo4jServer::given() else { return };
    contracts::archive::run(async || server.fresh_store().await as Arc<dyn RecordStore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neo4j_keeps_the_vectors_contract() {
    let Some(server) = Neo4jServer::given() else { return };
    let make = async || {
        let store = server.fresh_store().await;
        (Arc::clone(&store) as Arc<dyn RecordStore>, store as Arc<dyn VectorStore>)
    };
    contracts::vectors::run(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_vectors_over_neo4j_keep_the_vectors_contract() {
    let Some(server) = Neo4jServer::given() else { return };
    let make = async || {
        let record: Arc<dyn RecordStore> = server.fresh_store().await;
        let index: Arc<dyn VectorStore> = ExactVectors::following(Arc::clone(&record));
        (record, index)
    };
    contracts::vectors::run(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neo4j_keeps_the_scopes_contract() {
    let Some(server) = Neo4jServer::given() else { return };
    let make = async || {
        let store = server.fresh_store().await;
        (Arc::clone(&store) as Arc<dyn ScopeLifecycle>, store as Arc<dyn RecordStore>)
    };
    contracts::scopes::run_without_jobs(make).await;
}

#[tokio::test]
async fn jobs_are_refused() {
    let Some(server) = Neo4jServer::given() else { return };
    let store = server.store().await;
    let jobs = vec![NewJob::new(JobId::new("j"), "label", json!(1))];
    let error = store.apply(&scope("c"), WriteBatch { jobs, ..batch(vec![item("a", "x")]) }).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(text) if text.contains("queue")), "{error}");
    assert_eq!(GraphStore::count(&*store, &scope("c"), &Filter::Everything).await.unwrap(), 0);
}

#[tokio::test]
async fn strange_names_of_fields_and_edges_stay_data() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours, theirs) = (server.store().await, scope("it's `ours`"), scope("theirs"));
    let names = ["it's", "a\"b", "a`b", "n}) RETURN 1 //", "mos_sequence", "user_name", "a.b", "记忆", ""];
    let mut one = item("a", "text");
    for name in names {
        one.metadata.extra.insert(name.to_owned(), json!(server.tenant(&theirs)));
    }
    store.apply(&ours, batch(vec![one.clone(), item("b", "other")])).await.unwrap();
    assert_eq!(store.nodes(&ours, &["a".into()]).await.unwrap(), [one]);
    for name in names {
        let filter = Filter::equals(name, server.tenant(&theirs));
        let found = store.list(&ours, &filter, Paging::ALL).await.unwrap();
        assert_eq!((found.total, found.entries[0].id.as_str()), (1, "a"), "{name}");
        assert_eq!(GraphStore::count(&*store, &ours, &Filter::equals(name, "else")).await.unwrap(), 0, "{name}");
        assert_eq!(GraphStore::count(&*store, &theirs, &filter).await.unwrap(), 0, "no memory moves to another cube");
    }
    let kinds = ["IT'S", "A`B", "X]->() DETACH DELETE n //", "关系"];
    let edge = |kind: &str| Edge { source: "a".into(), target: "b".into(), kind: kind.to_owned() };
    let put_edges: Vec<Edge> = kinds.map(edge).to_vec();
    store.apply(&ours, WriteBatch { put_edges, ..batch(Vec::new()) }).await.unwrap();
    assert_eq!(store.all_edges(&ours).await.unwrap().len(), kinds.len());
    for kind in kinds {
        let found = store.edges(&ours, &["a".into()], mos_core::Direction::Any, Some(kind)).await.unwrap();
        assert_eq!(found, [edge(kind)]);
    }
    for kind in ["", "A\u{0}B"] {
        let write = WriteBatch { put_edges: vec![edge(kind)], ..batch(Vec::new()) };
        assert!(matches!(store.apply(&ours, write).await, Err(StoreError::Invalid(_))));
    }
}

#[tokio::test]
async fn filters_as_deep_as_they_come_are_evaluated() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("c"));
    let mut one = item("a", "text");
    one.metadata.key = Some("wanted".to_owned());
    store.apply(&ours, batch(vec![one, item("b", "text")])).await.unwrap();
    let mut filter = Filter::equals("key", "wanted");
    for depth in 0..100 {
        filter = if depth % 2 == 0 { Filter::Any(vec![filter]) } else { Filter::All(vec![filter]) };
    }
    assert_eq!(GraphStore::count(&*store, &ours, &filter).await.unwrap(), 1);
    let found = store.full_text(&ours, "text", 9, &filter).await.unwrap();
    assert_eq!(found.len(), 1);
}

/// Every filter lets the same memories pass as in the other stores.
#[tokio::test]
async fn filters_mean_what_they_mean_in_memory() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, memory, ours) = (server.store().await, InMemoryStore::new(Arc::new(SystemClock)), scope("c"));
    let values = [
        json!("x"),
        json!(""),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(true),
        json!(["x", "y"]),
        json!([1, 2.5]),
        json!(["x", 1]),
        json!({"a": "x"}),
        json!(null),
        json!("2026-01-02T03:04:05+00:00"),
        json!("[\"x\"]"),
    ];
    let fields = ["own", "key", "created_at", "info_only", "status", "delete_time", "sources"];
    let mut put = Vec::new();
    for (number, value) in values.iter().enumerate() {
        let mut one = item(&format!("{number:02}"), value.as_str().unwrap_or("text"));
        one.metadata.extra.insert("own".to_owned(), value.clone());
        one.metadata.extra.insert("delete_time".to_owned(), value.clone());
        one.metadata.extra.insert("created_at".to_owned(), value.clone());
        one.metadata.key = value.as_str().map(str::to_owned);
        one.metadata.info = json!({"info_only": value, "own": "x", "status": "x"}).as_object().cloned();
        put.push(one);
    }
    store.apply(&ours, batch(put.clone())).await.unwrap();
    memory.apply(&ours, batch(put)).await.unwrap();
    let operators =
        [Operator::Eq, Operator::Gt, Operator::Lte, Operator::Contains, Operator::In, Operator::Like, Operator::Lt];
    for (field, operator) in fields.iter().flat_map(|field| operators.map(|operator| (*field, operator))) {
        for value in &values {
            let condition = Condition { field: field.to_owned(), operator, value: value.clone() };
            let filter = Filter::Is(condition).and(Filter::Any(vec![Filter::equals("own", "x"), Filter::Everything]));
            let found = store.list(&ours, &filter, Paging::ALL).await.unwrap();
            assert_eq!(found, memory.list(&ours, &filter, Paging::ALL).await.unwrap(), "{filter:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_cube_among_many_vectors_finds_all_of_its_own() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours, theirs) = (server.store().await, scope("small"), scope("large"));
    let space = EmbeddingSpace { model: "mini".to_owned(), dimension: 8 };
    let write = |n: usize, spread: f32| {
        let put: Vec<MemoryItem> = (0..n).map(|number| item(&format!("{number:05}"), "text")).collect();
        let vector = |number: usize| (0..8).map(|at| 1.0 + spread * ((number * (at + 3)) % 17) as f32).collect();
        let vectors = put.iter().enumerate().map(|(number, one)| (one.id.clone(), vector(number))).collect();
        let embeddings = EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: false };
        WriteBatch { embeddings: Some(embeddings), ..batch(put) }
    };
    store.apply(&ours, write(25, 1.0)).await.unwrap();
    // Every foreign vector is nearer to the query than any of ours.
    store.apply(&theirs, write(5000, 0.001)).await.unwrap();
    let found = store.nearest(&ours, &space, &[1.0; 8], 25, &Filter::Everything).await.unwrap();
    assert_eq!(found.len(), 25);
    let filter = Filter::Is(Condition { field: "memory".to_owned(), operator: Operator::Like, value: json!("text") });
    assert_eq!(store.nearest(&ours, &space, &[1.0; 8], 25, &filter).await.unwrap(), found);
    let reference = InMemoryStore::new(Arc::new(SystemClock));
    reference.apply(&ours, write(25, 1.0)).await.unwrap();
    let exact = ExactVectors::following(reference);
    let expected = exact.nearest(&ours, &space, &[1.0; 8], 25, &Filter::Everything).await.unwrap();
    for (one, other) in found.iter().zip(&expected) {
        assert!(one.id == other.id && (one.score - other.score).abs() < 1e-6, "{one:?} {other:?}");
    }
    let few = store.nearest(&theirs, &space, &[1.0; 8], 3, &Filter::equals("memory", "text")).await.unwrap();
    assert_eq!(few.len(), 3);
}

#[tokio::test]
async fn idempotency_keys_are_bounded() {
    let Some(server) = Neo4jServer::given() else { return };
    let options = Neo4jOptions { max_idempotency_keys: 10, ..server.options() };
    let (store, ours) = (Neo4jStore::open(options, Arc::new(SystemClock)).await.unwrap(), scope("c"));
    let write = |number: usize| WriteBatch {
        idempotency_key: Some(format!("key {number}")),
        ..batch(vec![item("a", &format!("{number}"))])
    };
    for number in 0..130 {
        store.apply(&ours, write(number)).await.unwrap();
    }
    let n: i64 = server.value(&ours, query("MATCH (r:MosReceipt {tenant: $tenant}) RETURN count(r) AS value")).await;
    assert!((10..=10 + 64).contains(&n), "{n}");
    assert!(store.apply(&ours, write(129)).await.unwrap().replayed);
    assert!(!store.apply(&ours, write(0)).await.unwrap().replayed, "the oldest is forgotten");
}

/// Two programs with the same cube: what one writes the other finds, numbers and statistics stay right.
#[tokio::test(flavor = "multi_thread")]
async fn several_programs_share_a_cube() {
    let Some(server) = Neo4jServer::given() else { return };
    let stores = [server.store().await, server.store().await];
    let writers = (0..8).map(|writer| {
        let store = Arc::clone(&stores[writer % 2]);
        tokio::spawn(async move {
            for number in 0..10 {
                let id = if number % 2 == 0 { "shared".to_owned() } else { format!("{writer}-{number}") };
                store.apply(&scope("c"), batch(vec![item(&id, "red dog")])).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let history = stores[0].history(&scope("c"), &"shared".into()).await.unwrap();
    let numbers: Vec<u64> = history.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    let changes = stores[1].changes(&scope("c"), 0, 1000).await.unwrap();
    assert_eq!(changes.len(), 41);
    let found = stores[1].full_text(&scope("c"), "dog", 100, &Filter::Everything).await.unwrap();
    let weight = (1.0_f64 + (41.0 - 41.0 + 0.5) / (41.0 + 0.5)).ln();
    assert_eq!(found.len(), 41);
    assert!(found.iter().all(|one| (f64::from(one.score) - weight).abs() < 1e-6), "{:?}", found[0]);
}

/// A follower that reads the feed while others write misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_misses_no_change() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("c"));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..15 {
                    let put = (0..20).map(|one| item(&format!("{writer}-{number}-{one}"), "text")).collect();
                    store.apply(&scope("c"), batch(put)).await.unwrap();
                }
            })
        })
        .collect();
    let (mut seen, mut after) = (std::collections::HashSet::new(), 0);
    loop {
        let is_last = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let page = store.changes(&ours, after, 37).await.unwrap();
        for change in &page {
            let mos_core::Change::Put { sequence, id, .. } = change else { panic!("{change:?}") };
            assert_eq!(*sequence, after + 1, "every number is told once, in order");
            (after, _) = (*sequence, seen.insert(id.clone()));
        }
        if page.is_empty() && is_last {
            break;
        }
    }
    assert_eq!(seen.len(), 4 * 15 * 20);
}

/// The server shows a commit piece by piece: a follower must not read while one is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_waits_for_a_write_that_is_under_way() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("c"));
    store.apply(&ours, batch(vec![item("a", "text")])).await.unwrap();
    let mut write = server.graph().start_txn().await.unwrap();
    let hold = query("MATCH (s:MosScope {tenant: $tenant}) SET s.written_at = 'now'");
    write.run(hold.param("tenant", server.tenant(&ours))).await.unwrap();
    let follower = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.changes(&scope("c"), 0, 10).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!follower.is_finished());
    write.rollback().await.unwrap();
    assert_eq!(follower.await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_may_begin_and_end_anywhere() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("c"));
    store.apply(&ours, batch(vec![item("a", "text"), item("b", "text")])).await.unwrap();
    for (offset, expected) in [(0, 2), (1, 1), (usize::MAX - 1, 0), (usize::MAX, 0)] {
        let paging = Paging { offset, limit: usize::MAX };
        for filter in [Filter::Everything, Filter::equals("memory", "text")] {
            let page = store.list(&ours, &filter, paging).await.unwrap();
            assert_eq!((page.entries.len(), page.total), (expected, 2), "{offset}");
        }
    }
    assert_eq!(store.changes(&ours, 0, usize::MAX).await.unwrap().len(), 2);
    assert_eq!(store.full_text(&ours, "text", usize::MAX, &Filter::equals("memory", "text")).await.unwrap().len(), 2);
}
