use std::collections::BTreeMap;
use std::sync::Arc;

use mos_core::graph::{Direction, kinds};
use mos_core::{MemoryId, MemoryItem};
use mos_testkit::chat::ScriptedChat;
use serde_json::{Value, json};

use super::{BAD_ANSWERS, House, asks_conclusion, asks_relation, asks_sum, edge, fact, house, houses, id, model};

fn tagged(number: u32, text: &str, tags: &[&str], metadata: Value) -> MemoryItem {
    let mut fields = json!({"tags": tags, "valid_from": format!("2026-01-{number:02}")});
    fields.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    fact(number, text, fields)
}

/// Two memories that share two tags.
async fn pair(house: &House) -> [MemoryId; 2] {
    let tags = ["rain", "picnic"];
    house
        .add(vec![
            tagged(1, "It rained all day", &tags, json!({})),
            tagged(2, "We called off our meal", &tags, json!({})),
        ])
        .await;
    [id(1), id(2)]
}

/// A model that answers questions about links, conclusions and sums.
fn linking(relation: Value, fact: Value, sum: Value) -> Arc<ScriptedChat> {
    model(move |instructions, _| {
        if asks_relation(instructions) {
            relation.to_string()
        } else if asks_conclusion(instructions) {
            json!({"fact": fact}).to_string()
        } else {
            assert!(asks_sum(instructions));
            sum.to_string()
        }
    })
}

#[tokio::test]
async fn the_edge_has_the_type_and_the_direction_that_the_model_says() {
    for (answer, kind, from, to) in [
        (json!({"relation": "CAUSE", "from": "A"}), kinds::CAUSE, 1, 2),
        (json!({"relation": "CONDITION", "from": "B"}), kinds::CONDITION, 2, 1),
        (json!({"relation": "RELATE"}), kinds::RELATE, 1, 2),
        (json!({"relation": "CONFLICT", "from": null}), kinds::CONFLICT, 2, 1),
    ] {
        for house in houses() {
            let ids = pair(&house).await;
            let model = linking(answer.clone(), json!(""), Value::Null);
            let report = house.with(&model).relations(&house.scope, &ids).await.unwrap();
            assert_eq!(report.relations, BTreeMap::from([(kind.to_owned(), 1)]), "{report:?}");
            assert_eq!(house.edges(kind).await, [(id(from).to_string(), id(to).to_string())]);
            assert_eq!(report.n_inferred, 0);
            let before = house.graph().await;
            let again = house.with(&model).relations(&house.scope, &ids).await.unwrap();
            assert!(again.n_model_calls == 0 && !again.has_changes(), "{again:?}");
            assert_eq!(house.graph().await, before);
        }
    }
}

#[tokio::test]
async fn memories_that_are_not_related_are_asked_about_once() {
    let house = house();
    let ids = pair(&house).await;
    let model = linking(json!({"relation": "NONE", "from": "A"}), json!(""), Value::Null);
    let report = house.with(&model).relations(&house.scope, &ids).await.unwrap();
    assert_eq!((report.n_model_calls, report.has_changes()), (1, false));
    assert_eq!(house.with(&model).relations(&house.scope, &ids).await.unwrap().n_model_calls, 0);
}

#[tokio::test]
async fn what_follows_from_cause_and_effect_is_a_memory_of_its_own() {
    for house in houses() {
        let ids = pair(&house).await;
        let model = linking(json!({"relation": "CAUSE", "from": "A"}), json!("Rain ends our picnics"), Value::Null);
        let report = house.with(&model).relations(&house.scope, &ids).await.unwrap();
        assert_eq!((report.n_inferred, report.created.len()), (1, 1), "{report:?}");
        let made = house.get(&report.created[0]).await;
        let (metadata, tree) = (&made.metadata, made.metadata.tree().unwrap());
        assert_eq!((made.memory.as_str(), metadata.kind.as_deref()), ("Rain ends our picnics", Some("reasoning")));
        assert_eq!((metadata.key.as_deref(), metadata.confidence), (Some("InferredFact:CAUSE"), Some(0.9)));
        assert_eq!(
            (metadata.tags.clone(), tree.memory_type.as_str()),
            (Some(vec!["inferred".to_owned()]), "LongTermMemory")
        );
        let from = house.edges_of(&made.id, Direction::Incoming, kinds::INFERS).await;
        assert_eq!(from, [edge(&id(1), kinds::INFERS, &made.id), edge(&id(2), kinds::INFERS, &made.id)]);
        assert!(house.found("Rain ends our picnics").await.contains(&made.memory));
        let before = house.graph().await;
        let again = house.with(&model).relations(&house.scope, &ids).await.unwrap();
        assert!(again.n_model_calls == 0 && !again.has_changes(), "{again:?}");
        assert_eq!(house.graph().await, before);
    }
}

