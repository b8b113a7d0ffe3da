//! `kill -9` at any moment loses nothing that was acknowledged.
//!
//! The child is this test binary itself: [`child`] is a test that only works when it is told a folder.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mos_core::{
    Cube, CubeId, Filter, GraphStore, MemoryItem, Origin, Paging, RecordStore, Scope, SystemClock, UserId, UserStore,
    WriteBatch,
};
use mos_stores::{SqliteOptions, SqliteStore};

const FOLDER: &str = "MOS_STORES_KILL_FOLDER";
const ROUND: &str = "MOS_STORES_KILL_ROUND";
const WRITERS: usize = 4;

fn open(folder: &Path) -> Arc<SqliteStore> {
    let mut options = SqliteOptions::at(folder.join("mos.db"));
    options.checkpoint_pages = 50;
    SqliteStore::open(options, Arc::new(SystemClock)).unwrap()
}

fn scope() -> Scope {
    Scope { cube: "c".into() }
}

/// Adds memories, two per batch, from several tasks at once, and prints each batch's name once it is acknowledged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of `what_was_acknowledged_survives_kill_9`"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let round = std::env::var(ROUND).unwrap();
    let store = open(Path::new(&folder));
    let writers = (0..WRITERS).map(|writer| {
        let (store, round) = (Arc::clone(&store), round.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{round}-{writer}-{number}");
                let item = |half: &str| MemoryItem::new(format!("{name}{half}").as_str().into(), "a dog in the park");
                let put = vec![item("a"), item("b")];
                store.apply(&scope(), WriteBatch { put, ..WriteBatch::new(Origin::new("ann", "add")) }).await.unwrap();
                println!("acknowledged {name}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

fn start(folder: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kill::child", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child add for a while, kills it, and returns what it said was acknowledged.
fn add_and_kill(folder: &Path, round: u64) -> Vec<String> {
    let mut child = start(folder, round);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let n_before_the_kill = 20 + round * 37 % 200;
    let mut note = |line: String| {
        if let Some(name) = line.strip_prefix("acknowledged ") {
            acknowledged.push(name.to_owned());
        }
        acknowledged.len() as u64
    };
    for line in lines.by_ref().map_while(Result::ok) {
        if note(line) >= n_before_the_kill {
            break;
        }
    }
    // Not right after an acknowledgement, but anywhere in the next writes.
    std::thread::sleep(Duration::from_micros(round * 977 % 5000));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it printed until it was killed counts too; a last line may be torn off.
    lines.map_while(Result::ok).filter(|line| line.ends_with(|c: char| c.is_ascii_digit())).for_each(|line| {
        note(line);
    });
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let cube = Cube {
        cube_id: CubeId::new("c"),
        cube_name: "c".to_owned(),
        cube_path: None,
        owner_id: UserId::new("root"),
        created_at: "2026".to_owned(),
        is_registered: true,
        config: serde_json::Value::Null,
    };
    open(folder.path()).create_cube(&cube).await.unwrap();
    let n_rounds = if std::env::var_os("MOS_TEST_LONG").is_some() { 150 } else { 6 };
    let mut n_acknowledged = 0;
    for round in 0..n_rounds {
        let path = folder.path().to_owned();
        let acknowledged = tokio::task::spawn_blocking(move || add_and_kill(&path, round)).await.unwrap();
        assert!(acknowledged.len() >= 20, "the child added memories before it was killed");
        n_acknowledged += acknowledged.len();
        let store = open(folder.path());
        let items = store.list(&scope(), &Filter::Everything, Paging::ALL).await.unwrap().entries;
        let found: std::collections::HashSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
        for name in &acknowledged {
            // The last line may be a number whose last digits were torn off; it names an earlier batch then.
            assert!(found.contains(format!("{name}a").as_str()), "{name} was acknowledged");
        }
        for id in &found {
            let (name, half) = id.split_at(id.len() - 1);
            let other = format!("{name}{}", if half == "a" { "b" } else { "a" });
            assert!(found.contains(other.as_str()), "{name} is there by half");
        }
        assert_eq!(store.check().await.unwrap(), [], "round {round}");
    }
    assert!(n_acknowledged > 0);
}
