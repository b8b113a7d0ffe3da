//! Which memory holds which words, and what shared words are worth.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::options::WordOptions;
use super::sessions::Around;

/// Bytes of an entry in a map of terms, about.
const BYTES_OF_A_TERM: usize = 96;

#[derive(Clone, Copy, Debug)]
struct Posting {
    row: u32,
    frequency: u32,
}

/// The words of one memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// Numbers of its different terms.
    terms: Box<[u32]>,
    /// How many words it has.
    n_words: u32,
}

impl Words {
    /// Bytes it takes, with its postings.
    pub(super) fn n_bytes(&self) -> usize {
        self.terms.len() * (size_of::<u32>() + size_of::<Posting>())
    }
}

/// Postings of the terms of one scope.
#[derive(Debug, Default)]
pub(super) struct Postings {
    number_of: HashMap<Box<str>, u32>,
    /// By term: postings in the order of their rows.
    lists: Vec<Vec<Posting>>,
    n_documents: usize,
    n_words: u64,
    n_term_bytes: usize,
}

impl Postings {
    /// Notes the terms of a row that has none yet.
    pub(super) fn add(&mut self, row: u32, terms: Vec<String>) -> Words {
        let n_words = u32::try_from(terms.len()).unwrap_or(u32::MAX);
        let mut frequencies: BTreeMap<u32, u32> = BTreeMap::new();
        for term in terms {
            let number = self.number(term);
            *frequencies.entry(number).or_default() += 1;
        }
        for (number, frequency) in &frequencies {
            let list = &mut self.lists[*number as usize];
            let place = list.partition_point(|posting| posting.row < row);
            list.insert(place, Posting { row, frequency: *frequency });
        }
        self.n_documents += 1;
        self.n_words += u64::from(n_words);
        Words { terms: frequencies.into_keys().collect(), n_words }
    }

    /// Forgets the terms of a row.
    pub(super) fn remove(&mut self, row: u32, words: &Words) {
        for number in &words.terms {
            let list = &mut self.lists[*number as usize];
            if let Ok(place) = list.binary_search_by_key(&row, |posting| posting.row) {
                list.remove(place);
            }
        }
        self.n_documents = self.n_documents.saturating_sub(1);
        self.n_words = self.n_words.saturating_sub(u64::from(words.n_words));
    }

    fn number(&mut self, term: String) -> u32 {
        if let Some(number) = self.number_of.get(term.as_str()) {
            return *number;
        }
        let number = self.lists.len() as u32;
        self.n_term_bytes += term.len() + BYTES_OF_A_TERM;
        self.number_of.insert(term.into_boxed_str(), number);
        self.lists.push(Vec::new());
        number
    }

    /// Bytes of the terms themselves; see [`Words::n_bytes`] for the rest.
    pub(super) fn n_term_bytes(&self) -> usize {
        self.n_term_bytes
    }

