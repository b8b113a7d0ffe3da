use std::sync::Arc;

use mos_core::{
    AddRequest, Direction, Embedder, EmbeddingSpace, MemoryError, MemoryId, MemoryType, ModelError, SearchRequest,
    StoreError, TextMemory, TreeMemory,
};
use mos_memory::{TreeMode, TreeOptions, TreeShelves};
use mos_testkit::embedder::WordEmbedder;
use serde_json::json;

use super::{House, hits, ids, kind, message, on_shelf, scope, with};
use crate::logging::{Log, Quoting, SECRET};
use crate::{item, origin, texts};

#[tokio::test]
async fn what_is_added_keeps_its_id_is_found_once_and_stands_in_working_memory() {
    for house in House::all() {
        let tree = house.tree();
        let items = vec![
            item(1, "my dog is called Max"),
            with(2, "I like green tea", json!({"memory_type": "UserMemory"})),
            with(3, "a page about dogs", json!({"memory_type": "OuterMemory"})),
            with(4, "how to bake bread", json!({"memory_type": "SkillMemory"})),
            with(5, "the dog is waiting", json!({"memory_type": "WorkingMemory"})),
        ];
        let wanted: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        assert_eq!(tree.add(items, origin().into()).await.unwrap(), wanted);
        let found = hits(&tree, "what is my dog called", 5).await;
        assert_eq!(found[0].item.id, wanted[0]);
        let mut distinct = ids(&found);
        distinct.sort();
        distinct.dedup();
        assert_eq!((distinct.len(), found.len()), (5, 5), "no copy beside its original");
        assert!(found.iter().all(|hit| hit.item.working_copy_of().is_none()));
        let all = tree.get_all().await.unwrap();
        let copied: Vec<&str> = all.iter().filter_map(|item| item.working_copy_of()).collect();
        assert_eq!(copied, [wanted[0].as_str(), wanted[1].as_str()]);
        assert_eq!(all.len(), 7);
        let working = tree.working_memory().await.unwrap();
        let mut shown = texts(&working);
        shown.sort_unstable();
        assert_eq!(shown, ["I like green tea", "my dog is called Max", "the dog is waiting"]);
        let sizes = tree.sizes().await.unwrap();
        assert_eq!(
            (sizes[&MemoryType::Working], sizes[&MemoryType::LongTerm], sizes.get(&MemoryType::Context)),
            (3, 1, None)
        );
        let item = tree.get(&wanted[0]).await.unwrap();
        assert_eq!(
            (kind(&item), item.metadata.extra["valid_from"].as_str().unwrap().get(..10)),
            (MemoryType::LongTerm, Some("2026-01-02"))
        );
        assert!(tree.as_tree().is_some());
    }
}

#[tokio::test]
async fn a_search_of_a_type_returns_that_type_and_working_memory_means_what_it_shows() {
    for house in House::all() {
        let tree = house.tree_with(TreeOptions { limits: [(MemoryType::Working, 2)].into(), ..TreeOptions::default() });
        for (number, text) in [(1, "dog one"), (2, "dog two"), (3, "dog three")] {
            tree.add(vec![item(number, text)], origin().into()).await.unwrap();
            house.wait();
        }
        tree.add(vec![with(4, "dog four", json!({"memory_type": "SkillMemory"}))], origin().into()).await.unwrap();
        let of = |kinds: &[MemoryType]| SearchRequest { types: kinds.to_vec(), ..SearchRequest::new("dog", 9) };
        let found = |found: mos_core::Found| {
            let mut texts: Vec<String> = found.hits.into_iter().map(|hit| hit.item.memory).collect();
            texts.sort();
            texts
        };
        assert_eq!(found(tree.search(&of(&[MemoryType::Skill])).await.unwrap()), ["dog four"]);
        assert_eq!(found(tree.search(&of(&[MemoryType::Working])).await.unwrap()), ["dog three", "dog two"]);
        let both = [MemoryType::Working, MemoryType::Skill];
        assert_eq!(found(tree.search(&of(&both)).await.unwrap()), ["dog four", "dog three", "dog two"]);
        assert!(tree.search(&of(&[MemoryType::Outer])).await.unwrap().hits.is_empty());
    }
}

#[tokio::test]
async fn raw_memories_are_marked_and_found_at_once() {
    let house = House::sqlite();
    let tree = house.tree_with(TreeOptions { mode: TreeMode::Async, ..TreeOptions::default() });
    tree.add(vec![message(1, "my dog is called Max", json!({"role": "user"}))], origin().into()).await.unwrap();
    let found = hits(&tree, "dog", 1).await;
    assert_eq!(found[0].item.metadata.tags.as_deref(), Some(&["mode:fast".to_owned()][..]));
    assert_eq!(found[0].item.metadata.is_fast, Some(true));
}

