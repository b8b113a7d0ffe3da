//! What every [`mos_core::GraphStore`] answers about groups, edges and ways, and the deletions that can be taken back.

use std::sync::Arc;

use mos_core::{
    Direction, Filter, Graph, GraphStore, GroupCount, MemoryId, MemoryItem, Origin, Paging, RecordStore, Scope, Status,
    StoreError, WriteBatch,
};
use serde_json::{Value, json};

use super::chosen;
use super::samples::{apply, batch, deletes, edge, embedded, ids, item, puts, scope, space};

/// Runs the suite; `make` returns a fresh, empty store.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> Arc<dyn RecordStore>) {
    conditions_compare_as_documented(&*make().await).await;
    filters_join_and_nest(&*make().await).await;
    those_that_share_most_tags_come_first(&*make().await).await;
    memories_without_edges_are_found(&*make().await).await;
    groups_are_counted(&*make().await).await;
    an_export_holds_everything_once(&*make().await).await;
    an_exported_graph_can_be_imported(&*make().await).await;
    pages_are_parts_of_one_list(&*make().await).await;
    odd_values_of_listed_fields_are_compared_as_they_are(&*make().await).await;
    what_lies_around_a_memory_is_found_nearest_first(&*make().await).await;
    the_shortest_way_is_found(&*make().await).await;
    a_deletion_can_be_taken_back(&*make().await).await;
    a_status_that_comes_late_is_refused(&*make().await).await;
    questions_see_their_own_scope_only(&*make().await).await;
    chosen::run(make).await;
}

/// A memory whose metadata is told.
pub(super) fn node(id: &str, metadata: Value) -> MemoryItem {
    let value = json!({"id": "11111111-2222-4333-8444-555555555555", "memory": format!("text of {id}"),
        "metadata": metadata});
    let mut item = MemoryItem::from_value(value, String::new).expect("a good item");
    item.id = MemoryId::new(id);
    item
}

pub(super) fn filter(value: Value) -> Filter {
    Filter::from_value(&value).expect("a good filter")
}

async fn passing(store: &dyn GraphStore, scope: &Scope, value: Value) -> Vec<String> {
    let page = store.list(scope, &filter(value), Paging::ALL).await.expect("list");
    page.entries.into_iter().map(|item| item.id.to_string()).collect()
}

const QUOTED: &str = "it's a \"field\" `$.x` }";

async fn conditions_compare_as_documented(store: &dyn RecordStore) {
    let scope = scope("c");
    let put = vec![
        node(
            "a",
            json!({"memory_type": "LongTermMemory", "key": "dog food", "tags": ["dog", "food"], "confidence": 0.5,
            "created_at": "2026-01-02T00:30:00+02:00", "info": {"city": "Paris", "n": 7}, "background": "%"}),
        ),
        node(
            "b",
            json!({"memory_type": "WorkingMemory", "key": "cat", "tags": ["cat"], "confidence": 1, "own": true,
            "created_at": "2026-01-02T00:00:00+00:00", "info": {"city": "Rome"}, QUOTED: "x"}),
        ),
        node("c", json!({"key": "狗", "tags": [], "own": false})),
    ];
    apply(store, &scope, WriteBatch { put, ..batch() }).await;
    let cases = [
        (json!({"key": "cat"}), vec!["b"]),
        (json!({"key": "CAT"}), vec![]),
        (json!({"key": {"in": ["cat", "狗"]}}), vec!["b", "c"]),
        (json!({"key": {"like": "d"}}), vec!["a"]),
        (json!({"key": {"like": "%"}}), vec![]),
        (json!({"background": {"like": "%"}}), vec!["a"]),
        (json!({"key": {"starts_with": "dog"}}), vec!["a"]),
        (json!({"key": {"ends_with": "food"}}), vec!["a"]),
        (json!({"key": {"gt": "cat"}}), vec!["a", "c"]),
        (json!({"tags": {"contains": "dog"}}), vec!["a"]),
        (json!({"key": {"contains": "dog"}}), vec![]),
        (json!({"confidence": {"gte": 0.5}}), vec!["a", "b"]),
        (json!({"confidence": {"lt": 1}}), vec!["a"]),
        (json!({"confidence": 1.0}), vec!["b"]),
        (json!({"confidence": "1"}), vec![]),
        (json!({"city": "Paris"}), vec!["a"]),
        (json!({"n": {"lte": 7}}), vec!["a"]),
        (json!({"own": true}), vec!["b"]),
        (json!({"own": null}), vec![]),
        (json!({"memory": "text of c"}), vec!["c"]),
        (json!({"memory": {"like": "of a"}}), vec!["a"]),
        (json!({"created_at": {"lt": "2026-01-01T23:00:00Z"}}), vec!["a"]),
        (json!({"created_at": {"gt": "2026-01-01T23:00:00"}}), vec!["b"]),
        (json!({"memory_type": {"in": []}}), vec![]),
        (json!({QUOTED: "x"}), vec!["b"]),
        (json!({"absent": {"lt": 1}}), vec![]),
    ];
    for (value, expected) in cases {
        assert_eq!(passing(store, &scope, value.clone()).await, expected, "{value}");
        assert_eq!(store.count(&scope, &filter(value.clone())).await.expect("count"), expected.len(), "{value}");
    }
}