    /// Returns for each of `n_rows` rows what the words are worth that it and the memories around it share with `terms`; 0
    /// for rows without any. `words_of` and `around` tell of the rows that are there.
    ///
    /// A term that stands beside a memory counts as a part of a term that stands in it; what the terms come to is divided
    /// by the root of what they could weigh together, so that long questions are comparable with short ones.
    pub(super) fn scores<'a>(
        &self,
        terms: &[String],
        options: &WordOptions,
        n_rows: usize,
        words_of: impl Fn(u32) -> Option<&'a Words>,
        around: impl Fn(u32) -> Around,
    ) -> Vec<f32> {
        let mut scores = vec![0.0_f32; n_rows];
        let mut spread = vec![0.0_f32; n_rows];
        let mut touched: Vec<u32> = Vec::new();
        let mut weight_of_all = 0.0;
        let average = (self.n_words as f32 / self.n_documents.max(1) as f32).max(f32::MIN_POSITIVE);
        let terms: BTreeSet<&str> = terms.iter().map(String::as_str).collect();
        for list in
            terms.into_iter().filter_map(|term| self.number_of.get(term)).map(|number| &self.lists[*number as usize])
        {
            if list.is_empty() {
                continue;
            }
            let weight = self.weight(list.len());
            weight_of_all += weight;
            for posting in list {
                let n_words = words_of(posting.row).map_or(0, |words| words.n_words) as f32;
                let share = posting.frequency as f32 / (1.0 - options.b + options.b * n_words / average);
                let mut add = |row: u32, amount: f32| {
                    let place = &mut spread[row as usize];
                    if *place == 0.0 {
                        touched.push(row);
                    }
                    *place += amount;
                };
                add(posting.row, share);
                for (place, row) in around(posting.row).into_iter().enumerate() {
                    // Who stands at +1 has this one at -1.
                    let part = options.around[options.around.len() - 1 - place];
                    if let Some(row) = row.filter(|_| part > 0.0) {
                        add(row, part * share);
                    }
                }
            }
            for row in touched.drain(..) {
                let amount = std::mem::take(&mut spread[row as usize]);
                scores[row as usize] += weight * amount * (options.k1 + 1.0) / (amount + options.k1);
            }
        }
        let divisor = (1.0_f32 + weight_of_all).sqrt();
        scores.iter_mut().for_each(|score| *score /= divisor);
        scores
    }

    /// The weight of a term that `n_holding` memories hold.
    fn weight(&self, n_holding: usize) -> f32 {
        let (n, holding) = (self.n_documents as f32, n_holding as f32);
        (1.0 + (n - holding + 0.5) / (holding + 0.5)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Rows in one session, in order.
    fn around(n_rows: u32) -> impl Fn(u32) -> Around {
        move |row| {
            [-2, -1, 1, 2].map(|offset: i64| u32::try_from(i64::from(row) + offset).ok().filter(|row| *row < n_rows))
        }
    }

    fn scores(texts: &[&str], query: &str) -> Vec<f32> {
        let mut postings = Postings::default();
        let words: Vec<Words> =
            texts.iter().enumerate().map(|(row, text)| postings.add(row as u32, terms(text))).collect();
        let n = texts.len();
        postings.scores(&terms(query), &WordOptions::default(), n, |row| words.get(row as usize), around(n as u32))
    }

    /// What the formulas give, written down memory by memory.
    fn expected(texts: &[&str], query: &str) -> Vec<f32> {
        let (k1, b) = (0.6_f64, 0.4_f64);
        let texts: Vec<Vec<String>> = texts.iter().map(|text| terms(text)).collect();
        let n = texts.len() as f64;
        let average = texts.iter().map(Vec::len).sum::<usize>() as f64 / n;
        let different: BTreeSet<String> = terms(query).into_iter().collect();
        let (mut scores, mut all) = (vec![0.0; texts.len()], 0.0);
        for term in &different {
            let count = |at: usize| texts[at].iter().filter(|word| *word == term).count() as f64;
            let holding = (0..texts.len()).filter(|at| count(*at) > 0.0).count() as f64;
            if holding == 0.0 {
                continue;
            }
            let idf = (1.0 + (n - holding + 0.5) / (holding + 0.5)).ln();
            all += idf;
            let base = |at: isize| {
                let at = usize::try_from(at).ok().filter(|at| *at < texts.len());
                at.map_or(0.0, |at| count(at) / (1.0 - b + b * texts[at].len() as f64 / average))
            };
            for (at, score) in scores.iter_mut().enumerate() {
                let i = at as isize;
                let u = base(i) + 0.5 * base(i - 1) + 0.3 * base(i + 1) + 0.2 * base(i - 2) + 0.1 * base(i + 2);
                *score += idf * u * (k1 + 1.0) / (u + k1);
            }
        }
        scores.into_iter().map(|score| (score / (1.0 + all).sqrt()) as f32).collect()
    }

    #[test]
    fn scores_are_what_the_formulas_give() {
        let texts = [
            "garden rose tulip",
            "rose rose",
            "weather",
            "train station city train",
            "garden",
            "tulip bulb rose spade",
        ];
        for query in ["rose", "rose garden", "train rose rose spade", "unknown", "unknown tulip", ""] {
            for (row, (got, want)) in scores(&texts, query).into_iter().zip(expected(&texts, query)).enumerate() {
                assert!((got - want).abs() < 1e-5, "`{query}`, row {row}: {got}, should be {want}");
            }
        }
    }

    #[test]
    fn one_word_of_one_memory_is_worth_its_weight() {
        // Three memories of one word each: idf = ln(1 + 2.5 / 1.5), u = 1, so 1.6 / 1.6 = 1.
        let idf = (1.0_f32 + 2.5 / 1.5).ln();
        let got = scores(&["one", "two", "three"], "one");
        assert!((got[0] - idf / (1.0 + idf).sqrt()).abs() < 1e-6);
        assert!(got[0] > got[1] && got[1] > got[2] && got[2] > 0.0, "who stands nearer reads more of it: {got:?}");
    }

    #[test]
    fn what_was_removed_is_as_if_it_had_never_been() {
        let texts = ["red rose", "blue sky rose", "red sky"];
        let mut postings = Postings::default();
        let mut words: Vec<Words> =
            texts.iter().enumerate().map(|(row, text)| postings.add(row as u32, terms(text))).collect();
        let gone = postings.add(3, terms("rose rose green extra"));
        postings.remove(3, &gone);
        postings.remove(1, &words[1]);
        words[1] = postings.add(1, terms("blue sky rose"));
        let options = WordOptions::default();
        let got = postings.scores(&terms("rose green"), &options, 3, |row| words.get(row as usize), around(3));
        assert_eq!(got, scores(&texts, "rose"));
    }
}
