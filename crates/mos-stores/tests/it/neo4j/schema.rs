//! What a database must be like. These tests change all of it, and therefore run alone:
//! `cargo test -p mos-stores --test it neo4j::schema -- --ignored --test-threads 1`.

use std::sync::Arc;

use mos_core::{
    EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, RecordStore, StoreError, SystemClock, VectorStore, WriteBatch,
};
use mos_stores::{NEO4J_SCHEMA_VERSION, Neo4jOptions, Neo4jStore};
use neo4rs::Query;

use super::record::{batch, item, scope};
use super::server::Neo4jServer;

async fn run(server: &Neo4jServer, text: &str) {
    server.run(&scope("c"), Query::new(text.to_owned())).await;
}

async fn refused(server: &Neo4jServer) -> StoreError {
    Neo4jStore::open(server.options(), Arc::new(SystemClock)).await.unwrap_err()
}

#[tokio::test]
#[ignore = "changes the whole database"]
async fn a_database_of_a_newer_program_is_refused() {
    let Some(server) = Neo4jServer::given() else { return };
    server.store().await;
    run(&server, "MATCH (m:MosMeta {name: 'schema'}) SET m.version = 999").await;
    let error = refused(&server).await;
    run(&server, &format!("MATCH (m:MosMeta {{name: 'schema'}}) SET m.version = {NEO4J_SCHEMA_VERSION}")).await;
    assert!(matches!(error, StoreError::Newer { found: 999, known: NEO4J_SCHEMA_VERSION, .. }), "{error}");
    server.store().await;
}

/// MemOS has no constraint on ids.
#[tokio::test]
#[ignore = "changes the whole database"]
async fn several_nodes_of_one_id_are_refused() {
    let Some(server) = Neo4jServer::given() else { return };
    server.store().await;
    run(&server, "DROP CONSTRAINT mos_memory_id").await;
    for _ in 0..2 {
        run(&server, "CREATE (:Memory {user_name: $tenant, id: 'twice', memory: 'x'})").await;
    }
    let error = refused(&server).await;
    run(&server, "MATCH (n:Memory {user_name: $tenant}) WITH n LIMIT 1 DELETE n").await;
    assert!(matches!(&error, StoreError::Invalid(text) if text.contains("delete all but one")), "{error}");
    assert_eq!(server.store().await.nodes(&scope("c"), &["twice".into()]).await.unwrap().len(), 1);
}

/// MemOS' vector index is of one length; vectors of another one are kept and found all the same.
#[tokio::test]
#[ignore = "changes the whole database"]
async fn the_vector_index_of_memos_can_be_made() {
    let Some(server) = Neo4jServer::given() else { return };
    let options = Neo4jOptions { vector_index_dimension: Some(3), ..server.options() };
    let store = Neo4jStore::open(options.clone(), Arc::new(SystemClock)).await.unwrap();
    Neo4jStore::open(options, Arc::new(SystemClock)).await.unwrap();
    let n: i64 = server
        .value(
            &scope("c"),
            Query::new(
                "SHOW INDEXES YIELD name WHERE name = 'memory_vector_index' RETURN count(*) AS value".to_owned(),
            ),
        )
        .await;
    let mut found = Vec::new();
    for (cube, vector) in [("c", vec![1.0, 0.0, 0.0]), ("d", vec![1.0, 0.0])] {
        let space = EmbeddingSpace { model: "mini".to_owned(), dimension: vector.len() };
        let vectors = vec![("a".into(), vector.clone())];
        let embeddings = Some(EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: false });
        store.apply(&scope(cube), WriteBatch { embeddings, ..batch(vec![item("a", "x")]) }).await.unwrap();
        found.extend(store.nearest(&scope(cube), &space, &vector, 5, &Filter::Everything).await.unwrap());
    }
    run(&server, "DROP INDEX memory_vector_index").await;
    assert_eq!((n, found.len()), (1, 2));
}