async fn filters_join_and_nest(store: &dyn RecordStore) {
    let scope = scope("c");
    let put = (0..6).map(|n| node(&format!("m{n}"), json!({"n": n, "key": if n % 2 == 0 { "even" } else { "odd" }})));
    apply(store, &scope, WriteBatch { put: put.collect(), ..batch() }).await;
    let odd = json!({"key": "odd"});
    assert_eq!(passing(store, &scope, json!({"and": [odd, {"n": {"gt": 1}}]})).await, ["m3", "m5"]);
    assert_eq!(passing(store, &scope, json!({"or": [{"n": 0}, {"n": 5}]})).await, ["m0", "m5"]);
    assert_eq!(passing(store, &scope, json!({"not": {"or": [odd, {"absent": 1}]}})).await, ["m0", "m2", "m4"]);
    assert_eq!(passing(store, &scope, json!({"n": {"gte": 2, "lt": 4}, "key": "odd"})).await, ["m3"]);
    assert_eq!(passing(store, &scope, json!({"or": []})).await, Vec::<String>::new());
    // Deeper than any client may ask for.
    let deep = (0..100).fold(Filter::equals("key", "odd"), |inner, n| match n % 3 {
        0 => Filter::All(vec![inner]),
        1 => Filter::Any(vec![inner, Filter::equals("n", 0)]),
        _ => Filter::Not(Box::new(Filter::Not(Box::new(inner)))),
    });
    assert_eq!(store.count(&scope, &deep).await.expect("count"), 4);
}

async fn those_that_share_most_tags_come_first(store: &dyn RecordStore) {
    let scope = scope("c");
    let tagged = |id: &str, tags: &[&str], kind: &str| node(id, json!({"tags": tags, "type": kind}));
    let put = vec![
        tagged("d", &["dog"], "fact"),
        tagged("c", &["dog", "park"], "fact"),
        tagged("b", &["park", "dog", "dog", "x"], "fact"),
        tagged("a", &["dog", "park", "rain"], "reasoning"),
        tagged("e", &["do", "DOG", "o'g"], "fact"),
        item("bare", "no tags at all"),
    ];
    apply(store, &scope, WriteBatch { put, ..batch() }).await;
    let ask = async |tags: &[&str], min: usize, except: &[&str], limit: usize, value: Value| -> Vec<(String, usize)> {
        let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
        let found = store.sharing_tags(&scope, &tags, min, &ids(except), limit, &filter(value)).await.expect("tags");
        found.into_iter().map(|one| (one.item.id.to_string(), one.n_shared)).collect()
    };
    let own = |pairs: &[(&str, usize)]| pairs.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect::<Vec<_>>();
    let wanted = ["dog", "park", "rain", "dog"];
    assert_eq!(ask(&wanted, 1, &[], 9, json!({})).await, own(&[("a", 3), ("b", 2), ("c", 2), ("d", 1)]));
    assert_eq!(ask(&wanted, 2, &["b"], 9, json!({})).await, own(&[("a", 3), ("c", 2)]));
    assert_eq!(ask(&wanted, 0, &[], 2, json!({"not": {"type": "reasoning"}})).await, own(&[("b", 2), ("c", 2)]));
    assert_eq!(ask(&["o'g"], 1, &[], 9, json!({})).await, own(&[("e", 1)]));
    assert_eq!(ask(&["cat"], 0, &[], 9, json!({})).await, [], "sharing none is not sharing");
    assert_eq!(ask(&[], 0, &[], 9, json!({})).await, []);
}

