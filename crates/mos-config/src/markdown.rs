//! The documentation of the settings, made from their schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::schema::{REFERENCE, settings_schema};

/// What stands before the tables.
const INTRODUCTION: &str = "\
# Configuration

Made by `cargo xtask docs` from the declarations that read the settings; do not edit it by hand.

A settings file is JSON or YAML (`--config FILE`, `MOS_CONFIG`). It lies over the defaults, and the environment lies over it:
`MOS__SECTION__KEY=value` sets any key, for example `MOS__CHAT_MODEL__CONFIG__TEMPERATURE=0.7`. A text that is nothing but
`${NAME}` stands for that variable. Unknown keys, wrong types and unknown backends are errors that name the place; `mos config
check FILE` tells them all at once. Files of MemOS load as they are.

`mos config schema` prints the JSON Schema of settings files (`--of-cube`: of a cube's `config.json`), `mos config backends`
which backends this build can run.

## Ready files

| file | for |
|---|---|
| [`embedded.yaml`](../configs/embedded.yaml) | everything in this process; the defaults, explained |
| [`local-chatbot.yaml`](../configs/local-chatbot.yaml) | a chatbot with a model of this machine and its kept state |
| [`openai.yaml`](../configs/openai.yaml) | chat and embeddings by any server that speaks OpenAI's format |
| [`ollama.yaml`](../configs/ollama.yaml) | chat and embeddings by an Ollama server |
| [`vllm.yaml`](../configs/vllm.yaml) | chat by a vLLM server that keeps prompts computed |
| [`users-in-postgres.yaml`](../configs/users-in-postgres.yaml) | users, cubes and shares in PostgreSQL |
| [`servers.yaml`](../configs/servers.yaml) | memories in Neo4j, users in PostgreSQL |
| [`neo4j-and-qdrant.yaml`](../configs/neo4j-and-qdrant.yaml) | the same, with vectors in Qdrant |
| [`saas.yaml`](../configs/saas.yaml) | Neo4j, Qdrant, Redis and PostgreSQL together |
| [`full.yaml`](../configs/full.yaml) | trees in Neo4j, vectors in Qdrant, kept model state: all three in one cube |

";

/// Returns the documentation of all settings as Markdown: what `docs/configuration.md` holds.
pub fn settings_markdown() -> String {
    let schema = settings_schema();
    let mut text = INTRODUCTION.to_owned();
    let empty = Map::new();
    for (name, definition) in schema["$defs"].as_object().unwrap_or(&empty) {
        if name == REFERENCE {
            continue;
        }
        // Writing to a text cannot fail.
        let _ = write!(text, "## {name}\n\n{}\n\n", definition["description"].as_str().unwrap_or_default());
        match definition["anyOf"].as_array() {
            Some(backends) => list_backends(&mut text, backends),
            None => list_keys(&mut text, definition["properties"].as_object().unwrap_or(&empty)),
        }
    }
    format!("{}\n", text.trim_end())
}

fn list_backends(text: &mut String, backends: &[Value]) {
    text.push_str("| `backend` | what it is | `config` |\n|---|---|---|\n");
    for backend in backends {
        let keys = &backend["properties"];
        let key = keys["backend"]["const"].as_str().unwrap_or_default();
        let described = cell(backend["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| `{key}` | {described} | {} |", kind(&keys["config"]));
    }
    text.push('\n');
}

fn list_keys(text: &mut String, keys: &Map<String, Value>) {
    let keys: Vec<(&String, &Value)> = keys.iter().filter(|(key, _)| *key != "model_schema").collect();
    if keys.is_empty() {
        text.push_str("It has no keys.\n\n");
        return;
    }
    text.push_str("| key | what it is | type | default |\n|---|---|---|---|\n");
    for (key, value) in keys {
        let described = cell(value["description"].as_str().unwrap_or_default());
        let kind = value["allOf"].get(0).map(kind).unwrap_or_default();
        let _ = writeln!(text, "| `{key}` | {described} | {kind} | {} |", default_of(value.get("default")));
    }
    text.push('\n');
}

/// A default as it is written in a file; those of whole sections stand in their own tables.
fn default_of(default: Option<&Value>) -> String {
    match default {
        None | Some(Value::Null) => String::new(),
        Some(Value::Object(map)) => match map.get("backend").and_then(Value::as_str) {
            Some(backend) => format!("`{backend}`"),
            None => String::new(),
        },
        Some(value) => format!("`{}`", cell(&value.to_string())),
    }
}

/// What can stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The type of a value, for people.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return if name == REFERENCE { String::new() } else { format!("[{name}](#{})", name.to_lowercase()) };
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let kinds: Vec<String> = either.iter().map(kind).filter(|kind| !kind.is_empty()).collect();
        return kinds.join(" or ");
    }
    match schema["type"].as_str() {
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("number") => "number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => match schema.get("additionalProperties").filter(|inner| inner.is_object()) {
            Some(inner) => format!("object of {}", kind(inner)),
            None => "object".to_owned(),
        },
        Some("null") => String::new(),
        _ => "anything".to_owned(),
    }
}
