//! `mos doctor`.

use crate::context::Context;

pub(super) async fn run(context: &Context, reconcile: bool) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let report = if reconcile { mos.reconcile().await? } else { mos.doctor().await? };
    context.output.value(&report, |report| {
        let mut lines: Vec<String> = report.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.extend(report.mended.iter().map(|one| format!("MENDED {one}")));
        for finding in &report.findings {
            lines.push(format!("PROBLEM {}: {} -- {}", finding.what, finding.detail, finding.remedy));
        }
        if report.findings.is_empty() {
            lines.push("no problems found".to_owned());
        }
        lines.join("\n")
    })?;
    anyhow::ensure!(report.findings.is_empty(), "{} problems found; see above", report.findings.len());
    Ok(())
}
