//! The `config.json` of a memory cube.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::ConfigError;
use crate::layers;
use crate::memory::MemoryConfig;
use crate::read::{Fields, Setting};
use crate::secret::Secrets;

/// The class path that MemOS writes into a cube's configuration and compares when it loads a cube.
pub const CUBE_SCHEMA: &str = "memos.configs.mem_cube.GeneralMemCubeConfig";

/// Which memories may stand in which slot of a cube.
pub const TEXT_BACKENDS: &[&str] = &["naive_text", "general_text", "tree_text", "uninitialized"];
/// See [`TEXT_BACKENDS`].
pub const ACTIVATION_BACKENDS: &[&str] = &["kv_cache", "vllm_kv_cache", "uninitialized"];
/// See [`TEXT_BACKENDS`].
pub const PARAMETRIC_BACKENDS: &[&str] = &["lora", "uninitialized"];
/// See [`TEXT_BACKENDS`].
pub const PREFERENCE_BACKENDS: &[&str] = &["pref_text", "uninitialized"];

section! {
    /// What a memory cube holds.
    pub struct GeneralMemCubeConfig {
        /// Name of this file in the cube's folder.
        default config_filename: String = "config.json".to_owned(),
        /// The owner.
        default user_id: String = "default_user".to_owned(),
        /// The cube. Absent: a new id.
        omitted cube_id: Option<String>,
        /// Texts.
        default text_mem: MemoryConfig = MemoryConfig::none(),
        /// Computed model state.
        default act_mem: MemoryConfig = MemoryConfig::none(),
        /// Adapters.
        default para_mem: MemoryConfig = MemoryConfig::none(),
        /// Preferences.
        default pref_mem: MemoryConfig = MemoryConfig::none(),
    }
    model schema: CUBE_SCHEMA;
    check: check_slots;
}

fn check_slots(cube: &GeneralMemCubeConfig, fields: &mut Fields<'_, '_>) {
    let slots = [
        ("text_mem", &cube.text_mem, TEXT_BACKENDS),
        ("act_mem", &cube.act_mem, ACTIVATION_BACKENDS),
        ("para_mem", &cube.para_mem, PARAMETRIC_BACKENDS),
        ("pref_mem", &cube.pref_mem, PREFERENCE_BACKENDS),
    ];
    for (slot, memory, allowed) in slots {
        let backend = memory.backend();
        if !allowed.contains(&backend) {
            fields.refuse(
                &format!("{slot}.backend"),
                format!("`{backend}` cannot be used here (allowed: {})", allowed.join(", ")),
            );
        }
    }
}

impl GeneralMemCubeConfig {
    /// Returns the configuration of a cube that holds texts only.
    pub fn new(user_id: impl Into<String>, cube_id: impl Into<String>, text_mem: MemoryConfig) -> Self {
        Self {
            config_filename: "config.json".to_owned(),
            user_id: user_id.into(),
            cube_id: Some(cube_id.into()),
            text_mem,
            act_mem: MemoryConfig::none(),
            para_mem: MemoryConfig::none(),
            pref_mem: MemoryConfig::none(),
        }
    }

    /// Reads a JSON or YAML file and returns the configuration with the warnings about it.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or a value is refused.
    pub fn load(path: &Path) -> Result<(Self, Vec<String>), ConfigError> {
        layers::load_file(path)
    }

    /// Writes the configuration, secrets included, as JSON with two spaces of indentation. Missing folders are
    /// made; the file is replaced whole or not at all.
    ///
    /// # Errors
    /// [`ConfigError::File`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        layers::save_file(path, &self.to_json(Secrets::Plain))
    }

    /// Returns this configuration under `default`, which wins key by key, as MemOS merges the two when it opens a cube that
    /// somebody else made.
    ///
    /// Kept from this one: ids and the name of the file, memories that `default` leaves out, names of the memories' files
    /// (`default` cannot know them), and of a graph database `auto_create`, `use_multi_db` and `user_name`. Where `default`
    /// names another backend, the old backend's keys go; of a graph database those three stay when the new backend knows
    /// them. A graph that had a database of its own and gets a shared one has the old database's name as its `user_name`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the two do not go together.
    pub fn merged_with_default(&self, default: &Self) -> Result<Self, ConfigError> {
        let (own, mut over) = (self.to_json(Secrets::Plain), default.to_json(Secrets::Plain));
        if let Value::Object(over) = &mut over {
            for kept in ["user_id", "cube_id", "config_filename", "model_schema"] {
                over.shift_remove(kept);
            }
            for slot in SLOTS {
                if over
                    .get(slot)
                    .and_then(|memory| memory.get("backend"))
                    .is_some_and(|backend| backend == "uninitialized")
                {
                    over.shift_remove(slot);
                }
            }
        }
        let written = over.clone();
        // What is null was not given, and takes nothing away.
        drop_nulls(&mut over);
        let mut merged = layers::merge(&[own.clone(), over])?;
        for slot in SLOTS {
            let file = format!("/{slot}/config/memory_filename");
            if let (Some(kept), Some(place)) = (own.pointer(&file), merged.pointer_mut(&file)) {
                *place = kept.clone();
            }
            let graph = format!("/{slot}/config/graph_db");
            if let (Some(own), Some(over), Some(place)) =
                (own.pointer(&graph), written.pointer(&graph), merged.pointer_mut(&format!("{graph}/config")))
                && let Some(place) = place.as_object_mut()
            {
                keep_tenant(own, over, place);
            }
        }
        Self::from_json(&merged)
    }
}

