//! One message taken apart.

use mos_core::memory::SourceMessage;
use mos_core::{Content, ItemReport, Message, Outcome, Part, Role};
use serde_json::{Map, Value, json};

use super::{Sorted, label};
use crate::options::ReaderKind;
use crate::place::{Log, Place};
use crate::python_json;
use crate::turn::{ToolCall, Turn, language_code, without_recalled};

impl Sorted {
    pub(super) fn message(&mut self, place: Place, message: &Message, kind: ReaderKind, log: &mut Log) {
        if message.role == Role::System {
            let text = message.text();
            log.set(place, Outcome::NotKept, ItemReport::INSTRUCTIONS);
            self.hidden.push(text.clone());
            self.systems.push((place, text));
            return;
        }
        let mut said = self.said(place, message, kind, log);
        let (text, recalled) = without_recalled(&said.text);
        if !recalled.is_empty() {
            log.warn("a marked section of recalled memories was left out: it is known already");
            said.text = text;
            self.hidden.extend(recalled);
        }
        let calls = if kind == ReaderKind::MultiModal { calls(message) } else { Vec::new() };
        if said.is_empty() && calls.is_empty() {
            // Parts tell their own story.
            if !said.has_parts {
                log.set(place, Outcome::NotKept, "it is empty");
            }
            return;
        }
        if kind != ReaderKind::MultiModal && message.role == Role::Tool {
            let reason = format!("`{}` reads text alone; configure `multimodal_struct` for tool results", kind.key());
            log.set(place, Outcome::NotKept, reason);
            return;
        }
        log.kept(place, None);
        self.push_turn(place, message, kind, &said, calls);
    }

    fn said(&mut self, place: Place, message: &Message, kind: ReaderKind, log: &mut Log) -> Said {
        let mut said = Said::default();
        match &message.content {
            None => {}
            Some(Content::Text(text)) => said.text.push_str(text.trim_end()),
            Some(Content::Parts(parts)) => {
                let mut texts: Vec<String> = Vec::new();
                for (index, part) in parts.iter().enumerate() {
                    let place = Place { item: place.item, part: Some(index) };
                    match part {
                        Part::Text { text, .. } => texts.push(text.trim_end().to_owned()),
                        Part::Other(map) if map.get("type").and_then(Value::as_str) == Some("refusal") => {
                            said.refusal = map.get("refusal").and_then(Value::as_str).map(str::to_owned);
                        }
                        Part::Other(map) => {
                            said.has_parts = true;
                            texts.extend(self.part(place, map, kind, log));
                        }
                    }
                }
                texts.retain(|text| !text.trim().is_empty());
                said.text = texts.join("\n");
            }
        }
        said
    }

    fn push_turn(&mut self, place: Place, message: &Message, kind: ReaderKind, said: &Said, calls: Vec<ToolCall>) {
        let index = self.turns.len();
        let labelled = |field: &Option<String>| field.as_deref().map(label);
        let (name, call_id) = (labelled(&message.name), labelled(&message.tool_call_id));
        let (time, message_id) = (labelled(&message.chat_time), labelled(&message.message_id));
        let source = |kind_of: &str, content: &str| {
            let mut extra = Map::new();
            if let Some(id) = &call_id {
                extra.insert("tool_call_id".to_owned(), json!(id));
            }
            if let Some(name) = &name {
                extra.insert("name".to_owned(), json!(name));
            }
            extra.insert("index".to_owned(), json!(index));
            if kind == ReaderKind::MultiModal {
                extra.insert("lang".to_owned(), language_code(content));
            }
            SourceMessage {
                kind: kind_of.to_owned(),
                role: Some(message.role.as_str().to_owned()),
                chat_time: time.clone(),
                message_id: message_id.clone(),
                content: Some(content.to_owned()),
                extra,
                ..SourceMessage::default()
            }
        };
        let (mut texts, mut sources) = (Vec::new(), Vec::new());
        if !said.text.trim().is_empty() {
            texts.push(said.text.clone());
            sources.push(source("chat", &said.text));
        }
        if let Some(refusal) = &said.refusal {
            texts.push(format!("[refusal]: {refusal}"));
            sources.push(source("refusal", refusal));
        }
        if !calls.is_empty() {
            let raw = message.tool_calls.clone().unwrap_or_default();
            let quoted = format!("[tool_calls]: {}", python_json::text(&Value::Array(raw)));
            sources.push(source("tool_calls", &quoted));
            texts.push(quoted);
        }
        let time = time.filter(|time| !time.trim().is_empty());
        self.turns.push(Turn {
            place,
            index,
            role: message.role,
            name: name.filter(|_| message.role != Role::Tool),
            has_own_time: time.is_some(),
            time,
            message_id,
            text: texts.join(" "),
            calls,
            answers: call_id.filter(|_| message.role == Role::Tool),
            sources,
        });
    }
}

/// What a message says.
#[derive(Debug, Default)]
struct Said {
    text: String,
    refusal: Option<String>,
    has_parts: bool,
}

impl Said {
    fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.refusal.is_none()
    }
}

/// Returns the tool calls of a message; one that has no name is kept under the name it lacks.
fn calls(message: &Message) -> Vec<ToolCall> {
    let calls = message.tool_calls.iter().flatten().enumerate().map(|(index, call)| {
        let function = call.get("function").unwrap_or(call);
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        let name = text(function.get("name"));
        let id = text(call.get("id"));
        ToolCall {
            id: if id.is_empty() { format!("call {}", index + 1) } else { label(&id) },
            name: if name.is_empty() { "a tool without a name".to_owned() } else { label(&name) },
            arguments: text(function.get("arguments").or_else(|| function.get("parameters"))),
        }
    });
    calls.collect()
}

