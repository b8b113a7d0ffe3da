//! Vectors on a Qdrant server: the one that `QDRANT_URL` names, else one of the tests' own that speaks its protocol.

use std::path::Path;
use std::sync::Arc;

use mos::config::Setting;
use mos::migrate::{Endpoint, MigrateOptions, Missing, migrate};
use mos::{Add, Error, Mos, NewCube, Search, Settings};
use mos_core::{CubeId, MemoryError, StoreError};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::qdrant_server::QdrantServer;
use mos_testkit::services;
use serde_json::{Value, json};

use crate::{ann, bob};

async fn build(folder: &Path, stores: &Value) -> mos::Result<Mos> {
    let mut settings = stores.clone();
    settings["models_dir"] = json!(folder.join("models"));
    let settings = Settings::from_json(&settings).unwrap();
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await
}

/// A server, if it is the test's own, and the settings that name it, in collections of the test's own.
fn qdrant(test: &str) -> (Option<QdrantServer>, Value) {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    match given("QDRANT_URL") {
        Some(url) => (None, settings(test, &url, given("QDRANT_API_KEY").as_deref())),
        None => own_qdrant(test),
    }
}

/// One of the test's own whatever the environment names: it can be stopped and started.
fn own_qdrant(test: &str) -> (Option<QdrantServer>, Value) {
    let server = QdrantServer::start(Some("hunter2"));
    let settings = settings(test, &server.url(), Some("hunter2"));
    (Some(server), settings)
}

fn settings(test: &str, url: &str, key: Option<&str>) -> Value {
    let prefix = format!("mos-facade-{test}-{}", std::process::id());
    json!({"backend": "qdrant", "config": {"collection_name": prefix, "url": url, "api_key": key}})
}