/// The memories of a cube's configuration.
const SLOTS: [&str; 4] = ["text_mem", "act_mem", "para_mem", "pref_mem"];

fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

/// Puts what tells whose data it is from an old graph database into the configuration of a new one.
fn keep_tenant(own: &Value, over: &Value, merged: &mut Map<String, Value>) {
    let key = |graph: &Value, key: &str| graph.pointer(&format!("/config/{key}")).cloned();
    let is_multi = |graph: &Value| key(graph, "use_multi_db") == Some(Value::Bool(true));
    if is_multi(own) && key(over, "use_multi_db") == Some(Value::Bool(false)) {
        if let Some(database) = key(own, "db_name") {
            merged.insert("user_name".to_owned(), database);
        }
        return;
    }
    for kept in ["auto_create", "use_multi_db", "user_name"] {
        // A backend that does not write the key does not know it.
        if let (Some(value), true) = (key(own, kept), key(over, kept).is_some()) {
            merged.insert(kept.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cube(graph: Value) -> GeneralMemCubeConfig {
        let text = json!({"backend": "tree_text", "config": {"graph_db": graph, "memory_filename": "mine.json"}});
        GeneralMemCubeConfig::from_json(&json!({"user_id": "ann", "cube_id": "c", "text_mem": text})).unwrap()
    }

    fn neo4j(extra: Value) -> Value {
        let mut config = json!({"uri": "bolt://old:7687", "user": "neo4j", "password": "old", "db_name": "olddb"});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"backend": "neo4j", "config": config})
    }

    fn graph_of(cube: &GeneralMemCubeConfig) -> Value {
        cube.to_json(Secrets::Plain).pointer("/text_mem/config/graph_db").unwrap().clone()
    }

    #[test]
    fn the_default_wins_and_what_names_the_cube_stays() {
        let default = GeneralMemCubeConfig::from_json(&json!({
            "user_id": "root", "cube_id": "other", "config_filename": "other.json",
            "text_mem": {"backend": "tree_text", "config": {"memory_filename": "theirs.json", "reorganize": true}},
        }))
        .unwrap();
        let own = GeneralMemCubeConfig {
            act_mem: MemoryConfig::from_json(&json!({"backend": "kv_cache", "config": {}})).unwrap(),
            ..cube(neo4j(json!({})))
        };
        let merged = own.merged_with_default(&default).unwrap();
        let names = (merged.user_id.as_str(), merged.cube_id.as_deref(), merged.config_filename.as_str());
        assert_eq!(names, ("ann", Some("c"), "config.json"));
        assert_eq!(merged.act_mem, own.act_mem, "a memory that the default leaves out stays");
        let json = merged.to_json(Secrets::Plain);
        assert_eq!(json.pointer("/text_mem/config/reorganize"), Some(&json!(true)));
        assert_eq!(json.pointer("/text_mem/config/memory_filename"), Some(&json!("mine.json")));
        assert_eq!(graph_of(&merged), graph_of(&own));
    }

    #[test]
    fn a_graph_moves_and_keeps_its_tenant() {
        let own = cube(neo4j(json!({"auto_create": true, "use_multi_db": false, "user_name": "ann"})));
        let moved = json!({"uri": "bolt://new:7687", "password": "new", "use_multi_db": false, "user_name": "root"});
        let graph = graph_of(&own.merged_with_default(&cube(neo4j(moved))).unwrap());
        assert_eq!(graph.pointer("/config/uri"), Some(&json!("bolt://new:7687")));
        assert_eq!(graph.pointer("/config/user_name"), Some(&json!("ann")));
        assert_eq!(graph.pointer("/config/auto_create"), Some(&json!(true)));
    }

    #[test]
    fn a_database_of_its_own_becomes_a_tenant_of_a_shared_one() {
        let own = cube(neo4j(json!({"use_multi_db": true})));
        let shared = json!({"use_multi_db": false, "user_name": "root", "db_name": "shared"});
        let graph = graph_of(&own.merged_with_default(&cube(neo4j(shared))).unwrap());
        assert_eq!(graph.pointer("/config/user_name"), Some(&json!("olddb")));
        assert_eq!(graph.pointer("/config/db_name"), Some(&json!("shared")));
        assert_eq!(graph.pointer("/config/use_multi_db"), Some(&json!(false)));
    }

    #[test]
    fn another_graph_backend_drops_what_it_does_not_know() {
        let own = cube(neo4j(json!({"use_multi_db": false, "user_name": "ann", "auto_create": true})));
        let postgres = json!({"backend": "postgres", "config": {
            "host": "db", "user": "mos", "password": "x", "db_name": "mos", "user_name": "root",
        }});
        let graph = graph_of(&own.merged_with_default(&cube(postgres)).unwrap());
        assert_eq!(graph["backend"], "postgres");
        assert_eq!(graph.pointer("/config/user_name"), Some(&json!("ann")));
        assert_eq!(graph.pointer("/config/auto_create"), None);
        assert_eq!(graph.pointer("/config/uri"), None);
    }
}
