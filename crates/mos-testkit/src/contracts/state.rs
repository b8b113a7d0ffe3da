//! What every [`StateStore`] must do.

use std::sync::Arc;

use mos_core::state::{MAX_STATE_BYTES, MAX_STATE_KEY_BYTES};
use mos_core::users::ROOT_USER;
use mos_core::{
    Cube, CubeId, Document, Expected, Filter, LogEntry, RecordStore, Scope, ScopeLifecycle, StateStore, StoreError,
    UserId, UserStore, WriteBatch,
};
use serde_json::{Value, json};

use super::samples::{apply, batch, puts, scope};

/// Runs the suite; `make` returns a fresh, empty store.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> Arc<dyn StateStore>) {
    a_document_is_written_read_and_removed(&*make().await).await;
    versions_count_the_writes(&*make().await).await;
    a_write_meets_what_it_expects_or_does_nothing(&*make().await).await;
    what_is_written_comes_back_as_it_was(&*make().await).await;
    what_is_too_large_or_has_a_bad_name_is_refused(&*make().await).await;
    keys_are_listed_by_prefix_in_pages(&*make().await).await;
    a_log_keeps_its_newest_entries(&*make().await).await;
    numbers_of_entries_go_on(&*make().await).await;
    entries_are_read_in_pages(&*make().await).await;
    logs_and_documents_of_one_name_are_two_things(&*make().await).await;
    tenants_are_walls(&*make().await).await;
    a_removed_scope_begins_anew(&*make().await).await;
    logs_move_with_their_numbers(&*make().await, &*make().await).await;
    nobody_loses_a_counted_write(make().await).await;
    nobody_loses_an_entry(make().await).await;
}

/// Runs what a store must do that keeps the cubes too; `make` returns a fresh, empty one.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run_with_cubes<S>(make: impl AsyncFn() -> Arc<S>)
where
    S: StateStore + RecordStore + UserStore + ScopeLifecycle + 'static,
{
    let store = make().await;
    a_deleted_cube_holds_and_takes_nothing(&*store, &*store).await;
    let store = make().await;
    a_discarded_cube_takes_its_state_along(&*store, &*store).await;
    let store = make().await;
    a_closed_scope_holds_and_takes_nothing(&*store, &*store).await;
    let store = make().await;
    memories_that_are_cleared_leave_it_alone(&*store, &*store).await;
}

/// Runs what must outlive the store; `open` opens the same data each time.
///
/// # Panics
/// When a claim does not hold.
pub async fn survives_reopening(open: impl AsyncFn() -> Arc<dyn StateStore>) {
    let (c, store) = (scope("c"), open().await);
    write(&*store, &c, "kept", json!({"n": 1})).await;
    write(&*store, &c, "kept", json!({"n": 2})).await;
    write(&*store, &c, "removed", json!(1)).await;
    assert!(store.remove(&c, "removed").await.expect("remove"));
    append(&*store, &c, "log", &[json!("a"), json!("b"), json!("c")], 2).await;
    append(&*store, &c, "emptied", &[json!("a")], 0).await;
    drop(store);
    let store = open().await;
    assert_eq!(read(&*store, &c, "kept").await, document(json!({"n": 2}), 2));
    assert_eq!(read(&*store, &c, "removed").await, None);
    assert_eq!(entries(&*store, &c, "log").await, numbered(2, &["b", "c"]));
    assert_eq!(write(&*store, &c, "removed", json!(2)).await, 2, "versions count on");
    assert_eq!(append(&*store, &c, "log", &[json!("d")], 2).await, 4, "and so do the numbers of entries");
    assert_eq!(append(&*store, &c, "emptied", &[json!("b")], 2).await, 2);
}

pub(super) fn document(value: Value, version: u64) -> Option<Document> {
    Some(Document { value, version })
}

pub(super) fn numbered(first: u64, texts: &[&str]) -> Vec<LogEntry> {
    (first..).zip(texts).map(|(sequence, text)| LogEntry { sequence, value: json!(text) }).collect()
}

