//! Memories on a Neo4j server with users in PostgreSQL.

use std::path::Path;
use std::sync::Arc;

use mos::config::Setting;
use mos::scheduler::{HandlerContext, HandlerError, Registration, ScheduleMessage};
use mos::{Add, Error, Mos, NewCube, Search, Settings};
use mos_core::{CubeId, Expected, MemoryError, RandomIds, Scope, StateStore, StoreError, SystemClock};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::services;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{ann, bob};

async fn build(folder: &Path, store: &Value, user_manager: &Value) -> mos::Result<Mos> {
    let settings = json!({"store": store, "user_manager": user_manager, "models_dir": folder.join("models")});
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(&settings).unwrap();
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await
}

fn neo4j(uri: &str, user: &str, password: &str) -> Value {
    json!({"backend": "neo4j", "config": {"uri": uri, "user": user, "password": password}})
}

/// The servers of the environment, as settings. Cubes of other runs are told apart by their names.
pub(crate) fn servers(test: &str) -> Option<(Value, Value, CubeId)> {
    let [uri, user, password] = ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"].map(services::address);
    let (store, url) = (neo4j(&uri?, &user?, &password?), services::address("DATABASE_URL")?);
    let name = format!("mos_servers_{test}_{}", std::process::id());
    let users = json!({"backend": "postgres", "config": {"url": url, "schema_name": name}});
    Some((store, users, CubeId::new(format!("{name}-notes"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_share_memories_through_servers() {
    let Some((store, users, notes)) = servers("shared") else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = build(folders[0].path(), &store, &users).await.unwrap();
    let other = build(folders[1].path(), &store, &users).await.unwrap();
    for user in ["ann", "bob"] {
        one.create_user(user, None).await.unwrap();
    }
    one.create_cube(&ann(), NewCube::new(notes.clone())).await.unwrap();
    one.add(Add::text("My dog is called Max").user("ann").cube(notes.clone())).await.unwrap();
    let ask = |mos: &Mos, user: &str| {
        let search = Search::new("dog").user(user).cubes(vec![notes.clone()]);
        let mos = mos.clone();
        async move { mos.search(search).await.map(|found| found.best().len()) }
    };
    assert_eq!(ask(&other, "ann").await.unwrap(), 1, "what one machine writes the other finds");
    assert!(matches!(ask(&other, "bob").await, Err(Error::NoAccess { .. })));
    other.share_cube_with_user(&ann(), &notes, &bob()).await.unwrap();
    assert_eq!(ask(&one, "bob").await.unwrap(), 1);
    let report = one.doctor().await.unwrap();
    assert!(report.facts["store"].starts_with("Neo4j at bolt://"), "{report:?}");
    // Dumped here, loaded into a record of another kind.
    let dump = folders[0].path().join("dump");
    one.dump(&ann(), Some(&notes), &dump).await.unwrap();
    let embedded = build(
        folders[1].path(),
        &json!({"backend": "memory", "config": {}}),
        &json!({"backend": "sqlite",
        "config": {}}),
    )
    .await
    .unwrap();
    embedded.create_user("ann", None).await.unwrap();
    embedded.register_mem_cube(&ann(), mos::CubeSource::Directory(dump), Some(&notes)).await.unwrap();
    assert_eq!(ask(&embedded, "ann").await.unwrap(), 1);
    // A deleted cube takes its memories along.
    one.delete_cube(&ann(), &notes).await.unwrap();
    assert!(ask(&other, "bob").await.is_err());
    other.create_cube(&bob(), NewCube::new(notes.clone())).await.unwrap();
    assert_eq!(ask(&one, "bob").await.unwrap(), 0);
    other.delete_cube(&bob(), &notes).await.unwrap();
}

/// What a handler under way hands out: its documents, and what lets it go on.
type UnderWay = (Arc<dyn StateStore>, oneshot::Sender<()>);

/// A handler that waits in the middle of its work, then writes a document.
fn writer(sender: mpsc::Sender<UnderWay>) -> Registration {
    Registration::new(move |context: HandlerContext, _: Vec<ScheduleMessage>| {
        let sender = sender.clone();
        async move {
            let (go_on, gone_on) = oneshot::channel();
            sender.send((Arc::clone(&context.state), go_on)).await.map_err(HandlerError::give_up)?;
            gone_on.await.map_err(HandlerError::give_up)?;
            let scope = Scope::of(&context.cube.info.cube_id);
            context.state.write(&scope, "diary", &json!("a secret"), Expected::Anything).await?;
            Ok(())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_writes_for_a_cube_that_is_deleted_meanwhile_goes_too() {
    let Some((store, users, notes)) = servers("meanwhile") else { return };
    let Some(redis) = services::address("REDIS_URL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let prefix = format!("mos-meanwhile-{}", std::process::id());
    let settings = json!({
        "store": store,
        "user_manager": users,
        "queue": {"backend": "redis", "config": {"url": redis, "prefix": prefix}},
        "enable_mem_scheduler": true,
        "models_dir": folder.path().join("models"),
    });
    let (sender, mut under_way) = mpsc::channel(1);
    let builder = Mos::builder(Settings::from_json(&settings).unwrap()).handlers([("write", writer(sender))]);
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = builder.data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new(notes.clone())).await.unwrap();
    mos.mem_scheduler_on().unwrap();
    let scheduler = mos.scheduler().unwrap();
    let message = ScheduleMessage::new("write", ann(), notes.clone(), "", &SystemClock, &RandomIds);
    scheduler.submit_messages(vec![message]).await.unwrap();
    let (state, go_on) = under_way.recv().await.unwrap();
    mos.delete_cube(&ann(), &notes).await.unwrap();
    go_on.send(()).unwrap();
    mos.stop().await;
    let scope = Scope::of(&notes);
    assert_eq!(state.keys(&scope, "", None, 10).await.unwrap(), Vec::<String>::new());
    // Nor is anything taken later, until there is a cube of this id again, which begins with nothing.
    let late = state.write(&scope, "diary", &json!("a secret"), Expected::Anything).await;
    assert!(matches!(late, Err(StoreError::NotFound { .. })), "{late:?}");
    mos.create_cube(&ann(), NewCube::new(notes.clone())).await.unwrap();
    assert_eq!(state.read(&scope, "diary").await.unwrap(), None);
    assert_eq!(state.write(&scope, "diary", &json!("new"), Expected::Anything).await.unwrap(), 1);
    mos.delete_cube(&ann(), &notes).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = json!({"backend": "sqlite", "config": {}});
    // Nobody listens on port 9.
    let error = build(folder.path(), &neo4j("bolt://127.0.0.1:9", "neo4j", "hunter2"), &sqlite).await.unwrap_err();
    assert!(matches!(&error, Error::Memory(MemoryError::Store(StoreError::Unavailable { .. }))), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let Some((store, ..)) = servers("alone") else { return };
    let error = build(folder.path(), &store, &sqlite).await.unwrap_err().to_string();
    assert!(error.contains("user_manager.backend") && error.contains("postgres"), "{error}");
    let mut wrong = store;
    wrong["config"]["password"] = json!("hunter2");
    let error = build(folder.path(), &wrong, &sqlite).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    assert!(format!("{error:?}").to_lowercase().contains("password"), "{error:?}");
}

#[tokio::test]
async fn every_server_that_cannot_be_used_is_told_of() {
    // Nobody listens on port 9.
    let away = json!({
        "store": neo4j("bolt://127.0.0.1:9", "neo4j", "hunter2"),
        "queue": {"backend": "redis", "config": {"host": "127.0.0.1", "port": 9, "password": "hunter2"}},
        "user_manager": {"backend": "postgres", "config": {"host": "127.0.0.1", "port": 9, "password": "hunter2"}},
    });
    let report = mos::check_services(&Settings::from_json(&away).unwrap()).await;
    let parts: Vec<&str> = report.findings.iter().map(|finding| finding.what.split(':').next().unwrap()).collect();
    assert_eq!(parts, ["store", "queue", "user_manager"], "{report:?}");
    let is_named =
        |finding: &mos::Finding| finding.detail.contains("127.0.0.1:9") || finding.detail.contains("feature");
    assert!(report.findings.iter().all(is_named), "{report:?}");
    assert!(!format!("{report:?}").contains("hunter2"));
    let Some((store, users, _)) = servers("doctor") else { return };
    let Some(redis) = services::address("REDIS_URL") else { return };
    let prefix = format!("mos-doctor-{}", std::process::id());
    let queue = json!({"backend": "redis", "config": {"url": redis, "prefix": prefix}});
    let one_away = json!({"store": store, "queue": queue, "user_manager": away["user_manager"]});
    let report = mos::check_services(&Settings::from_json(&one_away).unwrap()).await;
    assert_eq!((report.findings.len(), report.facts.len()), (1, 2), "{report:?}");
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({"store": store, "queue": queue, "user_manager": users});
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(&settings).unwrap();
    let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    let report = mos.doctor().await.unwrap();
    assert_eq!((report.facts["queue"].as_str(), report.facts["jobs waiting"].as_str()), ("redis", "0"));
    assert_eq!(report.facts["store: access"], "read-write");
    assert!(mos.queue().is_some());
}

#[tokio::test]
async fn the_servers_that_only_the_scheduler_needs_are_asked_too() {
    // Nobody listens on port 9.
    let scheduler = json!({
        "use_redis_queue": true,
        "redis_config": {"host": "127.0.0.1", "port": 9, "password": "hunter2"},
        "rabbitmq": {"host_name": "127.0.0.1", "port": 9, "user_name": "ann", "password": "hunter2"},
    });
    let away = json!({
        "store": neo4j("bolt://127.0.0.1:9", "neo4j", "hunter2"),
        "enable_mem_scheduler": true,
        "mem_scheduler": {"backend": "general_scheduler", "config": scheduler},
    });
    let report = mos::check_services(&Settings::from_json(&away).unwrap()).await;
    let parts: Vec<&str> = report.findings.iter().map(|finding| finding.what.split(':').next().unwrap()).collect();
    let expected = ["store", "mem_scheduler.config.redis_config", "mem_scheduler.config.rabbitmq"];
    assert_eq!(parts, expected, "{report:?}");
    assert!(!format!("{report:?}").contains("hunter2"));
    let mut unscheduled = away;
    unscheduled["enable_mem_scheduler"] = json!(false);
    let report = mos::check_services(&Settings::from_json(&unscheduled).unwrap()).await;
    assert_eq!(report.findings.len(), 1, "nothing is asked that is not used: {report:?}");
}

#[test]
fn a_queue_that_the_record_cannot_use_is_refused() {
    let with = |store: Value, queue: &str| {
        let queue = json!({"backend": queue, "config": {}});
        Settings::from_json(&json!({"store": store, "queue": queue})).map(drop)
    };
    let sqlite = json!({"backend": "sqlite", "config": {}});
    assert!(with(sqlite.clone(), "sqlite").is_ok());
    assert!(with(sqlite, "redis").unwrap_err().to_string().contains("keeps jobs itself"));
    let server = neo4j("bolt://127.0.0.1:9", "neo4j", "x");
    assert!(with(server.clone(), "redis").is_ok() && with(server.clone(), "memory").is_ok());
    assert!(with(server, "sqlite").unwrap_err().to_string().contains("redis"));
}
