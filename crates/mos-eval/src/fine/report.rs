//! What was found with and without fine memories, as JSON and as a table.

use std::fmt::Write as _;

use mos_core::Dropped;
use serde_json::{Value, json};

use crate::measure::Summary;
use crate::reading::FailedWindow;
use crate::report::Report;

/// The questions that both halves are compared by.
const CATEGORIES: [u8; 4] = [1, 2, 3, 4];

/// The most examples of a kind that a report names.
const MAX_EXAMPLES: usize = 20;

/// What fine mode made of the conversations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// How many windows the model was shown.
    pub n_windows: usize,
    /// How many memories it drew that were kept.
    pub n_memories: usize,
    /// What it proposed and was not kept, with reasons.
    pub dropped: Vec<Dropped>,
    /// The texts of memories that name no turn of the conversation. There must be none.
    pub without_sources: Vec<String>,
    /// How many turns were read.
    pub n_turns: usize,
    /// How many of them a drawn memory names as its source.
    pub n_turns_named: usize,
    /// How many turns answer a question.
    pub n_evidence: usize,
    /// How many of these a drawn memory names.
    pub n_evidence_named: usize,
    /// Turns that no memory names, neither a drawn one nor a raw one, as `conversation turn`. There must be none.
    pub lost: Vec<String>,
    /// Windows that the model could not refine.
    pub failures: Vec<FailedWindow>,
}

/// What was found through raw turns alone, and through raw turns and fine memories together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FineReport {
    /// Raw turns alone.
    pub raw: Report,
    /// Both, counted by [`Counting::Turns`](crate::Counting::Turns).
    pub fine: Report,
    /// The same results, counted by [`Counting::Results`](crate::Counting::Results); without times.
    pub by_results: Report,
    /// The same results, counted by [`Counting::NewTurns`](crate::Counting::NewTurns); without times.
    pub by_new_turns: Report,
    /// Different turns that the first ten results with fine memories name, over all questions.
    pub n_shown_turns: usize,
    /// How many of the first ten results are fine memories, over all questions.
    pub n_shown_drawn: usize,
    /// What fine mode made of the conversations.
    pub drawn: Drawn,
}

impl FineReport {
    /// Returns what must not be, one sentence each: fine mode lost a turn, a memory names no turn, or there is nothing to
    /// compare because no memory was drawn.
    pub fn problems(&self) -> Vec<String> {
        let Drawn { n_windows, n_memories, without_sources, lost, failures, .. } = &self.drawn;
        let mut problems = Vec::new();
        if *n_memories == 0 {
            let why = failures.first().map_or_else(
                || "the model found nothing worth noting".to_owned(),
                |one| format!("{} windows failed, the first because {}", failures.len(), one.reason),
            );
            problems.push(format!("no memory was drawn from {n_windows} windows: {why}"));
        }
        if let Some(first) = without_sources.first() {
            let n = without_sources.len();
            problems.push(format!("memories that name no turn of the conversation: {n}; the first is `{first}`"));
        }
        if let Some(first) = lost.first() {
            problems.push(format!("turns that no memory names: {}; the first is {first}", lost.len()));
        }
        problems
    }

    /// Returns the report as JSON: `raw`, `fine`, `fine_by_results` and `fine_by_new_turns` as
    /// [`Report::to_value`] (the last two without `speed`), `change` (`fine` less `raw`, categories 1 to 4), `shown@10` (means
    /// per question of turns and of fine memories among the first ten results), `fine_mode` (what it made of the
    /// conversations) and `problems`.
    pub fn to_value(&self, details: bool) -> Value {
        let without_speed = |report: &Report| {
            let mut value = report.to_value(false);
            if let Some(map) = value.as_object_mut() {
                map.shift_remove("speed");
            }
            value
        };
        json!({
            "raw": self.raw.to_value(details),
            "fine": self.fine.to_value(details),
            "fine_by_results": without_speed(&self.by_results),
            "fine_by_new_turns": without_speed(&self.by_new_turns),
            "change": self.change(),
            "shown@10": {"turns": self.mean(self.n_shown_turns), "fine_memories": self.mean(self.n_shown_drawn)},
            "fine_mode": self.drawn.to_value(),
            "problems": self.problems(),
        })
    }

    fn change(&self) -> Value {
        match (compared(&self.raw), compared(&self.fine)) {
            (Some(raw), Some(fine)) => json!({
                "recall@10": fine.recall[2] - raw.recall[2],
                "hit@10": fine.hit[2] - raw.hit[2],
                "mrr": fine.mrr - raw.mrr,
            }),
            _ => Value::Null,
        }
    }

    fn mean(&self, sum: usize) -> f64 {
        sum as f64 / self.fine.asked.len().max(1) as f64
    }

