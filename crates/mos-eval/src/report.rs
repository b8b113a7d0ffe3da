//! What an evaluation found, as JSON and as a table.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::measure::{CUTS, Outcome, Summary};

/// A question that was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The conversation's name.
    pub conversation: String,
    /// The words.
    pub question: String,
    /// The turns that answer it.
    pub evidence: Vec<String>,
    /// Where they stood.
    pub outcome: Outcome,
    /// The text of the first ten results, in bytes.
    pub bytes_of_ten: usize,
}

/// How long things took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// Storing every conversation.
    pub ingest: Duration,
    /// How many turns were stored in that time.
    pub n_turns: usize,
    /// Each search, in the order of the questions.
    pub searches: Vec<Duration>,
}

impl Times {
    /// The time that a share of the searches did not exceed; zero without any. `share` in `[0, 1]`.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.searches.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize - 1;
        sorted.get(rank).copied().unwrap_or_default()
    }
}

/// Everything an evaluation found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every question, in order.
    pub asked: Vec<Asked>,
    /// How long it took.
    pub times: Times,
}

/// A part of the questions: its key, and the categories in it.
const PARTS: [(&str, &[u8]); 7] = [
    ("all", &[1, 2, 3, 4, 5]),
    ("cats_1_4", &[1, 2, 3, 4]),
    ("cat_1", &[1]),
    ("cat_2", &[2]),
    ("cat_3", &[3]),
    ("cat_4", &[4]),
    ("cat_5", &[5]),
];

impl Report {
    /// Returns the means over the questions of these categories; `None` when there is none.
    pub fn summary(&self, categories: &[u8]) -> Option<Summary> {
        Summary::of(self.asked.iter().map(|one| &one.outcome).filter(|one| categories.contains(&one.category)))
    }

    /// Returns the report as JSON: `all`, `cats_1_4`, `cat_1` to `cat_5` (null without a question), and `speed`.
    /// `tokens@10` is an estimate for the texts of the first ten results, by their bytes. With
    /// `details`, also `conversations`, the same for each, and `missed`: questions whose evidence was not all among the
    /// first ten.
    pub fn to_value(&self, details: bool) -> Value {
        let mut value = self.parts();
        value.insert("speed".to_owned(), self.speed());
        if details {
            value.insert("conversations".to_owned(), self.conversations());
            value.insert("missed".to_owned(), self.missed());
        }
        Value::Object(value)
    }

    fn parts(&self) -> Map<String, Value> {
        let part = |(key, categories): &(&str, &[u8])| {
            let summary =
                self.summary(categories).map_or(Value::Null, |summary| self.summary_value(&summary, categories));
            ((*key).to_owned(), summary)
        };
        PARTS.iter().map(part).collect()
    }

    fn summary_value(&self, summary: &Summary, categories: &[u8]) -> Value {
        let mut map = Map::new();
        map.insert("n".to_owned(), json!(summary.n));
        for (name, values) in [("hit", &summary.hit), ("recall", &summary.recall), ("all", &summary.all)] {
            for (cut, value) in CUTS.iter().zip(values) {
                map.insert(format!("{name}@{cut}"), json!(value));
            }
        }
        map.insert("mrr".to_owned(), json!(summary.mrr));
        map.insert("ndcg@10".to_owned(), json!(summary.ndcg_at_10));
        map.insert("recall@10_interval".to_owned(), json!(summary.recall_at_10_interval));
        let of_part = self.asked.iter().filter(|one| categories.contains(&one.outcome.category));
        let bytes: usize = of_part.map(|one| one.bytes_of_ten).sum();
        map.insert("tokens@10".to_owned(), json!(tokens(bytes) / summary.n as f64));
        Value::Object(map)
    }

    fn speed(&self) -> Value {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        json!({
            "ingest_s": self.times.ingest.as_secs_f64(),
            "turns": self.times.n_turns,
            "search_p50_ms": milliseconds(self.times.percentile(0.5)),
            "search_p95_ms": milliseconds(self.times.percentile(0.95)),
            "search_p99_ms": milliseconds(self.times.percentile(0.99)),
        })
    }

