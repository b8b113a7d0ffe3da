//! JSON schemas of the answers that models are asked for. Servers that can be held to one answer in no other form.

use serde_json::{Map, Value, json};

/// Returns the schema of an object with these fields. All are required and none besides is allowed, which is what servers
/// with strict schemas ask for.
pub(crate) fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

/// Returns the schema of a list.
pub(crate) fn list(element: Value) -> Value {
    json!({"type": "array", "items": element})
}

/// Returns the schema of a text.
pub(crate) fn text() -> Value {
    json!({"type": "string"})
}

/// Returns the schema of one of some words.
pub(crate) fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// Returns the schema of a whole number.
pub(crate) fn number() -> Value {
    json!({"type": "integer"})
}

/// Returns the schema of yes or no.
pub(crate) fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// Asserts that the form of an answer that a prompt shows is the one that the schema demands. Words may be placeholders.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_shows(schema: &Value, shown: &Value) {
    match schema["type"].as_str().unwrap() {
        "object" => {
            let fields = shown.as_object().unwrap_or_else(|| panic!("{shown} is no object"));
            let wanted = schema["properties"].as_object().unwrap();
            assert!(fields.keys().eq(wanted.keys()), "{shown}: {schema}");
            assert_eq!(schema["required"].as_array().unwrap().len(), wanted.len());
            fields.iter().for_each(|(name, field)| assert_shows(&wanted[name], field));
        }
        "array" => shown.as_array().unwrap().iter().for_each(|element| assert_shows(&schema["items"], element)),
        "integer" => assert!(shown.is_u64(), "{shown}"),
        "boolean" => assert!(shown.is_boolean(), "{shown}"),
        _ => assert!(shown.is_string(), "{shown}"),
    }
}