#[cfg(test)]
mod tests {
    use mos_core::{ReadInput, ReadReport};
    use mos_testkit::clock::SetClock;

    use super::*;
    use crate::sorted::sort;

    fn sorted(value: Value, kind: ReaderKind) -> (Sorted, ReadReport) {
        let mut log = Log::default();
        let sorted = sort(&ReadInput::from_value(value), kind, &SetClock::default(), &mut log);
        (sorted, log.into_report())
    }

    fn reasons(report: &ReadReport) -> Vec<(&str, Outcome)> {
        report.items.iter().map(|item| (item.item.as_str(), item.outcome)).collect()
    }

    #[test]
    fn parts_go_their_ways_and_unknown_ones_are_told() {
        let (sorted, report) = sorted(
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Look."},
                    {"type": "file", "file": {"file_id": "f", "filename": "a.md", "file_data": "# A"}},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "hologram"},
                ]},
                {"role": "user", "content": ""},
                {"role": "robot", "content": "x"},
            ]),
            ReaderKind::MultiModal,
        );
        assert_eq!(sorted.turns.len(), 1);
        assert_eq!(sorted.turns[0].text, "Look.\n[hologram]");
        assert_eq!((sorted.files.len(), sorted.images.len(), sorted.audio.len()), (1, 1, 1));
        assert_eq!(sorted.audio[0].what, "wav, about 3 bytes");
        let expected = [
            ("item 1", Outcome::NotKept),
            ("item 2", Outcome::Kept),
            ("item 2, part 2 (file a.md)", Outcome::Kept),
            ("item 2, part 3 (image)", Outcome::Kept),
            ("item 2, part 4 (audio)", Outcome::Kept),
            ("item 2, part 5", Outcome::NotKept),
            ("item 3", Outcome::NotKept),
            ("item 4", Outcome::NotKept),
        ];
        assert_eq!(reasons(&report), expected);
        assert!(report.items[5].reason.as_deref().unwrap().contains("hologram"));
    }

    #[test]
    fn the_plain_reader_reads_text_and_fills_in_the_time() {
        let (sorted, report) = sorted(
            json!([
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "chat_time": "2 May 2026", "message_id": "m2"},
                {"role": "tool", "tool_call_id": "c", "content": "{}"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            ]),
            ReaderKind::Simple,
        );
        let times: Vec<Option<&str>> = sorted.turns.iter().map(|turn| turn.time.as_deref()).collect();
        assert_eq!(times, [Some("2 May 2026"); 2]);
        assert_eq!(sorted.turns[0].sources[0].chat_time.as_deref(), Some("2 May 2026"));
        assert_eq!((sorted.turns[0].has_own_time, sorted.turns[1].has_own_time), (false, true));
        assert_eq!(sorted.turns[1].sources[0].message_id.as_deref(), Some("m2"));
        assert!(report.items.iter().any(|item| item.reason.as_deref().is_some_and(|r| r.contains("tool results"))));
        let (alone, _) = super::tests::sorted(json!([{"role": "user", "content": "a"}]), ReaderKind::Simple);
        assert_eq!(alone.turns[0].time.as_deref(), Some("03:04 AM on 02 January, 2026"));
    }

    #[test]
    fn what_stands_beside_every_turn_is_not_long() {
        let long = "é".repeat(100_000);
        let said = json!({"role": "user", "content": "a", "name": long, "chat_time": long, "message_id": long});
        let (sorted, _) = sorted(json!([said, {"role": "user", "content": "b"}]), ReaderKind::Simple);
        for turn in &sorted.turns {
            let time = turn.time.as_deref().unwrap();
            assert!(time.len() <= 1_024 && long.starts_with(time), "{}", time.len());
            assert_eq!(turn.sources[0].chat_time.as_deref(), Some(time));
        }
        let first = &sorted.turns[0];
        assert!([&first.name, &first.message_id].into_iter().all(|label| label.as_ref().unwrap().len() <= 1_024));
        let answer = json!({"role": "tool", "tool_call_id": long, "content": "{}"});
        let call = json!({"role": "assistant", "tool_calls": [{"id": long, "function": {"name": long}}]});
        let (sorted, _) = super::tests::sorted(json!([call, answer]), ReaderKind::MultiModal);
        assert_eq!(sorted.turns[1].answers.as_ref(), Some(&sorted.turns[0].calls[0].id), "both are cut alike");
    }

    #[test]
    fn tool_calls_are_quoted_as_memos_does() {
        let call = json!({"id": "call_1", "type": "function",
            "function": {"name": "file_reader", "arguments": "{\"file_id\":\"file_123\"}"}});
        let (sorted, _) = sorted(
            json!([{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "{\"ok\":true}"}]),
            ReaderKind::MultiModal,
        );
        let line = sorted.turns[0].line();
        assert!(line.starts_with("assistant: [tool_calls]: [{\"id\": \"call_1\", \"type\": \"function\""), "{line}");
        assert_eq!(sorted.turns[0].calls[0].name, "file_reader");
        assert_eq!(
            (sorted.turns[1].line().as_str(), sorted.turns[1].answers.as_deref()),
            ("tool: {\"ok\":true}\n", Some("call_1"))
        );
    }
}
