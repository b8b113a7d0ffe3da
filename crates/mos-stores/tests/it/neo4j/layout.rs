//! The layout of nodes: MemOS reads what this store writes, and this store what MemOS wrote.

use mos_core::{
    Change, Direction, Edge, EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, MemoryItem, MemoryType, Origin,
    Paging, RecordStore, Scope, StoreError, VectorStore, WriteBatch,
};
use neo4rs::{BoltType, Query};
use serde_json::{Value, json};

use super::record::{batch, item, scope};
use super::server::Neo4jServer;

/// How MemOS adds memories with their vectors.
const UPSTREAM_ADD: &str = "UNWIND $nodes AS node MERGE (n:Memory {id: node.id, user_name: $tenant})
     SET n.memory = node.memory, n.created_at = datetime(node.created_at), n.updated_at = datetime(node.updated_at)
     SET n += node.metadata";

fn query(text: &str) -> Query {
    Query::new(text.to_owned())
}

fn bolt_map(entries: &[(&str, BoltType)]) -> BoltType {
    BoltType::Map(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
}

fn texts(values: &[&str]) -> BoltType {
    values.to_vec().into()
}

/// A source as MemOS writes it: encoded twice.
fn twice(source: &Value) -> String {
    Value::String(source.to_string()).to_string()
}

fn upstream_node(id: &str, memory: &str, created_at: &str) -> BoltType {
    let source = twice(&json!({"type": "chat", "role": "user", "content": "I have a dog", "lang": "en"}));
    let metadata = bolt_map(&[
        ("user_id", "ann".into()),
        ("session_id", "default_session".into()),
        ("status", "activated".into()),
        ("memory_type", "LongTermMemory".into()),
        ("key", "Dogs".into()),
        ("tags", texts(&["dog", "park"])),
        ("confidence", 0.99.into()),
        ("usage", texts(&[])),
        ("sources", texts(&[&source])),
        ("background", "".into()),
        ("embedding", vec![0.6, 0.8].into()),
        ("version", 1.into()),
        ("delete_time", "".into()),
        ("delete_record_id", "".into()),
        ("city", "Paris".into()),
        ("internal_info", r#"{"a": 1}"#.into()),
    ]);
    bolt_map(&[
        ("id", id.into()),
        ("memory", memory.into()),
        ("created_at", created_at.into()),
        ("updated_at", created_at.into()),
        ("metadata", metadata),
    ])
}

async fn upstream_cube(server: &Neo4jServer, scope: &Scope) {
    let nodes = vec![
        upstream_node("late", "My dogs run in the park", "2026-01-14T00:00:00"),
        upstream_node("early", "A red cat", "2026-01-13T20:51:42.394870+00:00"),
    ];
    server.run(scope, query(UPSTREAM_ADD).param("nodes", nodes)).await;
    let edge = "MATCH (a:Memory {id: 'late', user_name: $tenant}), (b:Memory {id: 'early', user_name: $tenant})
                MERGE (a)-[:PARENT]->(b)";
    server.run(scope, query(edge)).await;
}

#[tokio::test]
async fn what_memos_wrote_is_read() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("upstream"));
    upstream_cube(&server, &ours).await;
    let page = store.list(&ours, &Filter::Everything, Paging::ALL).await.unwrap();
    assert_eq!(page.total, 2);
    let one = &page.entries[0];
    assert_eq!((one.id.as_str(), one.memory.as_str()), ("early", "A red cat"), "oldest first");
    let fields = one.metadata.tree().unwrap();
    assert_eq!(fields.memory_type, MemoryType::LongTerm);
    assert_eq!(fields.created_at.as_deref(), Some("2026-01-13T20:51:42.394870+00:00"));
    assert_eq!(fields.embedding, None);
    let whole = one.to_value();
    assert_eq!(whole["metadata"]["sources"][0]["content"], json!("I have a dog"), "however often it is encoded");
    assert_eq!(whole["metadata"]["internal_info"], json!({"a": 1}));
    assert_eq!(whole["metadata"]["city"], json!("Paris"));
    for absent in ["user_name", "delete_time", "mos_terms"] {
        assert!(whole["metadata"].get(absent).is_none(), "{absent}");
    }
    let edge = Edge { source: "late".into(), target: "early".into(), kind: "PARENT".to_owned() };
    assert_eq!(store.all_edges(&ours).await.unwrap(), std::slice::from_ref(&edge));
    assert_eq!(store.edges(&ours, &["early".into()], Direction::Incoming, Some("PARENT")).await.unwrap(), [edge]);
    let park = Filter::equals("key", "Dogs").and(Filter::equals("city", "Paris"));
    assert_eq!(GraphStore::count(&*store, &ours, &park).await.unwrap(), 2);
    assert_eq!(GraphStore::count(&*store, &scope("other"), &Filter::Everything).await.unwrap(), 0);
}

