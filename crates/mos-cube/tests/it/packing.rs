//! One file of a cube, and what is refused as one.

use std::io::Read;
use std::path::{Path, PathBuf};

use mos_cube::{MemoryKind, pack, unpack};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::{dump, memory, naive_config, names};

/// A folder with a dumped cube and its file.
async fn packed() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (directory, file) = (folder.path().join("cube"), folder.path().join("cube.tar"));
    dump(&directory, &memory("a dog").await).await.unwrap();
    pack(&directory, &file).unwrap();
    (folder, directory, file)
}

#[tokio::test]
async fn a_cube_comes_out_of_its_file_as_it_went_in() {
    let (folder, directory, file) = packed().await;
    let unpacked = unpack(&file, folder.path()).unwrap();
    assert_eq!(names(unpacked.directory()), names(&directory));
    for name in names(&directory) {
        let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        assert_eq!(read(unpacked.directory()), read(&directory), "{name}");
    }
    let manifest = unpacked.dump.manifest.clone().unwrap();
    assert_eq!(manifest, mos_cube::read(&directory).unwrap().manifest.unwrap());
    assert_eq!(manifest.memories.get(&MemoryKind::Text).map(String::as_str), Some("naive_text"));
    let files = [(MemoryKind::Text, "textual_memory.json".to_owned())];
    assert_eq!(manifest.content.unwrap(), mos_cube::content_hash(&directory, &files).unwrap());
    let place = unpacked.directory().to_owned();
    drop(unpacked);
    assert!(!place.exists(), "nothing stays behind");
    let again = folder.path().join("again.tar");
    pack(&directory, &again).unwrap();
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&file).unwrap(), "the same dump, the same bytes");
    assert_eq!(names(folder.path()), ["again.tar", "cube", "cube.tar"]);
}

#[tokio::test]
async fn another_text_is_another_content() {
    let folder = tempfile::tempdir().unwrap();
    let mut contents = Vec::new();
    for text in ["a dog", "a cat"] {
        let manifest = dump(&folder.path().join(text), &memory(text).await).await.unwrap();
        contents.push(manifest.content.unwrap());
    }
    assert_ne!(contents[0], contents[1]);
}

#[tokio::test]
async fn a_file_that_exists_and_a_directory_without_manifest_are_not_packed() {
    let (folder, directory, file) = packed().await;
    let error = pack(&directory, &file).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    std::fs::write(directory.join("textual_memory.json"), "[]").unwrap();
    let error = pack(&directory, &folder.path().join("new.tar")).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
    std::fs::remove_file(directory.join("manifest.json")).unwrap();
    let error = pack(&directory, &folder.path().join("new.tar")).unwrap_err().to_string();
    assert!(error.contains("has no manifest.json"), "{error}");
    assert!(!folder.path().join("new.tar").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_a_cubes_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, _, file) = packed().await;
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A header whose name is written as it is, which no honest program does.
fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// An archive of entries, beginning with a manifest that names `listed`.
fn archive(listed: &[(&str, &[u8])], entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let files: Vec<Value> = listed
        .iter()
        .map(|(name, content)| {
            json!({"name": name, "bytes": content.len(), "blake3": blake3::hash(content).to_hex().as_str()})
        })
        .collect();
    let manifest = json!({
        "format": 1, "program": "test", "cube_id": "notes", "text_backend": null, "embedding_space": null,
        "created_at": "2026-01-02T03:04:05+00:00", "files": files,
    })
    .to_string();
    let mut builder = Builder::new(Vec::new());
    let first = ("manifest.json", EntryType::Regular, manifest.as_bytes());
    for (name, kind, content) in std::iter::once(&first).chain(entries) {
        builder.append(&header(name, *kind, content.len() as u64), *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn refusal(folder: &Path, bytes: &[u8]) -> String {
    let file = folder.join("hostile.tar");
    std::fs::write(&file, bytes).unwrap();
    let error = unpack(&file, &folder.join("inside")).unwrap_err().to_string();
    assert!(error.contains("hostile.tar"), "{error}");
    assert_eq!(names(&folder.join("inside")), Vec::<String>::new(), "{error}");
    assert_eq!(names(folder), ["hostile.tar", "inside"], "{error}");
    error
}

#[test]
fn hostile_entries_are_refused_before_they_touch_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let config = naive_config().to_string();
    let config = config.as_bytes();
    use EntryType as E;
    type Entry<'a> = (&'a str, EntryType, &'a [u8]);
    let cases: [(Entry<'_>, &str); 9] = [
        (("../escape", E::Regular, b"x"), "outside the cube"),
        (("/tmp/escape", E::Regular, b"x"), "outside the cube"),
        (("a/../../escape", E::Regular, b"x"), "outside the cube"),
        (("a\\..\\escape", E::Regular, b"x"), "outside the cube"),
        (("link", E::Symlink, b""), "no plain file"),
        (("link", E::Link, b""), "no plain file"),
        (("sparse", E::GNUSparse, b""), "no plain file"),
        (("long", E::GNULongName, b"../escape\0"), "no plain file"),
        (("extra", E::Regular, b"x"), "does not name"),
    ];
    for (entry, expected) in cases {
        let bytes = archive(&[("config.json", config)], &[("config.json", E::Regular, config), entry]);
        let error = refusal(folder.path(), &bytes);
        assert!(error.contains(expected), "{}: {error}", entry.0);
    }
}

#[test]
fn what_is_cut_off_damaged_repeated_or_newer_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let config = naive_config().to_string();
    let config = config.as_bytes();
    let entry = ("config.json", EntryType::Regular, config);
    let whole = archive(&[("config.json", config)], &[entry]);
    let says = |bytes: &[u8], expected: &str| {
        let error = refusal(folder.path(), bytes);
        assert!(error.contains(expected), "expected {expected}: {error}");
    };
    says(&archive(&[("config.json", config)], &[entry, entry]), "or names once");
    says(&archive(&[("config.json", config)], &[]), "lacks `config.json`");
    says(&archive(&[("config.json", b"{}")], &[entry]), "tells 2");
    says(&archive(&[("../x", b"")], &[]), "lacks `../x`");
    says(b"", "is empty");
    says(&[7; 2048], "is not a cube's file");
    let position = whole.windows(9).position(|window| window == b"cube_id\":").unwrap();
    let mut damaged = whole.clone();
    // In the configuration, which comes second.
    let second = whole.windows(9).rposition(|window| window == b"cube_id\":").unwrap();
    assert!(second > position);
    damaged[second + 11] = b'X';
    says(&damaged, "checksum");
    let text = String::from_utf8(whole).unwrap();
    says(text.replace("\"format\":1,", "\"format\":9,").as_bytes(), "use a newer `mos`");
}

#[test]
fn a_size_that_lies_is_an_end_that_comes_too_soon() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    // As much as a disk holds, of which nothing follows.
    bytes.extend_from_slice(header("manifest.json", EntryType::Regular, 8 << 20).as_bytes());
    let error = refusal(folder.path(), &bytes);
    assert!(error.contains("cut off"), "{error}");
    let mut nothing = Vec::new();
    std::fs::File::open(folder.path().join("hostile.tar")).unwrap().read_to_end(&mut nothing).unwrap();
    assert_eq!(nothing.len(), 512, "the input is left as it was");
}
