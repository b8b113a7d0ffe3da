//! What every [`UserStore`] must do.

use std::sync::Arc;

use mos_core::users::ROOT_USER;
use mos_core::{
    Access, Cube, CubeId, Filter, RecordStore, Scope, Standing, StoreError, UserId, UserRole, UserStore, WriteBatch,
};
use serde_json::json;

use super::samples::{apply, batch, edge, embedded, puts, scope, space};
use super::users_at_once;

/// Runs the suite; `make` returns a fresh, empty store and the record that shares its data.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run(make: impl AsyncFn() -> (Arc<dyn UserStore>, Arc<dyn RecordStore>)) {
    root_exists_from_the_start(&*make().await.0).await;
    users_are_made_once(&*make().await.0).await;
    deleted_users_may_nothing(&*make().await.0).await;
    erased_users_leave_nothing(&*make().await.0).await;
    cubes_have_owners(&*make().await.0).await;
    shares_give_and_take_rights(&*make().await.0).await;
    a_standing_is_user_cube_and_right(&*make().await.0).await;
    a_share_says_what_it_allows(&*make().await.0).await;
    roles_can_be_changed(&*make().await.0).await;
    cubes_can_be_changed(&*make().await.0).await;
    a_user_is_ensured_but_never_revived(&*make().await.0).await;
    let (users, record) = make().await;
    a_deleted_cube_is_gone(&*users, &*record).await;
    ids_and_names_may_hold_anything(&*make().await.0).await;
    ties_go_to_the_later_cube(&*make().await.0).await;
    users_at_once::many_who_make_the_same_user_get_one(make().await.0).await;
    users_at_once::many_who_make_the_same_cube_make_one(make().await).await;
    users_at_once::many_writers_lose_nothing(make().await).await;
    users_at_once::a_cube_that_comes_and_goes_is_whole_or_gone(make().await).await;
}

/// Runs what must outlive the store; `open` opens the same data each time.
///
/// # Panics
/// When a claim does not hold.
pub async fn survives_reopening(open: impl AsyncFn() -> (Arc<dyn UserStore>, Arc<dyn RecordStore>)) {
    let (users, record) = open().await;
    make_user(&*users, "ann").await;
    make_user(&*users, "bob").await;
    make_user(&*users, "gone").await;
    users.delete_user(&id("gone")).await.expect("delete");
    for name in ["kept", "deleted"] {
        users.create_cube(&cube(name, "ann", "2026")).await.expect("a new cube");
        apply(&*record, &scope(name), puts(&[("a", "text")])).await;
    }
    users.share(&CubeId::new("kept"), &id("bob"), Access::Member).await.expect("share");
    make_user(&*users, "eve").await;
    users.share(&CubeId::new("kept"), &id("eve"), Access::Reader).await.expect("share");
    users.set_role(&id("eve"), UserRole::Guest).await.expect("set");
    users.delete_cube(&CubeId::new("deleted")).await.expect("delete");
    let (known_users, known_cubes) = (users.users().await.expect("users"), users.cubes(None).await.expect("cubes"));
    drop((users, record));
    let (users, record) = open().await;
    assert_eq!(users.users().await.expect("users"), known_users);
    assert_eq!(users.cubes(None).await.expect("cubes"), known_cubes);
    assert_eq!(known_cubes, [cube("kept", "ann", "2026")]);
    let access = users.access(&id("bob"), &CubeId::new("kept")).await.expect("access");
    assert_eq!(access, Some(Access::Member));
    let access = users.access(&id("eve"), &CubeId::new("kept")).await.expect("access");
    assert_eq!(access, Some(Access::Reader));
    assert_eq!(users.user(&id("eve")).await.expect("user").map(|user| user.role), Some(UserRole::Guest));
    assert_eq!(record.count(&scope("kept"), &Filter::Everything).await.expect("count"), 1);
    apply(&*record, &scope("kept"), puts(&[("b", "text")])).await;
    assert_not_found(record.apply(&scope("deleted"), puts(&[("late", "text")])).await, "cube");
    assert_eq!(users.user(&id("gone")).await.expect("user"), None);
    let error = users.ensure_user(&id("gone")).await.expect_err("still deleted");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
}

