//! How an answer is compared with the shape that a scenario expects.
//!
//! Objects may have more fields than expected, lists have as many items. Texts in angle brackets stand for more than themselves:
//! `<any>`, `<string>`, `<uuid>`, `<number>`, `<boolean>`, `<array>`, `<object>`, `<absent>` (no such field) and
//! `<contains WORDS>`. Objects of these keys describe a list: `<length>` (a number), `<some>`, `<each>` and `<none>` (a shape that
//! one item, every item or no item has). An empty list has no `<each>`: where it may be empty, `[]` or `<array>` says so.

use serde_json::{Map, Value};

/// Returns where a value differs from a shape; nothing when it fits. `None` is a field that is not there.
pub(crate) fn differences(expected: &Value, found: Option<&Value>, place: &str) -> Vec<String> {
    let Some(found) = found else {
        return match expected.as_str() {
            Some("<absent>") => Vec::new(),
            _ => vec![format!("{place} is not there")],
        };
    };
    let wrong = || vec![format!("{place} is {found}, not {expected}")];
    match (expected, found) {
        (Value::String(text), _) if text.starts_with('<') && text.ends_with('>') => {
            if stands_for(text, found) {
                Vec::new()
            } else {
                wrong()
            }
        }
        (Value::Object(shape), _) if shape.keys().any(|key| key.starts_with('<')) => {
            found.as_array().map_or_else(wrong, |items| of_list(shape, items, place))
        }
        (Value::Object(shape), Value::Object(fields)) => {
            let of_field =
                |(key, shape): (&String, &Value)| differences(shape, fields.get(key), &format!("{place}/{key}"));
            shape.iter().flat_map(of_field).collect()
        }
        (Value::Array(shapes), Value::Array(items)) if shapes.len() == items.len() => {
            let pairs = shapes.iter().zip(items).enumerate();
            pairs
                .flat_map(|(index, (shape, item))| differences(shape, Some(item), &format!("{place}/{index}")))
                .collect()
        }
        (Value::Number(expected), Value::Number(number)) if expected.as_f64() == number.as_f64() => Vec::new(),
        _ if expected == found => Vec::new(),
        _ => wrong(),
    }
}

fn stands_for(word: &str, found: &Value) -> bool {
    match word {
        "<any>" => true,
        "<absent>" => false,
        "<string>" => found.is_string(),
        "<uuid>" => found.as_str().is_some_and(|text| text.len() == 36 && text.matches('-').count() == 4),
        "<number>" => found.is_number(),
        "<boolean>" => found.is_boolean(),
        "<array>" => found.is_array(),
        "<object>" => found.is_object(),
        word => {
            let words = word.strip_prefix("<contains ").and_then(|word| word.strip_suffix('>'));
            let words = words.unwrap_or_else(|| panic!("{word} stands for nothing"));
            found.as_str().map_or_else(|| found.to_string().contains(words), |text| text.contains(words))
        }
    }
}

fn of_list(shape: &Map<String, Value>, items: &[Value], place: &str) -> Vec<String> {
    let fits = |shape: &Value, item: &Value| differences(shape, Some(item), place).is_empty();
    let mut wrong = Vec::new();
    for (key, shape) in shape {
        let is_so = match key.as_str() {
            "<length>" => shape.as_u64() == u64::try_from(items.len()).ok(),
            "<some>" => items.iter().any(|item| fits(shape, item)),
            "<each>" => !items.is_empty() && items.iter().all(|item| fits(shape, item)),
            "<none>" => !items.iter().any(|item| fits(shape, item)),
            key => panic!("{key} says nothing about a list"),
        };
        if !is_so {
            wrong.push(format!("{place} has not {key} {shape}: {}", Value::from(items)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(expected: Value, found: Value) -> bool {
        differences(&expected, Some(&found), "").is_empty()
    }

    #[test]
    fn a_shape_says_what_must_be_there_and_no_more() {
        assert!(fits(json!({"a": 1}), json!({"a": 1.0, "b": 2})));
        assert!(!fits(json!({"a": 1}), json!({"b": 1})) && !fits(json!({"a": "<absent>"}), json!({"a": 1})));
        assert!(fits(json!({"a": "<absent>"}), json!({})));
        assert!(!fits(json!([1]), json!([1, 2])) && fits(json!(["<any>", "<string>"]), json!([1, "x"])));
        assert!(fits(json!("<contains b>"), json!("abc")) && !fits(json!("<contains d>"), json!("abc")));
        assert!(fits(json!({"<length>": 2, "<some>": 1, "<none>": 3}), json!([1, 2])));
        assert!(
            !fits(json!({"<each>": {"a": 1}}), json!([{"a": 1}, {"a": 2}])) && !fits(json!({"<length>": 0}), json!({}))
        );
        assert!(fits(json!({"<each>": 1}), json!([1, 1])) && !fits(json!({"<each>": 1}), json!([])));
        assert!(fits(json!({"<none>": 1}), json!([])) && !fits(json!({"<some>": 1}), json!([])));
        assert_eq!(differences(&json!({"a": {"b": 1}}), Some(&json!({"a": {}})), ""), ["/a/b is not there"]);
    }
}
