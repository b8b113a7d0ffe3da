use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::{Condition, Operator};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::dot::dot_with;
use super::*;

/// What is in the index, kept as plainly as can be.
type Plain = BTreeMap<String, (Vec<f32>, String, Map<String, Value>)>;

/// Compares everything and sorts everything; scores as bits, because equal is not enough.
fn naive(
    plain: &Plain,
    query: &[f32],
    limit: usize,
    filter: &Filter,
    instructions: Instructions,
) -> Vec<(String, u32)> {
    let dot = dot_with(instructions);
    let passing = plain.iter().filter(|(_, (_, text, metadata))| filter.matches(text, metadata));
    let mut scores: Vec<(f32, &String)> = passing.map(|(id, (vector, ..))| (dot(query, vector), id)).collect();
    scores.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
    scores.truncate(limit);
    scores.into_iter().map(|(score, id)| (id.clone(), score.clamp(-1.0, 1.0).to_bits())).collect()
}

/// An index, and beside it what it should hold.
#[derive(Default)]
struct Pair {
    index: Index,
    plain: Plain,
}

impl Pair {
    fn put(&mut self, id: &str, vector: Vec<f32>, text: &str, metadata: Value) -> Followed {
        let metadata = metadata.as_object().unwrap().clone();
        let point = VectorPoint {
            id: id.into(),
            vector: vector.clone(),
            memory: Arc::from(text),
            metadata: Arc::new(metadata.clone()),
        };
        let sequence = self.index.sequence + 1;
        let followed =
            self.index.follow(Change::Put { sequence, arrival: sequence, id: id.into(), point: Some(point) }).unwrap();
        if followed == Followed::Yes {
            self.plain.insert(id.to_owned(), (vector, text.to_owned(), metadata));
        }
        followed
    }

    fn delete(&mut self, id: &str) {
        let sequence = self.index.sequence + 1;
        self.index.follow(Change::Deleted { sequence, id: id.into() }).unwrap();
        self.plain.remove(id);
        assert_eq!(self.index.sequence, sequence);
    }

    fn found(&mut self, query: &[f32], limit: usize, filter: &Filter, with: Instructions) -> Vec<(String, u32)> {
        self.index.make_columns(&columns_of(filter)).unwrap();
        named(self.index.found(query, limit, filter, with, true).unwrap())
    }

    /// With every set of instructions and with limits of all sizes.
    fn check(&mut self, query: &[f32], filter: &Filter) {
        let n = self.plain.len();
        assert_eq!(self.index.len(), n);
        self.index.make_columns(&columns_of(filter)).unwrap();
        let passes = self.plain.values().any(|(_, text, metadata)| filter.matches(text, metadata));
        assert!(self.index.may_find(filter) || !passes, "{filter:?}");
        for instructions in Instructions::available() {
            for limit in [0, 1, 2, 10, n / 2, n, n + 1, usize::MAX] {
                let expected = naive(&self.plain, query, limit, filter, instructions);
                let found = self.found(query, limit, filter, instructions);
                assert_eq!(found, expected, "{instructions:?}, limit {limit} of {n}, {filter:?}");
                let near = named(self.index.found(query, limit, filter, instructions, false).unwrap());
                assert_eq!(
                    by_id(near),
                    by_id(expected),
                    "{instructions:?}, limit {limit} of {n}, {filter:?}, unordered"
                );
            }
        }
    }
}

/// Ids with the bits of the scores.
fn named(found: Vec<Scored>) -> Vec<(String, u32)> {
    found.into_iter().map(|one| (one.id.as_str().to_owned(), one.score.to_bits())).collect()
}

fn by_id(mut found: Vec<(String, u32)>) -> Vec<(String, u32)> {
    found.sort();
    found
}

/// Numbers of a simple generator, always the same.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn vector(&mut self, dimension: usize) -> Vec<f32> {
        unit((0..dimension).map(|_| self.next() as f32 / (1 << 23) as f32 - 1.0).collect())
    }
}

fn unit(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 { vector.into_iter().map(|number| number / length).collect() } else { vector }
}

fn is(field: &str, operator: Operator, value: Value) -> Filter {
    Filter::Is(Condition { field: field.to_owned(), operator, value })
}

#[derive(Clone, Debug)]
enum Step {
    Put { id: u16, vector: Vec<f32>, kind: u8, n: u8 },
    Delete { id: u16 },
}

/// Many vectors are the same, or differ by so little that only the last bits of their scores tell them apart.
fn vector(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
    let any = prop::collection::vec(-1.0_f32..1.0, dimension).prop_map(unit);
    let few = (0..4_u32).prop_map(move |seed| Numbers(seed).vector(dimension));
    let close = (0..40_u32).prop_map(move |seed| {
        let mut vector = Numbers(seed % 4).vector(dimension);
        vector[seed as usize % dimension] += 1e-6 * (seed % 3) as f32;
        vector
    });
    prop_oneof![4 => any, 2 => few, 2 => close, 1 => Just(vec![0.0; dimension])]
}

