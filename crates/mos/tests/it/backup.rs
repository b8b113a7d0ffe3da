//! Everything as one file, made while others write, and back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mos::backup::{BackedUp, BackupOptions, restore, restore_to};
use mos::config::Setting;
use mos::keys::NewKey;
use mos::{Add, Error, Mos, Settings, files_holding};
use mos_core::{CubeId, MemoryId, UserId};
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use crate::servers::servers;
use crate::{ann, bob, house, open};

fn notes() -> CubeId {
    CubeId::from("notes")
}

async fn tell(mos: &Mos, text: &str) -> MemoryId {
    mos.add(Add::text(text).user("ann").cube(notes())).await.unwrap().remove(0)
}

/// A cube with history, a removed memory and a share; tokens that were counted; a cache.
async fn furnish(folder: &Path, mos: &Mos) {
    let first = tell(mos, "the cat sleeps on the sofa").await;
    tell(mos, "the dog waits at the door").await;
    let third = tell(mos, "this goes again").await;
    let mut item = mos.get(&ann(), Some(&notes()), &first).await.unwrap();
    item.memory = "the cat sleeps on the bed".to_owned();
    mos.update(&ann(), Some(&notes()), &first, item).await.unwrap();
    mos.delete(&ann(), Some(&notes()), &third).await.unwrap();
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    for (name, text) in [("usage/2026-01-02.jsonl", "\n"), ("activation/caches/ab/one.bin", "keys and values")] {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::write(folder.join("activation/caches/.1-1.mos-tmp"), "half").unwrap();
}

async fn back_up(mos: &Mos, place: &Path, name: &str) -> BackedUp {
    mos.back_up(&BackupOptions::to(place.join(name))).await.unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_restored_equals_what_was_backed_up() {
    let (folder, mos) = house().await;
    let place = tempfile::tempdir().unwrap();
    furnish(folder.path(), &mos).await;
    let made = back_up(&mos, place.path(), "all.tar").await;
    assert_eq!((made.database.n_users, made.database.n_cubes, made.database.n_memories), (3, 1, 2));
    assert_eq!(made.n_files, 4, "the database, the settings, the tokens, the cache, and nothing half-written");
    assert_eq!(names_in(place.path()), ["all.tar"], "nothing else is left there");

    let data = place.path().join("data");
    let restored = restore(&made.file, &data).await.unwrap();
    assert_eq!(restored.database, made.database);
    assert_eq!(names_in(&data), ["activation", "mos.db", "settings.json", "usage"]);
    assert_eq!(std::fs::read(data.join("activation/caches/ab/one.bin")).unwrap(), b"keys and values");

    let again = open(&data).await;
    let listed = again.get_all(&bob(), Some(&notes())).await.unwrap();
    assert_eq!(json!(listed)["text_mem"][0]["memories"].as_array().unwrap().len(), 2);
    let second = back_up(&again, place.path(), "again.tar").await;
    assert_eq!(second.database.cubes, made.database.cubes, "memories, history, embeddings and keys, by hash");
    tell(&again, "life goes on").await;
    let third = back_up(&again, place.path(), "third.tar").await;
    assert_ne!(third.database.cubes, made.database.cubes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_what_is_written_to_holds_all_that_was_acknowledged_before() {
    let (_folder, mos) = house().await;
    let place = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        acknowledged.push(tell(&mos, &format!("fact number {number}")).await);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (mos, is_over) = (mos.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut n_written = 0;
                while n_written < 3 || !is_over.load(Ordering::SeqCst) {
                    tell(&mos, &format!("writer {writer} says {n_written}")).await;
                    n_written += 1;
                }
            })
        })
        .collect();
    let made = back_up(&mos, place.path(), "all.tar").await;
    is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let data = place.path().join("data");
    restore(&made.file, &data).await.unwrap();
    let again = open(&data).await;
    for id in &acknowledged {
        assert!(again.get(&ann(), Some(&notes()), id).await.is_ok(), "{id} is lost");
    }
    assert!(made.database.n_memories >= 20);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let (folder, mos) = house().await;
    let place = tempfile::tempdir().unwrap();
    furnish(folder.path(), &mos).await;
    let made = back_up(&mos, place.path(), "all.tar").await;
    let whole = std::fs::read(&made.file).unwrap();
    let data = place.path().join("data");
    let at = whole.windows(15).rposition(|bytes| bytes == b"keys and values").unwrap();
    let mut changed = whole.clone();
    changed[at] = b'K';
    for bad in [changed, whole[..whole.len() / 2].to_vec(), b"something else".to_vec(), Vec::new()] {
        std::fs::write(&made.file, bad).unwrap();
        let error = restore(&made.file, &data).await.unwrap_err();
        assert!(error.to_string().contains("all.tar"), "{error}");
        assert!(names_in(&data).is_empty(), "{:?}", names_in(&data));
    }
    std::fs::write(&made.file, whole).unwrap();
    restore(&made.file, &data).await.unwrap();
}

#[tokio::test]
async fn a_folder_in_use_is_left_alone_and_an_interrupted_restoration_is_begun_anew() {
    let (folder, mos) = house().await;
    let place = tempfile::tempdir().unwrap();
    furnish(folder.path(), &mos).await;
    let made = back_up(&mos, place.path(), "all.tar").await;
    let before = names_in(folder.path());
    let error = restore(&made.file, folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("empty or new folder"), "{error}");
    assert_eq!(names_in(folder.path()), before);

    let data = place.path().join("data");
    std::fs::create_dir_all(data.join(".mos-restore-x1/activation")).unwrap();
    std::fs::create_dir_all(data.join("usage")).unwrap();
    std::fs::write(data.join(".mos-restore-x1/mos.db"), "half of it").unwrap();
    let restored = restore(&made.file, &data).await.unwrap();
    assert_eq!(restored.database, made.database);
    assert_eq!(names_in(&data), ["activation", "mos.db", "settings.json", "usage"]);
    std::fs::create_dir(place.path().join("other")).unwrap();
    std::fs::write(place.path().join("other/photo.jpg"), "mine").unwrap();
    assert!(restore(&made.file, &place.path().join("other")).await.is_err(), "somebody else's files");
}

#[tokio::test]
async fn a_backup_holds_no_secrets_and_caches_only_when_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let model = json!({"backend": "openai", "config": {"model_name_or_path": "m", "api_key": "sk-very-secret"}});
    let settings = Settings::from_json(&json!({"chat_model": model})).unwrap();
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let mos = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.ensure_cube(&ann(), &notes()).await.unwrap();
    furnish_caches(folder.path());
    let options = BackupOptions { with_caches: false, ..BackupOptions::to(place.path()) };
    let made = mos.back_up(&options).await.unwrap();
    assert!(made.file.starts_with(place.path()) && made.file.extension().is_some_and(|end| end == "tar"));
    let texts = ["sk-very-secret".to_owned(), "keys and values".to_owned()];
    let found = files_holding(place.path(), &texts).unwrap();
    assert!(found.is_empty(), "{found:?}");
    let error = mos.back_up(&BackupOptions::to(made.file.clone())).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
}

