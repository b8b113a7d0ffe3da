//! What every [`RecordArchive`] and [`UserArchive`] must do.

use std::sync::Arc;

use mos_core::{
    Access, ArchiveBatch, Cube, CubeId, Direction, Filter, MemoryId, Origin, Paging, PastVersion, RecordArchive,
    RecordStore, Scope, StoreError, User, UserArchive, UserId, UserRole, UserStore, WriteBatch,
};
use serde_json::json;

use super::samples::{apply, batch, deletes, edge, embedded, ids, item, puts, scope, space, vectors};

/// How much is asked for at once: less than there is of anything.
const PAGE: usize = 2;
/// Names with what names can have.
const STRANGE: [&str; 3] = ["it's \"a\" `b`", "../记忆/🎈", "z}) RETURN 1 //"];

/// Runs the suite; `make` returns a fresh, empty record.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> Arc<dyn RecordStore>) {
    a_scope_is_the_same_elsewhere(&*make().await, &*make().await).await;
    what_moved_goes_on(&*make().await, &*make().await).await;
    what_changed_meanwhile_is_caught_up_with(&*make().await, &*make().await).await;
    what_cannot_be_imported_is_refused(&*make().await).await;
}

fn of(store: &dyn RecordStore) -> &dyn RecordArchive {
    RecordStore::archive(store).expect("the store's scopes can move")
}

/// A scope with everything that a scope can have.
async fn fill(store: &dyn RecordStore, scope: &Scope) {
    let mini = space("mini", 2);
    let [quoted, chinese, cypher] = STRANGE;
    let memories: [(&str, &str, &[f32]); 4] = [
        ("a", "red dog", &[1.0, 0.0]),
        (quoted, "it's", &[0.6, 0.8]),
        (chinese, "记忆 🎈", &[0.0, 1.0]),
        ("d", "x", &[1.0, 1.0]),
    ];
    let edges = vec![edge("a", "PARENT", quoted), edge(chinese, "关系's", "a"), edge("a", "PARENT", "a")];
    let write = WriteBatch { put_edges: edges, ..embedded(&mini, &memories) };
    apply(store, scope, WriteBatch { idempotency_key: Some("first".to_owned()), ..write }).await;
    let mut changed = item("a", "red dogs");
    changed.metadata.tags = Some(vec!["dog".to_owned()]);
    changed.metadata.extra.insert("it's".to_owned(), json!({"deep": [1, 2.5, null, "🎈"]}));
    let origin = Origin { message_id: Some("m1".to_owned()), ..Origin::new("bob", "update") };
    let write = WriteBatch { put: vec![changed], ..WriteBatch::new(origin) };
    apply(store, scope, WriteBatch { idempotency_key: Some("second".to_owned()), ..write }).await;
    apply(store, scope, puts(&[("gone", "one"), (cypher, "text"), ("late", "no vector")])).await;
    apply(store, scope, puts(&[("gone", "two")])).await;
    apply(store, scope, deletes(&["gone", "d"])).await;
    apply(store, scope, puts(&[("d", "back again")])).await;
    let filter = Filter::equals("memory", "no vector");
    store.soft_delete(scope, &filter, "r1", "2026-01-02", Origin::new("ann", "bin")).await.expect("soft deletion");
    // Another scope, which must not come along.
    apply(store, &self::scope("other"), puts(&[("a", "not ours")])).await;
}

