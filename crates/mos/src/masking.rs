//! Takes names out of log files that must otherwise stay as they are.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

/// Words in the keys of fields whose values name somebody or something.
const NAMING: [&str; 2] = ["user", "cube"];

/// Replaces names by asterisks of the same length in all files of a folder that end in `.jsonl`, one JSON object a line, and
/// returns how often: where a field that names users or cubes has one of them as its value, or in its list. The files stay the
/// same files, so that a program may go on writing to them, and a crash leaves no half line.
///
/// # Errors
/// The error of a file that cannot be read or written.
pub(crate) fn mask_in_files(folder: &Path, names: &[String]) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut n_masked = 0;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            n_masked += mask_in_file(&path, names)?;
        }
    }
    Ok(n_masked)
}

fn mask_in_file(path: &Path, names: &[String]) -> io::Result<usize> {
    let bytes = fs::read(path)?;
    let mut places: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let found = places_of(names, line);
        places.extend(found.into_iter().map(|place| begin + place.start..begin + place.end));
        begin += line.len() + 1;
    }
    if places.is_empty() {
        return Ok(0);
    }
    let mut file = OpenOptions::new().write(true).open(path)?;
    for place in &places {
        file.seek(SeekFrom::Start(place.start as u64))?;
        file.write_all("*".repeat(place.len()).as_bytes())?;
    }
    file.sync_all()?;
    Ok(places.len())
}

/// Returns where names stand in a line, without their quotes. A value that broke off with its line may have been one.
fn places_of(names: &[String], line: &[u8]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    // For every object and list that is open, the key that its values belong to.
    let mut keys: Vec<String> = Vec::new();
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b'{' => keys.push(String::new()),
            b'[' => keys.push(keys.last().cloned().unwrap_or_default()),
            b'}' | b']' => drop(keys.pop()),
            b'"' => {
                let end = end_of_text(line, at);
                let text: Option<String> = line.get(at..=end).and_then(|quoted| serde_json::from_slice(quoted).ok());
                if let Some(key) = keys.last_mut() {
                    match text {
                        Some(text) if is_key(line, end) => *key = text,
                        Some(text) if !names.contains(&text) => {}
                        Some(_) | None if names_something(key) => places.push(at + 1..end),
                        Some(_) | None => {}
                    }
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    places
}

/// The quotation mark that ends the text which begins at another; the end of the line when there is none.
fn end_of_text(line: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < line.len() && line[at] != b'"' {
        // What follows a backslash ends nothing.
        at += if line[at] == b'\\' { 2 } else { 1 };
    }
    at.min(line.len())
}

fn is_key(line: &[u8], end: usize) -> bool {
    line[end + 1..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

fn names_something(key: &str) -> bool {
    NAMING.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, names: &[&str]) -> (String, usize) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        fs::write(&file, text).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let n_masked = mask_in_files(folder.path(), &names).unwrap();
        (fs::read_to_string(&file).unwrap(), n_masked)
    }

    #[test]
    fn names_are_masked_and_what_only_holds_them_is_not() {
        let text = "{\"user\":\"ann\",\"cubes\":[\"a\\\"b\"]}\n{\"user\":\"annabel\"}\n";
        let (told, n_masked) = masked(text, &["ann", "a\"b"]);
        assert_eq!(n_masked, 2);
        assert_eq!(told, "{\"user\":\"***\",\"cubes\":[\"****\"]}\n{\"user\":\"annabel\"}\n");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.txt"), "{\"user\":\"ann\"}").unwrap();
        assert_eq!(mask_in_files(folder.path(), &["ann".to_owned()]).unwrap(), 0);
        assert_eq!(mask_in_files(&folder.path().join("missing"), &[]).unwrap(), 0);
    }

    #[test]
    fn a_user_who_is_called_as_a_field_or_an_operation_leaves_the_lines_readable() {
        let line = "{\"key\":\"user\",\"user\":\"user\",\"what\":\"user\",\"parameters\":{\"key_id\":\"user\",\"user_id\": \"user\"},\
                    \"other_users\":[\"eve\",\"user\"],\"cubes\":[\"cube_user\"],\"status\":200}";
        let (told, n_masked) = masked(line, &["user", "cube_user"]);
        assert_eq!(n_masked, 4);
        let value: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&value["user"], &value["what"], &value["key"]), (&"****".into(), &"user".into(), &"user".into()));
        assert_eq!((&value["parameters"]["key_id"], &value["parameters"]["user_id"]), (&"user".into(), &"****".into()));
        assert_eq!(value["other_users"], serde_json::json!(["eve", "****"]));
        assert_eq!(value["cubes"], serde_json::json!(["*********"]));
    }

    #[test]
    fn names_are_compared_by_what_they_say_and_half_ones_go() {
        let (told, _) = masked("{\"user\":\"\\u0061nn\"}\n{\"user\":\"bob\",\"named_user\":\"an", &["ann"]);
        assert_eq!(told, "{\"user\":\"********\"}\n{\"user\":\"bob\",\"named_user\":\"**");
    }
}
