//! The settings of an installation.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::automatic::{self, AutomaticLayer};
use crate::budget::BudgetConfig;
use crate::embedder::EmbedderConfig;
use crate::error::ConfigError;
use crate::fetch::FetchConfig;
use crate::layers;
use crate::llm::ChatModelConfig;
use crate::memory::MemoryConfig;
use crate::plugins::PluginsConfig;
use crate::read::{Fields, Reader, Setting};
use crate::reader::MemReaderConfig;
use crate::reading::ReadingConfig;
use crate::recall::RecallConfig;
use crate::references;
use crate::retrieval::{InternetRetrieverConfig, RerankerConfig};
use crate::scheduler::SchedulerConfig;
use crate::secret::Secrets;
use crate::server::ServerConfig;
use crate::store::{QueueConfig, StoreConfig, UserManagerConfig, VectorStoreConfig};
use crate::variables;

/// The text memories that a new cube can have without further configuration.
const TEXT_MEMORY_TYPES: [&str; 3] = ["general_text", "naive_text", "tree_text"];

/// The file of preferences in the dump of a cube that is made without a configuration.
pub(crate) const PREFERENCE_FILE: &str = "preference_textual_memories.json";

section! {
    /// The settings of an installation: MemOS' `MOSConfig`, and more.
    pub struct Settings {
        /// The user that is meant when none is named.
        default user_id: String = "root".to_owned(),
        /// The session. Absent: a new one.
        omitted session_id: Option<String>,
        /// The folder of the record and everything else that is kept. Absent: the platform's data folder.
        omitted data_dir: Option<PathBuf>,
        /// The folder of fetched models. Absent: `mos/models` in the platform's cache folder.
        omitted models_dir: Option<PathBuf>,
        /// The model that answers.
        default chat_model: ChatModelConfig = default_part("chat_model"),
        /// The tokens that users and cubes may use. Absent: as many as they like.
        omitted model_budget: Option<BudgetConfig>,
        /// The encoder of memories and questions.
        default embedder: EmbedderConfig = default_part("embedder"),
        /// Where everything is recorded.
        default store: StoreConfig = default_part("store"),
        /// Where vectors are searched. `embedded` is an index in memory that follows the record.
        default vectors: VectorStoreConfig = default_part("vectors"),
        /// How memories are ranked for a question.
        default recall: RecallConfig = RecallConfig::default(),
        /// How found memories are ordered, for cubes that name no reranker. Absent: as recall ranks them.
        omitted reranker: Option<RerankerConfig>,
        /// How the internet is searched, for cubes that name no retriever, or one whose key is not kept with them. Absent: not
        /// at all.
        omitted internet_retriever: Option<InternetRetrieverConfig>,
        /// Where jobs for later are kept. Absent: in the record, when it keeps jobs.
        omitted queue: Option<QueueConfig>,
        /// Whether and from where files at addresses are fetched.
        default fetch: FetchConfig = FetchConfig::default(),
        /// What is done with everything that is read.
        default reader: ReadingConfig = ReadingConfig::default(),
        /// How raw input becomes memories.
        default mem_reader: Option<MemReaderConfig> = None,
        /// The work in the background.
        default mem_scheduler: Option<SchedulerConfig> = None,
        /// The server over HTTP.
        default server: ServerConfig = ServerConfig::default(),
        /// Where users, cubes and shares are kept. `sqlite` is the record of the installation.
        default user_manager: UserManagerConfig = default_part("user_manager"),
        /// The system text of conversations; `{memories}` in it is replaced by what is remembered.
        omitted base_prompt: Option<String>,
        /// The text memory of cubes that are made without a configuration.
        default text_mem_type: String = "general_text".to_owned(),
        /// Turns of a conversation that are kept.
        default max_turns_window: usize = 15,
        /// Memories per question.
        default top_k: usize = 5,
        /// Uses textual memory. If not, nothing is remembered, listed or found, and what is there stays.
        default enable_textual_memory: bool = true,
        /// Uses activation memory.
        default enable_activation_memory: bool = false,
        /// Bytes of RAM that kept caches of all cubes may take. Absent: 4 GiB.
        omitted activation_ram_bytes: Option<u64>,
        /// Bytes on disk that kept caches of all cubes may take. Absent: 32 GiB.
        omitted activation_disk_bytes: Option<u64>,
        /// Uses parametric memory.
        default enable_parametric_memory: bool = false,
        /// Uses preference memory.
        default enable_preference_memory: bool = false,
        /// How a new preference is compared with known ones: `fast`, with the nearest, or `fine`, with all near ones.
        /// Absent: `fast`.
        omitted preference_adder_mode: Option<String>,
        /// Works in the background.
        default enable_mem_scheduler: bool = false,
        /// Which plugins of the program are on.
        default plugins: PluginsConfig = PluginsConfig::default(),
        /// Splits hard questions into easier ones.
        default pro_mode as "PRO_MODE": bool = false,
    }
    check: check_settings;
}

