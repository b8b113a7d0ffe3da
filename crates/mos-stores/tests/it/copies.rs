//! Copies of a database in use, and databases without what was removed.

use std::path::Path;
use std::sync::Arc;

use mos_core::{
    CubeId, Expected, Filter, GraphStore, MemoryItem, Origin, RecordStore, Scope, StateStore, SystemClock, UserId,
    WriteBatch,
};
use mos_stores::{SqliteOptions, SqliteStore};
use serde_json::json;

fn open(path: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions::at(path), Arc::new(SystemClock)).unwrap()
}

fn scope() -> Scope {
    Scope::of(&CubeId::new("c"))
}

async fn put(store: &SqliteStore, id: &str, memory: &str) {
    let put = vec![MemoryItem::new(id.into(), memory)];
    let batch = WriteBatch { put, ..WriteBatch::new(Origin::new("ann", "add")) };
    store.apply(&scope(), batch).await.unwrap();
}

fn holds(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_moment_and_holds_what_was_written_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("mos.db"));
    for number in 0..50 {
        put(&store, &format!("before{number}"), "a fact").await;
    }
    let writing = Arc::clone(&store);
    let writer = tokio::spawn(async move {
        for number in 0..100 {
            put(&writing, &format!("during{number}"), "another fact").await;
        }
    });
    let copy = folder.path().join("copy.db");
    store.copy_to(&copy).await.unwrap();
    writer.await.unwrap();
    assert!(store.copy_to(&copy).await.is_err(), "a copy that exists stays");
    let copied = open(&copy);
    let findings = copied.check().await.unwrap();
    assert!(findings.iter().all(|one| one.what == mos_stores::UNKNOWN_CUBE), "{findings:?}");
    let n_copied = copied.count(&scope(), &Filter::Everything).await.unwrap();
    assert!((50..=150).contains(&n_copied), "{n_copied}");
    let ids: Vec<mos_core::MemoryId> = (0..50).map(|number| format!("before{number}").as_str().into()).collect();
    assert_eq!(copied.nodes(&scope(), &ids).await.unwrap().len(), 50);
}

#[tokio::test]
async fn no_byte_of_what_was_removed_stays_in_a_compacted_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("mos.db"));
    put(&store, "kept", "the cat sleeps").await;
    put(&store, "gone", "quokkaburg is a town").await;
    let batch = WriteBatch { delete: vec!["gone".into()], ..WriteBatch::new(Origin::new("ann", "delete")) };
    store.apply(&scope(), batch).await.unwrap();
    store.erase_history(&scope(), &["gone".into()]).await.unwrap();
    assert!(holds(folder.path(), "quokkaburg"), "removing alone leaves bytes");
    store.compact().await.unwrap();
    assert!(!holds(folder.path(), "quokkaburg"));
    let found = store.full_text(&scope(), "cat", 9, &Filter::Everything).await.unwrap();
    assert_eq!(found.len(), 1, "what is left is found as before");
    let traces = store.erase_traces(&UserId::new("ann"), &[], false).await.unwrap();
    assert!(traces.n_changes >= 1);
    store.compact().await.unwrap();
    let versions = store.history(&scope(), &"kept".into()).await.unwrap();
    assert!(versions.iter().all(|version| version.origin.actor != "ann"), "{versions:?}");
}

#[tokio::test]
async fn who_is_erased_takes_along_what_fields_of_users_name_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("mos.db"));
    put(&store, "kept", "the cat sleeps").await;
    let of_user = json!({"asked": [{"user_id": "user"}]});
    let of_bob =
        json!({"user_id": "bob", "mem_cube_id": "user", "chat_history": [{"role": "user", "content": "user"}]});
    for (key, value) in [("one", &of_user), ("user", &of_bob), ("users", &json!({"users": ["bob", "user"]}))] {
        StateStore::write(&*store, &scope(), key, value, Expected::Anything).await.unwrap();
    }
    StateStore::append(&*store, &scope(), "events", &[of_user, of_bob], 10).await.unwrap();
    let traces = store.erase_traces(&UserId::new("user"), &[], false).await.unwrap();
    assert_eq!((traces.n_documents, traces.n_log_entries), (2, 1));
    assert_eq!(StateStore::keys(&*store, &scope(), "", None, 10).await.unwrap(), ["user"]);
    assert_eq!(StateStore::entries(&*store, &scope(), "events", 0, 10).await.unwrap().len(), 1);
}
