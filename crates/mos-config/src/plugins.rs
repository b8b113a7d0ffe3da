//! Which plugins of the program are on.

use crate::read::{Fields, nothing_given};

section! {
    /// Plugins that are switched on or off, by name. A plugin that is not named is on when it says so itself.
    pub struct PluginsConfig {
        /// Plugins that are on, also those that are off unless they are asked for.
        default enabled: Vec<String> = Vec::new(),
        /// Plugins that are off.
        default disabled: Vec<String> = Vec::new(),
    }
    check: check_plugins;
}

impl Default for PluginsConfig {
    fn default() -> Self {
        nothing_given()
    }
}

fn check_plugins(plugins: &PluginsConfig, fields: &mut Fields<'_, '_>) {
    for (key, names) in [("enabled", &plugins.enabled), ("disabled", &plugins.disabled)] {
        if names.iter().any(|name| name.trim().is_empty()) {
            fields.refuse(key, "must not hold an empty name");
        }
    }
    if let Some(both) = plugins.enabled.iter().find(|name| plugins.disabled.contains(name)) {
        fields.refuse("disabled", format!("names `{both}`, which `enabled` names too; keep one of them"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read::Setting;

    #[test]
    fn no_plugin_is_named_unless_it_is_configured() {
        let plugins = PluginsConfig::default();
        assert!(plugins.enabled.is_empty() && plugins.disabled.is_empty());
    }

    #[test]
    fn a_plugin_is_not_both_on_and_off() {
        for wrong in
            [json!({"enabled": ["a"], "disabled": ["b", "a"]}), json!({"enabled": [" "]}), json!({"off": ["a"]})]
        {
            assert!(PluginsConfig::from_json(&wrong).is_err(), "{wrong}");
        }
        let right = PluginsConfig::from_json(&json!({"enabled": ["a"], "disabled": ["b"]})).unwrap();
        assert_eq!((right.enabled, right.disabled), (vec!["a".to_owned()], vec!["b".to_owned()]));
    }
}
