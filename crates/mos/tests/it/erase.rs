//! A user who is erased is nowhere any more: rows, history, full text, jobs, logs, counted tokens, files.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use mos::backup::BackupOptions;
use mos::config::Setting;
use mos::{Add, EraseOptions, Error, Mos, NewCube, Settings, files_holding};
use mos_core::{
    CubeId, JobId, MemoryId, MemoryItem, NewJob, Origin, RecordStore, Scope, StateStore, SystemClock, UserId, UserRole,
    UserStore, WriteBatch,
};
use mos_stores::{SqliteOptions, SqliteStore};
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;
use tempfile::TempDir;

use crate::{ann, bob};

const EVERYTHING: EraseOptions = EraseOptions { also_in_shared: true };

/// A name that stands nowhere else.
fn zora() -> UserId {
    UserId::from("zora-xq7")
}

fn of_bob() -> CubeId {
    CubeId::from("bobs-cube")
}

/// Words of what zora told, and her name.
fn marks() -> Vec<String> {
    ["quokkaburg", "wombatville", "numbatford", "bilbyton", "dingohaven", "emumarket", "potoroodale", "zora-xq7"]
        .map(str::to_owned)
        .to_vec()
}

fn check_gone(folder: &Path, when: &str) {
    let found = files_holding(folder, &marks()).unwrap();
    assert!(found.is_empty(), "{when}: {found:?}");
}

async fn open(folder: &Path) -> Mos {
    // Messages for the scheduler wait; nobody handles them.
    let settings = Settings::from_json(&json!({"enable_mem_scheduler": true})).unwrap();
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let builder = Mos::builder(settings).data_dir(folder).embedder(embedder).start_scheduler(false);
    builder.build().await.unwrap()
}

/// Zora with a cube of her own and a share of bob's; what both told.
async fn house() -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path()).await;
    mos.create_user(zora(), None).await.unwrap();
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    let own = mos.ensure_default_cube(&zora()).await.unwrap();
    mos.create_cube(&bob(), NewCube::new(of_bob())).await.unwrap();
    mos.share_cube_with_user(&bob(), &of_bob(), &zora()).await.unwrap();
    mos.share_cube_with_user(&zora(), &own, &ann()).await.unwrap();
    let first =
        mos.add(Add::text("I live in quokkaburg").user(zora()).session("zora-xq7-talk")).await.unwrap().remove(0);
    let mut item = mos.get(&zora(), None, &first).await.unwrap();
    item.memory = "I live in wombatville".to_owned();
    mos.update(&zora(), None, &first, item).await.unwrap();
    let gone =
        mos.add(Add::text("I work in numbatford").user(zora()).idempotency_key("bilbyton")).await.unwrap().remove(0);
    mos.delete(&zora(), None, &gone).await.unwrap();
    mos.add(Add::text("bob keeps this").user("bob").cube(of_bob())).await.unwrap();
    let told = Add::text("zora wrote of dingohaven").user(zora()).cube(of_bob()).idempotency_key("potoroodale");
    let shared = mos.add(told).await.unwrap().remove(0);
    let mut item = mos.get(&zora(), Some(&of_bob()), &shared).await.unwrap();
    item.memory = "zora wrote of dingohaven again".to_owned();
    mos.update(&zora(), Some(&of_bob()), &shared, item).await.unwrap();
    let job = NewJob::new(JobId::from("j1"), "later", json!({"user_id": zora(), "text": "emumarket"}));
    mos.queue().unwrap().push(&Scope::of(&of_bob()), vec![job]).await.unwrap();
    let line = json!({"day": "2026-01-02", "user": zora(), "cube": own, "model": "m", "calls": 1, "prompt_tokens": 5,
                      "cached_tokens": 0, "completion_tokens": 1});
    std::fs::create_dir_all(folder.path().join("usage")).unwrap();
    std::fs::write(folder.path().join("usage/2026-01-02.jsonl"), format!("{line}\n")).unwrap();
    let line = json!({"user": zora(), "what": "POST /product/add", "cubes": [own]});
    std::fs::create_dir_all(folder.path().join("audit")).unwrap();
    std::fs::write(folder.path().join("audit/audit.jsonl"), format!("{line}\n")).unwrap();
    (folder, mos)
}

