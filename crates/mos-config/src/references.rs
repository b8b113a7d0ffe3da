//! Settings that name a variable of the environment: `${NAME}` stands for its value.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::read::join;

/// Replaces every text that is nothing but `${NAME}` and notes in `sources` which variable gave it. Returns path and
/// name of those that are not set; an empty value counts as unset.
pub(crate) fn resolve(
    value: &mut Value,
    environment: &[(String, String)],
    sources: &mut BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut unset = Vec::new();
    resolve_at(value, "", environment, sources, &mut unset);
    unset
}

fn resolve_at(
    value: &mut Value,
    at: &str,
    environment: &[(String, String)],
    sources: &mut BTreeMap<String, String>,
    unset: &mut Vec<(String, String)>,
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                resolve_at(value, &join(at, key), environment, sources, unset);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter_mut().enumerate() {
                resolve_at(value, &format!("{at}[{index}]"), environment, sources, unset);
            }
        }
        Value::String(text) => {
            let Some(name) = referenced(text) else { return };
            let found = environment.iter().find(|(known, given)| known == name && !given.trim().is_empty());
            match found {
                Some((name, given)) => {
                    sources.insert(at.to_owned(), name.clone());
                    *text = given.clone();
                }
                None => unset.push((at.to_owned(), name.to_owned())),
            }
        }
        _ => {}
    }
}

/// Returns the name in `${NAME}`.
fn referenced(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    let is_plain = |one: char| one.is_ascii_alphanumeric() || one == '_';
    let starts_well = !name.starts_with(|first: char| first.is_ascii_digit());
    (!name.is_empty() && starts_well && name.chars().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_whole_text_is_a_reference() {
        let environment = [("A_1".to_owned(), "one".to_owned()), ("EMPTY".to_owned(), " ".to_owned())];
        let mut value = json!({
            "whole": "${A_1}", "list": ["x", "${A_1}"], "part": "say ${A_1}", "number": "${1}", "open": "${A_1",
            "empty": "${EMPTY}", "deep": {"unset": "${B}"}
        });
        let mut sources = BTreeMap::new();
        let unset = resolve(&mut value, &environment, &mut sources);
        let expected = json!({
            "whole": "one", "list": ["x", "one"], "part": "say ${A_1}", "number": "${1}", "open": "${A_1",
            "empty": "${EMPTY}", "deep": {"unset": "${B}"}
        });
        assert_eq!(value, expected);
        assert_eq!(sources.keys().collect::<Vec<_>>(), ["list[1]", "whole"]);
        let unset: Vec<String> = unset.into_iter().map(|(at, name)| format!("{at} {name}")).collect();
        assert_eq!(unset, ["empty EMPTY", "deep.unset B"]);
    }
}
