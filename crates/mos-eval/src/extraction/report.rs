//! What was drawn and how much of it is supported, as JSON and as a table.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Claim, JudgedMemory};
use crate::counted::Tokens;
use crate::reading::FailedWindow;

/// The most examples of a kind that the JSON names.
const MAX_EXAMPLES: usize = 20;

/// The most examples of a kind that the table names.
const MAX_SHOWN: usize = 5;

/// A memory that the model proposed and that the reader did not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedMemory {
    /// The conversation's name.
    pub conversation: String,
    /// The text.
    pub memory: String,
    /// Why.
    pub reason: String,
}

/// A memory some of whose claims the model did not judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JudgeFailure {
    /// The conversation's name.
    pub conversation: String,
    /// The text of the memory.
    pub memory: String,
    /// Why.
    pub reason: String,
}

/// What a model drew from conversations, and how much of it their turns support.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExtractionReport {
    /// The model's name.
    pub model: String,
    /// How many conversations were read, in part at least.
    pub n_conversations: usize,
    /// How many sessions were read.
    pub n_sessions: usize,
    /// How many turns they have.
    pub n_turns: usize,
    /// How many windows the model was shown.
    pub n_windows: usize,
    /// Windows that it could not refine.
    pub failures: Vec<FailedWindow>,
    /// What it proposed and the reader did not keep, because the turns do not support it.
    pub dropped: Vec<DroppedMemory>,
    /// What was kept, with its claims.
    pub memories: Vec<JudgedMemory>,
    /// Memories whose claims were not all judged.
    pub judge_failures: Vec<JudgeFailure>,
    /// What drawing the memories took.
    pub drawing: Tokens,
    /// What judging them took.
    pub judging: Tokens,
}

/// How many claims there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    claims: usize,
    judged: usize,
    supported_by_model: usize,
    supported_by_check: usize,
    supported_by_both: usize,
}

