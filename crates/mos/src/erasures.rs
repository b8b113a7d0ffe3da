//! What is being erased, noted on disk before the first of it goes: whoever begins after a break knows what to finish.
//!
//! A note names the user and its cubes, and is removed when no byte of them is left elsewhere. Once all rows are gone it names
//! nobody any more. One program at a time erases in a data folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use mos_core::{Cube, UserId};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::folders;

/// The folder of notes in a data folder.
const FOLDER: &str = "erasing";

/// The file in it that one program at a time holds.
const LOCK: &str = "lock";

/// What the names of notes end in.
const SUFFIX: &str = ".json";

/// What the names of notes begin with that are not whole yet.
const UNFINISHED: &str = ".note-";

/// How far erasing a user has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub(crate) enum Note {
    /// Rows and files are being removed.
    Removing(Erasure),
    /// All are; their bytes are in the database until it is rewritten.
    Rewriting {
        /// Where the memories were.
        store: String,
    },
}

/// Whom and what to remove.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Erasure {
    /// Where the memories are, for people.
    pub(crate) store: String,
    pub(crate) user: UserId,
    /// When the user was made: another one of the same id is somebody else.
    pub(crate) made_at: String,
    pub(crate) also_in_shared: bool,
    /// Whether some of what the user wrote into cubes of others may be gone already.
    #[serde(default)]
    pub(crate) has_begun_in_shared: bool,
    /// All cubes that the user owned when it began.
    pub(crate) cubes: Vec<Cube>,
}

impl Note {
    pub(crate) fn store(&self) -> &str {
        match self {
            Self::Removing(erasure) => &erasure.store,
            Self::Rewriting { store } => store,
        }
    }
}

/// The notes of a data folder.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    folder: PathBuf,
}

/// Held by the program that erases; given back when it is dropped, also by a program that is killed.
#[derive(Debug)]
pub(crate) struct Alone {
    _lock: File,
}

impl Notes {
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER) }
    }

    /// Waits until no other program erases in this folder.
    pub(crate) fn alone(&self) -> io::Result<Alone> {
        let file = self.lock_file()?;
        file.lock()?;
        self.clean()?;
        Ok(Alone { _lock: file })
    }

    /// As [`Notes::alone`], but `None` when another program erases.
    pub(crate) fn try_alone(&self) -> io::Result<Option<Alone>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => {
                self.clean()?;
                Ok(Some(Alone { _lock: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        folders::create_private(&self.folder)?;
        File::options().create(true).write(true).truncate(false).open(self.folder.join(LOCK))
    }

    /// Removes what a program left that was killed while it wrote a note. Nobody else may be writing one.
    fn clean(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the note about a user.
    pub(crate) fn read(&self, user: &UserId) -> io::Result<Option<Note>> {
        read(&self.path_of(user))
    }

    /// Returns whether there is any note, readable or not.
    pub(crate) fn has_any(&self) -> io::Result<bool> {
        Ok(!self.paths()?.is_empty())
    }

    /// Returns all notes, each with the path that it is removed by. One that cannot be read is passed over, and the log says so.
    pub(crate) fn all(&self) -> io::Result<Vec<(PathBuf, Note)>> {
        let mut notes = Vec::new();
        for path in self.paths()? {
            match read(&path) {
                Ok(Some(note)) => notes.push((path, note)),
                Ok(None) => {}
                Err(error) => tracing::error!(
                    %error,
                    path = %path.display(),
                    "a note of what is being erased cannot be read; repeat `mos user erase` for that user, or remove the note"
                ),
            }
        }
        Ok(notes)
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(SUFFIX)) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Where the note about a user is: its name says nothing about the user.
    pub(crate) fn path_of(&self, user: &UserId) -> PathBuf {
        let hash = blake3::hash(user.as_str().as_bytes());
        self.folder.join(format!("{}{SUFFIX}", hash.to_hex()))
    }
}

fn read(path: &Path) -> io::Result<Option<Note>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a note so that it is there after a crash, whole, or as it was before.
pub(crate) fn write(path: &Path, note: &Note) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::with_prefix_in(UNFINISHED, folder)?;
    file.write_all(&serde_json::to_vec(note)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Removes a note; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_folder(path.parent().unwrap_or(Path::new("."))),
    }
}

#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written_and_one_program_erases_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::of(folder.path());
        assert!(notes.all().unwrap().is_empty());
        assert!(!folder.path().join(FOLDER).exists(), "looking makes nothing");
        let held = notes.alone().unwrap();
        assert!(notes.try_alone().unwrap().is_none());
        let user = UserId::new("zora");
        let erasure = Erasure {
            store: "here".to_owned(),
            user: user.clone(),
            made_at: "2026-01-02T00:00:00.000000+00:00".to_owned(),
            also_in_shared: true,
            has_begun_in_shared: false,
            cubes: Vec::new(),
        };
        let path = notes.path_of(&user);
        for note in [Note::Removing(erasure), Note::Rewriting { store: "here".to_owned() }] {
            write(&path, &note).unwrap();
            assert_eq!(notes.read(&user).unwrap(), Some(note.clone()));
            assert_eq!(notes.all().unwrap(), [(path.clone(), note)]);
            assert!(notes.has_any().unwrap());
        }
        let spoiled = notes.path_of(&UserId::new("another"));
        fs::write(&spoiled, "{").unwrap();
        assert_eq!(notes.all().unwrap().len(), 1, "one that is spoiled keeps no other from being read");
        fs::remove_file(spoiled).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("zora"), "in the end it names nobody");
        remove(&path).unwrap();
        remove(&path).unwrap();
        drop(held);
        fs::write(folder.path().join(FOLDER).join(".note-killed"), "zora").unwrap();
        assert!(notes.try_alone().unwrap().is_some() && notes.all().unwrap().is_empty());
        let names: Vec<_> =
            fs::read_dir(folder.path().join(FOLDER)).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, [LOCK], "half a note does not stay");
    }
}