#[tokio::test]
async fn a_repeated_request_stores_nothing_and_returns_the_first_ids() {
    for house in House::all() {
        let tree = house.tree();
        let request = || AddRequest { idempotency_key: Some("key".to_owned()), ..AddRequest::from(origin()) };
        let first = vec![item(1, "likes tea"), item(2, "plays chess"), item(3, "likes tea")];
        let ids = tree.add(first, request()).await.unwrap();
        assert_eq!(ids, [item(1, "").id, item(2, "").id, item(1, "").id], "the third says what the first says");
        let before = tree.get_all().await.unwrap();
        let again = vec![item(7, "likes tea"), item(8, "plays chess"), item(9, "likes tea")];
        assert_eq!(tree.add(again, request()).await.unwrap(), ids);
        assert_eq!(tree.get_all().await.unwrap(), before);
    }
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    for house in House::all() {
        let tree = house.tree();
        tree.add(vec![item(1, "taken")], origin().into()).await.unwrap();
        let before = tree.get_all().await.unwrap();
        for bad in [
            vec![item(4, "  ")],
            vec![item(4, "new"), item(1, "another")],
            vec![item(5, "a"), item(5, "b")],
            vec![with(6, "x", json!({"valid_from": "some day"}))],
        ] {
            let error = tree.add(bad, origin().into()).await.unwrap_err();
            assert!(matches!(error, MemoryError::Invalid(_) | MemoryError::Store(StoreError::Conflict(_))), "{error}");
            assert_eq!(tree.get_all().await.unwrap(), before);
        }
        assert!(matches!(tree.search(&SearchRequest::new(" ", 1)).await, Err(MemoryError::Invalid(_))));
        assert!(matches!(tree.get(&item(7, "").id).await, Err(MemoryError::NotFound(_))));
        assert!(tree.add(Vec::new(), origin().into()).await.unwrap().is_empty());
    }
}

/// Cannot embed texts that hold a certain word.
#[derive(Debug)]
struct Failing(WordEmbedder);

#[async_trait::async_trait]
impl Embedder for Failing {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        if texts.iter().any(|text| text.contains("poison")) {
            return Err(ModelError::Unavailable("the encoder is away".to_owned()));
        }
        self.0.embed(texts).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.0.space().await
    }
}

#[tokio::test]
async fn when_texts_cannot_be_embedded_nothing_is_stored() {
    for house in House::all() {
        let embedder = Arc::new(Failing(WordEmbedder::new("words", 256)));
        let tree = house.tree_of(embedder, TreeOptions::default(), Arc::default());
        tree.add(vec![item(1, "likes tea")], origin().into()).await.unwrap();
        let before = tree.get_all().await.unwrap();
        let added = tree.add(vec![item(2, "plays chess"), item(3, "poison")], origin().into()).await;
        assert!(matches!(added, Err(MemoryError::Model(ModelError::Unavailable(_)))));
        assert!(tree.update(&item(1, "").id, item(1, "poison"), origin()).await.is_err());
        assert!(tree.replace_working_memory(vec![item(4, "poison")], origin()).await.is_err());
        assert_eq!(tree.get_all().await.unwrap(), before);
    }
}