async fn found(mos: &Mos, user: &str, cube: &CubeId) -> mos::Result<Vec<String>> {
    let search = Search::new("dog").user(user).cubes(vec![cube.clone()]);
    Ok(mos.search(search).await?.best().iter().map(|(_, found)| found.item.memory.clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn memories_in_sqlite_are_found_through_qdrant() {
    let (server, vectors) = qdrant("sqlite");
    let is_own = server.is_some();
    find_through(server, vectors).await;
    if !is_own {
        let (server, vectors) = own_qdrant("outage");
        find_through(server, vectors).await;
    }
}

/// Searches, and goes on when the server was away, if it is the test's own.
async fn find_through(server: Option<QdrantServer>, vectors: Value) {
    let folder = tempfile::tempdir().unwrap();
    let stores = json!({"vectors": vectors});
    let mos = build(folder.path(), &stores).await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    let notes = CubeId::new("notes");
    mos.create_cube(&ann(), NewCube::new(notes.clone())).await.unwrap();
    let add = async |text: &str| mos.add(Add::text(text).user("ann").cube(notes.clone())).await.unwrap().remove(0);
    let dog = add("My dog is called Max").await;
    add("The dog sleeps").await;
    assert_eq!(found(&mos, "ann", &notes).await.unwrap().len(), 2);
    mos.delete(&ann(), Some(&notes), &dog).await.unwrap();
    assert_eq!(found(&mos, "ann", &notes).await.unwrap(), ["The dog sleeps"]);
    // Another program over the same data.
    let other = build(folder.path(), &stores).await.unwrap();
    assert_eq!(found(&other, "ann", &notes).await.unwrap(), ["The dog sleeps"]);
    if let Some(server) = &server {
        server.stop();
        let error = found(&mos, "ann", &notes).await.unwrap_err();
        assert!(matches!(&error, Error::Memory(MemoryError::Store(StoreError::Unavailable { .. }))), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        add("A dog was here while the server was away").await;
        let report = mos.doctor().await.unwrap();
        let finding = report.findings.iter().find(|finding| finding.what == "vectors").unwrap();
        assert!(finding.detail.contains("gRPC") && finding.remedy.contains("catches up"), "{finding:?}");
        assert!(mos.reconcile().await.unwrap().mended.is_empty(), "nothing can be compared");
        server.start_again();
        assert_eq!(found(&mos, "ann", &notes).await.unwrap().len(), 2);
    }
    let report = mos.reconcile().await.unwrap();
    assert!(report.facts["vectors: server"].starts_with("Qdrant "), "{report:?}");
    assert!(!report.findings.iter().any(|finding| finding.what.contains("vectors")), "{report:?}");
    assert_eq!((report.facts["reconciled cubes"].as_str(), report.mended.len()), ("1", 0), "{report:?}");
    assert!(!serde_json::to_string(&mos.settings().to_json(mos::config::Secrets::Masked)).unwrap().contains("hunter2"));
    mos.delete_cube(&ann(), &notes).await.unwrap();
    mos.create_cube(&ann(), NewCube::new(notes.clone())).await.unwrap();
    assert!(found(&other, "ann", &notes).await.unwrap().is_empty());
    mos.delete_cube(&ann(), &notes).await.unwrap();
    // Whether it was removed in the background or here: nothing of it is left, as soon as what was being followed when it
    // was deleted has come to its end.
    let mut report = mos.reconcile().await.unwrap();
    for _ in 0..100 {
        if report.facts["reconciled cubes"] == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        report = mos.reconcile().await.unwrap();
    }
    assert_eq!((report.facts["reconciled cubes"].as_str(), report.mended.len()), ("0", 0), "{report:?}");
}

/// What MemOS calls `neo4j-community`: memories in Neo4j, vectors in Qdrant.
#[tokio::test(flavor = "multi_thread")]
async fn memories_in_neo4j_are_found_through_qdrant() {
    let [uri, user, password] = ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"].map(services::address);
    let (Some(uri), Some(user), Some(password)) = (uri, user, password) else { return };
    let Some(database) = services::address("DATABASE_URL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_server, vectors) = qdrant("neo4j");
    let name = format!("mos_qdrant_facade_{}", std::process::id());
    let neo4j = json!({"uri": uri, "user": user, "password": password});
    let mut community = neo4j.clone();
    community["vec_config"] = vectors.clone();
    let users = json!({"backend": "postgres", "config": {"url": database, "schema_name": name}});
    let stores = [
        json!({"store": {"backend": "neo4j", "config": neo4j}, "vectors": vectors, "user_manager": users}),
        json!({"store": {"backend": "neo4j-community", "config": community}, "user_manager": users}),
    ];
    let one = build(folder.path(), &stores[0]).await.unwrap();
    let other = build(folder.path(), &stores[1]).await.unwrap();
    one.create_user("bob", None).await.unwrap();
    let notes = CubeId::new(format!("{name}-notes"));
    one.create_cube(&bob(), NewCube::new(notes.clone())).await.unwrap();
    for text in ["My dog is called Max", "The dog sleeps"] {
        one.add(Add::text(text).user("bob").cube(notes.clone())).await.unwrap();
    }
    for mos in [&one, &other] {
        assert_eq!(found(mos, "bob", &notes).await.unwrap().len(), 2);
        let report = mos.reconcile().await.unwrap();
        assert!(report.facts["store"].starts_with("Neo4j") && report.mended.is_empty(), "{report:?}");
    }
    other.delete_all(&bob(), Some(&notes)).await.unwrap();
    assert!(found(&one, "bob", &notes).await.unwrap().is_empty());
    other.delete_cube(&bob(), &notes).await.unwrap();
    let report = one.reconcile().await.unwrap();
    assert_eq!(report.facts["vectors: points"], "0", "{report:?}");
}

#[tokio::test]
async fn settings_that_cannot_be_right_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let with = |config: Value| json!({"vectors": {"backend": "qdrant", "config": config}});
    for (config, word) in [
        (json!({"collection_name": "x", "url": "localhost:6333"}), "http://"),
        (json!({"collection_name": "a/b", "url": "http://localhost"}), "collections"),
        (json!({"collection_name": "x", "host": "db", "distance_metric": "euclidean"}), "cosine"),
    ] {
        let error = build(folder.path(), &with(config)).await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let milvus = json!({"collection_name": ["x"], "uri": "http://localhost:19530"});
    let milvus = json!({"vectors": {"backend": "milvus", "config": milvus}});
    let error = build(folder.path(), &milvus).await.unwrap_err().to_string();
    assert!(error.contains("milvus") && error.contains("qdrant"), "{error}");
    // A folder of MemOS' means that nothing else is needed.
    let mos = build(folder.path(), &with(json!({"collection_name": "x", "path": "folder"}))).await.unwrap();
    assert!(mos.doctor().await.unwrap().facts["vectors"].contains("in this process"));
    assert!(mos.reconcile().await.unwrap_err().to_string().contains("vectors.backend"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cube_that_moves_brings_its_vectors() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_server, vectors) = qdrant("migrate");
    let mos = build(from.path(), &json!({})).await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    let notes = CubeId::new("notes");
    mos.create_cube(&ann(), NewCube::new(notes.clone())).await.unwrap();
    for text in ["My dog is called Max", "The dog sleeps"] {
        mos.add(Add::text(text).user("ann").cube(notes.clone())).await.unwrap();
    }
    let stores = json!({"vectors": vectors});
    let (plain, on_server) = (Settings::default(), Settings::from_json(&stores).unwrap());
    let source = Endpoint::open(&plain, Some(from.path()), Missing::Refuse).await.unwrap();
    let target = Endpoint::open(&on_server, Some(to.path()), Missing::Make).await.unwrap();
    let counted = async |options: MigrateOptions| {
        let report = migrate(&source, &target, &options, |_| ()).await.unwrap();
        report.cubes.into_iter().map(|cube| cube.n_vectors).collect::<Vec<_>>()
    };
    assert_eq!(counted(MigrateOptions { dry_run: true, ..MigrateOptions::default() }).await, [None]);
    assert_eq!(counted(MigrateOptions::default()).await, [Some(2)]);
    assert_eq!(counted(MigrateOptions::default()).await, [Some(2)], "once more changes nothing");
    let moved = build(to.path(), &stores).await.unwrap();
    assert_eq!(found(&moved, "ann", &notes).await.unwrap().len(), 2);
    // Two records with the same collections would remove each other's points.
    let shared = Endpoint::open(&on_server, Some(from.path()), Missing::Refuse).await.unwrap();
    let error = migrate(&shared, &target, &MigrateOptions::default(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("another collection_name"), "{error}");
}
