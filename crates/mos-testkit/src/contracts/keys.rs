//! What every [`KeyStore`] must do.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use mos_core::{ApiKey, CubeId, KeyHash, KeyId, KeyScope, KeyStore, StoreError, UserId};

/// Runs the suite; `make` returns a fresh, empty store.
///
/// # Panics
/// When a claim of the trait does not hold.
pub async fn run<S: KeyStore + ?Sized + 'static>(make: impl AsyncFn() -> Arc<S>) {
    keys_are_found_by_their_hash(&*make().await).await;
    keys_are_listed_newest_first(&*make().await).await;
    ids_and_hashes_are_taken_once(&*make().await).await;
    revoked_keys_stay_known(&*make().await).await;
    only_usable_keys_count(&*make().await).await;
    the_first_key_is_made_once(&*make().await).await;
    many_who_make_the_first_key_make_one(make().await).await;
    keys_move_to_another_store(&*make().await, &*make().await).await;
    keys_of_a_user_are_erased(&*make().await).await;
    bad_keys_are_refused(&*make().await).await;
}

/// Runs what must outlive the store; `open` opens the same data each time.
///
/// # Panics
/// When a claim does not hold.
pub async fn survives_reopening<S: KeyStore + ?Sized>(open: impl AsyncFn() -> Arc<S>) {
    let store = open().await;
    let kept = restricted("kept");
    store.create_key(&kept, &hash(1)).await.expect("create");
    store.create_key(&key("revoked", None), &hash(2)).await.expect("create");
    store.revoke_key(&KeyId::new("revoked")).await.expect("revoke");
    drop(store);
    let store = open().await;
    assert_eq!(store.find_key(&hash(1)).await.expect("find"), Some(kept));
    let revoked = store.find_key(&hash(2)).await.expect("find").expect("it is known");
    assert!(!revoked.is_active);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a moment")
}

fn hash(number: u8) -> KeyHash {
    KeyHash::new([number; 32])
}

fn key(id: &str, user: Option<&str>) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        prefix: "krlk_0123456".to_owned(),
        user: user.map(UserId::new),
        scopes: [KeyScope::Read, KeyScope::Write].into(),
        cubes: None,
        description: None,
        created_at: at(100),
        last_used_at: None,
        expires_at: None,
        is_active: true,
    }
}

fn restricted(id: &str) -> ApiKey {
    ApiKey {
        scopes: [KeyScope::Read].into(),
        cubes: Some(["a/b", "it's", "记忆"].map(CubeId::new).into()),
        description: Some("for the \"phone\"; it's Ann's".to_owned()),
        expires_at: Some(Timestamp::from_microsecond(200_000_001).expect("a moment")),
        ..key(id, Some("ann"))
    }
}

async fn ids(store: &(impl KeyStore + ?Sized), user: Option<&str>) -> Vec<String> {
    let user = user.map(UserId::new);
    let keys = store.list_keys(user.as_ref()).await.expect("list");
    keys.into_iter().map(|key| key.id.to_string()).collect()
}

async fn keys_are_found_by_their_hash(store: &(impl KeyStore + ?Sized)) {
    assert_eq!(store.find_key(&hash(1)).await.expect("find"), None);
    let (program, of_user) = (ApiKey { scopes: KeyScope::ALL.into(), ..key("p", None) }, restricted("u"));
    store.create_key(&program, &hash(1)).await.expect("create");
    store.create_key(&of_user, &hash(2)).await.expect("create");
    assert_eq!(store.find_key(&hash(1)).await.expect("find"), Some(program));
    assert_eq!(store.find_key(&hash(2)).await.expect("find"), Some(of_user.clone()));
    assert_eq!(store.find_key(&hash(3)).await.expect("find"), None);
    store.touch_key(&of_user.id, at(150)).await.expect("touch");
    store.touch_key(&KeyId::new("nobody"), at(150)).await.expect("an unknown one is no error");
    let used = ApiKey { last_used_at: Some(at(150)), ..of_user };
    assert_eq!(store.find_key(&hash(2)).await.expect("find"), Some(used));
}

async fn keys_are_listed_newest_first(store: &(impl KeyStore + ?Sized)) {
    for (number, (id, user)) in (1..).zip([("a", Some("ann")), ("b", None), ("c", Some("bob")), ("d", Some("ann"))]) {
        store.create_key(&key(id, user), &hash(number)).await.expect("create");
    }
    assert_eq!(ids(store, None).await, ["d", "c", "b", "a"]);
    assert_eq!(ids(store, Some("ann")).await, ["d", "a"]);
    assert_eq!(ids(store, Some("nobody")).await, [] as [&str; 0]);
}

async fn ids_and_hashes_are_taken_once(store: &(impl KeyStore + ?Sized)) {
    store.create_key(&key("a", Some("ann")), &hash(1)).await.expect("create");
    for (id, number) in [("a", 2), ("b", 1)] {
        let error = store.create_key(&key(id, Some("eve")), &hash(number)).await.expect_err("taken");
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    }
    let known = store.find_key(&hash(1)).await.expect("find").expect("it is there");
    assert_eq!(known.user, Some(UserId::new("ann")));
}

