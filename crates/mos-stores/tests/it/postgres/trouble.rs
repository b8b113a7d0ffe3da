//! Servers that are away, refuse, take no writes, or hang up: each has an error that says what to do, and nothing is
//! half-written.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use mos_core::{Access, CubeId, StoreError, UserId, UserRole, UserStore};
use mos_stores::{InMemoryStore, PostgresOptions, PostgresServer, PostgresUsers, SslMode};
use mos_testkit::clock::SetClock;

use super::server::{Interrupted, Schema, cube, whole};

async fn open(options: PostgresOptions) -> StoreError {
    let clock = Arc::new(SetClock::default());
    PostgresUsers::open(options, InMemoryStore::new(clock.clone()), clock).await.unwrap_err()
}

fn at(url: String) -> PostgresOptions {
    PostgresOptions { connect_timeout: Duration::from_millis(500), ..PostgresOptions::new(PostgresServer::Url(url)) }
}

/// The address of the server with other parts: `None` leaves one as it is.
fn changed(url: &str, password: Option<&str>, database: Option<&str>) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (credentials, server) = rest.rsplit_once('@').expect("DATABASE_URL names a user");
    let user = credentials.split(':').next().unwrap();
    let credentials = password.map_or(credentials.to_owned(), |password| format!("{user}:{password}"));
    let host = server.split('/').next().unwrap();
    let server = database.map_or(server.to_owned(), |database| format!("{host}/{database}"));
    format!("{scheme}://{credentials}@{server}")
}

#[tokio::test]
async fn a_dead_port_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = open(at(format!("postgres://ann:geheim@127.0.0.1:{port}/memos"))).await;
    assert!(matches!(error, StoreError::Unavailable { backend: "postgres", .. }), "{error}");
    let text = whole(&error);
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("start it"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = open(at(format!("postgres://ann:geheim@127.0.0.1:{port}/memos"))).await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(whole(&error).contains("within 0.5 s"), "{}", whole(&error));
}

#[tokio::test]
async fn a_server_of_another_kind_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = open(at(format!("postgres://ann:geheim@127.0.0.1:{port}/memos"))).await;
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("protocol"), "{error}");
    thread.join().unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let Some(schema) = Schema::new().await else { return };
    let error = open(at(changed(&schema.url, Some("wr0ng"), None))).await;
    assert!(matches!(error, StoreError::Refused { backend: "postgres", .. }), "{error}");
    let text = whole(&error);
    assert!(text.contains("password") && !text.contains("wr0ng"), "{text}");
    schema.drop().await;
}

#[tokio::test]
async fn an_unknown_database_is_named() {
    let Some(schema) = Schema::new().await else { return };
    let error = open(at(changed(&schema.url, None, Some("no_such_database")))).await;
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("no_such_database") && error.to_string().contains("createdb"), "{error}");
    schema.drop().await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_wanted() {
    let Some(schema) = Schema::new().await else { return };
    let on: String = sqlx::query_scalar("SHOW ssl").fetch_one(&mut schema.connect().await).await.unwrap();
    if on == "off" {
        let error = open(at(schema.address("&sslmode=require"))).await;
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("ssl_mode"), "{error}");
    }
    schema.drop().await;
}

#[tokio::test]
async fn the_parts_of_an_address_do_as_well_as_a_url() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = PostgresServer::Parts {
        host: "127.0.0.1".to_owned(),
        port,
        username: "ann".to_owned(),
        password: "geheim".to_owned(),
        database: "memos".to_owned(),
        ssl_mode: Some(SslMode::Prefer),
        ssl_root_cert: None,
    };
    let text = whole(&open(PostgresOptions::new(server)).await);
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && text.contains("memos") && !text.contains("geheim"),
        "{text}"
    );
}

#[tokio::test]
async fn a_read_only_server_is_read_and_refuses_writes() {
    let Some(schema) = Schema::new().await else { return };
    let read_only = || {
        let server = PostgresServer::Url(schema.address("&options[default_transaction_read_only]=on"));
        PostgresOptions { schema: Some(schema.name.clone()), ..PostgresOptions::new(server) }
    };
    let error = open(read_only()).await;
    assert!(matches!(error, StoreError::Storage { .. }), "no tables can be made: {error}");
    let record = Interrupted::new();
    let store = schema.open(record.clone()).await.unwrap();
    store.create_user(&UserId::new("ann"), "ann", UserRole::User).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    record.write("c").await.unwrap();
    let store = PostgresUsers::open(read_only(), record.clone(), Arc::new(SetClock::default())).await.unwrap();
    assert_eq!(store.users().await.unwrap().len(), 2);
    assert_eq!(store.ensure_user(&UserId::new("ann")).await.unwrap().user_name, "ann", "nothing is to be written");
    let (ann, c) = (UserId::new("ann"), CubeId::new("c"));
    let refused = [
        store.create_user(&UserId::new("bob"), "bob", UserRole::User).await.map(drop),
        store.delete_user(&ann).await,
        store.create_cube(&cube("d")).await,
        store.delete_cube(&c).await,
        store.share(&c, &ann, Access::Member).await,
        store.set_registered(&c, false).await,
    ];
    for (number, result) in refused.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Storage { .. }), "{number}: {error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    let facts = store.facts().await.unwrap();
    assert!(facts.contains(&("read-only".to_owned(), "on".to_owned())), "{facts:?}");
    assert_eq!((store.users().await.unwrap().len(), store.cubes(None).await.unwrap().len()), (2, 1));
    record.write("c").await.unwrap();
    assert_eq!(record.count("c").await, 1, "its memories are still there and take writes");
    // What was begun with it cannot be finished here; that keeps nobody from reading.
    schema.run("UPDATE cubes SET phase = 'discarding', is_registered = false").await;
    assert!(store.cube(&c).await.unwrap().is_some());
    assert_eq!(store.access(&UserId::new("root"), &c).await.unwrap(), Some(Access::Owner));
    assert_eq!(store.cubes(None).await.unwrap().len(), 1);
    PostgresUsers::open(read_only(), record.clone(), Arc::new(SetClock::default())).await.unwrap();
    assert_eq!(record.count("c").await, 1);
    schema.drop().await;
}