fn check_settings(settings: &Settings, fields: &mut Fields<'_, '_>) {
    for (key, value) in [("user_id", Some(&settings.user_id)), ("session_id", settings.session_id.as_ref())] {
        if value.is_some_and(String::is_empty) {
            fields.refuse(key, "must not be empty");
        }
    }
    for (key, value) in [("data_dir", &settings.data_dir), ("models_dir", &settings.models_dir)] {
        if value.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            fields.refuse(key, "must not be empty; leave it out to use the platform's folder");
        }
    }
    if !TEXT_MEMORY_TYPES.contains(&settings.text_mem_type.as_str()) {
        let allowed = TEXT_MEMORY_TYPES.join(", ");
        fields
            .refuse("text_mem_type", format!("unknown text memory `{}` (allowed: {allowed})", settings.text_mem_type));
    }
    if settings.store.backend() == "neo4j-community" && settings.vectors.backend() != "embedded" {
        fields.refuse("vectors", "cannot be given beside the store `neo4j-community`, whose vec_config says it");
    }
    if settings.preference_adder_mode.as_deref().is_some_and(|mode| !["fast", "fine"].contains(&mode)) {
        fields.refuse("preference_adder_mode", "must be \"fast\" or \"fine\"");
    }
    check_queue(settings, fields);
    if settings.top_k == 0 {
        fields.refuse("top_k", "must be at least 1");
    }
}

/// Jobs of a write are kept in its transaction: by the record, or by its outbox until the queue of a server has them.
fn check_queue(settings: &Settings, fields: &mut Fields<'_, '_>) {
    let Some(queue) = &settings.queue else { return };
    let (queue, store) = (queue.backend(), settings.store.backend());
    match store {
        "neo4j" | "neo4j-community" if queue == "sqlite" => fields.refuse(
            "queue",
            "must be `redis` with a store on Neo4j (or `memory`, for one process), which keeps jobs only until a queue has \
             them",
        ),
        "neo4j" | "neo4j-community" => {}
        _ if queue != store => fields.refuse(
            "queue",
            format!("must be `{store}`, or be left out, with the store `{store}`, which keeps jobs itself"),
        ),
        _ => {}
    }
}

/// The parts that are used when nothing is configured: everything in this process, two small models.
fn defaults() -> Value {
    json!({
        "chat_model": {"backend": "local", "config": {"model_name_or_path": "smollm2-135m-instruct"}},
        "embedder": {"backend": "local", "config": {"model_name_or_path": "all-minilm-l6-v2"}},
        "store": {"backend": "sqlite", "config": {}},
        "vectors": {"backend": "embedded", "config": {}},
        "user_manager": {"backend": "sqlite", "config": {}},
    })
}

fn default_part<T: Setting>(key: &str) -> T {
    T::from_json(&defaults()[key]).expect("the built-in defaults are valid, which a test checks")
}

impl Default for Settings {
    fn default() -> Self {
        Self::from_json(&Value::Object(Map::new())).expect("the built-in defaults are valid, which a test checks")
    }
}

/// The value at a path.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// Settings with what is worth knowing about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Ignored keys, unknown `MOS_*` variables and the like, one sentence each.
    pub warnings: Vec<String>,
}