async fn past(archive: &dyn RecordArchive, scope: &Scope) -> Vec<PastVersion> {
    let mut all: Vec<PastVersion> = Vec::new();
    loop {
        let after = all.last().map(|last| (last.id.clone(), last.version.number));
        let after = after.as_ref().map(|(id, number)| (id, *number));
        let page = archive.archived_versions(scope, after, PAGE).await.expect("versions");
        assert!(page.len() <= PAGE);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Copies a scope in small pages.
async fn copy(from: &dyn RecordStore, to: &dyn RecordStore, scope: &Scope) {
    let (source, target) = (of(from), of(to));
    let space = from.embedding_space(scope).await.expect("space");
    let mut after = None;
    loop {
        let memories = source.archived_memories(scope, after, PAGE).await.expect("memories");
        assert!(memories.len() <= PAGE && memories.windows(2).all(|pair| pair[0].order < pair[1].order));
        let Some(last) = memories.last() else { break };
        after = Some(last.order);
        let ids: Vec<MemoryId> = memories.iter().map(|memory| memory.id.clone()).collect();
        let vectors = from.embeddings(scope, &ids).await.expect("embeddings");
        let batch = ArchiveBatch { space: space.clone(), memories, vectors, ..ArchiveBatch::default() };
        // Whoever was interrupted does it again.
        for _ in 0..2 {
            target.import(scope, batch.clone()).await.expect("import");
        }
    }
    for page in past(source, scope).await.chunks(PAGE) {
        let batch = ArchiveBatch { versions: page.to_vec(), ..ArchiveBatch::default() };
        for _ in 0..2 {
            target.import(scope, batch.clone()).await.expect("import");
        }
    }
    let mut after = None;
    loop {
        let receipts = source.archived_receipts(scope, after, 1).await.expect("receipts");
        let Some(last) = receipts.last() else { break };
        after = Some(last.order);
        let batch = ArchiveBatch { receipts, ..ArchiveBatch::default() };
        for _ in 0..2 {
            target.import(scope, batch.clone()).await.expect("import");
        }
    }
    let put_edges = from.all_edges(scope).await.expect("edges");
    apply(to, scope, WriteBatch { put_edges, ..batch() }).await;
}

/// Everything that is the same wherever a scope is.
async fn seen(store: &dyn RecordStore, scope: &Scope) -> Vec<String> {
    let everything = Filter::Everything;
    let listed = store.list(scope, &everything, Paging::ALL).await.expect("list");
    let names = ["a", "d", "gone", "late", STRANGE[0], STRANGE[1], STRANGE[2]];
    let all = ids(&names);
    let mut seen = vec![
        format!("{listed:?}"),
        format!("{:?}", store.all_edges(scope).await.expect("edges")),
        format!("{:?}", store.embedding_space(scope).await.expect("space")),
        format!("{:?}", store.embeddings(scope, &all).await.expect("embeddings")),
        format!("{:?}", store.full_text(scope, "red dog 记忆", 9, &everything).await.expect("full text")),
        format!("{:?}", store.edges(scope, &all, Direction::Any, Some("PARENT")).await.expect("edges")),
    ];
    for id in &all {
        seen.push(format!("{:?}", store.history(scope, id).await.expect("history")));
    }
    let mut versions = past(of(store), scope).await;
    versions.sort_by(|left, right| (&left.id, left.version.number).cmp(&(&right.id, right.version.number)));
    seen.push(format!("{versions:?}"));
    seen
}

async fn a_scope_is_the_same_elsewhere(from: &dyn RecordStore, to: &dyn RecordStore) {
    let ours = scope("c/it's 记忆");
    fill(from, &ours).await;
    let before = of(from).position(&ours).await.expect("position");
    let expected = seen(from, &ours).await;
    copy(from, to, &ours).await;
    for (found, expected) in seen(to, &ours).await.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(of(from).position(&ours).await.expect("position"), before, "the source is only read");
    assert_eq!(to.count(&scope("other"), &Filter::Everything).await.expect("count"), 0);
    let orders = |memories: Vec<mos_core::ArchivedMemory>| memories.into_iter().map(|one| one.id).collect::<Vec<_>>();
    let all = of(to).archived_memories(&ours, None, 100).await.expect("memories");
    let listed = to.list(&ours, &Filter::Everything, Paging::ALL).await.expect("list").entries;
    assert_eq!(orders(all.clone()), listed.iter().map(|item| item.id.clone()).collect::<Vec<_>>());
    let some = of(to).archived_memories_of(&ours, &ids(&["a", "nobody"])).await.expect("memories");
    assert_eq!(some, all.into_iter().filter(|one| one.id.as_str() == "a").collect::<Vec<_>>());
}

async fn what_moved_goes_on(from: &dyn RecordStore, to: &dyn RecordStore) {
    let ours = scope("c");
    fill(from, &ours).await;
    copy(from, to, &ours).await;
    for store in [from, to] {
        let again = WriteBatch { idempotency_key: Some("first".to_owned()), ..puts(&[("a", "again")]) };
        let receipt = apply(store, &ours, again).await;
        assert!(receipt.replayed && receipt.put.len() == 4, "a request is not done twice: {receipt:?}");
        apply(store, &ours, puts(&[("gone", "three"), ("a", "blue dog"), ("new", "text")])).await;
    }
    let numbers = |versions: Vec<mos_core::Version>| versions.iter().map(|version| version.number).collect::<Vec<_>>();
    for id in ids(&["a", "gone", "new"]) {
        let expected = numbers(from.history(&ours, &id).await.expect("history"));
        assert_eq!(numbers(to.history(&ours, &id).await.expect("history")), expected, "{id}: numbers go on");
    }
    let order = |entries: Vec<mos_core::MemoryItem>| entries.into_iter().map(|item| item.id).collect::<Vec<_>>();
    let expected = order(from.list(&ours, &Filter::Everything, Paging::ALL).await.expect("list").entries);
    assert_eq!(order(to.list(&ours, &Filter::Everything, Paging::ALL).await.expect("list").entries), expected);
    // An index that follows learns what is there.
    let told = to.changes(&ours, 0, 1000).await.expect("changes");
    let there = told.iter().filter(|change| matches!(change, mos_core::Change::Put { .. })).count();
    assert_eq!(there, expected.len());
    let found = to.full_text(&ours, "dog", 9, &Filter::Everything).await.expect("full text");
    assert_eq!(found, from.full_text(&ours, "dog", 9, &Filter::Everything).await.expect("full text"));
}

async fn what_changed_meanwhile_is_caught_up_with(from: &dyn RecordStore, to: &dyn RecordStore) {
    let ours = scope("c");
    fill(from, &ours).await;
    copy(from, to, &ours).await;
    let before = of(from).position(&ours).await.expect("position");
    let mini = space("mini", 2);
    apply(from, &ours, puts(&[("a", "other words")])).await;
    apply(from, &ours, deletes(&["late"])).await;
    let again = WriteBatch { embeddings: Some(vectors(&mini, &[("d", &[0.0, 1.0])])), ..batch() };
    apply(from, &ours, again).await;
    assert!(of(from).position(&ours).await.expect("position") > before, "it can be seen that something changed");
    let changed = ids(&["a", "d"]);
    let memories = of(from).archived_memories_of(&ours, &changed).await.expect("memories");
    let vectors = from.embeddings(&ours, &changed).await.expect("embeddings");
    let batch = ArchiveBatch {
        space: Some(mini),
        remove: ids(&["late"]),
        memories,
        vectors,
        versions: past(of(from), &ours).await,
        receipts: Vec::new(),
    };
    for _ in 0..2 {
        of(to).import(&ours, batch.clone()).await.expect("import");
        assert_eq!(seen(to, &ours).await, seen(from, &ours).await);
    }
}

async fn what_cannot_be_imported_is_refused(store: &dyn RecordStore) {
    let (ours, mini) = (scope("c"), space("mini", 2));
    apply(store, &ours, embedded(&mini, &[("a", "x", &[1.0, 0.0])])).await;
    let refused = async |batch: ArchiveBatch| of(store).import(&ours, batch).await.expect_err("a bad batch");
    let stray = vec![(MemoryId::new("a"), vec![1.0, 0.0])];
    let batch = ArchiveBatch { space: Some(mini.clone()), vectors: stray.clone(), ..ArchiveBatch::default() };
    assert!(matches!(refused(batch).await, StoreError::Invalid(_)));
    let batch = ArchiveBatch { vectors: stray, ..ArchiveBatch::default() };
    assert!(matches!(refused(batch).await, StoreError::Invalid(_)));
    let batch = ArchiveBatch { space: Some(space("other", 2)), ..ArchiveBatch::default() };
    assert!(matches!(refused(batch).await, StoreError::EmbeddingSpace { .. }));
    let mut memories = of(store).archived_memories(&ours, None, 9).await.expect("memories");
    memories[0].version.item = None;
    assert!(matches!(refused(ArchiveBatch { memories, ..ArchiveBatch::default() }).await, StoreError::Invalid(_)));
    assert_eq!(store.history(&ours, &"a".into()).await.expect("history").len(), 1);
}

/// Runs the suite of users; `make` returns a fresh store of users.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run_users(make: impl AsyncFn() -> Arc<dyn UserStore>) {
    users_are_the_same_elsewhere(&*make().await, &*make().await).await;
    other_users_are_not_overwritten(&*make().await).await;
}

fn users_of(store: &dyn UserStore) -> &dyn UserArchive {
    UserStore::archive(store).expect("the store's users can move")
}

fn user(id: &str, name: &str, is_active: bool) -> User {
    User {
        user_id: UserId::new(id),
        user_name: name.to_owned(),
        role: UserRole::Guest,
        created_at: "2020-01-02T03:04:05.000006+00:00".to_owned(),
        is_active,
    }
}

fn cube(id: &str, owner: &str) -> Cube {
    Cube {
        cube_id: CubeId::new(id),
        cube_name: format!("name of {id}"),
        cube_path: Some("/somewhere".to_owned()),
        owner_id: UserId::new(owner),
        created_at: "2021-01-02T03:04:05.000006+00:00".to_owned(),
        is_registered: false,
        config: json!({"text_mem": {"backend": "general_text"}}),
    }
}

async fn users_are_the_same_elsewhere(from: &dyn UserStore, to: &dyn UserStore) {
    for (id, name) in [("ann", "Ann's 名"), ("bob", "bob"), ("eve", "eve"), ("ida", "ida")] {
        from.create_user(&UserId::new(id), name, UserRole::Admin).await.expect("user");
    }
    for one in [cube("c", "ann"), cube("of somebody who is gone", "bob")] {
        from.create_cube(&one).await.expect("cube");
        from.share(&one.cube_id, &UserId::new("eve"), Access::Reader).await.expect("share");
        from.share(&one.cube_id, &UserId::new("ida"), Access::Member).await.expect("share");
    }
    for id in ["bob", "eve"] {
        from.delete_user(&UserId::new(id)).await.expect("deletion");
    }
    let (source, target) = (users_of(from), users_of(to));
    let users = source.archived_users().await.expect("users");
    assert_eq!(
        users.iter().map(|user| user.user_id.as_str()).collect::<Vec<_>>(),
        ["root", "ann", "bob", "eve", "ida"]
    );
    for round in 0..2 {
        for user in &users {
            let is_new = target.import_user(user).await.expect("import");
            assert_eq!(is_new, round == 0 && user.user_id.as_str() != "root");
        }
    }
    assert_eq!(target.archived_users().await.expect("users")[1..], users[1..], "with roles, times and state");
    for one in from.cubes(None).await.expect("cubes").iter().rev() {
        target.import_cube(one).await.expect("import");
        assert!(matches!(target.import_cube(one).await, Err(StoreError::Conflict(_))));
        let shares = source.archived_shares(&one.cube_id).await.expect("shares");
        let expected = [(UserId::new("eve"), Access::Reader), (UserId::new("ida"), Access::Member)];
        assert_eq!(shares, expected, "without the owner, with those that are deactivated");
        for _ in 0..2 {
            for (user, access) in &shares {
                target.import_share(&one.cube_id, user, *access).await.expect("import");
            }
        }
        let second = target.import_share(&one.cube_id, &shares[0].0, Access::Owner).await;
        assert!(matches!(second, Err(StoreError::Invalid(_))), "a cube has one owner: {second:?}");
        assert_eq!(target.archived_shares(&one.cube_id).await.expect("shares"), shares);
    }
    assert_eq!(to.cubes(None).await.expect("cubes"), from.cubes(None).await.expect("cubes"));
    assert_eq!(to.access(&UserId::new("eve"), &CubeId::new("c")).await.expect("access"), None, "still deactivated");
    let nobody = UserId::new("nobody");
    for cube in ["c", "x"] {
        let imported = target.import_share(&CubeId::new(cube), &nobody, Access::Member).await;
        assert!(matches!(imported, Err(StoreError::NotFound { .. })), "{imported:?}");
    }
    assert!(matches!(target.import_cube(&cube("d", "nobody")).await, Err(StoreError::NotFound { .. })));
}

async fn other_users_are_not_overwritten(store: &dyn UserStore) {
    let archive = users_of(store);
    store.create_user(&UserId::new("ann"), "Ann", UserRole::Admin).await.expect("user");
    for other in [user("ann", "Another", true), user("other", "Ann", true)] {
        assert!(matches!(archive.import_user(&other).await, Err(StoreError::Conflict(_))), "{other:?}");
    }
    assert!(!archive.import_user(&user("ann", "Ann", false)).await.expect("the same user"));
    assert_eq!(store.user(&UserId::new("ann")).await.expect("user").map(|user| user.role), Some(UserRole::Admin));
    store.delete_user(&UserId::new("ann")).await.expect("deletion");
    let back = archive.import_user(&user("ann", "Ann", true)).await;
    assert!(matches!(back, Err(StoreError::Conflict(_))), "nobody comes back by accident: {back:?}");
}
