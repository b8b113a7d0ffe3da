//! How much of the evidence was found, and how early.

use std::collections::HashSet;

use serde::Serialize;

/// The numbers of results at which is looked.
pub const CUTS: [usize; 5] = [1, 5, 10, 20, 50];

/// The number of results that nDCG looks at.
const GAIN_CUT: usize = 10;

/// How often an interval draws anew.
const RESAMPLES: usize = 2000;

/// How results count that name several turns, or turns that better results have named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// A result takes as many places as it names turns, also for those that were named before, and at least one. Nobody gains
    /// by naming many turns, or the same ones again.
    Turns,
    /// A result takes one place, at which all its turns stand. Who names many turns gains by it.
    Results,
    /// A turn takes a place where it is named first; a result that names no new one takes none. So it would be if a turn and
    /// what was drawn from it were shown as one.
    NewTurns,
}

/// One question, and where its evidence stood among the results.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// 1 to 5.
    pub category: u8,
    /// How many turns answer it; at least one.
    pub n_evidence: usize,
    /// Places of those that were found, from 0; none is before the one ahead of it.
    pub places: Vec<usize>,
}

impl Outcome {
    /// Compares results with a question's evidence. Each result is the list of the turns that it names, each once.
    pub fn counted(category: u8, evidence: &[String], results: &[Vec<String>], counting: Counting) -> Self {
        let mut named: HashSet<&String> = HashSet::new();
        let mut places = Vec::new();
        let mut place = 0;
        for turns in results {
            for turn in turns {
                let is_new = named.insert(turn);
                if is_new && evidence.contains(turn) {
                    places.push(place);
                }
                place += match counting {
                    Counting::Turns => 1,
                    Counting::Results => 0,
                    Counting::NewTurns => usize::from(is_new),
                };
            }
            place += match counting {
                Counting::Turns => usize::from(turns.is_empty()),
                Counting::Results => 1,
                Counting::NewTurns => 0,
            };
        }
        Self { category, n_evidence: evidence.len(), places }
    }

    fn n_found(&self, cut: usize) -> usize {
        self.places.iter().filter(|place| **place < cut).count()
    }

    /// Whether any of the evidence is among the first `cut`.
    pub fn hit(&self, cut: usize) -> bool {
        self.n_found(cut) > 0
    }

    /// The share of the evidence that is among the first `cut`.
    pub fn recall(&self, cut: usize) -> f64 {
        self.n_found(cut) as f64 / self.n_evidence as f64
    }

    /// Whether all of the evidence is among the first `cut`.
    pub fn all(&self, cut: usize) -> bool {
        self.n_found(cut) == self.n_evidence
    }

    /// One over the rank of the first evidence, 0 without any.
    pub fn reciprocal_rank(&self) -> f64 {
        self.places.first().map_or(0.0, |place| 1.0 / (*place as f64 + 1.0))
    }

    /// The normalised discounted cumulative gain of the first ten.
    pub fn gain(&self) -> f64 {
        let discount = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let found: f64 = self.places.iter().filter(|place| **place < GAIN_CUT).map(|place| discount(*place)).sum();
        let best: f64 = (0..self.n_evidence.min(GAIN_CUT)).map(discount).sum();
        // Several turns at one place are no more than all of the evidence.
        (found / best).min(1.0)
    }
}

/// A mean's 95 % confidence interval, by drawing the questions anew (percentile bootstrap). Questions of one conversation
/// are not independent of each other: for other conversations the true interval is wider.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// 2.5 % of the draws are below.
    pub low: f64,
    /// 2.5 % of the draws are above.
    pub high: f64,
}

/// Means over questions. `None` throughout when there is no question.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many questions.
    pub n: usize,
    /// The share of questions with any evidence among the first [`CUTS`].
    pub hit: [f64; CUTS.len()],
    /// The mean share of the evidence among the first [`CUTS`].
    pub recall: [f64; CUTS.len()],
    /// The share of questions with all evidence among the first [`CUTS`].
    pub all: [f64; CUTS.len()],
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Mean nDCG@10.
    pub ndcg_at_10: f64,
    /// Of recall@10.
    pub recall_at_10_interval: Interval,
}

