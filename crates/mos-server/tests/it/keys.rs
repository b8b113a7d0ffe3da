//! Who gets in, and with what.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use mos::keys::{NewKey, hash_of};
use mos_core::{CubeId, KeyScope, UserId};
use mos_server::{AuthMode, ServerOptions};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::guarded::{Guarded, bytes_below, holds, options};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

/// Well formed, and nobody's.
fn stranger() -> String {
    format!("krlk_{}", "0".repeat(64))
}

#[tokio::test]
async fn without_a_good_key_nobody_gets_in() {
    let house = Guarded::open().await;
    let response = house.request(Method::GET, "/admin/keys").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["code"], message(&body), &body["data"]), (&json!(401), "Missing API key", &Value::Null));
    let stranger = stranger();
    let cases = [
        ("Bearer", "Missing API key"),
        ("sk-123", "Invalid API key format"),
        ("Basic cm9vdDpyb290", "Invalid API key format"),
        (stranger.as_str(), "Invalid or expired API key"),
    ];
    for (key, expected) in cases {
        let (status, body) = house.get("/admin/keys", key).await;
        assert_eq!((status, message(&body)), (401, expected), "{key}");
    }
    for path in ["/health", "/ready", "/admin/health"] {
        assert_eq!(house.request(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_key_is_taken_in_every_spelling() {
    let house = Guarded::open().await;
    let root = house.root.clone();
    for value in [root.clone(), format!("Bearer {root}"), format!("bearer {root}"), format!("Token {root}")] {
        assert_eq!(house.get("/admin/keys", &value).await.0, 200);
    }
    let response = house.request(Method::GET, "/admin/keys").header("X-API-Key", &root).send().await.unwrap();
    assert_eq!(response.status(), 200);
    house.close().await;
}

#[tokio::test]
async fn nothing_but_a_key_is_trusted() {
    let house = Guarded::open().await;
    let headers = [
        ("X-Internal-Service", "None"),
        ("X-Internal-Service", ""),
        ("X-User-Name", "root"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
    ];
    for (name, value) in headers {
        let response = house.request(Method::GET, "/admin/keys").header(name, value).send().await.unwrap();
        assert_eq!(response.status(), 401, "{name}: {value}, from loopback at that");
    }
    house.close().await;
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_when_it_is_revoked() {
    let house = Guarded::open().await;
    let day = Duration::from_secs(24 * 3600);
    let ends = house.key(NewKey { expires_in: Some(day), ..NewKey::program() }).await;
    assert_eq!(house.get("/admin/keys", &ends).await.0, 200);
    house.clock.advance(day);
    let (status, body) = house.get("/admin/keys", &ends).await;
    assert_eq!((status, message(&body)), (401, "Invalid or expired API key"), "although it was looked up just now");
    let (_, made) = house.post("/admin/keys", &house.root, json!({"user_name": "*", "scopes": ["all"]})).await;
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(house.get("/admin/keys", key).await.0, 200);
    let (status, _) = house.ask(Method::DELETE, &format!("/admin/keys/{id}"), &house.root, Value::Null).await;
    assert_eq!(status, 200);
    let (status, body) = house.get("/admin/keys", key).await;
    assert_eq!((status, message(&body)), (401, "Invalid or expired API key"), "at once");
    house.close().await;
}

#[tokio::test]
async fn a_key_without_the_scope_is_refused() {
    let house = Guarded::open().await;
    let all_but_admin: Vec<KeyScope> = vec![KeyScope::Read, KeyScope::Write];
    for new in [NewKey::user("ann"), NewKey { scopes: all_but_admin.into_iter().collect(), ..NewKey::program() }] {
        let key = house.key(new).await;
        for path in ["/admin/keys", "/admin/users", "/admin/audit"] {
            let (status, body) = house.get(path, &key).await;
            assert_eq!(status, 403, "{path}: {body}");
        }
        assert_eq!(house.post("/admin/generate-master-key", &key, Value::Null).await.0, 403);
    }
    let reader = house.key(NewKey { scopes: [KeyScope::Read].into(), ..NewKey::user("ann") }).await;
    let add = json!({"user_id": "ann", "messages": "Max is a dog", "async_mode": "sync", "mode": "fast"});
    assert_eq!(house.post("/product/add", &reader, add).await.0, 403);
    house.close().await;
}

#[tokio::test]
async fn a_key_opens_its_user_and_its_cubes_alone() {
    let house = Guarded::open().await;
    let (ann, bob) = (house.key(NewKey::user("ann")).await, house.key(NewKey::user("bob")).await);
    let add = |user: &str, cube: &str, text: &str| json!({"user_id": user, "writable_cube_ids": [cube], "messages": text, "async_mode": "sync", "mode": "fast"});
    assert_eq!(house.post("/product/add", &ann, add("ann", "notes", "Max is a dog")).await.0, 200);
    assert_eq!(house.post("/product/add", &ann, add("ann", "work", "Max is late")).await.0, 200);
    let search = |user: &str, cube: &str| json!({"query": "Max", "user_id": user, "readable_cube_ids": [cube]});
    for (key, user, cube) in [(&bob, "ann", "notes"), (&bob, "bob", "notes"), (&ann, "bob", "notes")] {
        let (status, body) = house.post("/product/search", key, search(user, cube)).await;
        assert_eq!(status, 403, "{user} in {cube}: {body}");
        assert!(!body.to_string().contains("dog"));
    }
    let restricted = NewKey { cubes: Some([CubeId::new("notes")].into()), ..NewKey::user("ann") };
    let restricted = house.key(restricted).await;
    assert_eq!(house.post("/product/search", &restricted, search("ann", "notes")).await.0, 200);
    assert_eq!(house.post("/product/search", &restricted, search("ann", "work")).await.0, 403);
    assert_eq!(house.post("/product/add", &restricted, add("ann", "work", "Max is gone")).await.0, 403);
    house.close().await;
}

#[tokio::test]
async fn keys_of_a_deleted_user_open_nothing() {
    let house = Guarded::open().await;
    let ann = house.key(NewKey::user("ann")).await;
    assert_eq!(house.get("/admin/keys", &ann).await.0, 403, "it is known");
    let (status, _) = house.ask(Method::DELETE, "/admin/users/ann", &house.root, Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(house.get("/admin/keys", &ann).await.0, 401);
    house.app.mos().create_user(UserId::new("ann"), None).await.unwrap();
    assert_eq!(house.get("/admin/keys", &ann).await.0, 401, "also when the user comes back");
    house.close().await;
}

#[tokio::test]
async fn who_tries_many_keys_has_to_wait_and_nobody_else() {
    let house = Guarded::open().await;
    assert_eq!(house.get("/admin/keys", &house.root).await.0, 200);
    let mut last = None;
    for number in 0..30 {
        let key = format!("krlk_{number:064x}");
        let response = house.request(Method::GET, "/admin/keys").header("Authorization", key).send().await.unwrap();
        let is_last = response.status() == 429;
        last = Some(response);
        if is_last {
            break;
        }
    }
    let last = last.unwrap();
    assert_eq!(last.status(), 429);
    let seconds: u64 = last.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(house.get("/admin/keys", &house.root).await.0, 200, "a key that was good a moment ago still is");
    house.close().await;
}

#[tokio::test]
async fn an_open_server_asks_nobody_and_makes_no_key() {
    let options = ServerOptions { auth: AuthMode::Open, ..options() };
    let house = Guarded::over(tempfile::tempdir().unwrap(), options, None).await;
    assert_eq!(house.root, "");
    assert_eq!(house.request(Method::GET, "/admin/keys").send().await.unwrap().status(), 200);
    house.close().await;
}

#[tokio::test]
async fn a_server_that_was_started_with_a_hash_takes_its_key() {
    let house = Guarded::open().await;
    let (status, made) = house.post("/admin/generate-master-key", &house.root, Value::Null).await;
    assert_eq!(status, 200);
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(made["env_line"], json!(format!("MASTER_KEY_HASH={}", made["key_hash"].as_str().unwrap())));
    assert_eq!(house.get("/admin/keys", &key).await.0, 401, "this one was started without");
    house.close().await;
    let hash = hash_of(&key).unwrap();
    assert_eq!(json!(hash.hex()), made["key_hash"]);
    let house = Guarded::over(tempfile::tempdir().unwrap(), options(), Some(hash)).await;
    assert_eq!(house.root, "", "no other key is needed");
    assert_eq!(house.get("/admin/keys", &key).await.0, 200);
    house.close().await;
}

#[tokio::test]
async fn the_first_start_alone_makes_a_key() {
    let house = Guarded::open().await;
    let root = house.root.clone();
    assert!(root.starts_with("mk_"));
    let folder = house.close().await;
    let house = Guarded::over(folder, options(), None).await;
    assert_eq!(house.root, "");
    assert_eq!(house.get("/admin/keys", &root).await.0, 200);
    house.close().await;
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn keys_are_neither_in_logs_nor_on_disk() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the capture works");
    let house = Guarded::open().await;
    let stranger = format!("krlk_{}", "1234abcd".repeat(8));
    let (_, made) = house.post("/admin/keys", &house.root, json!({"user_name": "ann"})).await;
    let key = made["key"].as_str().unwrap().to_owned();
    for key in [&house.root, &key, &stranger, &format!("Bearer {}x", &house.root)] {
        let (_, body) = house.get("/admin/users", key).await;
        assert!(!body.to_string().contains(key.as_str()), "{body}");
    }
    let (_, listed) = house.get("/admin/keys", &house.root).await;
    let secrets = [house.root[20..].to_owned(), key[20..].to_owned(), stranger[20..].to_owned()];
    let folder = house.close().await;
    drop(guard);
    let (logs, disk) = (captured.0.lock().unwrap().clone(), bytes_below(folder.path()));
    assert!(holds(&logs, "the capture works") && holds(&disk, "ann"));
    for secret in &secrets {
        assert!(!holds(&logs, secret), "in the log");
        assert!(!holds(&disk, secret), "on disk");
        assert!(!listed.to_string().contains(secret), "in the list of keys");
    }
}

/// Listens to what happens in ann's cube, and returns the rest of what comes after the first frame.
async fn listening(house: &Guarded, key: &str) -> BoxStream<'static, reqwest::Result<Bytes>> {
    let request = house.request(Method::GET, "/dashboard/api/events/stream?cube=notes").header("Authorization", key);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut frames = response.bytes_stream().boxed();
    let first = timeout(PATIENCE, frames.next()).await.unwrap().unwrap().unwrap();
    assert!(first.starts_with(b"data: {\"type\":\"open\""), "{first:?}");
    frames
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked_and_those_of_other_keys_go_on() {
    let more = json!({"enable_mem_scheduler": true});
    let house = Guarded::with_settings(tempfile::tempdir().unwrap(), options(), None, more).await;
    let other = house.key(NewKey::user("ann")).await;
    let body = json!({"user_name": "ann", "scopes": ["read", "write"]});
    let (_, made) = house.post("/admin/keys", &house.root, body).await;
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let add = json!({"user_id": "ann", "writable_cube_ids": ["notes"], "messages": "Max is a dog", "async_mode": "sync", "mode": "fast"});
    assert_eq!(house.post("/product/add", key, add).await.0, 200);
    let (mut ends, mut goes_on) = (listening(&house, key).await, listening(&house, &other).await);
    let (status, _) = house.ask(Method::DELETE, &format!("/admin/keys/{id}"), &house.root, Value::Null).await;
    assert_eq!(status, 200);
    let rest = async {
        while let Some(frame) = ends.next().await {
            if frame.is_err() {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, rest).await.expect("it ends"), "it breaks off: what came is not all");
    assert!(!matches!(goes_on.next().now_or_never(), Some(None)), "nobody revoked its key");
    drop(goes_on);
    house.close().await;
}
