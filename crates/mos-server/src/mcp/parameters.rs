//! What tools take: their JSON Schemas, and arguments that were checked against them.

use mos::product::{ProductError, ProductResult};
use serde_json::{Map, Value, json};

/// The longest list of an argument.
const MAX_ITEMS: usize = 1_000;

/// What a parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// One of these words, in any case.
    Word(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number from 1 to this.
    Count(u64),
    /// Several texts.
    Texts,
    /// Messages of a conversation.
    Messages,
    /// An object of any fields.
    Object,
}

/// One parameter of a tool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// What it means, for models and people.
    pub(super) description: &'static str,
    /// Whether the tool cannot do without it.
    pub(super) is_required: bool,
}

impl Parameter {
    /// Returns a parameter that a call has to name.
    pub(super) const fn required(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self { name, kind, description, is_required: true }
    }

    /// Returns a parameter that a call may leave out.
    pub(super) const fn optional(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self { name, kind, description, is_required: false }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Word(words) => json!({"type": "string", "enum": words}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Count(most) => json!({"type": "integer", "minimum": 1, "maximum": most}),
            Kind::Texts => json!({"type": "array", "items": {"type": "string"}, "maxItems": MAX_ITEMS}),
            Kind::Messages => json!({
                "type": "array",
                "maxItems": MAX_ITEMS,
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {
                            "type": "string",
                            "enum": ["user", "assistant", "system", "tool"],
                            "description": "Who speaks.",
                        },
                        "content": {"type": "string", "description": "What is said."},
                        "chat_time": {"type": "string", "description": "When it was said."},
                        "message_id": {"type": "string", "description": "The message's own id."},
                    },
                    "required": ["role", "content"],
                },
            }),
            Kind::Object => json!({"type": "object"}),
        };
        schema["description"] = json!(self.description);
        schema
    }

    /// Returns the value as the tool gets it, or what it has to be.
    fn read(&self, value: Value) -> Result<Value, String> {
        match (self.kind, value) {
            (Kind::Text, value @ Value::String(_)) | (Kind::Flag, value @ Value::Bool(_)) => Ok(value),
            (Kind::Object, value @ Value::Object(_)) => Ok(value),
            (Kind::Word(words), Value::String(text)) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(&text));
                word.map(|word| json!(word)).ok_or_else(|| format!("has to be one of: {}", words.join(", ")))
            }
            (Kind::Word(words), _) => Err(format!("has to be one of: {}", words.join(", "))),
            (Kind::Count(most), value) => match value.as_u64() {
                Some(number) if (1..=most).contains(&number) => Ok(value),
                _ => Err(format!("has to be a whole number from 1 to {most}")),
            },
            (Kind::Texts | Kind::Messages, Value::Array(items)) if items.len() > MAX_ITEMS => {
                Err(format!("has {} items; at most {MAX_ITEMS} are allowed in one call", items.len()))
            }
            (Kind::Texts, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(Value::Array(items)),
            (Kind::Messages, Value::Array(items)) if items.iter().all(Value::is_object) => Ok(Value::Array(items)),
            (Kind::Text, _) => Err("has to be a text".to_owned()),
            (Kind::Flag, _) => Err("has to be true or false".to_owned()),
            (Kind::Texts, _) => Err("has to be a list of texts".to_owned()),
            (Kind::Messages, _) => {
                Err("has to be a list of messages such as {\"role\": \"user\", \"content\": \"..\"}".to_owned())
            }
            (Kind::Object, _) => Err("has to be an object".to_owned()),
        }
    }
}

