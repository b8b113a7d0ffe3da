//! The environment: one table of all names, and how they become settings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Problem;
use crate::read::{MISSING, join};
use crate::words::closest;

/// What a variable does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableUse {
    /// Sets the key at this path.
    Sets(&'static str),
    /// Sets a key of a part's configuration, named per backend of the part; it has no effect with other backends.
    SetsFor {
        /// Path of the part, for example `embedder`.
        part: &'static str,
        /// Pairs of backend and key.
        keys: &'static [(&'static str, &'static str)],
    },
    /// Fills a key that nothing else sets, in every part with one of these backends: pairs of backend and key.
    Fills(&'static [(&'static str, &'static str)]),
    /// Is read by the program itself and is no setting.
    Program,
    /// Is known from MemOS and has no effect here; the text says why.
    Unused(&'static str),
}

/// A name in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub usage: VariableUse,
}

const fn sets(name: &'static str, path: &'static str) -> Variable {
    Variable { name, usage: VariableUse::Sets(path) }
}

const fn embedder(name: &'static str, keys: &'static [(&'static str, &'static str)]) -> Variable {
    Variable { name, usage: VariableUse::SetsFor { part: "embedder", keys } }
}

const fn scheduler(name: &'static str, keys: &'static [(&'static str, &'static str)]) -> Variable {
    Variable { name, usage: VariableUse::SetsFor { part: "mem_scheduler", keys } }
}

const fn fills(name: &'static str, keys: &'static [(&'static str, &'static str)]) -> Variable {
    Variable { name, usage: VariableUse::Fills(keys) }
}

const fn program(name: &'static str) -> Variable {
    Variable { name, usage: VariableUse::Program }
}

const fn unused(name: &'static str, why: &'static str) -> Variable {
    Variable { name, usage: VariableUse::Unused(why) }
}

/// Where a shell keeps the key for its calls of a server, as the documentation shows it: no setting, and no mistake.
const KEY_OF_CALLER: &str = "MOS_KEY";

const OF_TREE: &str = "set it in the tree memory of a cube's configuration";
const OF_RERANKER: &str = "set it in the reranker of a cube's configuration";

/// Every name that is known besides `MOS__SECTION__KEY`.
pub const VARIABLES: &[Variable] = &[
    sets("MOS_DATA_DIR", "data_dir"),
    sets("MOS_MODELS_DIR", "models_dir"),
    sets("MOS_USER_ID", "user_id"),
    sets("MOS_SESSION_ID", "session_id"),
    sets("MOS_BASE_PROMPT", "base_prompt"),
    sets("MOS_TOP_K", "top_k"),
    sets("MOS_MAX_TURNS_WINDOW", "max_turns_window"),
    sets("MOS_TEXT_MEM_TYPE", "text_mem_type"),
    sets("MOS_CHAT_MODEL", "chat_model.config.model_name_or_path"),
    sets("MOS_CHAT_MODEL_PROVIDER", "chat_model.backend"),
    sets("MOS_CHAT_TEMPERATURE", "chat_model.config.temperature"),
    sets("MOS_MAX_TOKENS", "chat_model.config.max_tokens"),
    sets("MOS_TOP_P", "chat_model.config.top_p"),
    sets("MOS_EMBEDDER_BACKEND", "embedder.backend"),
    sets("MOS_EMBEDDER_MODEL", "embedder.config.model_name_or_path"),
    embedder("MOS_EMBEDDER_PROVIDER", &[("universal_api", "provider")]),
    embedder(
        "MOS_EMBEDDER_API_BASE",
        &[("universal_api", "base_url"), ("ollama", "api_base"), ("openai", "api_base"), ("ark", "api_base")],
    ),
    embedder("MOS_EMBEDDER_API_KEY", &[("universal_api", "api_key"), ("openai", "api_key"), ("ark", "api_key")]),
    embedder(
        "MOS_EMBEDDER_HEADERS_EXTRA",
        &[
            ("universal_api", "headers_extra"),
            ("ollama", "headers_extra"),
            ("openai", "headers_extra"),
            ("ark", "headers_extra"),
        ],
    ),
    embedder(
        "MOS_EMBEDDER_TIMEOUT",
        &[
            ("universal_api", "total_timeout_seconds"),
            ("ollama", "total_timeout_seconds"),
            ("openai", "total_timeout_seconds"),
        ],
    ),
    embedder("MOS_EMBEDDER_BACKUP_CLIENT", &[("universal_api", "backup_client")]),
    embedder("MOS_EMBEDDER_BACKUP_API_BASE", &[("universal_api", "backup_base_url")]),
    embedder("MOS_EMBEDDER_BACKUP_API_KEY", &[("universal_api", "backup_api_key")]),
    embedder("MOS_EMBEDDER_BACKUP_HEADERS_EXTRA", &[("universal_api", "backup_headers_extra")]),
    embedder("MOS_EMBEDDER_BACKUP_MODEL", &[("universal_api", "backup_model_name_or_path")]),
    sets("MOS_ENABLE_SCHEDULER", "enable_mem_scheduler"),
    sets("ENABLE_ACTIVATION_MEMORY", "enable_activation_memory"),
    sets("ENABLE_PREFERENCE_MEMORY", "enable_preference_memory"),
    sets("PREFERENCE_ADDER_MODE", "preference_adder_mode"),
    sets("MOS_USER_MANAGER_BACKEND", "user_manager.backend"),
    scheduler("MOS_SCHEDULER_TOP_K", &[("general_scheduler", "top_k"), ("optimized_scheduler", "top_k")]),
    scheduler(
        "MOS_SCHEDULER_ACT_MEM_UPDATE_INTERVAL",
        &[("general_scheduler", "act_mem_update_interval"), ("optimized_scheduler", "act_mem_update_interval")],
    ),
    scheduler(
        "MOS_SCHEDULER_CONTEXT_WINDOW_SIZE",
        &[("general_scheduler", "context_window_size"), ("optimized_scheduler", "context_window_size")],
    ),
    scheduler(
        "MOS_SCHEDULER_THREAD_POOL_MAX_WORKERS",
        &[("general_scheduler", "thread_pool_max_workers"), ("optimized_scheduler", "thread_pool_max_workers")],
    ),
    scheduler(
        "MOS_SCHEDULER_CONSUME_INTERVAL_SECONDS",
        &[("general_scheduler", "consume_interval_seconds"), ("optimized_scheduler", "consume_interval_seconds")],
    ),
    scheduler(
        "MOS_SCHEDULER_ENABLE_PARALLEL_DISPATCH",
        &[("general_scheduler", "enable_parallel_dispatch"), ("optimized_scheduler", "enable_parallel_dispatch")],
    ),
    scheduler(
        "MOS_SCHEDULER_ENABLE_ACTIVATION_MEMORY",
        &[("general_scheduler", "enable_activation_memory"), ("optimized_scheduler", "enable_activation_memory")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_HOST_NAME",
        &[("general_scheduler", "rabbitmq.host_name"), ("optimized_scheduler", "rabbitmq.host_name")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_PORT",
        &[("general_scheduler", "rabbitmq.port"), ("optimized_scheduler", "rabbitmq.port")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_USER_NAME",
        &[("general_scheduler", "rabbitmq.user_name"), ("optimized_scheduler", "rabbitmq.user_name")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_PASSWORD",
        &[("general_scheduler", "rabbitmq.password"), ("optimized_scheduler", "rabbitmq.password")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_VIRTUAL_HOST",
        &[("general_scheduler", "rabbitmq.virtual_host"), ("optimized_scheduler", "rabbitmq.virtual_host")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_ERASE_ON_CONNECT",
        &[("general_scheduler", "rabbitmq.erase_on_connect"), ("optimized_scheduler", "rabbitmq.erase_on_connect")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_EXCHANGE_NAME",
        &[("general_scheduler", "rabbitmq.exchange_name"), ("optimized_scheduler", "rabbitmq.exchange_name")],
    ),
    scheduler(
        "MEMSCHEDULER_RABBITMQ_EXCHANGE_TYPE",
        &[("general_scheduler", "rabbitmq.exchange_type"), ("optimized_scheduler", "rabbitmq.exchange_type")],
    ),
    sets("CORS_ORIGINS", "server.cors_origins"),
    sets("RATE_LIMIT_ENABLED", "server.rate_limit.enabled"),
    sets("RATE_LIMIT", "server.rate_limit.requests"),
    sets("RATE_WINDOW_SEC", "server.rate_limit.window_seconds"),
    fills("OPENAI_API_KEY", &[("openai", "api_key"), ("openai_new", "api_key"), ("universal_api", "api_key")]),
    fills("OPENAI_API_BASE", &[("openai", "api_base"), ("openai_new", "api_base"), ("universal_api", "base_url")]),
    fills("QWEN_API_KEY", &[("qwen", "api_key")]),
    fills("QWEN_API_BASE", &[("qwen", "api_base")]),
    fills("MINIMAX_API_KEY", &[("minimax", "api_key")]),
    fills("MINIMAX_API_BASE", &[("minimax", "api_base")]),
    fills("VLLM_API_KEY", &[("vllm", "api_key")]),
    fills("VLLM_API_BASE", &[("vllm", "api_base")]),
    fills("OLLAMA_API_BASE", &[("ollama", "api_base")]),
    fills(
        "EMBEDDING_DIMENSION",
        &[("universal_api", "embedding_dims"), ("ark", "embedding_dims"), ("sentence_transformer", "embedding_dims")],
    ),
    fills("MYSQL_HOST", &[("mysql", "host")]),
    fills("MYSQL_PORT", &[("mysql", "port")]),
    fills("MYSQL_USERNAME", &[("mysql", "username")]),
    fills("MYSQL_PASSWORD", &[("mysql", "password")]),
    fills("MYSQL_DATABASE", &[("mysql", "database")]),
    fills("MYSQL_CHARSET", &[("mysql", "charset")]),
    unused("MOS_WORKING_MEMORY", OF_TREE),
    unused("MOS_LONGTERM_MEMORY", OF_TREE),
    unused("MOS_USER_MEMORY", OF_TREE),
    unused("MOS_ENABLE_REORGANIZE", OF_TREE),
    unused("MOS_NEO4J_SHARED_DB", OF_TREE),
    unused("MOS_RERANKER_BACKEND", OF_RERANKER),
    unused("MOS_RERANKER_URL", OF_RERANKER),
    unused("MOS_RERANKER_MODEL", OF_RERANKER),
    unused("MOS_RERANKER_HEADERS_EXTRA", OF_RERANKER),
    unused("MOS_RERANKER_STRATEGY", OF_RERANKER),
    unused("MOS_RERANKER_MAX_TOKENS", OF_RERANKER),
    unused("MOS_RERANKER_CONCAT_LEN", OF_RERANKER),
    unused("MOS_RERANK_SOURCE", OF_RERANKER),
    unused("MOS_FEEDBACK_RERANKER_BACKEND", OF_RERANKER),
    unused("MOS_FEEDBACK_RERANKER_MODEL", OF_RERANKER),
    program("MOS_CONFIG"),
    program("MOS_LISTEN"),
    program("MOS_LOG"),
    program("MOS_LOG_FORMAT"),
    program("MOS_TEST_LONG"),
];

/// What the environment says, as two layers over the file.
#[derive(Debug)]
pub(crate) struct Layers {
    /// From the names of the table.
    pub(crate) flat: Value,
    /// From `MOS__SECTION__KEY`, over the former.
    pub(crate) nested: Value,
    /// Names of the table that fill gaps, with their texts.
    pub(crate) fills: Vec<(&'static Variable, String)>,
    /// Which path was set by which variable.
    pub(crate) sources: BTreeMap<String, String>,
    pub(crate) warnings: Vec<String>,
}

impl Layers {
    /// Sorts the environment out. `below` is what the file and the defaults say: it tells the backends.
    pub(crate) fn read(environment: impl IntoIterator<Item = (String, String)>, below: &Value) -> Self {
        let set: BTreeMap<String, String> =
            environment.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect();
        let mut layers = Self {
            flat: Value::Object(Map::new()),
            nested: Value::Object(Map::new()),
            fills: Vec::new(),
            sources: BTreeMap::new(),
            warnings: Vec::new(),
        };
        let mut for_backends = Vec::new();
        let mut nested = Vec::new();
        for (name, text) in &set {
            match VARIABLES.iter().find(|variable| variable.name == name) {
                Some(variable) => match variable.usage {
                    VariableUse::Sets(path) => layers.set_flat(path, name, text),
                    VariableUse::SetsFor { part, keys } => for_backends.push((part, keys, name, text)),
                    VariableUse::Fills(_) => layers.fills.push((variable, text.clone())),
                    VariableUse::Program => {}
                    VariableUse::Unused(why) => layers.warnings.push(format!("{name} has no effect: {why}")),
                },
                None if name == KEY_OF_CALLER => {}
                None if name.starts_with("MOS__") => nested.push((name, text)),
                None if name.starts_with("MOS_") => layers.warn_unknown(name),
                None => {}
            }
        }
        for (name, text) in nested {
            layers.set_nested(name, text);
        }
        for (part, keys, name, text) in for_backends {
            layers.set_for_backend(below, part, keys, name, text);
        }
        layers
    }

    fn set_flat(&mut self, path: &str, name: &str, text: &str) {
        let segments: Vec<&str> = path.split('.').collect();
        insert(&mut self.flat, &segments, text);
        self.sources.entry(path.to_owned()).or_insert_with(|| name.to_owned());
    }

    fn set_nested(&mut self, name: &str, text: &str) {
        let lower: Vec<String> = name["MOS__".len()..]
            .split("__")
            // The one key that MemOS spells in capitals.
            .map(|part| if part == "PRO_MODE" { part.to_owned() } else { part.to_lowercase() })
            .collect();
        if lower.iter().any(String::is_empty) {
            self.warnings.push(format!("{name} is ignored: write MOS__SECTION__KEY"));
            return;
        }
        let segments: Vec<&str> = lower.iter().map(String::as_str).collect();
        insert(&mut self.nested, &segments, text);
        self.sources.insert(segments.join("."), name.to_owned());
    }

    fn set_for_backend(&mut self, below: &Value, part: &str, keys: &[(&str, &str)], name: &str, text: &str) {
        let backend = [&self.nested, &self.flat, below].into_iter().find_map(|layer| layer.get(part)?.get("backend"));
        let backend = backend.and_then(Value::as_str).map(str::to_owned);
        match keys.iter().find(|(wanted, _)| Some(*wanted) == backend.as_deref()) {
            Some((_, key)) => self.set_flat(&format!("{part}.config.{key}"), name, text),
            None => {
                let used: Vec<&str> = keys.iter().map(|(backend, _)| *backend).collect();
                let with = backend.map_or_else(|| "none".to_owned(), |backend| format!("`{backend}`"));
                let used = used.join(", ");
                self.warnings.push(format!("{name} has no effect: the backend of {part} is {with}, it is for {used}"));
            }
        }
    }

    fn warn_unknown(&mut self, name: &str) {
        let hint = closest(name, VARIABLES.iter().map(|variable| variable.name))
            .map(|meant| format!("; did you mean {meant}?"))
            .unwrap_or_default();
        self.warnings.push(format!("environment variable {name} is not known and has no effect{hint}"));
    }
}

/// Puts a text at a path, making objects on the way.
fn insert(value: &mut Value, path: &[&str], text: &str) {
    if !value.is_object() {
        // A whole part can be given as JSON (`MOS__EMBEDDER={...}`) and single keys of it replaced.
        let whole = value.as_str().and_then(|text| serde_json::from_str(text).ok()).filter(Value::is_object);
        *value = whole.unwrap_or_else(|| Value::Object(Map::new()));
    }
    if let (Value::Object(map), Some((first, rest))) = (&mut *value, path.split_first()) {
        let slot = map.entry(*first).or_insert(Value::Null);
        if rest.is_empty() {
            *slot = Value::from(text);
        } else {
            insert(slot, rest, text);
        }
    }
}

/// Adds to each key that is missing in `value` which variable would fill it, where one does.
pub(crate) fn named_for_missing(mut problems: Vec<Problem>, value: &Value) -> Vec<Problem> {
    for problem in problems.iter_mut().filter(|problem| problem.message == MISSING) {
        let Some((part, key)) = problem.path.rsplit_once(".config.") else { continue };
        let part = part.split('.').try_fold(value, |value, step| value.get(step));
        let Some(backend) = part.and_then(|part| part.get("backend")).and_then(Value::as_str) else { continue };
        let fills = |variable: &&Variable| match variable.usage {
            VariableUse::Fills(keys) => keys.contains(&(backend, key)),
            _ => false,
        };
        if let Some(variable) = VARIABLES.iter().find(fills) {
            problem.message = format!("{MISSING}; write it here, or set {} in the environment", variable.name);
        }
    }
    problems
}

/// Fills absent keys of every part in `value` and notes in `sources` which variable did.
pub(crate) fn fill(value: &mut Value, fills: &[(&'static Variable, String)], sources: &mut BTreeMap<String, String>) {
    fill_at(value, "", fills, sources);
}

fn fill_at(value: &mut Value, at: &str, fills: &[(&'static Variable, String)], sources: &mut BTreeMap<String, String>) {
    let Value::Object(map) = value else { return };
    if let Some(backend) = map.get("backend").and_then(Value::as_str).map(str::to_owned) {
        let config = map.entry("config").or_insert_with(|| Value::Object(Map::new()));
        for (variable, text) in fills {
            let VariableUse::Fills(keys) = variable.usage else { continue };
            for key in keys.iter().filter(|(wanted, _)| *wanted == backend).map(|(_, key)| *key) {
                if let Value::Object(config) = config
                    && config.get(key).is_none_or(Value::is_null)
                {
                    config.insert(key.to_owned(), Value::from(text.as_str()));
                    sources.insert(join(&join(at, "config"), key), variable.name.to_owned());
                }
            }
        }
    }
    for (key, value) in map {
        fill_at(value, &join(at, key), fills, sources);
    }
}
