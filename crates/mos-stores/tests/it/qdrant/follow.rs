//! The collections follow the record, whatever happened to them or to it.

use std::sync::Arc;

use mos_core::{EmbeddingWrite, Filter, RecordStore, ScopeLifecycle, VectorStore, WriteBatch};
use mos_stores::{Drift, InMemoryStore};
use mos_testkit::clock::SetClock;

use super::server::{TestQdrant, assert_as_exact, batch, deletes, embedded, memory, names, scope, space, sqlite};

fn in_memory() -> Arc<InMemoryStore> {
    InMemoryStore::new(Arc::new(SetClock::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_goes_on_where_one_stopped() {
    let (server, folder) = (TestQdrant::new(), tempfile::tempdir().unwrap());
    let record: Arc<dyn RecordStore> = sqlite(&folder);
    let (ours, mini) = (scope("c"), space("mini", 3));
    let index = server.index(&record);
    record.apply(&ours, embedded(&mini, vec![memory("a", "one", &[1.0, 0.0, 0.0])])).await.unwrap();
    assert_eq!(index.count(&ours).await.unwrap(), 1);
    drop(index);
    record.apply(&ours, embedded(&mini, vec![memory("b", "two", &[0.9, 0.1, 0.0])])).await.unwrap();
    record.apply(&ours, deletes(&["a"])).await.unwrap();
    let (one, other) = (server.index(&record), server.index(&record));
    let found = one.nearest(&ours, &mini, &[1.0, 0.0, 0.0], 9, &Filter::Everything).await.unwrap();
    assert_eq!(names(&found), ["b"]);
    record.apply(&ours, embedded(&mini, vec![memory("a", "again", &[1.0, 0.0, 0.0])])).await.unwrap();
    for index in [&other, &one] {
        assert_as_exact(index, &record, &ours, &mini).await;
        assert_eq!(index.reconcile(&ours, false).await.unwrap(), Drift::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_server_is_filled_again() {
    let server = TestQdrant::new();
    let record: Arc<dyn RecordStore> = in_memory();
    let (ours, mini) = (scope("c"), space("mini", 2));
    let memories = (0..50).map(|number| memory(&format!("{number:02}"), "text", &[1.0, number as f32])).collect();
    record.apply(&ours, embedded(&mini, memories)).await.unwrap();
    let index = server.index(&record);
    assert_eq!(index.count(&ours).await.unwrap(), 50);
    for _ in 0..2 {
        server.empty().await;
        assert_as_exact(&index, &record, &ours, &mini).await;
    }
    assert_eq!(index.count(&ours).await.unwrap(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cube_leaves_nothing() {
    let (server, folder) = (TestQdrant::new(), tempfile::tempdir().unwrap());
    let store = sqlite(&folder);
    let record: Arc<dyn RecordStore> = Arc::clone(&store) as _;
    let (gone, kept, mini) = (scope("gone"), scope("kept"), space("mini", 2));
    let index = server.index(&record);
    for cube in [&gone, &kept] {
        store.open_scope(cube, 1).await.unwrap();
        record.apply(cube, embedded(&mini, vec![memory("a", "secret", &[1.0, 0.0])])).await.unwrap();
        assert_eq!(index.count(cube).await.unwrap(), 1);
    }
    store.close_scope(&gone, 1).await.unwrap();
    let found = index.nearest(&gone, &mini, &[1.0, 0.0], 9, &Filter::Everything).await.unwrap();
    assert_eq!(found, [], "nothing is found even before it is removed");
    index.catch_up(&gone).await.unwrap();
    assert_eq!(index.scopes().await.unwrap(), std::slice::from_ref(&kept));
    // A later cube of the same id is another one.
    store.open_scope(&gone, 2).await.unwrap();
    record.apply(&gone, embedded(&mini, vec![memory("b", "new", &[0.0, 1.0])])).await.unwrap();
    assert_as_exact(&index, &record, &gone, &mini).await;
    assert_eq!(index.count(&gone).await.unwrap(), 1);
    store.close_scope(&gone, 2).await.unwrap();
    store.open_scope(&gone, 3).await.unwrap();
    record.apply(&gone, embedded(&mini, vec![memory("a", "newest", &[0.0, 1.0])])).await.unwrap();
    // Nobody told that the second one had gone: the feed does.
    assert_as_exact(&index, &record, &gone, &mini).await;
    assert_eq!(index.reconcile(&gone, false).await.unwrap(), Drift::default());
    assert_eq!(index.count(&kept).await.unwrap(), 1);
}

/// The cubes that the server knows are looked through when a program starts.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_by_others_goes_in_the_background() {
    let (server, folder) = (TestQdrant::new(), tempfile::tempdir().unwrap());
    let store = sqlite(&folder);
    let record: Arc<dyn RecordStore> = Arc::clone(&store) as _;
    let (ours, mini) = (scope("c"), space("mini", 2));
    store.open_scope(&ours, 1).await.unwrap();
    record.apply(&ours, embedded(&mini, vec![memory("a", "secret", &[1.0, 0.0])])).await.unwrap();
    let index = server.index(&record);
    index.catch_up(&ours).await.unwrap();
    drop(index);
    store.close_scope(&ours, 1).await.unwrap();
    let index = server.index(&record);
    while !index.scopes().await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // What is noticed is followed without a search.
    let other = scope("d");
    record.apply(&other, embedded(&mini, vec![memory("a", "text", &[1.0, 0.0])])).await.unwrap();
    index.notice(&other);
    while index.scopes().await.unwrap() != [other.clone()] {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cube_lies_in_one_space_only() {
    let server = TestQdrant::new();
    let record: Arc<dyn RecordStore> = in_memory();
    let (ours, old, new) = (scope("c"), space("old", 2), space("new", 3));
    let index = server.index(&record);
    record.apply(&ours, embedded(&old, vec![memory("a", "one", &[1.0, 0.0])])).await.unwrap();
    assert_eq!(index.count(&ours).await.unwrap(), 1);
    let vectors = vec![("a".into(), vec![0.0, 0.0, 1.0])];
    let aside = EmbeddingWrite { space: new.clone(), vectors, made_of: None, aside: true };
    record.apply(&ours, WriteBatch { embeddings: Some(aside), ..batch() }).await.unwrap();
    record.adopt_space(&ours, &new).await.unwrap();
    assert_as_exact(&index, &record, &ours, &new).await;
    assert_eq!(server.collections().await.len(), 2);
    assert_eq!(
        index.reconcile(&ours, false).await.unwrap(),
        Drift::default(),
        "the old collection holds nothing of it"
    );
}

/// A record that was restored from a backup, or is another one, is not believed to be the one that was followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_went_back_is_followed_anew() {
    let server = TestQdrant::new();
    let (ours, mini) = (scope("c"), space("mini", 2));
    let newer: Arc<dyn RecordStore> = in_memory();
    for number in 0..5 {
        let id = format!("lost {number}");
        newer.apply(&ours, embedded(&mini, vec![memory(&id, "text", &[1.0, 0.0])])).await.unwrap();
    }
    assert_eq!(server.index(&newer).count(&ours).await.unwrap(), 5);
    let older: Arc<dyn RecordStore> = in_memory();
    older.apply(&ours, embedded(&mini, vec![memory("kept", "text", &[0.0, 1.0])])).await.unwrap();
    let index = server.index(&older);
    assert_eq!(index.count(&ours).await.unwrap(), 1);
    assert_as_exact(&index, &older, &ours, &mini).await;
    // One as long as the other, with another memory at the end.
    let other: Arc<dyn RecordStore> = in_memory();
    other.apply(&ours, embedded(&mini, vec![memory("other", "text", &[0.0, 1.0])])).await.unwrap();
    assert_as_exact(&server.index(&other), &other, &ours, &mini).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_followers_at_once_leave_no_drift() {
    let (server, folder) = (TestQdrant::new(), tempfile::tempdir().unwrap());
    let record: Arc<dyn RecordStore> = sqlite(&folder);
    let (ours, mini) = (scope("c"), space("mini", 4));
    let indexes = [server.index(&record), server.index(&record)];
    let mut tasks = Vec::new();
    for writer in 0..4_u32 {
        let (record, ours, mini) = (Arc::clone(&record), ours.clone(), mini.clone());
        tasks.push(tokio::spawn(async move {
            for step in 0..40_u32 {
                let id = format!("{}", (writer * 7 + step * 3) % 20);
                if step % 5 == 4 {
                    record.apply(&ours, deletes(&[&id])).await.unwrap();
                } else {
                    let vector = [1.0, step as f32, writer as f32, -1.0];
                    let text = format!("{writer} {step}");
                    record.apply(&ours, embedded(&mini, vec![memory(&id, &text, &vector)])).await.unwrap();
                }
            }
        }));
    }
    for index in indexes.iter().cycle().take(6) {
        let (index, ours, mini) = (Arc::clone(index), ours.clone(), mini.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..25 {
                index.nearest(&ours, &mini, &[1.0, 0.5, 0.0, 0.0], 5, &Filter::Everything).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for index in &indexes {
        assert_as_exact(index, &record, &ours, &mini).await;
        assert_eq!(index.reconcile(&ours, false).await.unwrap(), Drift::default());
    }
}
