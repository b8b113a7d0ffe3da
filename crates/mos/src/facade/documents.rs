//! Documents of this machine: files, and folders with everything below them.

use std::path::{Path, PathBuf};

use mos_core::{FileData, MemoryError, RawFile, RawItem, Sources};

use super::{Mos, Remember, Remembered};
use crate::error::{Error, Result};

/// The most files of one call.
const MAX_FILES: usize = 100_000;

/// What became of one document.
#[derive(Debug)]
pub struct ReadDocument {
    /// The file.
    pub path: PathBuf,
    /// What was stored of it, or why nothing was.
    pub stored: Result<Remembered>,
}

/// Returns files, and those in folders and what is below them: path after path, those of a folder in the order of their names.
/// What begins with a point is hidden, and links to folders are not followed.
///
/// # Errors
/// [`MemoryError::File`] for a path that cannot be read; [`Error::Invalid`] when there are no files, and when there are more
/// than 100,000.
pub fn document_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() { below(path, &mut files)? } else { files.push(path.clone()) }
    }
    match paths.first() {
        Some(first) if files.is_empty() => Err(Error::Invalid(format!("there are no files in {}", first.display()))),
        _ => Ok(files),
    }
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut waiting = vec![folder.to_owned()];
    let first = files.len();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
            if files.len() > MAX_FILES {
                return Err(Error::Invalid(format!("more than {MAX_FILES} files; add folders one by one")));
            }
        }
    }
    files[first..].sort();
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    MemoryError::File { path: path.display().to_string(), detail: format!("cannot be read: {error}") }.into()
}

impl Mos {
    /// Reads documents of this machine as [`Mos::remember`] does, each by itself: files, and folders with everything below
    /// them, as [`document_files`] finds them. Returns what became of each, in that order; one that cannot be read does not
    /// keep the others from being stored. What was read before is known and stays as it is, so that the same call can be made
    /// again; a file that has changed takes the place of what it said.
    ///
    /// `how` says for whom, where and how they are read; input that it names is not heeded.
    ///
    /// ```no_run
    /// # use mos::{Mos, Remember};
    /// # async fn run(mos: Mos) -> mos::Result<()> {
    /// for document in mos.remember_documents(&["./notes".into()], Remember::default().user("ann")).await? {
    ///     match document.stored {
    ///         Ok(stored) => println!("{}: {} memories", document.path.display(), stored.ids.len()),
    ///         Err(error) => println!("{}: {error}", document.path.display()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Rights; those of [`document_files`]. Nothing is stored then.
    pub async fn remember_documents(&self, paths: &[PathBuf], how: Remember) -> Result<Vec<ReadDocument>> {
        self.check_remembers_to(&how).await?;
        let paths = paths.to_vec();
        let files = tokio::task::spawn_blocking(move || document_files(&paths))
            .await
            .map_err(|error| Error::Invalid(format!("looking for the documents broke off: {error}")))??;
        let mut read = Vec::with_capacity(files.len());
        for path in files {
            let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path.clone()) };
            // Whoever holds the facade may read the files that they name.
            let what = how.clone().instead(vec![RawItem::File(file)], Sources::of_owner());
            read.push(ReadDocument { path, stored: self.remember(what).await });
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_without_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("b/.git")).unwrap();
        for name in ["c.md", "a.md", "b/x.txt", "b/.git/config", ".hidden"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let found = document_files(&[folder.path().to_owned()]).unwrap();
        let names: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_string_lossy().replace('\\', "/"))
            .collect();
        assert_eq!(names, ["a.md", "b/x.txt", "c.md"]);
        assert!(document_files(&[folder.path().join("none")]).unwrap_err().to_string().contains("none"));
        assert!(matches!(document_files(&[folder.path().join("b/.git/..")]), Ok(files) if files.len() == 1));
        assert!(document_files(&[]).unwrap().is_empty());
    }
}
