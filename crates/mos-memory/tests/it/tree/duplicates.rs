use mos_core::{MemoryId, MemoryItem, MemoryType, TextMemory, TreeMemory};
use mos_memory::{TreeOptions, TreeText};
use serde_json::{Value, json};

use super::{House, message, on_shelf, with};
use crate::{item, origin};

/// Adds a memory and returns its id.
async fn add(tree: &TreeText, item: MemoryItem) -> MemoryId {
    tree.add(vec![item], origin().into()).await.unwrap().remove(0)
}

async fn n_facts(tree: &TreeText) -> usize {
    on_shelf(tree, MemoryType::LongTerm).await.len() + on_shelf(tree, MemoryType::User).await.len()
}

/// A fact that was drawn from a message.
fn fact(number: u32, text: &str, message_id: &str) -> MemoryItem {
    let sources = [json!({"type": "chat", "role": "user", "message_id": message_id})];
    with(number, text, json!({"memory_type": "UserMemory", "type": "fact", "sources": sources, "tags": [message_id]}))
}

#[tokio::test]
async fn the_same_fact_again_gives_the_known_memory_its_new_source() {
    for house in House::all() {
        let tree = house.tree();
        let known = add(&tree, fact(1, "The user likes green tea.", "m1")).await;
        house.wait();
        assert_eq!(add(&tree, fact(2, "  the user LIKES green tea", "m2")).await, known);
        assert_eq!(n_facts(&tree).await, 1);
        let item = tree.get(&known).await.unwrap();
        assert_eq!((item.memory.as_str(), item.metadata.version), ("The user likes green tea.", 2));
        let sources = item.metadata.tree().unwrap().sources.clone().unwrap();
        let messages: Vec<&str> = sources.iter().filter_map(|source| source.message_id.as_deref()).collect();
        assert_eq!(messages, ["m1", "m2"]);
        assert_eq!(item.metadata.tags.as_deref(), Some(&["m1".to_owned(), "m2".to_owned()][..]));
        let history = tree.history(&known).await.unwrap();
        assert_eq!(history.len(), 2, "the state before is kept");
        assert_eq!(tree.working_memory().await.unwrap().len(), 1, "one copy, the fresh one");
        assert!(super::hits(&tree, "green tea", 3).await[0].item.id == known, "it is still found");
    }
}

#[tokio::test]
async fn nearly_the_same_words_are_one_memory_unless_a_word_that_tells_differs() {
    for house in House::all() {
        let tree = house.tree_with(TreeOptions { near_duplicate: 0.8, ..TreeOptions::default() });
        let text = "The user has 2 dogs and a garden with roses and an old apple tree";
        let known = add(&tree, item(1, text)).await;
        assert_eq!(add(&tree, item(2, "User has 2 dogs and a garden with roses and old apple tree!")).await, known);
        for (number, other) in [
            (3, "The user has 3 dogs and a garden with roses and an old apple tree"),
            (4, "The user has 2 dogs and a garden without roses and an old apple tree"),
            (5, "The user has 2 dogs and no garden with roses and an old apple tree"),
            (6, "The user had 2 dogs and a garden with roses and an old apple tree"),
            (7, "The user has 2 dogs and a garden with roses and an old apple tree?"),
        ] {
            assert_eq!(add(&tree, item(number, other)).await, item(number, "").id, "{other}");
        }
        let far = house.tree_with(TreeOptions { near_duplicate: 1.1, ..TreeOptions::default() });
        let as_exact = "the user has 2 dogs and a garden with roses and an old apple tree.";
        assert_eq!(add(&far, item(8, as_exact)).await, known, "the same text needs no vector");
        let not_exact = "User has 2 dogs and a garden with roses and an old apple tree";
        assert_eq!(add(&far, item(9, not_exact)).await, item(9, "").id);
    }
}

#[tokio::test]
async fn a_person_may_say_the_same_twice() {
    for house in House::all() {
        let tree = house.tree();
        let said = |number: u32, info: Value| message(number, "Thank you!", info);
        let id = |number: u32| item(number, "").id;
        let both = vec![
            said(1, json!({"role": "user", "message_id": "m1"})),
            said(2, json!({"role": "user", "message_id": "m2"})),
        ];
        assert_eq!(tree.add(both, origin().into()).await.unwrap(), [id(1), id(2)]);
        assert_eq!(add(&tree, said(3, json!({"role": "user", "message_id": "m3"}))).await, id(3));
        assert_eq!(add(&tree, said(4, json!({"role": "user", "message_id": "m2"}))).await, id(2), "the same message");
        let by = |number: u32, name: &str| said(number, json!({"role": "user", "name": name, "message_id": "m2"}));
        assert_eq!(add(&tree, by(5, "Eva")).await, id(5), "said by somebody else");
        let at = |number: u32, time: &str| said(number, json!({"role": "assistant", "chat_time": time}));
        assert_eq!(add(&tree, at(6, "2024-01-01T08:00:00")).await, id(6));
        assert_eq!(add(&tree, at(7, "2024-01-02T08:00:00")).await, id(7));
        assert_eq!(add(&tree, at(8, "2024-01-01T08:00:00")).await, id(6));
        assert_eq!(n_facts(&tree).await, 6);
    }
}

#[tokio::test]
async fn what_differs_in_user_type_time_or_truth_is_not_the_same() {
    for house in House::all() {
        let tree = house.tree();
        let of = |number: u32, metadata: Value| with(number, "went to the gym yesterday", metadata);
        let first = add(&tree, of(1, json!({"memory_type": "UserMemory", "created_at": "2024-03-01T08:00:00Z"}))).await;
        for (number, metadata) in [
            (2, json!({"memory_type": "LongTermMemory", "created_at": "2024-03-01T08:00:00Z"})),
            (3, json!({"memory_type": "UserMemory", "created_at": "2024-03-08T08:00:00Z"})),
            (4, json!({"memory_type": "UserMemory", "created_at": "2024-03-01T08:00:00Z", "user_id": "eva"})),
            (5, json!({"memory_type": "UserMemory", "created_at": "2024-03-01T08:00:00Z", "valid_to": "2024-04-01"})),
            (6, json!({"memory_type": "UserMemory", "created_at": "2024-03-01T08:00:00Z", "status": "archived"})),
        ] {
            assert_eq!(add(&tree, of(number, metadata)).await, item(number, "").id, "{number}");
        }
        let again = of(7, json!({"memory_type": "UserMemory", "created_at": "2024-03-01T20:00:00Z"}));
        assert_eq!(add(&tree, again).await, first, "the same day is meant");
        // What was true once and is true again is another fact.
        let mut closed = tree.get(&first).await.unwrap();
        closed.metadata.extra.insert("valid_to".to_owned(), json!("2024-05-01"));
        tree.update(&first, closed, origin()).await.unwrap();
        let anew = of(8, json!({"memory_type": "UserMemory", "created_at": "2024-03-01T20:00:00Z"}));
        assert_eq!(add(&tree, anew).await, item(8, "").id);
    }
}
