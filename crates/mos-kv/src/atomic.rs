//! Files that appear whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::KvError;

const SUFFIX: &str = ".mos-tmp";
/// Attempts to make a temporary file that no cleaner takes away at once.
const ATTEMPTS: usize = 16;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Writes a file under a temporary name, syncs it, gives it its name, and syncs the folder, which is made when it is
/// missing. After an error nothing is left and an earlier file of the name is as it was. A folder that cannot be synced is
/// no error: the file is there whole, and only a power cut could take its name away again; a warning tells of it.
///
/// # Errors
/// [`KvError::Io`], or the error of `write`.
pub(crate) fn write_atomically<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, KvError>,
) -> Result<T, KvError> {
    write_and_sync(path, write, sync_folder)
}

fn write_and_sync<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, KvError>,
    sync: impl FnOnce(&Path) -> Result<(), KvError>,
) -> Result<T, KvError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).map_err(|error| KvError::io("cannot make", folder, error))?;
    let (temporary, file) = create_temporary(folder).map_err(|error| KvError::io("cannot write in", folder, error))?;
    let result = fill(&temporary, file, path, write);
    if result.is_err() {
        // What cannot be removed now is removed by the next cleaning.
        let _ = fs::remove_file(&temporary);
    }
    let value = result?;
    if let Err(error) = sync(folder) {
        // The file has its name: after an error the caller would take it for one that is not there.
        tracing::warn!(%error, "a folder cannot be synced; what was just written to it may be gone after a power cut");
    }
    Ok(value)
}

fn fill<T>(
    temporary: &Path,
    file: File,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, KvError>,
) -> Result<T, KvError> {
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let value = write(&mut writer)?;
    let failed = |error| KvError::io("cannot write", path, error);
    let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    // The lock is held until the file has its name, so that nobody takes it for a left-over.
    fs::rename(temporary, path).map_err(failed)?;
    drop(file);
    Ok(value)
}

/// A new file that is locked: a cleaner leaves it alone as long as its writer lives.
fn create_temporary(folder: &Path) -> io::Result<(PathBuf, File)> {
    for _ in 0..ATTEMPTS {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{}-{number}{SUFFIX}", std::process::id()));
        let file = match File::options().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) if path.exists() => return Ok((path, file)),
            // A cleaner came between the two calls.
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // No locks here (some network folders): then cleaning is not safe either, and does nothing.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok((path, file)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "temporary names are taken"))
}

/// Removes what writers that died left in a folder, and returns how many files that were; a missing folder has none. What
/// cannot be removed stays, with a warning.
///
/// # Errors
/// [`KvError::Io`] when the folder cannot be listed.
pub(crate) fn clean_left_overs(folder: &Path) -> Result<usize, KvError> {
    let failed = |error| KvError::io("cannot clean", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
            continue;
        }
        match File::options().write(true).open(&path) {
            Ok(file) if file.try_lock().is_ok() => match remove_if_there(&path) {
                Ok(_) => removed += 1,
                Err(error) => tracing::warn!(%error, "what a writer left stays"),
            },
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another user's, perhaps, or on a disk that can only be read: no reason to refuse what else is in the folder.
            Err(error) => tracing::warn!(%error, path = %path.display(), "what a writer left stays"),
        }
    }
    Ok(removed)
}

/// Removes a file and returns whether it was there.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool, KvError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(KvError::io("cannot remove", path, error)),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), KvError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| KvError::io("cannot sync", folder, error))
}

/// Other systems have no call for it; their renames are durable with the file.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), KvError> {
    Ok(())
}

/// Writes bytes as a file of this name, whole or not at all.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), KvError> {
    write_atomically(path, |writer| writer.write_all(bytes).map_err(|error| KvError::io("cannot write", path, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_earlier_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_bytes(&path, b"old").unwrap();
        let failed: Result<(), _> = write_atomically(&path, |writer| {
            writer.write_all(b"half").unwrap();
            Err(KvError::Invalid("the disk is full".to_owned()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_in_a_folder_that_cannot_be_synced_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let refuse = |folder: &Path| Err(KvError::io("cannot sync", folder, io::ErrorKind::InvalidInput.into()));
        let fill = |writer: &mut BufWriter<File>| {
            writer.write_all(b"new").unwrap();
            Ok(3)
        };
        assert_eq!(write_and_sync(&path, fill, refuse).unwrap(), 3);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn cleaning_takes_dead_writers_files_and_leaves_living_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!(".1-1{SUFFIX}")), b"dead").unwrap();
        fs::write(folder.path().join("kept"), b"x").unwrap();
        // Nobody can open it as a file.
        fs::create_dir(folder.path().join(format!(".2-1{SUFFIX}"))).unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |writer| {
            writer.write_all(b"living").unwrap();
            assert_eq!(clean_left_overs(folder.path()).unwrap(), 1);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"living");
        assert!(folder.path().join("kept").exists());
    }
}