#[tokio::test]
async fn no_byte_of_an_erased_user_stays() {
    let (folder, mos) = house().await;
    let held: Vec<String> = files_holding(folder.path(), &marks()).unwrap().into_iter().map(|one| one.text).collect();
    assert!(marks().iter().all(|mark| held.contains(mark)), "everything is there before: {held:?}");
    drop(mos);
    // The tokens are read when the data are opened.
    let mos = open(folder.path()).await;

    let erased = mos.erase_user(&zora(), EVERYTHING).await.unwrap();
    assert_eq!((erased.cubes.len(), erased.n_memories, erased.n_jobs >= 1), (1, 1, true), "{erased:?}");
    assert_eq!((erased.shared.len(), erased.shared[0].is_erased), (1, true));
    check_gone(folder.path(), "while the data are open");
    drop(mos);
    check_gone(folder.path(), "and after they were closed");

    let mos = open(folder.path()).await;
    assert!(!mos.has_user(&zora()).await.unwrap());
    let left = json!(mos.get_all(&bob(), Some(&of_bob())).await.unwrap());
    let memories = left["text_mem"][0]["memories"].as_array().unwrap();
    assert_eq!((memories.len(), &memories[0]["memory"]), (1, &json!("bob keeps this")));
    assert_eq!(mos.list_cubes(&ann()).await.unwrap().len(), 0, "what was shared with others is gone");
    drop(mos);
    let store = SqliteStore::open(SqliteOptions::at(folder.path().join("mos.db")), Arc::new(SystemClock)).unwrap();
    let findings = store.check().await.unwrap();
    assert!(findings.is_empty(), "the database agrees with itself: {findings:?}");
}

#[tokio::test]
async fn what_a_user_wrote_into_cubes_of_others_is_listed_and_stays_unless_it_is_wanted() {
    let (_folder, mos) = house().await;
    let erased = mos.erase_user(&zora(), EraseOptions::default()).await.unwrap();
    let [shared] = &erased.shared[..] else { panic!("{erased:?}") };
    assert_eq!((&shared.cube_id, &shared.owner_id, shared.is_erased), (&of_bob(), &bob(), false));
    assert!(mos.get(&bob(), Some(&of_bob()), &shared.memories[0]).await.is_ok());
    assert!(erased.left.iter().any(|left| left.contains("bobs-cube")), "{:?}", erased.left);
}

#[tokio::test]
async fn an_erased_name_may_be_taken_by_somebody_who_gets_nothing() {
    let (_folder, mos) = house().await;
    mos.erase_user(&zora(), EVERYTHING).await.unwrap();
    assert!(mos.erase_user(&zora(), EVERYTHING).await.is_err(), "nobody of that name is there");
    mos.ensure_user(&zora()).await.unwrap();
    assert_eq!(mos.list_cubes(&zora()).await.unwrap().len(), 0);
    mos.ensure_default_cube(&zora()).await.unwrap();
    let listed = json!(mos.get_all(&zora(), None).await.unwrap());
    assert_eq!(listed["text_mem"][0]["memories"], json!([]));
    assert_eq!(mos.usage(&zora()).await.unwrap().total.prompt_tokens, 0);
}

#[tokio::test]
async fn only_administrators_and_the_user_may_erase_and_root_stays() {
    let (_folder, mos) = house().await;
    let refused = mos.erase_user_as(&bob(), &zora(), EVERYTHING).await.unwrap_err();
    assert!(matches!(refused, Error::NotAllowed { .. }), "{refused}");
    assert!(mos.has_user(&zora()).await.unwrap());
    let root = UserId::from("root");
    assert!(mos.erase_user(&root, EVERYTHING).await.is_err());
    mos.erase_user_as(&zora(), &zora(), EVERYTHING).await.unwrap();
    mos.erase_user_as(&root, &bob(), EraseOptions::default()).await.unwrap();
    assert!(!mos.has_user(&bob()).await.unwrap());
}