pub(super) fn id(text: &str) -> UserId {
    UserId::new(text)
}

pub(super) fn cube(name: &str, owner: &str, created_at: &str) -> Cube {
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

pub(super) async fn make_user(store: &dyn UserStore, name: &str) {
    store.create_user(&id(name), name, UserRole::User).await.expect("a new user");
}

pub(super) fn assert_not_found<T: std::fmt::Debug>(result: Result<T, StoreError>, wanted: &str) {
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
    store.share(&CubeId::new("c"), &id("bob"), Access::Member).await.expect("share");
    for name in ["ann", "bob", "ann"] {
        store.delete_user(&id(name)).await.expect("deleting a second time is no error");
    }
    assert_not_found(store.delete_user(&id("nobody")).await, "user");
    assert_eq!(store.known_user(&id("nobody")).await.expect("user"), None);
    for name in ["ann", "bob"] {
        assert_eq!(store.user(&id(name)).await.expect("user"), None);
        let known = store.known_user(&id(name)).await.expect("user").expect("who was deleted is known");
        assert_eq!((known.is_active, known.role), (false, UserRole::User));
        assert_eq!(store.access(&id(name), &CubeId::new("c")).await.expect("access"), None);
        assert_eq!(store.cubes(Some(&id(name))).await.expect("cubes"), []);
    }
    assert_eq!(store.users().await.expect("users").len(), 1);
    assert!(store.cube(&CubeId::new("c")).await.expect("cube").is_some(), "the cubes stay");
    assert_not_found(store.create_cube(&cube("d", "ann", "2026")).await, "user");
    assert_not_found(store.share(&CubeId::new("c"), &id("bob"), Access::Member).await, "user");
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
        store.share(&c, &id("bob"), Access::Member).await.expect("sharing twice is no error");
    }
    assert_eq!(access("bob").await, Some(Access::Member));
    assert_eq!(store.cubes(Some(&id("bob"))).await.expect("cubes").len(), 1);
    store.share(&c, &id("ann"), Access::Member).await.expect("sharing with the owner is no error");
    assert_eq!(access("ann").await, Some(Access::Owner));
    assert_eq!(store.cubes(Some(&id("ann"))).await.expect("cubes").len(), 1);
    assert_not_found(store.share(&CubeId::new("unknown"), &id("bob"), Access::Member).await, "cube");
    assert_not_found(store.share(&c, &id("nobody"), Access::Member).await, "user");
    store.unshare(&c, &id("bob")).await.expect("unshare");
    store.unshare(&c, &id("bob")).await.expect("nothing to take away is no error");
    assert_eq!((access("bob").await, store.cubes(Some(&id("bob"))).await.expect("cubes")), (None, vec![]));
    let error = store.unshare(&c, &id("ann")).await.expect_err("the owner keeps the right");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(store.access(&id("ann"), &CubeId::new("unknown")).await.expect("access"), None);
}

async fn a_standing_is_user_cube_and_right(store: &dyn UserStore) {
    for name in ["ann", "bob", "eve", "gone"] {
        make_user(store, name).await;
    }
    store.create_cube(&cube("c", "ann", "2026")).await.expect("a new cube");
    store.create_cube(&cube("d", "gone", "2026")).await.expect("a new cube");
    store.share(&CubeId::new("c"), &id("bob"), Access::Reader).await.expect("share");
    store.delete_user(&id("gone")).await.expect("delete");
    let mut rights = Vec::new();
    for name in ["ann", "bob", "eve", "gone", "nobody"] {
        for cube in ["c", "d", "unknown"] {
            let (user, cube) = (id(name), CubeId::new(cube));
            let standing = store.standing(&user, &cube).await.expect("standing");
            let apart = Standing {
                user: store.user(&user).await.expect("user"),
                cube: store.cube(&cube).await.expect("cube"),
                access: store.access(&user, &cube).await.expect("access"),
            };
            assert_eq!(standing, apart, "{user} and {cube}");
            rights.extend(standing.access);
        }
    }
    assert_eq!(rights, [Access::Owner, Access::Reader], "nobody else has any");
}

