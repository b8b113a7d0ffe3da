//! Bad disks, foreign files, busy files, damage: each has an error that says what to do, and nothing is half-written.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{Filter, GraphStore, MemoryItem, Origin, RecordStore, Scope, StoreError, UserStore, WriteBatch};
use mos_stores::{SCHEMA_VERSION, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::power_loss::{Disk, WriteFault};
use rusqlite::Connection;

fn open(options: SqliteOptions) -> Result<Arc<SqliteStore>, StoreError> {
    SqliteStore::open(options, Arc::new(SetClock::default()))
}

fn scope() -> Scope {
    Scope { cube: "c".into() }
}

fn put(id: &str, memory: &str) -> WriteBatch {
    WriteBatch { put: vec![MemoryItem::new(id.into(), memory)], ..WriteBatch::new(Origin::new("ann", "test")) }
}

async fn count(store: &SqliteStore) -> usize {
    store.count(&scope(), &Filter::Everything).await.unwrap()
}

#[tokio::test]
async fn a_disk_that_refuses_to_write_is_named_and_nothing_is_half_written() {
    for (fault, advice) in [
        (WriteFault::Full, "free some space"),
        (WriteFault::ReadOnly, "writable"),
        (WriteFault::Broken, "disk's health"),
    ] {
        let disk = Disk::new();
        let options = || SqliteOptions { vfs: Some(disk.vfs().to_owned()), ..SqliteOptions::at("/mos.db") };
        let store = open(options()).unwrap();
        store.apply(&scope(), put("before", "dog")).await.unwrap();
        disk.fail_writes(Some(fault));
        let error = store.apply(&scope(), put("during", "dog")).await.unwrap_err();
        assert!(matches!(&error, StoreError::Storage { path, .. } if path == "/mos.db"), "{fault:?}: {error}");
        assert!(error.to_string().contains(advice), "{error}");
        assert_eq!(count(&store).await, 1, "reading goes on");
        disk.fail_writes(None);
        store.apply(&scope(), put("after", "dog")).await.unwrap();
        assert_eq!(count(&store).await, 2, "and so does writing, when the disk is well again");
        drop(store);
        disk.restart(1);
        let store = open(options()).unwrap();
        assert_eq!(count(&store).await, 2);
    }
}

#[test]
fn a_disk_that_cannot_hold_a_new_database_is_named() {
    let disk = Disk::new();
    disk.fail_writes(Some(WriteFault::ReadOnly));
    let options = SqliteOptions { vfs: Some(disk.vfs().to_owned()), ..SqliteOptions::at("/mos.db") };
    let error = open(options).unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = open(SqliteOptions::at(folder.path().join("file/data/mos.db"))).unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error}");
    std::fs::create_dir(folder.path().join("mos.db")).unwrap();
    let error = open(SqliteOptions::at(folder.path().join("mos.db"))).unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "a folder in its place: {error}");
}

#[test]
fn files_that_are_not_ours_are_refused_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    std::fs::write(&path, "this is a letter to my grandmother, and not a database at all".repeat(100)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = open(SqliteOptions::at(&path)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::remove_file(&path).unwrap();
    drop(open(SqliteOptions::at(&path)).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    let error = open(SqliteOptions::at(&path)).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found, known, .. } if found == known + 1), "{error}");
}

#[tokio::test]
async fn a_file_held_by_another_process_is_busy_and_free_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(SqliteOptions { busy_timeout: Duration::from_millis(20), ..SqliteOptions::at(&path) }).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.apply(&scope(), put("a", "dog")).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert_eq!(count(&store).await, 0, "reading does not wait");
    other.execute_batch("ROLLBACK").unwrap();
    store.apply(&scope(), put("a", "dog")).await.unwrap();
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn who_is_known_is_ensured_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(SqliteOptions { busy_timeout: Duration::from_millis(20), ..SqliteOptions::at(&path) }).unwrap();
    let made = store.ensure_user(&"ann".into()).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.ensure_user(&"ann".into()).await.unwrap(), made);
    let error = store.ensure_user(&"bob".into()).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.ensure_user(&"bob".into()).await.unwrap().user_id.as_str(), "bob");
}

#[tokio::test]
async fn check_finds_what_was_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = open(SqliteOptions::at(&path)).unwrap();
    store.apply(&scope(), put("a", "dog in the park")).await.unwrap();
    store.apply(&scope(), put("b", "cat")).await.unwrap();
    let expect = async |damage: &str, what: &str| {
        let other = Connection::open(&path).unwrap();
        other.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        other.execute_batch(damage).unwrap();
        let findings = store.check().await.unwrap();
        let finding = findings.iter().find(|finding| finding.what == what);
        let finding = finding.unwrap_or_else(|| panic!("{damage}: {what} is not among {findings:?}"));
        assert!(!finding.remedy.is_empty() && !finding.detail.is_empty());
    };
    expect("SELECT 1", "memories of an unknown cube").await;
    expect("UPDATE scopes SET n_terms = n_terms + 1", "term statistics of a cube out of step").await;
    expect("UPDATE nodes SET n_terms = 9 WHERE id = 'a'", "full-text entry out of step with its memory").await;
    expect("DELETE FROM terms WHERE rowid = 1", "memory without full-text entry").await;
    expect("INSERT INTO terms (rowid, tokens) VALUES (77, '1_x')", "full-text entry without memory").await;
    expect("INSERT INTO edges VALUES (1, 99, 'X')", "edge without ends, or across cubes").await;
    expect("INSERT INTO edges VALUES (98, 99, 'X')", "row without what it belongs to").await;
    expect(
        "INSERT INTO spaces VALUES (1, 'mini', 2); INSERT INTO embeddings VALUES (1, 1, x'0000803F')",
        "embedding of the wrong length",
    )
    .await;
    expect("UPDATE embeddings SET vector = x'0000803F0000803F'", "embedding that is not of unit length").await;
    expect("UPDATE embeddings SET node = 55", "embedding without memory").await;
    expect("UPDATE nodes SET metadata = '{\"tags\": 7}' WHERE id = 'b'", "memory that cannot be read").await;
    expect("UPDATE store SET sequence = 0", "change number beyond the last one").await;
    expect("INSERT INTO tombstones VALUES (1, 'a', 0)", "removed memory that is still there").await;
    let error = store.nodes(&scope(), &["b".into()]).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn idempotency_keys_are_bounded_by_number_and_age() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let clock = Arc::new(SetClock::default());
    let options = SqliteOptions { max_idempotency_keys: 100, ..SqliteOptions::at(&path) };
    let age = options.idempotency_age;
    let store = SqliteStore::open(options, Arc::clone(&clock) as _).unwrap();
    let keyed = |number: usize| WriteBatch { idempotency_key: Some(format!("k{number}")), ..put("a", "dog") };
    let n_kept = || -> i64 {
        let other = Connection::open(&path).unwrap();
        other.query_row("SELECT count(*) FROM idempotency", [], |row| row.get(0)).unwrap()
    };
    for number in 0..256 {
        store.apply(&scope(), keyed(number)).await.unwrap();
    }
    assert_eq!(n_kept(), 100);
    assert!(store.apply(&scope(), keyed(255)).await.unwrap().replayed, "the newest are kept");
    clock.advance(age + Duration::from_secs(1));
    for number in 1000..1064 {
        store.apply(&scope(), keyed(number)).await.unwrap();
    }
    assert_eq!(n_kept(), 64, "old ones go even when there is room");
}