impl Summary {
    /// Returns the means; `None` for no questions.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Option<Self> {
        let outcomes: Vec<&Outcome> = outcomes.into_iter().collect();
        if outcomes.is_empty() {
            return None;
        }
        let n = outcomes.len();
        let mean = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(|one| value(one)).sum::<f64>() / n as f64;
        let recalls: Vec<f64> = outcomes.iter().map(|one| one.recall(10)).collect();
        Some(Self {
            n,
            hit: CUTS.map(|cut| mean(&|one| f64::from(u8::from(one.hit(cut))))),
            recall: CUTS.map(|cut| mean(&|one| one.recall(cut))),
            all: CUTS.map(|cut| mean(&|one| f64::from(u8::from(one.all(cut))))),
            mrr: mean(&Outcome::reciprocal_rank),
            ndcg_at_10: mean(&Outcome::gain),
            recall_at_10_interval: interval(&recalls),
        })
    }
}

/// The same values give the same interval.
fn interval(values: &[f64]) -> Interval {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        values[(bits % values.len() as u64) as usize]
    };
    let n = values.len();
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| (0..n).map(|_| draw()).sum::<f64>() / n as f64).collect();
    means.sort_by(f64::total_cmp);
    Interval { low: means[RESAMPLES / 40], high: means[RESAMPLES - 1 - RESAMPLES / 40] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(evidence: &[&str], found: &[&str]) -> Outcome {
        let evidence: Vec<String> = evidence.iter().map(|id| (*id).to_owned()).collect();
        let results: Vec<Vec<String>> = found.iter().map(|id| vec![(*id).to_owned()]).collect();
        Outcome::counted(1, &evidence, &results, Counting::NewTurns)
    }

    #[test]
    fn places_count_distinct_turns() {
        let one = outcome(&["a", "b"], &["x", "x", "a", "x", "a", "y", "b"]);
        assert_eq!(one.places, [1, 3]);
        assert_eq!((one.hit(1), one.hit(5), one.all(3), one.all(5)), (false, true, false, true));
        assert_eq!((one.recall(1), one.recall(3), one.recall(5)), (0.0, 0.5, 1.0));
        assert!((one.reciprocal_rank() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn results_that_name_several_turns_count_by_the_rule() {
        let owned = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let evidence = owned(&["a", "b"]);
        let results = [owned(&["x", "a"]), owned(&["a"]), owned(&[]), owned(&["y", "b"])];
        let places = |counting| Outcome::counted(1, &evidence, &results, counting).places;
        assert_eq!(places(Counting::Turns), [1, 5], "one that names nothing takes a place too");
        assert_eq!(places(Counting::Results), [0, 3]);
        assert_eq!(places(Counting::NewTurns), [1, 3]);
        let single = [owned(&["x"]), owned(&["a"]), owned(&["b"])];
        for counting in [Counting::Turns, Counting::Results, Counting::NewTurns] {
            assert_eq!(Outcome::counted(1, &evidence, &single, counting).places, [1, 2], "{counting:?}");
        }
        let whole = Outcome::counted(1, &evidence, std::slice::from_ref(&evidence), Counting::Results);
        assert_eq!((whole.places.as_slice(), whole.gain()), (&[0, 0][..], 1.0));
    }

    /// (1/log2(3) + 1/log2(5)) / (1/log2(2) + 1/log2(3)), by hand.
    #[test]
    fn gain_is_that_of_the_definition() {
        let one = outcome(&["a", "b"], &["x", "a", "y", "b"]);
        assert!((one.gain() - 0.650_921).abs() < 1e-6, "{}", one.gain());
        assert!((outcome(&["a"], &["a"]).gain() - 1.0).abs() < 1e-12);
        assert!(outcome(&["a"], &["x"]).gain().abs() < 1e-12);
    }

    #[test]
    fn means_and_their_interval() {
        let outcomes = [outcome(&["a"], &["a"]), outcome(&["a"], &["x"]), outcome(&["a"], &["x", "a"])];
        let summary = Summary::of(&outcomes).expect("there are questions");
        assert_eq!((summary.n, summary.hit[0], summary.recall[1]), (3, 1.0 / 3.0, 2.0 / 3.0));
        assert!((summary.mrr - 0.5).abs() < 1e-12);
        let Interval { low, high } = summary.recall_at_10_interval;
        assert!(low < 2.0 / 3.0 && 2.0 / 3.0 < high && low >= 0.0 && high <= 1.0, "{low} {high}");
        assert_eq!(Summary::of([]), None);
        // Binomial, 400 questions, half of them right: about 0.5 +- 1.96 * 0.025.
        let halves: Vec<f64> = (0..400).map(|index| f64::from(index % 2)).collect();
        let Interval { low, high } = interval(&halves);
        assert!((low - 0.451).abs() < 0.01 && (high - 0.549).abs() < 0.01, "{low} {high}");
    }
}
