//! A database of every released version opens, and holds its memories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos_core::{
    Access, ApiKey, Cube, CubeId, Direction, Document, Edge, EmbeddingSpace, EmbeddingWrite, Expected, Filter,
    GraphStore, JobQueue, JobState, KeyHash, KeyId, KeyScope, KeyStore, LogEntry, MemoryItem, NewJob, Origin, Paging,
    RecordStore, Scope, StateStore, UserId, UserRole, UserStore, VectorStore, WriteBatch,
};
use mos_stores::{ExactVectors, SCHEMA_VERSION, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use rusqlite::Connection;

use crate::support::request;

fn fixture(version: i64) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join(format!("tests/fixtures/mos-v{version}.db"))
}

fn open(path: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions::at(path), Arc::new(SetClock::default())).unwrap()
}

fn scope() -> Scope {
    Scope { cube: "ann/cube".into() }
}

fn job(name: &str) -> NewJob {
    NewJob::new(name.into(), "mem_read", serde_json::json!({"ids": ["max"]}))
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace { model: "mini".to_owned(), dimension: 2 }
}

/// Writes what the fixture of the present version holds. Run it once, when a version is released.
#[tokio::test]
#[ignore = "writes the fixture of the present version"]
async fn write_the_fixture() {
    assert!(!fixture(SCHEMA_VERSION).exists(), "the fixture of a released version is never written again");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(&path);
    store.create_user(&UserId::new("ann"), "Ann", UserRole::User).await.unwrap();
    store.create_user(&UserId::new("bob"), "Bob", UserRole::Guest).await.unwrap();
    store.create_user(&UserId::new("eve"), "Eve", UserRole::User).await.unwrap();
    let cube = Cube {
        cube_id: scope().cube,
        cube_name: "Ann's".to_owned(),
        cube_path: None,
        owner_id: UserId::new("ann"),
        created_at: "2026-01-02T03:04:05.000000+00:00".to_owned(),
        is_registered: true,
        config: serde_json::json!({"text_mem": {"backend": "general_text"}}),
    };
    store.create_cube(&cube).await.unwrap();
    store.share(&cube.cube_id, &UserId::new("bob"), Access::Member).await.unwrap();
    store.share(&cube.cube_id, &UserId::new("eve"), Access::Reader).await.unwrap();
    let items = [("max", "My dog is called Max"), ("park", "He lives near Central Park"), ("足球", "我喜欢踢足球")];
    let batch = WriteBatch {
        put: items.iter().map(|(id, memory)| MemoryItem::new((*id).into(), *memory)).collect(),
        put_edges: vec![Edge { source: "max".into(), target: "park".into(), kind: "NEXT".to_owned() }],
        embeddings: Some(EmbeddingWrite {
            space: space(),
            vectors: vec![("max".into(), vec![1.0, 0.0]), ("park".into(), vec![0.0, 1.0])],
            made_of: None,
            aside: false,
        }),
        idempotency_key: Some("the key".to_owned()),
        jobs: ["finished", "dead", "claimed", "waiting"].map(job).to_vec(),
        ..WriteBatch::new(Origin::new("ann", "add"))
    };
    store.apply(&scope(), batch).await.unwrap();
    let changed = MemoryItem::new("park".into(), "He lives near Riverside Park");
    store
        .apply(&scope(), WriteBatch { put: vec![changed], ..WriteBatch::new(Origin::new("ann", "update")) })
        .await
        .unwrap();
    let claimed = store.claim(&request(3)).await.unwrap();
    store.complete(&claimed[0].ticket).await.unwrap();
    store.fail(&claimed[1].ticket, "broken", None).await.unwrap();
    write_state(&*store).await;
    store.create_key(&fixture_key(), &KeyHash::new([7; 32])).await.unwrap();
    drop(store);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "page_size", 1024).unwrap();
    connection.execute("VACUUM INTO ?1", [fixture(SCHEMA_VERSION).to_str().unwrap()]).unwrap();
}

fn fixture_key() -> ApiKey {
    ApiKey {
        id: KeyId::new("key"),
        prefix: "krlk_0123456".to_owned(),
        user: Some(UserId::new("ann")),
        scopes: [KeyScope::Read, KeyScope::Write].into(),
        cubes: Some([scope().cube].into()),
        description: Some("for the phone".to_owned()),
        created_at: jiff::Timestamp::from_microsecond(1_767_323_045_000_001).unwrap(),
        last_used_at: None,
        expires_at: None,
        is_active: true,
    }
}

async fn write_state(state: &dyn StateStore) {
    for n in 1..=2 {
        state.write(&scope(), "kept", &serde_json::json!({"n": n}), Expected::Anything).await.unwrap();
    }
    state.write(&scope(), "removed", &serde_json::json!(1), Expected::Absent).await.unwrap();
    assert!(state.remove(&scope(), "removed").await.unwrap());
    let entries = ["a", "b", "c"].map(serde_json::Value::from);
    assert_eq!(state.append(&scope(), "log", &entries, 2).await.unwrap(), 3);
}

