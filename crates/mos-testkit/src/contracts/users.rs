//! What every [`UserStore`] must do.

use std::sync::Arc;

use mos_core::users::ROOT_USER;
use mos_core::{Access, Cube, CubeId, Filter, RecordStore, Scope, StoreError, UserId, UserRole, UserStore, WriteBatch};
use serde_json::json;

use super::samples::{apply, batch, edge, embedded, puts, scope, space};

/// Runs the suite; `make` returns a fresh, empty store and the record that shares its data.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> (Arc<dyn UserStore>, Arc<dyn RecordStore>)) {
    root_exists_from_the_start(&*make().await.0).await;
    users_are_made_once(&*make().await.0).await;
    deleted_users_may_nothing(&*make().await.0).await;
    cubes_have_owners(&*make().await.0).await;
    shares_give_and_take_rights(&*make().await.0).await;
    cubes_can_be_changed(&*make().await.0).await;
    a_user_is_ensured_but_never_revived(&*make().await.0).await;
    let (users, record) = make().await;
    a_deleted_cube_is_gone(&*users, &*record).await;
}

fn id(text: &str) -> UserId {
    UserId::new(text)
}

fn cube(name: &str, owner: &str, created_at: &str) -> Cube {
    Cube {
        cube_id: CubeId::new(name),
        cube_name: format!("the cube {name}"),
        cube_path: Some("/some/where".to_owned()),
        owner_id: id(owner),
        created_at: created_at.to_owned(),
        is_registered: true,
        config: json!({"user_id": owner, "text_mem": {"backend": "general_text"}, "n": 1.5, "none": null}),
    }
}

async fn make_user(store: &dyn UserStore, name: &str) {
    store.create_user(&id(name), name, UserRole::User).await.expect("a new user");
}

fn assert_not_found<T: std::fmt::Debug>(result: Result<T, StoreError>, wanted: &str) {
    let error = result.expect_err("it is not there");
    assert!(matches!(&error, StoreError::NotFound { what, .. } if *what == wanted), "{error}");
}

async fn root_exists_from_the_start(store: &dyn UserStore) {
    let root = store.user(&id(ROOT_USER)).await.expect("user").expect("root exists");
    assert_eq!((root.user_name.as_str(), root.role, root.is_active), (ROOT_USER, UserRole::Root, true));
    assert_eq!(store.users().await.expect("users"), [root]);
    let error = store.delete_user(&id(ROOT_USER)).await.expect_err("root stays");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
}

async fn users_are_made_once(store: &dyn UserStore) {
    let ann = store.create_user(&id("ann/.. 记"), "Ann", UserRole::Admin).await.expect("a new user");
    assert_eq!((ann.user_id.as_str(), ann.user_name.as_str(), ann.role), ("ann/.. 记", "Ann", UserRole::Admin));
    assert!(ann.is_active && ann.created_at.contains('T'));
    assert_eq!(store.user(&ann.user_id).await.expect("user"), Some(ann.clone()));
    let again = store.create_user(&id("another id"), "Ann", UserRole::Guest).await.expect("the known one");
    assert_eq!(again, ann, "a known name gives the known user");
    assert_eq!(store.user(&id("another id")).await.expect("user"), None);
    let error = store.create_user(&ann.user_id, "Bea", UserRole::User).await.expect_err("the id is taken");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    make_user(store, "bea").await;
    let names: Vec<String> = store.users().await.expect("users").into_iter().map(|user| user.user_name).collect();
    assert_eq!(names, [ROOT_USER, "Ann", "bea"], "oldest first");
}

async fn deleted_users_may_nothing(store: &dyn UserStore) {
    make_user(store, "ann").await;
    make_user(store, "bob").await;
    store.create_cube(&cube("c", "ann", "2026")).await.expect("a new cube");
    store.share(&CubeId::new("c"), &id("bob")).await.expect("share");
    for name in ["ann", "bob", "ann"] {
        store.delete_user(&id(name)).await.expect("deleting a second time is no error");
    }
    assert_not_found(store.delete_user(&id("nobody")).await, "user");
    for name in ["ann", "bob"] {
        assert_eq!(store.user(&id(name)).await.expect("user"), None);
        assert_eq!(store.access(&id(name), &CubeId::new("c")).await.expect("access"), None);
        assert_eq!(store.cubes(Some(&id(name))).await.expect("cubes"), []);
    }
    assert_eq!(store.users().await.expect("users").len(), 1);
    assert!(store.cube(&CubeId::new("c")).await.expect("cube").is_some(), "the cubes stay");
    assert_not_found(store.create_cube(&cube("d", "ann", "2026")).await, "user");
    assert_not_found(store.share(&CubeId::new("c"), &id("bob")).await, "user");
    let error = store.create_user(&id("new"), "ann", UserRole::User).await.expect_err("the name is a deleted user's");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    make_user(store, "ann").await;
    let access = store.access(&id("ann"), &CubeId::new("c")).await.expect("access");
    assert_eq!(access, Some(Access::Owner), "who is created again has the cubes back");
}

