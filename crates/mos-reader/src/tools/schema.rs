//! Descriptions of tools: `<tool_schema>` blocks in system prompts.

use std::collections::HashSet;

use mos_core::memory::{SourceKind, SourceMessage};
use mos_core::{MemoryItem, MemoryType, json_repair};
use serde_json::{Map, Value, json};

use crate::item::{Draft, Maker};
use crate::place::{Log, Place};
use crate::python_json;

const TAG: &str = "tool_schema";

/// So many letters may be wrong in a tag that is still understood.
const MAX_WRONG_LETTERS: usize = 2;

/// The longest tag that is looked at, with its brackets and spaces.
const MAX_TAG_CHARS: usize = 32;

/// Returns one memory per tool that a system prompt describes. Blocks that cannot be read, and misspelt tags, are told in
/// the log.
pub(crate) fn tool_schemas(systems: &[(Place, String)], maker: &Maker<'_>, log: &mut Log) -> Vec<MemoryItem> {
    let mut items: Vec<MemoryItem> = Vec::new();
    let mut known = HashSet::new();
    for (place, text) in systems {
        let named = format!("item {}", place.item + 1);
        for block in blocks(text, &named, log) {
            match json_repair::parse_json(block) {
                Ok(value) => {
                    for schema in schemas(value) {
                        let item = item(&schema, maker);
                        if known.insert(item.id.clone()) {
                            items.push(item);
                        }
                    }
                }
                Err(reason) => log.warn(format!("the `<{TAG}>` block of {named} cannot be read: {reason}")),
            }
        }
    }
    items
}

/// Returns what stands between the tags of a text.
fn blocks<'a>(text: &'a str, named: &str, log: &mut Log) -> Vec<&'a str> {
    let tags = tags(text);
    let mut blocks = Vec::new();
    let mut open: Option<&Tag> = None;
    for tag in &tags {
        if tag.name != TAG {
            let slash = if tag.is_end { "/" } else { "" };
            log.warn(format!(
                "{named}: the tag `<{slash}{}>` is read as `<{slash}{TAG}>`; correct its spelling",
                text[tag.start..tag.end].trim_matches(['<', '>', '/'])
            ));
        }
        match (open, tag.is_end) {
            (None, false) => open = Some(tag),
            (Some(first), true) => {
                blocks.push(&text[first.end..tag.start]);
                open = None;
            }
            (Some(_), false) => {
                log.warn(format!("{named}: a `<{TAG}>` block is not closed before the next one begins"));
                open = Some(tag);
            }
            (None, true) => log.warn(format!("{named}: `</{TAG}>` closes nothing")),
        }
    }
    if open.is_some() {
        log.warn(format!("{named}: a `<{TAG}>` block is not closed, so its tools are not read"));
    }
    blocks
}

/// A tag that is, or may be meant as, the one of tool schemas.
#[derive(Debug)]
struct Tag {
    name: String,
    is_end: bool,
    /// Bytes of the tag with its brackets.
    start: usize,
    end: usize,
}

fn tags(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find('<').map(|offset| from + offset) {
        from = start + 1;
        let mut near = text[start..].char_indices().take(MAX_TAG_CHARS);
        let Some((length, _)) = near.find(|(_, letter)| *letter == '>') else { continue };
        let end = start + length + 1;
        let inner = text[start + 1..end - 1].trim();
        let is_end = inner.starts_with('/');
        let name = inner.trim_start_matches('/').trim().to_ascii_lowercase().replace(['-', ' '], "_");
        if name.len() <= TAG.len() + MAX_WRONG_LETTERS && distance(&name, TAG) <= MAX_WRONG_LETTERS {
            tags.push(Tag { name, is_end, start, end });
            from = end;
        }
    }
    tags
}

/// How many letters must be changed, added or removed to make one word of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[right.len()]
}

/// Returns the descriptions of single tools, in any of the usual wrappings.
fn schemas(value: Value) -> Vec<Map<String, Value>> {
    match value {
        Value::Array(values) => values.into_iter().flat_map(schemas).collect(),
        Value::Object(mut map) => match map.shift_remove("tools") {
            Some(Value::Array(tools)) => tools.into_iter().flat_map(schemas).collect(),
            Some(other) => {
                map.insert("tools".to_owned(), other);
                vec![map]
            }
            None => vec![map],
        },
        _ => Vec::new(),
    }
}

fn item(schema: &Map<String, Value>, maker: &Maker<'_>) -> MemoryItem {
    let function = schema.get("function").and_then(Value::as_object).unwrap_or(schema);
    let name = function.get("name").and_then(Value::as_str).map(str::to_owned);
    let value = Value::Object(schema.clone());
    let text = python_json::text(&value);
    let mut extra = Map::new();
    extra.insert(TAG.to_owned(), json!(name));
    let source = SourceMessage {
        kind: TAG.to_owned(),
        role: Some("system".to_owned()),
        content: Some(text.clone()),
        extra,
        ..SourceMessage::default()
    };
    let id = maker.identity.memory("tool schema", [text.as_str()]);
    let draft = Draft {
        text,
        memory_type: Some(MemoryType::ToolSchema),
        key: name,
        kind: Some("procedure".to_owned()),
        tags: vec!["mode:fine".to_owned(), "multimodal:tool_schema".to_owned()],
        sources: vec![source],
        source: Some(SourceKind::System),
        ..Draft::default()
    };
    maker.item(id, draft)
}

#[cfg(test)]
mod tests {
    use mos_core::{ReadInput, ReadReport};
    use mos_testkit::clock::SetClock;

    use super::*;

    fn read(text: &str) -> (Vec<MemoryItem>, ReadReport) {
        let (clock, mut log) = (SetClock::default(), Log::default());
        let systems = [(Place::item(0), text.to_owned())];
        let items = tool_schemas(&systems, &Maker::new(&ReadInput::default(), &clock), &mut log);
        (items, log.into_report())
    }

    #[test]
    fn every_tool_is_a_memory() {
        let (items, report) = read(
            "You help.\n<tool_schema>\n[{\"name\": \"file_reader\", \"parameters\": []}, \
             {\"type\": \"function\", \"function\": {\"name\": \"search\"}}]\n</tool_schema> Be kind.",
        );
        let keys: Vec<Option<&str>> = items.iter().map(|item| item.metadata.key.as_deref()).collect();
        assert_eq!(keys, [Some("file_reader"), Some("search")]);
        assert_eq!(items[0].metadata.memory_type(), Some(MemoryType::ToolSchema));
        assert_eq!(items[0].memory, r#"{"name": "file_reader", "parameters": []}"#);
        assert!(report.warnings.is_empty());
    }

    #[test]
    fn a_misspelt_tag_is_read_and_told() {
        let (items, report) = read("<tool_chema>{\"name\": \"a\"}</tool_schema>");
        assert_eq!(items.len(), 1);
        assert!(report.warnings[0].contains("<tool_chema>"), "{:?}", report.warnings);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (text, told) in [
            ("<tool_schema>{\"name\": \"a\"}", "not closed"),
            ("x </tool_schema>", "closes nothing"),
            ("<tool_schema>prose</tool_schema>", "cannot be read"),
        ] {
            let (items, report) = read(text);
            assert!(items.is_empty() && report.warnings[0].contains(told), "{text}: {:?}", report.warnings);
        }
        let (items, report) = read("a < b, <b>bold</b>, <tool>x</tool>");
        assert!(items.is_empty() && report.warnings.is_empty(), "{:?}", report.warnings);
    }
}
