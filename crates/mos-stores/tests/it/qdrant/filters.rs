//! Whatever is asked for, the server's answer is that of the exact index.

use std::sync::Arc;

use mos_core::{Condition, Filter, MemoryItem, Operator, RecordStore, VectorStore};
use mos_stores::{ExactVectors, InMemoryStore};
use mos_testkit::clock::SetClock;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::server::{TestQdrant, embedded, memory, scope, space};

const FIELDS: [&str; 12] =
    ["key", "tags", "n", "status", "created_at", "updated_at", "city", "memory", "a.b", "it's \"odd\"", "both", "info"];

/// What may stand in metadata, and in a filter.
fn value() -> impl Strategy<Value = Value> {
    let scalars = vec![
        json!("dog"),
        json!("dog food"),
        json!("text 3"),
        json!(""),
        json!(0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(-2),
        json!(9_007_199_254_740_993_i64),
        json!(u64::MAX),
        json!(true),
        json!(false),
        json!("2026-01-02T00:30:00+02:00"),
        json!("2026-01-01T22:30:00Z"),
        json!("2026-01-01T22:30:00.0004"),
        json!("2026-01-02"),
        json!("1969-12-31"),
        json!("soon"),
        Value::Null,
    ];
    let scalar = select(scalars);
    prop_oneof![
        5 => scalar.clone(),
        2 => proptest::collection::vec(scalar, 0..3).prop_map(Value::from),
        1 => Just(json!({"deep": "dog"})),
    ]
}

fn item() -> impl Strategy<Value = Vec<(&'static str, bool, Value)>> {
    proptest::collection::vec((select(&FIELDS[..]), any::<bool>(), value()), 0..6)
}

fn made(number: usize, fields: Vec<(&'static str, bool, Value)>) -> (MemoryItem, Vec<f32>) {
    let direction = [1.0, (number % 7) as f32 / 3.0, (number % 5) as f32 - 2.0];
    let (mut item, vector) = memory(&format!("{number:02}"), &format!("text {}", number % 4), &direction);
    for (field, is_info, value) in fields {
        // The keys of the metadata's own have types of their own.
        let of_its_own = ["key", "tags", "status", "updated_at", "info", "memory"].contains(&field);
        if is_info || of_its_own {
            item.metadata.info.get_or_insert_default().insert(field.to_owned(), value);
        } else {
            item.metadata.extra.insert(field.to_owned(), value);
        }
    }
    if number.is_multiple_of(3) {
        item.metadata.key = Some("dog".to_owned());
        item.metadata.tags = Some(vec!["dog".to_owned(), "soon".to_owned()]);
    }
    if number.is_multiple_of(4) {
        item.metadata.updated_at = Some("2026-01-01T22:30:00.000400Z".to_owned());
    }
    (item, vector)
}

fn condition() -> impl Strategy<Value = Filter> {
    let operators = [
        Operator::Eq,
        Operator::Gt,
        Operator::Gte,
        Operator::Lt,
        Operator::Lte,
        Operator::Contains,
        Operator::In,
        Operator::Like,
        Operator::StartsWith,
        Operator::EndsWith,
    ];
    (select(&FIELDS[..]), select(operators.to_vec()), value(), proptest::collection::vec(value(), 0..4)).prop_map(
        |(field, operator, value, values)| {
            let value = if operator == Operator::In { Value::from(values) } else { value };
            Filter::Is(Condition { field: field.to_owned(), operator, value })
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![9 => condition(), 1 => Just(Filter::Everything)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::All),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::Any),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

async fn compare(memories: Vec<Vec<(&'static str, bool, Value)>>, filters: Vec<Filter>) {
    let server = TestQdrant::new();
    let record: Arc<dyn RecordStore> = InMemoryStore::new(Arc::new(SetClock::default()));
    let (ours, mini) = (scope("c"), space("mini", 3));
    for (number, fields) in memories.into_iter().enumerate() {
        let memory = made(number, fields);
        if record.apply(&ours, embedded(&mini, vec![memory.clone()])).await.is_err() {
            // What no record can keep is none of an index' business; its vector is.
            let plain = MemoryItem::new(memory.0.id, memory.0.memory);
            record.apply(&ours, embedded(&mini, vec![(plain, memory.1)])).await.unwrap();
        }
    }
    let (index, exact) = (server.index(&record), ExactVectors::following(Arc::clone(&record)));
    for filter in filters {
        for limit in [1, 4, 100] {
            let expected = exact.nearest(&ours, &mini, &[1.0, 0.2, -0.1], limit, &filter).await.unwrap();
            let found = index.nearest(&ours, &mini, &[1.0, 0.2, -0.1], limit, &filter).await.unwrap();
            assert_eq!(found, expected, "{filter:?}");
        }
    }
    assert!(index.reconcile(&ours, false).await.unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn filters_pass_what_they_pass_in_the_exact_index(
        memories in proptest::collection::vec(item(), 1..40),
        filters in proptest::collection::vec(filter(), 24),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(compare(memories, filters));
    }
}