    fn conversations(&self) -> Value {
        let mut names: Vec<&str> = self.asked.iter().map(|one| one.conversation.as_str()).collect();
        names.dedup();
        let of_one = |name: &str| {
            let asked = self.asked.iter().filter(|one| one.conversation == name).cloned().collect();
            let part = Self { asked, times: Times::default() };
            (name.to_owned(), Value::Object(part.parts()))
        };
        Value::Object(names.into_iter().map(of_one).collect())
    }

    fn missed(&self) -> Value {
        let missed = self.asked.iter().filter(|one| !one.outcome.all(10));
        let one = |one: &Asked| {
            json!({
                "conversation": one.conversation,
                "question": one.question,
                "category": one.outcome.category,
                "evidence": one.evidence,
                "places": one.outcome.places,
            })
        };
        missed.map(one).collect()
    }

    /// Returns the report as a table for people.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "part         n   hit@10  recall@10  95% interval    recall@1 @5    @20   @50   all@10  mrr    ndcg@10\n",
        );
        for (key, categories) in PARTS {
            let Some(one) = self.summary(categories) else { continue };
            let Summary { n, hit, recall, all, mrr, ndcg_at_10, recall_at_10_interval: interval } = one;
            // Writing to a text cannot fail.
            let _ = writeln!(
                table,
                "{key:<10} {n:>4}   {:.3}   {:.3}      {:.3} - {:.3}   {:.3}    {:.3} {:.3} {:.3} {:.3}   {mrr:.3}  \
                 {ndcg_at_10:.3}",
                hit[2], recall[2], interval.low, interval.high, recall[0], recall[1], recall[3], recall[4], all[2]
            );
        }
        let milliseconds = |share| self.times.percentile(share).as_secs_f64() * 1e3;
        let _ = write!(
            table,
            "search: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms; {} turns stored in {:.1} s",
            milliseconds(0.5),
            milliseconds(0.95),
            milliseconds(0.99),
            self.times.n_turns,
            self.times.ingest.as_secs_f64()
        );
        table
    }
}

/// About so many tokens: four bytes of English text are one for the usual vocabularies.
fn tokens(bytes: usize) -> f64 {
    bytes as f64 / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(conversation: &str, category: u8, places: Vec<usize>) -> Asked {
        Asked {
            conversation: conversation.to_owned(),
            question: "who?".to_owned(),
            evidence: vec!["D1:1".to_owned()],
            outcome: Outcome { category, n_evidence: 1, places },
            bytes_of_ten: 400,
        }
    }

    #[test]
    fn parts_are_named_by_their_categories() {
        let times = Times { searches: (1..=100).map(Duration::from_millis).collect(), ..Times::default() };
        let report =
            Report { asked: vec![asked("a", 1, vec![0]), asked("a", 5, vec![]), asked("b", 4, vec![10])], times };
        let value = report.to_value(true);
        assert_eq!(
            (&value["all"]["n"], &value["cats_1_4"]["n"], &value["cat_2"]),
            (&json!(3), &json!(2), &Value::Null)
        );
        assert_eq!((&value["cats_1_4"]["hit@10"], &value["cats_1_4"]["recall@20"]), (&json!(0.5), &json!(1.0)));
        assert_eq!((&value["cat_1"]["mrr"], &value["cat_1"]["tokens@10"]), (&json!(1.0), &json!(100.0)));
        assert_eq!((&value["speed"]["search_p95_ms"], &value["speed"]["search_p50_ms"]), (&json!(95.0), &json!(50.0)));
        assert_eq!(value["conversations"]["b"]["all"]["n"], 1);
        assert_eq!(value["missed"].as_array().map(Vec::len), Some(2));
        assert_eq!(report.to_value(false).get("missed"), None);
        assert_eq!(report.table().lines().count(), 7, "{}", report.table());
    }
}
