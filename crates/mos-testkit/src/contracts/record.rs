//! What every [`RecordStore`] (and so every [`mos_core::GraphStore`]) must do.

use std::sync::Arc;

use mos_core::{
    Change, Condition, Direction, Filter, MemoryId, MemoryItem, Operator, Origin, Paging, RecordStore, Scope, Status,
    StoreError, WriteBatch,
};
use serde_json::json;

use super::samples::{apply, batch, deletes, edge, embedded, ids, item, puts, refused, scope, space, vectors};
use super::{embeddings, followed, full_text, graph};

/// Runs the suite; `make` returns a fresh, empty store.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> Arc<dyn RecordStore>) {
    items_come_back_as_they_were(&*make().await).await;
    ids_may_hold_anything(&*make().await).await;
    order_is_that_of_the_first_write(&*make().await).await;
    filters_and_pages(&*make().await).await;
    a_batch_happens_whole_or_not_at_all(&*make().await).await;
    parts_are_applied_in_the_order_of_the_fields(&*make().await).await;
    a_key_works_once(&*make().await).await;
    what_a_batch_relies_on_must_still_be_so(&*make().await).await;
    embeddings::late_embeddings_are_passed_over(&*make().await).await;
    every_state_is_kept(&*make().await).await;
    followed::removals_keep_the_edges_that_they_take_away(&*make().await).await;
    followed::news_are_told_cheaply(&*make().await).await;
    edges_join_memories(&*make().await).await;
    clear_forgets_memories_and_space(&*make().await).await;
    embeddings::embeddings_are_kept_at_unit_length(&*make().await).await;
    embeddings::embeddings_follow_the_text(&*make().await).await;
    embeddings::bad_embeddings_are_refused(&*make().await).await;
    embeddings::a_cube_can_be_embedded_anew(&*make().await).await;
    the_feed_gives_the_present_state(&*make().await).await;
    the_feed_tells_the_order_of_first_writes(&*make().await).await;
    the_feed_tells_only_the_last_change(&*make().await).await;
    followed::the_feed_tells_some_fields(&*make().await).await;
    full_text::words_are_found_by_their_stems(&*make().await).await;
    full_text::scores_are_bm25(&*make().await).await;
    full_text::full_text_filters_inside_and_breaks_ties_by_id(&*make().await).await;
    scopes_are_walls(&*make().await).await;
    concurrent_writers_lose_nothing(make().await).await;
    graph::run(make).await;
}

async fn listed(store: &dyn RecordStore, scope: &Scope) -> Vec<MemoryItem> {
    store.list(scope, &Filter::Everything, Paging::ALL).await.expect("list").entries
}

async fn listed_ids(store: &dyn RecordStore, scope: &Scope) -> Vec<String> {
    listed(store, scope).await.into_iter().map(|item| item.id.to_string()).collect()
}

pub(super) fn rich_item(id: &str) -> MemoryItem {
    let value = json!({
        "id": "11111111-2222-4333-8444-555555555555",
        "memory": "Max lives near Central Park",
        "metadata": {
            "user_id": "ann", "status": "activated", "version": 3, "key": "Max", "tags": ["dog", "park"],
            "confidence": 0.30000000000000004, "info": {"city": "New York", "n": 7}, "memory_type": "LongTermMemory",
            "sources": [{"type": "chat", "role": "user", "content": "I have a dog", "custom": null}],
            "background": "small talk", "created_at": "2026-01-02T03:04:05.000000+00:00", "own_key": {"a": [1, null]},
            "history": [{"version": 2, "is_fast": false, "memory": "Max", "update_type": "extract"}]
        }
    });
    let mut item = MemoryItem::from_value(value, String::new).expect("a good item");
    item.id = MemoryId::new(id);
    item
}