/// Returns the JSON Schema of the arguments of a tool with these parameters.
pub(super) fn schema(parameters: &[Parameter]) -> Map<String, Value> {
    let properties: Map<String, Value> =
        parameters.iter().map(|parameter| (parameter.name.to_owned(), parameter.schema())).collect();
    let required: Vec<&str> =
        parameters.iter().filter(|parameter| parameter.is_required).map(|parameter| parameter.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("required".to_owned(), json!(required));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

/// The arguments of a call. What was left out, null or, where it may be left out, an empty text is absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    values: Map<String, Value>,
}

impl Arguments {
    /// Reads the arguments of a call of a tool with these parameters.
    ///
    /// # Errors
    /// Status 400 with every fault, and what there should be.
    pub(super) fn read(parameters: &[Parameter], given: Map<String, Value>) -> ProductResult<Self> {
        let (mut values, mut faults) = (Map::new(), Vec::new());
        for (name, value) in given {
            let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
                let known: Vec<String> = parameters.iter().map(|parameter| format!("`{}`", parameter.name)).collect();
                let shown: String = name.chars().take(64).collect();
                faults.push(format!("there is no argument `{shown}`; this tool takes {}", known.join(", ")));
                continue;
            };
            let is_empty = value.as_str().is_some_and(str::is_empty);
            if value.is_null() || is_empty && !parameter.is_required {
                continue;
            }
            match parameter.read(value) {
                Ok(value) => drop(values.insert(name, value)),
                Err(fault) => faults.push(format!("`{name}` {fault}")),
            }
        }
        for parameter in parameters.iter().filter(|parameter| parameter.is_required) {
            let is_told = faults.iter().any(|fault| fault.starts_with(&format!("`{}` ", parameter.name)));
            if !values.contains_key(parameter.name) && !is_told {
                faults.push(format!("`{}` is missing: {}", parameter.name, parameter.description));
            }
        }
        if faults.is_empty() { Ok(Self { values }) } else { Err(ProductError::bad_value(faults.join("; "))) }
    }

    /// Returns a text, when it was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Value::as_str)
    }

    /// Returns a text that the tool cannot do without.
    ///
    /// # Errors
    /// Status 400 when it was not given.
    pub(super) fn needed(&self, name: &str) -> ProductResult<&str> {
        self.text(name).ok_or_else(|| ProductError::bad_value(format!("`{name}` is missing; give it")))
    }

    /// Returns whether a flag was set.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Returns a number, when it was given.
    pub(super) fn count(&self, name: &str) -> Option<usize> {
        self.values.get(name).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
    }

    /// Returns several texts; none when they were not given.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        self.values.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns the value as it came, when it was given.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: &[Parameter] = &[
        Parameter::required("query", Kind::Text, "What is looked for."),
        Parameter::optional("mode", Kind::Word(&["fast", "fine"]), "How."),
        Parameter::optional("top_k", Kind::Count(9), "How many."),
        Parameter::optional("cube_ids", Kind::Texts, "Where."),
    ];

    fn read(given: Value) -> ProductResult<Arguments> {
        Arguments::read(PARAMETERS, given.as_object().unwrap().clone())
    }

    #[test]
    fn arguments_are_read_as_the_schema_tells() {
        let schema = schema(PARAMETERS);
        assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["query"])));
        assert_eq!(
            schema["properties"]["mode"],
            json!({"type": "string", "enum": ["fast", "fine"], "description": "How."})
        );
        let arguments = read(json!({"query": "tea", "mode": "FINE", "top_k": 9, "cube_ids": ["a", "b"]})).unwrap();
        assert_eq!((arguments.text("query"), arguments.text("mode")), (Some("tea"), Some("fine")));
        assert_eq!((arguments.count("top_k"), arguments.texts("cube_ids")), (Some(9), vec!["a", "b"]));
        let absent = read(json!({"query": "tea", "mode": null, "cube_ids": null})).unwrap();
        assert_eq!((absent.text("mode"), absent.count("top_k"), absent.texts("cube_ids").len()), (None, None, 0));
    }

    #[test]
    fn every_fault_is_told_once_with_what_there_should_be() {
        let error = read(json!({"querry": "tea", "mode": "slow", "top_k": 10})).unwrap_err();
        assert_eq!(error.status, 400);
        for told in ["`querry`; this tool takes `query`", "fast, fine", "from 1 to 9", "`query` is missing: What is"] {
            assert_eq!(error.message.matches(told).count(), 1, "{told}: {}", error.message);
        }
        let wrong = read(json!({"query": 7})).unwrap_err();
        assert_eq!(wrong.message, "`query` has to be a text");
        assert!(read(json!({"query": "tea", "cube_ids": "a"})).unwrap_err().message.contains("a list of texts"));
    }
}