pub(super) async fn read(store: &dyn StateStore, scope: &Scope, key: &str) -> Option<Document> {
    store.read(scope, key).await.expect("read")
}

async fn write(store: &dyn StateStore, scope: &Scope, key: &str, value: Value) -> u64 {
    store.write(scope, key, &value, Expected::Anything).await.expect("the store takes a good document")
}

pub(super) async fn keys(store: &dyn StateStore, scope: &Scope, prefix: &str) -> Vec<String> {
    store.keys(scope, prefix, None, 1000).await.expect("keys")
}

async fn append(store: &dyn StateStore, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> u64 {
    store.append(scope, log, entries, keep).await.expect("the store takes good entries")
}

pub(super) async fn entries(store: &dyn StateStore, scope: &Scope, log: &str) -> Vec<LogEntry> {
    store.entries(scope, log, 0, 1000).await.expect("entries")
}

fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.expect_err("what is expected is not so");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
}

fn assert_invalid<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.expect_err("a bad request");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
}

fn assert_no_cube<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.expect_err("the cube was deleted");
    assert!(matches!(error, StoreError::NotFound { what: "cube", .. }), "{error}");
}

async fn logs_move_with_their_numbers(from: &dyn StateStore, to: &dyn StateStore) {
    let (c, texts) = (scope("c"), ["a", "b", "c"].map(|text| json!(text)));
    append(from, &c, "log: 记 %", &texts, 2).await;
    append(from, &c, "emptied", &texts, 0).await;
    append(from, &c, "a", &texts, 5).await;
    append(from, &scope("d"), "of another", &texts, 5).await;
    let archive = from.state_archive().expect("logs can move");
    let all = archive.logs(&c, None, 10).await.expect("logs");
    assert_eq!(all.iter().map(|log| log.name.as_str()).collect::<Vec<_>>(), ["a", "emptied", "log: 记 %"]);
    assert!(all.iter().all(|log| log.last == 3), "{all:?}");
    assert_eq!(archive.logs(&c, None, 2).await.expect("logs"), all[..2]);
    assert_eq!(archive.logs(&c, Some("emptied"), 10).await.expect("logs"), all[2..]);
    assert_eq!(archive.logs(&scope("e"), None, 10).await.expect("logs"), Vec::new());
    let target = to.state_archive().expect("logs can move");
    append(to, &c, "log: 记 %", &texts, 3).await;
    target.begin_log(&c, "log: 记 %", 1).await.expect("the store takes a log");
    assert_eq!(entries(to, &c, "log: 记 %").await, Vec::new(), "what was there is gone");
    assert_eq!(append(to, &c, "log: 记 %", &texts[1..], usize::MAX).await, 3);
    assert_eq!(entries(to, &c, "log: 记 %").await, numbered(2, &["b", "c"]));
    target.begin_log(&c, "emptied", 3).await.expect("the store takes a log");
    assert_eq!(append(to, &c, "emptied", &texts[..1], 5).await, 4, "numbers go on");
    assert_invalid(target.begin_log(&c, "", 1).await);
}

async fn a_document_is_written_read_and_removed(store: &dyn StateStore) {
    let c = scope("c");
    assert_eq!(read(store, &c, "a").await, None);
    assert!(!store.remove(&c, "a").await.expect("remove"), "there was none");
    assert_eq!(write(store, &c, "a", json!({"n": 1})).await, 1);
    assert_eq!(read(store, &c, "a").await, document(json!({"n": 1}), 1));
    assert_eq!(write(store, &c, "a", json!([2])).await, 2);
    assert_eq!(read(store, &c, "a").await, document(json!([2]), 2), "the whole document is written anew");
    assert_eq!(read(store, &c, "A").await, None, "keys are told apart by every letter");
    assert!(store.remove(&c, "a").await.expect("remove"));
    assert_eq!(read(store, &c, "a").await, None);
    assert!(!store.remove(&c, "a").await.expect("remove"), "it is gone already");
    assert_eq!(write(store, &c, "null", Value::Null).await, 1);
    assert_eq!(read(store, &c, "null").await, document(Value::Null, 1), "a document that says nothing is one");
}

