//! Whether files hold a text, byte by byte: the proof that something is gone.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A file that holds a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Holding {
    /// The file.
    pub file: PathBuf,
    /// The text.
    pub text: String,
}

/// Returns which files of a folder, and of those below it, or whether one file, hold which of the texts somewhere in their bytes or in their names,
/// sorted. Links are not followed, empty texts are passed over. It blocks while it reads.
///
/// Finds what is written as it is; what was compressed or encrypted is not found.
///
/// # Errors
/// The error of a file or folder that cannot be read.
pub fn files_holding(folder: &Path, texts: &[String]) -> io::Result<Vec<Holding>> {
    let texts: Vec<&String> = texts.iter().filter(|text| !text.is_empty()).collect();
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let kind = match fs::symlink_metadata(&path) {
            Ok(about) => about.file_type(),
            // It went away since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound && path != folder => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let mut held: Vec<bool> = texts.iter().map(|text| name.contains(text.as_str())).collect();
        if kind.is_file() {
            look_into(&path, &texts, &mut held)?;
        }
        let held = texts.iter().zip(held).filter(|(_, is_held)| *is_held);
        found.extend(held.map(|(text, _)| Holding { file: path.clone(), text: (*text).clone() }));
    }
    found.sort();
    Ok(found)
}

fn look_into(path: &Path, texts: &[&String], held: &mut [bool]) -> io::Result<()> {
    let mut file = File::open(path)?;
    let overlap = texts.iter().map(|text| text.len()).max().unwrap_or(0).saturating_sub(1);
    let mut bytes: Vec<u8> = Vec::with_capacity(CHUNK_BYTES + overlap);
    loop {
        // A text may begin in one chunk and end in the next.
        let kept = bytes.len().min(overlap);
        bytes.drain(..bytes.len() - kept);
        let n_read = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        if n_read == 0 {
            return Ok(());
        }
        for (text, is_held) in texts.iter().zip(held.iter_mut()) {
            *is_held = *is_held || bytes.windows(text.len()).any(|part| part == text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        // Across the end of the first chunk.
        let mut long = vec![b'x'; CHUNK_BYTES - 2];
        long.extend(b"secret");
        fs::write(deep.join("long"), long).unwrap();
        fs::write(folder.path().join("plain"), b"nothing").unwrap();
        fs::write(folder.path().join("of-ann"), b"").unwrap();
        let texts = ["secret".to_owned(), "ann".to_owned(), String::new()];
        let found = files_holding(folder.path(), &texts).unwrap();
        let expected = [(folder.path().join("a/b/long"), "secret"), (folder.path().join("of-ann"), "ann")];
        let expected = expected.map(|(file, text)| Holding { file, text: text.to_owned() });
        assert_eq!(found, expected);
    }
}