#[tokio::test]
async fn what_memos_wrote_takes_part_in_everything() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("upstream"));
    upstream_cube(&server, &ours).await;
    let before = store.list(&ours, &Filter::Everything, Paging::ALL).await.unwrap();
    let found = store.full_text(&ours, "dog", 10, &Filter::equals("status", "activated")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id.as_str(), "late");
    // Two memories, of three terms (dog, run, park) and of two.
    let expected = (1.0_f64 + 1.5 / 1.5).ln() * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 3.0 / 2.5));
    assert!((f64::from(found[0].score) - expected).abs() < 1e-6, "the cube's own numbers: {found:?} {expected}");
    assert_eq!(store.changes(&ours, 0, 10).await.unwrap().len(), 2);
    let after = store.list(&ours, &Filter::Everything, Paging::ALL).await.unwrap();
    assert_eq!(after, before, "taking them over changes nothing that is read");

    let mut changed = before.entries[1].clone();
    "My dogs sleep".clone_into(&mut changed.memory);
    let write = WriteBatch { unchanged: vec![before.entries[1].clone()], ..batch(vec![changed.clone()]) };
    store.apply(&ours, write).await.unwrap();
    assert_eq!(store.nodes(&ours, &["late".into()]).await.unwrap(), [changed]);
    assert_eq!(store.all_edges(&ours).await.unwrap().len(), 1, "edges stay");
    let history = store.history(&ours, &"late".into()).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].item.as_ref(), Some(&before.entries[1]), "what it was before is kept");
    assert_eq!(history[0].origin.reason, "adopted");
    let removal = WriteBatch { delete: vec!["early".into()], ..batch(Vec::new()) };
    assert_eq!(store.apply(&ours, removal).await.unwrap().n_deleted, 1);
    assert_eq!(store.history(&ours, &"early".into()).await.unwrap().len(), 2);
}

/// MemOS may go on writing while this store is open.
#[tokio::test]
async fn what_memos_writes_later_is_taken_over_with_the_next_write() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("both"));
    store.apply(&ours, batch(vec![item("own", "ours")])).await.unwrap();
    upstream_cube(&server, &ours).await;
    assert_eq!(GraphStore::count(&*store, &ours, &Filter::Everything).await.unwrap(), 3);
    store.apply(&ours, batch(vec![item("early", "A blue cat")])).await.unwrap();
    assert_eq!(store.full_text(&ours, "dog cat", 10, &Filter::Everything).await.unwrap().len(), 2);
    let told = store.changes(&ours, 0, 10).await.unwrap();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|change| matches!(change, Change::Put { .. })));
    assert_eq!(store.apply(&ours, WriteBatch { clear: true, ..batch(Vec::new()) }).await.unwrap().n_deleted, 3);
}

/// As an older program leaves them, and as one does that writes while this store is open.
#[tokio::test]
async fn nodes_without_what_lists_need_are_completed() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("older"));
    let mut apart = item("b", "an order");
    apart.quarantine("gives orders");
    store.apply(&ours, batch(vec![item("a", "one"), apart, item("c", "three")])).await.unwrap();
    let (archived, page) = (Filter::equals("status", "archived"), Paging { offset: 1, limit: 1 });
    let asked = async || {
        (
            store.newest(&ours, &Filter::Everything, page).await.unwrap(),
            store.list(&ours, &archived, Paging::ALL).await.unwrap(),
            store.kept_apart(&ours, 5).await.unwrap(),
        )
    };
    let before = asked().await;
    assert_eq!((before.0[0].id.as_str(), before.1.total, before.2.len()), ("b", 1, 1));
    let is_said = "MATCH (n:Memory {user_name: $tenant}) WHERE n.mos_listed IS NOT NULL RETURN count(n) AS value";
    for id in ["a", "b"] {
        let forget =
            "MATCH (n:Memory {user_name: $tenant, id: $id}) REMOVE n.mos_listed, n.mos_made_at, n.mos_is_apart";
        server.run(&ours, query(forget).param("id", id)).await;
        assert_eq!(asked().await, before, "{id}");
        assert_eq!(server.value::<u32>(&ours, query(is_said)).await, 3, "{id}");
    }
}

