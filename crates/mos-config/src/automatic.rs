//! A whole installation from the environment alone, by MemOS' names.
//!
//! [`Settings::load`] takes single values out of the environment. Here MemOS' names also choose parts: a key of OpenAI chooses
//! its models, `GRAPH_DB_BACKEND` a server for the record. What they say lies over the defaults and under everything else: a
//! file, the names in [`VARIABLES`](crate::VARIABLES) and `MOS__SECTION__KEY` win. Without any name everything is in this process.
//!
//! Invariant: a name that is set and has no effect is a warning that says why; no warning holds the value of a secret.

mod parts;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cube::GeneralMemCubeConfig;
use crate::error::ConfigError;
use crate::llm::ChatModelConfig;
use crate::read::{Reader, Setting};
use crate::secret::{Secret, Secrets};
use crate::settings::{Loaded, Settings};
use crate::variables::VARIABLES;

use table::FAMILIES;
pub use table::{AUTOMATIC_VARIABLES, AutomaticVariable};

/// What is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A program with memories.
    Library,
    /// One command of a person, on the memories of an installation: as a program, but a key of OpenAI chooses no model, because
    /// the shell may have it for something else; and names without effect are passed over, which the installation's server tells.
    Command,
    /// The product API: work in the background is on, and cubes are trees, unless the environment says otherwise.
    Service,
}

/// An installation as the environment says it.
#[derive(Clone, Debug, PartialEq)]
pub struct FromEnvironment {
    /// The settings.
    pub settings: Settings,
    /// The configuration of cubes that are made without one, when a name says something about them.
    pub cube_config: Option<GeneralMemCubeConfig>,
    /// Whether chats are answered (`ENABLE_CHAT_API`).
    pub chats: Option<bool>,
    /// The keys of business chats.
    pub business_chat_keys: Vec<Secret>,
    /// Models that chats may name, by the names they go by (`CHAT_MODEL_LIST`).
    pub chat_models: Vec<(String, ChatModelConfig)>,
    /// What is worth knowing, one sentence each.
    pub warnings: Vec<String>,
}

/// Returns an installation as the environment says it, over the file at `path` where that is said.
///
/// # Errors
/// As [`Settings::load`].
pub fn from_environment(
    purpose: Purpose,
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<FromEnvironment, ConfigError> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let mut given = Given::new(&environment);
    parts::add(&mut given, purpose);
    let chats = given.boolean("ENABLE_CHAT_API");
    let business_chat_keys = given.texts("BUSINESS_CHAT_KEYS").into_iter().map(Secret::new).collect();
    let chat_models = chat_models(&mut given);
    let layer = AutomaticLayer { value: given.value.clone(), sources: given.sources.clone() };
    let Loaded { settings, mut warnings } = Settings::load_over(path, environment, Some(layer))?;
    given.note_references(path);
    let cube_config = cube_config(&mut given, purpose, &settings)?;
    let told = given.finish();
    if purpose != Purpose::Command {
        warnings.extend(told);
    }
    Ok(FromEnvironment { settings, cube_config, chats, business_chat_keys, chat_models, warnings })
}

/// What MemOS' names say, as a layer under the file. It holds secrets: it has no `Debug`.
pub(crate) struct AutomaticLayer {
    pub(crate) value: Value,
    /// Which path was set by which variable.
    pub(crate) sources: BTreeMap<String, String>,
}

/// Whether a name is heeded here, so that no other layer has to tell of it.
pub(crate) fn is_known(name: &str) -> bool {
    AUTOMATIC_VARIABLES.iter().any(|variable| variable.name == name)
}

/// The environment, and what was made of it. It holds secrets: it has no `Debug`.
struct Given {
    set: BTreeMap<String, String>,
    /// Names that had an effect, or whose lack of one was told.
    told: BTreeSet<&'static str>,
    value: Value,
    sources: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Given {
    fn new(environment: &[(String, String)]) -> Self {
        let set = environment.iter().filter(|(_, value)| !value.trim().is_empty()).cloned().collect();
        let value = Value::Object(Map::new());
        Self { set, told: BTreeSet::new(), value, sources: BTreeMap::new(), warnings: Vec::new() }
    }

    /// Returns the text of a name, without using it up.
    fn peek(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(String::as_str)
    }

    /// Whether any of these names is set.
    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.set.contains_key(*name))
    }

    /// Returns the text of a name, which has an effect thereby.
    fn text(&mut self, name: &'static str) -> Option<String> {
        let text = self.set.get(name)?.trim().to_owned();
        self.told.insert(name);
        Some(text)
    }

    fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.text(name)?.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => {
                self.warn(format!("{name} has no effect: it must be true or false"));
                None
            }
        }
    }

    fn number(&mut self, name: &'static str) -> Option<u64> {
        let number = self.text(name)?.parse::<u64>().ok();
        if number.is_none() {
            self.warn(format!("{name} has no effect: it must be a whole number"));
        }
        number
    }

    /// Returns a list: a JSON list of texts, or texts between commas.
    fn texts(&mut self, name: &'static str) -> Vec<String> {
        let Some(text) = self.text(name) else { return Vec::new() };
        if !text.starts_with('[') {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return parts.map(str::to_owned).collect();
        }
        serde_json::from_str(&text).unwrap_or_else(|_| {
            self.warn(format!("{name} has no effect: it must be a JSON list of texts, for example [\"a\", \"b\"]"));
            Vec::new()
        })
    }

    /// Sets the key at a path to what a name says; returns whether it is set.
    fn put_text(&mut self, path: &str, name: &'static str) -> bool {
        let Some(text) = self.text(name) else { return false };
        self.put(path, Value::from(text));
        self.sources.insert(path.to_owned(), name.to_owned());
        true
    }

    /// Sets the key at a path.
    fn put(&mut self, path: &str, value: Value) {
        put_at(&mut self.value, path, value);
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// A name that the file refers to as `${NAME}` has an effect.
    fn note_references(&mut self, file: Option<&Path>) {
        // It was read a moment ago; one that has gone since only costs a warning too many.
        let Some(text) = file.and_then(|file| std::fs::read_to_string(file).ok()) else { return };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        for variable in AUTOMATIC_VARIABLES {
            let reference = format!("${{{}}}", variable.name);
            if lines.iter().any(|line| line.contains(&reference)) {
                self.told.insert(variable.name);
            }
        }
    }

    /// Returns what is worth knowing: also of the names that are set and had no effect.
    fn finish(self) -> Vec<String> {
        let mut warnings = self.warnings;
        for variable in AUTOMATIC_VARIABLES {
            if self.set.contains_key(variable.name) && !self.told.contains(variable.name) {
                warnings.push(format!("{} has no effect: {}", variable.name, variable.otherwise));
            }
        }
        for name in self.set.keys().filter(|name| !is_known(name) && !VARIABLES.iter().any(|known| known.name == *name))
        {
            if let Some((_, why)) = FAMILIES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
                warnings.push(format!("{name} has no effect: {why}"));
            }
        }
        warnings
    }
}