async fn revoked_keys_stay_known(store: &(impl KeyStore + ?Sized)) {
    store.create_key(&key("a", None), &hash(1)).await.expect("create");
    assert!(store.revoke_key(&KeyId::new("a")).await.expect("revoke").is_active, "as it was");
    assert!(!store.revoke_key(&KeyId::new("a")).await.expect("a second time").is_active);
    assert!(!store.find_key(&hash(1)).await.expect("find").expect("it is known").is_active);
    assert_eq!(ids(store, None).await, ["a"]);
    let error = store.revoke_key(&KeyId::new("b")).await.expect_err("unknown");
    assert!(matches!(error, StoreError::NotFound { what: "key", .. }), "{error}");
}

async fn only_usable_keys_count(store: &(impl KeyStore + ?Sized)) {
    assert_eq!(store.count_usable_keys(at(100)).await.expect("count"), 0);
    store.create_key(&key("forever", None), &hash(1)).await.expect("create");
    store.create_key(&ApiKey { expires_at: Some(at(200)), ..key("ends", None) }, &hash(2)).await.expect("create");
    store.create_key(&key("revoked", None), &hash(3)).await.expect("create");
    store.revoke_key(&KeyId::new("revoked")).await.expect("revoke");
    assert_eq!(store.count_usable_keys(at(199)).await.expect("count"), 2);
    assert_eq!(store.count_usable_keys(at(200)).await.expect("count"), 1);
}

async fn the_first_key_is_made_once(store: &(impl KeyStore + ?Sized)) {
    let ends = ApiKey { expires_at: Some(at(200)), ..key("ends", None) };
    assert!(store.create_first_key(&ends, &hash(1)).await.expect("create"));
    assert!(!store.create_first_key(&key("second", None), &hash(2)).await.expect("create"));
    assert_eq!(store.find_key(&hash(2)).await.expect("find"), None);
    let later = ApiKey { created_at: at(200), ..key("later", None) };
    assert!(store.create_first_key(&later, &hash(3)).await.expect("create"), "the other one has expired");
    store.revoke_key(&later.id).await.expect("revoke");
    let last = ApiKey { created_at: at(201), ..key("last", None) };
    assert!(store.create_first_key(&last, &hash(4)).await.expect("create"), "the other one is revoked");
}

async fn many_who_make_the_first_key_make_one<S: KeyStore + ?Sized + 'static>(store: Arc<S>) {
    let mut tasks = Vec::new();
    for number in 0..8_u8 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            store.create_first_key(&key(&number.to_string(), None), &hash(number)).await.expect("create")
        }));
    }
    let mut n_made = 0;
    for task in tasks {
        n_made += usize::from(task.await.expect("no panic"));
    }
    assert_eq!(n_made, 1);
    assert_eq!(store.count_usable_keys(at(100)).await.expect("count"), 1);
}

async fn keys_move_to_another_store<S: KeyStore + ?Sized>(from: &S, to: &S) {
    assert!(from.archived_keys().await.expect("read").is_empty());
    from.create_key(&restricted("first"), &hash(1)).await.expect("create");
    from.create_key(&key("second", None), &hash(2)).await.expect("create");
    from.touch_key(&KeyId::new("second"), at(150)).await.expect("touch");
    from.revoke_key(&KeyId::new("second")).await.expect("revoke");
    let second = ApiKey { last_used_at: Some(at(150)), is_active: false, ..key("second", None) };
    let all = from.archived_keys().await.expect("read");
    assert_eq!(all, [(hash(1), restricted("first")), (hash(2), second)]);
    for (hash, key) in &all {
        to.create_key(key, hash).await.expect("create");
    }
    assert_eq!(to.archived_keys().await.expect("read"), all);
}

async fn keys_of_a_user_are_erased(store: &(impl KeyStore + ?Sized)) {
    for (number, (id, user)) in (1..).zip([("a", Some("ann")), ("b", None), ("c", Some("bob")), ("d", Some("ann"))]) {
        store.create_key(&key(id, user), &hash(number)).await.expect("create");
    }
    assert_eq!(store.remove_keys_of(&UserId::new("ann")).await.expect("remove"), 2);
    assert_eq!(store.remove_keys_of(&UserId::new("ann")).await.expect("remove"), 0);
    assert_eq!(ids(store, None).await, ["c", "b"]);
    assert_eq!(store.find_key(&hash(1)).await.expect("find"), None);
}

async fn bad_keys_are_refused(store: &(impl KeyStore + ?Sized)) {
    let bad = [
        ApiKey { scopes: BTreeSet::new(), ..key("a", None) },
        ApiKey { cubes: Some(BTreeSet::new()), ..key("a", None) },
        ApiKey { description: Some("x".repeat(10_000)), ..key("a", None) },
    ];
    for key in bad {
        let error = store.create_key(&key, &hash(1)).await.expect_err("refused");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
        let error = store.create_first_key(&key, &hash(1)).await.expect_err("refused");
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    }
    assert_eq!(store.count_usable_keys(at(100)).await.expect("count"), 0);
}