/// Returns the environment of this process; what is not Unicode is left out.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Settings {
    /// Returns the built-in defaults, under the file at `path` (JSON or YAML), under the environment.
    ///
    /// In the environment, `MOS__SECTION__KEY` sets any key, and the names in [`VARIABLES`](crate::VARIABLES) set
    /// theirs; the former win. An empty value counts as unset. A text that is nothing but `${NAME}` stands for the
    /// value of that variable, wherever in the settings it is.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, and for every unknown key, wrong type, unknown backend, and
    /// variable that is named but not set.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        Self::load_over(path, environment.into_iter().collect(), None)
    }

    /// As [`Settings::load`], but the environment sets nothing: it only tells what `${NAME}` in the file stands for. For a file that
    /// is another installation's than the one that the environment means.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_alone(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        Self::load_layers(Some(path), &[], &environment.into_iter().collect::<Vec<_>>(), None)
    }

    /// As [`Settings::load`], with a layer between the defaults and the file; its names are no business of other layers then.
    pub(crate) fn load_over(
        path: Option<&Path>,
        environment: Vec<(String, String)>,
        automatic: Option<AutomaticLayer>,
    ) -> Result<Loaded, ConfigError> {
        Self::load_layers(path, &environment, &environment, automatic)
    }

    /// `setting` sets keys, `told` is what the file may refer to.
    fn load_layers(
        path: Option<&Path>,
        setting: &[(String, String)],
        told: &[(String, String)],
        automatic: Option<AutomaticLayer>,
    ) -> Result<Loaded, ConfigError> {
        let file = path.map(layers::parse_file).transpose()?;
        if let (Some(path), Some(value)) = (path, file.as_ref().filter(|value| !value.is_object())) {
            let variables = Default::default();
            let mut reader = Reader::new(Some(path), &variables);
            let read = Self::read(&mut reader, value, "");
            return reader.finish(read).map(|(settings, warnings)| Loaded { settings, warnings });
        }
        let is_automatic = automatic.is_some();
        let (value, mut sources) =
            automatic.map_or_else(Default::default, |automatic| (automatic.value, automatic.sources));
        let mut layers_below = vec![defaults()];
        layers_below.extend(is_automatic.then(|| value.clone()));
        layers_below.extend(file);
        let below = layers::merge(&layers_below)?;
        // What the file says instead did not come from the environment.
        sources.retain(|path, _| at(&below, path) == at(&value, path));
        let others = setting.iter().filter(|(name, _)| !(is_automatic && automatic::is_known(name)));
        let mut variables = variables::Layers::read(others.cloned(), &below);
        sources.append(&mut variables.sources);
        variables.sources = sources;
        let mut merged = layers::merge(&[below, variables.flat, variables.nested])?;
        variables::fill(&mut merged, &variables.fills, &mut variables.sources);
        let unset = references::resolve(&mut merged, told, &mut variables.sources);
        let mut reader = Reader::new(path, &variables.sources);
        for (at, name) in &unset {
            reader.refuse(at, format!("names the environment variable {name}, which is not set"));
        }
        // What is not known yet can be of any type.
        let read = if unset.is_empty() { Self::read(&mut reader, &merged, "") } else { None };
        // A file that is read alone is filled by no variable.
        let is_filled = told.is_empty() || !setting.is_empty();
        let (settings, mut warnings) = reader.finish(read).map_err(|error| match error {
            ConfigError::Invalid(problems) if is_filled => {
                ConfigError::Invalid(variables::named_for_missing(problems, &merged))
            }
            error => error,
        })?;
        warnings.extend(variables.warnings);
        Ok(Loaded { settings, warnings })
    }

    /// Returns the part of the settings that MemOS knows, as its `MOSConfig` would be written.
    pub fn to_mos_config(&self, secrets: Secrets) -> Value {
        let Value::Object(mut map) = self.to_json(secrets) else { unreachable!("settings are an object") };
        for ours in [
            "data_dir",
            "models_dir",
            "model_budget",
            "embedder",
            "store",
            "vectors",
            "recall",
            "reranker",
            "internet_retriever",
            "queue",
            "fetch",
            "reader",
            "server",
            "base_prompt",
            "text_mem_type",
            "activation_ram_bytes",
            "activation_disk_bytes",
            "preference_adder_mode",
            "plugins",
        ] {
            map.shift_remove(ours);
        }
        if self.user_manager.backend() == "postgres" {
            map.insert("user_manager".to_owned(), defaults()["user_manager"].clone());
        }
        Value::Object(map)
    }

    /// Returns the text memory of cubes that are made without a configuration. Its models and stores are those of
    /// the settings.
    pub fn text_memory(&self) -> MemoryConfig {
        MemoryConfig::from_json(&json!({"backend": self.text_mem_type, "config": {}}))
            .expect("`text_mem_type` was checked, and its memory has no required keys")
    }

    /// Returns the preference memory of cubes that are made without a configuration: none unless it is enabled. Its
    /// models and stores are those of the settings.
    pub fn preference_memory(&self) -> MemoryConfig {
        if !self.enable_preference_memory {
            return MemoryConfig::none();
        }
        let config = json!({"memory_filename": PREFERENCE_FILE});
        MemoryConfig::from_json(&json!({"backend": "pref_text", "config": config}))
            .expect("a preference memory has no required keys")
    }

    /// Writes the settings, secrets included, as JSON with two spaces of indentation. Missing folders are made; the
    /// file is replaced whole or not at all.
    ///
    /// # Errors
    /// [`ConfigError::File`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        layers::save_file(path, &self.to_json(Secrets::Plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_need_nothing_else_and_survive_a_round_trip() {
        let settings = Settings::default();
        assert_eq!((settings.chat_model.backend(), settings.embedder.backend()), ("local", "local"));
        assert_eq!(settings.text_memory().backend(), "general_text");
        assert_eq!(settings.preference_memory().backend(), "uninitialized");
        let enabled = Settings { enable_preference_memory: true, ..Settings::default() };
        assert_eq!(enabled.preference_memory().backend(), "pref_text");
        assert_eq!(Settings::from_json(&settings.to_json(Secrets::Plain)).unwrap(), settings);
        assert_eq!(Settings::load(None, []).unwrap(), Loaded { settings, warnings: vec![] });
    }
}