#[tokio::test]
async fn every_released_version_opens_and_holds_its_memories() {
    for version in 1..=SCHEMA_VERSION {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mos.db");
        std::fs::copy(fixture(version), &path).unwrap();
        let found: i64 =
            Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(found, version, "the fixture is of the version it is named after");
        let store = open(&path);
        assert_eq!(store.statistics().await.unwrap().schema_version, SCHEMA_VERSION);
        assert_eq!(store.check().await.unwrap(), []);
        assert_holds_its_memories(&store).await;
        if version >= 3 {
            assert_holds_its_jobs(&store).await;
        }
        assert_holds_its_shares(&store, version).await;
        if version < 9 {
            store.create_key(&fixture_key(), &KeyHash::new([7; 32])).await.unwrap();
        }
        assert_eq!(store.find_key(&KeyHash::new([7; 32])).await.unwrap(), Some(fixture_key()));
        if version >= 6 {
            assert_holds_its_state(&*store).await;
        } else {
            write_state(&*store).await;
        }
        let is_copied = folder.path().join(format!("mos.db.v{version}.backup")).exists();
        assert_eq!(is_copied, version < SCHEMA_VERSION, "an older one is copied before it is migrated");
    }
}

async fn assert_holds_its_memories(store: &Arc<SqliteStore>) {
    let (scope, all) = (scope(), Filter::Everything);
    let texts: Vec<String> =
        store.list(&scope, &all, Paging::ALL).await.unwrap().entries.into_iter().map(|item| item.memory).collect();
    assert_eq!(texts, ["My dog is called Max", "He lives near Riverside Park", "我喜欢踢足球"]);
    assert_eq!(store.full_text(&scope, "dogs", 5, &all).await.unwrap()[0].id.as_str(), "max");
    assert_eq!(store.full_text(&scope, "足球", 5, &all).await.unwrap()[0].id.as_str(), "足球");
    let index = ExactVectors::following(Arc::clone(store) as Arc<dyn RecordStore>);
    let nearest = index.nearest(&scope, &space(), &[1.0, 0.1], 5, &all).await.unwrap();
    assert_eq!(nearest.len(), 1, "the changed memory has lost its embedding");
    assert_eq!(store.history(&scope, &"park".into()).await.unwrap().len(), 2);
    assert_eq!(store.edges(&scope, &["max".into()], Direction::Outgoing, None).await.unwrap().len(), 1);
    let access = store.access(&UserId::new("bob"), &CubeId::new("ann/cube")).await.unwrap();
    assert_eq!(access, Some(Access::Member));
    let again = WriteBatch { idempotency_key: Some("the key".to_owned()), ..WriteBatch::default() };
    assert!(store.apply(&scope, again).await.unwrap().replayed);
    let new = WriteBatch { put: vec![MemoryItem::new("new".into(), "another dog")], ..WriteBatch::default() };
    store.apply(&scope, new).await.unwrap();
    assert_eq!(store.full_text(&scope, "dog", 5, &all).await.unwrap().len(), 2, "it takes new memories");
}

async fn assert_holds_its_shares(store: &Arc<SqliteStore>, version: i64) {
    let (ann, bob, eve) = (UserId::new("ann"), UserId::new("bob"), UserId::new("eve"));
    let mut expected = vec![(ann, Access::Owner), (bob.clone(), Access::Member)];
    if version >= 7 {
        expected.push((eve, Access::Reader));
    }
    let cube = scope().cube;
    assert_eq!(store.shares(&cube).await.unwrap(), expected, "those of before read and write");
    store.share(&cube, &bob, Access::Reader).await.unwrap();
    assert_eq!(store.access(&bob, &cube).await.unwrap(), Some(Access::Reader), "they can be changed");
}

async fn assert_holds_its_jobs(store: &Arc<SqliteStore>) {
    let mut states = Vec::new();
    for name in ["finished", "dead", "claimed", "waiting"] {
        states.push(store.find(&scope(), &name.into()).await.unwrap().unwrap());
    }
    assert_eq!(states[0], JobState::Finished);
    assert_eq!(states[1], JobState::Dead { reason: "broken".to_owned() });
    assert!(matches!(&states[2], JobState::Claimed { consumer, .. } if consumer == "worker"));
    assert_eq!(states[3], JobState::Waiting);
    let claimed = store.claim(&request(10)).await.unwrap();
    assert_eq!((claimed.len(), &claimed[0].job.payload), (1, &serde_json::json!({"ids": ["max"]})));
    assert_eq!(store.retry_dead(&scope(), &["dead".into()]).await.unwrap(), 1);
}

async fn assert_holds_its_state(state: &dyn StateStore) {
    let kept = Document { value: serde_json::json!({"n": 2}), version: 2 };
    assert_eq!(state.read(&scope(), "kept").await.unwrap(), Some(kept));
    assert_eq!(state.keys(&scope(), "", None, 10).await.unwrap(), ["kept"]);
    let again = state.write(&scope(), "removed", &serde_json::json!(2), Expected::Absent).await.unwrap();
    assert_eq!(again, 2, "a removed one counts on");
    let entries = state.entries(&scope(), "log", 0, 10).await.unwrap();
    let entry = |sequence: u64, text: &str| LogEntry { sequence, value: text.into() };
    assert_eq!(entries, [entry(2, "b"), entry(3, "c")]);
    assert_eq!(state.append(&scope(), "log", &[], 2).await.unwrap(), 3);
}