async fn versions_count_the_writes(store: &dyn StateStore) {
    let c = scope("c");
    for version in 1..=3 {
        assert_eq!(write(store, &c, "a", json!("same")).await, version, "also of what does not change");
    }
    assert_eq!(write(store, &c, "b", json!(1)).await, 1, "each key for itself");
    assert!(store.remove(&c, "a").await.expect("remove"));
    assert_eq!(write(store, &c, "a", json!("again")).await, 4, "a removed one counts on");
    assert_eq!(read(store, &c, "a").await, document(json!("again"), 4));
}

async fn a_write_meets_what_it_expects_or_does_nothing(store: &dyn StateStore) {
    let c = scope("c");
    let put = async |key: &str, n: u64, expected: Expected| store.write(&c, key, &json!(n), expected).await;
    assert_conflict(put("a", 1, Expected::Version(1)).await);
    assert_conflict(put("a", 1, Expected::Version(0)).await);
    assert_eq!(read(store, &c, "a").await, None, "a refused write does nothing");
    assert_eq!(put("a", 1, Expected::Absent).await.expect("it is absent"), 1);
    assert_conflict(put("a", 2, Expected::Absent).await);
    assert_conflict(put("a", 2, Expected::Version(2)).await);
    assert_conflict(put("a", 2, Expected::Version(0)).await);
    assert_conflict(put("a", 2, Expected::Version(u64::MAX)).await);
    assert_eq!(read(store, &c, "a").await, document(json!(1), 1));
    assert_eq!(put("a", 2, Expected::Version(1)).await.expect("that is its version"), 2);
    assert_conflict(put("a", 3, Expected::Version(1)).await);
    assert!(store.remove(&c, "a").await.expect("remove"));
    assert_conflict(put("a", 3, Expected::Version(2)).await);
    assert_eq!(put("a", 3, Expected::Absent).await.expect("it was removed"), 3);
    assert_conflict(put("a", 4, Expected::Version(1)).await);
    assert_conflict(put("a", 4, Expected::Version(2)).await);
    assert_eq!(read(store, &c, "a").await, document(json!(3), 3), "who knows an earlier life of it is refused");
}

async fn what_is_written_comes_back_as_it_was(store: &dyn StateStore) {
    let c = scope("c");
    let strange = [
        ("a/../b c", json!({"z": 1, "a": [null, 1.5, "\u{0}\n"]})),
        ("x' OR '1'='1", json!(0.1 + 0.2)),
        ("记忆:🦀 {x}", json!("記".repeat(300_000))),
        ("\u{0}\n", json!([i64::MAX, i64::MIN, u64::MAX, 1e300, ""])),
        (" ", json!({})),
    ];
    for (name, value) in &strange {
        write(store, &c, name, value.clone()).await;
        append(store, &c, name, std::slice::from_ref(value), 10).await;
    }
    for (name, value) in strange {
        assert_eq!(read(store, &c, name).await, document(value.clone(), 1), "{name:?}");
        assert_eq!(entries(store, &c, name).await, [LogEntry { sequence: 1, value }], "{name:?}");
        assert_eq!(keys(store, &c, name).await, [name]);
        assert!(store.remove(&c, name).await.expect("remove"), "{name:?}");
    }
    assert_eq!(keys(store, &c, "").await, Vec::<String>::new());
}

