use mos_core::{Edge, Filter, MemoryError, SearchRequest, TextMemory};
use mos_memory::TreeText;
use serde_json::json;

use super::{House, hits, ids, message};
use crate::{item, origin, texts};

/// "I live in Paris" of 2023, ended by "I moved to Berlin" of 2024.
async fn moved(house: &House) -> TreeText {
    let tree = house.tree();
    let said = |number, text: &str, time: &str, id: &str| {
        message(number, text, json!({"role": "user", "chat_time": time, "message_id": id}))
    };
    let paris = said(1, "I live in Paris", "2023-01-10T09:00:00", "m1");
    let berlin = said(2, "I moved to Berlin", "2024-05-01T18:30:00", "m2");
    tree.add(vec![paris, berlin, item(3, "the weather is cold")], origin().into()).await.unwrap();
    let mut closed = tree.get(&item(1, "").id).await.unwrap();
    let end = tree.get(&item(2, "").id).await.unwrap().metadata.extra["valid_from"].clone();
    closed.metadata.extra.insert("valid_to".to_owned(), end);
    tree.update(&closed.id.clone(), closed, origin()).await.unwrap();
    tree
}

#[tokio::test]
async fn a_search_returns_what_is_true_first_and_marks_what_is_no_more() {
    for house in House::all() {
        let tree = moved(&house).await;
        let found = hits(&tree, "where do I live", 3).await;
        assert_eq!(found.last().unwrap().item.memory, "I live in Paris");
        assert_eq!(found[0].item.memory, "I moved to Berlin");
        let is_marked = |place: usize| found[place].signals.iter().any(|signal| signal.name == "superseded");
        assert!(is_marked(2) && !is_marked(0) && !is_marked(1));
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert_eq!(texts(hits(&tree, "where do I live", 1).await.iter().map(|hit| &hit.item)), ["I moved to Berlin"]);
    }
}

#[tokio::test]
async fn a_search_as_of_a_time_returns_what_was_true_then() {
    for house in House::all() {
        let tree = moved(&house).await;
        let at = async |moment: &str| {
            let request = SearchRequest { as_of: Some(moment.to_owned()), ..SearchRequest::new("where do I live", 5) };
            let found = tree.search(&request).await.unwrap().hits;
            assert!(found.iter().all(|hit| hit.signals.iter().all(|signal| signal.name != "superseded")));
            found.into_iter().map(|hit| hit.item.memory).collect::<Vec<_>>()
        };
        assert_eq!(at("2022-12-31").await, Vec::<String>::new());
        assert_eq!(at("2023-01-10").await, ["I live in Paris"], "a day is asked about at its end");
        assert_eq!(at("2024-05-01T18:29:59").await, ["I live in Paris"]);
        assert_eq!(at("2024-05-01T20:30:00+02:00").await, ["I moved to Berlin"]);
        let now = at("2026-06-01").await;
        assert!(now.contains(&"the weather is cold".to_owned()) && !now.contains(&"I live in Paris".to_owned()));
        let bad = SearchRequest { as_of: Some("last summer".to_owned()), ..SearchRequest::new("x", 1) };
        assert!(matches!(tree.search(&bad).await, Err(MemoryError::Invalid(text)) if text.contains("last summer")));
    }
}

#[tokio::test]
async fn of_a_marked_possible_conflict_the_newer_memory_comes_first() {
    for house in House::all() {
        let tree = house.tree();
        let said = |number, text: &str, time: &str| message(number, text, json!({"role": "user", "chat_time": time}));
        let paris = said(1, "I live in Paris", "2024-01-01T09:00:00");
        let berlin = said(2, "I moved to Berlin", "2025-06-01T09:00:00");
        tree.add(vec![paris, berlin, item(3, "the weather is cold")], origin().into()).await.unwrap();
        let question = "Where do I live in Paris";
        let before = hits(&tree, question, 3).await;
        assert_eq!(before[0].item.memory, "I live in Paris");
        let mut marked = tree.get(&item(2, "").id).await.unwrap();
        marked.metadata.extra.insert("conflict_candidate".to_owned(), json!(true));
        tree.update(&marked.id.clone(), marked, origin()).await.unwrap();
        let alone = hits(&tree, question, 3).await;
        assert_eq!(ids(&alone), ids(&before), "a mark without an edge says nothing");
        let conflict = Edge { source: item(2, "").id, target: item(1, "").id, kind: "CONFLICT".to_owned() };
        tree.as_tree().unwrap().add_edges(vec![conflict], origin()).await.unwrap();
        let found = hits(&tree, question, 3).await;
        assert_eq!(texts(found[..2].iter().map(|hit| &hit.item)), ["I moved to Berlin", "I live in Paris"]);
        let is_told = |place: usize| found[place].signals.iter().any(|signal| signal.name == "conflict_candidate");
        assert!(is_told(0) && !is_told(1), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0].relativity >= pair[1].relativity), "{found:?}");
    }
}

#[tokio::test]
async fn a_search_that_finds_nothing_counts_no_working_copies() {
    let house = House::in_memory();
    let tree = moved(&house).await;
    let request =
        SearchRequest { filter: Filter::equals("key", "no such"), ..SearchRequest::new("where do I live", 3) };
    let found = tree.search(&request).await.unwrap();
    assert!(found.hits.is_empty() && found.notes.len() == 1, "{found:?}");
    assert!(!found.notes[0].contains(|letter: char| letter.is_ascii_digit()), "{:?}", found.notes);
}

#[tokio::test]
async fn the_history_of_a_fact_tells_its_message() {
    let house = House::sqlite();
    let tree = moved(&house).await;
    let history = tree.history(&item(1, "").id).await.unwrap();
    assert_eq!(history.len(), 2);
    let state = history[1].item.as_ref().unwrap();
    let sources = state.metadata.tree().unwrap().sources.as_ref().unwrap();
    assert_eq!(sources[0].message_id.as_deref(), Some("m1"));
    assert_eq!(state.metadata.extra["valid_to"], "2024-05-01T18:30:00.000000+00:00");
}
