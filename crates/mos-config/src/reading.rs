//! How what is read is looked at before it is remembered.

use serde_json::{Map, Value};

use crate::read::Setting;

section! {
    /// What every reader does, whichever is configured.
    pub struct ReadingConfig {
        /// Keeps apart what tools, pages and files at addresses say in the manner of instructions to a model: it is stored,
        /// reported, and found by no search until somebody releases it.
        default quarantine: bool = true,
    }
}

impl Default for ReadingConfig {
    fn default() -> Self {
        Self::from_json(&Value::Object(Map::new())).expect("every key has a default that is valid, which a test checks")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_on_unless_it_is_switched_off() {
        assert!(ReadingConfig::default().quarantine);
        assert!(!ReadingConfig::from_json(&json!({"quarantine": false})).unwrap().quarantine);
        assert!(ReadingConfig::from_json(&json!({"quarantin": false})).is_err());
    }
}