async fn what_is_too_large_or_has_a_bad_name_is_refused(store: &dyn StateStore) {
    let c = scope("c");
    let (longest, too_long) = ("k".repeat(MAX_STATE_KEY_BYTES), "k".repeat(MAX_STATE_KEY_BYTES + 1));
    // Two of the bytes are quotation marks.
    let (largest, too_large) = (json!("x".repeat(MAX_STATE_BYTES - 2)), json!("x".repeat(MAX_STATE_BYTES - 1)));
    for (key, value) in [("", &largest), (too_long.as_str(), &largest), ("a", &too_large)] {
        assert_invalid(store.write(&c, key, value, Expected::Anything).await);
        assert_invalid(store.append(&c, key, &[json!(1), value.clone()], 10).await);
    }
    assert_eq!(read(store, &c, "a").await, None);
    assert_eq!(entries(store, &c, "a").await, [], "one that is too large keeps the others out");
    assert_eq!(append(store, &c, "a", &[], 10).await, 0);
    assert_eq!(write(store, &c, &longest, largest.clone()).await, 1);
    assert_eq!(read(store, &c, &longest).await, document(largest.clone(), 1));
    assert_eq!(append(store, &c, &longest, std::slice::from_ref(&largest), 10).await, 1);
    assert_eq!(entries(store, &c, &longest).await, [LogEntry { sequence: 1, value: largest }]);
    assert_eq!(read(store, &c, &too_long).await, None, "what cannot be written is not there");
}

async fn keys_are_listed_by_prefix_in_pages(store: &dyn StateStore) {
    let c = scope("c");
    assert_eq!(keys(store, &c, "").await, Vec::<String>::new());
    let names =
        ["item/2", "item/10", "item_1", "item%", "item*", "item[a]", "ITEM/1", "item", "i", "task/1", "記憶/1", "記"];
    for name in names {
        write(store, &c, name, json!(1)).await;
    }
    write(store, &c, "item/gone", json!(1)).await;
    assert!(store.remove(&c, "item/gone").await.expect("remove"));
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(keys(store, &c, "").await, sorted, "in the order of their bytes");
    assert_eq!(keys(store, &c, "item/").await, ["item/10", "item/2"], "removed ones are not listed");
    for (prefix, found) in [("item%", "item%"), ("item_", "item_1"), ("item*", "item*"), ("item[a]", "item[a]")] {
        assert_eq!(keys(store, &c, prefix).await, [found], "nothing in a prefix stands for something else");
    }
    assert_eq!(keys(store, &c, "記").await, ["記", "記憶/1"]);
    assert_eq!(keys(store, &c, "item/1").await, ["item/10"]);
    assert_eq!(keys(store, &c, "nothing").await, Vec::<String>::new());
    let page = async |prefix: &str, after: Option<&str>, limit: usize| {
        store.keys(&c, prefix, after, limit).await.expect("keys")
    };
    let mut paged: Vec<String> = Vec::new();
    loop {
        let found = page("item", paged.last().map(String::as_str), 2).await;
        assert!(found.len() <= 2, "{found:?}");
        if found.is_empty() {
            break;
        }
        paged.extend(found);
    }
    let expected: Vec<&str> = sorted.into_iter().filter(|name| name.starts_with("item")).collect();
    assert_eq!(paged, expected, "pages hold every key once");
    assert_eq!(page("item", Some("item/10"), 1).await, ["item/2"]);
    assert_eq!(page("item/", Some("item/11"), 10).await, ["item/2"], "after a key that is not there");
    assert_eq!(page("item/", Some("a"), 1).await, ["item/10"], "after one that comes before all of them");
    assert_eq!(page("item/", Some("task"), 10).await, Vec::<String>::new());
    assert_eq!(page("", None, 0).await, Vec::<String>::new());
    assert_eq!(page("", None, usize::MAX).await.len(), names.len());
}

async fn a_log_keeps_its_newest_entries(store: &dyn StateStore) {
    let c = scope("c");
    assert_eq!(entries(store, &c, "log").await, []);
    assert_eq!(append(store, &c, "log", &[json!("a"), json!("b")], 3).await, 2);
    assert_eq!(entries(store, &c, "log").await, numbered(1, &["a", "b"]));
    assert_eq!(append(store, &c, "log", &[json!("c"), json!("d")], 3).await, 4);
    assert_eq!(entries(store, &c, "log").await, numbered(2, &["b", "c", "d"]));
    let many: Vec<Value> = ["e", "f", "g", "h", "i"].map(Value::from).to_vec();
    assert_eq!(append(store, &c, "log", &many, 3).await, 9);
    assert_eq!(entries(store, &c, "log").await, numbered(7, &["g", "h", "i"]), "of those that are added too");
    assert_eq!(append(store, &c, "log", &[json!("j")], 2).await, 10);
    assert_eq!(entries(store, &c, "log").await, numbered(9, &["i", "j"]), "by what is asked for last");
    assert_eq!(append(store, &c, "log", &[json!("k")], usize::MAX).await, 11);
    assert_eq!(entries(store, &c, "log").await, numbered(9, &["i", "j", "k"]));
}

