//! Takes the JSON out of a model's answer.
//!
//! Models put JSON into fences and between sentences, leave commas behind the last element, quote like Python, write
//! comments, break lines inside strings, repeat the format that was asked for, or stop in the middle. What can be
//! understood without guessing is read; the rest is an error in one sentence that the model can be told.
//!
//! Invariant: no input panics, recurses deeper than a fixed bound or takes more than a fixed multiple of its length.

mod reader;

use serde::de::IgnoredAny;
use serde_json::Value;

use reader::Reader;

/// The longest answer that is looked at, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// How many bytes are read, over all attempts to read one answer, for each byte that it has.
const MAX_READS_PER_BYTE: usize = 8;

/// How many brackets that begin nothing readable are tried.
const MAX_BAD_STARTS: usize = 2_000;

/// Returns the JSON object or list of a model's answer: the first whole one that holds an object, else one that was cut
/// off (closed, without what was half-written), else the first list of anything.
///
/// # Errors
/// One sentence that says why there is none: the answer is empty, is prose, repeats the format that was asked for, or
/// broke off before anything was whole.
pub fn parse_json(text: &str) -> Result<Value, String> {
    candidates(text).and_then(|all| all.into_iter().next().ok_or_else(|| NO_JSON.to_owned()))
}

const NO_JSON: &str = "the answer holds no JSON object or list";

/// Returns every JSON object and list that stands in a model's answer side by side, in the order of preference of
/// [`parse_json`]; never none.
///
/// # Errors
/// As [`parse_json`].
pub fn candidates(text: &str) -> Result<Vec<Value>, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let is_whole = || text.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok();
    // A text inside the JSON may speak of thoughts.
    let is_all_json = text.len() <= MAX_TEXT_BYTES && is_whole();
    let text = if is_all_json { text } else { without_thoughts(text).trim_start_matches('\u{feff}').trim() };
    if text.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("the answer has {} bytes; at most {MAX_TEXT_BYTES} are read", text.len()));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::String(inner)) if inner.contains(['{', '[']) => from_prose(&inner),
        Ok(value @ (Value::Object(_) | Value::Array(_))) if !is_echo(&value) => Ok(vec![value]),
        _ => from_prose(text),
    }
}

/// What a model thought before its answer is none of it.
fn without_thoughts(text: &str) -> &str {
    text.split_once("</think>").map_or(text, |(_, answer)| answer)
}

/// Something that was read, and how good it is.
struct Candidate {
    value: Value,
    is_cut: bool,
}

impl Candidate {
    /// Smaller is better.
    fn rank(&self) -> u8 {
        match (holds_object(&self.value), self.is_cut) {
            (true, false) => 0,
            (true, true) => 1,
            (false, false) => 2,
            (false, true) => 3,
        }
    }
}

fn from_prose(text: &str) -> Result<Vec<Value>, String> {
    let mut found: Vec<Candidate> = Vec::new();
    let (mut n_bad, mut n_echoes, mut n_hollow) = (0, 0, 0);
    let mut budget = text.len().saturating_mul(MAX_READS_PER_BYTE);
    let mut at = 0;
    while let Some(start) = text[at..].find(['{', '[']).map(|offset| at + offset) {
        if n_bad > MAX_BAD_STARTS || budget == 0 {
            break;
        }
        let mut reader = Reader::new(&text[start..], &mut budget);
        match reader.container() {
            Err(_) => {
                n_bad += 1;
                at = start + 1;
            }
            Ok(value) => {
                // A container takes at least its first bracket.
                at = start + reader.position().max(1);
                let is_cut = reader.is_cut();
                if is_cut && is_hollow(&value) {
                    n_hollow += 1;
                } else if is_echo(&value) {
                    n_echoes += 1;
                } else {
                    found.push(Candidate { value, is_cut });
                }
            }
        }
    }
    if !found.is_empty() {
        found.sort_by_key(Candidate::rank);
        return Ok(found.into_iter().map(|candidate| candidate.value).collect());
    }
    Err(match (n_echoes, n_hollow, n_bad) {
        (1.., ..) => "the answer repeats the format instead of filling it in",
        (_, 1.., _) => "the answer broke off before anything in it was whole",
        (_, _, 1..) => "what looks like JSON in the answer cannot be read",
        _ => NO_JSON,
    }
    .to_owned())
}

