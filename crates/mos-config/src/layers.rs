//! Files and layers: what a file says lies over the defaults, the environment lies over both.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use serde_json::{Map, Value};

use crate::error::{ConfigError, Problem};
use crate::read::{Reader, Setting};

/// A configuration is written by hand: what is larger is another file.
const MAX_FILE_BYTES: u64 = 4 << 20;

fn file_error(path: &Path, detail: impl Into<String>) -> ConfigError {
    ConfigError::File { path: path.to_owned(), detail: detail.into() }
}

/// Reads a JSON or YAML file, told apart by the ending of its name. An empty file is an empty object.
pub(crate) fn parse_file(path: &Path) -> Result<Value, ConfigError> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    if !["json", "yaml", "yml"].contains(&ending.as_str()) {
        return Err(file_error(path, "a configuration must end in .json, .yaml or .yml"));
    }
    let size = fs::metadata(path).map_err(|error| file_error(path, format!("cannot be read: {error}")))?.len();
    if size > MAX_FILE_BYTES {
        return Err(file_error(path, format!("is too large for a configuration ({size} bytes)")));
    }
    let text = fs::read_to_string(path).map_err(|error| file_error(path, format!("cannot be read: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let parsed = if ending == "json" {
        serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))
    } else {
        // A snippet of the file in the error could show a secret.
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
            .map_err(|error| format!("is not valid YAML: {error}"))
    };
    let value: Value = parsed.map_err(|detail| file_error(path, detail))?;
    // A YAML file of nothing but comments.
    Ok(if value.is_null() { Value::Object(Map::new()) } else { value })
}

/// Reads one setting from a file alone, without defaults of the installation and without the environment.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read or a value is refused.
pub fn load_file<T: Setting>(path: &Path) -> Result<(T, Vec<String>), ConfigError> {
    let value = parse_file(path)?;
    let variables = Default::default();
    let mut reader = Reader::new(Some(path), &variables);
    let read = T::read(&mut reader, &value, "");
    reader.finish(read)
}

/// Writes JSON with two spaces of indentation, whole or not at all.
pub(crate) fn save_file(path: &Path, value: &Value) -> Result<(), ConfigError> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = fs::File::create(&temporary)?;
        let written = serde_json::to_vec_pretty(value)
            .map_err(std::io::Error::from)
            .and_then(|text| file.write_all(&text))
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // The first error is the one to tell; a left-over temporary file does no harm.
            let _ = fs::remove_file(&temporary);
        }
        written
    };
    write().map_err(|error| file_error(path, format!("cannot be written: {error}")))
}

/// Merges layers, later ones over earlier ones, key by key. Where a layer names another backend than the layers
/// below, their `config` of the old backend is dropped: its keys would mean nothing to the new one.
pub(crate) fn merge(layers: &[Value]) -> Result<Value, ConfigError> {
    let mut merged = Value::Object(Map::new());
    for layer in layers {
        drop_replaced(&mut merged, layer);
        let figment = Figment::new().merge(Serialized::defaults(&merged)).merge(Serialized::defaults(layer));
        merged = figment.extract().map_err(|error| {
            let message = format!("cannot be merged: {error}");
            ConfigError::Invalid(vec![Problem { path: String::new(), variable: None, file: None, message }])
        })?;
    }
    Ok(merged)
}

fn drop_replaced(lower: &mut Value, upper: &Value) {
    let (Value::Object(lower), Value::Object(upper)) = (lower, upper) else { return };
    let names = (lower.get("backend").and_then(Value::as_str), upper.get("backend").and_then(Value::as_str));
    if matches!(names, (Some(old), Some(new)) if old != new) {
        lower.shift_remove("config");
    }
    for (key, upper) in upper {
        if let Some(lower) = lower.get_mut(key) {
            drop_replaced(lower, upper);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn another_backend_drops_the_old_config_and_the_same_keeps_it() {
        let lower = json!({"chat_model": {"backend": "local", "config": {"model": "a", "seed": 1}}, "top_k": 5});
        let merged =
            merge(&[lower.clone(), json!({"chat_model": {"backend": "openai", "config": {"key": "k"}}})]).unwrap();
        assert_eq!(merged, json!({"chat_model": {"backend": "openai", "config": {"key": "k"}}, "top_k": 5}));
        let merged = merge(&[lower, json!({"chat_model": {"config": {"seed": 2}}})]).unwrap();
        assert_eq!(merged["chat_model"], json!({"backend": "local", "config": {"model": "a", "seed": 2}}));
    }

    #[test]
    fn merging_keeps_types() {
        let value = json!({"a": 1, "b": -1, "c": 0.5, "d": null, "e": [1, "x"], "f": "5", "g": true, "h": {}});
        assert_eq!(merge(std::slice::from_ref(&value)).unwrap(), value);
    }
}
