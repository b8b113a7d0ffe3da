//! What is found by keys, tags, edges and the session that comes first.

use mos_core::graph::kinds;
use mos_core::{Edge, SessionId, Status};

use super::*;

/// A memory of its own, that shares neither words nor a session with others.
fn note(id: &str, text: &str, key: Option<&str>, tags: &[&str]) -> MemoryItem {
    let mut item = MemoryItem::new(id.into(), text);
    item.metadata.key = key.map(str::to_owned);
    item.metadata.tags = (!tags.is_empty()).then(|| tags.iter().map(|tag| (*tag).to_owned()).collect());
    item
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn connect(house: &House, source: &str, target: &str, kind: &str) {
    let edge = Edge { source: source.into(), target: target.into(), kind: kind.to_owned() };
    house.apply(WriteBatch { put_edges: vec![edge], ..WriteBatch::new(Origin::new("test", "test")) }).await;
}

async fn graph_of(house: &House, question: &str, id: &str) -> Option<f32> {
    let found = house.recalled(question, 100, &Filter::Everything).await;
    found.iter().find(|one| one.id.as_str() == id).map(|one| one.signals.graph)
}

/// Options under which one memory is found by its vector and one by its words.
fn few_candidates() -> RecallOptions {
    RecallOptions { max_exhaustive: 1, n_candidates: 1, ..RecallOptions::default() }
}

#[tokio::test]
async fn a_key_that_the_question_names_is_enough() {
    for options in [RecallOptions::default(), few_candidates()] {
        let house = House::new(options);
        house.put(conversation()).await;
        house.put(vec![note("k", "Deadline moved to autumn.", Some("Project Falcon"), &[])]).await;
        let found = house.recalled("How is project  FALCON going?", 1, &Filter::Everything).await;
        assert_eq!((found[0].id.as_str(), found[0].signals.graph), ("k", 1.0));
        assert_eq!(found[0].signals.words, 0.0, "it shares no word with the question");
        let half = graph_of(&house, "How is the project going?", "k").await;
        assert_eq!(half.unwrap_or_default(), 0.0, "half a key is none");
    }
}

#[tokio::test]
async fn a_key_or_two_tags_of_the_hints_are_enough() {
    for options in [RecallOptions::default(), few_candidates()] {
        let mut house = House::new(options);
        house.put(conversation()).await;
        house
            .put(vec![
                note("k", "Deadline moved to autumn.", Some("Falcon"), &[]),
                note("two", "Ovens break often.", None, &["Baking", "repair"]),
                note("one", "Flour spills everywhere.", None, &["baking"]),
            ])
            .await;
        house.hints = Hints { keys: texts(&["falcon"]), ..Hints::default() };
        assert_eq!(house.best("anything new").await, "k");
        house.hints = Hints { tags: texts(&["baking", "REPAIR", "garden"]), ..Hints::default() };
        let found = house.recalled("anything new", 100, &Filter::Everything).await;
        assert_eq!(found[0].id.as_str(), "two");
        assert!((found[0].signals.graph - 2.0 / 3.0).abs() < 1e-6);
        assert!(found[1..].iter().all(|one| one.signals.graph == 0.0), "one tag is not enough");
    }
}

#[tokio::test]
async fn what_is_found_by_a_key_or_an_edge_passes_the_filter() {
    for options in [RecallOptions::default(), few_candidates()] {
        let mut house = House::new(options);
        house.put(conversation()).await;
        let mut archived = note("k", "Deadline moved to autumn.", Some("Falcon"), &[]);
        archived.metadata.status = Some(Status::Archived);
        let mut linked = note("n", "Quarterly numbers.", None, &[]);
        linked.metadata.status = Some(Status::Archived);
        house.put(vec![archived, linked]).await;
        connect(&house, "b2", "n", kinds::CAUSE).await;
        house.hints = Hints { keys: texts(&["Falcon"]), ..Hints::default() };
        let activated = Filter::equals("status", "activated");
        let found = house.recalled("a blue kayak", 100, &activated).await;
        assert!(found.iter().all(|one| !["k", "n"].contains(&one.id.as_str())), "{found:?}");
        assert_eq!(found[0].id.as_str(), "b2");
    }
}

#[tokio::test]
async fn edges_lead_to_what_neither_words_nor_meaning_find() {
    for (is_exhaustive, options) in [(true, RecallOptions::default()), (false, few_candidates())] {
        let house = House::new(options);
        house.put(conversation()).await;
        house.put(vec![note("n", "Knees hurt since.", None, &[]), note("far", "Physician booked.", None, &[])]).await;
        let before = graph_of(&house, "Who bought a blue kayak?", "n").await.unwrap_or_default();
        assert_eq!(before, 0.0);
        // Nothing but edges is written: the feed tells of no change.
        connect(&house, "b2", "n", kinds::CAUSE).await;
        connect(&house, "n", "far", kinds::CAUSE).await;
        let found = house.recalled("Who bought a blue kayak?", 100, &Filter::Everything).await;
        assert_eq!(found[0].id.as_str(), "b2");
        let share = graph_of(&house, "Who bought a blue kayak?", "n").await;
        assert_eq!(share, Some(0.5), "half of what the best one has");
        if !is_exhaustive {
            assert!(found.iter().all(|one| one.id.as_str() != "far"), "one step only: {found:?}");
        }
        connect(&house, "b2", "c1", kinds::SUPERSEDES).await;
        assert_eq!(graph_of(&house, "Who bought a blue kayak?", "c1").await.unwrap_or_default(), 0.0);
    }
}

#[tokio::test]
async fn more_steps_can_be_configured() {
    let graph = GraphOptions { n_hops: 2, ..GraphOptions::default() };
    let house = House::new(RecallOptions { graph, ..RecallOptions::default() });
    house.put(conversation()).await;
    house.put(vec![note("n", "Knees hurt since.", None, &[]), note("far", "Physician booked.", None, &[])]).await;
    connect(&house, "n", "b2", kinds::RELATE).await;
    connect(&house, "far", "n", kinds::PARENT).await;
    let share = graph_of(&house, "Who bought a blue kayak?", "far").await.unwrap();
    assert!(share > 0.0 && share < graph_of(&house, "Who bought a blue kayak?", "n").await.unwrap(), "{share}");
}

#[tokio::test]
async fn without_keys_tags_and_edges_scores_are_the_same_to_the_bit() {
    let mut weights = RecallOptions::default().weights;
    (weights.graph, weights.session_priority) = (0.0, 0.0);
    let without = House::new(RecallOptions { weights, ..RecallOptions::default() });
    without.put(conversation()).await;
    let with = house().await;
    assert!(!with.record.news(&with.scope, 0).await.unwrap().may_have_edges);
    for question in ["What did Anna buy?", "When was the train late?", "home of the kittens", "on 20 June", "kayak?"] {
        let scores = |found: Vec<Recalled>| {
            found.into_iter().map(|one| (one.id.to_string(), one.score.to_bits())).collect::<Vec<_>>()
        };
        let expected = scores(without.recalled(question, 100, &Filter::Everything).await);
        assert_eq!(scores(with.recalled(question, 100, &Filter::Everything).await), expected, "{question}");
    }
}

#[tokio::test]
async fn memories_of_the_session_that_comes_first_are_included() {
    let mut house = house().await;
    let first = |found: &[Recalled]| found[0].id.to_string();
    let plain = house.recalled("a blue kayak", 3, &Filter::Everything).await;
    assert_eq!(first(&plain), "b2");
    assert!(plain.iter().all(|one| one.signals.session_priority == 0.0));
    house.hints.session = Some(SessionId::from("three"));
    let found = house.recalled("a blue kayak", 5, &Filter::Everything).await;
    assert_eq!(first(&found), "b2", "a good hit stays ahead of what only has the session");
    let of_session = found.iter().find(|one| one.signals.session_priority == 1.0).unwrap();
    assert!(of_session.id.as_str().starts_with('c'), "{found:?}");
    let named = of_session.signals.named();
    assert!(named.iter().any(|signal| signal.name == "session_priority" && signal.score == 1.0));
}

#[tokio::test]
async fn a_search_sees_what_was_written_before_its_question_was_understood() {
    let house = house().await;
    let space = house.embedder.space().await.unwrap();
    let question = house.recall.understand(&house.scope, &space, "a green tent").await.unwrap();
    let query = house.embedder.embed(std::slice::from_ref(&question.neutral)).await.unwrap().remove(0);
    let asked = Asked { question: &question, query: &query, hints: &house.hints };
    house.delete("b2").await;
    let found = house.recall.search(&house.scope, &space, &asked, 100, &Filter::Everything).await.unwrap();
    assert_eq!(found.len(), 7, "what was deleted meanwhile is never returned");
}
