//! `mos eval`.

use std::path::Path;

use serde_json::Value;

use crate::arguments::EvalCommand;
use crate::context::Context;

pub(super) async fn run(context: &Context, command: EvalCommand) -> anyhow::Result<()> {
    match command {
        EvalCommand::Locomo { file, dev } => locomo(context, &file, dev).await,
        EvalCommand::Compare { file } => compare(context, &file).await,
    }
}

async fn locomo(context: &Context, file: &Path, dev: bool) -> anyhow::Result<()> {
    let conversations = mos_eval::locomo::read(file)?;
    let report = mos_eval::evaluate(&context.settings, &conversations, |step| context.output.note(step)).await?;
    context.output.value(&report.to_value(dev), |value| {
        let mut text = report.table();
        for missed in value["missed"].as_array().into_iter().flatten() {
            text.push_str(&format!("\n{}", missed_line(missed)));
        }
        text
    })
}

async fn compare(context: &Context, file: &Path) -> anyhow::Result<()> {
    let conversations = mos_eval::locomo::read(file)?;
    let variants = mos_eval::variants(&context.settings);
    let said = |step: &str| context.output.note(step);
    let reports = mos_eval::evaluate_variants(&variants, &conversations, said).await?;
    context
        .output
        .value(&mos_eval::comparison_value(&variants, &reports), |_| mos_eval::comparison(&variants, &reports))
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
