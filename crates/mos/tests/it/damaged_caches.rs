//! Files of kept caches that are damaged: nobody can say whose they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos::{EraseOptions, Mos, Settings};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::embedder::WordEmbedder;

use crate::ann;

async fn open(folder: &Path) -> Mos {
    let (embedder, model) = (Arc::new(WordEmbedder::new("words", 64)), Arc::new(ScriptedChat::new(["x"])));
    Mos::builder(Settings::default()).data_dir(folder).embedder(embedder).chat_model(model).build().await.unwrap()
}

/// Writes a file that has the name of a cache and nothing of its content; returns name and path.
fn damaged_file(folder: &Path) -> (String, PathBuf) {
    let (caches, name) = (folder.join("activation/caches"), "a".repeat(64));
    fs::create_dir_all(&caches).unwrap();
    let path = caches.join(format!("{name}.safetensors"));
    fs::write(&path, b"short").unwrap();
    (name, path)
}

#[tokio::test]
async fn damaged_files_are_found_by_the_doctor_and_removed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path()).await;
    assert!(mos.unreadable_caches().await.unwrap().is_empty());
    assert!(!mos.remove_unreadable_cache(&"a".repeat(64)).await.unwrap());
    assert_eq!(mos.doctor().await.unwrap().facts["caches"], "0 files, 0 bytes");
    assert!(!folder.path().join("activation/caches").exists(), "looking makes no folder");
    let (name, path) = damaged_file(folder.path());
    let report = mos.doctor().await.unwrap();
    let told: Vec<_> = report.findings.iter().filter(|finding| finding.what == "cache file").collect();
    assert_eq!((told.len(), report.facts["caches"].as_str()), (1, "1 files, 5 bytes"), "{report:?}");
    assert!(told[0].detail.contains(&name) && told[0].remedy.contains(&format!("mos kv rm {name}")), "{told:?}");
    assert_eq!(mos.unreadable_caches().await.unwrap()[0].name, name);
    assert!(mos.remove_unreadable_cache(&name).await.unwrap() && !path.exists());
    assert!(mos.unreadable_caches().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_erasure_takes_damaged_files_and_names_those_that_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path()).await;
    mos.create_user("ann", None).await.unwrap();
    let (name, path) = damaged_file(folder.path());
    let foreign = path.with_file_name("notes.safetensors");
    fs::write(&foreign, b"short").unwrap();
    let erased = mos.erase_user(&ann(), EraseOptions::default()).await.unwrap();
    assert!(!path.exists(), "it may have held what ann said");
    assert!(foreign.exists(), "no cache was written under this name");
    let told = |what: &str| erased.left.iter().filter(|one| one.contains(what)).count();
    assert_eq!((told("notes.safetensors cannot be read"), told(&name)), (1, 0), "{:?}", erased.left);
}
