//! The files beside the database: which there are, and a copy of them that nobody changes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use mos_cube::{BUNDLE_STAGING, private_folder};
use serde_json::Value;
use tempfile::TempDir;

use super::{DATABASE, SETTINGS, file_error};
use crate::error::{Error, Result};
use crate::folders;

/// Folders of a data folder that are backed up: their names, whether programs add to their files in place, and whether they
/// hold caches.
pub(super) const FOLDERS: [(&str, bool, bool); 3] =
    [("usage", true, false), ("audit", true, false), ("activation", false, true)];

/// The most folders within each other.
const MAX_DEPTH: usize = 6;

/// What folders that a backup works in begin with, and the file that it writes before it has its name.
pub(super) const STAGING: &str = BUNDLE_STAGING;

/// The file of such a folder that is locked as long as somebody works there.
const LOCK: &str = "lock";

/// A folder that a backup is made in; it goes away with this value.
#[derive(Debug)]
pub(super) struct Staging {
    /// The system lets go of it when the process ends in any way, which tells what is left over from what is in use.
    _lock: File,
    folder: TempDir,
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes a folder that only this user can look into. What backups left there that were stopped is removed first: it holds
/// copies of memories that nobody would look for.
pub(super) fn staging(parent: &Path) -> Result<Staging> {
    folders::create_private(parent).map_err(|error| failed(parent, &error))?;
    remove_left_overs(parent);
    let folder = private_folder(parent, STAGING).map_err(|error| failed(parent, &error))?;
    let path = folder.path().join(LOCK);
    let lock = File::create(&path).map_err(|error| failed(&path, &error))?;
    if let Err(error) = lock.lock() {
        // Some network folders have no locks; nothing is removed from them either.
        tracing::debug!(%error, "a backup is made without a lock");
    }
    Ok(Staging { _lock: lock, folder })
}

/// Failing to is no reason not to make a backup.
fn remove_left_overs(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(STAGING)) {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        // Files are locked only where others may read them all the same.
        let locked = if kind.is_dir() {
            path.join(LOCK)
        } else if cfg!(unix) && kind.is_file() {
            path.clone()
        } else {
            continue;
        };
        let is_left_over = File::options().write(true).open(&locked).is_ok_and(|lock| lock.try_lock().is_ok());
        if !is_left_over {
            continue;
        }
        let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(%error, path = %path.display(), "what an interrupted backup left cannot be removed");
        }
    }
}

/// Brings what belongs into a backup beside the database into `folder`, and returns the names of all files there, the
/// database first.
pub(super) fn collect(data_dir: &Path, folder: &Path, settings: &Value, with_caches: bool) -> Result<Vec<String>> {
    let mut names = vec![DATABASE.to_owned(), SETTINGS.to_owned()];
    let text = serde_json::to_vec_pretty(settings).map_err(|error| Error::Invalid(error.to_string()))?;
    let path = folder.join(SETTINGS);
    fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    for (name, grows, is_cache) in FOLDERS {
        if !is_cache || with_caches {
            copy_folder(&data_dir.join(name), &folder.join(name), name, grows, &mut names, 0)?;
        }
    }
    names[2..].sort();
    Ok(names)
}

fn copy_folder(from: &Path, to: &Path, name: &str, grows: bool, names: &mut Vec<String>, depth: usize) -> Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(from, &error)),
    };
    if depth > MAX_DEPTH {
        return Err(file_error(from, "lies deeper than anything that belongs to a data folder"));
    }
    fs::create_dir_all(to).map_err(|error| failed(to, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(from, &error))?;
        let (path, own) = (entry.path(), entry.file_name());
        // What begins with a dot is still being written.
        let Some(own) = own.to_str().filter(|own| !own.starts_with('.')) else { continue };
        let whole = format!("{name}/{own}");
        let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
        if kind.is_dir() {
            copy_folder(&path, &to.join(own), &whole, grows, names, depth + 1)?;
        } else if kind.is_file() && copy_file(&path, &to.join(own), grows).map_err(|error| failed(&path, &error))? {
            names.push(whole);
        }
    }
    Ok(())
}

/// Returns whether the file was still there. One that is only ever replaced is linked, which takes neither time nor space.
fn copy_file(from: &Path, to: &Path, grows: bool) -> io::Result<bool> {
    if !grows && fs::hard_link(from, to).is_ok() {
        return Ok(true);
    }
    match fs::copy(from, to) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a name is that of something that a restored data folder holds beside the database.
pub(super) fn is_restored(name: &OsStr) -> bool {
    name == OsStr::new(SETTINGS) || FOLDERS.iter().any(|(folder, ..)| name == OsStr::new(folder))
}

/// An error of the file system, for people.
pub(super) fn failed(path: &Path, error: &io::Error) -> Error {
    file_error(path, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stopped_backups_left_is_removed_and_what_is_in_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(".mos-backup-left");
        fs::create_dir(&left).unwrap();
        for name in [LOCK, DATABASE] {
            fs::write(left.join(name), "").unwrap();
        }
        let half = place.path().join(".mos-backup-half");
        if cfg!(unix) {
            fs::write(&half, "half of a backup").unwrap();
        }
        fs::write(place.path().join("all.tar"), "a backup").unwrap();
        let first = staging(place.path()).unwrap();
        assert!(!left.exists() && !half.exists());
        let second = staging(place.path()).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        drop((first, second));
        let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["all.tar"]);
    }
}
