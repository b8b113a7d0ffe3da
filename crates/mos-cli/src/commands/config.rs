//! `mos config ...`

use std::path::Path;

use mos::Environment;
use mos_config::{GeneralMemCubeConfig, Purpose};
use serde_json::{Value, json};

use crate::arguments::{Arguments, ConfigCommand};
use crate::context::variables;
use crate::output::Output;

/// Keys that the configuration of a cube has and settings have not.
const KEYS_OF_CUBES: &[&str] = &["text_mem", "act_mem", "para_mem", "pref_mem"];

pub(super) fn run(command: &ConfigCommand, arguments: &Arguments) -> anyhow::Result<()> {
    let output = Output { json: arguments.json };
    match command {
        ConfigCommand::Check { file } => check(file, output),
        ConfigCommand::Schema { markdown: true, .. } => output.raw(&mos_config::settings_markdown()),
        ConfigCommand::Schema { of_cube, .. } => {
            let schema = if *of_cube { mos_config::cube_schema() } else { mos_config::settings_schema() };
            output.line(&serde_json::to_string_pretty(&schema)?)
        }
        ConfigCommand::Backends => {
            let backends = mos::backends();
            output.value(&backends, |backends| {
                let line = |one: &mos::Backend| {
                    let state = if one.is_built { "" } else { "\t(settings are read, this build cannot run it)" };
                    format!("{}\t{}{state}", one.kind, one.key)
                };
                backends.iter().map(line).collect::<Vec<_>>().join("\n")
            })
        }
    }
}

/// Reads a file as the command would that it is meant for: settings with what the environment says of them, the configuration
/// of a cube by itself.
fn check(file: &Path, output: Output) -> anyhow::Result<()> {
    let (document, _): (Value, _) = mos_config::load_file(file)?;
    let is_cube = KEYS_OF_CUBES.iter().any(|key| document.get(*key).is_some());
    let (kind, meant_for, warnings) = if is_cube {
        let (_, warnings) = GeneralMemCubeConfig::load(file)?;
        ("cube", ": the configuration of a cube, for `mos cube create ID --from FILE`", warnings)
    } else {
        ("settings", "", Environment::read(Purpose::Command, variables(Some(file))?)?.warnings)
    };
    for warning in &warnings {
        output.note(&format!("warning: {warning}"));
    }
    let told = json!({"file": file.display().to_string(), "ok": true, "kind": kind, "warnings": warnings});
    output.value(&told, |_| format!("{} is good{meant_for}", file.display()))
}