    /// Returns the report as a table for people: categories 1 to 4, and what fine mode made of the conversations.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "searched                        n     recall@10  change  hit@10  mrr    cat 1  cat 2  cat 3  cat 4\n",
        );
        let first = compared(&self.raw).map_or(0.0, |summary| summary.recall[2]);
        for (name, report) in [
            ("raw turns alone", &self.raw),
            ("raw turns and fine memories", &self.fine),
            ("  counted by results", &self.by_results),
            ("  repeated turns not counted", &self.by_new_turns),
        ] {
            let Some(summary) = compared(report) else { continue };
            let of_category = |category: u8| report.summary(&[category]).map_or(f64::NAN, |one| one.recall[2]);
            // Writing to a text cannot fail.
            let _ = writeln!(
                table,
                "{name:<30}  {:<4}  {:.3}      {:+.3}  {:.3}   {:.3}  {:.3}  {:.3}  {:.3}  {:.3}",
                summary.n,
                summary.recall[2],
                summary.recall[2] - first,
                summary.hit[2],
                summary.mrr,
                of_category(1),
                of_category(2),
                of_category(3),
                of_category(4),
            );
        }
        let _ = writeln!(
            table,
            "the first ten results: {:.1} different turns, {:.1} fine memories",
            self.mean(self.n_shown_turns),
            self.mean(self.n_shown_drawn)
        );
        table.push_str(&self.drawn.lines());
        for problem in self.problems() {
            table.push_str("\nproblem: ");
            table.push_str(&problem);
        }
        table
    }
}

impl Drawn {
    fn to_value(&self) -> Value {
        json!({
            "windows": self.n_windows,
            "failed_windows": self.failures.len(),
            "failures": first(&self.failures),
            "memories": self.n_memories,
            "dropped": self.dropped.len(),
            "dropped_examples": first(&self.dropped),
            "without_sources": self.without_sources.len(),
            "without_sources_examples": first(&self.without_sources),
            "turns": self.n_turns,
            "turns_named": self.n_turns_named,
            "evidence": self.n_evidence,
            "evidence_named": self.n_evidence_named,
            "lost_turns": self.lost.len(),
            "lost_turns_examples": first(&self.lost),
        })
    }

    fn lines(&self) -> String {
        let mut lines = format!(
            "fine mode: {} memories of {} windows ({} failed), {} proposals dropped, {} without sources\n{} turns, {} named \
             by a fine memory, {} lost; of {} turns with evidence {} are named",
            self.n_memories,
            self.n_windows,
            self.failures.len(),
            self.dropped.len(),
            self.without_sources.len(),
            self.n_turns,
            self.n_turns_named,
            self.lost.len(),
            self.n_evidence,
            self.n_evidence_named,
        );
        for FailedWindow { conversation, session, first, last, reason } in first(&self.failures) {
            // Writing to a text cannot fail.
            let _ = write!(lines, "\nfailed: {conversation} {session}, {first} to {last}: {reason}");
        }
        lines
    }
}

fn first<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(MAX_EXAMPLES)]
}

/// The means that halves are compared by; of files with questions of category 5 alone, theirs.
fn compared(report: &Report) -> Option<Summary> {
    report.summary(&CATEGORIES).or_else(|| report.summary(&[5]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Outcome;
    use crate::report::Asked;

    fn report(places: Vec<usize>) -> Report {
        let asked = Asked {
            conversation: "a".to_owned(),
            question: "who?".to_owned(),
            evidence: vec!["D1:1".to_owned()],
            outcome: Outcome { category: 1, n_evidence: 1, places },
            bytes_of_ten: 40,
        };
        Report { asked: vec![asked], ..Report::default() }
    }

    fn whole() -> FineReport {
        FineReport {
            raw: report(vec![0]),
            fine: report(vec![10]),
            by_results: report(vec![5]),
            by_new_turns: report(vec![0]),
            n_shown_turns: 7,
            n_shown_drawn: 5,
            drawn: Drawn { n_windows: 2, n_memories: 3, n_turns: 4, ..Drawn::default() },
        }
    }

    #[test]
    fn both_halves_stand_beside_each_other() {
        let report = whole();
        let value = report.to_value(false);
        assert_eq!((&value["raw"]["all"]["recall@10"], &value["fine"]["all"]["recall@10"]), (&json!(1.0), &json!(0.0)));
        assert_eq!(
            (&value["fine_by_results"]["all"]["hit@10"], &value["fine_by_results"]["speed"]),
            (&json!(1.0), &Value::Null)
        );
        assert_eq!((&value["change"]["recall@10"], &value["shown@10"]["turns"]), (&json!(-1.0), &json!(7.0)));
        assert_eq!((&value["fine_mode"]["lost_turns"], &value["problems"]), (&json!(0), &json!([])));
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("1.000      +0.000") && lines[2].contains("0.000      -1.000"), "{table}");
        assert!(table.contains("7.0 different turns, 5.0 fine memories"), "{table}");
    }

    #[test]
    fn what_must_not_be_is_a_problem() {
        let mut report = whole();
        report.drawn.lost.push("a D1:1".to_owned());
        report.drawn.without_sources.push("Anna lies.".to_owned());
        let problems = report.problems();
        assert!(
            problems.len() == 2 && problems[0].contains("Anna lies.") && problems[1].contains("a D1:1"),
            "{problems:?}"
        );
        let failure = FailedWindow {
            conversation: "a".to_owned(),
            session: "session_1".to_owned(),
            first: "D1:1".to_owned(),
            last: "D1:4".to_owned(),
            reason: "the server is down".to_owned(),
        };
        report.drawn = Drawn { n_windows: 1, failures: vec![failure], ..Drawn::default() };
        assert!(report.problems()[0].contains("the server is down"));
        assert!(report.table().contains("failed: a session_1, D1:1 to D1:4: the server is down"), "{}", report.table());
    }
}