async fn cubes_have_owners(store: &dyn UserStore) {
    make_user(store, "ann").await;
    let first = cube("root/mem_cube_kv_cache", "ann", "2026-01-01T00:00:00.000000+00:00");
    store.create_cube(&first).await.expect("a new cube");
    assert_eq!(store.cube(&first.cube_id).await.expect("cube"), Some(first.clone()), "it comes back as it was");
    assert_eq!(store.cube(&CubeId::new("unknown")).await.expect("cube"), None);
    let error = store.create_cube(&first).await.expect_err("the id is taken");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    assert_not_found(store.create_cube(&cube("x", "nobody", "2026")).await, "user");
    let second = Cube { cube_path: None, ..cube("second", "ann", "2026-01-02T00:00:00.000000+00:00") };
    store.create_cube(&second).await.expect("a new cube");
    let roots = cube("roots", ROOT_USER, "2026-01-03T00:00:00.000000+00:00");
    store.create_cube(&roots).await.expect("a new cube");
    let anns = store.cubes(Some(&id("ann"))).await.expect("cubes");
    assert_eq!(anns, [second.clone(), first.clone()], "newest first");
    assert_eq!(store.cubes(None).await.expect("cubes"), [roots, second, first]);
    assert_eq!(store.cubes(Some(&id("nobody"))).await.expect("cubes"), []);
}

async fn shares_give_and_take_rights(store: &dyn UserStore) {
    make_user(store, "ann").await;
    make_user(store, "bob").await;
    let c = CubeId::new("c");
    store.create_cube(&cube("c", "ann", "2026")).await.expect("a new cube");
    let access = async |name: &str| store.access(&id(name), &c).await.expect("access");
    assert_eq!((access("ann").await, access("bob").await), (Some(Access::Owner), None));
    assert_eq!(access(ROOT_USER).await, None, "root has no rights of its own to a cube");
    for _ in 0..2 {
        store.share(&c, &id("bob")).await.expect("sharing twice is no error");
    }
    assert_eq!(access("bob").await, Some(Access::Member));
    assert_eq!(store.cubes(Some(&id("bob"))).await.expect("cubes").len(), 1);
    store.share(&c, &id("ann")).await.expect("sharing with the owner is no error");
    assert_eq!(access("ann").await, Some(Access::Owner));
    assert_eq!(store.cubes(Some(&id("ann"))).await.expect("cubes").len(), 1);
    assert_not_found(store.share(&CubeId::new("unknown"), &id("bob")).await, "cube");
    assert_not_found(store.share(&c, &id("nobody")).await, "user");
    store.unshare(&c, &id("bob")).await.expect("unshare");
    store.unshare(&c, &id("bob")).await.expect("nothing to take away is no error");
    assert_eq!((access("bob").await, store.cubes(Some(&id("bob"))).await.expect("cubes")), (None, vec![]));
    let error = store.unshare(&c, &id("ann")).await.expect_err("the owner keeps the right");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(store.access(&id("ann"), &CubeId::new("unknown")).await.expect("access"), None);
}

async fn cubes_can_be_changed(store: &dyn UserStore) {
    let (c, unknown) = (CubeId::new("c"), CubeId::new("unknown"));
    store.create_cube(&cube("c", ROOT_USER, "2026")).await.expect("a new cube");
    store.set_registered(&c, false).await.expect("set");
    store.set_cube_config(&c, &json!(["other"])).await.expect("set");
    let expected = Cube { is_registered: false, config: json!(["other"]), ..cube("c", ROOT_USER, "2026") };
    assert_eq!(store.cube(&c).await.expect("cube"), Some(expected));
    assert_not_found(store.set_registered(&unknown, true).await, "cube");
    assert_not_found(store.set_cube_config(&unknown, &json!({})).await, "cube");
    assert_not_found(store.delete_cube(&unknown).await, "cube");
}

