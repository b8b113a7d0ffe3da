use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mos_core::{
    Cube, CubeId, MemoryItem, Origin, RecordStore, Scope, SystemClock, UserId, UserRole, UserStore, WriteBatch,
};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::services;
use serde_json::{Value, json as object};

use crate::{failure, json, mos, run, stdout, write};

/// Makes a folder with a cube of so many memories, each changed once.
fn fill(folder: &Path, cube: &str, n_memories: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock)).unwrap();
        store.create_user(&UserId::new("ann"), "ann", UserRole::User).await.unwrap();
        let notes = Cube {
            cube_id: CubeId::new(cube),
            cube_name: cube.to_owned(),
            cube_path: None,
            owner_id: UserId::new("ann"),
            created_at: "2026-01-02T00:00:00.000000+00:00".to_owned(),
            is_registered: true,
            config: object!({"text_mem": {"backend": "naive_text", "config": {}}}),
        };
        store.create_cube(&notes).await.unwrap();
        for round in 0..2 {
            for begin in (0..n_memories).step_by(1000) {
                let one =
                    |number| MemoryItem::new(format!("m{number}").as_str().into(), format!("fact {number} {round}"));
                let put = (begin..(begin + 1000).min(n_memories)).map(one).collect();
                let batch = WriteBatch { put, ..WriteBatch::new(Origin::new("ann", "test")) };
                store.apply(&Scope::of(&notes.cube_id), batch).await.unwrap();
            }
        }
    });
}

fn cubes(arguments: &[&str], data: &Path) -> Vec<Value> {
    let mut arguments = arguments.to_vec();
    arguments.extend(["cube", "list", "--user", "ann", "--json"]);
    let output = run(data, &arguments);
    // Before the first user has come, there is nobody to list cubes for.
    if output.status.success() { serde_json::from_slice(&output.stdout).unwrap() } else { Vec::new() }
}

/// Kills a migration as soon as its cube is seen in the target, again and again, and lets the last one end.
fn killed_and_resumed(from: &Path, to: &[&str], target: (&[&str], &Path), cube: &str) {
    let begin = ["migrate", "--from", from.to_str().unwrap()];
    let command = |more: &[&'static str]| [&begin[..], to, more].concat();
    assert_eq!(json(from, &command(&["--dry-run"]))["cubes"][0]["outcome"], "to_move");
    for kill in 0..3 {
        let mut child = mos(from, &command(&[])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !cubes(target.0, target.1).iter().any(|found| found["cube_id"] == cube) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        }
        std::thread::sleep(Duration::from_millis(50 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = cubes(target.0, target.1);
        let half = found.iter().find(|found| found["cube_id"] == cube).unwrap();
        assert_eq!(half["is_registered"], false, "killed in the middle");
        assert_eq!(json(from, &command(&["--dry-run"]))["cubes"][0]["outcome"], "to_go_on");
        let register = [target.0, &["cube", "register", cube, "--user", "ann"]].concat();
        assert!(failure(target.1, &register).contains("mos migrate"), "half a cube is not used");
    }
    let here = json(from, &command(&["--dry-run"]));
    let report = json(from, &command(&[]));
    assert_eq!(report["cubes"][0]["outcome"], "moved");
    assert_eq!(report["cubes"][0]["contents"], here["cubes"][0]["contents"]);
    assert_eq!(json(from, &command(&[]))["cubes"][0]["outcome"], "same_already");
}

#[test]
fn a_migration_that_is_killed_goes_on() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), "notes", 6000);
    let to = there.path().to_str().unwrap();
    killed_and_resumed(here.path(), &["--to", to], (&[], there.path()), "notes");
    let listing = json(there.path(), &["list", "--user", "ann", "--cube", "notes"]);
    assert_eq!(listing["text_mem"][0]["memories"].as_array().unwrap().len(), 6000);
    assert_eq!(json(there.path(), &["doctor"])["facts"]["memories"], "6000");
}

