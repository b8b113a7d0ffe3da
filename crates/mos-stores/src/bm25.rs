//! BM25 (Robertson and Zaragoza 2009) with `k1` = 1.2 and `b` = 0.75, over one scope's own statistics.

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// What BM25 must know about a scope as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TermStatistics {
    /// How many memories it has.
    pub(crate) n_documents: u64,
    /// How many terms they have together.
    pub(crate) n_terms: u64,
}

impl TermStatistics {
    /// Returns the weight of a term that `n_containing` memories hold; greater than 0 (the form with 1 added inside
    /// the logarithm), so that a word of more than half of the memories does not count against them.
    pub(crate) fn weight(self, n_containing: usize) -> f64 {
        let (all, containing) = (self.n_documents as f64, n_containing as f64);
        (1.0 + (all - containing + 0.5) / (containing + 0.5)).ln()
    }

    /// Returns what a term adds to the score of a memory of `n_terms` terms that holds it `frequency` times.
    pub(crate) fn score(self, weight: f64, frequency: u32, n_terms: u32) -> f64 {
        let average = self.n_terms as f64 / self.n_documents.max(1) as f64;
        let frequency = f64::from(frequency);
        let length = if average > 0.0 { f64::from(n_terms) / average } else { 1.0 };
        weight * frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * length))
    }
}

/// Returns the different terms of a query, sorted: scores are added in this order in every store, so that they come
/// out equal to the last bit.
pub(crate) fn query_terms(mut terms: Vec<String>) -> Vec<String> {
    terms.sort_unstable();
    terms.dedup();
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_the_formula() {
        let statistics = TermStatistics { n_documents: 4, n_terms: 20 };
        let weight = statistics.weight(1);
        assert!((weight - (1.0_f64 + 3.5 / 1.5).ln()).abs() < 1e-12);
        let expected = weight * 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 10.0 / 5.0));
        assert!((statistics.score(weight, 2, 10) - expected).abs() < 1e-12);
        assert!(statistics.weight(4) > 0.0, "a word of every memory still counts for them");
    }
}