/// The model of MemOS' vectors is not known: they must not be compared with those of another one.
#[tokio::test]
async fn vectors_of_an_unknown_model_are_not_searched() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("upstream"));
    upstream_cube(&server, &ours).await;
    let space = EmbeddingSpace { model: "mini".to_owned(), dimension: 2 };
    assert_eq!(store.embedding_space(&ours).await.unwrap(), None);
    assert_eq!(store.without_embedding(&ours, &space, 10).await.unwrap().len(), 2);
    let vectors = vec![("late".into(), vec![1.0, 0.0])];
    let embeddings = Some(EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: false });
    store.apply(&ours, WriteBatch { embeddings, ..batch(Vec::new()) }).await.unwrap();
    let found = store.nearest(&ours, &space, &[0.6, 0.8], 10, &Filter::Everything).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(store.embeddings(&ours, &["early".into(), "late".into()]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn memos_can_read_what_is_written() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours) = (server.store().await, scope("c"));
    let value = json!({
        "id": "11111111-2222-4333-8444-555555555555", "memory": "Max has a dog",
        "metadata": {
            "memory_type": "LongTermMemory", "status": "activated", "tags": ["dog"], "confidence": 0.5,
            "sources": [{"type": "chat", "content": "I have a dog"}], "info": {"city": "Paris"}, "own": {"deep": [1]},
            "created_at": "2026-01-02T03:04:05.000006+00:00", "updated_at": "2026-01-03T00:00:00",
        }
    });
    let one = MemoryItem::from_value(value, String::new).unwrap();
    let space = EmbeddingSpace { model: "mini".to_owned(), dimension: 2 };
    let vectors = vec![(one.id.clone(), vec![0.6, 0.8])];
    let embeddings = Some(EmbeddingWrite { space, vectors, made_of: None, aside: false });
    store.apply(&ours, WriteBatch { embeddings, ..batch(vec![one.clone()]) }).await.unwrap();
    assert_eq!(store.nodes(&ours, std::slice::from_ref(&one.id)).await.unwrap(), [one]);
    let of_node = |what: &str| query(&format!("MATCH (n:Memory {{user_name: $tenant}}) RETURN {what} AS value"));
    let is = |what: &'static str| {
        let (statement, server, ours) = (of_node(what), &server, &ours);
        async move { assert!(server.value::<bool>(ours, statement).await, "{what}") }
    };
    is("n.created_at = datetime('2026-01-02T03:04:05.000006Z') AND n.created_at.year = 2026").await;
    is("n.updated_at = datetime('2026-01-03T00:00:00Z')").await;
    is("n.memory_type = 'LongTermMemory' AND n.status = 'activated' AND n.city = 'Paris'").await;
    is("n.tags = ['dog'] AND n.confidence = 0.5 AND n.delete_time = ''").await;
    is("n.own = '{\"deep\":[1]}' AND n.info IS NULL").await;
    is("size(n.embedding) = 2 AND abs(n.embedding[0] - 0.6) < 0.000001").await;
    let sources: Vec<String> = server.value(&ours, of_node("n.sources")).await;
    let source: Value = serde_json::from_str(&sources[0]).unwrap();
    assert_eq!(source["content"], json!("I have a dog"), "encoded once");
}

/// `user_name` is what keeps cubes apart, in MemOS' statements too.
#[tokio::test]
async fn metadata_moves_no_memory_to_another_cube() {
    let Some(server) = Neo4jServer::given() else { return };
    let (store, ours, theirs) = (server.store().await, scope("ours"), scope("theirs"));
    let mut one = item("a", "secret");
    for key in ["user_name", "id", "mos_metadata", "mos_sequence", "memory_id"] {
        one.metadata.extra.insert(key.to_owned(), json!(server.tenant(&theirs)));
    }
    one.metadata.info = json!({"user_name": server.tenant(&theirs)}).as_object().cloned();
    let refused = store.apply(&ours, batch(vec![one.clone()])).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "metadata has no `id` of its own: {refused:?}");
    one.metadata.extra.shift_remove("id");
    store.apply(&ours, batch(vec![one.clone()])).await.unwrap();
    assert_eq!(store.nodes(&ours, &["a".into()]).await.unwrap(), [one]);
    assert_eq!(GraphStore::count(&*store, &theirs, &Filter::Everything).await.unwrap(), 0);
    let origin = Origin::new("ann", "test");
    let receipt = store.apply(&theirs, WriteBatch { clear: true, ..WriteBatch::new(origin) }).await.unwrap();
    assert_eq!(receipt.n_deleted, 0);
}

#[tokio::test]
async fn the_indexes_that_statements_need_are_online() {
    let Some(server) = Neo4jServer::given() else { return };
    server.store().await;
    let statement = "SHOW INDEXES YIELD name, state WHERE state = 'ONLINE' RETURN collect(name) AS value";
    let names: Vec<String> = server.value(&scope("c"), query(statement)).await;
    for wanted in [
        "mos_memory_id",
        "mos_memory_tenant",
        "mos_memory_feed",
        "mos_memory_order",
        "mos_memory_time",
        "mos_memory_apart",
        "mos_memory_terms",
    ] {
        assert!(names.iter().any(|name| name == wanted), "{wanted}: {names:?}");
    }
}
