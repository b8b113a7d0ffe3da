//! JSON in a model's answer: any text gives JSON or a sentence that says why there is none, soon, and sound JSON comes
//! back as it was, alone and between sentences.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mos_core::json_repair::{candidates, parse_json};
use serde_json::{Value, json};

/// Deeper values are refused between sentences, with room for what is put around them here.
const MAX_DEPTH: usize = 50;

fuzz_target!(|text: &str| {
    match candidates(text) {
        Ok(found) => {
            assert_eq!(parse_json(text).as_ref(), Ok(&found[0]), "the first is the preferred one");
            for value in found {
                assert!(value.is_object() || value.is_array());
                assert!(serde_json::from_str::<Value>(&value.to_string()).is_ok(), "{value} is no JSON");
            }
        }
        Err(reason) => {
            assert!(!reason.is_empty());
            assert_eq!(parse_json(text), Err(reason));
        }
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        check_sound(value);
    }
});

/// The end keeps the whole from being taken for a format that was not filled in.
fn check_sound(value: Value) {
    if depth(&value) > MAX_DEPTH {
        return;
    }
    let written = json!({"value": value, "end": "here"}).to_string();
    // What stands before such a mark is taken for thoughts, which are no answer.
    if written.contains("</think>") {
        return;
    }
    let pretty = format!("{:#}", serde_json::from_str::<Value>(&written).expect("what was written can be read"));
    let texts = [
        (&written, written.clone()),
        (&written, format!("Here: {written}\nDone.")),
        (&pretty, format!("```json\n{pretty}\n```")),
    ];
    for (json, text) in texts {
        // As the JSON alone is read: the last digit of a number may change whenever it is, and a doubled key goes.
        let wanted: Value = serde_json::from_str(json).expect("what was written can be read");
        assert_eq!(parse_json(&text).as_ref(), Ok(&wanted), "{text}");
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