fn furnish_caches(folder: &Path) {
    let caches: PathBuf = folder.join("activation/caches");
    std::fs::create_dir_all(&caches).unwrap();
    std::fs::write(caches.join("one.bin"), "keys and values").unwrap();
}

#[tokio::test]
async fn what_ends_with_the_program_cannot_be_backed_up() {
    let place = tempfile::tempdir().unwrap();
    let settings = Settings::from_json(&json!({"store": {"backend": "memory", "config": {}}})).unwrap();
    let mos = Mos::builder(settings).data_dir(place.path().join("data")).build().await.unwrap();
    mos.ensure_user(&UserId::from("ann")).await.unwrap();
    let error = mos.back_up(&BackupOptions::to(place.path().join("all.tar"))).await.unwrap_err();
    assert!(error.to_string().contains("forgets everything"), "{error}");
    assert!(!place.path().join("all.tar").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_to_servers_comes_with_keys_and_files_and_tells_what_does_not() {
    let Some((store, users, name)) = servers("restore") else { return };
    let (folder, mos) = house().await;
    let place = tempfile::tempdir().unwrap();
    // Servers are shared with other tests.
    mos.delete_cube(&ann(), &notes()).await.unwrap();
    let cube = CubeId::new(format!("{name}-restored"));
    mos.ensure_cube(&ann(), &cube).await.unwrap();
    let told = mos.add(Add::text("the cat sleeps").user("ann").cube(cube.clone())).await.unwrap().remove(0);
    let key = mos.create_key(NewKey::user("ann")).await.unwrap();
    furnish_caches(folder.path());
    std::fs::create_dir_all(folder.path().join("usage")).unwrap();
    std::fs::write(folder.path().join("usage/2026-01-02.jsonl"), "\n").unwrap();
    let made = back_up(&mos, place.path(), "all.tar").await;

    let data = place.path().join("data");
    let settings = Settings::from_json(&json!({"store": store, "user_manager": users})).unwrap();
    let restored = restore_to(&made.file, &settings, &data).await.unwrap();
    assert_eq!((restored.data_dir.as_path(), &restored.database), (data.as_path(), &made.database));
    assert_eq!(restored.moved.as_ref().map(|moved| moved.n_new_keys), Some(1));
    assert_eq!(restored.files.as_ref().map(|files| files.n_new), Some(2));
    assert!(restored.left.iter().any(|left| left.contains("logs of events")), "{:?}", restored.left);
    assert_eq!(std::fs::read(data.join("activation/caches/one.bin")).unwrap(), b"keys and values");
    assert!(!data.join("mos.db").exists(), "memories are on servers");
    let again = restore_to(&made.file, &settings, &data).await.unwrap();
    assert_eq!((again.moved.unwrap().n_known_keys, again.files.unwrap().n_same), (1, 2));

    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let there = Mos::builder(settings).data_dir(&data).embedder(embedder).build().await.unwrap();
    assert_eq!(there.find_key(key.text.expose()).await.unwrap().user, Some(ann()), "the same key opens the same");
    assert_eq!(there.get(&ann(), Some(&cube), &told).await.unwrap().memory, "the cat sleeps");
    there.delete_cube(&ann(), &cube).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_name_is_backed_up_with_users_that_are_on_a_server() {
    let Some(url) = mos_testkit::services::address("DATABASE_URL") else { return };
    let place = tempfile::tempdir().unwrap();
    let schema = format!("mos_servers_named_{}", std::process::id());
    let settings = json!({
        "store": {"backend": "sqlite", "config": {"path": place.path().join("real.db")}},
        "user_manager": {"backend": "postgres", "config": {"url": url, "schema_name": schema}},
        "data_dir": place.path().join("data"),
    });
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let settings = Settings::from_json(&settings).unwrap();
    let mos = Mos::builder(settings).embedder(embedder).build().await.unwrap();
    mos.create_user("ann", None).await.unwrap();
    mos.ensure_cube(&ann(), &notes()).await.unwrap();
    tell(&mos, "the cat sleeps").await;
    let made = back_up(&mos, place.path(), "all.tar").await;
    assert_eq!(made.database.n_memories, 1);
}
