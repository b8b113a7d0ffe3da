//! Keys: made, found, refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mos::config::Setting;
use mos::keys::{KeyError, NewKey};
use mos::product::{Caller, Identity, Scope};
use mos::{Error, Mos, Settings};
use mos_core::users::ROOT_USER;
use mos_core::{CubeId, KeyId, KeyScope, UserId, UserRole};
use mos_testkit::clock::SetClock;
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

async fn mos_at(folder: &Path, clock: Arc<SetClock>) -> Mos {
    let settings = Settings::from_json(&json!({"models_dir": folder.join("models")})).unwrap();
    let builder = Mos::builder(settings).data_dir(folder).clock(clock);
    builder.embedder(Arc::new(WordEmbedder::new("words", 64))).build().await.unwrap()
}

async fn mos() -> (Mos, Arc<SetClock>, tempfile::TempDir) {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SetClock::default()));
    (mos_at(folder.path(), Arc::clone(&clock)).await, clock, folder)
}

fn day() -> Duration {
    Duration::from_secs(24 * 3600)
}

#[tokio::test]
async fn a_key_is_found_by_its_text_and_makes_its_caller() {
    let (mos, _, _folder) = mos().await;
    let cubes = [CubeId::new("notes")];
    let new = NewKey { scopes: [KeyScope::Read].into(), cubes: Some(cubes.clone().into()), ..NewKey::user("ann") };
    let made = mos.create_key(new).await.unwrap();
    let found = mos.find_key(made.text.expose()).await.unwrap();
    let caller = Caller::from(&found);
    assert_eq!(caller.identity, Identity::User(UserId::new("ann")));
    assert_eq!(caller.scopes, BTreeSet::from([Scope::Read]));
    assert_eq!(caller.cubes, Some(BTreeSet::from(cubes)));
    assert!(made.text.expose().starts_with(&found.prefix) && found.prefix.len() == 12);
    assert!(mos.has_user(&UserId::new("ann")).await.unwrap(), "its user is made");
    let program = mos.create_key(NewKey::program()).await.unwrap();
    assert!(program.text.expose().starts_with("mk_"));
    assert_eq!(Caller::from(&program.key), Caller::program());
}

#[tokio::test]
async fn why_a_key_is_refused_is_told() {
    let (mos, clock, _folder) = mos().await;
    let ends = mos.create_key(NewKey { expires_in: Some(day()), ..NewKey::user("ann") }).await.unwrap();
    let revoked = mos.create_key(NewKey::user("ann")).await.unwrap();
    let of_bob = mos.create_key(NewKey::user("bob")).await.unwrap();
    clock.advance(day() - Duration::from_secs(1));
    let found = mos.find_key(ends.text.expose()).await.unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(matches!(mos.find_key(ends.text.expose()).await, Err(KeyError::Expired)));
    assert!(matches!(mos.check_key(&found), Err(KeyError::Expired)), "also without the store");
    mos.revoke_key(&revoked.key.id).await.unwrap();
    assert!(matches!(mos.find_key(revoked.text.expose()).await, Err(KeyError::Revoked)));
    mos.delete_user(&UserId::new("bob")).await.unwrap();
    mos.create_user("bob", None).await.unwrap();
    assert!(
        matches!(mos.find_key(of_bob.text.expose()).await, Err(KeyError::Unknown)),
        "who comes back has no old keys"
    );
    let unknown = format!("krlk_{}", "0".repeat(64));
    assert!(matches!(mos.find_key(&unknown).await, Err(KeyError::Unknown)));
    assert!(matches!(mos.find_key("krlk_0").await, Err(KeyError::Malformed)));
    let texts: Vec<String> = [KeyError::Unknown, KeyError::Expired, KeyError::Revoked, KeyError::NoUser]
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(texts.iter().all(|text| text == &texts[0]), "nobody learns which keys there were");
}

#[tokio::test]
async fn the_first_key_is_made_when_none_is_usable() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(SetClock::default()));
    let first = {
        let mos = mos_at(folder.path(), Arc::clone(&clock)).await;
        let first = mos.first_key().await.unwrap().expect("there is none yet");
        assert!(mos.first_key().await.unwrap().is_none());
        first
    };
    let mos = mos_at(folder.path(), clock).await;
    assert!(mos.first_key().await.unwrap().is_none(), "it is kept");
    assert_eq!(Caller::from(&mos.find_key(first.text.expose()).await.unwrap()), Caller::program());
    mos.revoke_key(&first.key.id).await.unwrap();
    let second = mos.first_key().await.unwrap().expect("nobody could get in any more");
    assert_ne!(second.text.expose(), first.text.expose());
}

