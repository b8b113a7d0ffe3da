//! The JSON Schema of the settings, made from the same declarations that read them.
//!
//! Nothing is `required` in it: what a file leaves out can come from the environment or a default. `${NAME}`, which stands for
//! a variable, is allowed wherever a number or a truth value is.

use serde_json::{Map, Value, json};

use crate::cube::GeneralMemCubeConfig;
use crate::read::Setting;
use crate::settings::Settings;

/// The definition of `${NAME}`.
pub(crate) const REFERENCE: &str = "Reference";

/// The sections and choices of a schema, each under its name, in the order in which they were first named.
#[derive(Debug, Default)]
pub struct Definitions {
    named: Map<String, Value>,
}

impl Definitions {
    /// Returns a reference to a definition, which `make` makes the first time.
    pub(crate) fn refer(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.named.contains_key(name) {
            // Takes the place, also for a section that holds itself.
            self.named.insert(name.to_owned(), Value::Null);
            let made = make(self);
            self.named.insert(name.to_owned(), made);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    /// Returns the schema of a value of a plain type, which a variable may stand for.
    pub(crate) fn plain(&mut self, schema: Value) -> Value {
        let reference = self.refer(REFERENCE, |_| {
            json!({
                "description": "A variable of the environment, whose value stands here.",
                "type": "string",
                "pattern": "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}$",
            })
        });
        json!({"anyOf": [schema, reference]})
    }
}

/// Returns the schema of a value that may be null.
pub(crate) fn nullable(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// Joins the lines of a documentation comment; links to code become code.
pub(crate) fn prose(lines: &[&str]) -> String {
    let text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    text.trim().replace("[`", "`").replace("`]", "`").replace("(crate::Settings)", "")
}

/// A section while its keys are listed.
#[derive(Debug)]
pub(crate) struct Section {
    description: String,
    keys: Map<String, Value>,
    is_open: bool,
}

impl Section {
    pub(crate) fn new(lines: &[&str]) -> Self {
        Self { description: prose(lines), keys: Map::new(), is_open: false }
    }

    /// Lists a key that must be given somewhere.
    pub(crate) fn required<T: Setting>(&mut self, key: &str, lines: &[&str], definitions: &mut Definitions) {
        let schema = T::schema(definitions);
        let described = json!({"description": format!("{} Must be given.", prose(lines)), "allOf": [schema]});
        self.keys.insert(key.to_owned(), described);
    }

    /// Lists a key that may be left out, with what it is then.
    pub(crate) fn optional<T: Setting>(
        &mut self,
        key: &str,
        lines: &[&str],
        default: Option<Value>,
        definitions: &mut Definitions,
    ) {
        let schema = T::schema(definitions);
        let mut described = json!({"description": prose(lines), "allOf": [schema]});
        if let Some(default) = default {
            described["default"] = default;
        }
        self.keys.insert(key.to_owned(), described);
    }

    /// Allows keys that are not listed.
    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    pub(crate) fn finish(mut self) -> Value {
        // MemOS writes the class path of a configuration into it.
        self.keys.insert("model_schema".to_owned(), json!({"type": "string"}));
        json!({
            "description": self.description,
            "type": "object",
            "properties": self.keys,
            "additionalProperties": self.is_open,
        })
    }
}

/// Returns the schema of one backend of a choice.
pub(crate) fn backend(key: &str, lines: &[&str], config: Value) -> Value {
    json!({
        "description": prose(lines),
        "type": "object",
        "properties": {"backend": {"const": key}, "config": config, "model_schema": {"type": "string"}},
        "additionalProperties": false,
    })
}

/// Returns the schema of a choice of backends.
pub(crate) fn choice(lines: &[&str], backends: Vec<Value>) -> Value {
    json!({"description": prose(lines), "anyOf": backends})
}

fn document<T: Setting>(title: &str) -> Value {
    let mut definitions = Definitions::default();
    let root = T::schema(&mut definitions);
    let mut schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title});
    schema["$ref"] = root["$ref"].clone();
    schema["$defs"] = Value::Object(definitions.named);
    schema
}

/// Returns the JSON Schema (draft 2020-12) of a settings file.
pub fn settings_schema() -> Value {
    document::<Settings>("Settings of mos")
}

/// Returns the JSON Schema (draft 2020-12) of a cube's configuration.
pub fn cube_schema() -> Value {
    document::<GeneralMemCubeConfig>("Configuration of a memory cube")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref` below a value.
    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                    found.insert(name);
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_definition_and_every_definition_is_used() {
        for schema in [settings_schema(), cube_schema()] {
            let mut found = BTreeSet::new();
            references(&schema, &mut found);
            let names: Vec<String> =
                schema["$defs"].as_object().unwrap().keys().map(|name| format!("#/$defs/{name}")).collect();
            assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<&str>>(), found);
            assert!(schema["$defs"].as_object().unwrap().values().all(|definition| definition.is_object()));
        }
    }

    #[test]
    fn keys_defaults_and_backends_are_those_that_are_read() {
        let schema = settings_schema();
        let written = Settings::default().to_json(crate::Secrets::Plain);
        let keys = &schema["$defs"]["Settings"]["properties"];
        for (key, value) in written.as_object().unwrap() {
            assert_eq!(&keys[key]["default"], value, "{key}");
        }
        for key in ["session_id", "queue", "model_budget", "internet_retriever", "PRO_MODE"] {
            assert!(keys[key]["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
        let listed: Vec<&str> = schema["$defs"]["ChatModelConfig"]["anyOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|backend| backend["properties"]["backend"]["const"].as_str().unwrap())
            .collect();
        assert_eq!(listed, crate::ChatModelConfig::KEYS);
        // Keys of a group stand in the section that has it, each once.
        let openai = schema["$defs"]["OpenAiLlm"]["properties"].as_object().unwrap();
        for key in ["model_name_or_path", "api_key", "backup_client", "max_retries"] {
            assert!(openai.contains_key(key), "{key}");
        }
        assert_eq!(schema["$defs"]["Scheduler"]["additionalProperties"], true, "MemOS' older keys are ignored");
        assert_eq!(schema["$defs"]["OpenAiLlm"]["additionalProperties"], false);
    }

    #[test]
    fn everything_is_described() {
        for schema in [settings_schema(), cube_schema()] {
            for (name, definition) in schema["$defs"].as_object().unwrap() {
                assert_ne!(definition["description"].as_str(), Some(""), "{name}");
                for (key, value) in definition["properties"].as_object().into_iter().flatten() {
                    let is_ours = key != "model_schema";
                    assert!(
                        !is_ours || value["description"].as_str().is_some_and(|text| !text.is_empty()),
                        "{name}.{key}"
                    );
                }
            }
        }
    }
}
