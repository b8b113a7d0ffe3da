//! Tables that are made, found, written by MemOS, of another program, or of a newer version of this one.

use std::sync::Arc;

use mos_core::{Access, CubeId, StoreError, UserId, UserRole, UserStore};
use mos_stores::{InMemoryStore, PostgresOptions, PostgresServer, PostgresUsers, USERS_SCHEMA_VERSION};
use mos_testkit::clock::SetClock;

use super::server::{Interrupted, Schema, cube};

fn record() -> Arc<InMemoryStore> {
    InMemoryStore::new(Arc::new(SetClock::default()))
}

/// As SQLAlchemy makes MemOS' tables, and what MemOS writes into them: an owner is among the users of a cube, a deleted
/// cube stays as a row.
const WRITTEN_BY_MEMOS: &str = "
    CREATE TYPE userrole AS ENUM ('ROOT', 'ADMIN', 'USER', 'GUEST');
    CREATE TABLE users (
        user_id VARCHAR NOT NULL, user_name VARCHAR NOT NULL, role userrole NOT NULL,
        created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
        is_active BOOLEAN NOT NULL, PRIMARY KEY (user_id), UNIQUE (user_name));
    CREATE TABLE cubes (
        cube_id VARCHAR NOT NULL, cube_name VARCHAR NOT NULL, cube_path VARCHAR, owner_id VARCHAR NOT NULL,
        created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
        is_active BOOLEAN NOT NULL, PRIMARY KEY (cube_id), FOREIGN KEY(owner_id) REFERENCES users (user_id));
    CREATE TABLE user_cube_association (
        user_id VARCHAR NOT NULL, cube_id VARCHAR NOT NULL, created_at TIMESTAMP WITHOUT TIME ZONE,
        PRIMARY KEY (user_id, cube_id), FOREIGN KEY(user_id) REFERENCES users (user_id),
        FOREIGN KEY(cube_id) REFERENCES cubes (cube_id));
    INSERT INTO users VALUES
        ('u-bob', 'bob', 'GUEST', '2025-03-02 10:00:00', '2025-03-02 10:00:00', true),
        ('root', 'root', 'ROOT', '2025-03-01 09:00:00.123456', '2025-03-01 09:00:00', true),
        ('u-ann', 'ann', 'USER', '2025-03-01 10:00:00', '2025-03-01 10:00:00', true),
        ('u-cid', 'cid', 'ADMIN', '2025-03-03 10:00:00', '2025-03-03 10:00:00', false);
    INSERT INTO cubes VALUES
        ('notes', 'Notes', '/srv/notes', 'u-ann', '2025-04-01 10:00:00', '2025-04-01 10:00:00', true),
        ('diary', 'Diary', NULL, 'u-ann', '2025-04-02 10:00:00', '2025-04-02 10:00:00', true),
        ('gone', 'Gone', NULL, 'u-ann', '2025-04-03 10:00:00', '2025-04-03 10:00:00', false);
    INSERT INTO user_cube_association VALUES
        ('u-ann', 'notes', '2025-04-01 10:00:00'), ('u-ann', 'diary', '2025-04-02 10:00:00'),
        ('u-ann', 'gone', '2025-04-03 10:00:00'), ('u-bob', 'gone', '2025-04-03 10:00:00'),
        ('u-bob', 'notes', NULL);
";

