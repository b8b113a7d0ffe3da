//! Conflicts and repetitions without a model.

use mos_core::graph::kinds;
use mos_core::memory::Trust;
use mos_core::{MemoryItem, Status};
use serde_json::json;

use super::{asks_verdict, extra, fact, house, houses, id, is_active, model, said, source_ids};

fn is_candidate(item: &MemoryItem) -> bool {
    item.metadata.extra.get("conflict_candidate") == Some(&json!(true))
}

#[tokio::test]
async fn a_stated_change_is_marked_as_a_possible_conflict_and_a_model_settles_it_later() {
    for house in houses() {
        house.add(vec![said(1, "01-01", "I live in Paris"), said(2, "03-01", "I moved to Berlin")]).await;
        let report = house.plain().conflicts(&house.scope, &[id(1), id(2)]).await.unwrap();
        assert_eq!((report.n_conflict_candidates, report.n_model_calls), (1, 0), "{report:?}");
        assert_eq!(house.edges(kinds::CONFLICT).await, [(id(2).to_string(), id(1).to_string())]);
        let (paris, berlin) = (house.get(&id(1)).await, house.get(&id(2)).await);
        assert!(is_candidate(&berlin) && !is_candidate(&paris));
        assert!(is_active(&paris) && is_active(&berlin) && extra(&paris, "valid_to").is_none());
        let before = house.graph().await;
        let again = house.plain().conflicts(&house.scope, &[id(2), id(1)]).await.unwrap();
        assert!(!again.has_changes(), "{again:?}");
        assert_eq!(house.graph().await, before);
        let judge = model(|_, _| "contradictory".to_owned());
        let settled = house.with(&judge).conflicts(&house.scope, &[id(1)]).await.unwrap();
        assert_eq!(settled.n_closed, 1, "{settled:?}");
        assert_eq!(extra(&house.get(&id(1)).await, "valid_to"), Some("2026-03-01"));
        assert!(!is_candidate(&house.get(&id(2)).await) && house.edges(kinds::CONFLICT).await.is_empty());
    }
}

#[tokio::test]
async fn a_model_takes_a_mark_back_that_was_none() {
    let house = house();
    house.add(vec![said(1, "01-01", "I live in Paris"), said(2, "03-01", "I moved to Berlin")]).await;
    house.plain().conflicts(&house.scope, &[id(2)]).await.unwrap();
    let judge = model(|_, _| "independent".to_owned());
    let report = house.with(&judge).conflicts(&house.scope, &[id(1)]).await.unwrap();
    assert_eq!(report.n_independent, 1);
    assert!(!is_candidate(&house.get(&id(2)).await) && house.edges(kinds::CONFLICT).await.is_empty());
    let again = house.plain().conflicts(&house.scope, &[id(1), id(2)]).await.unwrap();
    assert_eq!(again.n_conflict_candidates, 0, "what a model said counts");
}

#[tokio::test]
async fn others_visits_wishes_and_other_users_are_no_conflict() {
    let other_user = json!({"user_id": "bob", "valid_from": "2026-03-01"});
    let ann = json!({"user_id": "ann", "valid_from": "2026-01-01"});
    for (first, second) in [
        (said(1, "01-01", "I live in Paris"), said(2, "03-01", "My brother lives in Berlin")),
        (said(1, "01-01", "I live in Paris"), said(2, "03-01", "I visited Berlin")),
        (said(1, "01-01", "I live in Paris"), said(2, "03-01", "I want to move to Berlin")),
        (said(1, "01-01", "I live in Paris"), said(2, "03-01", "I still live in Paris, France")),
        (said(1, "01-01", "I live in Paris"), said(2, "01-01", "I live in Berlin")),
        (fact(1, "I live in Paris", ann), fact(2, "I live in Berlin", other_user)),
    ] {
        let house = house();
        let text = second.memory.clone();
        house.add(vec![first, second]).await;
        let report = house.plain().conflicts(&house.scope, &[id(1), id(2)]).await.unwrap();
        assert!(!report.has_changes(), "{text}: {report:?}");
        assert!(house.edges(kinds::CONFLICT).await.is_empty(), "{text}");
    }
}

#[tokio::test]
async fn each_statement_is_in_conflict_with_the_one_before_it_only() {
    let house = house();
    let ages = [(1, "01-01", "I am 30 years old"), (2, "02-01", "I am 31 years old"), (3, "03-01", "I turned 32")];
    let ids = house.add(ages.map(|(number, day, text)| said(number, day, text)).to_vec()).await;
    house.plain().conflicts(&house.scope, &ids).await.unwrap();
    let expected = [(id(2), id(1)), (id(3), id(2))].map(|(from, to)| (from.to_string(), to.to_string()));
    assert_eq!(house.edges(kinds::CONFLICT).await, expected);
}

