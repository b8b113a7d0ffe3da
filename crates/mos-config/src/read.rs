//! Reading typed settings out of JSON values, collecting everything that is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{ConfigError, Problem};
use crate::schema::{Definitions, nullable};
use crate::secret::Secrets;
use crate::words::closest;

/// What is told of a key that must be there and is not.
pub(crate) const MISSING: &str = "is missing";

/// A value of the configuration that knows how to be read and written.
pub trait Setting: Sized {
    /// Reads the value that stands at path `at`; what is wrong is told to the reader, and `None` returned.
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self>;

    /// Returns the value as JSON, with all defaults filled in.
    fn write(&self, secrets: Secrets) -> Value;

    /// Returns the JSON Schema of what is read; sections and choices become definitions.
    fn schema(definitions: &mut Definitions) -> Value;

    /// Whether `value` counts as absent where the setting is optional.
    fn is_absent(value: &Value) -> bool {
        value.is_null()
    }

    /// Reads a setting from a JSON value alone.
    ///
    /// ```
    /// use mos_config::{Setting, Settings};
    /// use serde_json::json;
    ///
    /// let settings = Settings::from_json(&json!({"top_k": 3}))?;
    /// assert_eq!(settings.top_k, 3);
    /// let misspelt = Settings::from_json(&json!({"top_kk": 3})).unwrap_err();
    /// assert!(misspelt.to_string().contains("top_kk"));
    /// # Ok::<(), mos_config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every value that was refused.
    fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let variables = BTreeMap::new();
        let mut reader = Reader::new(None, &variables);
        let read = Self::read(&mut reader, value, "");
        reader.finish(read).map(|(read, _)| read)
    }

    /// Returns the value as JSON, with all defaults filled in.
    fn to_json(&self, secrets: Secrets) -> Value {
        self.write(secrets)
    }
}

/// A section of which every key has a default.
pub(crate) fn nothing_given<T: Setting>() -> T {
    T::from_json(&Value::Object(Map::new())).expect("every key has a default that is valid, which a test checks")
}

/// Collects problems and warnings while a document is read.
#[derive(Debug)]
pub struct Reader<'a> {
    file: Option<PathBuf>,
    /// Paths that the environment set, with the variable's name. Their values are texts and are converted to the
    /// type that is expected; everywhere else types are strict.
    variables: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: Option<&Path>, variables: &'a BTreeMap<String, String>) -> Self {
        Self { file: file.map(Path::to_owned), variables, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Returns what was read and the warnings, or all problems.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<(T, Vec<String>), ConfigError> {
        match read {
            Some(read) if self.problems.is_empty() => Ok((read, self.warnings)),
            _ => Err(ConfigError::Invalid(self.problems)),
        }
    }

    /// Notes that the value at `at` is refused.
    pub fn refuse(&mut self, at: &str, message: impl Into<String>) {
        let variable = self.variables.get(at).cloned();
        self.problems.push(Problem { path: at.to_owned(), variable, file: self.file.clone(), message: message.into() });
    }

    /// Notes something that is accepted but worth knowing.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    fn expected(&mut self, at: &str, what: &str, value: &Value) {
        self.refuse(at, format!("expected {what}, got {}", kind(value)));
    }

    /// The text that the environment gave for `at`.
    fn text_from_environment<'v>(&self, value: &'v Value, at: &str) -> Option<&'v str> {
        self.variables.get(at).and(value.as_str())
    }

    /// Returns an object; the environment may give it as JSON text.
    pub(crate) fn object(&mut self, value: &Value, at: &str) -> Option<Map<String, Value>> {
        if let Some(text) = self.text_from_environment(value, at) {
            if let Ok(Value::Object(map)) = serde_json::from_str(text) {
                return Some(map);
            }
            self.refuse(at, "expected a JSON object, for example {\"name\": \"value\"}");
            return None;
        }
        match value {
            Value::Object(map) => Some(map.clone()),
            _ => {
                self.expected(at, "an object", value);
                None
            }
        }
    }

    /// Refuses a word that is not one of `allowed`.
    pub(crate) fn unknown_word(&mut self, at: &str, what: &str, word: &str, allowed: &[&str]) {
        let hint = hint(word, allowed);
        self.refuse(at, format!("unknown {what} `{word}`{hint} (allowed: {})", allowed.join(", ")));
    }
}

