//! `mos eval`.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::ensure;
use serde_json::Value;

use crate::arguments::EvalCommand;
use crate::context::Context;

pub(super) async fn run(context: &Context, command: EvalCommand) -> anyhow::Result<()> {
    match command {
        EvalCommand::Locomo { file, dev, fine: true } => fine(context, &file, dev).await,
        EvalCommand::Locomo { file, dev, fine: false } => locomo(context, &file, dev).await,
        EvalCommand::Compare { file } => compare(context, &file).await,
        EvalCommand::Extraction { file, limit } => extraction(context, &file, limit.map(NonZeroUsize::get)).await,
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

async fn fine(context: &Context, file: &Path, dev: bool) -> anyhow::Result<()> {
    let conversations = mos_eval::locomo::read(file)?;
    let said = |step: &str| context.output.note(step);
    let report = mos_eval::evaluate_fine(&context.settings, &conversations, said).await?;
    context.output.value(&report.to_value(dev), |value| {
        let mut text = report.table();
        for missed in value["fine"]["missed"].as_array().into_iter().flatten() {
            text.push_str(&format!("\n{}", missed_line(missed)));
        }
        text
    })?;
    without(&report.problems())
}

async fn extraction(context: &Context, file: &Path, limit: Option<usize>) -> anyhow::Result<()> {
    let conversations = mos_eval::locomo::read(file)?;
    let said = |step: &str| context.output.note(step);
    let report = mos_eval::evaluate_extraction(&context.settings, &conversations, limit, said).await?;
    context.output.value(&report.to_value(), |_| report.table())?;
    without(&report.problems())
}

/// The report is printed whatever it says; the exit code tells what must not be.
fn without(problems: &[String]) -> anyhow::Result<()> {
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
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