#[tokio::test]
async fn chinese_statements_are_compared_too() {
    let house = house();
    house
        .add(vec![said(1, "01-01", "我住在北京"), said(2, "03-01", "我搬到上海了"), said(3, "04-01", "我去上海出差")])
        .await;
    let report = house.plain().conflicts(&house.scope, &[id(1), id(2), id(3)]).await.unwrap();
    assert_eq!(report.n_conflict_candidates, 1, "{report:?}");
    assert_eq!(house.edges(kinds::CONFLICT).await, [(id(2).to_string(), id(1).to_string())]);
}

#[tokio::test]
async fn the_same_words_become_one_memory_with_both_sources() {
    for house in houses() {
        let mut second = said(2, "01-05", "i love green tea");
        second.metadata.tags = Some(vec!["tea".to_owned()]);
        house
            .add(vec![said(1, "01-01", "I love green tea."), second, said(3, "01-06", "I do not love green tea")])
            .await;
        house.link(3, "RELATE", 2).await;
        let report = house.plain().conflicts(&house.scope, &[id(1), id(2), id(3)]).await.unwrap();
        assert_eq!(report.n_deduplicated, 1, "{report:?}");
        let (older, newer) = (house.get(&id(1)).await, house.get(&id(2)).await);
        assert_eq!((older.memory.as_str(), older.metadata.version), ("I love green tea.", 2));
        assert_eq!((source_ids(&older), older.metadata.tags.clone()), (vec!["m1", "m2"], Some(vec!["tea".to_owned()])));
        assert_eq!(newer.metadata.status, Some(Status::Archived));
        assert_eq!(house.edges(kinds::MERGED_TO).await, [(id(2).to_string(), id(1).to_string())]);
        assert!(house.edges(kinds::RELATE).await.contains(&(id(3).to_string(), id(1).to_string())));
        assert!(is_active(&house.get(&id(3)).await), "a denial is no repetition");
        assert!(house.found("green tea").await.contains(&older.memory));
        assert!(!house.plain().conflicts(&house.scope, &[id(1), id(3)]).await.unwrap().has_changes());
    }
}

#[tokio::test]
async fn events_of_different_days_and_closed_facts_are_not_one() {
    let house = house();
    let mut paris = said(3, "01-01", "I live in Paris");
    paris.metadata.extra.insert("valid_to".to_owned(), json!("2026-02-01"));
    house
        .add(vec![
            said(1, "01-01", "I ran ten miles today"),
            said(2, "01-02", "I ran ten miles today"),
            paris,
            said(4, "03-01", "I live in Paris"),
        ])
        .await;
    let report = house.plain().conflicts(&house.scope, &[id(1), id(2), id(3), id(4)]).await.unwrap();
    assert!(!report.has_changes(), "{report:?}");
}

#[tokio::test]
async fn a_model_is_shown_both_with_their_times_and_the_older_one_first() {
    let house = house();
    house.add(vec![said(1, "03-01", "I moved to Berlin"), said(2, "01-01", "I live in Paris")]).await;
    let judge = model(|instructions, shown| {
        assert!(asks_verdict(instructions));
        let (paris, berlin) = (shown.find("Paris").unwrap(), shown.find("Berlin").unwrap());
        assert!(paris < berlin && shown.contains("2026-01-01") && shown.contains("2026-03-01"), "{shown}");
        "independent".to_owned()
    });
    let report = house.with(&judge).conflicts(&house.scope, &[id(1)]).await.unwrap();
    assert_eq!(report.n_independent, 1);
}

#[tokio::test]
async fn working_copies_are_trusted_no_further_than_what_is_kept_of_two() {
    for house in houses() {
        let text = "I love green tea";
        let mut copy = fact(9, text, json!({"memory_type": "WorkingMemory"}));
        copy.metadata.working_binding = Some(id(1).to_string());
        let strange =
            json!({"valid_from": "2026-01-02", "created_at": "2026-01-02T12:00:00+00:00", "trust": "external"});
        house.add(vec![said(1, "01-01", text), copy, fact(2, text, strange)]).await;
        let report = house.plain().conflicts(&house.scope, &[id(2)]).await.unwrap();
        assert_eq!(report.n_deduplicated, 1, "{report:?}");
        let (kept, copy) = (house.get(&id(1)).await, house.get(&id(9)).await);
        assert!(is_active(&kept) && is_active(&copy));
        assert_eq!([&kept, &copy].map(|item| item.metadata.trust()), [Trust::External; 2]);
    }
}
