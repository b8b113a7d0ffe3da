//! Documents and logs in the database file: shared by processes, and safe on a bad disk.

use std::sync::Arc;

use mos_core::{Expected, Scope, StateStore, StoreError};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::power_loss::{Disk, WriteFault};
use serde_json::{Value, json};

fn scope() -> Scope {
    Scope { cube: "c".into() }
}

fn open(options: SqliteOptions) -> Arc<SqliteStore> {
    SqliteStore::open(options, Arc::new(SetClock::default())).unwrap()
}

async fn put(store: &dyn StateStore, value: Value, expected: Expected) -> Result<u64, StoreError> {
    store.write(&scope(), "key", &value, expected).await
}

async fn value(store: &dyn StateStore) -> Option<Value> {
    store.read(&scope(), "key").await.unwrap().map(|document| document.value)
}

async fn add(store: &dyn StateStore, value: Value) -> Result<u64, StoreError> {
    store.append(&scope(), "log", &[value], 5).await
}

async fn log(store: &dyn StateStore) -> Vec<Value> {
    store.entries(&scope(), "log", 0, 10).await.unwrap().into_iter().map(|entry| entry.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_opened_the_file_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SqliteOptions::at(folder.path().join("mos.db"));
    let (one, other) = (open(options()), open(options()));
    assert_eq!(put(&*one, json!(1), Expected::Absent).await.unwrap(), 1);
    assert!(matches!(put(&*other, json!(2), Expected::Absent).await, Err(StoreError::Conflict(_))));
    assert_eq!(put(&*other, json!(2), Expected::Version(1)).await.unwrap(), 2);
    assert_eq!(value(&*one).await, Some(json!(2)));
    for (n, store) in [&one, &other, &one].into_iter().enumerate() {
        assert_eq!(add(&**store, json!(n)).await.unwrap(), n as u64 + 1);
    }
    assert_eq!(log(&*other).await, [json!(0), json!(1), json!(2)]);
    let findings = one.check().await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_documents_and_loses_none() {
    let disk = Disk::new();
    let options = || SqliteOptions { vfs: Some(disk.vfs().to_owned()), ..SqliteOptions::at("/mos.db") };
    let store = open(options());
    put(&*store, json!("first"), Expected::Absent).await.unwrap();
    add(&*store, json!("a")).await.unwrap();
    disk.fail_writes(Some(WriteFault::Full));
    let error = put(&*store, json!("second"), Expected::Version(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error}");
    add(&*store, json!("b")).await.unwrap_err();
    disk.fail_writes(None);
    assert_eq!(add(&*store, json!("c")).await.unwrap(), 2, "what was refused has no number");
    drop(store);
    disk.restart(1);
    let store = open(options());
    assert_eq!(value(&*store).await, Some(json!("first")));
    assert_eq!(log(&*store).await, [json!("a"), json!("c")]);
    assert_eq!(put(&*store, json!("second"), Expected::Version(1)).await.unwrap(), 2);
}

#[tokio::test]
async fn damage_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(SqliteOptions::at(&path));
    put(&*store, json!(1), Expected::Absent).await.unwrap();
    for n in 0..4 {
        add(&*store, json!(n)).await.unwrap();
    }
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE state_documents SET value = '{'", []).unwrap();
    let state: &dyn StateStore = &*store;
    let error = state.read(&scope(), "key").await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { what, .. } if what.contains("key")), "{error}");
    let findings = store.check().await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].what.contains("cannot be read") && findings[0].detail.contains("c/key"), "{findings:?}");
    assert_eq!(put(state, json!(2), Expected::Version(1)).await.unwrap(), 2, "it can be replaced");
    connection.execute("DELETE FROM state_entries WHERE sequence = 3", []).unwrap();
    let findings = store.check().await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].what.contains("gaps") && findings[0].detail.contains("c/log"), "{findings:?}");
}
