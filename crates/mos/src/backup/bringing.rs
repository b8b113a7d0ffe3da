//! The files beside the database, brought to a data folder that is in use: what is there stays.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::Serialize;
use tempfile::NamedTempFile;

use super::files::{FOLDERS, failed};
use crate::error::Result;
use crate::folders;

/// What came to a data folder, and what was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BroughtFiles {
    /// How many files came.
    pub n_new: usize,
    /// How many were there already, byte by byte.
    pub n_same: usize,
    /// Files of the data folder that have other contents and stay as they are, by their names.
    pub kept: Vec<String>,
}

/// Brings counted tokens, the log of changes and caches to a data folder, which is made when it is missing.
///
/// # Errors
/// Errors of files. What came until then stays, and the same call goes on.
pub(super) fn bring(from: &Path, data_dir: &Path) -> Result<BroughtFiles> {
    let mut brought = BroughtFiles::default();
    for (name, ..) in FOLDERS {
        let folder = from.join(name);
        if folder.is_dir() {
            folders::create_private(data_dir).map_err(|error| failed(data_dir, &error))?;
            bring_folder(&folder, &data_dir.join(name), name, &mut brought)?;
        }
    }
    brought.kept.sort();
    Ok(brought)
}

/// The backup was read as a whole before: it is no deeper than what is backed up.
fn bring_folder(from: &Path, to: &Path, name: &str, brought: &mut BroughtFiles) -> Result<()> {
    fs::create_dir_all(to).map_err(|error| failed(to, &error))?;
    for entry in fs::read_dir(from).map_err(|error| failed(from, &error))? {
        let entry = entry.map_err(|error| failed(from, &error))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let whole = format!("{name}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
        if kind.is_dir() {
            bring_folder(&path, &target, &whole, brought)?;
            continue;
        }
        let is_new = bring_file(&path, to, &target).map_err(|error| failed(&target, &error))?;
        if is_new {
            brought.n_new += 1;
        } else if is_same(&path, &target).map_err(|error| failed(&target, &error))? {
            brought.n_same += 1;
        } else {
            brought.kept.push(whole);
        }
    }
    Ok(())
}

/// Returns whether it came; `false` when a file of this name is there. Nobody sees half of it.
fn bring_file(from: &Path, folder: &Path, to: &Path) -> io::Result<bool> {
    if to.exists() {
        return Ok(false);
    }
    // What begins with a dot is still being written.
    let mut new = NamedTempFile::with_prefix_in(".mos-restore-", folder)?;
    io::copy(&mut File::open(from)?, &mut new)?;
    new.as_file().sync_all()?;
    match new.persist_noclobber(to) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    if fs::metadata(one)?.len() != fs::metadata(other)?.len() {
        return Ok(false);
    }
    let hash = |path: &Path| -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize())
    };
    Ok(hash(one)? == hash(other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_there_stays_and_what_is_missing_comes() {
        let (backup, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = data.path().join("new");
        for (name, text) in [
            ("usage/2026-01-01.jsonl", "one"),
            ("usage/2026-01-02.jsonl", "two"),
            ("audit/audit.jsonl", "who"),
            ("activation/caches/ab/one.bin", "keys and values"),
            ("mos.db", "it went to servers"),
            ("settings.json", "{}"),
        ] {
            write(backup.path(), name, text);
        }
        write(&data, "usage/2026-01-02.jsonl", "other");
        write(&data, "audit/audit.jsonl", "who");
        let brought = bring(backup.path(), &data).unwrap();
        let kept = vec!["usage/2026-01-02.jsonl".to_owned()];
        assert_eq!(brought, BroughtFiles { n_new: 2, n_same: 1, kept: kept.clone() });
        assert_eq!(fs::read(data.join("activation/caches/ab/one.bin")).unwrap(), b"keys and values");
        assert_eq!(fs::read(data.join("usage/2026-01-02.jsonl")).unwrap(), b"other");
        assert!(!data.join("mos.db").exists() && !data.join("settings.json").exists());
        assert_eq!(bring(backup.path(), &data).unwrap(), BroughtFiles { n_new: 0, n_same: 3, kept });
        let left: Vec<_> = fs::read_dir(data.join("usage")).unwrap().collect();
        assert_eq!(left.len(), 2, "nothing half-written stays");
    }
}
