//! The files of an embedded database, wherever it is.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the names of the files end in that SQLite keeps beside a database, and its own.
const ENDINGS: [&str; 3] = ["", "-wal", "-shm"];

/// Returns the files that there are of an embedded database: itself, what SQLite keeps beside it (`-wal`, `-shm`), and the copies
/// that were made before it was brought up to date (`mos.db.v7.backup`), sorted. A link is followed.
///
/// # Errors
/// The error of a file or folder that cannot be looked at.
pub fn database_files(database: &Path) -> io::Result<Vec<PathBuf>> {
    let real = match database.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => database.to_owned(),
        real => real?,
    };
    let mut files = Vec::new();
    for ending in ENDINGS {
        let mut file = real.clone().into_os_string();
        file.push(ending);
        let file = PathBuf::from(file);
        if file.try_exists()? {
            files.push(file);
        }
    }
    files.extend(database_copies(database)?);
    if real != database {
        files.extend(database_copies(&real)?);
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Returns the copies beside a database that were made before it was brought up to date.
///
/// # Errors
/// The error of a folder that cannot be read.
pub(crate) fn database_copies(database: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = database.file_name() else { return Ok(Vec::new()) };
    let start = format!("{}.v", name.to_string_lossy());
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let is_copy = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with(&start) && name.contains(".backup")
    };
    let mut copies = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_copy(&entry.file_name()) {
            copies.push(entry.path());
        }
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_belongs_to_a_database_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // Some systems have a link to their folder of temporary files.
        let folder = folder.path().canonicalize().unwrap();
        for name in ["real.db", "real.db-wal", "real.db.v7.backup", "real.db.v7.backup.1", "other.db", "real.db.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let expected = ["real.db", "real.db-wal", "real.db.v7.backup", "real.db.v7.backup.1"];
        let expected = expected.map(|name| folder.join(name));
        assert_eq!(database_files(&folder.join("real.db")).unwrap(), expected);
        assert!(database_files(&folder.join("none/real.db")).unwrap().is_empty());
        #[cfg(unix)]
        {
            let linked = folder.join("elsewhere");
            fs::create_dir(&linked).unwrap();
            std::os::unix::fs::symlink(folder.join("real.db"), linked.join("mos.db")).unwrap();
            assert_eq!(database_files(&linked.join("mos.db")).unwrap(), expected);
        }
    }
}
