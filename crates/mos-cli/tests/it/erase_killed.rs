//! A program that erases a user, ended by `kill -9` at any moment: whatever is called next finishes what was begun.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ::mos::{Add, Mos, NewCube, Settings, files_holding};
use mos_core::{CubeId, Message, SystemClock, UserId};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::embedder::WordEmbedder;
use tokio::runtime::Runtime;

use crate::serving::PATIENCE;
use crate::{failure, mos, stdout};

/// A name that stands nowhere else.
const ZORA: &str = "zora-xq7";

/// What stands in no file afterwards: her name, words of her own cubes, and of what she wrote into a cube of bob.
const MARKS: [&str; 3] = [ZORA, "quokkaburg", "dingohaven"];

const N_CUBES: usize = 6;

/// The memories of each of her cubes, and of hers in bob's.
const N_MEMORIES: usize = 100;

/// Calls that have nothing to do with erasing, or with her.
const NEXT: [&[&str]; 4] = [
    &["user", "list"],
    &["list", "--user", "ann", "--cube", "ann"],
    &["cube", "list", "--user", "bob"],
    &["user", "info", "ann"],
];

/// Fills a data folder: zora with many cubes, and much in a cube of bob; ann with a cube of her own.
async fn furnish(folder: &Path) {
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = Mos::builder(Settings::default()).data_dir(folder).embedder(embedder).build().await.unwrap();
    for user in ["ann", "bob", ZORA] {
        mos.create_user(user, None).await.unwrap();
    }
    let (ann, bob, zora) = (UserId::from("ann"), UserId::from("bob"), UserId::from(ZORA));
    let of_bob = CubeId::from("bobs-cube");
    mos.create_cube(&ann, NewCube::new("ann")).await.unwrap();
    mos.create_cube(&bob, NewCube::new(of_bob.clone())).await.unwrap();
    mos.share_cube_with_user(&bob, &of_bob, &zora).await.unwrap();
    mos.add(Add::text("the cat sleeps").user("ann").cube("ann")).await.unwrap();
    mos.add(Add::text("bob keeps this").user("bob").cube(of_bob.clone())).await.unwrap();
    let notes = |place: &str| -> Vec<Message> {
        (0..N_MEMORIES).map(|number| Message::user(format!("note {number}: I was in {place} again"))).collect()
    };
    for number in 0..N_CUBES {
        let cube = CubeId::from(format!("{ZORA}-{number}").as_str());
        mos.create_cube(&zora, NewCube::new(cube.clone())).await.unwrap();
        mos.add(Add::messages(notes("quokkaburg")).user(ZORA).cube(cube)).await.unwrap();
    }
    mos.add(Add::messages(notes("dingohaven")).user(ZORA).cube(of_bob)).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn start_erasing(data: &Path) -> Child {
    let mut command: Command = mos(data, &["user", "erase", ZORA, "--also-in-shared"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Whether something is noted that is being erased.
fn has_note(data: &Path) -> bool {
    let Ok(entries) = fs::read_dir(data.join("erasing")) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".json"))
}

/// Waits until it is noted what is being erased; returns at once when the program has ended.
fn wait_for_note(child: &mut Child, data: &Path) {
    let begun = Instant::now();
    while !has_note(data) && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "nothing is noted for a long time");
        thread::sleep(Duration::from_micros(200));
    }
}

fn held(data: &Path) -> Vec<String> {
    let found = files_holding(data, &MARKS.map(str::to_owned)).unwrap();
    found.into_iter().map(|one| format!("{} in {}", one.text, one.file.display())).collect()
}

/// Returns how long it takes until it is noted what is erased, and from then on.
fn durations(data: &Path) -> (Duration, Duration) {
    let begun = Instant::now();
    let mut child = start_erasing(data);
    wait_for_note(&mut child, data);
    let until_noted = begun.elapsed();
    assert!(child.wait().unwrap().success());
    (until_noted, begun.elapsed() - until_noted)
}

/// Fails unless zora is nowhere, and everything else is there.
fn check_gone(data: &Path, when: &str) {
    let held = held(data);
    assert!(held.is_empty() && !has_note(data), "{when}: {held:?}");
    assert!(stdout(data, &["list", "--user", "ann", "--cube", "ann"]).contains("the cat sleeps"), "{when}");
    assert!(stdout(data, &["list", "--user", "bob", "--cube", "bobs-cube"]).contains("bob keeps this"), "{when}");
    assert!(failure(data, &["user", "erase", ZORA]).contains(ZORA), "{when}: nobody of this name is left");
}

#[test]
fn what_a_killed_program_was_erasing_is_erased_by_whatever_is_called_next() {
    let folder = tempfile::tempdir().unwrap();
    let (full, runtime) = (folder.path().join("full"), Runtime::new().unwrap());
    runtime.block_on(furnish(&full));
    assert!(!held(&full).is_empty());
    let whole = folder.path().join("whole");
    copy(&full, &whole);
    let (until_noted, from_then_on) = durations(&whole);
    check_gone(&whole, "when nothing breaks off");

    let n_rounds: u32 = if std::env::var_os("MOS_TEST_LONG").is_some() { 20 } else { 4 };
    let mut n_broken_off = 0;
    for round in 0..n_rounds {
        let data = folder.path().join(format!("round-{round}"));
        copy(&full, &data);
        let mut child = start_erasing(&data);
        // Numbers that look random and are the same in every run; the first comes as soon as there is something to finish.
        let random = (u64::from(round) * 0x9E37_79B9 % 1_000) as f64 / 1_000.0;
        if round % 4 == 3 {
            thread::sleep((until_noted + from_then_on).mul_f64(random));
        } else {
            wait_for_note(&mut child, &data);
            thread::sleep(from_then_on.mul_f64(random));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let next = NEXT[round as usize % NEXT.len()];
        let when = format!("round {round}, killed at {random}, then {next:?}");
        let is_broken_off = has_note(&data);
        n_broken_off += usize::from(is_broken_off);
        stdout(&data, next);
        if !is_broken_off && !held(&data).is_empty() {
            // It had not begun: everything is there, until it is erased.
            assert!(held(&data).iter().any(|one| one.starts_with("quokkaburg")), "{when}");
            stdout(&data, &["user", "erase", ZORA, "--also-in-shared"]);
        }
        check_gone(&data, &when);
        let store = SqliteStore::open(SqliteOptions::at(data.join("mos.db")), Arc::new(SystemClock)).unwrap();
        let findings = runtime.block_on(store.check()).unwrap();
        assert!(findings.is_empty(), "{when}: {findings:?}");
        drop(store);
        fs::remove_dir_all(&data).unwrap();
    }
    assert!(n_broken_off > 0, "no round was killed while it erased");
}