fn holds_object(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(elements) => elements.iter().any(Value::is_object),
        _ => false,
    }
}

/// Whether nothing but empty objects and lists is there.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(is_hollow),
        Value::Array(elements) => elements.iter().all(is_hollow),
        _ => false,
    }
}

/// Whether a value is a JSON schema, or a format whose every text is still a placeholder.
fn is_echo(value: &Value) -> bool {
    if is_schema(value) {
        return true;
    }
    let (mut n_texts, mut n_placeholders) = (0, 0);
    count_texts(value, &mut n_texts, &mut n_placeholders);
    n_texts > 0 && n_texts == n_placeholders
}

fn is_schema(value: &Value) -> bool {
    let Value::Object(map) = value else { return false };
    let is_type = |word: &str| map.get("type").and_then(Value::as_str) == Some(word);
    let holds = |key: &str| map.get(key).is_some_and(Value::is_object);
    map.get("$schema").is_some_and(Value::is_string)
        || (is_type("object") && holds("properties"))
        || (is_type("array") && holds("items"))
}

fn count_texts(value: &Value, n_texts: &mut usize, n_placeholders: &mut usize) {
    match value {
        Value::String(text) => {
            *n_texts += 1;
            *n_placeholders += usize::from(is_placeholder(text));
        }
        Value::Array(elements) => elements.iter().for_each(|one| count_texts(one, n_texts, n_placeholders)),
        Value::Object(map) => map.values().for_each(|one| count_texts(one, n_texts, n_placeholders)),
        _ => {}
    }
}

fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    (text.starts_with('<') && text.ends_with('>')) || ["...", "…", "string"].contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        parse_json(text).unwrap_or_else(|reason| panic!("{text}: {reason}"))
    }

    #[test]
    fn fences_prose_and_thoughts_are_passed_over() {
        let wanted = json!({"a": [1, {"b": "c"}]});
        for text in [
            r#"{"a": [1, {"b": "c"}]}"#,
            "```json\n{\"a\": [1, {\"b\": \"c\"}]}\n```",
            "Sure! As [1] says:\n```\n{\"a\": [1, {\"b\": \"c\"}]}\n```\nAnything else?",
            "<think>maybe {\"a\": 2}?</think>\n{\"a\": [1, {\"b\": \"c\"}]}",
            r#""{\"a\": [1, {\"b\": \"c\"}]}""#,
            "\u{feff}{\"a\": [1, {\"b\": \"c\"}]}",
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_text_may_speak_of_thoughts() {
        let text = r#"{"value": "models end their thoughts with </think>"}"#;
        assert_eq!(read(text)["value"], "models end their thoughts with </think>");
        assert_eq!(read(&format!("<think>hm</think>{text}")), read(text));
    }

    #[test]
    fn what_pythonists_and_script_writers_write_is_read() {
        let wanted = json!({"a": true, "b": null, "c": ["it's", "x"], "d": -1.5});
        for text in [
            "{'a': True, 'b': None, 'c': ['it\\'s', 'x',], 'd': -1.5,}",
            "{a: true, b: undefined, c: [\"it's\", \"x\"], d: -1.5}",
            "{\"a\": true, // yes\n \"b\": null, # none\n /* and */ \"c\": ['it's', 'x'],, \"d\": -1.5}",
            "{\"a\": true\n \"b\": null\n \"c\": [\"it's\", \"x\"]\n \"d\": -1.5}",
            "{“a”: true, “b”: null, “c”: [“it's”, “x”], “d”: -1.5}",
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn line_breaks_and_quotes_inside_strings_are_kept() {
        assert_eq!(read("{\"a\": \"one\ntwo\"}"), json!({"a": "one\ntwo"}));
        assert_eq!(read(r#"{"a": "she said "hi" twice", "b": 1}"#), json!({"a": "she said \"hi\" twice", "b": 1}));
        assert_eq!(read(r#"{"a": "\u00e9\ud83d\ude00\q\/"}x"#), json!({"a": "é😀q/"}));
    }

    #[test]
    fn a_cut_answer_is_closed_without_its_half_written_end() {
        for (text, wanted) in [
            (r#"[{"a": 1, "b": "x"}, {"a": 2, "b": "ha"#, json!([{"a": 1, "b": "x"}])),
            (r#"{"list": [{"k": "v"}, {"k": "w"}, {"k""#, json!({"list": [{"k": "v"}, {"k": "w"}]})),
            (r#"{"ok": true, "why": "because it"#, json!({"ok": true})),
            ("```json\n{\"ok\": true, \"why\": \"done\"\n```", json!({"ok": true, "why": "done"})),
            ("[\"a\", \"b\", 12", json!(["a", "b"])),
            ("{\"a\": {\"b\": 1}, \"c\": tr", json!({"a": {"b": 1}})),
            ("{\"a\": [1, 2}", json!({"a": [1, 2]})),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn of_several_the_first_whole_object_is_meant() {
        assert_eq!(read("[1] and {\"a\": 1} then {\"b\": 2}"), json!({"a": 1}));
        assert_eq!(candidates("[1] {\"a\": 1} {\"b\": 2}").unwrap(), [json!({"a": 1}), json!({"b": 2}), json!([1])]);
        assert_eq!(read("[1] {\"a\": [{\"b\": 2}, {"), json!({"a": [{"b": 2}]}), "cut, but an object");
        assert_eq!(read("use {placeholders}: [\"x\"]"), json!(["x"]));
    }

    #[test]
    fn without_json_the_reason_is_told() {
        for (text, reason) in [
            ("  \n", "is empty"),
            ("<think>hm</think>", "is empty"),
            ("I cannot help with that.", "holds no JSON"),
            ("42", "holds no JSON"),
            ("see {this} and [that", "cannot be read"),
            ("{\"memory list\": [{\"key\": \"na", "broke off"),
            (r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#, "repeats the format"),
            (r#"[{"preference": "<one sentence>", "tags": ["..."]}]"#, "repeats the format"),
        ] {
            let error = parse_json(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let echoed_first = r#"Format: {"a": "<text>"}. Answer: {"a": "tea"}"#;
        assert_eq!(read(echoed_first), json!({"a": "tea"}));
    }

    #[test]
    fn deep_and_large_noise_ends_soon() {
        assert!(parse_json(&"[".repeat(200_000)).is_err());
        assert!(parse_json(&"{\"a\":".repeat(50_000)).is_err());
        assert!(parse_json(&"[1, x ".repeat(50_000)).is_err());
        assert!(parse_json(&"x".repeat(MAX_TEXT_BYTES + 1)).unwrap_err().contains("at most"));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse_json(&text);
        }

        #[test]
        fn no_nearly_json_panics(text in "[\\[\\]{}:,\"'a1\\\\u`#/ \n-]{0,80}") {
            let _ = parse_json(&text);
        }

        /// Good JSON is read as it is, also between sentences, where it goes through the forgiving reader.
        #[test]
        fn good_json_stays_as_it_is(value in json_value()) {
            let wrapped = json!({"value": value, "end": "here"});
            prop_assert_eq!(&parse_json(&wrapped.to_string()).unwrap(), &wrapped);
            let in_prose = format!("Here: {wrapped}\nDone.");
            prop_assert_eq!(&parse_json(&in_prose).unwrap(), &wrapped);
            let pretty = format!("```json\n{wrapped:#}\n```");
            prop_assert_eq!(&parse_json(&pretty).unwrap(), &wrapped);
        }

        /// However far an answer came, what is read of it was in it.
        #[test]
        fn a_cut_list_is_a_beginning_of_the_list(count in 1_usize..8, cut in 0_usize..400) {
            let whole: Vec<Value> = (0..count).map(|n| json!({"key": format!("k{n}"), "n": n})).collect();
            let text = Value::from(whole.clone()).to_string();
            let cut = cut.min(text.len());
            if let Ok(Value::Array(read)) = parse_json(&text[..cut]) {
                prop_assert_eq!(&read[..], &whole[..read.len()]);
            }
        }
    }
}
