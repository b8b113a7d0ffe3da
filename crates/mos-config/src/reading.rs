//! How what is read is looked at before it is remembered.

use crate::read::nothing_given;

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
        nothing_given()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::Setting;

    #[test]
    fn it_is_on_unless_it_is_switched_off() {
        assert!(ReadingConfig::default().quarantine);
        assert!(!ReadingConfig::from_json(&json!({"quarantine": false})).unwrap().quarantine);
        assert!(ReadingConfig::from_json(&json!({"quarantin": false})).is_err());
    }
}
