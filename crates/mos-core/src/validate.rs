//! Errors about single fields of an input, in the vocabulary that MemOS clients know.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// One field that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path to the field, outermost first.
    pub loc: Vec<String>,
    /// The kind of fault: `missing`, `extra_forbidden`, `literal_error`, `value_error`, or `<type>_type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is wrong and what is allowed.
    pub msg: String,
}

/// All fields of one input that were refused; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct ValidationError {
    /// The refused fields, in the order they were met.
    pub errors: Vec<FieldError>,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", error.loc.join("."), error.msg)?;
        }
        Ok(())
    }
}

/// Takes typed fields out of a JSON object and collects what is wrong with them.
pub(crate) struct Fields<'a> {
    map: Map<String, Value>,
    /// Their values have left the map; their names leave it once, at the end, because each removal moves what comes behind.
    taken: Vec<&'static str>,
    prefix: Vec<String>,
    errors: &'a mut Vec<FieldError>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: Map<String, Value>, prefix: &[&str], errors: &'a mut Vec<FieldError>) -> Self {
        Self { map, taken: Vec::new(), prefix: prefix.iter().map(|part| (*part).to_owned()).collect(), errors }
    }

    pub(crate) fn fail(&mut self, field: &str, kind: &'static str, msg: impl Into<String>) {
        let mut loc = self.prefix.clone();
        loc.push(field.to_owned());
        self.errors.push(FieldError { loc, kind, msg: msg.into() });
    }

    /// Removes a field; JSON null counts as absent.
    pub(crate) fn take(&mut self, field: &'static str) -> Option<Value> {
        let value = self.map.get_mut(field)?.take();
        self.taken.push(field);
        Some(value).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            _ => {
                self.fail(field, "string_type", "must be a string");
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, field: &'static str) -> Option<bool> {
        match self.take(field)? {
            Value::Bool(flag) => Some(flag),
            _ => {
                self.fail(field, "bool_type", "must be true or false");
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, field: &'static str) -> Option<i64> {
        let value = self.take(field)?;
        let whole = value.as_i64().or_else(|| value.as_f64().filter(|number| number.fract() == 0.0).map(|n| n as i64));
        if whole.is_none() {
            self.fail(field, "int_type", "must be a whole number");
        }
        whole
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Option<f64> {
        let value = self.take(field)?;
        if !value.is_number() {
            self.fail(field, "float_type", "must be a number");
        }
        value.as_f64()
    }

    pub(crate) fn object(&mut self, field: &'static str) -> Option<Map<String, Value>> {
        match self.take(field)? {
            Value::Object(map) => Some(map),
            _ => {
                self.fail(field, "dict_type", "must be an object");
                None
            }
        }
    }

    pub(crate) fn strings(&mut self, field: &'static str) -> Option<Vec<String>> {
        let Value::Array(values) = self.take(field)? else {
            self.fail(field, "list_type", "must be a list of strings");
            return None;
        };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::String(text) => texts.push(text),
                _ => {
                    self.fail(field, "string_type", "must hold only strings");
                    return None;
                }
            }
        }
        Some(texts)
    }

    pub(crate) fn floats(&mut self, field: &'static str) -> Option<Vec<f32>> {
        let Value::Array(values) = self.take(field)? else {
            self.fail(field, "list_type", "must be a list of numbers");
            return None;
        };
        let floats: Option<Vec<f32>> = values.iter().map(|value| value.as_f64().map(|number| number as f32)).collect();
        if floats.is_none() {
            self.fail(field, "float_type", "must hold only numbers");
        }
        floats
    }

    /// Takes a field that must be one of a closed list of words.
    pub(crate) fn literal<T>(
        &mut self,
        field: &'static str,
        parse: fn(&str) -> Option<T>,
        allowed: &[&str],
    ) -> Option<T> {
        let text = match self.take(field)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let parsed = parse(&text);
        if parsed.is_none() {
            self.fail(field, "literal_error", format!("`{text}` is not one of {}", allowed.join(", ")));
        }
        parsed
    }

    /// What was not taken, in its first order.
    pub(crate) fn rest(mut self) -> Map<String, Value> {
        self.map.retain(|field, value| !value.is_null() || !self.taken.contains(&field.as_str()));
        self.map
    }
}
