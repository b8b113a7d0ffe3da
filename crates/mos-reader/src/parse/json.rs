//! JSON as lines `path: value`; entries of lists stand apart, so that each can be found by itself.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::markdown::Outline;
use super::{Document, DocumentKind, ParseError, ParseLimits, Position};

const KIND: DocumentKind = DocumentKind::Json;

/// How deep objects and lists are taken apart into blocks; what lies deeper stays with what it is in.
const BLOCK_DEPTH: u8 = 3;

/// Lines that are tried to tell lists of lines from other texts.
const SAMPLE_LINES: usize = 5;

/// Whether a text is an object or a list, or one such per line.
pub(super) fn is_json(text: &str, extension: &str) -> bool {
    let is_lines = matches!(extension, "jsonl" | "ndjson");
    is_value(text) || (is_lines || text.starts_with('{')) && is_list_of_lines(text)
}

fn is_value(text: &str) -> bool {
    text.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn is_list_of_lines(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).take(SAMPLE_LINES).peekable();
    lines.peek().is_some() && lines.all(|line| is_value(line.trim()))
}

/// # Errors
/// [`ParseError::Corrupt`] for a damaged line or too many levels, [`ParseError::TooMuch`] for too much text.
pub(super) fn parse(text: &str, limits: &ParseLimits) -> Result<Document, ParseError> {
    let outline = Outline::of(text.len());
    let mut blocks = Blocks { document: Document::new(KIND), outline, n_bytes: 0, limits };
    if is_value(text.trim_start()) {
        let value: Value = serde_json::from_str(text).map_err(|error| ParseError::corrupt(KIND, error.to_string()))?;
        blocks.document.title = value.get("title").and_then(Value::as_str).map(str::to_owned);
        blocks.value(&value, 0)?;
        return Ok(blocks.document);
    }
    for (number, line) in (1_u32..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(line).map_err(|error| ParseError::corrupt(KIND, format!("line {number}: {error}")))?;
        blocks.push(&value, Position { row: Some(number), ..Position::default() })?;
    }
    Ok(blocks.document)
}

struct Blocks<'a> {
    document: Document,
    /// The keys that lead to a value.
    outline: Outline,
    n_bytes: usize,
    limits: &'a ParseLimits,
}

impl Blocks<'_> {
    fn value(&mut self, value: &Value, depth: u8) -> Result<(), ParseError> {
        match value {
            Value::Array(entries) if depth < BLOCK_DEPTH && entries.iter().any(is_nested) => {
                for (number, entry) in (1_u32..).zip(entries) {
                    let position = Position { row: Some(number), ..self.position() };
                    self.push(entry, position)?;
                }
                Ok(())
            }
            Value::Object(fields) if depth < BLOCK_DEPTH => {
                let (nested, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_nested(value));
                let plain: Map<String, Value> =
                    plain.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                let position = self.position();
                self.push(&Value::Object(plain), position)?;
                for (key, value) in nested {
                    self.outline.enter(depth + 1, key);
                    self.value(value, depth + 1)?;
                }
                Ok(())
            }
            _ => {
                let position = self.position();
                self.push(value, position)
            }
        }
    }

    fn position(&self) -> Position {
        Position { headings: self.outline.headings(), ..Position::default() }
    }

    fn push(&mut self, value: &Value, position: Position) -> Result<(), ParseError> {
        let mut text = String::new();
        flatten(value, "", &mut text, self.limits.max_text_bytes);
        self.n_bytes += text.len();
        self.limits.check_text(KIND, self.n_bytes)?;
        self.document.push(&text, position, false);
        Ok(())
    }
}

/// Whether a value has objects or lists in it, so that it cannot stand in one line.
fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(entries) => entries.iter().any(|entry| entry.is_object() || entry.is_array()),
        _ => false,
    }
}

/// Adds a line for each value in `value`; no more once these are longer than `most` bytes. Every line begins with its path, so
/// that a long key over many values is much longer than the file.
fn flatten(value: &Value, path: &str, out: &mut String, most: usize) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if out.len() > most {
                    return;
                }
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, &path, out, most);
            }
        }
        Value::Array(entries) if is_nested(value) => {
            for (index, entry) in entries.iter().enumerate() {
                if out.len() > most {
                    return;
                }
                flatten(entry, &format!("{path}[{index}]"), out, most);
            }
        }
        Value::Array(entries) => {
            let words: Vec<String> = entries.iter().map(plain).collect();
            line(path, &words.join(", "), out);
        }
        _ => line(path, &plain(value), out),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn line(path: &str, text: &str, out: &mut String) {
    if text.trim().is_empty() || text == "null" {
        return;
    }
    if !path.is_empty() {
        out.push_str(path);
        out.push_str(": ");
    }
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<(String, String, Option<u32>)> {
        let document = parse(text, &ParseLimits::default()).unwrap();
        document
            .blocks
            .into_iter()
            .map(|block| (block.position.headings.join("."), block.text, block.position.row))
            .collect()
    }

    #[test]
    fn entries_stand_apart_with_their_place() {
        let text = r#"{"title": "People", "tags": ["a", "b"], "none": null,
            "people": [{"name": "Ann", "home": {"city": "Rome"}}, {"name": "Bo"}]}"#;
        assert_eq!(
            blocks(text),
            [
                (String::new(), "title: People\ntags: a, b".to_owned(), None),
                ("people".to_owned(), "name: Ann\nhome.city: Rome".to_owned(), Some(1)),
                ("people".to_owned(), "name: Bo".to_owned(), Some(2)),
            ]
        );
    }

    #[test]
    fn lines_of_json_are_entries() {
        let text = "{\"a\": 1}\n\n{\"a\": [[1, 2], 3]}\n";
        assert!(is_json(text, "") && is_json(text, "jsonl") && !is_json("{braces} in text", "") && !is_json("3", ""));
        assert_eq!(
            blocks(text),
            [(String::new(), "a: 1".to_owned(), Some(1)), (String::new(), "a[0]: 1, 2\na[1]: 3".to_owned(), Some(3))]
        );
    }

    #[test]
    fn a_long_key_over_many_values_does_not_fill_the_memory() {
        let key = "k".repeat(1 << 20);
        let entries = vec!["{\"a\":1}"; 20_000].join(",");
        let document = parse(&format!("{{\"{key}\":[{entries}]}}"), &ParseLimits::default()).unwrap();
        assert_eq!(document.blocks.len(), 20_000);
        let n_bytes: usize = document.blocks.iter().flat_map(|block| &block.position.headings).map(String::len).sum();
        assert!(n_bytes > 0 && n_bytes < 32 << 20, "{n_bytes}");
        let fields: Vec<String> = (0..20_000).map(|number| format!("\"f{number}\":1")).collect();
        let text = format!("[{{\"{key}\":{{{}}}}}]", fields.join(","));
        let error = parse(&text, &ParseLimits::default()).unwrap_err();
        assert!(matches!(error, ParseError::TooMuch { what: "bytes of text", .. }), "{error}");
    }

    #[test]
    fn too_many_levels_are_an_error() {
        let text = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(parse(&text, &ParseLimits::default()), Err(ParseError::Corrupt { .. })));
    }
}
