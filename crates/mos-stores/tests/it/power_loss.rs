//! Whenever the power goes, what was acknowledged is there afterwards, and nothing is there by half.

use std::sync::Arc;

use mos_core::{
    CubeId, Edge, EmbeddingSpace, EmbeddingWrite, Filter, GraphStore, MemoryId, MemoryItem, Origin, Paging,
    RecordStore, Scope, UserId, UserStore, WriteBatch,
};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::power_loss::Disk;

/// Memories per batch: enough for a batch to be cut in the middle.
const BATCH: usize = 5;

fn open(disk: &Disk) -> Result<Arc<SqliteStore>, mos_core::StoreError> {
    let mut options = SqliteOptions::at("/mos.db");
    options.vfs = Some(disk.vfs().to_owned());
    // Small, so that the power also goes while the log is carried over.
    options.checkpoint_pages = 24;
    SqliteStore::open(options, Arc::new(SetClock::default()))
}

fn scope() -> Scope {
    Scope { cube: "c".into() }
}

fn ids_of(number: usize) -> Vec<MemoryId> {
    (0..BATCH).map(|part| MemoryId::new(format!("{number}-{part}"))).collect()
}

fn batch(number: usize) -> WriteBatch {
    let ids = ids_of(number);
    let vectors = ids.iter().map(|id| (id.clone(), vec![1.0, number as f32])).collect();
    let edge = Edge { source: ids[0].clone(), target: ids[1].clone(), kind: "NEXT".to_owned() };
    WriteBatch {
        // Every third batch also takes away what an earlier one wrote, and the same words come again and again.
        delete: if number % 3 == 2 { ids_of(number - 1) } else { vec![] },
        put: ids.iter().map(|id| MemoryItem::new(id.clone(), format!("dog park number {number}"))).collect(),
        put_edges: vec![edge],
        embeddings: Some(EmbeddingWrite {
            space: EmbeddingSpace { model: "mini".to_owned(), dimension: 2 },
            vectors,
            made_of: None,
            aside: false,
        }),
        ..WriteBatch::new(Origin::new("ann", "test"))
    }
}

/// Whether a later one of `n_done` batches took away what this one wrote.
fn is_deleted(number: usize, n_done: usize) -> bool {
    number % 3 == 1 && number + 1 < n_done
}

async fn make_cube(store: &SqliteStore) -> Result<(), mos_core::StoreError> {
    let cube = mos_core::Cube {
        cube_id: CubeId::new("c"),
        cube_name: "c".to_owned(),
        cube_path: None,
        owner_id: UserId::new("root"),
        created_at: "2026".to_owned(),
        is_registered: true,
        config: serde_json::Value::Null,
    };
    store.create_cube(&cube).await
}

/// Writes until the power goes and returns how many batches were acknowledged.
async fn write_until_dark(store: &SqliteStore) -> usize {
    for number in 0.. {
        if store.apply(&scope(), batch(number)).await.is_err() {
            return number;
        }
    }
    unreachable!("the power goes at some time")
}

async fn assert_whole(store: &SqliteStore, n_acknowledged: usize, seed: u64) {
    let items = store.list(&scope(), &Filter::Everything, Paging::ALL).await.unwrap().entries;
    let mut n_done = n_acknowledged;
    // A batch that was under way may have become durable; then it is there whole.
    if items.iter().any(|item| item.id.as_str().starts_with(&format!("{n_acknowledged}-"))) {
        n_done += 1;
    }
    let expected: Vec<MemoryId> = (0..n_done).filter(|number| !is_deleted(*number, n_done)).flat_map(ids_of).collect();
    let found: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
    assert_eq!(found, expected, "seed {seed}, {n_acknowledged} batches acknowledged");
    let dogs = store.full_text(&scope(), "dogs", 10_000, &Filter::Everything).await.unwrap();
    assert_eq!(dogs.len(), expected.len(), "seed {seed}");
    assert_eq!(store.check().await.unwrap(), [], "seed {seed}");
}

async fn survive(seed: u64) {
    let disk = Disk::new();
    let store = open(&disk).unwrap();
    make_cube(&store).await.unwrap();
    // Early and late, and at every kind of operation.
    disk.cut_power_after(seed * 7 % 400 + 1);
    let n_acknowledged = write_until_dark(&store).await;
    assert!(!disk.has_power());
    drop(store);
    disk.restart(seed);
    let store = open(&disk).unwrap();
    assert!(store.cube(&CubeId::new("c")).await.unwrap().is_some(), "seed {seed}: the cube was acknowledged");
    assert_whole(&store, n_acknowledged, seed).await;
    // Life goes on, and a second failure right after the first is no worse.
    store.apply(&scope(), WriteBatch { clear: true, ..WriteBatch::new(Origin::default()) }).await.unwrap();
    disk.restart(seed + 1);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(store.count(&scope(), &Filter::Everything).await.unwrap(), 0);
    assert_eq!(store.check().await.unwrap(), []);
}

fn n_rounds(few: u64, many: u64) -> u64 {
    if std::env::var_os("MOS_TEST_LONG").is_some() { many } else { few }
}

#[tokio::test]
async fn acknowledged_batches_survive_a_power_cut_and_half_batches_do_not() {
    for seed in 0..n_rounds(120, 4000) {
        survive(seed).await;
    }
}

#[tokio::test]
async fn a_power_cut_while_the_database_is_made_leaves_one_that_opens() {
    let n_operations = {
        let disk = Disk::new();
        open(&disk).unwrap();
        disk.n_operations()
    };
    for n_done in 0..n_operations {
        for seed in 0..n_rounds(2, 20) {
            let disk = Disk::new();
            disk.cut_power_after(n_done);
            let _ = open(&disk);
            disk.restart(seed);
            let store = open(&disk).unwrap_or_else(|error| panic!("{n_done} operations, seed {seed}: {error}"));
            make_cube(&store).await.unwrap();
            store.apply(&scope(), batch(0)).await.unwrap();
            assert_whole(&store, 1, seed).await;
        }
    }
}
