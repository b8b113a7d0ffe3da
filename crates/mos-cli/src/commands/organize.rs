//! `mos organize`, and waiting for what is organised after memories were added.

use mos::{Mos, Organize, OrganizeModel, OrganizeReport};
use mos_core::CubeId;

use crate::arguments::OrganizeArguments;
use crate::context::Context;
use crate::progress;

/// How many runs follow each other at most; each has a budget of pairs, calls and time.
const MAX_RUNS: usize = 1000;

pub(super) async fn run(context: &Context, arguments: &OrganizeArguments) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let model = match (arguments.no_model, arguments.any_model) {
        (true, _) => OrganizeModel::Without,
        (false, true) => OrganizeModel::Any,
        (false, false) => OrganizeModel::Auto,
    };
    let mut organize = Organize::new().user(context.user.clone()).model(model).max_runs(MAX_RUNS);
    if let Some(cube) = &context.cube {
        organize = organize.cube(cube.clone());
    }
    let report = progress::spinning("organising", mos.organize(organize)).await?;
    context.output.value(&report, told)?;
    match report.n_failures {
        0 => Ok(()),
        // What was done is told above and stays.
        n_failures => {
            anyhow::bail!("{n_failures} things could not be done; the memories are as they were, run it again")
        }
    }
}

/// Waits for what is organised after memories were added. The memories are stored, whatever becomes of it.
pub(super) async fn wait(context: &Context, mos: &Mos, cube: Option<&CubeId>) -> anyhow::Result<()> {
    progress::spinning("organising", mos.wait_for_organizing()).await;
    let status = mos.organize_status(&context.user, cube).await?;
    if let Some(error) = status.last_error {
        context.output.note(&format!("the memories are stored, but could not be organised: {error}"));
    } else if let Some(failure) = status.last_report.as_ref().and_then(|report| report.failures.first()) {
        context.output.note(&format!(
            "the memories are stored, but not all could be organised ({}: {}); `mos organize` tries again",
            failure.step, failure.reason
        ));
    }
    Ok(())
}

/// A report for people, one thing a line.
fn told(report: &OrganizeReport) -> String {
    let counts = [
        (report.n_closed, "facts closed: a later one took their place"),
        (report.n_merged, "pairs merged into a new memory"),
        (report.n_replaced, "older memories archived for newer ones"),
        (report.n_deduplicated, "repetitions made one with what they repeat"),
        (report.n_conflict_candidates, "possible conflicts marked"),
        (report.n_topics, "new topics"),
        (report.n_top_topics, "new topics of topics"),
        (report.n_joined, "memories joined a topic"),
        (report.n_inferred, "memories concluded from two others"),
        (report.n_aggregates, "memories that sum up others"),
    ];
    let mut lines: Vec<String> =
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    lines.extend(report.relations.iter().map(|(kind, n_edges)| format!("{n_edges} new {kind} links")));
    if !report.has_changes() && report.n_failures == 0 {
        lines.push("nothing to do".to_owned());
    }
    lines.push(format!("({} pairs compared, the model asked {} times)", report.n_pairs, report.n_model_calls));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(report.failures.iter().map(|failure| {
        let ids: Vec<String> = failure.memories.iter().map(ToString::to_string).collect();
        format!("failed: {} of {}: {}", failure.step, ids.join(", "), failure.reason)
    }));
    if !report.left.is_empty() {
        let n_left = report.left.conflicts.len().max(report.left.relations.len());
        let topics = if report.left.topics { ", topics" } else { "" };
        lines.push(format!("left for the next run: {n_left} memories{topics}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use mos::OrganizeFailure;
    use mos_core::MemoryId;

    use super::*;

    #[test]
    fn a_report_tells_what_was_done_what_failed_and_what_is_left() {
        let nothing = told(&OrganizeReport::default());
        assert_eq!(nothing, "nothing to do\n(0 pairs compared, the model asked 0 times)");
        let id = MemoryId::new("00000000-0000-4000-8000-000000000001");
        let mut report = OrganizeReport { n_closed: 1, n_pairs: 3, n_model_calls: 2, ..OrganizeReport::default() };
        report.relations.insert("CAUSE".to_owned(), 4);
        report.n_failures = 1;
        let failure = OrganizeFailure { step: "conflicts", memories: vec![id.clone()], reason: "no answer".to_owned() };
        report.failures.push(failure);
        report.left.conflicts.push(id.clone());
        report.left.topics = true;
        let text = told(&report);
        let lines: Vec<&str> = text.lines().collect();
        let failed = format!("failed: conflicts of {id}: no answer");
        assert_eq!(
            lines,
            [
                "1 facts closed: a later one took their place",
                "4 new CAUSE links",
                "(3 pairs compared, the model asked 2 times)",
                failed.as_str(),
                "left for the next run: 1 memories, topics",
            ]
        );
    }
}