async fn a_deleted_cube_is_gone(users: &dyn UserStore, record: &dyn RecordStore) {
    make_user(users, "bob").await;
    let (c, ours, theirs, mini) = (CubeId::new("c"), scope("c"), scope("d"), space("mini", 2));
    for name in ["c", "d"] {
        users.create_cube(&cube(name, ROOT_USER, "2026")).await.expect("a new cube");
        let memories: [(&str, &str, &[f32]); 2] = [("a", "red dog", &[1.0, 0.0]), ("b", "blue", &[0.0, 1.0])];
        let write = WriteBatch {
            put_edges: vec![edge("a", "X", "b")],
            idempotency_key: Some("key".to_owned()),
            ..embedded(&mini, &memories)
        };
        apply(record, &scope(name), write).await;
    }
    users.share(&c, &id("bob")).await.expect("share");
    let last = record.changes(&ours, 0, 100).await.expect("changes").len();
    users.delete_cube(&c).await.expect("delete");
    assert_eq!(users.cube(&c).await.expect("cube"), None);
    assert_eq!(users.access(&id("bob"), &c).await.expect("access"), None);
    assert_eq!(record.count(&ours, &Filter::Everything).await.expect("count"), 0);
    assert_eq!(record.all_edges(&ours).await.expect("edges"), []);
    assert_eq!(record.history(&ours, &"a".into()).await.expect("history"), []);
    assert_eq!(record.embedding_space(&ours).await.expect("space"), None);
    assert_eq!(record.full_text(&ours, "dog", 9, &Filter::Everything).await.expect("full text"), []);
    assert_eq!(record.count(&theirs, &Filter::Everything).await.expect("count"), 2, "other cubes stay");
    let told = record.changes(&ours, 0, 100).await.expect("changes");
    assert_eq!(told.len(), last, "indexes that follow the feed learn of it");
    assert!(told.iter().all(|change| matches!(change, mos_core::Change::Deleted { .. })), "{told:?}");
    assert_not_found(record.apply(&ours, puts(&[("late", "a late write")])).await, "cube");
    assert_not_found(record.adopt_space(&ours, &mini).await, "cube");
    users.create_cube(&cube("c", "bob", "2027")).await.expect("the id is free again");
    assert_eq!(users.cubes(Some(&id("bob"))).await.expect("cubes").len(), 1);
    let write = WriteBatch { idempotency_key: Some("key".to_owned()), ..batch() };
    assert!(!apply(record, &ours, write).await.replayed, "keys go with the cube");
    assert!(!users.discard_cube(&c).await.expect("discard"), "a registered cube stays");
    users.set_registered(&c, false).await.expect("set");
    apply(record, &ours, puts(&[("a", "text")])).await;
    assert!(!users.discard_cube(&c).await.expect("discard"), "a cube with memories stays");
    apply(record, &ours, WriteBatch { clear: true, ..batch() }).await;
    assert!(users.discard_cube(&c).await.expect("discard"));
    assert!(!users.discard_cube(&c).await.expect("nothing left to discard"));
    assert_not_found(record.apply(&ours, puts(&[("late", "a late write")])).await, "cube");
    let never_written = CubeId::new("never written");
    users.create_cube(&cube("never written", ROOT_USER, "2026")).await.expect("a new cube");
    users.delete_cube(&never_written).await.expect("delete");
    assert_not_found(record.apply(&Scope::of(&never_written), puts(&[("late", "text")])).await, "cube");
}

async fn a_user_is_ensured_but_never_revived(store: &dyn UserStore) {
    let ann = store.ensure_user(&id("ann")).await.expect("a new user");
    assert_eq!((ann.user_name.as_str(), ann.role), ("ann", UserRole::User));
    assert_eq!(store.ensure_user(&id("ann")).await.expect("the same"), ann);
    store.create_user(&id("carol"), "bob", UserRole::User).await.expect("a new user");
    store.delete_user(&id("ann")).await.expect("delete");
    for name in ["ann", "bob"] {
        let error = store.ensure_user(&id(name)).await.expect_err("deleted, and taken");
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    }
    assert_eq!(store.user(&id("ann")).await.expect("user"), None, "still deleted");
}
