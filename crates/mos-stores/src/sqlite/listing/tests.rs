use std::path::Path;
use std::sync::Arc;

use mos_core::memory::TreeFields;
use mos_core::{CubeId, GraphStore, MetadataForm, Origin, RecordStore, Status, SystemClock, WriteBatch};
use rusqlite::StatementStatus;

use super::super::{SqliteOptions, SqliteStore};
use super::*;

fn scope() -> Scope {
    Scope::of(&CubeId::new("cube"))
}

fn made(n: usize) -> MemoryItem {
    let mut item = MemoryItem::new(MemoryId::new(format!("m{n:04}")), format!("text {n}"));
    item.metadata.user_id = Some("ann".to_owned());
    item.metadata.status = Some(if n % 10 == 3 { Status::Deleted } else { Status::Activated });
    let created_at = Some(format!("2026-01-01T{:02}:{:02}:00+00:00", n / 60 % 24, n % 60));
    item.metadata.form = MetadataForm::Tree(Box::new(TreeFields { created_at, ..TreeFields::default() }));
    item
}

/// A database with one cube of so many memories.
async fn cube_of(path: &Path, n_memories: usize) -> Arc<SqliteStore> {
    let store = SqliteStore::open(SqliteOptions::at(path), Arc::new(SystemClock)).unwrap();
    let put = (0..n_memories).map(made).collect();
    store.apply(&scope(), WriteBatch { put, ..WriteBatch::new(Origin::new("ann", "add")) }).await.unwrap();
    store
}

fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let lines = statement.query_map([1], |row| row.get::<_, String>(3)).unwrap();
    lines.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
}

/// How many instructions hand over the first rows of a statement.
fn n_steps(connection: &Connection, sql: &str, n_rows: usize) -> i32 {
    let mut statement = connection.prepare(sql).unwrap();
    {
        let mut rows = statement.query([1]).unwrap();
        for _ in 0..n_rows {
            assert!(rows.next().unwrap().is_some());
        }
    }
    assert_eq!(statement.get_status(StatementStatus::Sort), 0, "{sql}");
    assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0, "{sql}");
    statement.get_status(StatementStatus::VmStep)
}

#[tokio::test]
async fn lists_are_answered_by_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    drop(cube_of(&path, 10).await);
    let connection = Connection::open(&path).unwrap();
    for (sql, index) in [
        (BY_TIME, "COVERING INDEX nodes_by_time (scope=?)"),
        (UNORDERED, "COVERING INDEX nodes_by_type (scope=?)"),
        (GROUPS, "INDEX nodes_by_type (scope=?)"),
        (BY_ARRIVAL, "INDEX nodes_in_order (scope=?)"),
    ] {
        let plan = plan(&connection, sql);
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn the_first_page_of_a_large_cube_costs_as_much_as_that_of_a_small_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut steps = Vec::new();
    for n_memories in [30, 1500] {
        let path = folder.path().join(format!("{n_memories}.db"));
        drop(cube_of(&path, n_memories).await);
        let connection = Connection::open(&path).unwrap();
        steps.push([BY_TIME, BY_ARRIVAL].map(|sql| n_steps(&connection, sql, 20)));
    }
    assert_eq!(steps[0], steps[1]);
    assert!(steps[0].iter().all(|n| *n > 0), "{steps:?}");
}

#[tokio::test]
async fn nothing_is_read_but_the_memories_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = cube_of(&path, 40).await;
    // Whoever reads this memory fails.
    let damage = "UPDATE nodes SET metadata = json_set(metadata, '$.tags', 7) WHERE id = 'm0020'";
    assert_eq!(Connection::open(&path).unwrap().execute(damage, []).unwrap(), 1);
    let alive = Filter::Not(Box::new(Filter::equals("status", "deleted"))).and(Filter::equals("user_id", "ann"));
    let (scope, fields) = (scope(), ["memory_type".to_owned()]);
    for paging in [Paging { offset: 0, limit: 10 }, Paging { offset: 25, limit: 10 }] {
        let newest = store.newest(&scope, &alive, paging).await.unwrap();
        assert_eq!(newest, store.latest(&scope, &alive, paging).await.unwrap());
        let expected: Vec<usize> =
            (0..40).rev().filter(|n| n % 10 != 3).skip(paging.offset).take(paging.limit).collect();
        let found: Vec<String> = newest.iter().map(|item| item.memory.clone()).collect();
        assert_eq!(found, expected.iter().map(|n| format!("text {n}")).collect::<Vec<_>>());
    }
    let page = store.list(&scope, &alive, Paging { offset: 25, limit: 5 }).await.unwrap();
    assert_eq!((page.total, page.entries.len()), (36, 5));
    assert_eq!(store.count(&scope, &alive).await.unwrap(), 36);
    assert_eq!(store.count_by(&scope, &fields, &alive).await.unwrap()[0].count, 36);
    let with_it = store.newest(&scope, &alive, Paging { offset: 10, limit: 10 }).await;
    assert!(matches!(with_it, Err(StoreError::Corrupt { .. })), "{with_it:?}");
}

#[tokio::test]
async fn nothing_is_read_but_what_is_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mos.db");
    let store = cube_of(&path, 40).await;
    let mut apart = made(7);
    apart.quarantine("gives orders");
    let batch = WriteBatch { put: vec![apart.clone()], ..WriteBatch::new(Origin::new("ann", "add")) };
    store.apply(&scope(), batch).await.unwrap();
    // Whoever reads another one fails.
    let damage =
        "UPDATE nodes SET metadata = json_set(metadata, '$.tags', 7, '$.status', 'archived') WHERE id <> 'm0007'";
    assert_eq!(Connection::open(&path).unwrap().execute(damage, []).unwrap(), 39);
    assert_eq!(store.kept_apart(&scope(), 10).await.unwrap(), [apart]);
    let connection = Connection::open(&path).unwrap();
    let plan = plan(&connection, KEPT_APART);
    assert!(plan.contains("INDEX nodes_kept_apart (scope=?)") && !plan.contains("TEMP B-TREE"), "{plan}");
}
