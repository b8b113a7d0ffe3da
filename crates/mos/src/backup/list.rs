//! Which backups were made of a data folder: whoever erases a user learns which files may still hold the user.
//!
//! The list stays with its folder: no backup holds it, and restoring neither brings nor changes one.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file_error;
use crate::erasures::sync_folder;
use crate::error::Result;
use crate::folders;

/// The list, one backup a line, oldest first.
const LIST: &str = "backups.jsonl";

/// What it is written to before it has its name. A program that was stopped leaves it to the next one.
const UNFINISHED: &str = "backups.jsonl.new";

/// The file that one program at a time holds.
const LOCK: &str = "backups.lock";

/// The most backups that are listed.
const MAX_LISTED: usize = 1_000;

/// A backup that was made, or begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// When, ISO 8601.
    pub(crate) at: String,
    /// The file.
    pub(crate) file: PathBuf,
}

/// Adds a backup that is about to be made: one that is not listed must not exist. What is on the list and was never finished, or is
/// gone, does no harm.
///
/// # Errors
/// [`MemoryError::File`](mos_core::MemoryError::File) when the list cannot be written.
pub(super) fn note(data_dir: &Path, at: &str, file: &Path) -> Result<()> {
    let noted = std::path::absolute(file).and_then(|file| add(data_dir, Listed { at: at.to_owned(), file }));
    let told = |error: io::Error| {
        file_error(&data_dir.join(LIST), format!("the backup cannot be noted there, and was not made: {error}"))
    };
    noted.map_err(told)
}

fn add(data_dir: &Path, new: Listed) -> io::Result<()> {
    folders::create_private(data_dir)?;
    let lock = File::options().create(true).write(true).truncate(false).open(data_dir.join(LOCK))?;
    if let Err(error) = lock.lock() {
        // Some network folders have no locks.
        tracing::debug!(%error, "a backup is noted without a lock");
    }
    let mut listed = read(data_dir)?;
    listed.retain(|one| one.file != new.file);
    if listed.len() >= MAX_LISTED {
        listed.retain(may_exist);
    }
    listed.push(new);
    let n_dropped = listed.len().saturating_sub(MAX_LISTED);
    let mut lines = Vec::new();
    for one in &listed[n_dropped..] {
        serde_json::to_writer(&mut lines, one)?;
        lines.push(b'\n');
    }
    let unfinished = data_dir.join(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(&lines)?;
    file.sync_all()?;
    drop(file);
    fs::rename(unfinished, data_dir.join(LIST))?;
    sync_folder(data_dir)
}

/// Returns the backups that were made of a data folder and are still where they were written, oldest first.
///
/// # Errors
/// The error of a list that cannot be read.
pub(crate) fn backups_of(data_dir: &Path) -> io::Result<Vec<Listed>> {
    let mut listed = read(data_dir)?;
    listed.retain(may_exist);
    Ok(listed)
}

/// What cannot be looked at may be there.
fn may_exist(listed: &Listed) -> bool {
    !matches!(listed.file.try_exists(), Ok(false))
}

fn read(data_dir: &Path) -> io::Result<Vec<Listed>> {
    let bytes = match fs::read(data_dir.join(LIST)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let mut listed = Vec::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        match serde_json::from_str(line) {
            Ok(one) => listed.push(one),
            Err(error) => tracing::warn!(%error, "a line of the list of backups cannot be read, and is passed over"),
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(data_dir: &Path) -> Vec<String> {
        let listed = read(data_dir).unwrap();
        listed.iter().map(|one| one.file.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_backup_is_listed_once_and_only_as_long_as_it_is_there() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        assert!(backups_of(&data).unwrap().is_empty() && !data.exists(), "looking makes nothing");
        let (kept, gone) = (place.path().join("kept.tar"), place.path().join("gone.tar"));
        fs::write(&kept, "a backup").unwrap();
        for (at, file) in [("1", &kept), ("2", &gone), ("3", &kept)] {
            note(&data, at, file).unwrap();
        }
        assert_eq!(files(&data), ["gone.tar", "kept.tar"]);
        assert_eq!(backups_of(&data).unwrap(), [Listed { at: "3".to_owned(), file: kept }]);
        assert!(!data.join(UNFINISHED).exists());
    }

    #[test]
    fn a_list_that_is_full_loses_first_what_is_gone_and_a_line_that_is_spoiled_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path();
        let kept = data.join("oldest.tar");
        fs::write(&kept, "a backup").unwrap();
        let line = |file: PathBuf| format!("{}\n", serde_json::json!({"at": "1", "file": file}));
        let mut text = line(kept) + "{spoiled\n";
        for number in 1..MAX_LISTED {
            text += &line(data.join(format!("{number}.tar")));
        }
        fs::write(data.join(LIST), text).unwrap();
        assert_eq!(files(data).len(), MAX_LISTED);
        note(data, "2", &data.join("new.tar")).unwrap();
        assert_eq!(files(data), ["oldest.tar", "new.tar"]);
        let many = (0..MAX_LISTED).map(|number| data.join(format!("there-{number}.tar")));
        let text: String = many.inspect(|file| fs::write(file, "a backup").unwrap()).map(line).collect();
        fs::write(data.join(LIST), text).unwrap();
        note(data, "2", &data.join("new.tar")).unwrap();
        let listed = files(data);
        let ends = (listed.len(), listed[0].as_str(), listed[MAX_LISTED - 1].as_str());
        assert_eq!(ends, (MAX_LISTED, "there-1.tar", "new.tar"));
    }
}
