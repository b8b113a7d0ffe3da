//! `mos config ...`

use mos_config::Settings;
use serde_json::json;

use crate::arguments::{Arguments, ConfigCommand};
use crate::output::Output;

pub(super) fn run(command: &ConfigCommand, arguments: &Arguments) -> anyhow::Result<()> {
    let output = Output { json: arguments.json };
    match command {
        ConfigCommand::Check { file } => {
            let loaded = Settings::load(Some(file), [])?;
            for warning in &loaded.warnings {
                output.note(&format!("warning: {warning}"));
            }
            let told = json!({"file": file.display().to_string(), "ok": true, "warnings": loaded.warnings});
            output.value(&told, |_| format!("{} is good", file.display()))
        }
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