async fn numbers_of_entries_go_on(store: &dyn StateStore) {
    let c = scope("c");
    assert_eq!(append(store, &c, "log", &[], 5).await, 0, "there never was one");
    assert_eq!(append(store, &c, "log", &[json!("a"), json!("b")], 5).await, 2);
    assert_eq!(append(store, &c, "log", &[], 5).await, 2);
    assert_eq!(append(store, &c, "log", &[json!("c")], 0).await, 3);
    assert_eq!(entries(store, &c, "log").await, [], "nothing is kept");
    assert_eq!(append(store, &c, "log", &[], 5).await, 3, "though there were some");
    assert_eq!(append(store, &c, "log", &[json!("d")], 5).await, 4);
    assert_eq!(entries(store, &c, "log").await, numbered(4, &["d"]));
    assert_eq!(append(store, &c, "another", &[json!("a")], 5).await, 1, "each log for itself");
}

async fn entries_are_read_in_pages(store: &dyn StateStore) {
    let c = scope("c");
    append(store, &c, "log", &["a", "b", "c", "d", "e", "f"].map(Value::from), 4).await;
    let page = async |after: u64, limit: usize| store.entries(&c, "log", after, limit).await.expect("entries");
    assert_eq!(page(0, 2).await, numbered(3, &["c", "d"]), "those before are gone");
    assert_eq!(page(2, 2).await, numbered(3, &["c", "d"]));
    assert_eq!(page(4, 2).await, numbered(5, &["e", "f"]));
    assert_eq!(page(5, usize::MAX).await, numbered(6, &["f"]));
    assert_eq!(page(6, 2).await, []);
    assert_eq!(page(u64::MAX, 2).await, []);
    assert_eq!(page(0, 0).await, []);
    assert_eq!(page(3, 0).await, []);
}

async fn logs_and_documents_of_one_name_are_two_things(store: &dyn StateStore) {
    let c = scope("c");
    write(store, &c, "a", json!("document")).await;
    append(store, &c, "a", &[json!("entry")], 5).await;
    append(store, &c, "only a log", &[json!("entry")], 5).await;
    assert_eq!(keys(store, &c, "").await, ["a"]);
    assert!(store.remove(&c, "a").await.expect("remove"));
    assert!(!store.remove(&c, "only a log").await.expect("remove"));
    assert_eq!(entries(store, &c, "a").await, numbered(1, &["entry"]));
    assert_eq!(read(store, &c, "a").await, None);
}

async fn tenants_are_walls(store: &dyn StateStore) {
    let names = ["c", "c:a", "c a", "c%3Aa", "{c}", "记", "*"];
    for (n, name) in names.into_iter().enumerate() {
        assert_eq!(write(store, &scope(name), "a", json!(n)).await, 1);
        assert_eq!(write(store, &scope(name), &format!("key of {name}"), json!(n)).await, 1);
        assert_eq!(append(store, &scope(name), "log", &[json!(n)], 5).await, 1);
    }
    assert!(store.remove(&scope("c"), "a").await.expect("remove"));
    store.remove_scope(&scope("*")).await.expect("remove");
    for (n, name) in names.into_iter().enumerate().skip(1).take(5) {
        let c = scope(name);
        assert_eq!(read(store, &c, "a").await, document(json!(n), 1));
        assert_eq!(keys(store, &c, "").await, ["a".to_owned(), format!("key of {name}")]);
        assert_eq!(entries(store, &c, "log").await, [LogEntry { sequence: 1, value: json!(n) }]);
    }
    assert_eq!(keys(store, &scope("c"), "").await, ["key of c"]);
    assert_eq!(keys(store, &scope("*"), "").await, Vec::<String>::new());
}

