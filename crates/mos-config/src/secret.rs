//! Values that need care: secrets, headers, free-form objects.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::read::{Reader, Setting};
use crate::schema::Definitions;

/// What stands where a secret is not shown.
const MASK: &str = "********";

/// Whether written settings show their secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Secrets are replaced by asterisks: for logs and screens.
    Masked,
    /// Secrets are written as they are: for files that are read back.
    Plain,
    /// Secrets are left out: for what is stored or handed on.
    Omitted,
}

/// A text that is never shown unless [`Secret::expose`] is called: `Debug`, `Display` and `Serialize` mask it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An empty secret is shown as such: it tells that none was set.
    fn masked(&self) -> &str {
        if self.0.is_empty() { "" } else { MASK }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.masked(), f)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.masked())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.masked())
    }
}

impl Setting for Secret {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        String::read(reader, value, at).map(Self)
    }

    fn write(&self, secrets: Secrets) -> Value {
        Value::from(match secrets {
            Secrets::Masked => self.masked(),
            Secrets::Plain => &self.0,
            Secrets::Omitted => "",
        })
    }

    fn schema(definitions: &mut Definitions) -> Value {
        String::schema(definitions)
    }
}

/// HTTP headers. Their values are masked like secrets, because credentials travel in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub BTreeMap<String, Secret>);

impl Setting for Headers {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        let object = reader.object(value, at)?;
        let mut headers = BTreeMap::new();
        for (name, value) in &object {
            headers.insert(name.clone(), Secret::read(reader, value, &format!("{at}.{name}"))?);
        }
        Some(Self(headers))
    }

    fn write(&self, secrets: Secrets) -> Value {
        let headers = self.0.iter().filter(|_| secrets != Secrets::Omitted);
        Value::Object(headers.map(|(name, value)| (name.clone(), value.write(secrets))).collect())
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({"type": "object", "additionalProperties": String::schema(definitions)})
    }
}

/// An object whose keys are not checked. What looks like a credential by its key is masked.
#[derive(Clone, Default, PartialEq)]
pub struct Free(pub Map<String, Value>);

impl fmt::Debug for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.write(Secrets::Masked), f)
    }
}

impl Setting for Free {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        reader.object(value, at).map(Self)
    }

    fn write(&self, secrets: Secrets) -> Value {
        let mut value = Value::Object(self.0.clone());
        match secrets {
            Secrets::Masked => replace_credentials(&mut value, false, MASK),
            Secrets::Omitted => replace_credentials(&mut value, false, ""),
            Secrets::Plain => {}
        }
        value
    }

    fn schema(_: &mut Definitions) -> Value {
        json!({"type": "object"})
    }
}

fn replace_credentials(value: &mut Value, is_credential: bool, by: &str) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                replace_credentials(value, is_credential || names_a_credential(key), by);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace_credentials(value, is_credential, by)),
        Value::String(text) if is_credential && !text.is_empty() => *text = by.to_owned(),
        _ => {}
    }
}

fn names_a_credential(key: &str) -> bool {
    let key = key.to_lowercase();
    ["key", "secret", "password", "token", "authorization", "credential"].iter().any(|word| key.contains(word))
        && !key.contains("tokens")
}

/// One text, or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOrMany {
    /// A single text.
    One(String),
    /// A list, in order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Returns the texts.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl Setting for OneOrMany {
    fn read(reader: &mut Reader<'_>, value: &Value, at: &str) -> Option<Self> {
        match value {
            Value::Array(_) => Vec::read(reader, value, at).map(Self::Many),
            _ => String::read(reader, value, at).map(Self::One),
        }
    }

    fn write(&self, secrets: Secrets) -> Value {
        match self {
            Self::One(text) => text.write(secrets),
            Self::Many(texts) => texts.write(secrets),
        }
    }

    fn schema(definitions: &mut Definitions) -> Value {
        json!({"anyOf": [String::schema(definitions), Vec::<String>::schema(definitions)]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_only_when_exposed() {
        let secret = Secret::new("sk-very-private");
        let shown = format!("{secret:?} {secret} {}", serde_json::to_string(&secret).unwrap());
        assert!(!shown.contains("private"), "{shown}");
        assert_eq!(secret.expose(), "sk-very-private");
        assert_eq!(secret.write(Secrets::Plain), "sk-very-private");
        assert_eq!(secret.write(Secrets::Masked), MASK);
        assert_eq!(secret.write(Secrets::Omitted), "");
    }

    #[test]
    fn free_objects_mask_what_looks_like_a_credential() {
        let free = Free(
            json!({"oss": {"access_key_id": "hidden1", "region": "eu", "nested": {"token": ["hidden2"]}}, "max_tokens": "7"})
                .as_object()
                .cloned()
                .unwrap(),
        );
        let shown = format!("{free:?}");
        assert!(!shown.contains("hidden") && shown.contains("eu") && shown.contains('7'), "{shown}");
        assert_eq!(free.write(Secrets::Plain)["oss"]["access_key_id"], "hidden1");
        let stored = free.write(Secrets::Omitted).to_string();
        assert!(!stored.contains("hidden") && !stored.contains(MASK) && stored.contains("eu"), "{stored}");
    }
}
