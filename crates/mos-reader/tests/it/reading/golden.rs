//! What MemOS' readers answered, against ours.

use std::path::Path;

use mos_core::{MemoryItem, ReadInput, ReadMode};
use mos_reader::ReaderKind;
use serde_json::{Value, json};

use super::{model, parts, read, reader};

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/compat/golden/mem_reader.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Fails unless everything that is expected is there; ours may tell more.
fn assert_has(actual: &Value, expected: &Value, at: &str) {
    match (actual, expected) {
        (_, Value::String(word)) if word == "<uuid>" || word == "<time>" => assert!(actual.is_string(), "{at}"),
        (Value::Object(actual), Value::Object(expected)) => {
            // The content of a file is in the memory already.
            for (key, value) in expected.iter().filter(|(key, _)| *key != "file_data") {
                let found = actual.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing"));
                assert_has(found, value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(actual), Value::Array(expected)) => {
            assert_eq!(actual.len(), expected.len(), "{at}");
            for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                assert_has(actual, expected, &format!("{at}[{index}]"));
            }
        }
        _ => assert_eq!(actual, expected, "{at}"),
    }
}

fn values(items: &[MemoryItem]) -> Value {
    Value::Array(items.iter().map(MemoryItem::to_compact_value).collect())
}

fn owned(mut input: ReadInput, topic: bool) -> ReadInput {
    input.user = Some("u1".into());
    input.session = Some("s1".into());
    if topic {
        input.info.insert("topic".to_owned(), json!("x"));
    }
    input
}

fn childhood() -> ReadInput {
    owned(
        ReadInput::from_value(json!([
            {"role": "user", "content": "Tell me about your childhood.", "chat_time": "03:14 PM on 13 March, 2026"},
            {"role": "assistant", "content": "I loved playing in the garden with my dog."},
        ])),
        true,
    )
}

#[tokio::test]
async fn simple_struct_reads_a_chat_as_memos_does() {
    let golden = golden();
    let fast = read(&reader(ReaderKind::Simple, parts()), childhood(), ReadMode::Fast).await;
    assert_has(&values(&fast.raw), &golden["results"]["simple_struct.fast"][0], "fast");
    assert!(fast.memories.is_empty());

    let reply = golden["llm_reply_used"].to_string();
    let mut parts = parts();
    parts.model = Some(model(move |_, _| reply.clone()));
    let fine = read(&reader(ReaderKind::Simple, parts), childhood(), ReadMode::Fine).await;
    assert_has(&values(&fine.memories), &golden["results"]["simple_struct.fine"][0], "fine");
    assert_eq!(fine.report.dropped.len(), 1, "the type `Weird` is none");
    assert_eq!(fine.raw.len(), 1, "beside them the turns stay as they were");
}

#[tokio::test]
async fn simple_struct_cuts_a_conversation_into_the_scenes_of_memos() {
    let messages: Vec<Value> = (0..23).map(|n| json!({"role": "user", "content": format!("m{n}")})).collect();
    let input = ReadInput::from_value(Value::Array(messages));
    let reading = read(&reader(ReaderKind::Simple, parts()), input, ReadMode::Fast).await;
    let contents = |item: &MemoryItem| -> Value {
        let sources = item.metadata.tree().unwrap().sources.clone().unwrap();
        sources.into_iter().map(|source| json!(source.content)).collect()
    };
    let scenes: Vec<Value> = reading.raw.iter().map(contents).collect();
    assert_eq!(Value::Array(scenes), golden()["results"]["simple_struct.scene_windows_of_23_messages"]);
}

/// Files and images are memories of their own here; MemOS puts them into one text with the turns around them.
#[tokio::test]
async fn multimodal_struct_reads_the_parts_as_memos_does() {
    let golden = golden();
    let results = &golden["results"];
    let input = owned(ReadInput::from_value(results["multimodal.expanded_messages"].clone()), false);
    let reading = read(&reader(ReaderKind::MultiModal, parts()), input, ReadMode::Fast).await;
    let [file, image, window] = reading.raw.as_slice() else { panic!("{:#?}", values(&reading.raw)) };
    let messages = results["multimodal.fast_per_message"].as_array().unwrap();
    assert_has(&file.to_compact_value(), &messages[1][0], "file");
    assert_has(&image.to_compact_value(), &messages[2][0], "image");
    let turns: Vec<&Value> = messages[3..].iter().map(|items| &items[0]).collect();
    let lines = turns.iter().map(|turn| format!("{}\n", turn["memory"].as_str().unwrap().trim_end()));
    assert_eq!(window.memory, lines.collect::<String>());
    let sources: Value =
        turns.iter().flat_map(|turn| turn["metadata"]["sources"].as_array().unwrap().clone()).collect();
    assert_has(&window.to_compact_value()["metadata"]["sources"], &sources, "sources");
}

#[tokio::test]
async fn a_plain_text_is_a_memory_without_a_speaker() {
    let input = owned(ReadInput::text("plain string scene"), false);
    let reading = read(&reader(ReaderKind::MultiModal, parts()), input, ReadMode::Fast).await;
    assert_has(&values(&reading.raw), &golden()["results"]["multimodal.fast_string_scene"][0], "text");
}