async fn a_removed_scope_begins_anew(store: &dyn StateStore) {
    let (c, d) = (scope("c"), scope("d"));
    for scope in [&c, &d] {
        write(store, scope, "a", json!(1)).await;
        write(store, scope, "removed", json!(1)).await;
        assert!(store.remove(scope, "removed").await.expect("remove"));
        append(store, scope, "log", &[json!("a"), json!("b")], 5).await;
        append(store, scope, "log: two", &[json!("a")], 0).await;
    }
    for _ in 0..2 {
        store.remove_scope(&c).await.expect("removing a second time is no error");
        assert_eq!(read(store, &c, "a").await, None);
        assert_eq!(keys(store, &c, "").await, Vec::<String>::new());
        assert_eq!(entries(store, &c, "log").await, []);
    }
    store.remove_scope(&scope("never seen")).await.expect("remove");
    assert_eq!(write(store, &c, "a", json!(1)).await, 1, "versions begin anew");
    assert_eq!(write(store, &c, "removed", json!(1)).await, 1);
    assert_eq!(append(store, &c, "log", &[], 5).await, 0, "and so do the numbers of entries");
    assert_eq!(append(store, &c, "log: two", &[json!("b")], 5).await, 1);
    assert_eq!(keys(store, &d, "").await, ["a"], "the other scope has what is its own");
    assert_eq!(append(store, &d, "log", &[json!("c")], 5).await, 3);
    assert_eq!(entries(store, &d, "log").await, numbered(1, &["a", "b", "c"]));
}

const N_WRITERS: u64 = 8;
const N_WRITES: u64 = 25;

