//! What a record tells those who follow it and those who look back.

use mos_core::{Change, MemoryId, RecordStore, WriteBatch};
use serde_json::json;

use super::record::rich_item;
use super::samples::{apply, batch, deletes, edge, item, puts, scope, space, vectors};

pub(super) async fn the_feed_tells_some_fields(store: &dyn RecordStore) {
    let scope = scope("c");
    let mut rich = rich_item("a");
    rich.metadata.is_fast = Some(true);
    let put = vec![rich.clone(), item("b", "2"), item("c", "3")];
    apply(store, &scope, WriteBatch { put, ..batch() }).await;
    let space = space("mini", 2);
    let embeddings = Some(vectors(&space, &[("a", &[1.0, 0.0])]));
    apply(store, &scope, WriteBatch { embeddings, ..batch() }).await;
    apply(store, &scope, deletes(&["c"])).await;
    let fields = ["tags", "is_fast", "key", "no such field"];
    let told = store.changed_fields(&scope, &fields, 0, 10).await.expect("fields");
    let changes = store.changes(&scope, 0, 10).await.expect("changes");
    let places: Vec<(u64, &MemoryId, Option<u64>)> =
        told.iter().map(|one| (one.sequence, &one.id, one.state.as_ref().map(|state| state.arrival))).collect();
    let expected: Vec<(u64, &MemoryId, Option<u64>)> = changes
        .iter()
        .map(|change| match change {
            Change::Put { sequence, arrival, id, .. } => (*sequence, id, Some(*arrival)),
            Change::Deleted { sequence, id } => (*sequence, id, None),
        })
        .collect();
    assert_eq!(places, expected, "the same feed");
    let of = |id: &str| told.iter().find(|one| one.id.as_str() == id).and_then(|one| one.state.clone());
    let rich = rich.metadata.to_map();
    assert_eq!(
        of("a").map(|state| state.values),
        Some(vec![rich["tags"].clone(), json!(true), rich["key"].clone(), json!(null)]),
        "with an embedding"
    );
    assert_eq!(of("b").map(|state| state.values), Some(vec![json!(null); 4]), "without one");
    let second = store.changed_fields(&scope, &fields, told[0].sequence, 1).await.expect("fields");
    assert_eq!(second, told[1..2]);
}

pub(super) async fn removals_keep_the_edges_that_they_take_away(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, puts(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")])).await;
    let all = [edge("a", "NEXT", "b"), edge("b", "PARENT", "a"), edge("c", "NEXT", "a"), edge("c", "SELF", "c")];
    apply(store, &scope, WriteBatch { put_edges: all.to_vec(), ..batch() }).await;
    let last = async |id: &str| {
        let history = store.history(&scope, &id.into()).await.expect("history");
        history.last().cloned().expect("a state")
    };
    assert_eq!(last("a").await.edges, [], "they are there: nothing has taken them away");
    apply(store, &scope, deletes(&["b", "a", "d"])).await;
    assert_eq!((last("a").await.item, last("a").await.edges), (None, all[..3].to_vec()), "sorted");
    assert_eq!(last("b").await.edges, all[..2], "those between memories that go together are with both");
    assert_eq!(last("d").await.edges, []);
    apply(store, &scope, puts(&[("a", "1 again")])).await;
    assert_eq!(
        (last("a").await.edges, store.all_edges(&scope).await.expect("edges")),
        (Vec::new(), vec![all[3].clone()])
    );
    apply(store, &scope, WriteBatch { clear: true, ..batch() }).await;
    assert_eq!(
        (last("c").await.item, last("c").await.edges),
        (None, vec![all[3].clone()]),
        "also when everything goes"
    );
    assert_eq!(last("a").await.edges, []);
}

pub(super) async fn news_are_told_cheaply(store: &dyn RecordStore) {
    let scope = scope("c");
    let nothing = store.news(&scope, 0).await.expect("news");
    assert_eq!((nothing.is_behind, nothing.space), (false, None));
    let first = apply(store, &scope, puts(&[("a", "1"), ("b", "2")])).await.sequence;
    assert!(store.news(&scope, 0).await.expect("news").is_behind);
    assert!(!store.news(&scope, first).await.expect("news").is_behind);
    apply(store, &scope, WriteBatch { put_edges: vec![edge("a", "NEXT", "b")], ..batch() }).await;
    assert!(store.news(&scope, first).await.expect("news").may_have_edges, "edges alone are no change of the feed");
    let space = space("mini", 1);
    let embeddings = Some(vectors(&space, &[("a", &[1.0])]));
    let second = apply(store, &scope, WriteBatch { embeddings, ..batch() }).await.sequence;
    let news = store.news(&scope, second).await.expect("news");
    assert_eq!((news.is_behind, news.space), (false, Some(space)));
    apply(store, &scope, deletes(&["b"])).await;
    assert!(store.news(&scope, second).await.expect("news").is_behind, "a removal is one");
}