impl ExtractionReport {
    fn claims(&self) -> impl Iterator<Item = (&JudgedMemory, &Claim)> {
        self.memories.iter().flat_map(|memory| memory.claims.iter().map(move |claim| (memory, claim)))
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, claim) in self.claims() {
            let (by_model, by_check) = (is_supported(claim), claim.by_check.is_ok());
            counts.claims += 1;
            counts.judged += usize::from(claim.by_model.is_some());
            counts.supported_by_model += usize::from(by_model);
            counts.supported_by_check += usize::from(by_check);
            counts.supported_by_both += usize::from(by_model && by_check);
        }
        counts
    }

    /// Returns the share of the judged claims that the model finds supported; `None` when it judged none.
    pub fn share_by_model(&self) -> Option<f64> {
        let Counts { judged, supported_by_model, .. } = self.counts();
        share(supported_by_model, judged)
    }

    /// Returns the share of all claims that the check without a model finds supported; `None` without a claim.
    pub fn share_by_check(&self) -> Option<f64> {
        let Counts { claims, supported_by_check, .. } = self.counts();
        share(supported_by_check, claims)
    }

    /// The claims that the model, or the check, finds unsupported, in order.
    fn unsupported(&self) -> impl Iterator<Item = (&JudgedMemory, &Claim)> {
        let is_refused = |claim: &Claim| claim.by_model.as_ref().is_some_and(|verdict| !verdict.supported);
        self.claims().filter(move |(_, claim)| is_refused(claim) || claim.by_check.is_err())
    }

    fn n_without_sources(&self) -> usize {
        self.memories.iter().filter(|memory| memory.sources.is_empty()).count()
    }

    /// Returns what makes the report say nothing, one sentence each: no memory was drawn, memories name no source, or no
    /// claim was judged.
    pub fn problems(&self) -> Vec<String> {
        let (n_windows, n_without) = (self.n_windows, self.n_without_sources());
        let mut problems = Vec::new();
        if self.memories.is_empty() {
            let why = self.failures.first().map_or_else(
                || format!("{} proposals were dropped", self.dropped.len()),
                |one| format!("{} windows failed, the first because {}", self.failures.len(), one.reason),
            );
            problems.push(format!("no memory was drawn from {n_windows} windows: {why}"));
        }
        if n_without > 0 {
            problems.push(format!("memories that name no turn: {n_without}"));
        }
        let Counts { claims, judged, .. } = self.counts();
        if claims > 0 && judged == 0 {
            let why = self.judge_failures.first().map_or("", |one| one.reason.as_str());
            problems.push(format!("the model judged none of {claims} claims: {why}"));
        }
        problems
    }

    /// Returns the report as JSON. `share_by_model` is that of the judged claims, `share_by_check` that of all; both are null
    /// without any. `unsupported` names at most 20 claims with their sources; so do the other lists of examples.
    pub fn to_value(&self) -> Value {
        let Counts { claims, judged, supported_by_model, supported_by_check, supported_by_both } = self.counts();
        let unsupported: Vec<Value> =
            self.unsupported().take(MAX_EXAMPLES).map(|(memory, claim)| example(memory, claim)).collect();
        json!({
            "model": self.model,
            "conversations": self.n_conversations,
            "sessions": self.n_sessions,
            "turns": self.n_turns,
            "windows": self.n_windows,
            "failed_windows": self.failures.len(),
            "failures": first(&self.failures, MAX_EXAMPLES),
            "memories": self.memories.len(),
            "without_sources": self.n_without_sources(),
            "dropped": self.dropped.len(),
            "dropped_examples": first(&self.dropped, MAX_EXAMPLES),
            "claims": claims,
            "judged": judged,
            "supported_by_model": supported_by_model,
            "supported_by_check": supported_by_check,
            "supported_by_both": supported_by_both,
            "share_by_model": self.share_by_model(),
            "share_by_check": self.share_by_check(),
            "failed_judgements": self.judge_failures.len(),
            "judge_failures": first(&self.judge_failures, MAX_EXAMPLES),
            "unsupported": unsupported,
            "tokens": {"drawing": self.drawing, "judging": self.judging},
            "problems": self.problems(),
        })
    }

    /// Returns the report as a table for people, with a few examples.
    pub fn table(&self) -> String {
        let Counts { claims, judged, supported_by_model, supported_by_check, supported_by_both } = self.counts();
        let rows = [
            ("model", self.model.clone()),
            ("conversations", self.n_conversations.to_string()),
            ("sessions", self.n_sessions.to_string()),
            ("turns", self.n_turns.to_string()),
            ("windows", format!("{} ({} failed)", self.n_windows, self.failures.len())),
            ("memories", format!("{} ({} without sources)", self.memories.len(), self.n_without_sources())),
            ("dropped by the reader", self.dropped.len().to_string()),
            ("claims", claims.to_string()),
            ("supported, by the model", of(supported_by_model, judged)),
            ("supported, by the check", of(supported_by_check, claims)),
            ("supported, by both", of(supported_by_both, judged)),
            ("failed judgements", self.judge_failures.len().to_string()),
            ("tokens of drawing", spent(&self.drawing)),
            ("tokens of judging", spent(&self.judging)),
        ];
        let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<24} {value}")).collect();
        for FailedWindow { conversation, session, first, last, reason } in first(&self.failures, MAX_SHOWN) {
            lines.push(format!("failed: {conversation} {session}, {first} to {last}: {reason}"));
        }
        for DroppedMemory { conversation, memory, reason } in first(&self.dropped, MAX_SHOWN) {
            lines.push(format!("dropped: {conversation}: {memory} -- {reason}"));
        }
        for JudgeFailure { conversation, memory, reason } in first(&self.judge_failures, MAX_SHOWN) {
            lines.push(format!("not judged: {conversation}: {memory} -- {reason}"));
        }
        lines.extend(self.unsupported().take(MAX_SHOWN).map(|(memory, claim)| example_lines(memory, claim)));
        lines.extend(self.problems().into_iter().map(|problem| format!("problem: {problem}")));
        lines.join("\n")
    }
}

