//! Reading the fields of a model's answer, whose types are seldom exactly those that were asked for.

use serde_json::{Map, Value};

/// The names under which models list memories, ours first.
pub const MEMORY_LIST: &[&str] = &["memory list", "memory_list", "memories"];

/// Returns the objects of the list that stands under the first of `names` that is there, or that the answer itself is; an
/// object without any of the names is the list's only element.
///
/// # Errors
/// One sentence for the model when there is no such list.
pub fn elements(answer: Value, names: &[&str]) -> Result<Vec<Map<String, Value>>, String> {
    let list = match answer {
        Value::Object(mut map) => match names.iter().find_map(|name| map.shift_remove(*name)) {
            Some(list) => list,
            None => Value::Array(vec![Value::Object(map)]),
        },
        other => other,
    };
    let missing = || format!("it must be an object whose `{}` is a list of objects", names.first().unwrap_or(&"list"));
    match list {
        Value::Array(values) => values
            .into_iter()
            .map(|value| match value {
                Value::Object(map) => Ok(map),
                _ => Err(missing()),
            })
            .collect(),
        Value::Null => Ok(Vec::new()),
        _ => Err(missing()),
    }
}

/// Returns what `read` makes of the objects of the list that [`elements`] returns, without those that it makes nothing of.
///
/// # Errors
/// One sentence for the model when there is no such list, and when no object of it has `wanted` (words for what is missing).
pub fn read_elements<T>(
    answer: Value,
    names: &[&str],
    wanted: &str,
    read: impl FnMut(Map<String, Value>) -> Option<T>,
) -> Result<Vec<T>, String> {
    let elements = elements(answer, names)?;
    let is_empty = elements.is_empty();
    let found: Vec<T> = elements.into_iter().filter_map(read).collect();
    if found.is_empty() && !is_empty {
        return Err(format!("no element of the list has {wanted}"));
    }
    Ok(found)
}

/// Returns the first text under one of `names` that says something, without the spaces around it.
pub fn text(map: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match map.get(*name)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Returns the texts of a list, or those between the commas of one text; each once.
pub fn texts(map: &Map<String, Value>, name: &str) -> Vec<String> {
    let all: Vec<&str> = match map.get(name) {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split([',', '，', '、']).collect(),
        _ => Vec::new(),
    };
    let mut texts: Vec<String> = Vec::new();
    for text in all.into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        if !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }
    texts
}

/// Returns the whole numbers of a list, or of one value; texts that hold one count.
pub fn numbers(map: &Map<String, Value>, name: &str) -> Vec<usize> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
        Value::String(text) => text.trim().trim_matches(['[', ']', '#']).parse().ok(),
        _ => None,
    };
    match map.get(name) {
        Some(Value::Array(values)) => values.iter().filter_map(number).collect(),
        Some(value) => number(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_found_under_their_names_bare_or_as_one_object() {
        let one = json!({"value": "x"});
        for answer in [json!({"memory list": [one.clone()]}), json!([one.clone()]), one.clone()] {
            assert_eq!(Value::from(elements(answer, &["memory list"]).unwrap()), json!([one]));
        }
        assert!(elements(json!({"memory list": []}), &["memory list"]).unwrap().is_empty());
        assert!(elements(json!(["prose"]), &["memory list"]).unwrap_err().contains("memory list"));
    }

    #[test]
    fn a_list_of_which_nothing_can_be_read_is_an_error_and_an_empty_one_is_not() {
        let read = |answer| read_elements(answer, &["tags"], "a `name`", |map| text(&map, &["name"]));
        assert_eq!(read(json!({"tags": [{"name": "tea"}, {"title": "cup"}]})).unwrap(), ["tea"]);
        assert!(read(json!({"tags": []})).unwrap().is_empty());
        assert_eq!(read(json!({"tags": [{"title": "cup"}]})).unwrap_err(), "no element of the list has a `name`");
    }

    #[test]
    fn fields_are_read_in_any_usual_type() {
        let Value::Object(map) =
            json!({"a": " x ", "b": "", "tags": "food, food，tea", "n": ["1", 2, "[3]", "x"], "m": 4})
        else {
            unreachable!()
        };
        assert_eq!(text(&map, &["b", "a"]).as_deref(), Some("x"));
        assert_eq!(texts(&map, "tags"), ["food", "tea"]);
        assert_eq!(numbers(&map, "n"), [1, 2, 3]);
        assert_eq!((numbers(&map, "m"), numbers(&map, "absent").len()), (vec![4], 0));
    }
}
