//! Scores of whole searches, compared with the formulas written down memory by memory, without any index.

use std::collections::HashSet;

use super::*;

/// The memories of a conversation in order, with what the formulas need.
struct Plain {
    ids: Vec<String>,
    sessions: Vec<String>,
    terms: Vec<Vec<String>>,
    vectors: Vec<Vec<f32>>,
}

impl Plain {
    async fn of(items: &[MemoryItem], embedder: &WordEmbedder) -> Self {
        let terms = Terms::new(Arc::new(TextAnalyzer::new()));
        let texts: Vec<String> = items.iter().map(|item| item.memory.clone()).collect();
        Self {
            ids: items.iter().map(|item| item.id.to_string()).collect(),
            sessions: items.iter().map(|item| item.metadata.session_id.clone().unwrap()).collect(),
            terms: texts.iter().map(|text| terms.of(text)).collect(),
            vectors: embedder.embed(&texts).await.unwrap(),
        }
    }

    /// The memory at a distance in the same session.
    fn at(&self, place: usize, offset: isize) -> Option<usize> {
        let other = place.checked_add_signed(offset).filter(|other| *other < self.ids.len())?;
        (self.sessions[other] == self.sessions[place]).then_some(other)
    }

    fn words(&self, place: usize, query: &[String]) -> f64 {
        let (k1, b, n) = (0.6, 0.4, self.ids.len() as f64);
        let average = self.terms.iter().map(Vec::len).sum::<usize>() as f64 / n;
        let different: HashSet<&String> = query.iter().collect();
        let (mut sum, mut all) = (0.0, 0.0);
        for term in different {
            let count = |place: usize| self.terms[place].iter().filter(|other| *other == term).count() as f64;
            let holding = (0..self.ids.len()).filter(|place| count(*place) > 0.0).count() as f64;
            if holding == 0.0 {
                continue;
            }
            let weight = (1.0 + (n - holding + 0.5) / (holding + 0.5)).ln();
            all += weight;
            let share = |place: usize| count(place) / (1.0 - b + b * self.terms[place].len() as f64 / average);
            let mut amount = share(place);
            for (offset, part) in [(-1, 0.5), (1, 0.3), (-2, 0.2), (2, 0.1)] {
                amount += self.at(place, offset).map_or(0.0, |other| part * share(other));
            }
            sum += weight * amount * (k1 + 1.0) / (amount + k1);
        }
        sum / (1.0_f64 + all).sqrt()
    }

    /// Ten times the cosine of a query with the sum of a memory's vector and those around it.
    fn context(&self, place: usize, query: &[f32]) -> f32 {
        let mut sum = self.vectors[place].clone();
        for (offset, part) in [(-1, 0.7), (1, 0.7), (-2, 0.5), (2, 0.5)] {
            if let Some(other) = self.at(place, offset) {
                sum.iter_mut().zip(&self.vectors[other]).for_each(|(number, other)| *number += part * other);
            }
        }
        10.0 * dot(&sum, query) / dot(&sum, &sum).sqrt()
    }
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn every_signal_is_what_its_formula_gives() {
    let house = house().await;
    let plain = Plain::of(&conversation(), &house.embedder).await;
    let terms = Terms::new(Arc::new(TextAnalyzer::new()));
    // The question, the same for the encoder, and its words without names.
    let questions = [
        ("What did Anna buy?", "What did they buy?", "What did buy?"),
        ("Where are Tom's kittens and tulips?", "Where are their kittens and tulips?", "Where are kittens and tulips?"),
        (
            "was the train late, and the lake blue?",
            "was the train late, and the lake blue?",
            "was the train late, and the lake blue?",
        ),
    ];
    for (question, neutral, nameless) in questions {
        let query = house.embedder.embed(&[neutral.to_owned()]).await.unwrap().remove(0);
        let found = house.recalled(question, 100, &Filter::Everything).await;
        assert_eq!(found.len(), plain.ids.len());
        for one in &found {
            let place = plain.ids.iter().position(|id| *id == one.id.as_str()).unwrap();
            let signals = one.signals;
            let expected = (
                plain.words(place, &terms.of(nameless)) as f32,
                plain.context(place, &query),
                10.0 * dot(&plain.vectors[place], &query),
            );
            for (got, want) in
                [(signals.words, expected.0), (signals.context, expected.1), (signals.vector, expected.2)]
            {
                assert!((got - want).abs() < 1e-3, "{question}: {one:?}, should have {expected:?}");
            }
            let sum = 1.8 * signals.words
                + 0.75 * signals.context
                + 0.2 * signals.vector
                + 2.6 * signals.speaker
                + 4.4 * signals.date
                + 2.6 * signals.time
                - 0.6 * signals.question
                + signals.session;
            assert!((one.score - sum).abs() < 1e-3, "{question}: {one:?}");
        }
    }
}