#[tokio::test]
async fn a_database_written_by_memos_is_opened_and_goes_on() {
    let Some(schema) = Schema::new().await else { return };
    schema.run(WRITTEN_BY_MEMOS).await;
    let store = schema.open(record()).await.unwrap();
    let (ann, bob) = (UserId::new("u-ann"), UserId::new("u-bob"));
    let users: Vec<(String, UserRole)> =
        store.users().await.unwrap().into_iter().map(|user| (user.user_name, user.role)).collect();
    let expected = [("root", UserRole::Root), ("ann", UserRole::User), ("bob", UserRole::Guest)];
    assert_eq!(
        users,
        expected.map(|(name, role)| (name.to_owned(), role)),
        "oldest first, the deleted one is not there"
    );
    let root = store.user(&UserId::new("root")).await.unwrap().unwrap();
    assert_eq!(root.created_at, "2025-03-01T09:00:00.123456+00:00");
    let names = async |user: &UserId| -> Vec<String> {
        store.cubes(Some(user)).await.unwrap().iter().map(|cube| cube.cube_id.to_string()).collect()
    };
    assert_eq!(
        (names(&ann).await, names(&bob).await),
        (vec!["diary".to_owned(), "notes".to_owned()], vec!["notes".to_owned()])
    );
    let notes = store.cube(&CubeId::new("notes")).await.unwrap().unwrap();
    assert_eq!((notes.cube_path.as_deref(), notes.owner_id.as_str()), (Some("/srv/notes"), "u-ann"));
    assert!(!notes.is_registered, "its memories are not here yet");
    assert_eq!(store.access(&bob, &CubeId::new("notes")).await.unwrap(), Some(Access::Member));
    assert_eq!(store.access(&ann, &CubeId::new("gone")).await.unwrap(), None);
    assert!(matches!(store.delete_cube(&CubeId::new("gone")).await, Err(StoreError::NotFound { .. })));
    // A cube that MemOS has deleted leaves its id free, and nothing of it is handed on.
    store.create_cube(&cube("gone")).await.unwrap();
    assert_eq!(store.access(&bob, &CubeId::new("gone")).await.unwrap(), None);
    store.create_user(&UserId::new("dan"), "dan", UserRole::Admin).await.unwrap();
    store.delete_cube(&CubeId::new("notes")).await.unwrap();
    drop(store);
    // What MemOS still writes is read too.
    schema
        .run(
            "INSERT INTO users (user_id, user_name, role, created_at, updated_at, is_active)
             VALUES ('eve', 'eve', 'USER', now(), now(), true);
             INSERT INTO cubes (cube_id, cube_name, owner_id, created_at, updated_at, is_active)
             VALUES ('late', 'Late', 'eve', now(), now(), true)",
        )
        .await;
    let store = schema.open(record()).await.unwrap();
    let users: Vec<String> = store.users().await.unwrap().into_iter().map(|user| user.user_name).collect();
    assert_eq!(users, ["root", "ann", "bob", "dan", "eve"]);
    assert_eq!(store.cubes(Some(&UserId::new("eve"))).await.unwrap().len(), 1);
    schema.drop().await;
}

#[tokio::test]
async fn what_is_written_reads_as_memos_reads_it() {
    let Some(schema) = Schema::new().await else { return };
    let store = schema.open(record()).await.unwrap();
    store.create_user(&UserId::new("ann"), "Ann", UserRole::Guest).await.unwrap();
    store.create_cube(&cube("notes")).await.unwrap();
    store.share(&CubeId::new("notes"), &UserId::new("ann"), Access::Reader).await.unwrap();
    let members = "SELECT count(*) FROM user_cube_association JOIN cubes USING (cube_id) JOIN users USING (user_id)
                   WHERE cubes.is_active AND users.is_active AND cube_id = 'notes'";
    assert_eq!(schema.number(members).await, 2, "MemOS counts the owner among the users of a cube");
    assert_eq!(schema.number("SELECT count(*) FROM users WHERE role = 'GUEST' AND updated_at >= created_at").await, 1);
    schema.drop().await;
}