async fn a_share_says_what_it_allows(store: &dyn UserStore) {
    let c = CubeId::new("c");
    for name in ["ann", "bob", "eve", "gone"] {
        make_user(store, name).await;
    }
    store.create_cube(&cube("c", "bob", "2026")).await.expect("a new cube");
    let shares = async || store.shares(&c).await.expect("shares");
    let only_owner = vec![(id("bob"), Access::Owner)];
    assert_eq!(shares().await, only_owner);
    store.share(&c, &id("eve"), Access::Member).await.expect("share");
    store.share(&c, &id("ann"), Access::Reader).await.expect("share");
    store.share(&c, &id("gone"), Access::Reader).await.expect("share");
    store.delete_user(&id("gone")).await.expect("delete");
    let with = |ann, eve| vec![(id("bob"), Access::Owner), (id("ann"), ann), (id("eve"), eve)];
    assert_eq!(shares().await, with(Access::Reader, Access::Member), "the owner first, nobody who was deleted");
    store.share(&c, &id("ann"), Access::Member).await.expect("sharing again changes the right");
    store.share(&c, &id("eve"), Access::Reader).await.expect("sharing again changes the right");
    assert_eq!(shares().await, with(Access::Member, Access::Reader));
    let access = async |name: &str| store.access(&id(name), &c).await.expect("access");
    assert_eq!((access("ann").await, access("eve").await), (Some(Access::Member), Some(Access::Reader)));
    assert_eq!(store.cubes(Some(&id("eve"))).await.expect("cubes").len(), 1, "who may read it has it");
    store.share(&c, &id("bob"), Access::Reader).await.expect("the owner keeps the right");
    assert_eq!((access("bob").await, shares().await.len()), (Some(Access::Owner), 3));
    for name in ["ann", "bob"] {
        let error = store.share(&c, &id(name), Access::Owner).await.expect_err("a cube has one owner");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    assert_eq!(access("ann").await, Some(Access::Member), "nothing was changed");
    for name in ["ann", "eve"] {
        store.unshare(&c, &id(name)).await.expect("unshare");
    }
    assert_eq!(shares().await, only_owner);
    assert_not_found(store.shares(&CubeId::new("unknown")).await, "cube");
    store.share(&c, &id("ann"), Access::Reader).await.expect("share");
    store.delete_cube(&c).await.expect("delete");
    assert_not_found(store.shares(&c).await, "cube");
    store.create_cube(&cube("c", "bob", "2026")).await.expect("a new cube");
    assert_eq!(shares().await, only_owner, "a later cube of this id is shared with nobody");
}

async fn roles_can_be_changed(store: &dyn UserStore) {
    make_user(store, "ann").await;
    make_user(store, "gone").await;
    store.delete_user(&id("gone")).await.expect("delete");
    let role = async |name: &str| store.user(&id(name)).await.expect("user").map(|user| user.role);
    for wanted in [UserRole::Guest, UserRole::Admin, UserRole::Admin, UserRole::User] {
        let changed = store.set_role(&id("ann"), wanted).await.expect("set");
        assert_eq!((changed.user_id, changed.role), (id("ann"), wanted));
        assert_eq!(role("ann").await, Some(wanted));
    }
    for (name, wanted) in [("ann", UserRole::Root), (ROOT_USER, UserRole::User), (ROOT_USER, UserRole::Root)] {
        let error = store.set_role(&id(name), wanted).await.expect_err("there is one root, always");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    assert_eq!((role("ann").await, role(ROOT_USER).await), (Some(UserRole::User), Some(UserRole::Root)));
    for name in ["gone", "nobody"] {
        assert_not_found(store.set_role(&id(name), UserRole::Guest).await, "user");
    }
    store.create_user(&id("gone"), "gone", UserRole::User).await.expect("it is back");
    assert_eq!(role("gone").await, Some(UserRole::User), "and has the role that it was made with");
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

async fn erased_users_leave_nothing(store: &dyn UserStore) {
    for name in ["ann", "bob"] {
        make_user(store, name).await;
    }
    store.create_cube(&cube("hers", "ann", "2026")).await.expect("a new cube");
    store.create_cube(&cube("his", "bob", "2026")).await.expect("a new cube");
    store.share(&CubeId::new("his"), &id("ann"), Access::Member).await.expect("share");
    let error = store.erase_user(&id("ann")).await.expect_err("she owns a cube");
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    store.delete_cube(&CubeId::new("hers")).await.expect("delete");
    store.delete_user(&id("ann")).await.expect("one that was deactivated can be erased");
    store.erase_user(&id("ann")).await.expect("erase");
    assert_not_found(store.erase_user(&id("ann")).await, "user");
    assert_not_found(store.erase_user(&id("nobody")).await, "user");
    let error = store.erase_user(&id(ROOT_USER)).await.expect_err("root stays");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    store.create_user(&id("new"), "ann", UserRole::User).await.expect("the name is free");
    let again = store.create_user(&id("ann"), "another ann", UserRole::User).await.expect("so is the id");
    assert_eq!(again.user_name, "another ann");
    assert_eq!(store.cubes(Some(&id("ann"))).await.expect("cubes"), [], "nothing of the former one's");
    let shares = store.shares(&CubeId::new("his")).await.expect("shares");
    assert_eq!(shares, [(id("bob"), Access::Owner)]);
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
    users.share(&c, &id("bob"), Access::Member).await.expect("share");
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

async fn ids_and_names_may_hold_anything(store: &dyn UserStore) {
    let strange = [
        "记忆 🦀",
        "x' OR '1'='1",
        "a\"b",
        "a\\b",
        "%_",
        "$1 {} ?",
        "../../etc/passwd",
        "'; DROP TABLE users; --",
        "Ann",
        "ann",
        "\u{e9}",
        "e\u{301}",
    ];
    for name in strange {
        make_user(store, name).await;
        let one = Cube { cube_name: format!("{name}'s"), cube_path: Some(name.to_owned()), ..cube(name, name, "2026") };
        store.create_cube(&one).await.expect("a new cube");
        store.share(&one.cube_id, &id(ROOT_USER), Access::Member).await.expect("share");
        store.set_cube_config(&one.cube_id, &json!({name: [name, "\u{0}", null]})).await.expect("set");
    }
    for name in strange {
        let user = store.user(&id(name)).await.expect("user").expect("it was made");
        assert_eq!((user.user_id.as_str(), user.user_name.as_str()), (name, name));
        let own = store.cubes(Some(&id(name))).await.expect("cubes");
        assert_eq!(own.len(), 1, "only its own: {own:?}");
        assert_eq!((own[0].cube_name.as_str(), own[0].cube_path.as_deref()), (&*format!("{name}'s"), Some(name)));
        assert_eq!(own[0].config, json!({name: [name, "\u{0}", null]}));
        assert_eq!(store.access(&id(name), &CubeId::new(name)).await.expect("access"), Some(Access::Owner));
    }
    assert_eq!(store.cubes(Some(&id(ROOT_USER))).await.expect("cubes").len(), strange.len());
    let big = json!({"text": "x".repeat(1 << 20)});
    store.set_cube_config(&CubeId::new("Ann"), &big).await.expect("set");
    assert_eq!(store.cube(&CubeId::new("Ann")).await.expect("cube").expect("it is there").config, big);
}

async fn ties_go_to_the_later_cube(store: &dyn UserStore) {
    for (name, at) in [("b", "2026-01"), ("a", "2026-01"), ("newer", "2026-02"), ("c", "2026-01"), ("older", "2025")] {
        store.create_cube(&cube(name, ROOT_USER, at)).await.expect("a new cube");
    }
    let names = async || -> Vec<String> {
        store.cubes(None).await.expect("cubes").iter().map(|cube| cube.cube_id.to_string()).collect()
    };
    assert_eq!(names().await, ["newer", "c", "a", "b", "older"]);
    store.delete_cube(&CubeId::new("b")).await.expect("delete");
    store.create_cube(&cube("b", ROOT_USER, "2026-01")).await.expect("a new cube");
    assert_eq!(names().await, ["newer", "b", "c", "a", "older"], "a cube that is made again is a later one");
    let own: Vec<String> =
        store.cubes(Some(&id(ROOT_USER))).await.expect("cubes").iter().map(|cube| cube.cube_id.to_string()).collect();
    assert_eq!(own, names().await);
}