#[tokio::test]
async fn copies_that_lie_beside_the_data_are_told_of() {
    let (folder, mos) = house().await;
    std::fs::write(folder.path().join("mos.db.v7.backup"), "an older database").unwrap();
    let erased = mos.erase_user(&zora(), EVERYTHING).await.unwrap();
    assert!(erased.left.iter().any(|left| left.contains("mos.db.v7.backup")), "{:?}", erased.left);
}

#[tokio::test]
async fn backups_that_are_still_there_are_named_and_others_are_not() {
    let (folder, mos) = house().await;
    let place = tempfile::tempdir().unwrap();
    for name in ["kept.tar", "gone.tar"] {
        mos.back_up(&BackupOptions::to(place.path().join(name))).await.unwrap();
    }
    mos.back_up(&BackupOptions::to(folder.path().join("beside.tar"))).await.unwrap();
    std::fs::remove_file(place.path().join("gone.tar")).unwrap();
    let erased = mos.erase_user(&zora(), EVERYTHING).await.unwrap();
    let told = |name: &str| erased.left.iter().filter(|left| left.contains(name)).count();
    assert_eq!((told("kept.tar is a backup of 2"), told("gone.tar")), (1, 0), "{:?}", erased.left);
    assert_eq!(told("beside.tar"), 1, "once: {:?}", erased.left);
    let kept = files_holding(place.path(), &marks()).unwrap();
    assert!(kept.iter().any(|one| one.text == "quokkaburg"), "it does hold her words: {kept:?}");
}

/// The names of two more cubes of zora's, which stand in none of her memories.
const MORE_CUBES: [&str; 2] = ["wallabyton", "possumdale"];

/// Zora with three cubes; their names stand in counted tokens and in the log of changes, and what she did in a log of events.
async fn house_of_cubes() -> TempDir {
    let (folder, mos) = house().await;
    for (number, cube) in MORE_CUBES.into_iter().enumerate() {
        mos.create_cube(&zora(), NewCube::new(cube)).await.unwrap();
        mos.add(Add::text("I live in quokkaburg").user(zora()).cube(CubeId::from(cube))).await.unwrap();
        let line = json!({"user": "bob", "what": "POST /product/search", "cubes": [cube]});
        std::fs::write(folder.path().join(format!("audit/{number}.jsonl")), format!("{line}\n")).unwrap();
    }
    drop(mos);
    let store = sqlite(folder.path());
    let event = json!({"user_id": zora(), "log_content": "moved to emumarket"});
    StateStore::append(&*store, &Scope::of(&of_bob()), "events", &[event], 100).await.unwrap();
    folder
}

fn sqlite(folder: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions::at(folder.join("mos.db")), Arc::new(SystemClock)).unwrap()
}

