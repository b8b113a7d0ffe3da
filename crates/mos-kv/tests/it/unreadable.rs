//! Files of a folder of items that cannot be used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mos_kv::{CheckLimits, FolderCheck, KvError, KvTiers, TierOptions, check_folder};

use crate::tiers::{disk, items};

/// The path of a file that has the name of an item.
fn file_named(folder: &Path, digit: &str) -> PathBuf {
    folder.join(format!("{}.safetensors", digit.repeat(64)))
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_opened_is_told_and_keeps_nothing_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    KvTiers::open(options.clone()).unwrap().put("", &items[0]).unwrap();
    // A link to itself: nobody can open it, not even who may read everything.
    let closed = file_named(folder.path(), "b");
    std::os::unix::fs::symlink(&closed, &closed).unwrap();
    let tiers = KvTiers::open(options).unwrap();
    assert_eq!(tiers.list("").len(), 1);
    tiers.put("", &items[1]).unwrap();
    assert_eq!(tiers.list("").len(), 2);
    let told = tiers.unreadable().unwrap();
    assert_eq!((told.len(), &told[0].path, told[0].is_removable), (1, &closed, false), "{told:?}");
    assert!(matches!(tiers.remove_unreadable(&told[0].name), Err(KvError::Io { .. })));
    assert!(fs::symlink_metadata(&closed).is_ok(), "it may be of use to somebody");
    fs::remove_file(&closed).unwrap();
    assert!(tiers.unreadable().unwrap().is_empty());
}

#[test]
fn a_file_whose_head_is_damaged_is_listed_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(1);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    KvTiers::open(options.clone()).unwrap().put("", &items[0]).unwrap();
    let whole = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let (damaged, foreign) = (file_named(folder.path(), "a"), folder.path().join("notes.safetensors"));
    fs::write(&damaged, b"short").unwrap();
    fs::write(&foreign, b"short").unwrap();
    let tiers = KvTiers::open(options).unwrap();
    let told = tiers.unreadable().unwrap();
    let shown: Vec<_> = told.iter().map(|one| (&one.path, one.is_removable)).collect();
    assert_eq!(shown, [(&damaged, true), (&foreign, false)]);
    assert!(told[0].detail.contains("it has 5 bytes"), "{told:?}");
    assert!(tiers.remove_unreadable(&told[0].name).unwrap());
    assert!(!tiers.remove_unreadable(&told[0].name).unwrap() && !damaged.exists());
    assert!(
        !tiers.remove_unreadable(&told[1].name).unwrap() && foreign.exists(),
        "no item was written under this name"
    );
    // What can be used stays, and goes once it cannot.
    let name = whole.file_stem().unwrap().to_str().unwrap();
    assert!(matches!(tiers.remove_unreadable(name), Err(KvError::Invalid(_))));
    let mut bytes = fs::read(&whole).unwrap();
    let middle = bytes.len() - 2;
    bytes[middle] ^= 1;
    fs::write(&whole, bytes).unwrap();
    assert!(tiers.remove_unreadable(name).unwrap());
    assert!(tiers.list("").is_empty() && !whole.exists());
}

#[test]
fn a_check_reads_heads_and_verifies_as_far_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let limits = CheckLimits { max_bytes: u64::MAX, max_time: Duration::from_secs(600) };
    let nowhere = folder.path().join("nowhere");
    assert_eq!(check_folder(&nowhere, limits).unwrap(), FolderCheck::default());
    assert!(!nowhere.exists(), "looking makes no folder");
    let items = items(2);
    let options = TierOptions { disk: disk(folder.path()), ..TierOptions::default() };
    let tiers = KvTiers::open(options).unwrap();
    items.iter().for_each(|item| drop(tiers.put("", item).unwrap()));
    let whole = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let well = check_folder(folder.path(), limits).unwrap();
    assert_eq!((well.n_files, well.n_read, well.n_verified, well.unreadable.len()), (2, 2, 2, 0), "{well:?}");
    let mut bytes = fs::read(&whole).unwrap();
    let middle = bytes.len() - 2;
    bytes[middle] ^= 1;
    fs::write(&whole, bytes).unwrap();
    fs::write(file_named(folder.path(), "a"), b"short").unwrap();
    let found = check_folder(folder.path(), limits).unwrap();
    assert_eq!((found.n_files, found.n_verified, found.unreadable.len()), (3, 3, 2), "{found:?}");
    assert!(found.unreadable.iter().any(|one| one.path == whole && one.detail.contains("checksum")), "{found:?}");
    let heads = check_folder(folder.path(), CheckLimits { max_bytes: 0, ..limits }).unwrap();
    assert_eq!((heads.n_read, heads.n_verified, heads.unreadable.len()), (3, 0, 1), "{heads:?}");
    let none = check_folder(folder.path(), CheckLimits { max_time: Duration::ZERO, ..limits }).unwrap();
    assert_eq!((none.n_files, none.n_read), (3, 0));
}

#[test]
fn what_is_told_of_a_damaged_head_quotes_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let header = br#"{"__metadata__": "my secret"}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    fs::write(file_named(folder.path(), "a"), bytes).unwrap();
    let tiers = KvTiers::open(TierOptions { disk: disk(folder.path()), ..TierOptions::default() }).unwrap();
    let told = tiers.unreadable().unwrap();
    assert!(told[0].detail.contains("not understood") && !told[0].detail.contains("secret"), "{told:?}");
}