async fn memories_without_edges_are_found(store: &dyn RecordStore) {
    let scope = scope("c");
    let put_edges = vec![edge("a", "PARENT", "b"), edge("c", "RELATE", "d")];
    let write = WriteBatch { put_edges, ..puts(&[("d", "4"), ("c", "3"), ("b", "2"), ("a", "1"), ("e", "5")]) };
    apply(store, &scope, write).await;
    let ask = async |kind: &str, limit: usize, filter: &Filter| -> Vec<String> {
        let found = store.without_edges(&scope, kind, limit, filter).await.expect("without edges");
        found.into_iter().map(|item| item.id.to_string()).collect()
    };
    assert_eq!(ask("PARENT", 9, &Filter::Everything).await, ["d", "c", "e"]);
    assert_eq!(ask("PARENT", 2, &Filter::Everything).await, ["d", "c"]);
    assert_eq!(ask("RELATE", 9, &Filter::Not(Box::new(Filter::equals("memory", "5")))).await, ["b", "a"]);
    assert_eq!(ask("parent", 9, &Filter::Everything).await.len(), 5, "types are what they are");
}

async fn groups_are_counted(store: &dyn RecordStore) {
    let scope = scope("c");
    let put = vec![
        node("a", json!({"memory_type": "LongTermMemory", "status": "activated", "info": {"city": "Paris"}})),
        node("b", json!({"memory_type": "LongTermMemory", "status": "archived"})),
        node("c", json!({"memory_type": "WorkingMemory", "status": "activated", "info": {"city": "Paris"}})),
        node("d", json!({"memory_type": "LongTermMemory", "status": "activated", "tags": ["x"]})),
    ];
    apply(store, &scope, WriteBatch { put, ..batch() }).await;
    let ask = async |fields: &[&str], filter: &Filter| {
        let fields: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
        store.count_by(&scope, &fields, filter).await.expect("counts")
    };
    let group =
        |values: Value, count: usize| GroupCount { values: values.as_array().cloned().unwrap_or_default(), count };
    let expected = [
        group(json!(["LongTermMemory", "activated"]), 2),
        group(json!(["LongTermMemory", "archived"]), 1),
        group(json!(["WorkingMemory", "activated"]), 1),
    ];
    assert_eq!(ask(&["memory_type", "status"], &Filter::Everything).await, expected);
    let activated = Filter::equals("status", "activated");
    let expected = [group(json!(["Paris"]), 2), group(json!([null]), 1)];
    assert_eq!(ask(&["city"], &activated).await, expected, "info is looked into, what is absent is null");
    assert_eq!(ask(&[], &Filter::Everything).await, [group(json!([]), 4)]);
    assert_eq!(ask(&["status"], &Filter::equals("status", "x")).await, []);
}

async fn an_export_holds_everything_once(store: &dyn RecordStore) {
    let scope = scope("c");
    let made = |n: usize| match n {
        0 => node("m0", json!({"key": "none"})),
        // Two of each moment, so that ids break ties.
        _ => node(
            &format!("m{n}"),
            json!({"memory_type": "LongTermMemory", "key": format!("k{}", n % 3),
            "created_at": format!("2026-01-0{}T00:00:00+00:00", 1 + n / 2)}),
        ),
    };
    let put_edges = vec![edge("m1", "A", "m2"), edge("m5", "B", "m1"), edge("m5", "A", "m5"), edge("m0", "A", "m6")];
    apply(store, &scope, WriteBatch { put: (0..7).map(made).collect(), put_edges: put_edges.clone(), ..batch() }).await;
    let order = ["m6", "m5", "m4", "m3", "m2", "m1", "m0"];
    let (mut seen, mut edges) = (Vec::new(), Vec::new());
    for offset in (0..8).step_by(2) {
        let paging = Paging { offset, limit: 2 };
        let page = store.export(&scope, &Filter::Everything, paging).await.expect("export");
        assert_eq!((page.n_nodes, page.n_edges), (7, 4), "totals are those of the whole graph");
        let names: Vec<String> = page.graph.nodes.iter().map(|item| item.id.to_string()).collect();
        assert!(page.graph.edges.iter().all(|edge| names.iter().any(|name| name == edge.source.as_str())));
        seen.extend(names);
        edges.extend(page.graph.edges);
    }
    assert_eq!(seen, order);
    edges.sort();
    let mut expected = put_edges;
    expected.sort();
    assert_eq!(edges, expected);
    let dated = filter(json!({"not": {"key": {"in": ["none", "k1"]}}}));
    let page = store.export(&scope, &dated, Paging::ALL).await.expect("export");
    let names: Vec<&str> = page.graph.nodes.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(names, ["m6", "m5", "m3", "m2"]);
    assert_eq!((page.n_nodes, page.n_edges), (4, 1));
    assert_eq!(page.graph.edges, [edge("m5", "A", "m5")], "both ends must pass");
    assert_eq!(
        store.export(&scope, &dated, Paging { offset: 9, limit: 1 }).await.expect("export").graph,
        Graph::default()
    );
}

