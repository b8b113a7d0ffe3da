//! `mos eval`.

use serde_json::Value;

use crate::arguments::EvalCommand;
use crate::context::Context;

pub(super) async fn run(context: &Context, command: EvalCommand) -> anyhow::Result<()> {
    let EvalCommand::Locomo { file, dev } = command;
    let conversations = mos_eval::locomo::read(&file)?;
    let report = mos_eval::evaluate(&context.settings, &conversations, |step| context.output.note(step)).await?;
    context.output.value(&report.to_value(dev), |value| {
        let mut text = report.table();
        for missed in value["missed"].as_array().into_iter().flatten() {
            text.push_str(&format!("\n{}", missed_line(missed)));
        }
        text
    })
}

fn missed_line(missed: &Value) -> String {
    let field = |name: &str| missed[name].as_str().unwrap_or_default();
    format!(
        "missed: {} category {}: {} -- evidence {}, found at {}",
        field("conversation"),
        missed["category"],
        field("question"),
        missed["evidence"],
        missed["places"]
    )
}
