//! The files of the log: one that grows, and older ones with numbers that grow with age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Entry;

/// From this size on another file is begun.
pub(super) const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// How many files are kept besides the one that grows; the oldest goes first.
pub(super) const MAX_OLD_FILES: usize = 15;

/// The end of a file that is looked at for the number of its last line.
const TAIL_BYTES: u64 = 64 * 1024;

/// The file that grows (0), or the one of an age.
fn path_of(folder: &Path, age: usize) -> PathBuf {
    match age {
        0 => folder.join("audit.jsonl"),
        _ => folder.join(format!("audit.{age}.jsonl")),
    }
}

/// The file that grows.
#[derive(Debug)]
pub(super) struct Growing {
    folder: PathBuf,
    file: File,
    n_bytes: u64,
    /// The number of the next line.
    next: u64,
    max_bytes: u64,
}

impl Growing {
    /// Opens the file, and makes its folder; nobody else may look into either.
    pub(super) fn open(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        create_private(folder)?;
        let mut file = open_private(&path_of(folder, 0))?;
        let mut n_bytes = file.metadata()?.len();
        let mut last = last_number(&mut file, n_bytes)?;
        if last == 0 && path_of(folder, 1).exists() {
            let mut older = File::open(path_of(folder, 1))?;
            let n_bytes = older.metadata()?.len();
            last = last_number(&mut older, n_bytes)?;
        }
        if n_bytes > 0 && !ends_a_line(&mut file)? {
            // The program was stopped in the middle of a line.
            file.write_all(b"\n")?;
            n_bytes += 1;
        }
        Ok(Self { folder: folder.to_owned(), file, n_bytes, next: last + 1, max_bytes })
    }

    /// Numbers entries and writes their lines, durably.
    pub(super) fn write(&mut self, entries: &mut [Entry]) -> io::Result<()> {
        let mut text = String::new();
        let mut next = self.next;
        for entry in entries {
            entry.number = next;
            next += 1;
            text.push_str(&serde_json::to_string(&*entry).map_err(io::Error::other)?);
            text.push('\n');
        }
        if self.n_bytes > 0 && self.n_bytes + text.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.n_bytes += text.len() as u64;
        self.next = next;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for age in (0..MAX_OLD_FILES).rev() {
            let path = path_of(&self.folder, age);
            if path.exists() {
                fs::rename(&path, path_of(&self.folder, age + 1))?;
            }
        }
        self.file = open_private(&path_of(&self.folder, 0))?;
        self.n_bytes = 0;
        Ok(())
    }
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.create(true).append(true).read(true).open(path)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0_u8];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The number of the last whole line; 0 when there is none.
fn last_number(file: &mut File, n_bytes: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(n_bytes.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(entries_of(&bytes).next().map_or(0, |entry| entry.number))
}

/// The entries of a file, newest first. What is no entry (a line that broke off) is passed over.
fn entries_of(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.rsplit(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Returns at most `limit` of the newest entries before a number, newest first.
pub(super) fn newest(folder: &Path, before: u64, limit: usize) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for age in 0..=MAX_OLD_FILES {
        if found.len() >= limit {
            break;
        }
        let bytes = match fs::read(path_of(folder, age)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let missing = limit - found.len();
        found.extend(entries_of(&bytes).filter(|entry| entry.number < before).take(missing));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: &str) -> Entry {
        Entry { what: what.to_owned(), at: "2026".to_owned(), status: 200, ..Entry::default() }
    }

    fn numbers(folder: &Path, before: u64, limit: usize) -> Vec<u64> {
        newest(folder, before, limit).unwrap().into_iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn the_newest_entries_come_first_over_all_files() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("audit");
        let mut growing = Growing::open(&folder, 300).unwrap();
        for _ in 0..10 {
            growing.write(&mut [entry("POST /product/add")]).unwrap();
        }
        assert!(path_of(&folder, 2).exists(), "files are begun anew");
        assert_eq!(numbers(&folder, u64::MAX, 4), [10, 9, 8, 7]);
        assert_eq!(numbers(&folder, 7, 100), [6, 5, 4, 3, 2, 1]);
        drop(growing);
        let mut growing = Growing::open(&folder, 300).unwrap();
        growing.write(&mut [entry("again")]).unwrap();
        assert_eq!(numbers(&folder, u64::MAX, 1), [11], "numbers go on");
    }

    #[test]
    fn old_files_go() {
        let place = tempfile::tempdir().unwrap();
        let mut growing = Growing::open(place.path(), 1).unwrap();
        for _ in 0..MAX_OLD_FILES + 10 {
            growing.write(&mut [entry("a")]).unwrap();
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), MAX_OLD_FILES + 1);
    }

    #[test]
    fn a_line_that_broke_off_is_passed_over() {
        let place = tempfile::tempdir().unwrap();
        Growing::open(place.path(), 1000).unwrap().write(&mut [entry("whole")]).unwrap();
        let path = path_of(place.path(), 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"number\":2,\"at\":\"20");
        fs::write(&path, bytes).unwrap();
        Growing::open(place.path(), 1000).unwrap().write(&mut [entry("next")]).unwrap();
        assert_eq!(numbers(place.path(), u64::MAX, 10), [2, 1]);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("audit");
        Growing::open(&folder, 1000).unwrap().write(&mut [entry("a")]).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path_of(&folder, 0).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