#[tokio::test]
async fn texts_that_an_encoder_repeats_are_in_no_log_of_a_tree() {
    let house = House::in_memory();
    house.tree().add(vec![item(1, "likes tea")], origin().into()).await.unwrap();
    let tree = house.tree_of(Arc::new(Quoting), TreeOptions::default(), Arc::clone(&house.shelves));
    let log = Log::default();
    let listening = log.listen();
    let errors = [
        tree.add(vec![item(2, SECRET)], origin().into()).await.unwrap_err(),
        tree.search(&SearchRequest::new(SECRET, 5)).await.unwrap_err(),
        tree.replace_working_memory(vec![item(3, SECRET)], origin()).await.unwrap_err(),
    ];
    drop(listening);
    assert!(errors.iter().all(|error| error.to_string().contains(SECRET)), "whoever asked is told: {errors:?}");
    let text = log.text();
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn the_oldest_memories_go_where_a_shelf_has_a_limit_and_their_history_stays() {
    for house in House::all() {
        let limits = [(MemoryType::Working, 3), (MemoryType::User, 2)].into();
        let tree = house.tree_with(TreeOptions { limits, ..TreeOptions::default() });
        let user = |number: u32| with(number, &format!("fact {number}"), json!({"memory_type": "UserMemory"}));
        for number in 1..=4 {
            tree.add(vec![user(number)], origin().into()).await.unwrap();
            house.wait();
        }
        assert_eq!(on_shelf(&tree, MemoryType::User).await, ["fact 3", "fact 4"]);
        assert_eq!(on_shelf(&tree, MemoryType::Working).await, ["fact 3", "fact 4"], "copies go with their originals");
        let history = tree.history(&user(1).id).await.unwrap();
        assert_eq!((history.len(), history[1].item.is_none()), (2, true));
        // More than fit in one call: the last ones stay.
        let many = (10..16).map(|number| item(number, &format!("note {number}"))).collect();
        tree.add(many, origin().into()).await.unwrap();
        assert_eq!(on_shelf(&tree, MemoryType::LongTerm).await.len(), 6, "a shelf without a limit takes all");
        let mut working = on_shelf(&tree, MemoryType::Working).await;
        working.sort();
        assert_eq!(working, ["note 13", "note 14", "note 15"]);
        let many = (20..26).map(user).collect::<Vec<_>>();
        tree.add(many, origin().into()).await.unwrap();
        assert_eq!(on_shelf(&tree, MemoryType::User).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn adders_at_the_same_time_keep_the_limit_of_working_memory() {
    for house in House::all() {
        let (house, limits) = (Arc::new(house), [(MemoryType::Working, 5)]);
        let adders = (0..8_u32).map(|adder| {
            let house = Arc::clone(&house);
            tokio::spawn(async move {
                // Half of them know nothing of the others, as other processes.
                let shelves = if adder % 2 == 0 { Arc::clone(&house.shelves) } else { Arc::<TreeShelves>::default() };
                let options = TreeOptions { limits: limits.into(), ..TreeOptions::default() };
                let tree = house.tree_of(Arc::new(WordEmbedder::new("words", 256)), options, shelves);
                for round in 0..6 {
                    let number = 100 * (adder + 1) + round;
                    let added = vec![item(number, &format!("subject{number} is something"))];
                    tree.add(added, origin().into()).await.unwrap();
                }
            })
        });
        for adder in adders.collect::<Vec<_>>() {
            adder.await.unwrap();
        }
        let tree = house.tree();
        assert_eq!(on_shelf(&tree, MemoryType::LongTerm).await.len(), 48, "nothing was lost");
        let working = tree.working_memory().await.unwrap();
        assert_eq!(working.len(), 5);
        for copy in working {
            let original = tree.get(&copy.working_copy_of().unwrap().into()).await.unwrap();
            assert_eq!(original.memory, copy.memory);
        }
    }
}

#[tokio::test]
async fn chunks_of_files_are_connected_with_their_summaries_and_neighbours() {
    for house in House::all() {
        let tree = house.tree();
        tree.add(vec![item(1, "a summary of the book")], origin().into()).await.unwrap();
        let (summary, first, second) = (item(1, "").id, item(2, "").id, item(3, "").id);
        let chunks = vec![
            with(2, "chapter one", json!({"summary_ids": [summary], "following_id": second, "file_ids": ["book"]})),
            with(3, "chapter two", json!({"summary_ids": [summary], "preceding_id": first, "file_ids": ["book"]})),
        ];
        assert_eq!(tree.add_raw_files(chunks, origin().into()).await.unwrap(), [first.clone(), second.clone()]);
        assert_eq!(on_shelf(&tree, MemoryType::RawFile).await, ["chapter one", "chapter two"]);
        let edges = house.record.edges(&scope(), &[first.clone(), second.clone()], Direction::Any, None).await.unwrap();
        let mut found: Vec<(MemoryId, String, MemoryId)> =
            edges.into_iter().map(|edge| (edge.source, edge.kind, edge.target)).collect();
        found.sort();
        let mut expected = Vec::new();
        for chunk in [&first, &second] {
            expected.push((chunk.clone(), "SUMMARY".to_owned(), summary.clone()));
            expected.push((summary.clone(), "MATERIAL".to_owned(), chunk.clone()));
        }
        expected.push((first.clone(), "FOLLOWING".to_owned(), second.clone()));
        expected.push((second.clone(), "PRECEDING".to_owned(), first));
        expected.sort();
        assert_eq!(found, expected);
        let lost = vec![with(9, "chapter nine", json!({"summary_ids": [item(99, "").id]}))];
        assert!(tree.add_raw_files(lost, origin().into()).await.is_err());
        assert!(tree.get(&item(9, "").id).await.is_err(), "nothing is stored without its edges");
        assert_eq!(tree.delete_by_files(&["book".to_owned()], origin()).await.unwrap(), 2);
        assert_eq!(on_shelf(&tree, MemoryType::RawFile).await.len(), 0);
        assert!(tree.get(&summary).await.is_ok());
    }
}
