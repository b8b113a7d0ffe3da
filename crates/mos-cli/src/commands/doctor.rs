//! `mos doctor`.

use mos::{Report, check_services};

use crate::context::Context;

pub(super) async fn run(context: &Context, reconcile: bool, compact: bool) -> anyhow::Result<()> {
    context.check_data_dir()?;
    context.note_missing_records()?;
    let opened = context.open().await;
    if let (Ok(mos), true) = (&opened, compact) {
        mos.compact().await?;
    }
    let report = match opened {
        Ok(mos) if reconcile => mos.reconcile().await?,
        Ok(mos) => mos.doctor().await?,
        // Perhaps more than one server is away: all are asked, and each is told of.
        Err(error) => match check_services(&context.settings).await {
            report if report.findings.is_empty() => return Err(error),
            report => report,
        },
    };
    context.output.value(&report, |report: &Report| {
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
    anyhow::ensure!(report.findings.is_empty(), "problems found: {}; see above", report.findings.len());
    Ok(())
}