#[tokio::test]
async fn the_text_of_a_key_is_nowhere_on_disk() {
    let (mos, _, folder) = mos().await;
    let made = mos.create_key(NewKey::user("ann")).await.unwrap();
    mos.find_key(made.text.expose()).await.unwrap();
    let secret = &made.text.expose()[20..];
    let mut n_bytes = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            n_bytes += bytes.len();
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{}", path.display());
        }
    }
    assert!(n_bytes > 0, "the database was looked at");
    assert!(!format!("{made:?} {:?}", mos.list_keys(None).await.unwrap()).contains(secret));
}

#[tokio::test]
async fn a_use_is_noted_once_a_minute() {
    let (mos, clock, _folder) = mos().await;
    let made = mos.create_key(NewKey::user("ann")).await.unwrap();
    let last = async || mos.list_keys(None).await.unwrap()[0].last_used_at;
    assert_eq!(last().await, None);
    mos.find_key(made.text.expose()).await.unwrap();
    let first = last().await;
    assert_eq!(first, Some(made.key.created_at));
    clock.advance(Duration::from_secs(59));
    mos.find_key(made.text.expose()).await.unwrap();
    assert_eq!(last().await, first);
    clock.advance(Duration::from_secs(1));
    mos.find_key(made.text.expose()).await.unwrap();
    assert!(last().await > first);
}

#[tokio::test]
async fn administrators_make_keys_of_whom_they_administer() {
    let (mos, _, _folder) = mos().await;
    let (root, adam) = (UserId::new(ROOT_USER), UserId::new("adam"));
    mos.create_user_as(&root, "adam", None, UserRole::Admin).await.unwrap();
    mos.create_user_as(&root, "eve", None, UserRole::Admin).await.unwrap();
    mos.create_user_as(&root, "ann", None, UserRole::User).await.unwrap();
    assert!(mos.create_key_as(&root, NewKey::program()).await.is_ok());
    for user in ["ann", "adam", "new"] {
        assert!(mos.create_key_as(&adam, NewKey::user(user)).await.is_ok(), "{user}");
    }
    for new in [NewKey::program(), NewKey::user("eve"), NewKey::user(ROOT_USER)] {
        let error = mos.create_key_as(&adam, new).await.unwrap_err();
        assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    }
    let error = mos.create_key_as(&UserId::new("ann"), NewKey::user("ann")).await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
}

#[tokio::test]
async fn administrators_revoke_keys_of_whom_they_administer() {
    let (mos, _, _folder) = mos().await;
    let [root, adam, ann] = [ROOT_USER, "adam", "ann"].map(UserId::from);
    for (user, role) in [("adam", UserRole::Admin), ("eve", UserRole::Admin), ("ann", UserRole::User)] {
        mos.create_user_as(&root, user, None, role).await.unwrap();
    }
    let key = async |new: NewKey| mos.create_key(new).await.unwrap().key.id;
    let beyond = [key(NewKey::program()).await, key(NewKey::user("eve")).await, key(NewKey::user(ROOT_USER)).await];
    for id in beyond.iter().chain([&KeyId::new("unknown")]) {
        let error = mos.revoke_key_as(&adam, id).await.unwrap_err();
        assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    }
    let (of_ann, of_adam) = (key(NewKey::user("ann")).await, key(NewKey::user("adam")).await);
    let error = mos.revoke_key_as(&ann, &of_ann).await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "who administers nobody revokes nothing: {error}");
    assert!(mos.list_keys(None).await.unwrap().iter().all(|key| key.is_active), "nothing was revoked");
    for id in [&of_ann, &of_adam] {
        assert_eq!(mos.revoke_key_as(&adam, id).await.unwrap().id, *id);
    }
    for key in mos.list_keys(None).await.unwrap() {
        assert_eq!(key.is_active, beyond.contains(&key.id), "{key:?}");
    }
    for id in &beyond {
        mos.revoke_key_as(&root, id).await.expect("ROOT revokes any");
    }
    assert!(mos.list_keys(None).await.unwrap().iter().all(|key| !key.is_active));
    assert!(mos.revoke_key_as(&root, &KeyId::new("unknown")).await.is_err());
}

#[tokio::test]
async fn a_restricted_key_never_administers() {
    let (mos, _, _folder) = mos().await;
    let new = NewKey { cubes: Some([CubeId::new("notes")].into()), ..NewKey::program() };
    let error = mos.create_key(new).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}
