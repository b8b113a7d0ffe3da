//! Memory files: written whole or not at all.

use std::io::Write;
use std::path::Path;

use mos_core::{MemoryError, MemoryItem};
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::shelf::check_text;

pub(crate) fn file_error(path: &Path, detail: impl ToString) -> MemoryError {
    MemoryError::File { path: path.display().to_string(), detail: detail.to_string() }
}

/// Writes JSON with four spaces of indentation, whole or not at all.
pub(crate) async fn write_json(path: &Path, value: Value) -> Result<(), MemoryError> {
    write(path, move |path| {
        let mut text = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
        match serde::Serialize::serialize(&value, &mut serializer) {
            Ok(()) => Ok(text),
            Err(error) => Err(file_error(path, format!("cannot encode the memories: {error}"))),
        }
    })
    .await
}

/// Writes what `encode` returns: to a temporary name, synced, renamed.
pub(crate) async fn write(
    path: &Path,
    encode: impl FnOnce(&Path) -> Result<Vec<u8>, MemoryError> + Send + 'static,
) -> Result<(), MemoryError> {
    let path = path.to_owned();
    blocking(move || {
        let fail = |error: std::io::Error| file_error(&path, format!("cannot write the memories: {error}"));
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(fail)?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let text = encode(&path)?;
        let mut file = std::fs::File::create(&temporary).map_err(fail)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(fail)?;
        std::fs::rename(&temporary, &path).map_err(fail)
    })
    .await
}

/// Returns the list of objects in a memory file; `None` when there is no file.
pub(crate) async fn read_list(path: &Path) -> Result<Option<Vec<Value>>, MemoryError> {
    let path = path.to_owned();
    blocking(move || {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path, format!("cannot read the memories: {error}"))),
        };
        match serde_json::from_slice(&text) {
            Ok(Value::Array(entries)) => Ok(Some(entries)),
            Ok(_) => Err(file_error(&path, "is not a memory file: it must hold a JSON list")),
            Err(error) => Err(file_error(&path, format!("is not a memory file: {error}"))),
        }
    })
    .await
}

/// Returns the object of lists in a memory file; `None` when there is no file.
pub(crate) async fn read_lists(path: &Path) -> Result<Option<Vec<(String, Vec<Value>)>>, MemoryError> {
    let Some(map) = read_object(path).await? else { return Ok(None) };
    let lists = map.into_iter().map(|(name, value)| match value {
        Value::Array(entries) => Ok((name, entries)),
        _ => Err(file_error(path, format!("is not a memory file: `{name}` must hold a list"))),
    });
    lists.collect::<Result<_, _>>().map(Some)
}

/// Returns a JSON object from a file beside the memories; `None` when it is absent.
pub(crate) async fn read_object(path: &Path) -> Result<Option<serde_json::Map<String, Value>>, MemoryError> {
    let path = path.to_owned();
    blocking(move || match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(&path, error)),
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(Value::Object(map)) => Ok(Some(map)),
            Ok(_) => Err(file_error(&path, "must hold a JSON object")),
            Err(error) => Err(file_error(&path, error)),
        },
    })
    .await
}

/// Returns the memory of an entry; its text must be one that could be added.
///
/// # Errors
/// [`MemoryError::File`], naming the file and the entry.
pub(crate) fn read_item(path: &Path, index: usize, entry: Value) -> Result<MemoryItem, MemoryError> {
    let item = MemoryItem::from_value(entry, String::new).map_err(|error| bad_entry(path, index, error))?;
    check_text(&item.memory).map_err(|error| bad_entry(path, index, error))?;
    Ok(item)
}

pub(crate) fn bad_entry(path: &Path, index: usize, detail: impl ToString) -> MemoryError {
    file_error(path, format!("entry {index}: {}", detail.to_string()))
}

/// Runs what waits for files off the asynchronous threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MemoryError> + Send + 'static,
) -> Result<T, MemoryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(MemoryError::File { path: String::new(), detail: format!("file work broke off: {error}") }),
    }
}
