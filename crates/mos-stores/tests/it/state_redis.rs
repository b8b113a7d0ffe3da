//! Documents and logs on a Redis server: the contract, and what the server holds of them.
//!
//! The contract runs on the server that `REDIS_URL` names, else on one that the test starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mos_core::{Expected, JobQueue, NewJob, Scope, ScopeLifecycle, StateStore, StoreError};
use mos_stores::{RedisOptions, RedisQueue, RedisState};
use mos_testkit::clock::SetClock;
use mos_testkit::contracts;
use serde_json::json;

use super::redis_server::RedisServer;

fn scope() -> Scope {
    Scope { cube: "c:d".into() }
}

fn keys(connection: &mut redis::Connection, pattern: &str) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(connection).unwrap();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_state_contract() {
    let given = std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    let own = if given.is_none() { RedisServer::start(&[]) } else { None };
    let Some(url) = given.or_else(|| own.as_ref().map(RedisServer::url)) else { return };
    let (run, n_made) = (format!("mos-state-{}", std::process::id()), AtomicU64::new(0));
    let make = async || {
        let mut options = RedisOptions::from_url(&url).unwrap();
        options.prefix = format!("{run}-{}", n_made.fetch_add(1, Ordering::SeqCst));
        RedisState::open(options).await.unwrap() as Arc<dyn StateStore>
    };
    contracts::state::run(make).await;
    let told = async || {
        let mut options = RedisOptions::from_url(&url).unwrap();
        options.prefix = format!("{run}-told-{}", n_made.fetch_add(1, Ordering::SeqCst));
        let state = RedisState::open(options).await.unwrap();
        (Arc::clone(&state) as Arc<dyn StateStore>, state as Arc<dyn ScopeLifecycle>)
    };
    contracts::state_scopes::run(told).await;
    let reopened = async || {
        let mut options = RedisOptions::from_url(&url).unwrap();
        options.prefix = format!("{run}-reopened");
        RedisState::open(options).await.unwrap() as Arc<dyn StateStore>
    };
    contracts::state::survives_reopening(reopened).await;
    let mut connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let ours = keys(&mut connection, &format!("{{{run}-*"));
    assert!(!ours.is_empty());
    if own.is_some() {
        assert_eq!(keys(&mut connection, "*"), ours, "there are no keys without the prefix");
    }
    for chunk in ours.chunks(500) {
        redis::cmd("DEL").arg(chunk).query::<i64>(&mut connection).unwrap();
    }
}

#[tokio::test]
async fn state_and_jobs_share_a_server_and_stay_apart() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let clock = Arc::new(SetClock::default());
    let queue = RedisQueue::open(RedisOptions::from_url(&server.url()).unwrap(), clock).await.unwrap();
    let state = queue.state();
    state.write(&scope(), "a", &json!(1), Expected::Absent).await.unwrap();
    state.append(&scope(), "log of: things", &[json!(1)], 5).await.unwrap();
    queue.push(&scope(), vec![NewJob::new("job".into(), "label", json!(1))]).await.unwrap();
    let mut connection = server.connect();
    let key = |name: &str| format!("{{mos}}:state:{name}");
    let expected =
        ["keys:c%3Ad", "last:c%3Ad", "log:c%3Ad:log%20of%3A%20things", "values:c%3Ad", "versions:c%3Ad"].map(key);
    assert_eq!(keys(&mut connection, "{mos}:state:*"), expected);
    assert_eq!(queue.remove_tenant(&scope()).await.unwrap(), 1);
    assert_eq!(keys(&mut connection, "{mos}:state:*"), expected, "jobs go alone");
    let same = RedisState::open(RedisOptions::from_url(&server.url()).unwrap()).await.unwrap();
    assert_eq!(same.read(&scope(), "a").await.unwrap().unwrap().version, 1, "seen by everybody");
    same.remove_scope(&scope()).await.unwrap();
    assert_eq!(keys(&mut connection, "{mos}:state:*"), Vec::<String>::new(), "nothing is left");
}

#[tokio::test]
async fn a_server_without_memory_takes_nothing_but_lets_go() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = RedisState::open(RedisOptions::from_url(&server.url()).unwrap()).await.unwrap();
    state.write(&scope(), "a", &json!(1), Expected::Anything).await.unwrap();
    state.append(&scope(), "log", &[json!(1)], 5).await.unwrap();
    let mut connection = server.connect();
    let mut limit = |bytes: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query::<()>(&mut connection).unwrap();
    };
    limit("100kb");
    let refused = state.write(&scope(), "a", &json!(2), Expected::Anything).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { backend: "redis", .. }), "{refused}");
    state.append(&scope(), "log", &[json!(2)], 5).await.unwrap_err();
    assert_eq!(state.read(&scope(), "a").await.unwrap().unwrap().value, json!(1));
    assert_eq!(state.entries(&scope(), "log", 0, 5).await.unwrap().len(), 1);
    assert!(state.remove(&scope(), "a").await.unwrap());
    state.remove_scope(&scope()).await.unwrap();
    limit("0");
    assert_eq!(state.write(&scope(), "a", &json!(1), Expected::Absent).await.unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let state = RedisState::open(RedisOptions::from_url(&server.url()).unwrap()).await.unwrap();
    state.write(&scope(), "my key", &json!(1), Expected::Anything).await.unwrap();
    let mut connection = server.connect();
    redis::cmd("HSET").arg("{mos}:state:values:c%3Ad").arg("my key").arg("{").query::<i64>(&mut connection).unwrap();
    let error = state.read(&scope(), "my key").await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { what, .. } if what.contains("my key")), "{error}");
    assert_eq!(
        state.write(&scope(), "my key", &json!(2), Expected::Version(1)).await.unwrap(),
        2,
        "it can be replaced"
    );
}