#[tokio::test]
async fn idle_connections_that_were_cut_are_replaced() {
    let Some(schema) = Schema::new().await else { return };
    let store = schema.open(Interrupted::new()).await.unwrap();
    for round in 0..3 {
        let name = UserId::new(format!("u{round}"));
        store.create_user(&name, name.as_str(), UserRole::User).await.unwrap();
        assert!(schema.cut_connections().await >= 1, "there was a connection to cut");
        assert_eq!(store.users().await.unwrap().len(), round + 2, "reading goes on");
        assert!(schema.cut_connections().await >= 1);
        store.delete_user(&name).await.unwrap();
        store.create_user(&name, name.as_str(), UserRole::User).await.unwrap();
    }
    schema.drop().await;
}

#[tokio::test]
async fn texts_that_cannot_be_kept_are_refused() {
    let Some(schema) = Schema::new().await else { return };
    let store = schema.open(Interrupted::new()).await.unwrap();
    let error = store.create_user(&UserId::new("nul"), "a\0b", UserRole::User).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(store.users().await.unwrap().len(), 1);
    schema.drop().await;
}

#[tokio::test]
async fn who_holds_a_row_for_long_makes_others_busy_not_stuck() {
    let Some(schema) = Schema::new().await else { return };
    let server = PostgresServer::Url(schema.address("&options[lock_timeout]=100ms"));
    let options = PostgresOptions { schema: Some(schema.name.clone()), ..PostgresOptions::new(server) };
    let store = PostgresUsers::open(options, Interrupted::new(), Arc::new(SetClock::default())).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    let mut other = schema.connect().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM cubes FOR UPDATE").execute(&mut other).await.unwrap();
    let error = store.set_registered(&CubeId::new("c"), false).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    store.set_registered(&CubeId::new("c"), false).await.unwrap();
    drop(other);
    schema.drop().await;
}

/// What the child of the test below is told: the schema.
const SCHEMA: &str = "MOS_TEST_SCHEMA";

/// Opens users by the parts of the address, without a password.
#[tokio::test]
#[ignore = "run by the test below, in an environment of its own"]
async fn child() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let (credentials, server) = url.split_once("://").unwrap().1.rsplit_once('@').unwrap();
    let (address, database) = server.split_once('/').unwrap();
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    let server = PostgresServer::Parts {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        username: credentials.split(':').next().unwrap().to_owned(),
        password: String::new(),
        database: database.split('?').next().unwrap().to_owned(),
        ssl_mode: None,
        ssl_root_cert: None,
    };
    let schema = std::env::var(SCHEMA).unwrap();
    let options = PostgresOptions { schema: Some(schema), ..PostgresOptions::new(server) };
    let store = PostgresUsers::open(options, Interrupted::new(), Arc::new(SetClock::default())).await.unwrap();
    store.create_user(&UserId::new("ann"), "ann", UserRole::User).await.unwrap();
}

#[tokio::test]
async fn a_password_that_is_left_out_is_looked_up_for_the_server_that_is_meant() {
    let Some(schema) = Schema::new().await else { return };
    let (credentials, server) = schema.url.split_once("://").unwrap().1.rsplit_once('@').unwrap();
    let address = server.split(['/', '?']).next().unwrap();
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    let (user, password) = credentials.split_once(':').expect("DATABASE_URL has a password");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    let lines =
        format!("elsewhere:*:*:*:wr0ng\n{host}:1:*:*:wr0ng\n{host}:{port}:*:{user}:{password}\n*:*:*:*:wr0ng\n");
    std::fs::write(&file, lines).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "postgres::trouble::child", "--nocapture"]);
    // Where somebody without settings of `mos` would connect to.
    child.env("PGHOST", "elsewhere").env_remove("PGPASSWORD");
    child.env("PGPASSFILE", &file).env(SCHEMA, &schema.name);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(schema.number("SELECT count(*) FROM users WHERE user_id = 'ann'").await, 1);
    schema.drop().await;
}
