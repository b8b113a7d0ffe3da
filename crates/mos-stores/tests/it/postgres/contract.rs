//! Users in PostgreSQL keep the contract beside every record.

use std::sync::{Arc, Mutex};

use mos_core::{RecordStore, ScopeLifecycle, UserStore};
use mos_stores::{InMemoryStore, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::contracts;

use super::server::Schema;

fn sqlite(folder: &tempfile::TempDir, name: &str) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions::at(folder.path().join(name)), Arc::new(SetClock::default())).unwrap()
}

/// Opens users in a fresh schema beside a record, and notes the schema.
async fn beside<R>(record: Arc<R>, made: &Mutex<Vec<Schema>>) -> (Arc<dyn UserStore>, Arc<dyn RecordStore>)
where
    R: ScopeLifecycle + RecordStore + 'static,
{
    let schema = Schema::new().await.expect("the caller has looked");
    let users = schema.open(Arc::clone(&record) as Arc<dyn ScopeLifecycle>).await.unwrap();
    made.lock().unwrap().push(schema);
    (users, record)
}

async fn drop_all(made: Mutex<Vec<Schema>>) {
    for schema in made.into_inner().unwrap() {
        schema.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_beside_sqlite_keeps_the_users_contract() {
    let Some(schema) = Schema::new().await else { return };
    let (folder, made) = (tempfile::tempdir().unwrap(), Mutex::new(vec![schema]));
    let make = async || {
        let n_before = std::fs::read_dir(folder.path()).unwrap().count();
        beside(sqlite(&folder, &format!("{n_before}/mos.db")), &made).await
    };
    contracts::users::run(make).await;
    drop_all(made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_beside_memory_keeps_the_users_contract() {
    let Some(schema) = Schema::new().await else { return };
    let made = Mutex::new(vec![schema]);
    contracts::users::run(async || beside(InMemoryStore::new(Arc::new(SetClock::default())), &made).await).await;
    drop_all(made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_archive_contract() {
    let Some(schema) = Schema::new().await else { return };
    let made = Mutex::new(vec![schema]);
    let make = async || beside(InMemoryStore::new(Arc::new(SetClock::default())), &made).await.0;
    contracts::archive::run_users(make).await;
    drop_all(made).await;
}

#[tokio::test]
async fn users_in_postgres_survive_reopening() {
    let Some(schema) = Schema::new().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let record = sqlite(&folder, "mos.db");
        let users: Arc<dyn UserStore> = schema.open(Arc::clone(&record) as Arc<dyn ScopeLifecycle>).await.unwrap();
        (users, record as Arc<dyn RecordStore>)
    };
    contracts::users::survives_reopening(open).await;
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_keys_contract() {
    let Some(schema) = Schema::new().await else { return };
    let made = Mutex::new(vec![schema]);
    let make = async || {
        let schema = Schema::new().await.expect("the server was there");
        let record: Arc<dyn ScopeLifecycle> = InMemoryStore::new(Arc::new(SetClock::default()));
        let users = schema.open(record).await.unwrap();
        made.lock().unwrap().push(schema);
        users
    };
    contracts::keys::run(make).await;
    drop_all(made).await;
}

#[tokio::test]
async fn keys_in_postgres_survive_reopening() {
    let Some(schema) = Schema::new().await else { return };
    let open = async || {
        let record: Arc<dyn ScopeLifecycle> = InMemoryStore::new(Arc::new(SetClock::default()));
        schema.open(record).await.unwrap()
    };
    contracts::keys::survives_reopening(open).await;
    schema.drop().await;
}