/// Every page of `newest` is that part of an export, and every page of `latest` that part of the list turned round.
async fn pages_are_parts_of_one_list(store: &dyn RecordStore) {
    let scope = scope("c");
    let made = |n: usize| {
        let mut metadata = json!({"key": format!("k{}", n % 3), "user_id": if n < 6 { "ann" } else { "bob" },
            "memory_type": if n.is_multiple_of(2) { "LongTermMemory" } else { "UserMemory" },
            "status": if n == 4 { "deleted" } else { "activated" }});
        if n != 2 {
            // Neither in the order of the ids nor in that of the writes.
            metadata["created_at"] = json!(format!("2026-01-{:02}T00:00:00+00:00", 1 + (n * 5) % 7));
        }
        node(&format!("m{}", (n * 3) % 10), metadata)
    };
    apply(store, &scope, WriteBatch { put: (0..10).map(made).collect(), ..batch() }).await;
    // A memory that changes keeps its place among the first writes, and takes a new one among the newest.
    let later = json!({"memory_type": "UserMemory", "status": "activated", "created_at": "2026-02-01T00:00:00+00:00"});
    apply(store, &scope, WriteBatch { put: vec![node("m3", later)], ..batch() }).await;
    apply(store, &scope, deletes(&["m5"])).await;
    let alive = json!({"not": {"status": "deleted"}});
    let filters = [
        json!({}),
        alive,
        json!({"not": {"memory_type": {"in": ["UserMemory", "PreferenceMemory"]}}, "status": {"starts_with": "a"}}),
        json!({"or": [{"user_id": "bob"}, {"memory_type": "UserMemory"}]}),
        json!({"key": {"in": ["k0", "k1"]}, "not": {"status": "deleted"}}),
        json!({"or": [{"key": "k2"}, {"user_id": "bob"}]}),
        json!({"user_id": "nobody"}),
    ];
    for value in filters {
        let wanted = filter(value.clone());
        let exported = store.export(&scope, &wanted, Paging::ALL).await.expect("export").graph.nodes;
        let mut turned = store.list(&scope, &wanted, Paging::ALL).await.expect("list").entries;
        turned.reverse();
        assert_eq!(store.count(&scope, &wanted).await.expect("count"), turned.len(), "{value}");
        for (offset, limit) in [(0, 3), (3, 3), (6, 3), (2, 50), (50, 2), (0, usize::MAX), (1, 0)] {
            let paging = Paging { offset, limit };
            let part = |list: &[MemoryItem]| list.iter().skip(offset).take(limit).cloned().collect::<Vec<_>>();
            let newest = store.newest(&scope, &wanted, paging).await.expect("newest");
            assert_eq!(newest, part(&exported), "{value} {offset} {limit}");
            let latest = store.latest(&scope, &wanted, paging).await.expect("latest");
            assert_eq!(latest, part(&turned), "{value} {offset} {limit}");
            let page = store.list(&scope, &wanted, paging).await.expect("list");
            let oldest: Vec<MemoryItem> = turned.iter().rev().skip(offset).take(limit).cloned().collect();
            assert_eq!((page.entries, page.total), (oldest, turned.len()), "{value} {offset} {limit}");
        }
    }
    let nobodys = Scope::of(&"another".into());
    assert_eq!(store.newest(&nobodys, &Filter::Everything, Paging::ALL).await.expect("newest"), []);
    assert_eq!(store.latest(&nobodys, &Filter::Everything, Paging::ALL).await.expect("latest"), []);
}