/// The word among `allowed` that is meant by one that is not, where one is near.
fn hint(word: &str, allowed: &[&str]) -> String {
    closest(word, allowed.iter().copied()).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Joins a path and a key.
pub(crate) fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// The fields of one object, taken out one by one.
#[derive(Debug)]
pub struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    map: Map<String, Value>,
    at: String,
    known: Vec<&'static str>,
    schema: Option<Value>,
    /// Whether something was refused in this object itself; its checks are skipped then.
    failed: bool,
}

impl<'r, 'a> Fields<'r, 'a> {
    pub(crate) fn open(reader: &'r mut Reader<'a>, value: &Value, at: &str) -> Option<Self> {
        let mut map = reader.object(value, at)?;
        // MemOS writes the class path of a configuration into it; only cubes give it a meaning.
        let schema = map.shift_remove("model_schema");
        Some(Self { reader, map, at: at.to_owned(), known: Vec::new(), schema, failed: false })
    }

    /// Warns when the object says that it is something else.
    pub(crate) fn expect_schema(&mut self, expected: &str) {
        if let Some(schema) = self.schema.take().filter(|schema| schema != expected) {
            let at = join(&self.at, "model_schema");
            self.reader.warn(format!("{at} is {schema}, expected \"{expected}\"; it is read as the latter"));
        }
    }

    /// Returns a field that must be there.
    pub(crate) fn required<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        match self.map.shift_remove(key) {
            Some(value) => self.read(key, &value),
            None => {
                self.refuse(key, MISSING);
                None
            }
        }
    }

    /// Returns a field, or `default` when it is absent.
    pub(crate) fn default<T: Setting>(&mut self, key: &'static str, default: impl FnOnce() -> T) -> Option<T> {
        self.known.push(key);
        match self.map.shift_remove(key) {
            Some(value) => self.read(key, &value),
            None => Some(default()),
        }
    }

    fn read<T: Setting>(&mut self, key: &str, value: &Value) -> Option<T> {
        let read = T::read(self.reader, value, &join(&self.at, key));
        self.failed |= read.is_none();
        read
    }

    /// Takes everything that no field asked for.
    pub(crate) fn rest(&mut self) -> crate::secret::Free {
        crate::secret::Free(std::mem::take(&mut self.map))
    }

    /// Drops everything that no field asked for, with a warning each.
    pub(crate) fn ignore_rest(&mut self) {
        for key in std::mem::take(&mut self.map).keys() {
            let at = join(&self.at, key);
            self.reader.warn(format!("{at} is not a setting of this version and is ignored"));
        }
    }

    /// Refuses the field `key`.
    pub fn refuse(&mut self, key: &str, message: impl Into<String>) {
        self.failed = true;
        let at = join(&self.at, key);
        self.reader.refuse(&at, message);
    }

    /// Warns about this object.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.reader.warn(message);
    }

    /// Refuses what no field asked for. Returns whether all was well.
    pub(crate) fn close(mut self) -> bool {
        for (index, key) in std::mem::take(&mut self.map).keys().enumerate() {
            let at = join(&self.at, key);
            // What is allowed is the same for all of them, and long.
            if index == 0 {
                self.reader.unknown_word(&at, "key", key, &self.known);
            } else {
                self.reader.refuse(&at, format!("unknown key `{key}`{}", hint(key, &self.known)));
            }
            self.failed = true;
        }
        !self.failed
    }
}

impl Setting for String {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        if value.as_str().is_none() {
            reader.expected(at, "a text", value);
        }
        value.as_str().map(str::to_owned)
    }

    fn write(&self, _: Secrets) -> Value {
        Value::from(self.as_str())
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": "string"})
    }
}

impl Setting for PathBuf {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        String::read(reader, value, at).map(Self::from)
    }

    fn write(&self, _: Secrets) -> Value {
        Value::from(self.to_string_lossy())
    }

    fn schema(definitions: &mut Definitions) -> Value {
        String::schema(definitions)
    }
}

impl Setting for bool {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        if let Some(text) = reader.text_from_environment(value, at) {
            match text.to_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => return Some(true),
                "false" | "0" | "no" | "off" => return Some(false),
                _ => {}
            }
        }
        if value.as_bool().is_none() {
            reader.expected(at, "true or false", value);
        }
        value.as_bool()
    }

    fn write(&self, _: Secrets) -> Value {
        Value::Bool(*self)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.plain(json!({"type": "boolean"}))
    }
}

