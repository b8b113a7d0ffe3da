//! A process that makes and deletes cubes is killed at any moment: between the two stores nothing is lost, and nothing
//! of a deleted cube comes back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mos_core::{CubeId, Filter, GraphStore, MemoryItem, RecordStore, Scope, StoreError, UserStore, WriteBatch};
use mos_stores::{PostgresUsers, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::services;

use super::server::{Schema, cube};

const FOLDER: &str = "MOS_TEST_FOLDER";
const SCHEMA: &str = "MOS_TEST_SCHEMA";
const N_CUBES: usize = 3;

async fn open(schema: &Schema, folder: &Path) -> (Arc<PostgresUsers>, Arc<SqliteStore>) {
    let record = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SetClock::default())).unwrap();
    (schema.open(record.clone()).await.unwrap(), record)
}

async fn write(record: &SqliteStore, cube: &str) -> Result<(), StoreError> {
    let put = vec![MemoryItem::new("a".into(), "text")];
    record.apply(&Scope::of(&cube.into()), WriteBatch { put, ..WriteBatch::default() }).await.map(drop)
}

async fn count(record: &SqliteStore, cube: &str) -> usize {
    record.count(&Scope::of(&cube.into()), &Filter::Everything).await.unwrap()
}

/// Makes cubes, writes into them and deletes them, and says what is done, until it is killed.
#[tokio::test]
#[ignore = "run and killed by the test below"]
#[allow(clippy::print_stdout, reason = "it speaks to its parent")]
async fn child() {
    let folder = std::env::var(FOLDER).unwrap();
    let url = services::address("DATABASE_URL").unwrap();
    let schema = Schema { url, name: std::env::var(SCHEMA).unwrap() };
    let (users, record) = open(&schema, Path::new(&folder)).await;
    for turn in 0.. {
        let name = format!("c{}", turn % N_CUBES);
        let id = CubeId::new(&name);
        if users.cube(&id).await.unwrap().is_some() {
            println!("begins gone {name}");
            users.delete_cube(&id).await.unwrap();
            println!("done gone {name}");
        } else {
            println!("begins made {name}");
            users.create_cube(&cube(&name)).await.unwrap();
            write(&record, &name).await.unwrap();
            println!("done made {name}");
        }
    }
}

/// What a child said of each cube, the last of it.
fn work_and_kill(schema: &Schema, folder: &Path, n_lines: usize) -> BTreeMap<String, (bool, bool)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "postgres::kill::child", "--nocapture"])
        .env(FOLDER, folder)
        .env(SCHEMA, &schema.name)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BTreeMap::new();
    let mut note = |line: String| {
        // The test harness of the child prints words of its own before the first.
        let words: Vec<&str> = line.rsplit(' ').take(3).collect();
        let [name, what, state] = words[..] else { return };
        if let ("made" | "gone", "begins" | "done") = (what, state) {
            said.insert(name.to_owned(), (what == "made", state == "done"));
        }
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.by_ref().map_while(Result::ok).take(n_lines).for_each(&mut note);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).for_each(note);
    said
}

#[tokio::test]
async fn a_killed_process_leaves_whole_cubes_or_none() {
    let Some(schema) = Schema::new().await else { return };
    let folder = tempfile::tempdir().unwrap();
    drop(open(&schema, folder.path()).await);
    for round in 0..6 {
        let said = work_and_kill(&schema, folder.path(), 20 + round * 7);
        assert_eq!(said.len(), N_CUBES, "{said:?}");
        // The server has noticed that it is gone, and holds no locks for it.
        schema.cut_connections().await;
        let (users, record) = open(&schema, folder.path()).await;
        for (name, (is_made, is_done)) in said {
            let is_seen = users.cube(&CubeId::new(&name)).await.unwrap().is_some();
            assert!(!is_done || is_seen == is_made, "what was acknowledged holds: {name} made {is_made}");
            if is_seen {
                assert!(!(is_done && is_made) || count(&record, &name).await == 1, "an acknowledged memory is there");
                write(&record, &name).await.expect("a cube that is seen takes memories");
            } else {
                assert_eq!(count(&record, &name).await, 0, "a deletion was finished at the latest when it was opened");
                users.create_cube(&cube(&name)).await.unwrap();
                assert_eq!(count(&record, &name).await, 0, "a new cube is empty");
                write(&record, &name).await.unwrap();
            }
        }
        assert_eq!(schema.number("SELECT count(*) FROM cubes WHERE phase <> 'ready'").await, 0);
        assert_eq!(users.cubes(None).await.unwrap().len(), N_CUBES);
    }
    schema.drop().await;
}
