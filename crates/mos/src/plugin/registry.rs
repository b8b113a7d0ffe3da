//! Which plugins there are, which of them are on, and in what order they come.

use std::cmp::Reverse;
use std::sync::Arc;

use mos_config::PluginsConfig;
use serde::Serialize;

use super::Plugin;
use crate::error::{Error, Result};

/// A plugin, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// Its version; empty when it says none.
    pub version: String,
    /// What it does; empty when it does not say so.
    pub description: String,
    /// Plugins of a higher priority come first.
    pub priority: i32,
    /// Whether it is on.
    pub is_enabled: bool,
    /// How many calls of its hooks have failed in this process.
    pub n_failed: u64,
}

/// A plugin and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) plugin: Arc<dyn Plugin>,
    pub(super) info: PluginInfo,
}

/// The plugins of a program, one of each name.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// Those that are on, in the order in which they are called.
    pub(super) enabled: Vec<Known>,
    /// The others.
    pub(super) disabled: Vec<Known>,
    /// Where the one that renders the context is among those that are on.
    pub(super) renderer: Option<usize>,
}

/// Returns the plugins in the order in which they are called: those of higher priority first, then by name. Of several plugins of
/// one name, the one of the highest priority is taken.
///
/// # Errors
/// [`Error::Invalid`] for two plugins of one name and priority, one without a name, a name in the settings that no plugin has,
/// and two plugins that render the context.
pub(crate) fn choose(plugins: Vec<Arc<dyn Plugin>>, config: &PluginsConfig) -> Result<Chosen> {
    let mut known: Vec<Known> = plugins.into_iter().map(read).collect();
    known.sort_by(|left, right| order(&left.info).cmp(&order(&right.info)));
    if known.iter().any(|one| one.info.name.trim().is_empty()) {
        return Err(Error::Invalid("a plugin has no name; let its `name` return one".to_owned()));
    }
    for pair in known.windows(2) {
        let [left, right] = pair else { continue };
        if order(&left.info) == order(&right.info) {
            return Err(Error::Invalid(format!(
                "two plugins have the name `{}` and the priority {}; leave one out, or give it another priority",
                left.info.name, left.info.priority
            )));
        }
    }
    let known = best_of_each_name(known);
    check_names(&known, config)?;
    let is_on = |one: &Known| {
        let is_named = |names: &[String]| names.contains(&one.info.name);
        !is_named(&config.disabled) && (one.plugin.enabled_by_default() || is_named(&config.enabled))
    };
    let (mut enabled, disabled): (Vec<Known>, Vec<Known>) = known.into_iter().partition(is_on);
    enabled.iter_mut().for_each(|one| one.info.is_enabled = true);
    let renderers: Vec<usize> =
        enabled.iter().enumerate().filter(|(_, one)| one.plugin.renders_context()).map(|(place, _)| place).collect();
    if let [first, second, ..] = renderers[..] {
        return Err(Error::Invalid(format!(
            "the plugins `{}` and `{}` both render the context, which one only may do; name one of them in \
             plugins.disabled",
            enabled[first].info.name, enabled[second].info.name
        )));
    }
    Ok(Chosen { enabled, disabled, renderer: renderers.first().copied() })
}

fn order(info: &PluginInfo) -> (Reverse<i32>, &str) {
    (Reverse(info.priority), info.name.as_str())
}

fn read(plugin: Arc<dyn Plugin>) -> Known {
    let info = PluginInfo {
        name: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        description: plugin.description().to_owned(),
        priority: plugin.priority(),
        is_enabled: false,
        n_failed: 0,
    };
    Known { plugin, info }
}

/// They come in order, so that the first of a name is the best.
fn best_of_each_name(known: Vec<Known>) -> Vec<Known> {
    let mut best: Vec<Known> = Vec::with_capacity(known.len());
    for one in known {
        match best.iter().find(|better| better.info.name == one.info.name) {
            None => best.push(one),
            Some(better) => tracing::warn!(
                plugin = %one.info.name,
                taken = better.info.priority,
                left_out = one.info.priority,
                "there are two plugins of this name; the one of the higher priority is taken"
            ),
        }
    }
    best
}

fn check_names(known: &[Known], config: &PluginsConfig) -> Result<()> {
    if known.is_empty() && config.enabled.is_empty() {
        // Settings are shared by programs: what is to be off is off where there is nothing.
        return Ok(());
    }
    let is_known = |name: &String| known.iter().any(|one| one.info.name == *name);
    for (key, names) in [("enabled", &config.enabled), ("disabled", &config.disabled)] {
        let Some(unknown) = names.iter().find(|name| !is_known(name)) else { continue };
        let mut names: Vec<&str> = known.iter().map(|one| one.info.name.as_str()).collect();
        names.sort_unstable();
        let there_are = match names[..] {
            [] => "this program has none".to_owned(),
            _ => format!("there are: {}", names.join(", ")),
        };
        return Err(Error::Invalid(format!(
            "plugins.{key} names the plugin `{unknown}`, which is not known; {there_are}"
        )));
    }
    Ok(())
}