/// Reads a count, adds one, and writes it unless somebody else was faster; until it is done.
async fn add_one(store: &dyn StateStore, scope: &Scope) {
    loop {
        let read = read(store, scope, "count").await;
        let (count, expected) = match read {
            Some(document) => (document.value.as_u64().expect("a count"), Expected::Version(document.version)),
            None => (0, Expected::Absent),
        };
        match store.write(scope, "count", &json!(count + 1), expected).await {
            Ok(_) => return,
            Err(StoreError::Conflict(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn nobody_loses_a_counted_write(store: Arc<dyn StateStore>) {
    let writers = (0..N_WRITERS).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..N_WRITES {
                add_one(&*store, &scope("c")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let n_all = N_WRITERS * N_WRITES;
    assert_eq!(read(&*store, &scope("c"), "count").await, document(json!(n_all), n_all));
}

async fn nobody_loses_an_entry(store: Arc<dyn StateStore>) {
    let writers = (0..N_WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut numbers = Vec::new();
            for n in 0..N_WRITES {
                let pair = [json!([writer, n, "first"]), json!([writer, n, "second"])];
                numbers.push(append(&*store, &scope("c"), "log", &pair, 1000).await);
            }
            assert!(numbers.is_sorted(), "{numbers:?}");
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let found = entries(&*store, &scope("c"), "log").await;
    assert_eq!(found.len() as u64, 2 * N_WRITERS * N_WRITES);
    assert!((1..).zip(&found).all(|(number, entry)| entry.sequence == number), "there are no gaps");
    for pair in found.chunks(2) {
        let (first, second) = (&pair[0].value, &pair[1].value);
        assert_eq!((&first[0], &first[1]), (&second[0], &second[1]), "what is added together lies together");
    }
}

async fn make_cube(users: &dyn UserStore, name: &str, is_registered: bool) {
    let cube = Cube {
        cube_id: CubeId::new(name),
        cube_name: name.to_owned(),
        cube_path: None,
        owner_id: UserId::new(ROOT_USER),
        created_at: "2026".to_owned(),
        is_registered,
        config: Value::Null,
    };
    users.create_cube(&cube).await.expect("a new cube");
}

pub(super) async fn fill(store: &dyn StateStore, scope: &Scope) {
    write(store, scope, "a", json!(1)).await;
    append(store, scope, "log", &[json!("a"), json!("b")], 5).await;
}

async fn assert_holds_nothing(store: &dyn StateStore, scope: &Scope) {
    assert_eq!(read(store, scope, "a").await, None);
    assert_eq!(keys(store, scope, "").await, Vec::<String>::new());
    assert_eq!(entries(store, scope, "log").await, []);
}

pub(super) async fn assert_takes_nothing(store: &dyn StateStore, scope: &Scope) {
    assert_no_cube(store.write(scope, "a", &json!(1), Expected::Anything).await);
    assert_no_cube(store.write(scope, "a", &json!(1), Expected::Absent).await);
    assert_no_cube(store.append(scope, "log", &[json!("late")], 5).await);
    let archive = store.state_archive().expect("logs can move");
    assert_no_cube(archive.begin_log(scope, "moved", 5).await);
    assert_eq!(archive.logs(scope, None, 10).await.expect("logs"), []);
    assert!(!store.remove(scope, "a").await.expect("there is nothing to remove"));
    store.remove_scope(scope).await.expect("removing nothing is no error");
    assert_holds_nothing(store, scope).await;
}

async fn a_deleted_cube_holds_and_takes_nothing(store: &dyn StateStore, users: &dyn UserStore) {
    let (c, d) = (scope("c"), scope("d"));
    for scope in [&c, &d] {
        make_cube(users, scope.cube.as_str(), true).await;
        fill(store, scope).await;
    }
    users.delete_cube(&c.cube).await.expect("delete");
    assert_holds_nothing(store, &c).await;
    assert_takes_nothing(store, &c).await;
    assert_eq!(read(store, &d, "a").await, document(json!(1), 1), "the other cube has what is its own");
    assert_eq!(entries(store, &d, "log").await, numbered(1, &["a", "b"]));
    make_cube(users, "c", true).await;
    assert_holds_nothing(store, &c).await;
    assert_eq!(write(store, &c, "a", json!(2)).await, 1, "a cube of the same name is another one");
    assert_eq!(append(store, &c, "log", &[json!("a")], 5).await, 1);
    // What stands under an id without a cube is not for the owner of one that is made.
    fill(store, &scope("e")).await;
    make_cube(users, "e", true).await;
    assert_holds_nothing(store, &scope("e")).await;
}

async fn a_discarded_cube_takes_its_state_along(store: &dyn StateStore, users: &dyn UserStore) {
    let c = scope("c");
    make_cube(users, "c", false).await;
    fill(store, &c).await;
    assert!(users.discard_cube(&c.cube).await.expect("discard"), "documents alone keep no cube");
    assert_holds_nothing(store, &c).await;
    assert_takes_nothing(store, &c).await;
}

pub(super) async fn a_closed_scope_holds_and_takes_nothing(store: &dyn StateStore, scopes: &dyn ScopeLifecycle) {
    let (c, d) = (scope("c"), scope("d"));
    fill(store, &c).await;
    scopes.open_scope(&c, 1).await.expect("open");
    assert_holds_nothing(store, &c).await;
    fill(store, &c).await;
    fill(store, &d).await;
    scopes.close_scope(&c, 1).await.expect("close");
    assert_holds_nothing(store, &c).await;
    assert_takes_nothing(store, &c).await;
    scopes.open_scope(&c, 2).await.expect("open");
    assert_eq!(write(store, &c, "a", json!(1)).await, 1);
    assert!(scopes.close_empty_scope(&c, 2).await.expect("close"), "documents alone keep no cube");
    assert_takes_nothing(store, &c).await;
    assert_eq!(read(store, &d, "a").await, document(json!(1), 1));
}

async fn memories_that_are_cleared_leave_it_alone(store: &dyn StateStore, record: &dyn RecordStore) {
    let c = scope("c");
    apply(record, &c, puts(&[("m", "text")])).await;
    fill(store, &c).await;
    apply(record, &c, WriteBatch { clear: true, ..batch() }).await;
    assert_eq!(record.count(&c, &Filter::Everything).await.expect("count"), 0);
    assert_eq!(read(store, &c, "a").await, document(json!(1), 1));
    assert_eq!(entries(store, &c, "log").await, numbered(1, &["a", "b"]));
}