async fn items_come_back_as_they_were(store: &dyn RecordStore) {
    let scope = scope("c");
    let rich = rich_item("rich");
    let mut plain = item("plain", "  \u{0}text with\n\"quotes\" and 记忆 ");
    plain.metadata.status = None;
    let mut carrying = rich_item("carrying");
    if let mos_core::MetadataForm::Tree(fields) = &mut carrying.metadata.form {
        fields.embedding = Some(vec![1.0, 2.0]);
    }
    let put = vec![rich.clone(), plain.clone(), carrying.clone()];
    let receipt = apply(store, &scope, WriteBatch { put, ..batch() }).await;
    assert_eq!(receipt.put, ids(&["rich", "plain", "carrying"]), "the receipt names what was put, in order");
    assert!(!receipt.replayed && receipt.n_deleted == 0);
    let asked = ids(&["plain", "unknown", "rich", "carrying", "plain"]);
    let found = store.nodes(&scope, &asked).await.expect("nodes");
    carrying.metadata.take_embedding();
    assert_eq!(found, [plain.clone(), rich, carrying, plain], "those that exist, in the order asked, whole");
    assert_eq!(store.embedding_space(&scope).await.expect("space"), None, "embeddings inside items are ignored");
    let mut strange = item("strange", "x");
    strange.metadata.confidence = Some(f64::NAN);
    let error = refused(store, &scope, WriteBatch { put: vec![strange], ..batch() }).await;
    assert!(matches!(error, StoreError::Invalid(_)), "what cannot be kept as it is, is refused: {error}");
}

async fn ids_may_hold_anything(store: &dyn RecordStore) {
    let strange = ["a/b", "..", "../../etc/passwd", " ", "记忆 🦀", "x' OR '1'='1", "a\"b", "%_", "1_2", "A/B"];
    for cube in strange {
        let scope = scope(cube);
        for id in strange {
            apply(store, &scope, puts(&[(id, &format!("{cube} {id} word"))])).await;
        }
        apply(store, &scope, WriteBatch { put_edges: vec![edge("..", "x' --", "a/b")], ..batch() }).await;
    }
    for cube in strange {
        let scope = scope(cube);
        assert_eq!(listed_ids(store, &scope).await, strange, "ids keep their spelling");
        let found = store.full_text(&scope, "word", 100, &Filter::Everything).await.expect("full text");
        assert_eq!(found.len(), strange.len());
        assert_eq!(store.all_edges(&scope).await.expect("edges"), [edge("..", "x' --", "a/b")]);
    }
}

async fn order_is_that_of_the_first_write(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, puts(&[("z", "1"), ("a", "2")])).await;
    apply(store, &scope, puts(&[("m", "3"), ("z", "1 again")])).await;
    assert_eq!(listed_ids(store, &scope).await, ["z", "a", "m"], "a known id keeps its place");
    apply(store, &scope, deletes(&["z"])).await;
    apply(store, &scope, puts(&[("z", "new")])).await;
    assert_eq!(listed_ids(store, &scope).await, ["a", "m", "z"], "a removed id comes back at the end");
}

async fn filters_and_pages(store: &dyn RecordStore) {
    let scope = scope("c");
    let put = (0..10)
        .map(|number| {
            let mut one = item(&format!("{number}"), "text");
            one.metadata.confidence = Some(f64::from(number));
            one.metadata.tags = Some(vec![if number % 2 == 0 { "even" } else { "odd" }.to_owned()]);
            one.metadata.status = Some(if number < 8 { Status::Activated } else { Status::Archived });
            one
        })
        .collect();
    apply(store, &scope, WriteBatch { put, ..batch() }).await;
    let even = Filter::Is(Condition { field: "tags".to_owned(), operator: Operator::Contains, value: json!("even") });
    let live_even = even.and(Filter::equals("status", "activated"));
    let page = store.list(&scope, &live_even, Paging { offset: 1, limit: 2 }).await.expect("list");
    let shown: Vec<&str> = page.entries.iter().map(|one| one.id.as_str()).collect();
    assert_eq!((shown, page.total), (vec!["2", "4"], 4), "a page of what passes, and how much passes");
    assert_eq!(store.count(&scope, &live_even).await.expect("count"), 4);
    let page = store.list(&scope, &Filter::Everything, Paging { offset: 8, limit: 5 }).await.expect("list");
    assert_eq!((page.entries.len(), page.total), (2, 10));
    let beyond = store.list(&scope, &Filter::Everything, Paging { offset: 50, limit: 5 }).await.expect("list");
    assert_eq!((beyond.entries.len(), beyond.total), (0, 10));
    let none = store.list(&scope, &live_even, Paging { offset: 0, limit: 0 }).await.expect("list");
    assert_eq!((none.entries.len(), none.total), (0, 4));
}