#[tokio::test]
async fn tables_of_the_first_version_are_brought_up_to_date() {
    let Some(schema) = Schema::new().await else { return };
    schema.run(include_str!("../../../src/postgres/schema_v1.sql")).await;
    schema
        .run(
            "CREATE TABLE mos_users_version (
                 only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row), version BIGINT NOT NULL);
             INSERT INTO mos_users_version (version) VALUES (1);
             INSERT INTO users (user_id, user_name, role, created_at, updated_at, is_active)
             VALUES ('root', 'root', 'ROOT', now(), now(), true), ('ann', 'ann', 'USER', now(), now(), true);
             INSERT INTO cubes (cube_id, cube_name, owner_id, created_at, updated_at, is_active)
             VALUES ('notes', 'Notes', 'root', now(), now(), true);
             INSERT INTO user_cube_association (user_id, cube_id) VALUES ('root', 'notes'), ('ann', 'notes')",
        )
        .await;
    let store = schema.open(record()).await.unwrap();
    let (notes, root, ann) = (CubeId::new("notes"), UserId::new("root"), UserId::new("ann"));
    let shares = |access| vec![(root.clone(), Access::Owner), (ann.clone(), access)];
    assert_eq!(store.shares(&notes).await.unwrap(), shares(Access::Member), "shares of before read and write");
    store.share(&notes, &ann, Access::Reader).await.unwrap();
    drop(store);
    let store = schema.open(record()).await.unwrap();
    assert_eq!(store.shares(&notes).await.unwrap(), shares(Access::Reader));
    schema.run("UPDATE user_cube_association SET access = 'everything'").await;
    let error = store.access(&ann, &notes).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "an unknown right is none: {error}");
    schema.drop().await;
}

#[tokio::test]
async fn tables_of_another_program_are_refused_unchanged() {
    let Some(schema) = Schema::new().await else { return };
    schema.run("CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR); INSERT INTO users VALUES (1, 'a@b')").await;
    let error = schema.open(record()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(text) if text.contains("schema_name")), "{error}");
    let n_tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace =
                    (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";
    assert_eq!(schema.number(n_tables).await, 1, "nothing was made");
    schema.drop().await;
}

#[tokio::test]
async fn a_newer_version_is_refused_unchanged() {
    let Some(schema) = Schema::new().await else { return };
    drop(schema.open(record()).await.unwrap());
    schema.run("UPDATE mos_users_version SET version = version + 1").await;
    let error = schema.open(record()).await.unwrap_err();
    let newer = USERS_SCHEMA_VERSION + 1;
    assert!(matches!(error, StoreError::Newer { found, known, .. } if found == newer && known == newer - 1), "{error}");
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_make_and_open_the_tables_at_once() {
    let Some(schema) = Schema::new().await else { return };
    schema.run(&format!("DROP SCHEMA {}", schema.name)).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let schema = schema.clone();
            tokio::spawn(async move { schema.open(record()).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(schema.number("SELECT count(*) FROM users").await, 1);
    schema.drop().await;
}

#[tokio::test]
async fn facts_name_the_server_and_what_it_holds() {
    let Some(schema) = Schema::new().await else { return };
    let store = schema.open(Interrupted::new()).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    let facts = store.facts().await.unwrap();
    let fact = |name: &str| facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((fact("schema"), fact("users"), fact("cubes")), (Some(schema.name.as_str()), Some("1"), Some("1")));
    assert_eq!((fact("read-only"), fact("cubes to be removed")), (Some("off"), Some("0")));
    assert!(fact("server").unwrap().starts_with("PostgreSQL at "));
    assert!(!format!("{facts:?} {store:?}").contains(&schema.url), "no secrets");
    schema.drop().await;
}

#[tokio::test]
async fn one_connection_is_enough() {
    let Some(schema) = Schema::new().await else { return };
    let options = PostgresOptions { max_connections: 1, ..schema.options() };
    let record = Interrupted::new();
    let store = PostgresUsers::open(options, record.clone(), Arc::new(SetClock::default())).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    assert!(store.create_cube(&cube("c")).await.is_err());
    store.share(&CubeId::new("c"), &UserId::new("root"), Access::Member).await.unwrap();
    store.set_registered(&CubeId::new("c"), false).await.unwrap();
    assert!(store.discard_cube(&CubeId::new("c")).await.unwrap());
    schema.drop().await;
}

#[tokio::test]
async fn without_a_schema_of_its_own_the_servers_choice_is_used() {
    let Some(schema) = Schema::new().await else { return };
    let address = schema.address(&format!("&options[search_path]={}", schema.name));
    let options = PostgresOptions::new(PostgresServer::Url(address));
    let store = PostgresUsers::open(options, record(), Arc::new(SetClock::default())).await.unwrap();
    store.create_cube(&cube("c")).await.unwrap();
    assert_eq!(schema.number("SELECT count(*) FROM cubes").await, 1);
    schema.drop().await;
}
