//! The server goes away in the middle of it all, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mos_core::{Filter, MemoryItem, RecordStore, Scope, StoreError, VectorStore};
use mos_stores::Drift;

use super::server::{TestQdrant, assert_as_exact, deletes, embedded, memory, scope, space, sqlite};

const DIMENSION: usize = 8;
const N_WRITERS: usize = 4;
const N_WRITES: usize = 250;

/// A vector that says which write it is of.
fn vector(writer: usize, step: usize) -> Vec<f32> {
    (0..DIMENSION).map(|at| ((writer * 31 + step * 17 + at * 7) % 23) as f32 - 11.5).collect()
}

fn written(writer: usize, step: usize) -> (MemoryItem, Vec<f32>) {
    let id = format!("{writer}-{}", step % 60);
    let (mut item, vector) = memory(&id, &format!("text {step}"), &vector(writer, step));
    item.metadata.key = Some(format!("key {}", step % 3));
    (item, vector)
}

/// Adds, updates and deletes: each sixth write removes a memory that was written before.
async fn write(record: &dyn RecordStore, scope: &Scope, writer: usize, step: usize) {
    if step % 6 == 5 {
        let id = format!("{writer}-{}", (step * 5) % 60);
        record.apply(scope, deletes(&[&id])).await.unwrap();
    } else {
        record.apply(scope, embedded(&space("mini", DIMENSION), vec![written(writer, step)])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_learns_everything() {
    let (server, folder) = (TestQdrant::own(), tempfile::tempdir().unwrap());
    let own = server.own.as_ref().unwrap();
    let record: Arc<dyn RecordStore> = sqlite(&folder);
    let (cubes, mini) = ([scope("one"), scope("two")], space("mini", DIMENSION));
    let index = server.index(&record);
    let n_written = Arc::new(AtomicUsize::new(0));
    let writers = (0..N_WRITERS).map(|writer| {
        let (record, cubes, index, n_written) =
            (Arc::clone(&record), cubes.clone(), Arc::clone(&index), Arc::clone(&n_written));
        tokio::spawn(async move {
            for step in 0..N_WRITES {
                let cube = &cubes[(writer + step) % 2];
                write(&*record, cube, writer, step).await;
                index.notice(cube);
                n_written.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let reached = async |n: usize| {
        while n_written.load(Ordering::SeqCst) < n {
            tokio::task::yield_now().await;
        }
    };
    let search = async || {
        let query = vector(1, 2);
        index.nearest(&cubes[0], &mini, &query, 5, &Filter::Everything).await
    };
    // Away twice, in the middle of writing and of following.
    for (down, up) in [(150, 500), (600, 900)] {
        reached(down).await;
        own.stop();
        let error = search().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { backend: "qdrant", .. }), "{error:?}");
        reached(up).await;
        own.start_again();
        assert!(search().await.is_ok(), "it is back");
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(n_written.load(Ordering::SeqCst), N_WRITERS * N_WRITES);
    for cube in &cubes {
        assert_as_exact(&index, &record, cube, &mini).await;
        assert_eq!(index.reconcile(cube, false).await.unwrap(), Drift::default());
    }
}

/// A search that is given up in the middle of following leaves nothing half-done.
#[tokio::test(flavor = "multi_thread")]
async fn searches_that_are_given_up_leave_no_drift() {
    let (server, folder) = (TestQdrant::new(), tempfile::tempdir().unwrap());
    let record: Arc<dyn RecordStore> = sqlite(&folder);
    let (ours, mini) = (scope("c"), space("mini", DIMENSION));
    let index = server.index(&record);
    for step in 0..40 {
        write(&*record, &ours, 0, step).await;
        let (index, ours, mini) = (Arc::clone(&index), ours.clone(), mini.clone());
        let search =
            tokio::spawn(
                async move { index.nearest(&ours, &mini, &vector(0, 0), 5, &Filter::Everything).await.map(drop) },
            );
        tokio::time::sleep(std::time::Duration::from_micros(200 * step as u64)).await;
        search.abort();
    }
    assert_as_exact(&index, &record, &ours, &mini).await;
    assert_eq!(index.reconcile(&ours, false).await.unwrap(), Drift::default());
}