async fn a_batch_happens_whole_or_not_at_all(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    apply(store, &scope, embedded(&mini, &[("old", "kept words", &[1.0, 0.0])])).await;
    let before = store.changes(&scope, 0, 100).await.expect("changes");
    let good = || WriteBatch {
        delete: ids(&["old"]),
        idempotency_key: Some("k".to_owned()),
        ..puts(&[("new", "fresh words"), ("old", "changed")])
    };
    let loose_edge = WriteBatch { put_edges: vec![edge("new", "X", "nobody")], ..good() };
    let loose_vector = WriteBatch { embeddings: Some(vectors(&mini, &[("nobody", &[1.0, 0.0])])), ..good() };
    let not_finite = WriteBatch { embeddings: Some(vectors(&mini, &[("new", &[f32::NAN, 0.0])])), ..good() };
    for bad in [loose_edge, loose_vector, not_finite] {
        let error = refused(store, &scope, bad).await;
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    let other = WriteBatch { embeddings: Some(vectors(&space("other", 2), &[("new", &[1.0, 0.0])])), ..good() };
    assert!(matches!(refused(store, &scope, other).await, StoreError::EmbeddingSpace { .. }));
    assert_eq!(listed(store, &scope).await, [item("old", "kept words")], "nothing of a refused batch is kept");
    assert_eq!(store.changes(&scope, 0, 100).await.expect("changes"), before);
    assert!(store.full_text(&scope, "fresh", 9, &Filter::Everything).await.expect("full text").is_empty());
    assert_eq!(store.history(&scope, &"new".into()).await.expect("history"), []);
    let receipt = apply(store, &scope, good()).await;
    assert!(!receipt.replayed, "a refused batch does not use up its key");
}

async fn parts_are_applied_in_the_order_of_the_fields(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, puts(&[("a", "one"), ("b", "two")])).await;
    apply(store, &scope, WriteBatch { put_edges: vec![edge("a", "X", "b")], ..batch() }).await;
    let everything = WriteBatch {
        clear: true,
        delete: ids(&["a", "unknown"]),
        remove_edges: vec![edge("a", "Y", "c"), edge("a", "X", "nobody")],
        put_edges: vec![edge("a", "Y", "c"), edge("a", "Y", "c")],
        embeddings: Some(vectors(&space("mini", 2), &[("a", &[0.0, 2.0])])),
        ..puts(&[("c", "three"), ("a", "anew"), ("a", "anew twice")])
    };
    let receipt = apply(store, &scope, everything).await;
    assert_eq!((receipt.n_deleted, receipt.put), (2, ids(&["c", "a", "a"])), "cleared ones count as removed");
    assert_eq!(listed(store, &scope).await, [item("c", "three"), item("a", "anew twice")]);
    assert_eq!(store.all_edges(&scope).await.expect("edges"), [edge("a", "Y", "c")]);
    let found = store.embeddings(&scope, &ids(&["c", "a"])).await.expect("embeddings");
    assert_eq!(found, [("a".into(), vec![0.0, 1.0])]);
    let empty = apply(store, &scope, batch()).await;
    assert_eq!((empty.sequence, empty.n_deleted), (receipt.sequence, 0), "an empty batch changes nothing");
}

async fn a_key_works_once(store: &dyn RecordStore) {
    let (ours, theirs) = (scope("c"), scope("other"));
    let keyed = |text: &str| WriteBatch { idempotency_key: Some("key'1".to_owned()), ..puts(&[("a", text)]) };
    let first = apply(store, &ours, keyed("first")).await;
    let second = apply(store, &ours, keyed("second")).await;
    assert!(!first.replayed && second.replayed);
    assert_eq!((second.sequence, &second.put), (first.sequence, &first.put), "the first one's receipt");
    assert_eq!(listed(store, &ours).await, [item("a", "first")], "the second changes nothing");
    assert!(!apply(store, &theirs, keyed("theirs")).await.replayed, "keys of another scope do not count");
    let other_key = WriteBatch { idempotency_key: Some("key'2".to_owned()), ..puts(&[("a", "third")]) };
    assert!(!apply(store, &ours, other_key).await.replayed);
}

