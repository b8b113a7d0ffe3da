//! What holds for every request, however odd.

use std::collections::HashSet;

use mos_core::{MemReader, MemoryId, ReadInput, ReadMode};
use mos_reader::ReaderKind;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{parts, reader};

fn any_text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        " \n",
        "我喜欢踢足球。",
        "<memories>old</memories> new",
        "## Memories:\n1. old",
        "<tool_schema>[1",
        "@http://127.0.0.1/a.md",
        "data:text/plain;base64,%%%",
        "data:,a%20b",
        "/etc/hostname",
        "AAAA",
        "{\"a\": 1}",
    ];
    let odd: Vec<String> = odd.iter().map(|text| (*text).to_owned()).collect();
    prop_oneof![proptest::sample::select(odd), any::<String>()]
}

fn any_part() -> impl Strategy<Value = Value> {
    let kinds = vec!["text", "file", "image_url", "input_audio", "refusal", "hologram"];
    (proptest::sample::select(kinds), any_text(), any_text(), 0..4_u8).prop_map(|(kind, one, two, shape)| match shape {
        0 => json!({"type": kind, "text": one, "refusal": two}),
        1 => json!({"type": kind, "file": {"filename": one, "file_data": two}, "image_url": {"url": two}}),
        2 => json!({"type": kind, "image_url": one, "input_audio": {"data": two}}),
        _ => json!({"type": kind}),
    })
}

fn any_item() -> impl Strategy<Value = Value> {
    let roles = vec!["system", "user", "assistant", "tool", "developer", "robot"];
    let content = prop_oneof![
        any_text().prop_map(Value::from),
        vec(prop_oneof![any_part(), any_text().prop_map(Value::from), Just(json!(7))], 0..4).prop_map(Value::from),
        Just(Value::Null),
        Just(json!({"ok": true})),
    ];
    let message = (proptest::sample::select(roles), content, any_text(), any::<bool>()).prop_map(
        |(role, content, text, calls)| {
            let mut message = json!({"role": role, "content": content, "chat_time": text, "tool_call_id": text});
            if calls {
                message["tool_calls"] = json!([{"id": text, "function": {"name": "t", "arguments": {"a": 1}}}, 3]);
            }
            message
        },
    );
    prop_oneof![4 => message, 1 => any_part(), 1 => any_text().prop_map(Value::from), 1 => Just(json!([1]))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_item_is_told_of_and_no_id_comes_twice(items in vec(any_item(), 1..8), is_simple in any::<bool>()) {
        let kind = if is_simple { ReaderKind::Simple } else { ReaderKind::MultiModal };
        let reader = reader(kind, parts());
        let n_items = items.len();
        let input = ReadInput::from_value(Value::Array(items));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reading = runtime.block_on(reader.read(input.clone(), ReadMode::Fast)).unwrap();
        for number in 1..=n_items {
            let told = reading.report.items.iter().any(|item| item.item.starts_with(&format!("item {number}")));
            prop_assert!(told, "item {number}: {:#?}", reading.report);
        }
        let all = reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files);
        let ids: HashSet<MemoryId> = all.map(|item| item.id.clone()).collect();
        prop_assert_eq!(ids.len(), reading.n_memories());
        for item in &reading.raw {
            prop_assert!(!item.memory.trim().is_empty());
        }
        let again = runtime.block_on(reader.read(input, ReadMode::Fast)).unwrap();
        prop_assert_eq!(again.idempotency_key, reading.idempotency_key);
    }
}