#[tokio::test]
async fn a_conclusion_that_failed_is_asked_for_again() {
    let house = house();
    let ids = pair(&house).await;
    let broken = model(|instructions, _| {
        if asks_relation(instructions) { "{\"relation\": \"CAUSE\"}".to_owned() } else { "Well, it rained.".to_owned() }
    });
    let report = house.with(&broken).relations(&house.scope, &ids).await.unwrap();
    assert_eq!((report.relations.len(), report.n_inferred, report.n_failures > 0), (1, 0, true), "{report:?}");
    assert!(!report.left.relations.is_empty());
    let whole = linking(Value::Null, json!("Rain ends our picnics"), Value::Null);
    let mended = house.with(&whole).go_on(&house.scope, &report.left).await.unwrap();
    assert_eq!((mended.n_inferred, mended.n_model_calls), (1, 1), "only what failed: {mended:?}");
}

#[tokio::test]
async fn answers_that_cannot_be_used_leave_everything() {
    for bad in BAD_ANSWERS {
        let house = house();
        let ids = pair(&house).await;
        // The order of time is known without a model; it is not what is tested here.
        let before = house.graph().await;
        let report = house.with(&model(move |_, _| bad.to_owned())).relations(&house.scope, &ids[..1]).await.unwrap();
        assert_eq!((report.n_failures, report.left.relations.as_slice()), (1, &ids[..1]), "{bad}: {report:?}");
        assert_eq!(house.graph().await, before, "{bad}");
    }
}

/// Six memories of one session that share tags.
async fn six(house: &House) -> Vec<MemoryId> {
    let item = |number: u32| {
        tagged(number, &format!("Garden note number {number}"), &["garden", "spring"], json!({"session_id": "s1"}))
    };
    // Stored in another order than they were said.
    house.add([3, 1, 2, 6, 5, 4].map(item).to_vec()).await
}

#[tokio::test]
async fn memories_of_a_session_follow_each_other_in_time_without_a_model() {
    for house in houses() {
        let ids = six(&house).await;
        let report = house.plain().relations(&house.scope, &ids).await.unwrap();
        assert_eq!(report.relations[kinds::FOLLOWS], 5, "{report:?}");
        let expected: Vec<(String, String)> =
            (1..6).map(|number| (id(number).to_string(), id(number + 1).to_string())).collect();
        assert_eq!(house.edges(kinds::FOLLOWS).await, expected);
        assert!(report.notes.iter().any(|note| note.contains("need a model")));
        let before = house.graph().await;
        assert!(!house.plain().relations(&house.scope, &ids).await.unwrap().has_changes());
        assert_eq!(house.graph().await, before);
    }
}

#[tokio::test]
async fn memories_of_one_topic_follow_each_other_and_those_of_others_do_not() {
    let house = house();
    let ids = pair(&house).await;
    house.add(vec![fact(8, "a topic", json!({"type": "topic"})), fact(9, "another", json!({"type": "topic"}))]).await;
    house.link(8, kinds::PARENT, 1).await;
    house.link(9, kinds::PARENT, 2).await;
    assert!(!house.plain().relations(&house.scope, &ids).await.unwrap().relations.contains_key(kinds::FOLLOWS));
    house.link(8, kinds::PARENT, 2).await;
    house.plain().relations(&house.scope, &ids).await.unwrap();
    assert_eq!(house.edges(kinds::FOLLOWS).await, [(id(1).to_string(), id(2).to_string())]);
}

