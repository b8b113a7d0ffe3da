//! The same questions with parts of the ranking switched off, so that each part shows what it is worth.

use std::fmt::Write as _;

use mos::Settings;
use serde_json::{Value, json};

use crate::measure::Summary;
use crate::report::Report;

/// The questions that variants are compared by.
const CATEGORIES: [u8; 4] = [1, 2, 3, 4];

/// Settings with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// What is different.
    pub name: &'static str,
    /// All settings.
    pub settings: Settings,
}

/// Returns the settings as they are, then without one signal at a time, then with only one family of signals.
pub fn variants(settings: &Settings) -> Vec<Variant> {
    let with = |name: &'static str, change: &dyn Fn(&mut Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        Variant { name, settings }
    };
    vec![
        with("as configured", &|_| {}),
        with("without words", &|settings| settings.recall.weights.words = 0.0),
        with("without the turns around, in meaning", &|settings| {
            // The memory itself keeps the weight that it had together with those around it.
            settings.recall.weights.vector += settings.recall.weights.context;
            settings.recall.weights.context = 0.0;
        }),
        with("without the memory's own vector", &|settings| settings.recall.weights.vector = 0.0),
        with("without vectors", &|settings| {
            settings.recall.weights.vector = 0.0;
            settings.recall.weights.context = 0.0;
        }),
        with("without speakers", &|settings| settings.recall.weights.speaker = 0.0),
        with("without dates", &|settings| settings.recall.weights.date = 0.0),
        with("without times", &|settings| settings.recall.weights.time = 0.0),
        with("without questions", &|settings| settings.recall.weights.question = 0.0),
        with("without the session penalty", &|settings| settings.recall.session_penalty = 0.0),
        with("words alone", &|settings| {
            let words = settings.recall.weights.words;
            only(settings);
            settings.recall.weights.words = words;
        }),
        with("vectors alone", &|settings| {
            only(settings);
            settings.recall.weights.vector = 1.0;
        }),
    ]
}

/// Switches every part off.
fn only(settings: &mut Settings) {
    let weights = &mut settings.recall.weights;
    for weight in [
        &mut weights.words,
        &mut weights.context,
        &mut weights.vector,
        &mut weights.speaker,
        &mut weights.date,
        &mut weights.time,
        &mut weights.question,
        &mut weights.drawn,
        &mut weights.graph,
        &mut weights.session_priority,
        &mut settings.recall.session_penalty,
    ] {
        *weight = 0.0;
    }
}

/// Returns a table of variants for people: categories 1 to 4, with what each loses against the first.
pub fn comparison(variants: &[Variant], reports: &[Report]) -> String {
    let mut table = String::from(
        "variant                                recall@10  change  hit@10  mrr    cat 1  cat 2  cat 3  cat 4  p95 ms\n",
    );
    let first = reports.first().and_then(recall).unwrap_or_default();
    for (variant, report) in variants.iter().zip(reports) {
        let Some(summary) = report.summary(&CATEGORIES) else { continue };
        let recall = summary.recall[2];
        let of_category = |category: u8| report.summary(&[category]).map_or(f64::NAN, |one| one.recall[2]);
        // Writing to a text cannot fail.
        let _ = writeln!(
            table,
            "{:<37}  {recall:.3}      {:+.3}  {:.3}   {:.3}  {:.3}  {:.3}  {:.3}  {:.3}  {:.1}",
            variant.name,
            recall - first,
            summary.hit[2],
            summary.mrr,
            of_category(1),
            of_category(2),
            of_category(3),
            of_category(4),
            report.times.percentile(0.95).as_secs_f64() * 1e3,
        );
    }
    table.pop();
    table
}

/// Returns the reports as JSON: a list of `{variant, report}`, in order.
pub fn comparison_value(variants: &[Variant], reports: &[Report]) -> Value {
    let one =
        |(variant, report): (&Variant, &Report)| json!({"variant": variant.name, "report": report.to_value(false)});
    variants.iter().zip(reports).map(one).collect()
}

fn recall(report: &Report) -> Option<f64> {
    report.summary(&CATEGORIES).map(|Summary { recall, .. }| recall[2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Outcome;
    use crate::report::{Asked, Times};

    #[test]
    fn every_variant_differs_and_has_a_line() {
        let all = variants(&Settings::default());
        for variant in &all[1..] {
            assert_ne!(variant.settings, all[0].settings, "{}", variant.name);
        }
        let asked = |places: Vec<usize>| Asked {
            conversation: "a".to_owned(),
            question: "who?".to_owned(),
            evidence: vec!["D1:1".to_owned()],
            outcome: Outcome { category: 1, n_evidence: 1, places },
            bytes_of_ten: 40,
        };
        let report = |places| Report { asked: vec![asked(places)], times: Times::default() };
        let table = comparison(&all[..2], &[report(vec![0]), report(vec![])]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[1].contains("1.000      +0.000") && lines[2].contains("0.000      -1.000"), "{table}");
        assert_eq!(comparison_value(&all[..1], &[report(vec![0])])[0]["report"]["cat_1"]["n"], 1);
    }
}