/// Puts a value at a path, making objects on the way.
fn put_at(value: &mut Value, path: &str, new: Value) {
    let mut place = value;
    for key in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[key];
    }
    *place = new;
}

/// The models that chats may name. An entry that cannot be used is a warning.
fn chat_models(given: &mut Given) -> Vec<(String, ChatModelConfig)> {
    let mut models = Vec::new();
    let Some(text) = given.text("CHAT_MODEL_LIST") else { return models };
    let Ok(entries) = serde_json::from_str::<Vec<Map<String, Value>>>(&text) else {
        given.warn("CHAT_MODEL_LIST has no effect: it must be a JSON list of objects".to_owned());
        return models;
    };
    for (index, mut entry) in entries.into_iter().enumerate() {
        let backend = entry.shift_remove("backend").unwrap_or_else(|| json!("openai"));
        let listed = entry.shift_remove("support_models").unwrap_or_default();
        let mut names: Vec<String> = serde_json::from_value(listed).unwrap_or_default();
        if let (true, Some(name)) = (names.is_empty(), entry.get("model_name_or_path").and_then(Value::as_str)) {
            names.push(name.to_owned());
        }
        entry.retain(|_, value| !value.is_null());
        match ChatModelConfig::from_json(&json!({"backend": backend, "config": entry})) {
            Ok(config) if !names.is_empty() => {
                models.extend(names.into_iter().map(|name| (name, config.clone())));
            }
            Ok(_) => given.warn(format!("CHAT_MODEL_LIST[{index}] has no effect: it names no model")),
            Err(error) => given.warn(format!("CHAT_MODEL_LIST[{index}] has no effect: {error}")),
        }
    }
    models
}

/// The names that say something about the trees of cubes, with the keys of their configuration.
const TREE_KEYS: &[(&str, &str)] = &[
    ("MOS_WORKING_MEMORY", "memory_size.WorkingMemory"),
    ("MOS_LONGTERM_MEMORY", "memory_size.LongTermMemory"),
    ("MOS_USER_MEMORY", "memory_size.UserMemory"),
    ("MOS_ENABLE_REORGANIZE", "reorganize"),
    ("ASYNC_MODE", "mode"),
    ("VEC_COT_CALL", "search_strategy.cot"),
];

/// The configuration of cubes that are made without one; `None` when no name says anything about them.
fn cube_config(
    given: &mut Given,
    purpose: Purpose,
    settings: &Settings,
) -> Result<Option<GeneralMemCubeConfig>, ConfigError> {
    let is_tree = purpose == Purpose::Service || settings.text_mem_type == "tree_text";
    let names: Vec<&str> = TREE_KEYS.iter().map(|(name, _)| *name).collect();
    if !is_tree || !given.has_any(&names) {
        return Ok(None);
    }
    let mut value = json!({"text_mem": {"backend": "tree_text", "config": {}}});
    if purpose == Purpose::Service {
        put_at(&mut value, "text_mem.config.mode", json!("async"));
        let config = json!({"memory_filename": crate::settings::PREFERENCE_FILE});
        put_at(&mut value, "pref_mem", json!({"backend": "pref_text", "config": config}));
    } else {
        put_at(&mut value, "pref_mem", settings.preference_memory().to_json(Secrets::Plain));
    }
    let mut sources = BTreeMap::new();
    for (name, key) in TREE_KEYS {
        if let Some(text) = given.text(name) {
            let path = format!("text_mem.config.{key}");
            put_at(&mut value, &path, Value::from(text));
            sources.insert(path, (*name).to_owned());
        }
    }
    let mut reader = Reader::new(None, &sources);
    let read = GeneralMemCubeConfig::read(&mut reader, &value, "");
    let (config, warnings) = reader.finish(read)?;
    given.warnings.extend(warnings);
    Ok(Some(config))
}
