//! Answers as language models give them to requests for memories, written down once, with the faults that they have in
//! practice.

/// Memories of an English conversation: three, with key, kind, value and tags, and a summary.
pub const ENGLISH: &str = include_str!("english.json");

/// Memories of a Chinese conversation: two, in the same form.
pub const CHINESE: &str = include_str!("chinese.json");

/// What a vision model says of a picture, in the same form.
pub const IMAGE: &str = include_str!("image.json");

/// What was learned from a conversation in which a tool was called.
pub const TOOLS: &str = include_str!("tools.json");

/// An answer inside a fence, between words that nobody asked for.
pub fn chatty(answer: &str) -> String {
    format!("Sure! Here is what I found:\n\n```json\n{answer}\n```\n\nLet me know if you need more.")
}

/// An answer after the thoughts that led to it.
pub fn thoughtful(answer: &str) -> String {
    format!("<think>\nThey want JSON. {{\"not\": \"this\"}} would be wrong.\n</think>\n{answer}")
}

/// An answer that was cut off at two thirds.
pub fn cut_off(answer: &str) -> &str {
    let at = answer.len() * 2 / 3;
    let at = (at..answer.len()).find(|at| answer.is_char_boundary(*at)).unwrap_or(answer.len());
    &answer[..at]
}

/// An answer with a comma behind the last entry of every list and object, which JSON does not allow.
pub fn with_commas(answer: &str) -> String {
    answer.replace("\n    }", ",\n    }").replace("\n  ]", ",\n  ]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::json_repair;
    use serde_json::Value;

    #[test]
    fn answers_are_json_and_their_faults_can_be_mended() {
        for answer in [ENGLISH, CHINESE, IMAGE] {
            let value: Value = serde_json::from_str(answer).unwrap();
            let memories = value["memory list"].as_array().unwrap();
            assert!(memories.iter().all(|memory| memory["value"].is_string() && memory["tags"].is_array()));
            for faulty in [chatty(answer), with_commas(answer)] {
                assert!(serde_json::from_str::<Value>(&faulty).is_err());
                assert!(json_repair::candidates(&faulty).unwrap().contains(&value), "{faulty}");
            }
            assert!(serde_json::from_str::<Value>(cut_off(answer)).is_err());
            assert!(thoughtful(answer).ends_with(answer));
        }
        let tools: Value = serde_json::from_str(TOOLS).unwrap();
        assert_eq!(tools[0]["tool_used_status"][0]["used_tool"], "weather");
    }
}