fn is_supported(claim: &Claim) -> bool {
    claim.by_model.as_ref().is_some_and(|verdict| verdict.supported)
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn of(part: usize, whole: usize) -> String {
    let share = share(part, whole).map(|share| format!(" ({share:.3})")).unwrap_or_default();
    format!("{part} of {whole}{share}")
}

fn spent(tokens: &Tokens) -> String {
    let Tokens { requests, answers, prompt, completion } = tokens;
    format!("{prompt} read, {completion} written; {requests} requests, {answers} answered")
}

fn first<T>(all: &[T], limit: usize) -> &[T] {
    &all[..all.len().min(limit)]
}

fn example(memory: &JudgedMemory, claim: &Claim) -> Value {
    let (by_model, why_model) = match &claim.by_model {
        None => (Value::Null, Value::Null),
        Some(verdict) => (json!(verdict.supported), json!(verdict.reason)),
    };
    json!({
        "conversation": memory.conversation,
        "memory": memory.memory,
        "claim": claim.text,
        "supported_by_model": by_model,
        "reason_of_model": why_model,
        "supported_by_check": claim.by_check.is_ok(),
        "reason_of_check": claim.by_check.as_ref().err(),
        "sources": memory.sources,
    })
}

fn example_lines(memory: &JudgedMemory, claim: &Claim) -> String {
    let mut lines = format!("unsupported: {}: {}", memory.conversation, claim.text);
    // Writing to a text cannot fail.
    if let Some(verdict) = claim.by_model.as_ref().filter(|verdict| !verdict.supported) {
        let _ = write!(lines, "\n  the model: {}", verdict.reason);
    }
    if let Err(reason) = &claim.by_check {
        let _ = write!(lines, "\n  the check: {reason}");
    }
    for source in &memory.sources {
        let _ = write!(lines, "\n  {} {}: {}", source.id, source.speaker, source.text.replace('\n', " "));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extraction::{Source, Verdict};

    fn claim(text: &str, by_model: Option<bool>, by_check: bool) -> Claim {
        Claim {
            text: text.to_owned(),
            by_model: by_model.map(|supported| Verdict { supported, reason: "no dog is mentioned".to_owned() }),
            by_check: if by_check { Ok(()) } else { Err("the number 4 is not in its source".to_owned()) },
        }
    }

    fn report(claims: Vec<Claim>) -> ExtractionReport {
        let source = Source {
            id: "D1:1".to_owned(),
            speaker: "Anna".to_owned(),
            time: None,
            text: "I moved\nto Porto.".to_owned(),
        };
        let memory = JudgedMemory {
            conversation: "a".to_owned(),
            memory: "Anna moved to Porto.".to_owned(),
            sources: vec![source],
            claims,
        };
        ExtractionReport { n_windows: 1, memories: vec![memory], ..ExtractionReport::default() }
    }

    #[test]
    fn claims_are_counted_by_both_judges() {
        let report = report(vec![
            claim("one", Some(true), true),
            claim("two", Some(false), true),
            claim("three", Some(true), false),
            claim("four", None, true),
        ]);
        let value = report.to_value();
        let counted = ["claims", "judged", "supported_by_model", "supported_by_check", "supported_by_both"];
        assert_eq!(counted.map(|key| value[key].as_u64()), [Some(4), Some(3), Some(2), Some(3), Some(1)]);
        assert_eq!((&value["share_by_model"], &value["share_by_check"]), (&json!(2.0 / 3.0), &json!(0.75)));
        let examples = value["unsupported"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<&str> = examples.iter().filter_map(|one| one["claim"].as_str()).collect();
        assert_eq!(texts, ["two", "three"]);
        assert_eq!((&examples[0]["reason_of_check"], &examples[0]["sources"][0]["id"]), (&Value::Null, &json!("D1:1")));
        assert!(report.problems().is_empty(), "{:?}", report.problems());
        let table = report.table();
        assert!(table.contains("2 of 3 (0.667)") && table.contains("\n  D1:1 Anna: I moved to Porto."), "{table}");
    }

    #[test]
    fn a_report_that_says_nothing_is_a_problem() {
        let problems = ExtractionReport { n_windows: 2, ..ExtractionReport::default() }.problems();
        assert!(problems[0].contains("no memory was drawn from 2 windows"), "{problems:?}");
        let mut report = report(vec![claim("one", None, true)]);
        assert!(report.problems()[0].contains("judged none of 1 claims"));
        assert_eq!(report.to_value()["share_by_model"], Value::Null);
        report.memories[0].sources.clear();
        assert!(report.problems()[0].contains("name no turn: 1"));
    }
}
