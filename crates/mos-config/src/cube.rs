//! The `config.json` of a memory cube.

use std::path::Path;

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
}
