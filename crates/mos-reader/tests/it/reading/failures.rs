//! Bad input: each fault is named, and the rest is kept.

use std::sync::Arc;

use mos_core::{FileData, ItemReport, MemReader, MemoryError, Outcome, RawFile, ReadInput, ReadMode, Sources};
use mos_reader::ReaderKind;
use mos_testkit::chat::ScriptedChat;
use serde_json::{Value, json};

use super::{Web, model, parts, read, reader};

fn reason<'a>(items: &'a [ItemReport], item: &str) -> (Outcome, &'a str) {
    let found = items.iter().find(|one| one.item.starts_with(item)).unwrap_or_else(|| panic!("{item}: {items:#?}"));
    (found.outcome, found.reason.as_deref().unwrap_or_default())
}

#[tokio::test]
async fn one_bad_item_does_not_spoil_the_others() {
    let input = ReadInput::from_value(json!([
        {"role": "user", "content": "My dog Max is three."},
        {"role": "robot", "content": "beep"},
        17,
        {"role": "user", "content": [{"type": "hologram"}, {"type": "text", "text": "Look."}]},
        {"role": "tool", "tool_call_id": "c9", "content": "{}"},
        {"type": "file", "file": {"filename": "broken.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQKZ2FyYmFnZQ=="}},
        {"type": "file", "file": {"filename": "secret.txt", "file_data": "/etc/hostname"}},
        {"type": "file", "file": {"file_id": "f9", "file_data": "https://example.org/a.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,%%%"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"role": "user", "content": "  "},
    ]));
    let mut parts = parts();
    parts.fetcher = Some(Arc::new(Web::default()));
    let reading = read(&reader(ReaderKind::MultiModal, parts), input, ReadMode::Fast).await;
    let items = &reading.report.items;
    for (item, outcome, told) in [
        ("item 1", Outcome::Kept, ""),
        ("item 2", Outcome::NotKept, "robot"),
        ("item 3", Outcome::NotKept, "not a number"),
        ("item 4, part 1", Outcome::NotKept, "hologram"),
        ("item 5", Outcome::Kept, "`c9`"),
        ("item 6", Outcome::Reference, ""),
        ("item 7", Outcome::Reference, "not read for requests"),
        ("item 8", Outcome::Reference, "not allowed"),
        ("item 9", Outcome::NotKept, "base64"),
        ("item 10", Outcome::Reference, "does not look at images"),
        ("item 11", Outcome::Reference, "not listened to"),
        ("item 12", Outcome::NotKept, "empty"),
    ] {
        let (found, reason) = reason(items, item);
        assert!(found == outcome && reason.contains(told), "{item}: {found:?} {reason}");
    }
    assert!(!reason(items, "item 6").1.is_empty());
    let text: String = reading.raw.iter().map(|item| format!("{}\n", item.memory)).collect();
    for kept in ["Max is three", "Look.", "broken.pdf", "https://example.org/a.pdf", "https://example.org/a.png", "wav"]
    {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert!(reading.report.summary().contains("5 not kept"), "{}", reading.report.summary());
}

#[tokio::test]
async fn a_model_that_returns_prose_leaves_the_turns_as_they_were() {
    let mut parts = parts();
    parts.model = Some(model(|_, _| "I would rather chat.".to_owned()));
    let input = ReadInput::from_value(json!([{"role": "user", "content": "My dog Max is three."}]));
    let reading = read(&reader(ReaderKind::Simple, parts), input, ReadMode::Fine).await;
    assert!(reading.memories.is_empty());
    assert!(reading.raw[0].memory.contains("Max is three"));
    let (outcome, told) = reason(&reading.report.items, "item 1");
    assert!(outcome == Outcome::Raw && told.contains("3 attempts"), "{told}");
}

#[tokio::test]
async fn a_model_that_is_gone_is_not_asked_for_ever() {
    let gone = Arc::new(ScriptedChat::new(Vec::<String>::new()));
    let mut parts = parts();
    parts.model = Some(gone.clone());
    let long: String = (0..400).map(|n| format!("Sentence {n} of the report says something. ")).collect();
    let input =
        ReadInput::file(RawFile { id: None, name: Some("a.txt".to_owned()), url: None, data: FileData::Text(long) });
    let reading = read(&reader(ReaderKind::Simple, parts), input, ReadMode::Fine).await;
    assert!(reading.raw.len() > 10, "every chunk is kept: {}", reading.raw.len());
    assert_eq!(reading.raw.len(), reading.raw_files.len());
    assert!(gone.requests().len() < 10, "{}", gone.requests().len());
    assert!(reading.raw[0].metadata.tags.iter().flatten().any(|tag| tag == "fallback"));
}

#[tokio::test]
async fn a_long_conversation_does_not_wait_for_a_model_that_is_gone() {
    let gone = Arc::new(ScriptedChat::new(Vec::<String>::new()));
    let mut parts = parts();
    parts.model = Some(gone.clone());
    let turns: Vec<Value> =
        (0..300).map(|n| json!({"role": "user", "content": format!("Fact {n} about my dog Max.")})).collect();
    let input = ReadInput::from_value(Value::Array(turns));
    let reading = read(&reader(ReaderKind::Simple, parts), input, ReadMode::Fine).await;
    assert!(reading.raw.len() > 30 && reading.memories.is_empty(), "{}", reading.raw.len());
    assert!(reading.raw.iter().any(|item| item.memory.contains("Fact 299 ")));
    assert_eq!(reading.report.count(Outcome::Raw), 300, "each turn says that it is as it was given");
    assert!(gone.requests().len() <= 10, "{}", gone.requests().len());
}

#[tokio::test]
async fn what_a_model_invents_is_dropped_and_told() {
    let mut parts = parts();
    parts.model = Some(model(|_, _| {
        json!({"memory list": [
            {"value": "The user has a dog named Max.", "messages": [1]},
            {"value": "The user lives in Berlin.", "messages": [1]},
        ]})
        .to_string()
    }));
    let input = ReadInput::from_value(json!([{"role": "user", "content": "My dog Max is three."}]));
    let reading = read(&reader(ReaderKind::Simple, parts), input, ReadMode::Fine).await;
    let texts: Vec<&str> = reading.memories.iter().map(|item| item.memory.as_str()).collect();
    assert_eq!(texts, ["The user has a dog named Max."]);
    assert!(reading.report.dropped[0].reason.contains("Berlin"), "{:?}", reading.report.dropped);
}

#[tokio::test]
async fn paths_are_read_for_the_owner_of_the_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("note.md");
    std::fs::write(&path, "# Note\n\nMax is three years old.").unwrap();
    let input = |sources| ReadInput {
        sources,
        ..ReadInput::file(RawFile { id: None, name: None, url: None, data: FileData::Path(path.clone()) })
    };
    let reader = reader(ReaderKind::Simple, parts());
    let refused = read(&reader, input(Sources::of_request()), ReadMode::Fast).await;
    assert_eq!((refused.n_memories(), refused.report.count(Outcome::NotKept)), (0, 1));
    let allowed = read(&reader, input(Sources::of_owner()), ReadMode::Fast).await;
    assert!(allowed.raw[0].memory.contains("Max is three years old."));
    assert!(allowed.raw[0].memory.contains("[Filename: note.md]"));
}

#[tokio::test]
async fn nothing_and_fine_without_a_model_are_refused() {
    let reader = reader(ReaderKind::Simple, parts());
    let empty = reader.read(ReadInput::from_value(Value::Null), ReadMode::Fast).await.unwrap_err();
    assert!(matches!(empty, MemoryError::Invalid(_)), "{empty}");
    let without = reader.read(ReadInput::text("x"), ReadMode::Fine).await.unwrap_err();
    assert!(matches!(without, MemoryError::Unsupported(_)), "{without}");
}
