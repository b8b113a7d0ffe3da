//! Few memories out of many: those that are kept apart, pages of large cubes, and the edges of chosen ones.

use std::collections::HashSet;
use std::sync::Arc;

use mos_core::{Edge, Filter, GraphStore, MemoryItem, Paging, RecordStore, Scope, WriteBatch};
use serde_json::{Value, json};

use super::graph::{filter, node};
use super::samples::{apply, batch, deletes, edge, item, scope};

/// More than stores read at a time.
const MANY: usize = 1300;

/// Runs these claims; `make` returns a fresh, empty store.
pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn RecordStore>) {
    what_is_kept_apart_is_found(&*make().await).await;
    odd_times_and_names_have_one_order(&*make().await).await;
    a_large_cube_is_told_in_pages(&*make().await).await;
}

async fn apart(store: &dyn GraphStore, scope: &Scope, limit: usize) -> Vec<String> {
    let found = store.kept_apart(scope, limit).await.expect("kept apart");
    found.into_iter().map(|item| item.id.to_string()).collect()
}

async fn what_is_kept_apart_is_found(store: &dyn RecordStore) {
    let (ours, other) = (scope("c"), scope("d"));
    let archived = |id: &str, more: Value| {
        let mut metadata = json!({"memory_type": "LongTermMemory", "status": "archived"});
        if let (Some(all), Some(more)) = (metadata.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        node(id, metadata)
    };
    let reason = json!({"quarantine": "gives the model orders"});
    let put = vec![
        archived("z", reason.clone()),
        archived("old", json!({})),
        archived("a", json!({"quarantine": "x".repeat(9000)})),
        node("released", json!({"memory_type": "LongTermMemory", "status": "activated", "quarantine": "once"})),
        archived("odd", json!({"quarantine": 7})),
        archived("told", json!({"info": {"quarantine": "only said"}})),
        archived(
            "copy",
            json!({"memory_type": "WorkingMemory", "working_binding": "z", "quarantine": "as its original"}),
        ),
        item("plain", "plain"),
        archived("m", reason.clone()),
    ];
    apply(store, &ours, WriteBatch { put, ..batch() }).await;
    assert_eq!(apart(store, &ours, 9).await, ["z", "a", "m"], "oldest first");
    assert_eq!(apart(store, &ours, 2).await, ["z", "a"]);
    assert_eq!(apart(store, &ours, 0).await, Vec::<String>::new());
    assert_eq!(apart(store, &other, 9).await, Vec::<String>::new());
    let mut freed = store.nodes(&ours, &["z".into()]).await.expect("nodes").remove(0);
    assert!(freed.release());
    apply(store, &ours, WriteBatch { put: vec![freed, archived("plain", reason)], ..batch() }).await;
    assert_eq!(apart(store, &ours, 9).await, ["a", "plain", "m"]);
    apply(store, &ours, deletes(&["a"])).await;
    assert_eq!(apart(store, &ours, 9).await, ["plain", "m"]);
    apply(store, &ours, WriteBatch { clear: true, ..batch() }).await;
    assert_eq!(apart(store, &ours, 9).await, Vec::<String>::new());
}

/// Texts are ordered by their bytes, whatever they are of, and whatever a server would make of them.
async fn odd_times_and_names_have_one_order(store: &dyn RecordStore) {
    let day = |number: usize| format!("2026-01-0{number}T00:00:00+00:00");
    let made = |id: &str, created_at: Option<String>, user: &str| {
        let mut metadata = json!({"memory_type": "LongTermMemory", "user_id": user});
        if let Some(text) = created_at {
            metadata["created_at"] = json!(text);
        }
        node(id, metadata)
    };
    let cubes = [
        vec![made("\u{fffd}", Some(day(1)), "ann"), made("😀", Some(day(1)), "ann"), made("é", Some(day(1)), "bob")],
        vec![made("a", Some("x".repeat(9000)), "ann"), made("b", Some(day(2)), "bob"), made("c", None, "ann")],
        vec![made("a", None, "ann"), made("b", Some(String::new()), "ann"), made("c", Some("soon".to_owned()), "bob")],
        vec![made("a", Some(day(1)), &"long".repeat(2500)), made("b", Some(day(2)), "ann"), made("c", None, "bob")],
        vec![made("a", Some("\u{fffd}".to_owned()), "ann"), made("b", Some("😀".to_owned()), "ann")],
    ];
    for (number, put) in cubes.into_iter().enumerate() {
        let scope = scope(&format!("odd {number}"));
        apply(store, &scope, WriteBatch { put, ..batch() }).await;
        let of_ann = json!({"not": {"user_id": "bob"}, "memory": {"like": "text"}});
        for wanted in [json!({}), json!({"user_id": "ann"}), of_ann] {
            assert_is_in_order(store, &scope, &filter(wanted)).await;
        }
    }
}

/// Pages of two at a time are the list of all that pass, in the order of their texts.
async fn assert_is_in_order(store: &dyn RecordStore, scope: &Scope, wanted: &Filter) {
    let key = |item: &MemoryItem| {
        let made_at = item.metadata.to_map().get("created_at").and_then(Value::as_str).map(str::to_owned);
        (made_at, item.id.clone())
    };
    let mut expected = store.list(scope, &Filter::Everything, Paging::ALL).await.expect("list").entries;
    expected.retain(|item| wanted.matches(&item.memory, &item.metadata.to_map()));
    assert_eq!(store.count(scope, wanted).await.expect("count"), expected.len());
    expected.sort_by_key(|item| std::cmp::Reverse(key(item)));
    let mut seen = Vec::new();
    for offset in (0..=expected.len()).step_by(2) {
        seen.extend(store.newest(scope, wanted, Paging { offset, limit: 2 }).await.expect("newest"));
    }
    assert_eq!(seen, expected, "{scope:?} {wanted:?}");
}

async fn a_large_cube_is_told_in_pages(store: &dyn RecordStore) {
    let scope = scope("large");
    let made = |n: usize| {
        let status = if n.is_multiple_of(10) { "archived" } else { "activated" };
        let created_at = format!("2026-01-{:02}T{:02}:00:00+00:00", 1 + n % 28, n % 24);
        node(
            &format!("m{n:04}"),
            json!({"memory_type": "LongTermMemory", "status": status, "key": format!("k{}", n % 4),
                "created_at": created_at}),
        )
    };
    let name = |n: usize| format!("m{n:04}");
    let put_edges: Vec<Edge> = (1..MANY).map(|n| edge(&name(n), "FOLLOWS", &name(n - 1))).collect();
    apply(store, &scope, WriteBatch { put: (0..MANY).map(made).collect(), put_edges, ..batch() }).await;
    // The first is told of by its status alone, the second needs a look at each memory.
    let filters = [filter(json!({"status": "activated"})), filter(json!({"key": {"in": ["k1", "k3"]}}))];
    for wanted in &filters {
        let all = store.list(&scope, wanted, Paging::ALL).await.expect("list");
        let of_all = (0..MANY).map(made).filter(|item| wanted.matches(&item.memory, &item.metadata.to_map()));
        assert_eq!(all.entries, of_all.collect::<Vec<_>>());
        assert_eq!((all.total, store.count(&scope, wanted).await.expect("count")), (all.entries.len(), all.total));
        let tail = Paging { offset: all.total - 3, limit: 9 };
        let page = store.list(&scope, wanted, tail).await.expect("list");
        assert_eq!((page.entries.as_slice(), page.total), (&all.entries[all.total - 3..], all.total));
        let mut latest = store.latest(&scope, wanted, tail).await.expect("latest");
        latest.reverse();
        assert_eq!(latest, all.entries[..3]);
        let newest = store.newest(&scope, wanted, Paging::ALL).await.expect("newest");
        assert_eq!(newest.len(), all.total);
        assert_eq!(store.newest(&scope, wanted, tail).await.expect("newest"), newest[all.total - 3..]);
        let exported = store.export(&scope, wanted, Paging { offset: 1, limit: 4 }).await.expect("export");
        assert_eq!(exported.graph.nodes, newest[1..5]);
        let chosen: HashSet<&str> = all.entries.iter().map(|item| item.id.as_str()).collect();
        let is_chosen = |n: usize| chosen.contains(name(n).as_str());
        let among = (1..MANY).filter(|&n| is_chosen(n) && is_chosen(n - 1)).count();
        assert_eq!((exported.n_nodes, exported.n_edges), (all.total, among));
    }
    let whole = store.export(&scope, &Filter::Everything, Paging::ALL).await.expect("export");
    assert_eq!((whole.graph.nodes.len(), whole.graph.edges.len()), (MANY, MANY - 1));
    let few = filter(json!({"memory": {"in": ["text of m0700", "text of m0701", "text of m0900"]}}));
    let chosen = store.export(&scope, &few, Paging::ALL).await.expect("export");
    assert_eq!((chosen.n_nodes, chosen.graph.edges), (3, vec![edge("m0701", "FOLLOWS", "m0700")]));
}
