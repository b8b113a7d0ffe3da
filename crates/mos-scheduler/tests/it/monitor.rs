//! Monitors count as upstream's do.

use std::path::Path;

use jiff::Timestamp;
use mos_core::{Expected, StateStore, UserId};
use mos_scheduler::monitor::{
    ImportanceWeights, MonitorItem, MonitorKind, MonitorList, QueryItem, QueryMonitor, importance, is_all_chinese,
    is_all_english, mapping_key, monitors,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::turn_support::{States, scope};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/compat/golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-12
}

#[test]
fn importance_is_that_of_memos() {
    let cases = golden("importance_scores.json");
    for case in cases.as_array().unwrap() {
        let number = |field: &str| case[field].as_f64().unwrap();
        let weight = |place: usize| case["weights"][place].as_f64().unwrap();
        let weights = ImportanceWeights { sorting: weight(0), keywords: weight(1), recording: weight(2) };
        assert_eq!(weights, ImportanceWeights::default());
        let count = case["recording_count"].as_u64().unwrap();
        let computed = importance(number("sorting_score"), number("keywords_score"), count, weights);
        assert!(is_near(computed, number("importance")), "{case}: {computed}");
    }
}

/// An item of the recorded list before the update.
fn known(recorded: &Value) -> MonitorItem {
    let mut item =
        MonitorItem::new(None, recorded["text"].as_str().unwrap(), recorded["sorting"].as_f64().unwrap(), 0.0);
    item.recording_count = recorded["count"].as_u64().unwrap();
    let weights = ImportanceWeights::default();
    item.importance_score = importance(item.sorting_score, item.keywords_score, item.recording_count, weights);
    item
}

#[test]
fn an_update_counts_replaces_retains_and_drops_as_memos_does() {
    let recorded = golden("monitor_update.json");
    let mut list = MonitorList { items: recorded["before"].as_array().unwrap().iter().map(known).collect() };
    let incoming = recorded["incoming"].as_array().unwrap().iter().map(|item| {
        MonitorItem::new(None, item[0].as_str().unwrap(), item[1].as_f64().unwrap(), item[2].as_f64().unwrap())
    });
    let number = |field: &str| usize::try_from(recorded[field].as_u64().unwrap()).unwrap();
    list.update(incoming.collect(), number("partial_retention_number"), number("max_capacity"));
    let after = recorded["after"].as_array().unwrap();
    assert_eq!(list.items.len(), after.len());
    for (item, expected) in list.items.iter().zip(after) {
        assert_eq!(item.memory_text, expected["text"].as_str().unwrap());
        assert!(is_near(item.sorting_score, expected["sorting"].as_f64().unwrap()), "{item:?}");
        assert!(is_near(item.keywords_score, expected["keywords"].as_f64().unwrap()), "{item:?}");
        assert_eq!(item.recording_count, expected["count"].as_u64().unwrap(), "{item:?}");
    }
}

#[test]
fn the_queue_of_questions_is_that_of_memos() {
    let recorded = golden("query_monitor_queue.json");
    let mut queries = QueryMonitor::new(3);
    for number in 0..5_i64 {
        queries.put(QueryItem {
            item_id: format!("00000000-0000-4000-8000-{:012}", 18 + number),
            user_id: "u".into(),
            mem_cube_id: "c".into(),
            query_text: format!("q{number}"),
            keywords: vec!["k".to_owned(), format!("k{number}")],
            timestamp: Timestamp::from_second(1_767_225_600 + number).unwrap(),
        });
    }
    assert_eq!(json!(queries.queries()), recorded["queries_desc"]);
    let keywords: serde_json::Map<String, Value> =
        queries.keywords().into_iter().map(|(keyword, count)| (keyword, json!(count))).collect();
    assert_eq!(Value::Object(keywords), recorded["keywords"]);
    assert_eq!(queries.to_memos(), recorded["to_json"]);
    let again = QueryItem { query_text: "q4 again".to_owned(), ..queries.items[2].clone() };
    queries.put(again);
    assert_eq!(queries.queries(), ["q4 again", "q3", "q2"], "a message has one question");
}

#[test]
fn keys_and_letters_are_those_of_memos() {
    let recorded = golden("key_functions.json");
    for (text, key) in recorded["transform_name_to_key"].as_object().unwrap() {
        assert_eq!(mapping_key(text), key.as_str().unwrap(), "{text:?}");
    }
    for (text, is_so) in recorded["is_all_english"].as_object().unwrap() {
        assert_eq!(is_all_english(text), is_so.as_bool().unwrap(), "{text:?}");
    }
    for (text, is_so) in recorded["is_all_chinese"].as_object().unwrap() {
        assert_eq!(is_all_chinese(text), is_so.as_bool().unwrap(), "{text:?}");
    }
}

#[tokio::test]
async fn a_document_of_another_form_is_damage_and_not_an_empty_list() {
    let states = States::default();
    let user = UserId::from("ann");
    let document = json!({"user_id": "ann", "value": {"list": 7}});
    states.write(&scope(), "scheduler/monitor/working/ann", &document, Expected::Absent).await.unwrap();
    let error = monitors(&states, &scope(), &user, MonitorKind::Working).await.unwrap_err().to_string();
    assert!(error.contains("scheduler/monitor/working/ann"), "{error}");
    assert!(monitors(&states, &scope(), &"bob".into(), MonitorKind::Working).await.unwrap().items.is_empty());
}

proptest! {
    #[test]
    fn a_list_stays_sorted_bounded_and_without_repetitions(
        batches in proptest::collection::vec(proptest::collection::vec((0_u8..30, 0_u8..20), 0..12), 1..8),
        retention in 0_usize..4,
        capacity in 1_usize..10,
    ) {
        let mut list = MonitorList::default();
        for batch in batches {
            let known: Vec<String> = list.items.iter().map(|item| item.mapping_key.clone()).collect();
            let new: Vec<MonitorItem> = batch
                .iter()
                .map(|(number, points)| MonitorItem::new(None, &format!("memory {number}"), f64::from(*points), 0.0))
                .collect();
            let keys: Vec<String> = new.iter().map(|item| item.mapping_key.clone()).collect();
            list.update(new, retention, capacity);
            prop_assert!(list.items.len() <= capacity);
            prop_assert!(list.items.is_sorted_by(|a, b| a.importance_score >= b.importance_score));
            let mut seen: Vec<&str> = list.items.iter().map(|item| item.mapping_key.as_str()).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), list.items.len());
            let n_retained = list.items.iter().filter(|item| !keys.contains(&item.mapping_key)).count();
            prop_assert!(n_retained <= retention);
            prop_assert!(list.items.iter().all(|item| keys.contains(&item.mapping_key) || known.contains(&item.mapping_key)));
        }
    }
}
