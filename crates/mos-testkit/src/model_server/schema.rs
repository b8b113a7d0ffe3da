//! JSON schemas that requests ask answers to fit, and answers that do.

use serde_json::{Map, Value, json};

/// Returns the schema that a request asks its answer to fit, in any of the formats.
pub fn schema_of(body: &Value) -> Option<&Value> {
    let places =
        [&body["response_format"]["json_schema"]["schema"], &body["text"]["format"]["schema"], &body["format"]];
    places.into_iter().find(|schema| schema.is_object())
}

/// Returns the plainest value that fits a schema: every key that it names, one entry per list, the first of an
/// enumeration, the key's own name as text.
pub fn instance_of(schema: &Value) -> Value {
    instance(schema, "text")
}

fn instance(schema: &Value, name: &str) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        // One of several kinds.
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("string"),
        _ if schema["properties"].is_object() => "object",
        _ => "string",
    };
    match kind {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(properties.map(|(key, schema)| (key.clone(), instance(schema, key))).collect::<Map<_, _>>())
        }
        "array" => json!([instance(&schema["items"], name)]),
        "integer" => json!(1),
        "number" => json!(0.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_every_key() {
        let schema = json!({"type": "object", "properties": {
            "memories": {"type": "array", "items": {"type": "object", "properties": {
                "key": {"type": "string"}, "kind": {"enum": ["fact", "event"]}, "sure": {"type": ["number", "null"]}}}},
            "n": {"type": "integer"}}});
        let expected = json!({"memories": [{"key": "key", "kind": "fact", "sure": 0.5}], "n": 1});
        assert_eq!(instance_of(&schema), expected);
    }

    #[test]
    fn schemas_are_found_in_every_format() {
        let schema = json!({"type": "object"});
        for body in [
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}),
            json!({"text": {"format": {"type": "json_schema", "schema": schema}}}),
            json!({"format": schema}),
        ] {
            assert_eq!(schema_of(&body), Some(&schema), "{body}");
        }
        assert_eq!(schema_of(&json!({"response_format": {"type": "json_object"}, "format": "json"})), None);
    }
}