fn check_all_gone(folder: &Path, when: &str) {
    check_gone(folder, when);
    let found = files_holding(folder, &MORE_CUBES.map(str::to_owned)).unwrap();
    assert!(found.is_empty(), "{when}: {found:?}");
    let notes: Vec<_> = std::fs::read_dir(folder.join("erasing")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(notes.iter().all(|path| path.ends_with("lock")), "{when}: {notes:?}");
}

/// Makes a step of erasing fail, after the cubes have gone: what should be a file is a folder.
fn broken(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[tokio::test]
async fn an_erasure_that_failed_is_finished_by_the_next_start() {
    for step in ["usage/2026-01-03.jsonl", "audit/broken.jsonl"] {
        let folder = house_of_cubes().await;
        let mos = open(folder.path()).await;
        let obstacle = broken(folder.path(), step);
        mos.erase_user(&zora(), EVERYTHING).await.unwrap_err();
        assert!(mos.list_cubes(&zora()).await.is_err(), "{step}: nobody acts as the user");
        drop(mos);
        std::fs::remove_dir(obstacle).unwrap();
        let mos = open(folder.path()).await;
        check_all_gone(folder.path(), step);
        let again = mos.erase_user(&zora(), EVERYTHING).await;
        assert!(again.is_err(), "{step}: nobody of that name is there: {again:?}");
    }
}

#[tokio::test]
async fn an_erasure_that_failed_is_finished_by_the_same_call_which_tells_of_all_cubes() {
    let folder = house_of_cubes().await;
    let mos = open(folder.path()).await;
    let obstacle = broken(folder.path(), "audit/broken.jsonl");
    mos.erase_user(&zora(), EVERYTHING).await.unwrap_err();
    std::fs::remove_dir(obstacle).unwrap();
    // Asked for with less, it still does what was asked for first.
    let erased = mos.erase_user(&zora(), EraseOptions::default()).await.unwrap();
    assert_eq!(erased.cubes.len(), 3, "{erased:?}");
    check_all_gone(folder.path(), "after the second call");
}

/// Polls so often, then lets go, as if the program had ended there.
async fn polled<T>(n_polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut n_left = n_polls;
    poll_fn(move |context| {
        if n_left == 0 {
            return Poll::Ready(None);
        }
        n_left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn an_erasure_that_broke_off_anywhere_is_finished() {
    for n_polls in [1, 6, 12, 20, 32] {
        let folder = house_of_cubes().await;
        let mos = open(folder.path()).await;
        let whole = polled(n_polls, mos.erase_user(&zora(), EVERYTHING)).await;
        drop(mos);
        let mos = open(folder.path()).await;
        // Before it was noted there is nothing to finish; then the same call does it all.
        let is_known = mos.erase_user(&zora(), EVERYTHING).await.is_ok();
        assert!(!(is_known && matches!(whole, Some(Ok(_)))), "what was whole is not done again");
        drop(mos);
        check_all_gone(folder.path(), &format!("after {n_polls} steps"));
        let found = sqlite(folder.path()).check().await.unwrap();
        assert!(found.is_empty(), "the database agrees with itself: {found:?}");
    }
}

#[tokio::test]
async fn who_took_the_name_of_an_erased_user_is_not_erased_with_it() {
    let folder = house_of_cubes().await;
    let mos = open(folder.path()).await;
    mos.erase_user(&zora(), EVERYTHING).await.unwrap();
    mos.create_user(zora(), None).await.unwrap();
    let cube = mos.ensure_default_cube(&zora()).await.unwrap();
    mos.add(Add::text("somebody else lives here").user(zora())).await.unwrap();
    drop(mos);
    let mos = open(folder.path()).await;
    let listed = json!(mos.get_all(&zora(), Some(&cube)).await.unwrap());
    assert_eq!(listed["text_mem"][0]["memories"].as_array().unwrap().len(), 1);
}

/// What stands in a cube of zora's, told before and after she came back.
async fn told_in(mos: &Mos, cube: &CubeId) -> usize {
    let listed = json!(mos.get_all(&zora(), Some(cube)).await.unwrap());
    listed["text_mem"][0]["memories"].as_array().unwrap().len()
}

#[tokio::test]
async fn who_came_back_after_an_interrupted_erasure_is_not_erased_by_it() {
    let new_life = CubeId::from("new-life");
    for is_by_the_facade in [true, false] {
        let folder = house_of_cubes().await;
        let mos = open(folder.path()).await;
        let obstacle = broken(folder.path(), "audit/broken.jsonl");
        mos.erase_user(&zora(), EVERYTHING).await.unwrap_err();
        if is_by_the_facade {
            mos.create_user(zora(), None).await.unwrap();
            drop(mos);
        } else {
            // By a program that knows no notes.
            drop(mos);
            UserStore::create_user(&*sqlite(folder.path()), &zora(), zora().as_str(), UserRole::User).await.unwrap();
            drop(open(folder.path()).await);
        }
        let mos = open(folder.path()).await;
        mos.create_cube(&zora(), NewCube::new(new_life.clone())).await.unwrap();
        mos.add(Add::text("somebody begins anew").user(zora()).cube(new_life.clone())).await.unwrap();
        mos.delete_user(&zora()).await.unwrap();
        drop(mos);
        std::fs::remove_dir(obstacle).unwrap();
        let mos = open(folder.path()).await;
        mos.create_user(zora(), None).await.unwrap();
        assert_eq!(told_in(&mos, &new_life).await, 1, "{is_by_the_facade}: deleting is not erasing");
    }
}

#[tokio::test]
async fn an_erasure_from_before_a_user_came_back_widens_no_later_one() {
    let folder = house_of_cubes().await;
    let mos = open(folder.path()).await;
    let obstacle = broken(folder.path(), "audit/broken.jsonl");
    mos.erase_user(&zora(), EVERYTHING).await.unwrap_err();
    std::fs::remove_dir(obstacle).unwrap();
    UserStore::create_user(&*sqlite(folder.path()), &zora(), zora().as_str(), UserRole::User).await.unwrap();
    mos.share_cube_with_user(&bob(), &of_bob(), &zora()).await.unwrap();
    mos.add(Add::text("this is for bob").user(zora()).cube(of_bob())).await.unwrap();
    let erased = mos.erase_user(&zora(), EraseOptions::default()).await.unwrap();
    let [shared] = &erased.shared[..] else { panic!("{erased:?}") };
    assert!(!shared.is_erased, "nobody asked for it");
    assert!(mos.get(&bob(), Some(&of_bob()), &shared.memories[0]).await.is_ok());
}

#[tokio::test]
async fn a_data_folder_spelled_in_another_way_finishes_what_was_interrupted_there() {
    let folder = house_of_cubes().await;
    let mos = open(folder.path()).await;
    let obstacle = broken(folder.path(), "audit/broken.jsonl");
    mos.erase_user(&zora(), EVERYTHING).await.unwrap_err();
    drop(mos);
    std::fs::remove_dir(obstacle).unwrap();
    let mos = open(&folder.path().join("erasing").join("..")).await;
    check_all_gone(folder.path(), "opened by another name");
    drop(mos);
}

#[tokio::test]
async fn a_spoiled_note_keeps_no_other_erasure_from_being_finished() {
    let folder = house_of_cubes().await;
    let mos = open(folder.path()).await;
    let obstacle = broken(folder.path(), "audit/broken.jsonl");
    mos.erase_user(&zora(), EVERYTHING).await.unwrap_err();
    drop(mos);
    std::fs::remove_dir(obstacle).unwrap();
    let spoiled = folder.path().join("erasing/0.json");
    std::fs::write(&spoiled, "{").unwrap();
    let mos = open(folder.path()).await;
    std::fs::remove_file(spoiled).unwrap();
    check_all_gone(folder.path(), "beside a spoiled note");
    drop(mos);
}

#[tokio::test]
async fn a_write_of_erased_memories_that_is_repeated_is_no_repetition_any_more() {
    let (folder, mos) = house().await;
    drop(mos);
    let mut item = MemoryItem::new(MemoryId::new("read-by-a-program"), "zora also wrote of dingohaven");
    item.metadata.user_id = Some(zora().to_string());
    // No key of zora's: what a program made it of is not known.
    let key = Some("of a program".to_owned());
    let batch = WriteBatch { put: vec![item], idempotency_key: key, ..WriteBatch::new(Origin::new("program", "read")) };
    let scope = Scope::of(&of_bob());
    assert!(!sqlite(folder.path()).apply(&scope, batch.clone()).await.unwrap().replayed);
    assert!(sqlite(folder.path()).apply(&scope, batch.clone()).await.unwrap().replayed);
    open(folder.path()).await.erase_user(&zora(), EVERYTHING).await.unwrap();
    check_gone(folder.path(), "with what a program wrote");
    assert!(!sqlite(folder.path()).apply(&scope, batch).await.unwrap().replayed, "it is stored again");
}
