//! An index that follows changes is the same as one that is made of what is left.

use std::sync::Arc;

use mos_stores::TextAnalyzer;
use serde_json::json;

use super::*;

const WINDOW: [f32; BEFORE] = [0.5, 0.7, 0.7, 0.5];

/// An index, and beside it all vectors, as a record has them.
struct Followed {
    index: Index,
    terms: Terms,
    vectors: VectorsAtHand,
    sequence: u64,
}

impl Followed {
    fn new() -> Self {
        let space = EmbeddingSpace { model: "test".to_owned(), dimension: 3 };
        let terms = Terms::new(Arc::new(TextAnalyzer::new()));
        Self { index: Index::of(space, WINDOW), terms, vectors: VectorsAtHand::new(), sequence: 0 }
    }

    /// Follows the change, without the vectors of others at hand: they must be asked for.
    fn follow(&mut self, change: Change) {
        let mut at_hand = VectorsAtHand::new();
        at_hand.extend(self.index.follow(change, &self.terms));
        for id in self.index.wanted(&at_hand) {
            at_hand.insert(id.clone(), self.vectors[&id].clone());
        }
        assert!(self.index.wanted(&at_hand).is_empty(), "one round is enough");
        self.index.settle(&at_hand);
        assert!(!self.index.is_unsettled());
        assert_eq!(self.index.sequence(), self.sequence);
    }

    fn put(&mut self, id: &str, arrival: u64, session: Option<&str>, text: &str, vector: [f32; 3]) {
        self.sequence += 1;
        let metadata = json!({"session_id": session, "info": {"name": "Anna"}, "updated_at": "2024-05-06T00:00:00"});
        let point = VectorPoint {
            id: id.into(),
            vector: vector.to_vec(),
            memory: Arc::from(text),
            metadata: Arc::new(metadata.as_object().unwrap().clone()),
        };
        self.vectors.insert(id.into(), vector.to_vec());
        self.follow(Change::Put { sequence: self.sequence, arrival, id: id.into(), point: Some(point) });
    }

    /// A preference that arrived in the same session.
    fn prefer(&mut self, id: &str, arrival: u64, text: &str) {
        self.sequence += 1;
        let metadata = json!({"session_id": "s", "memory_type": "PreferenceMemory"});
        let point = VectorPoint {
            id: id.into(),
            vector: Y.to_vec(),
            memory: Arc::from(text),
            metadata: Arc::new(metadata.as_object().unwrap().clone()),
        };
        self.follow(Change::Put { sequence: self.sequence, arrival, id: id.into(), point: Some(point) });
    }

    fn delete(&mut self, id: &str) {
        self.sequence += 1;
        self.vectors.remove(&MemoryId::from(id));
        self.follow(Change::Deleted { sequence: self.sequence, id: id.into() });
    }

    /// By memory: length of its window and what `query` is worth in it.
    fn state(&self, query: &str) -> Vec<(String, f32, f32)> {
        let scores = self.index.word_scores(&self.terms.of(query), &WordOptions::default());
        let mut state: Vec<(String, f32, f32)> = self
            .index
            .row_of
            .iter()
            .map(|(id, row)| (id.to_string(), self.index.window_length(*row), scores[*row as usize]))
            .collect();
        state.sort_by(|left, right| left.0.cmp(&right.0));
        state
    }
}

fn assert_same(left: &Followed, right: &Followed) {
    for query in ["rose", "garden sky", "rain"] {
        let (left, right) = (left.state(query), right.state(query));
        assert_eq!(left.len(), right.len());
        for (one, other) in left.iter().zip(&right) {
            assert_eq!(one.0, other.0);
            assert!((one.1 - other.1).abs() < 1e-5 && (one.2 - other.2).abs() < 1e-5, "{query}: {one:?} {other:?}");
        }
    }
}

const X: [f32; 3] = [1.0, 0.0, 0.0];
const Y: [f32; 3] = [0.0, 1.0, 0.0];
const XY: [f32; 3] = [0.6, 0.8, 0.0];
const YZ: [f32; 3] = [0.0, 0.6, 0.8];

#[test]
fn lengths_are_those_of_the_summed_vectors() {
    let mut followed = Followed::new();
    followed.put("a", 1, Some("s"), "a rose", X);
    followed.put("b", 2, Some("s"), "the sky", XY);
    followed.put("c", 3, Some("s"), "a garden", Y);
    let lengths: Vec<f32> = followed.state("rose").into_iter().map(|(_, length, _)| length).collect();
    // a + 0.7 b + 0.5 c = (1.42, 1.06); 0.7 a + b + 0.7 c = (1.3, 1.5); 0.5 a + 0.7 b + c = (0.92, 1.56).
    for (got, (x, y)) in lengths.iter().zip([(1.42_f32, 1.06_f32), (1.3, 1.5), (0.92, 1.56)]) {
        assert!((got - x.hypot(y)).abs() < 1e-5, "{lengths:?}");
    }
}