/// Fields that stores may keep apart for their lists are what conditions see, whatever is in them.
async fn odd_values_of_listed_fields_are_compared_as_they_are(store: &dyn RecordStore) {
    let scope = scope("c");
    let put = vec![
        node("a", json!({"user_id": "quote\" back\\slash \u{1} 记", "info": {"user_id": "hidden"}})),
        node("b", json!({"info": {"user_id": "told", "memory_type": "own", "status": "own"}})),
        node("c", json!({"user_id": "null", "info": {"memory_type": 7}})),
        node("d", json!({"user_id": "ann", "info": {"memory_type": ["x", {"y": null}]}})),
        node("e", json!({})),
    ];
    apply(store, &scope, WriteBatch { put, ..batch() }).await;
    let cases = [
        (json!({"user_id": "quote\" back\\slash \u{1} 记"}), vec!["a"]),
        (json!({"user_id": {"like": "\u{1}"}}), vec!["a"]),
        (json!({"user_id": "hidden"}), vec![]),
        (json!({"user_id": "told"}), vec!["b"]),
        (json!({"user_id": "null"}), vec!["c"]),
        (json!({"not": {"user_id": {"gte": ""}}}), vec!["e"]),
        (json!({"memory_type": "own"}), vec!["b"]),
        (json!({"memory_type": 7}), vec!["c"]),
        (json!({"memory_type": {"in": ["7", 7.0]}}), vec!["c"]),
        (json!({"memory_type": "7"}), vec![]),
        (json!({"memory_type": {"contains": "x"}}), vec!["d"]),
        (json!({"user_id": {"in": ["ann", "told"]}, "not": {"memory_type": "own"}}), vec!["d"]),
    ];
    for (value, expected) in cases {
        let wanted = filter(value.clone());
        assert_eq!(passing(store, &scope, value.clone()).await, expected, "{value}");
        assert_eq!(store.count(&scope, &wanted).await.expect("count"), expected.len(), "{value}");
        let mut latest = store.latest(&scope, &wanted, Paging { offset: 0, limit: 9 }).await.expect("latest");
        latest.reverse();
        let names: Vec<&str> = latest.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(names, expected, "{value}");
    }
    let fields = ["memory_type".to_owned(), "user_id".to_owned()];
    let groups = store.count_by(&scope, &fields, &Filter::Everything).await.expect("counts");
    let mut values: Vec<Vec<Value>> = groups.into_iter().map(|group| group.values).collect();
    values.sort_by_key(|values| values[1].to_string());
    let expected = [
        vec![json!(["x", {"y": null}]), json!("ann")],
        vec![json!(7), json!("null")],
        vec![Value::Null, json!("quote\" back\\slash \u{1} 记")],
        vec![json!("own"), json!("told")],
        vec![Value::Null, Value::Null],
    ];
    assert_eq!(values, expected);
}

