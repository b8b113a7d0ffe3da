use mos_core::{Edge, FoundBy, MemoryError, MemoryId, MemoryType, Status, SubgraphRequest, TextMemory, TreeMemory};
use mos_memory::TreeOptions;
use serde_json::json;

use super::{House, hits, on_shelf, with};
use crate::{item, origin, texts};

#[tokio::test]
async fn replacing_working_memory_makes_the_given_memories_the_newest_in_their_order() {
    for house in House::all() {
        let tree = house.tree_with(TreeOptions { limits: [(MemoryType::Working, 4)].into(), ..TreeOptions::default() });
        for (number, text) in [(1, "dog one"), (2, "dog two"), (3, "dog three"), (4, "dog four")] {
            tree.add(vec![item(number, text)], origin().into()).await.unwrap();
            house.wait();
        }
        assert_eq!(texts(&tree.working_memory().await.unwrap()), ["dog four", "dog three", "dog two", "dog one"]);
        // One that is shown, one that is new, and one that is known and not shown.
        tree.add(vec![item(5, "dog five")], origin().into()).await.unwrap();
        house.wait();
        assert!(!on_shelf(&tree, MemoryType::Working).await.contains(&"dog one".to_owned()));
        let wanted = vec![item(2, "dog two"), item(6, "a plan"), item(1, "dog one")];
        let working = tree.replace_working_memory(wanted, origin()).await.unwrap();
        assert_eq!(texts(&working), ["dog two", "a plan", "dog one", "dog five"]);
        assert_eq!(working[0].working_copy_of(), Some(item(2, "").id.as_str()));
        assert_eq!((&working[1].id, working[1].working_copy_of()), (&item(6, "").id, None));
        assert_eq!(hits(&tree, "plan", 9).await[0].item.id, item(6, "").id);
        assert_eq!(tree.get(&item(2, "").id).await.unwrap().metadata.version, 1, "originals stay as they are");
        house.wait();
        let own = tree.replace_working_memory(vec![item(6, "a plan")], origin()).await.unwrap();
        assert_eq!(own[0].memory, "a plan", "what is there is refreshed");
        assert_eq!(own.len(), 4);
        house.wait();
        let many = (10..19).map(|number| item(number, &format!("step {number}"))).collect();
        let working = tree.replace_working_memory(many, origin()).await.unwrap();
        assert_eq!(texts(&working), ["step 10", "step 11", "step 12", "step 13"], "the first ones count");
        assert_eq!(tree.replace_working_memory(Vec::new(), origin()).await.unwrap(), working);
        assert!(matches!(
            tree.replace_working_memory(vec![item(30, " ")], origin()).await,
            Err(MemoryError::Invalid(_))
        ));
    }
}

#[tokio::test]
async fn a_subgraph_holds_what_fits_and_what_lies_around_it() {
    for house in House::all() {
        let tree = house.tree();
        let items = vec![
            item(1, "Ann works at a bakery"),
            item(2, "the bakery is in Oslo"),
            item(3, "Oslo lies in Norway"),
            item(4, "Bob plays chess"),
        ];
        tree.add(items, origin().into()).await.unwrap();
        let edge =
            |from: u32, to: u32| Edge { source: item(from, "").id, target: item(to, "").id, kind: "RELATE".to_owned() };
        tree.add_edges(vec![edge(1, 2), edge(2, 3), edge(3, 4)], origin()).await.unwrap();
        for by in [FoundBy::FullText, FoundBy::Embedding] {
            let request = SubgraphRequest { top_k: 1, depth: 1, by, ..SubgraphRequest::new("who works at the bakery") };
            let found = tree.relevant_subgraph(&request).await.unwrap();
            assert_eq!(found.core, Some(item(1, "").id), "{by:?}");
            assert_eq!(texts(&found.graph.nodes), ["Ann works at a bakery", "the bakery is in Oslo"]);
            assert_eq!((found.graph.edges, found.is_cut), (vec![edge(1, 2)], false));
            let wider = tree.relevant_subgraph(&SubgraphRequest { depth: 2, ..request }).await.unwrap();
            assert_eq!(wider.graph.nodes.len(), 3);
        }
        let nothing = tree.relevant_subgraph(&SubgraphRequest::new("zebra")).await.unwrap();
        assert_eq!((nothing.core, nothing.graph.nodes.len()), (None, 0));
        assert!(tree.relevant_subgraph(&SubgraphRequest::new(" ")).await.is_err());
        let archived = SubgraphRequest { center_status: Some(Status::Archived), ..SubgraphRequest::new("bakery") };
        assert_eq!(tree.relevant_subgraph(&archived).await.unwrap().core, None);
    }
}

#[tokio::test]
async fn what_another_program_writes_to_the_record_is_seen() {
    for house in House::all() {
        let (tree, other) = (house.tree(), {
            let embedder = std::sync::Arc::new(mos_testkit::embedder::WordEmbedder::new("words", 256));
            house.tree_of(embedder, TreeOptions::default(), std::sync::Arc::default())
        });
        tree.add(vec![item(1, "likes tea")], origin().into()).await.unwrap();
        house.wait();
        other.add(vec![item(2, "plays chess")], origin().into()).await.unwrap();
        assert_eq!(texts(&tree.working_memory().await.unwrap()), ["plays chess", "likes tea"]);
        other.delete(&[item(1, "").id], origin()).await.unwrap();
        assert_eq!(texts(&tree.working_memory().await.unwrap()), ["plays chess"]);
        other.delete_all(origin()).await.unwrap();
        assert!(tree.working_memory().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn embeddings_come_with_memories_when_they_are_wanted() {
    let house = House::sqlite();
    let tree = house.tree_with(TreeOptions { include_embedding: true, ..TreeOptions::default() });
    tree.add(vec![with(1, "likes tea", json!({"memory_type": "OuterMemory"}))], origin().into()).await.unwrap();
    let id: MemoryId = item(1, "").id;
    assert_eq!(tree.get(&id).await.unwrap().metadata.embedding().map(<[f32]>::len), Some(256));
    assert_eq!(tree.get_all().await.unwrap()[0].metadata.embedding().map(<[f32]>::len), Some(256));
    assert!(house.tree().get(&id).await.unwrap().metadata.embedding().is_none());
}