#[test]
fn preferences_change_neither_words_nor_windows() {
    let (mut with, mut without) = (Followed::new(), Followed::new());
    with.put("b", 2, Some("s"), "rain", Y);
    with.prefer("b", 2, "likes rain");
    with.prefer("c", 3, "likes a rose");
    for followed in [&mut with, &mut without] {
        followed.put("a", 1, Some("s"), "a rose", X);
        followed.put("d", 4, Some("s"), "the sky", XY);
    }
    assert_same(&with, &without);
    assert_eq!(with.index.len(), 2);
}

#[test]
fn the_order_of_changes_does_not_matter() {
    let memories = [
        ("a", 1, "a rose", X),
        ("b", 2, "the sky", XY),
        ("c", 3, "rain", Y),
        ("d", 4, "a garden", YZ),
        ("e", 5, "roses", X),
    ];
    let mut forward = Followed::new();
    for (id, arrival, text, vector) in memories {
        forward.put(id, arrival, Some("s"), text, vector);
    }
    let mut backward = Followed::new();
    for (id, arrival, text, vector) in memories.into_iter().rev() {
        backward.put(id, arrival, Some("s"), text, vector);
    }
    assert_same(&forward, &backward);
}

#[test]
fn updates_and_deletions_leave_no_trace() {
    let mut changed = Followed::new();
    changed.put("a", 1, Some("s"), "old words of rain", Y);
    changed.put("b", 2, Some("s"), "the sky", XY);
    changed.put("gone", 3, Some("s"), "rain and a rose", YZ);
    changed.put("c", 4, Some("s"), "a garden", Y);
    changed.put("d", 5, Some("t"), "a rose", X);
    changed.put("a", 1, Some("s"), "a rose", X);
    changed.delete("gone");
    changed.delete("unknown");
    changed.put("d", 5, Some("s"), "a rose", X);
    let mut plain = Followed::new();
    plain.put("a", 1, Some("s"), "a rose", X);
    plain.put("b", 2, Some("s"), "the sky", XY);
    plain.put("c", 4, Some("s"), "a garden", Y);
    plain.put("d", 5, Some("s"), "a rose", X);
    assert_same(&changed, &plain);
    assert_eq!(changed.index.len(), 4);
}

#[test]
fn memories_without_a_session_stand_alone() {
    let mut followed = Followed::new();
    followed.put("a", 1, None, "a rose", X);
    followed.put("b", 2, None, "the sky", X);
    let state = followed.state("rose");
    assert!(state.iter().all(|(_, length, _)| *length == 1.0), "{state:?}");
    assert!(state[0].2 > 0.0 && state[1].2 == 0.0, "{state:?}");
}

#[test]
fn a_memory_that_loses_its_vector_leaves() {
    let mut followed = Followed::new();
    followed.put("a", 1, Some("s"), "a rose", X);
    followed.put("b", 2, Some("s"), "the sky", X);
    followed.sequence += 1;
    followed.follow(Change::Put { sequence: followed.sequence, arrival: 2, id: "b".into(), point: None });
    assert_eq!(followed.index.len(), 1);
    assert_eq!(followed.state("rose")[0].1, 1.0);
}

#[test]
fn bytes_are_counted_and_given_back() {
    let mut followed = Followed::new();
    for number in 0..50 {
        followed.put(&format!("m{number}"), number, Some("s"), "a rose in the garden", X);
    }
    assert!(followed.index.n_row_bytes > 50 * 100);
    for number in 0..50 {
        followed.delete(&format!("m{number}"));
    }
    assert_eq!((followed.index.n_row_bytes, followed.index.len()), (0, 0));
    assert_eq!(followed.index.rows.len(), 50);
    followed.put("again", 99, Some("s"), "a rose", X);
    assert_eq!(followed.index.rows.len(), 50, "places are used again");
}

#[test]
fn questions_are_read_with_the_scopes_speakers_and_days() {
    let mut followed = Followed::new();
    followed.put("a", 1, Some("s"), "a rose", X);
    let question = followed.index.understand("What did Anna see in May?", &followed.terms, false);
    assert_eq!(question.neutral, "What did they see in May?");
    assert_eq!(question.days.len(), 4);
}