async fn an_exported_graph_can_be_imported(store: &dyn RecordStore) {
    let (from, to) = (scope("from"), scope("to"));
    let put =
        vec![node("a", json!({"memory_type": "UserMemory", "tags": ["x"], "own": {"deep": [1]}})), item("b", "B")];
    apply(store, &from, WriteBatch { put, put_edges: vec![edge("a", "PARENT", "b")], ..batch() }).await;
    let exported = store.export(&from, &Filter::Everything, Paging::ALL).await.expect("export").graph;
    let text = serde_json::to_string(&exported).expect("a graph has a JSON form");
    assert!(text.contains(r#""type":"PARENT""#), "edges have MemOS' names: {text}");
    apply(store, &to, WriteBatch::import(Origin::new("ann", "import"), exported.clone())).await;
    let again = store.export(&to, &Filter::Everything, Paging::ALL).await.expect("export").graph;
    assert_eq!(again, exported);
}

async fn what_lies_around_a_memory_is_found_nearest_first(store: &dyn RecordStore) {
    let scope = scope("c");
    let names = ["mid", "z1", "a1", "b2", "c3", "far", "gone"];
    let put_edges = vec![
        edge("mid", "R", "z1"),
        edge("a1", "R", "mid"),
        edge("z1", "R", "b2"),
        edge("b2", "R", "a1"),
        edge("b2", "PARENT", "c3"),
        edge("mid", "R", "gone"),
        edge("gone", "R", "far"),
        edge("mid", "SELF", "mid"),
    ];
    let put = names.iter().map(|id| node(id, json!({"status": if *id == "gone" { "archived" } else { "activated" }})));
    apply(store, &scope, WriteBatch { put: put.collect(), put_edges, ..batch() }).await;
    let activated = Filter::equals("status", "activated");
    let ask = async |center: &str, depth: usize, limit: usize| {
        store.subgraph(&scope, &center.into(), depth, limit, &activated).await.expect("subgraph")
    };
    let around = ask("mid", 2, 9).await.expect("the center is there");
    assert_eq!(around.center.id, "mid".into());
    let found: Vec<&str> = around.around.nodes.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(found, ["a1", "z1", "b2"], "not through what does not pass");
    let expected = [
        edge("a1", "R", "mid"),
        edge("b2", "R", "a1"),
        edge("mid", "SELF", "mid"),
        edge("mid", "R", "z1"),
        edge("z1", "R", "b2"),
    ];
    assert_eq!((around.around.edges.as_slice(), around.is_cut), (&expected[..], false));
    let cut = ask("mid", 9, 2).await.expect("the center is there");
    let found: Vec<&str> = cut.around.nodes.iter().map(|item| item.id.as_str()).collect();
    assert_eq!((found.as_slice(), cut.is_cut), (&["a1", "z1"][..], true));
    let alone = ask("mid", 0, 9).await.expect("the center is there");
    assert_eq!((alone.around.nodes.len(), alone.around.edges.len()), (0, 1));
    assert_eq!(ask("gone", 2, 9).await, None);
    assert_eq!(ask("nobody", 2, 9).await, None);
}

async fn the_shortest_way_is_found(store: &dyn RecordStore) {
    let scope = scope("c");
    let names = ["s", "x", "b", "a", "t", "island"];
    let put_edges = vec![
        edge("s", "R", "b"),
        edge("s", "R", "a"),
        edge("a", "R", "t"),
        edge("b", "R", "t"),
        edge("t", "R", "x"),
        edge("x", "R", "s"),
    ];
    let items: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
    apply(store, &scope, WriteBatch { put_edges, ..puts(&items) }).await;
    let ask = async |from: &str, to: &str, direction: Direction, most: usize| {
        let way = store.path(&scope, &from.into(), &to.into(), direction, most).await.expect("path");
        way.map(|way| way.iter().map(MemoryId::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(ask("s", "t", Direction::Outgoing, 9).await.as_deref(), Some("s a t"));
    assert_eq!(ask("t", "s", Direction::Outgoing, 9).await.as_deref(), Some("t x s"));
    assert_eq!(ask("t", "s", Direction::Incoming, 9).await.as_deref(), Some("t a s"));
    assert_eq!(ask("s", "x", Direction::Any, 9).await.as_deref(), Some("s x"));
    assert_eq!(ask("s", "x", Direction::Outgoing, 2).await, None, "three edges are needed");
    assert_eq!(ask("s", "s", Direction::Outgoing, 0).await.as_deref(), Some("s"));
    assert_eq!(ask("s", "island", Direction::Any, 9).await, None);
    assert_eq!(ask("s", "nobody", Direction::Any, 9).await, None);
}

async fn a_deletion_can_be_taken_back(store: &dyn RecordStore) {
    let (scope, mini) = (scope("c"), space("mini", 2));
    apply(store, &scope, embedded(&mini, &[("a", "one", &[1.0, 0.0]), ("b", "two", &[0.0, 1.0])])).await;
    let archived = node("c", json!({"status": "archived", "key": "kept"}));
    let put_edges = vec![edge("a", "R", "b")];
    apply(store, &scope, WriteBatch { put: vec![archived], put_edges, ..batch() }).await;
    let before = store.list(&scope, &Filter::Everything, Paging::ALL).await.expect("list").entries;
    let origin = || Origin::new("ann", "delete");
    let delete = async |filter: Filter, record: &str| {
        store.soft_delete(&scope, &filter, record, "2026-01-02T00:00:00+00:00", origin()).await.expect("soft delete")
    };
    assert_eq!(delete(Filter::equals("memory", "two"), "first").await, 1);
    assert_eq!(delete(Filter::Everything, "second").await, 2, "what is deleted is not deleted again");
    assert_eq!(store.count(&scope, &Filter::equals("status", "deleted")).await.expect("count"), 3);
    assert_eq!(passing(store, &scope, json!({"delete_record_id": "second"})).await, ["a", "c"]);
    assert_eq!(store.embeddings(&scope, &ids(&["a"])).await.expect("embeddings").len(), 1);
    assert_eq!(store.recover(&scope, "unknown", origin()).await.expect("recover"), 0);
    assert_eq!(store.recover(&scope, "second", origin()).await.expect("recover"), 2);
    assert_eq!(store.count(&scope, &Filter::equals("status", "deleted")).await.expect("count"), 1);
    assert_eq!(store.recover(&scope, "first", origin()).await.expect("recover"), 1);
    let after = store.list(&scope, &Filter::Everything, Paging::ALL).await.expect("list").entries;
    assert_eq!(after, before, "everything is as it was");
    assert_eq!(after[2].metadata.status, Some(Status::Archived));
    let reasons: Vec<String> = store
        .history(&scope, &"c".into())
        .await
        .expect("history")
        .into_iter()
        .map(|version| version.origin.reason)
        .collect();
    assert_eq!(reasons, ["test", "delete", "delete"]);
    assert_eq!(delete(Filter::Everything, "third").await, 3);
    let asked = ids(&["a", "c", "unknown"]);
    assert_eq!(store.reactivate(&scope, &asked, origin()).await.expect("reactivate"), 2);
    assert_eq!(
        store.reactivate(&scope, &asked, origin()).await.expect("reactivate"),
        0,
        "they are not deleted any more"
    );
    let active = Filter::equals("status", Status::Activated.as_str());
    assert_eq!(store.list(&scope, &active, Paging::ALL).await.expect("list").entries.len(), 2);
    assert_eq!(passing(store, &scope, json!({"delete_record_id": "third"})).await, ["b"], "the others stay deleted");
}

async fn a_status_that_comes_late_is_refused(store: &dyn RecordStore) {
    let scope = scope("c");
    apply(store, &scope, puts(&[("a", "one")])).await;
    // What was read is not what is there any more.
    let stale = store.nodes(&scope, &ids(&["a"])).await.expect("nodes");
    apply(store, &scope, puts(&[("a", "changed")])).await;
    let put = vec![node("a", json!({"status": "deleted"}))];
    let error = store.apply(&scope, WriteBatch { unchanged: stale, put, ..batch() }).await.expect_err("a late write");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    assert_eq!(store.count(&scope, &Filter::equals("status", "deleted")).await.expect("count"), 0);
}

async fn questions_see_their_own_scope_only(store: &dyn RecordStore) {
    let (ours, theirs) = (scope("1"), scope("11"));
    let tagged = |id: &str| node(id, json!({"tags": ["dog"], "created_at": "2026-01-01T00:00:00+00:00"}));
    let put = vec![tagged("x"), tagged("y"), tagged("z")];
    let put_edges = vec![edge("x", "R", "y"), edge("y", "R", "z")];
    apply(store, &theirs, WriteBatch { put, put_edges, ..batch() }).await;
    apply(store, &ours, WriteBatch { put: vec![tagged("x"), tagged("z")], ..batch() }).await;
    let (everything, tags) = (Filter::Everything, ["dog".to_owned()]);
    assert_eq!(store.sharing_tags(&ours, &tags, 1, &[], 9, &everything).await.expect("tags").len(), 2);
    assert_eq!(store.without_edges(&ours, "R", 9, &everything).await.expect("without edges").len(), 2);
    assert_eq!(store.count_by(&ours, &["tags".to_owned()], &everything).await.expect("counts")[0].count, 2);
    let page = store.export(&ours, &everything, Paging::ALL).await.expect("export");
    assert_eq!((page.n_nodes, page.n_edges), (2, 0));
    assert_eq!(store.edges(&ours, &ids(&["x", "y", "z"]), Direction::Any, None).await.expect("edges"), []);
    assert_eq!(store.path(&ours, &"x".into(), &"z".into(), Direction::Any, 9).await.expect("path"), None);
    let around = store.subgraph(&ours, &"x".into(), 3, 9, &everything).await.expect("subgraph").expect("the center");
    assert_eq!(around.around, Graph::default());
    assert_eq!(store.soft_delete(&ours, &everything, "r", "now", Origin::default()).await.expect("delete"), 2);
    assert_eq!(store.count(&theirs, &Filter::equals("status", "deleted")).await.expect("count"), 0);
    assert_eq!(store.recover(&theirs, "r", Origin::default()).await.expect("recover"), 0);
    // And what is gone is in no answer.
    apply(store, &theirs, deletes(&["y"])).await;
    assert_eq!(store.path(&theirs, &"x".into(), &"z".into(), Direction::Any, 9).await.expect("path"), None);
    assert_eq!(store.without_edges(&theirs, "R", 9, &everything).await.expect("without edges").len(), 2);
}