async fn every_state_is_kept(store: &dyn RecordStore) {
    let scope = scope("c");
    let by = |reason: &str, message: Option<&str>| Origin {
        actor: "ann".to_owned(),
        reason: reason.to_owned(),
        message_id: message.map(str::to_owned),
    };
    let put = |text: &str, origin: Origin| WriteBatch { put: vec![item("a", text)], ..WriteBatch::new(origin) };
    apply(store, &scope, put("one", by("add", Some("m1")))).await;
    apply(store, &scope, put("two", by("update", None))).await;
    let removal = WriteBatch { delete: ids(&["a"]), ..WriteBatch::new(by("delete", None)) };
    apply(store, &scope, removal).await;
    apply(store, &scope, put("three", by("undo", None))).await;
    let history = store.history(&scope, &"a".into()).await.expect("history");
    let numbers: Vec<u64> = history.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "changes count from 1, across a removal");
    let states: Vec<Option<&str>> =
        history.iter().map(|version| version.item.as_ref().map(|item| item.memory.as_str())).collect();
    assert_eq!(states, [Some("one"), Some("two"), None, Some("three")], "oldest first; a removal has no item");
    let origins: Vec<&Origin> = history.iter().map(|version| &version.origin).collect();
    let expected = [by("add", Some("m1")), by("update", None), by("delete", None), by("undo", None)];
    assert_eq!(origins, expected.iter().collect::<Vec<_>>());
    assert!(history.iter().all(|version| version.at.ends_with("+00:00") && version.at.contains('T')), "ISO 8601");
    assert_eq!(store.history(&scope, &"unknown".into()).await.expect("history"), []);
}

async fn edges_join_memories(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, puts(&[("a", "1"), ("b", "2"), ("c", "3")])).await;
    let all = vec![edge("a", "NEXT", "b"), edge("a", "PARENT", "b"), edge("b", "NEXT", "a"), edge("c", "SELF", "c")];
    let put_edges = all.iter().rev().cloned().chain(all.clone()).collect();
    apply(store, &scope, WriteBatch { put_edges, ..batch() }).await;
    assert_eq!(store.all_edges(&scope).await.expect("edges"), all, "sorted, a known edge stays one");
    let at = async |id: &str, direction, kind| store.edges(&scope, &ids(&[id]), direction, kind).await.expect("edges");
    assert_eq!(at("a", Direction::Outgoing, None).await, all[..2]);
    assert_eq!(at("a", Direction::Incoming, None).await, all[2..3]);
    assert_eq!(at("a", Direction::Any, Some("NEXT")).await, [all[0].clone(), all[2].clone()]);
    assert_eq!(at("c", Direction::Any, None).await, all[3..], "an edge to itself is one edge");
    assert_eq!(at("unknown", Direction::Any, None).await, []);
    apply(store, &scope, WriteBatch { remove_edges: vec![all[0].clone(), edge("x", "Y", "z")], ..batch() }).await;
    assert_eq!(store.all_edges(&scope).await.expect("edges"), all[1..]);
    apply(store, &scope, puts(&[("b", "2 changed")])).await;
    assert_eq!(store.all_edges(&scope).await.expect("edges"), all[1..], "a memory that changes keeps its edges");
    apply(store, &scope, deletes(&["b"])).await;
    assert_eq!(store.all_edges(&scope).await.expect("edges"), all[3..], "edges go with their memories");
    let error = refused(store, &scope, WriteBatch { put_edges: vec![edge("a", "X", "b")], ..batch() }).await;
    assert!(error.to_string().contains('b'), "the missing memory is named: {error}");
}

async fn clear_forgets_memories_and_space(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, embedded(&space("mini", 2), &[("a", "one", &[1.0, 0.0]), ("b", "two", &[0.0, 1.0])])).await;
    apply(store, &scope, WriteBatch { put_edges: vec![edge("a", "X", "b")], ..batch() }).await;
    assert_eq!(apply(store, &scope, WriteBatch { clear: true, ..batch() }).await.n_deleted, 2);
    assert_eq!(store.count(&scope, &Filter::Everything).await.expect("count"), 0);
    assert_eq!(store.all_edges(&scope).await.expect("edges"), []);
    assert_eq!(store.embedding_space(&scope).await.expect("space"), None);
    assert_eq!(store.history(&scope, &"a".into()).await.expect("history").len(), 2, "the history stays");
    let other = space("other", 3);
    apply(store, &scope, embedded(&other, &[("a", "anew", &[1.0, 0.0, 0.0])])).await;
    assert_eq!(store.embedding_space(&scope).await.expect("space"), Some(other), "another model may be used now");
}