#[test]
fn a_migration_to_servers_that_is_killed_goes_on_and_comes_back() {
    let variables = ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD", "DATABASE_URL"].map(services::address);
    let [Some(uri), Some(user), Some(password), Some(url)] = variables else { return };
    let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = format!("mos_cli_migrating_{}", std::process::id());
    let cube = format!("{name}-notes");
    fill(here.path(), &cube, 3000);
    let settings = object!({
        "store": {"backend": "neo4j", "config": {"uri": uri, "user": user, "password": password}},
        "user_manager": {"backend": "postgres", "config": {"url": url, "schema_name": name}},
    });
    let settings = write(here.path(), "servers.json", &settings.to_string());
    let to = ["--to", "neo4j", "--to-config", &settings];
    killed_and_resumed(here.path(), &to, (&["--config", &settings], here.path()), &cube);
    let error =
        failure(here.path(), &["migrate", "--from", "sqlite", "--to", "neo4j+qdrant", "--to-config", &settings]);
    assert!(error.contains("Qdrant"), "{error}");
    let home = back.path().to_str().unwrap();
    let report = json(here.path(), &["migrate", "--from-config", &settings, "--to", home]);
    assert_eq!(report["cubes"][0]["outcome"], "moved");
    assert_eq!(
        json(back.path(), &["list", "--user", "ann"])["text_mem"][0]["memories"].as_array().unwrap().len(),
        3000
    );
    stdout(here.path(), &["--config", &settings, "cube", "delete", &cube, "--user", "ann"]);
}

#[test]
fn what_is_meant_by_a_side_is_found_out_or_asked_back() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), "notes", 3);
    let asks = |from: &str, to: &str| {
        let mut command = mos(here.path(), &["migrate", "--from", from, "--to", to]);
        for name in ["NEO4J_URI", "NEO4J_PASSWORD", "DATABASE_URL"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{from} {to}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(asks("sqlite", "neo4j").contains("NEO4J_URI"));
    assert!(asks("sqlite", "neoj4").contains("neo4j"));
    assert!(asks("sqlite", "sqlite").contains("another place"));
    let missing = there.path().join("missing/mos.db");
    assert!(asks(missing.to_str().unwrap(), "sqlite").contains("no database at"));
    assert!(!missing.parent().unwrap().exists(), "a source is not made");
    let target = there.path().join("new folder");
    let target = target.to_str().unwrap();
    let dry = stdout(here.path(), &["migrate", "--from", "sqlite", "--to", target, "--dry-run"]);
    assert!(dry.contains("would be moved: 3 memories") && dry.contains("nothing was written"), "{dry}");
    assert!(!Path::new(target).exists());
    // Settings that name servers do not keep anybody from meaning the data folder.
    let servers = object!({
        "store": {"backend": "neo4j", "config": {"uri": "bolt://127.0.0.1:9", "password": "x"}},
        "user_manager": {"backend": "postgres", "config": {"host": "127.0.0.1", "port": 9}},
        "queue": {"backend": "redis", "config": {"host": "127.0.0.1", "port": 9}},
    });
    let servers = write(here.path(), "servers.json", &servers.to_string());
    stdout(here.path(), &["--config", &servers, "migrate", "--from", "sqlite", "--to", target, "--dry-run"]);
    let database = here.path().join("mos.db");
    let moved = stdout(here.path(), &["migrate", "--from", database.to_str().unwrap(), "--to", target, "notes"]);
    assert!(moved.contains("moved; both sides are the same"), "{moved}");
    let error = failure(here.path(), &["migrate", "--from", "sqlite", "--to", target, "--cube", "nobody's"]);
    assert!(error.contains("nobody's"), "{error}");
}

#[test]
fn the_environment_puts_no_side_elsewhere_that_has_a_file_of_its_own() {
    let (here, there, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), "notes", 3);
    let settings = object!({"data_dir": "${TARGET}"});
    let settings = write(here.path(), "there.json", &settings.to_string());
    let mut command = mos(here.path(), &["migrate", "--from", "sqlite", "--to-config", &settings]);
    command.env("MOS_DATA_DIR", other.path()).env("TARGET", there.path());
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("not heeded"), "{told}");
    assert!(there.path().join("mos.db").exists(), "the file says where, and what it refers to is heeded");
    assert!(!other.path().join("mos.db").exists());
}
