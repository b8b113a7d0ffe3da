//! Documents of this machine: files, and folders with everything below them.

use std::collections::HashSet;
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

/// The files of folders.
#[derive(Clone, Debug, Default)]
pub struct DocumentFiles {
    /// Path after path, those of a folder in the order of their names; each once.
    pub files: Vec<PathBuf>,
    /// What is not read, and why, a sentence each.
    pub left_out: Vec<String>,
}

/// What became of documents, and of what lies beside them.
#[derive(Debug, Default)]
pub struct ReadDocuments {
    /// One by one, as [`DocumentFiles::files`].
    pub documents: Vec<ReadDocument>,
    /// What was not read, and why, a sentence each.
    pub left_out: Vec<String>,
}

/// Returns files, and those in folders and what is below them. What begins with a point is hidden, and links in folders are not
/// followed. A folder below that cannot be read does not stand in the way of the others.
///
/// # Errors
/// [`MemoryError::File`] for a path that cannot be read; [`Error::Invalid`] when there are no files, and when there are more
/// than 100,000.
pub fn document_files(paths: &[PathBuf]) -> Result<DocumentFiles> {
    let mut found = DocumentFiles::default();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() { below(path, &mut found)? } else { found.files.push(path.clone()) }
    }
    let mut seen = HashSet::new();
    found.files.retain(|file| seen.insert(file.clone()));
    match paths.first() {
        Some(first) if found.files.is_empty() => {
            Err(Error::Invalid(format!("there are no files in {}", first.display())))
        }
        _ => Ok(found),
    }
}

fn below(folder: &Path, found: &mut DocumentFiles) -> Result<()> {
    let mut waiting = vec![folder.to_owned()];
    let (first, mut n_links) = (found.files.len(), 0);
    while let Some(inner) = waiting.pop() {
        let entries = match std::fs::read_dir(&inner) {
            Ok(entries) => entries,
            Err(error) if inner != folder => {
                found.left_out.push(format!("{} is left out: it cannot be read: {error}", inner.display()));
                continue;
            }
            Err(error) => return Err(unreadable(&inner, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&inner, &error))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                found.files.push(entry.path());
            } else if kind.is_symlink() {
                n_links += 1;
            }
            if found.files.len().max(waiting.len()) > MAX_FILES {
                return Err(Error::Invalid(format!("more than {MAX_FILES} files or folders; add folders one by one")));
            }
        }
    }
    if n_links > 0 {
        found.left_out.push(format!("{}: links are left out ({n_links}); name what they lead to", folder.display()));
    }
    found.files[first..].sort();
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
    /// let read = mos.remember_documents(&["./notes".into()], Remember::default().user("ann")).await?;
    /// for document in read.documents {
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
    pub async fn remember_documents(&self, paths: &[PathBuf], how: Remember) -> Result<ReadDocuments> {
        self.check_remembers_to(&how).await?;
        let paths = paths.to_vec();
        let DocumentFiles { files, left_out } = tokio::task::spawn_blocking(move || document_files(&paths))
            .await
            .map_err(|error| Error::Invalid(format!("looking for the documents broke off: {error}")))??;
        let mut documents = Vec::with_capacity(files.len());
        for path in files {
            let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path.clone()) };
            // Whoever holds the facade may read the files that they name.
            let what = how.clone().instead(vec![RawItem::File(file)], Sources::of_owner());
            documents.push(ReadDocument { path, stored: self.remember(what).await });
        }
        Ok(ReadDocuments { documents, left_out })
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
        let again = folder.path().join("a.md");
        let found = document_files(&[folder.path().to_owned(), again]).unwrap();
        assert!(found.left_out.is_empty(), "{found:?}");
        let names: Vec<String> = found
            .files
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_string_lossy().replace('\\', "/"))
            .collect();
        assert_eq!(names, ["a.md", "b/x.txt", "c.md"]);
        assert!(document_files(&[folder.path().join("none")]).unwrap_err().to_string().contains("none"));
        assert!(matches!(document_files(&[folder.path().join("b/.git/..")]), Ok(found) if found.files.len() == 1));
        assert!(document_files(&[]).unwrap().files.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_told_and_not_followed() {
        use std::os::unix::fs::symlink;

        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = elsewhere.path().join("secret.md");
        for path in [&secret, &folder.path().join("a.md")] {
            std::fs::write(path, "x").unwrap();
        }
        symlink(&secret, folder.path().join("link.md")).unwrap();
        symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
        symlink(folder.path(), folder.path().join("round")).unwrap();
        let found = document_files(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found.files, [folder.path().join("a.md")]);
        assert!(found.left_out.len() == 1 && found.left_out[0].contains("links are left out (3)"), "{found:?}");
        assert_eq!(
            document_files(&[folder.path().join("link.md")]).unwrap().files.len(),
            1,
            "named itself, it is read"
        );
    }
}