async fn what_a_batch_relies_on_must_still_be_so(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, WriteBatch { put: vec![rich_item("a")], ..batch() }).await;
    let read = listed(store, &scope).await;
    let conflict = async |write: WriteBatch| {
        let error = refused(store, &scope, write).await;
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    };
    conflict(WriteBatch { absent: ids(&["new", "a"]), ..puts(&[("new", "text")]) }).await;
    apply(store, &scope, WriteBatch { unchanged: read.clone(), ..puts(&[("a", "one")]) }).await;
    conflict(WriteBatch { unchanged: read.clone(), ..puts(&[("a", "two")]) }).await;
    let mut retitled = item("a", "one");
    retitled.metadata.session_id = Some("other".to_owned());
    apply(store, &scope, WriteBatch { put: vec![retitled], ..batch() }).await;
    conflict(WriteBatch { unchanged: vec![item("a", "one")], ..puts(&[("a", "two")]) }).await;
    apply(store, &scope, deletes(&["a"])).await;
    conflict(WriteBatch { unchanged: read, ..puts(&[("a", "two")]) }).await;
    assert_eq!(listed(store, &scope).await, [], "a refused batch changes nothing");
    let write =
        || WriteBatch { absent: ids(&["a"]), idempotency_key: Some("key".to_owned()), ..puts(&[("a", "back")]) };
    assert!(!apply(store, &scope, write()).await.replayed);
    assert!(apply(store, &scope, write()).await.replayed, "a repeated request is answered, not refused");
}

fn sequence_of(change: &Change) -> u64 {
    match change {
        Change::Put { sequence, .. } | Change::Deleted { sequence, .. } => *sequence,
    }
}

async fn the_feed_gives_the_present_state(store: &dyn RecordStore) {
    let (ours, theirs, mini) = (scope("c"), scope("other"), space("mini", 2));
    for number in 0..5 {
        let id = format!("{number}");
        apply(store, &ours, embedded(&mini, &[(&id, "text", &[1.0, number as f32])])).await;
        apply(store, &theirs, puts(&[(&id, "theirs")])).await;
    }
    apply(store, &ours, puts(&[("bare", "no vector")])).await;
    let last = apply(store, &ours, deletes(&["2"])).await.sequence;
    let mut present: Vec<String> = Vec::new();
    let (mut after, mut n_pages) = (0, 0);
    loop {
        let page = store.changes(&ours, after, 2).await.expect("changes");
        assert!(page.len() <= 2);
        assert!(page.iter().map(sequence_of).is_sorted(), "in order");
        let Some(change) = page.last() else { break };
        assert!(sequence_of(&page[0]) > after, "only what comes after");
        (after, n_pages) = (sequence_of(change), n_pages + 1);
        for change in page {
            match change {
                Change::Put { id, point, .. } => {
                    assert_eq!(point.is_some(), id.as_str() != "bare", "a point where there is an embedding");
                    present.push(id.to_string());
                }
                Change::Deleted { id, .. } => present.retain(|known| known != id.as_str()),
            }
        }
    }
    assert_eq!(present, ["0", "1", "3", "4", "bare"]);
    assert!(n_pages >= 3);
    assert_eq!(after, last, "a receipt's number is that of its last change");
    assert!(store.changes(&ours, last, 10).await.expect("changes").is_empty());
    assert!(store.changes(&ours, u64::MAX, 10).await.expect("changes").is_empty());
}

async fn the_feed_tells_the_order_of_first_writes(store: &dyn RecordStore) {
    let scope = scope("c");
    let arrivals = async || {
        let mut told: Vec<(u64, String)> = Vec::new();
        for change in store.changes(&scope, 0, 10).await.expect("changes") {
            if let Change::Put { arrival, id, .. } = change {
                told.push((arrival, id.to_string()));
            }
        }
        told.sort();
        told
    };
    apply(store, &scope, puts(&[("z", "one"), ("m", "two")])).await;
    apply(store, &scope, puts(&[("a", "three")])).await;
    let before = arrivals().await;
    apply(store, &scope, puts(&[("z", "one again")])).await;
    let after = arrivals().await;
    assert_eq!(before, after, "a memory that is written again keeps its place");
    assert!(after.windows(2).all(|pair| pair[0].0 < pair[1].0), "no two have the same place: {after:?}");
    let listed = store.list(&scope, &Filter::Everything, Paging::ALL).await.expect("list").entries;
    let listed: Vec<&str> = listed.iter().map(|item| item.id.as_str()).collect();
    let told: Vec<&str> = after.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!((told, listed), (vec!["z", "m", "a"], vec!["z", "m", "a"]));
    apply(store, &scope, deletes(&["m"])).await;
    apply(store, &scope, puts(&[("m", "back")])).await;
    assert_eq!(arrivals().await.last().map(|(_, id)| id.as_str()), Some("m"), "who comes back comes last");
}

