//! Takes names out of log files that must otherwise stay as they are.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

/// Replaces texts where they stand alone in quotes, as JSON writes them, by asterisks of the same length, in all files of a folder
/// whose names end in `.jsonl`; returns how often. The files stay the same files, so that a program may go on writing to them, and a
/// crash leaves no half line.
///
/// # Errors
/// The error of a file that cannot be read or written.
pub(crate) fn mask_in_files(folder: &Path, texts: &[String]) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let needles: Vec<String> = texts.iter().map(|text| serde_json::Value::from(text.as_str()).to_string()).collect();
    let mut n_masked = 0;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            n_masked += mask_in_file(&path, &needles)?;
        }
    }
    Ok(n_masked)
}

fn mask_in_file(path: &Path, needles: &[String]) -> io::Result<usize> {
    let bytes = fs::read(path)?;
    let mut places: Vec<(usize, usize)> = Vec::new();
    for needle in needles {
        let found = bytes.windows(needle.len()).enumerate().filter(|(_, part)| *part == needle.as_bytes());
        // Without the quotes.
        places.extend(found.map(|(at, _)| (at + 1, needle.len() - 2)));
    }
    if places.is_empty() {
        return Ok(0);
    }
    let mut file = OpenOptions::new().write(true).open(path)?;
    for (at, n_bytes) in &places {
        file.seek(SeekFrom::Start(*at as u64))?;
        file.write_all("*".repeat(*n_bytes).as_bytes())?;
    }
    file.sync_all()?;
    Ok(places.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_masked_and_what_only_holds_them_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        fs::write(&file, "{\"user\":\"ann\",\"cubes\":[\"a\\\"b\"]}\n{\"user\":\"annabel\"}\n").unwrap();
        fs::write(folder.path().join("other.txt"), "\"ann\"").unwrap();
        let n_masked = mask_in_files(folder.path(), &["ann".to_owned(), "a\"b".to_owned()]).unwrap();
        assert_eq!(n_masked, 2);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "{\"user\":\"***\",\"cubes\":[\"****\"]}\n{\"user\":\"annabel\"}\n");
        assert_eq!(fs::read_to_string(folder.path().join("other.txt")).unwrap(), "\"ann\"");
        assert_eq!(mask_in_files(&folder.path().join("missing"), &[]).unwrap(), 0);
    }
}