fn steps() -> impl Strategy<Value = (usize, Vec<f32>, Vec<Step>)> {
    (1_usize..75, 1_u16..700).prop_flat_map(|(dimension, n_ids)| {
        let put = (0..n_ids, vector(dimension), any::<u8>(), any::<u8>()).prop_map(|(id, vector, kind, n)| Step::Put {
            id,
            vector,
            kind,
            n,
        });
        let delete = (0..n_ids).prop_map(|id| Step::Delete { id });
        let steps = prop::collection::vec(prop_oneof![6 => put, 1 => delete], 0..800);
        (Just(dimension), vector(dimension), steps)
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        Just(Filter::Everything),
        (0..4_u8).prop_map(|kind| Filter::equals("kind", format!("kind {kind}"))),
        (0..4_u8).prop_map(|kind| Filter::one_of("kind", [format!("kind {kind}"), "kind 2".to_owned()])),
        (0..255_u8).prop_map(|n| is("n", Operator::Gte, json!(n))),
        (0..255_u8).prop_map(|n| Filter::one_of("n", [json!(n), json!("kind 1"), json!(7)])),
        (0..9_u8).prop_map(|n| is("memory", Operator::EndsWith, json!(n.to_string()))),
        Just(Filter::equals("absent", "x")),
        Just(is("tags", Operator::Contains, json!("even"))),
        Just(is("made_at", Operator::Lt, json!("2026-01-01T12:00:00+02:00"))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::All),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Any),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

/// `kind` is sometimes absent, `n` stands in `info`, dates are the same moment in two spellings.
fn metadata(kind: u8, n: u8) -> Value {
    let date = if n.is_multiple_of(2) { "2026-01-01T10:00:00Z" } else { "2026-01-01T09:59:59" };
    let mut metadata =
        json!({"info": {"n": n}, "tags": [if n.is_multiple_of(2) { "even" } else { "odd" }], "made_at": date});
    if kind % 5 < 4 {
        metadata["kind"] = json!(format!("kind {}", kind % 5));
    }
    metadata
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_comparing_everything_finds(
        (dimension, query, steps) in steps(),
        filters in prop::collection::vec(filters(), 3),
    ) {
        let mut pair = Pair::default();
        let half = steps.len() / 2;
        for (number, step) in steps.into_iter().enumerate() {
            if number == half {
                // Columns that are there already must follow what comes.
                filters.iter().for_each(|filter| pair.index.make_columns(&columns_of(filter)).unwrap());
            }
            match step {
                Step::Put { id, vector, kind, n } => {
                    assert_eq!(vector.len(), dimension);
                    let followed = pair.put(&format!("{id}"), vector, &format!("text {n}"), metadata(kind, n));
                    prop_assert_eq!(followed, Followed::Yes);
                }
                Step::Delete { id } => pair.delete(&format!("{id}")),
            }
        }
        for filter in filters.iter().chain([&Filter::Everything]) {
            pair.check(&query, filter);
        }
    }
}

#[test]
fn the_parallel_scan_finds_what_comparing_everything_finds() {
    let (n, dimension) = (70_000_usize, 64);
    let (mut pair, mut numbers) = (Pair::default(), Numbers(7));
    let near: Vec<Vec<f32>> = (0..50).map(|_| numbers.vector(dimension)).collect();
    for id in 0..n {
        // Few different vectors, so that ties are many.
        let vector = near[numbers.next() as usize % near.len()].clone();
        pair.put(&format!("{id:06}"), vector, "text", json!({"part": id % 100, "even": id.is_multiple_of(2)}));
    }
    let query = numbers.vector(dimension);
    let part = Filter::equals("part", 3);
    for filter in [Filter::Everything, Filter::equals("even", true), part.clone(), Filter::Not(Box::new(part))] {
        for limit in [1, 100, 3000, n - 1] {
            let with = Instructions::best();
            let expected = naive(&pair.plain, &query, limit, &filter, with);
            assert_eq!(pair.found(&query, limit, &filter, with), expected, "limit {limit}, {filter:?}");
            let near = named(pair.index.near(&query, limit, &filter).unwrap());
            assert_eq!(by_id(near), by_id(expected), "limit {limit}, {filter:?}, unordered");
        }
    }
}

/// Fields with too many different values to be asked about beforehand.
#[test]
fn a_field_of_many_values_is_asked_row_by_row() {
    let (mut pair, mut numbers) = (Pair::default(), Numbers(3));
    for id in 0..6000 {
        let vector = numbers.vector(12);
        pair.put(&format!("{id:04}"), vector, &format!("text {id}"), json!({"n": id, "name": format!("name {id}")}));
    }
    let query = numbers.vector(12);
    let high = is("n", Operator::Gt, json!(5900));
    let low = is("n", Operator::Lt, json!(20));
    let name = Filter::equals("name", "name 77");
    for filter in [
        high.clone(),
        name.clone(),
        Filter::Any(vec![low.clone(), name.clone()]),
        Filter::Not(Box::new(high)).and(low).and(is("name", Operator::Like, json!("name 1"))),
        Filter::equals("memory", "text 5"),
        Filter::equals("name", "nobody"),
    ] {
        pair.check(&query, &filter);
    }
}

#[test]
fn what_is_looked_up_and_not_there_is_known_not_to_be_found() {
    let (mut pair, filter) = (Pair::default(), Filter::equals("kind", "a"));
    assert!(!pair.index.may_find(&Filter::Everything));
    for id in 0..600 {
        pair.put(&id.to_string(), vec![1.0], "text", json!({"kind": "b"}));
    }
    pair.index.make_columns(&columns_of(&filter)).unwrap();
    assert!(pair.index.may_find(&Filter::Everything) && !pair.index.may_find(&filter));
    pair.put("last", vec![1.0], "text", json!({"kind": "a"}));
    assert!(pair.index.may_find(&filter), "in the last of several blocks");
    pair.delete("last");
    assert!(!pair.index.may_find(&filter));
}

#[test]
fn values_that_no_row_has_any_more_do_not_pile_up() {
    let (mut pair, filter) = (Pair::default(), is("n", Operator::Gte, json!(0)));
    for n in 0..5000 {
        pair.put("one", vec![1.0, 0.0], "text", json!({ "n": n }));
        assert_eq!(pair.found(&[1.0, 0.0], 9, &filter, Instructions::best()).len(), 1);
    }
    assert!(pair.index.columns.n_bytes() < 1 << 20, "{} bytes for one row", pair.index.columns.n_bytes());
}

#[test]
fn columns_are_bounded() {
    let mut pair = Pair::default();
    let fields: Map<String, Value> = (0..100).map(|n| (format!("field {n}"), json!(n))).collect();
    pair.put("one", vec![1.0], "text", Value::Object(fields));
    let is = |n: i32| Filter::equals(format!("field {n}"), n);
    for n in 0..100 {
        pair.check(&[1.0], &is(n));
    }
    assert!(pair.index.has_columns(&columns_of(&is(99))) && !pair.index.has_columns(&columns_of(&is(3))));
    let (some, many) = (Filter::All((0..30).map(is).collect()), Filter::All((0..40).map(is).collect()));
    pair.check(&[1.0], &some);
    assert!(pair.index.has_columns(&columns_of(&some)), "old ones make room");
    assert!(columns_of(&many).is_empty(), "a filter of too many fields reads the payloads");
    pair.check(&[1.0], &many);
    pair.check(&[1.0], &Filter::All(vec![many, Filter::equals("field 3", 4)]));
}

#[test]
fn removing_keeps_the_other_rows_and_another_dimension_starts_again() {
    let mut pair = Pair::default();
    for (id, vector) in [("0", [1.0, 0.0]), ("1", [0.0, 1.0]), ("2", [-1.0, 0.0])] {
        assert_eq!(pair.put(id, vector.to_vec(), "text", json!({})), Followed::Yes);
    }
    pair.delete("0");
    pair.delete("unknown");
    pair.check(&[-1.0, 0.0], &Filter::Everything);
    assert_eq!(pair.put("9", vec![1.0, 0.0, 0.0], "text", json!({})), Followed::StartAgain);
    let query = [1.0, 0.0, 0.0];
    let error = pair.index.nearest(&query, 1, &Filter::Everything).unwrap_err();
    assert!(matches!(error, StoreError::Dimension { got: 3, want: 2 }), "{error}");
    pair.delete("1");
    pair.delete("2");
    assert_eq!(pair.put("9", query.to_vec(), "text", json!({})), Followed::Yes, "nothing is left of the old dimension");
    pair.check(&query, &Filter::Everything);
}

#[test]
fn vectors_are_given_as_they_came() {
    let (mut pair, mut numbers) = (Pair::default(), Numbers(9));
    let came: Vec<(MemoryId, Vec<f32>)> =
        (0..600).map(|id| (MemoryId::new(id.to_string()), numbers.vector(7))).collect();
    let ids: Vec<MemoryId> = came.iter().map(|(id, _)| id.clone()).rev().collect();
    assert!(pair.index.vectors_of(7, &ids).is_empty());
    for (id, vector) in &came {
        pair.put(id.as_str(), vector.clone(), "text", json!({}));
    }
    let mut given = pair.index.vectors_of(7, &ids);
    given.reverse();
    assert_eq!(given, came);
    pair.delete("3");
    assert_eq!(pair.index.vectors_of(7, &["3".into(), "599".into()]), came[599..], "another row has its place now");
    assert!(pair.index.vectors_of(8, &ids).is_empty());
}

#[test]
fn bytes_grow_with_what_is_held() {
    let (mut pair, mut numbers) = (Pair::default(), Numbers(5));
    for id in 0..1000 {
        pair.put(&id.to_string(), numbers.vector(384), "text", json!({"kind": "a"}));
    }
    let before = pair.index.n_bytes();
    assert!(before > 1000 * 384 * 5 && before < 1000 * 384 * 8, "{before} bytes");
    pair.found(&numbers.vector(384), 1, &Filter::equals("kind", "a"), Instructions::best());
    assert!(pair.index.n_bytes() >= before + 1000 * size_of::<u32>(), "columns count too");
    (0..1000).for_each(|id| pair.delete(&id.to_string()));
    assert!(pair.index.n_bytes() < before / 10, "{} bytes for nothing", pair.index.n_bytes());
}