async fn the_feed_tells_only_the_last_change(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    let mut rich = rich_item("a");
    rich.memory = "last text".to_owned();
    apply(store, &scope, puts(&[("a", "first text")])).await;
    let between = apply(store, &scope, puts(&[("b", "other")])).await.sequence;
    apply(store, &scope, WriteBatch { put: vec![rich], ..batch() }).await;
    apply(store, &scope, WriteBatch { embeddings: Some(vectors(&mini, &[("a", &[0.0, 7.0])])), ..batch() }).await;
    let told = store.changes(&scope, between, 10).await.expect("changes");
    let [Change::Put { id, point: Some(point), .. }] = told.as_slice() else { panic!("one change: {told:?}") };
    assert_eq!((id.as_str(), &*point.memory, &point.vector), ("a", "last text", &vec![0.0, 1.0]));
    assert_eq!(point.metadata.get("key"), Some(&json!("Max")));
    for absent in ["sources", "history", "embedding"] {
        assert!(!point.metadata.contains_key(absent), "{absent}");
    }
    assert_eq!(store.changes(&scope, 0, 10).await.expect("changes").len(), 2);
    apply(store, &scope, deletes(&["a"])).await;
    let told = store.changes(&scope, 0, 10).await.expect("changes");
    assert!(matches!(&told[..], [Change::Put { .. }, Change::Deleted { id, .. }] if id.as_str() == "a"), "{told:?}");
    apply(store, &scope, puts(&[("a", "back")])).await;
    let told = store.changes(&scope, 0, 10).await.expect("changes");
    assert!(told.len() == 2 && told.iter().all(|change| matches!(change, Change::Put { .. })), "{told:?}");
}

async fn scopes_are_walls(store: &dyn RecordStore) {
    let (ours, theirs, mini) = (scope("1"), scope("12"), space("mini", 2));
    apply(store, &ours, embedded(&mini, &[("a", "the red dog", &[1.0, 0.0]), ("b", "a blue dog", &[0.0, 1.0])])).await;
    let search = async || store.full_text(&ours, "dog red", 10, &Filter::Everything).await.expect("full text");
    let before = (search().await, listed(store, &ours).await, store.changes(&ours, 0, 99).await.expect("changes"));
    let other = space("another model", 3);
    for number in 0..50 {
        let text = format!("dog dog red number {number}");
        apply(store, &theirs, embedded(&other, &[(&format!("{number}"), &text, &[1.0, 0.0, 0.0])])).await;
    }
    apply(store, &theirs, puts(&[("a", "their own a"), ("b", "their own b")])).await;
    apply(store, &theirs, WriteBatch { put_edges: vec![edge("a", "X", "b")], ..batch() }).await;
    let after = (search().await, listed(store, &ours).await, store.changes(&ours, 0, 99).await.expect("changes"));
    assert_eq!(before, after, "another tenant's writes change no score and are never seen");
    assert_eq!(store.all_edges(&ours).await.expect("edges"), []);
    assert_eq!(store.nodes(&ours, &ids(&["3", "a"])).await.expect("nodes"), [item("a", "the red dog")]);
    assert_eq!(store.embeddings(&ours, &ids(&["3"])).await.expect("embeddings"), []);
    assert_eq!(store.history(&ours, &"3".into()).await.expect("history"), []);
    let error = refused(store, &ours, WriteBatch { put_edges: vec![edge("a", "X", "3")], ..batch() }).await;
    assert!(matches!(error, StoreError::Invalid(_)), "no edge leads through the wall: {error}");
    assert_eq!(apply(store, &ours, deletes(&["3"])).await.n_deleted, 0);
    apply(store, &ours, WriteBatch { clear: true, ..batch() }).await;
    assert_eq!(store.count(&theirs, &Filter::Everything).await.expect("count"), 52);
    let nowhere = scope("nowhere");
    assert_eq!(store.count(&nowhere, &Filter::Everything).await.expect("count"), 0);
    assert_eq!(store.full_text(&nowhere, "dog", 9, &Filter::Everything).await.expect("full text"), []);
}

async fn concurrent_writers_lose_nothing(store: Arc<dyn RecordStore>) {
    let writers = (0..8).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let scope = scope("c");
            for number in 0..20 {
                let mut write = puts(&[(&format!("{writer}-{number}"), "text")]);
                if number % 5 == 4 {
                    // Some requests fail in the midst of the others.
                    write.put_edges = vec![edge("nobody", "X", "nobody")];
                    refused(&*store, &scope, write).await;
                } else {
                    apply(&*store, &scope, write).await;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("every writer ends well");
    }
    assert_eq!(store.count(&scope("c"), &Filter::Everything).await.expect("count"), 8 * 16);
}