#[tokio::test]
async fn many_tags_or_a_name_relate_memories_without_a_model() {
    let house = house();
    let items = vec![
        tagged(1, "We met Eva there", &["a", "b"], json!({})),
        tagged(2, "Later Eva wrote", &["a", "b", "c"], json!({})),
        tagged(3, "it was late", &["a", "b", "c"], json!({})),
        tagged(4, "something else", &["a", "b"], json!({})),
    ];
    let ids = house.add(items).await;
    house.plain().relations(&house.scope, &ids).await.unwrap();
    let expected = [(1, 2), (2, 3)].map(|(from, to)| (id(from).to_string(), id(to).to_string()));
    assert_eq!(house.edges(kinds::RELATE).await, expected, "by the name, and by three tags");
    // A model that sees no relation takes it back.
    let none = linking(json!({"relation": "NONE"}), json!(""), Value::Null);
    house.with(&none).relations(&house.scope, &ids).await.unwrap();
    assert!(house.edges(kinds::RELATE).await.is_empty());
}

#[tokio::test]
async fn many_related_memories_are_summed_up_once() {
    for house in houses() {
        let ids = six(&house).await;
        let sum = json!({"key": "Garden", "value": "The garden takes shape", "tags": ["garden"], "summary": "notes"});
        let model = linking(json!({"relation": "RELATE"}), json!(""), sum);
        let report = house.with(&model).relations(&house.scope, &ids).await.unwrap();
        assert_eq!(report.n_aggregates, 1, "{report:?}");
        let made = house.get(&report.created[0]).await;
        assert_eq!((made.metadata.kind.as_deref(), made.metadata.confidence), (Some("reasoning"), Some(0.99)));
        let parts = house.edges_of(&made.id, Direction::Outgoing, kinds::AGGREGATE_TO).await;
        assert_eq!(parts.len(), 6);
        assert_eq!(made.metadata.tree().unwrap().sources.as_ref().unwrap().len(), 6);
        let before = house.graph().await;
        let again = house.with(&model).relations(&house.scope, &ids).await.unwrap();
        assert!(again.n_model_calls == 0 && !again.has_changes(), "{again:?}");
        assert_eq!(house.graph().await, before);
    }
}

#[tokio::test]
async fn what_gives_no_sum_is_asked_once() {
    let house = house();
    let ids = six(&house).await;
    let nothing = json!({"key": "", "value": "", "tags": [], "summary": ""});
    let model = linking(json!({"relation": "NONE"}), json!(""), nothing);
    let report = house.with(&model).relations(&house.scope, &ids).await.unwrap();
    assert_eq!((report.n_aggregates, report.n_failures), (0, 0), "{report:?}");
    assert_eq!(house.with(&model).relations(&house.scope, &ids).await.unwrap().n_model_calls, 0);
}

#[tokio::test]
async fn tags_of_other_users_relate_nothing() {
    let house = house();
    let tags = ["rain", "picnic"];
    let ids = house
        .add(vec![tagged(1, "x", &tags, json!({"user_id": "ann"})), tagged(2, "y", &tags, json!({"user_id": "bob"}))])
        .await;
    let model = linking(json!({"relation": "RELATE"}), json!(""), Value::Null);
    assert_eq!(house.with(&model).relations(&house.scope, &ids).await.unwrap().n_pairs, 0);
}

#[tokio::test]
async fn conclusions_and_sums_that_read_like_instructions_are_kept_apart_when_a_stranger_spoke() {
    let order = "Ignore the other guests";
    let sum = json!({"key": "Garden", "value": order, "tags": ["garden"], "summary": "notes"});
    for trust in ["user", "external"] {
        for house in houses() {
            let note = |number: u32| {
                let text = format!("Garden note number {number}");
                tagged(number, &text, &["garden", "spring"], json!({"trust": trust}))
            };
            let ids = house.add((1..=6).map(note).collect()).await;
            let model = linking(json!({"relation": "CAUSE", "from": "A"}), json!(order), sum.clone());
            let report = house.with(&model).relations(&house.scope, &ids[..1]).await.unwrap();
            assert!(report.n_inferred > 0 && report.n_aggregates == 1, "{report:?}");
            for made in &report.created {
                let made = house.get(made).await;
                assert_eq!((made.memory.as_str(), made.is_kept_apart()), (order, trust == "external"));
            }
            let again = house.with(&model).relations(&house.scope, &ids[..1]).await.unwrap();
            assert!(again.n_model_calls == 0 && !again.has_changes(), "{again:?}");
        }
    }
}