macro_rules! whole_number {
    ($($type:ty, $as:ident, $what:literal, $schema:tt);*) => {$(
        impl Setting for $type {
            fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
                let read = match reader.text_from_environment(value, at) {
                    Some(text) => text.trim().parse().ok(),
                    None => value.$as().and_then(|number| Self::try_from(number).ok()),
                };
                if read.is_none() {
                    reader.expected(at, $what, value);
                }
                read
            }

            fn write(&self, _: Secrets) -> Value {
                Value::from(*self)
            }

            fn schema(definitions: &mut Definitions) -> Value {
                definitions.plain(json!($schema))
            }
        }
    )*};
}

whole_number! {
    i64, as_i64, "a whole number", {"type": "integer"};
    u16, as_u64, "a whole number from 0 to 65535", {"type": "integer", "minimum": 0, "maximum": 65535};
    u64, as_u64, "a whole number that is not negative", {"type": "integer", "minimum": 0};
    usize, as_u64, "a whole number that is not negative", {"type": "integer", "minimum": 0}
}

impl Setting for f64 {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        let read = match reader.text_from_environment(value, at) {
            Some(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            None => value.as_f64(),
        };
        if read.is_none() {
            reader.expected(at, "a number", value);
        }
        read
    }

    fn write(&self, _: Secrets) -> Value {
        Value::from(*self)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        definitions.plain(json!({"type": "number"}))
    }
}

/// Any JSON value, kept as it is.
impl Setting for Value {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        match reader.text_from_environment(value, at) {
            Some(text) => Some(serde_json::from_str(text).unwrap_or_else(|_| value.clone())),
            None => Some(value.clone()),
        }
    }

    fn write(&self, _: Secrets) -> Value {
        self.clone()
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({})
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        if T::is_absent(value) { Some(None) } else { T::read(reader, value, at).map(Some) }
    }

    fn write(&self, secrets: Secrets) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.write(secrets))
    }

    fn schema(definitions: &mut Definitions) -> Value {
        nullable(T::schema(definitions))
    }
}

impl<T: Setting> Setting for Box<T> {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        T::read(reader, value, at).map(Self::new)
    }

    fn write(&self, secrets: Secrets) -> Value {
        T::write(self, secrets)
    }

    fn schema(definitions: &mut Definitions) -> Value {
        T::schema(definitions)
    }

    fn is_absent(value: &Value) -> bool {
        T::is_absent(value)
    }
}

/// Returns the list that a variable says: JSON, or texts between commas.
fn list_of_text(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    if text.trim_start().starts_with(['[', '{']) {
        return None;
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Some(parts.map(Value::from).collect())
}

impl<T: Setting> Setting for Vec<T> {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        let parsed = match reader.text_from_environment(value, at) {
            Some(text) => list_of_text(text).unwrap_or_else(|| value.clone()),
            None => value.clone(),
        };
        let Value::Array(values) = &parsed else {
            reader.expected(at, "a list", value);
            return None;
        };
        values.iter().enumerate().map(|(index, value)| T::read(reader, value, &format!("{at}[{index}]"))).collect()
    }

    fn write(&self, secrets: Secrets) -> Value {
        Value::Array(self.iter().map(|value| value.write(secrets)).collect())
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({"type": "array", "items": T::schema(definitions)})
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        let object = reader.object(value, at)?;
        object.iter().map(|(key, value)| Some((key.clone(), T::read(reader, value, &join(at, key))?))).collect()
    }

    fn write(&self, secrets: Secrets) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.clone(), value.write(secrets))).collect())
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(definitions)})
    }
}

/// Takes `{"backend": key, "config": {...}}` apart. A missing backend is `absent`, a missing config is empty.
pub(crate) fn backend_and_config(
    reader: &mut Reader<'_>,
    value: &Value,
    at: &str,
    absent: Option<&'static str>,
    allowed: &'static [&'static str],
) -> Option<(String, Value)> {
    let mut fields = Fields::open(reader, value, at)?;
    let backend: Option<String> = match absent {
        Some(absent) => fields.default("backend", || absent.to_owned()),
        None => fields.required("backend"),
    };
    let config: Option<Value> = fields.default("config", || Value::Object(Map::new()));
    fields.close();
    let backend = backend?;
    if !allowed.contains(&backend.as_str()) {
        reader.unknown_word(&join(at, "backend"), "backend", &backend, allowed);
        return None;
    }
    // The configuration is read even when another key was refused, so that all problems are told at once.
    let config = config.filter(|config| !config.is_null()).unwrap_or_else(|| Value::Object(Map::new()));
    Some((backend, config))
}
