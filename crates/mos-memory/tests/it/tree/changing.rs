use mos_core::{Edge, Filter, MemoryError, MemoryType, Paging, SearchRequest, Status, TextMemory, TreeMemory};
use serde_json::json;

use super::{House, hits, ids, on_shelf, with};
use crate::{item, origin, texts};

#[tokio::test]
async fn an_update_keeps_id_and_shelf_counts_the_version_and_reaches_the_working_copy() {
    for house in House::all() {
        let tree = house.tree();
        let user = with(1, "likes tea", json!({"memory_type": "UserMemory", "valid_from": "2024-01-01"}));
        tree.add(vec![user], origin().into()).await.unwrap();
        let id = item(1, "").id;
        let updated = tree.update(&id, item(9, "likes coffee"), origin()).await.unwrap();
        assert_eq!(
            (&updated.id, updated.metadata.version, updated.metadata.memory_type()),
            (&id, 2, Some(MemoryType::User))
        );
        assert_eq!(updated.metadata.history[0].memory, "likes tea");
        assert_eq!(updated.metadata.extra["valid_from"], "2024-01-01");
        assert_eq!(tree.get(&id).await.unwrap(), updated);
        assert_eq!(texts(&tree.working_memory().await.unwrap()), ["likes coffee"]);
        assert_eq!(hits(&tree, "coffee", 5).await.len(), 1);
        let copy = tree.working_memory().await.unwrap().remove(0).id;
        let again = tree.update(&copy, item(9, "likes cocoa"), origin()).await.unwrap();
        assert_eq!((&again.id, again.metadata.version), (&id, 3), "who changes a copy changes its original");
        assert!(matches!(tree.update(&item(7, "").id, item(7, "x"), origin()).await, Err(MemoryError::NotFound(_))));
        assert!(matches!(tree.update(&id, item(1, " "), origin()).await, Err(MemoryError::Invalid(_))));
    }
}

#[tokio::test]
async fn a_removed_memory_comes_back_with_its_edges() {
    for house in House::all() {
        let tree = house.tree();
        let id = |number| item(number, "").id;
        let items = vec![item(1, "likes tea"), item(2, "plays chess"), item(3, "has a cat"), item(4, "reads a lot")];
        tree.add(items, origin().into()).await.unwrap();
        let edge = |source, target, kind: &str| Edge { source: id(source), target: id(target), kind: kind.to_owned() };
        let edges = vec![edge(1, 2, "CAUSE"), edge(1, 4, "CONDITION"), edge(3, 1, "RELATE")];
        tree.add_edges(edges.clone(), origin()).await.unwrap();
        let there = async || house.record.all_edges(&super::scope()).await.unwrap();

        tree.delete(&[id(1), id(3)], origin()).await.unwrap();
        assert_eq!(there().await, []);
        tree.undo(&id(1), origin()).await.unwrap();
        assert_eq!(there().await, edges[..2], "the other end of the third is gone");
        tree.undo(&id(3), origin()).await.unwrap();
        assert_eq!(there().await, edges, "it comes back with that end");

        tree.delete(&[id(1)], origin()).await.unwrap();
        tree.delete(&[id(4)], origin()).await.unwrap();
        tree.undo(&id(1), origin()).await.unwrap();
        assert_eq!(there().await, [edges[0].clone(), edges[2].clone()]);
        tree.undo(&id(4), origin()).await.unwrap();
        assert_eq!(there().await.len(), 2, "when it was removed, nothing was at it any more");
    }
}

#[tokio::test]
async fn undo_goes_back_and_forth_and_brings_removed_memories_back() {
    for house in House::all() {
        let tree = house.tree();
        let id = item(1, "").id;
        tree.add(vec![item(1, "likes tea"), item(2, "plays chess")], origin().into()).await.unwrap();
        assert!(matches!(tree.undo(&id, origin()).await, Err(MemoryError::Invalid(_))), "there is nothing before");
        assert!(matches!(tree.undo(&item(9, "").id, origin()).await, Err(MemoryError::NotFound(_))));
        tree.update(&id, item(1, "likes coffee"), origin()).await.unwrap();
        let undone = tree.undo(&id, origin()).await.unwrap();
        assert_eq!((undone.memory.as_str(), undone.metadata.version), ("likes tea", 3));
        assert_eq!(ids(&hits(&tree, "tea", 1).await), std::slice::from_ref(&id));
        assert!(texts(&tree.working_memory().await.unwrap()).contains(&"likes tea"));
        assert_eq!(tree.undo(&id, origin()).await.unwrap().memory, "likes coffee", "undo can be undone");

        assert_eq!(tree.delete(std::slice::from_ref(&id), origin()).await.unwrap(), 1);
        assert!(tree.get(&id).await.is_err());
        let back = tree.undo(&id, origin()).await.unwrap();
        assert_eq!((back.memory.as_str(), back.metadata.version), ("likes coffee", 5));
        let past: Vec<&str> = back.metadata.history.iter().map(|state| state.memory.as_str()).collect();
        assert_eq!(past, ["likes tea", "likes coffee", "likes tea", "likes coffee"]);
        assert_eq!(tree.get(&id).await.unwrap(), back);
        assert_eq!(ids(&hits(&tree, "coffee", 1).await), std::slice::from_ref(&id), "it has its vector again");
        let told: Vec<Option<String>> =
            tree.history(&id).await.unwrap().into_iter().map(|state| state.item.map(|item| item.memory)).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                text("likes tea"),
                text("likes coffee"),
                text("likes tea"),
                text("likes coffee"),
                None,
                text("likes coffee")
            ]
        );
    }
}

#[tokio::test]
async fn a_soft_deleted_memory_is_out_of_sight_names_its_successors_and_can_come_back() {
    for house in House::all() {
        let tree = house.tree();
        tree.add(vec![item(1, "likes tea"), item(2, "likes coffee")], origin().into()).await.unwrap();
        let (old, new) = (item(1, "").id, item(2, "").id);
        let unknown = item(9, "").id;
        let n_marked = tree.soft_delete(&[old.clone(), unknown], std::slice::from_ref(&new), origin()).await.unwrap();
        assert_eq!(n_marked, 1);
        assert_eq!(tree.soft_delete(std::slice::from_ref(&old), &[], origin()).await.unwrap(), 0, "it is already");
        let marked = tree.get(&old).await.unwrap();
        assert_eq!((marked.metadata.status, marked.metadata.evolve_to), (Some(Status::Deleted), vec![new.to_string()]));
        assert_eq!(ids(&hits(&tree, "likes", 5).await), std::slice::from_ref(&new));
        let page = tree.graph(&Filter::Everything, Paging::ALL).await.unwrap();
        assert!(page.graph.nodes.iter().all(|node| node.id != old) && page.n_nodes == 2);
        assert_eq!(tree.sizes().await.unwrap()[&MemoryType::LongTerm], 1);
        assert_eq!(texts(&tree.working_memory().await.unwrap()), ["likes coffee"]);
        assert_eq!(tree.undo(&old, origin()).await.unwrap().metadata.status, Some(Status::Activated));
        assert_eq!(hits(&tree, "likes", 5).await.len(), 2);
    }
}

#[tokio::test]
async fn deletions_take_what_is_meant_with_its_copies_and_nothing_else() {
    for house in House::all() {
        let tree = house.tree();
        let of = |number: u32, text: &str, session: &str| with(number, text, json!({"session_id": session}));
        let items = vec![of(1, "dog one", "a"), of(2, "dog two", "a"), of(3, "dog three", "b"), of(4, "dog four", "b")];
        tree.add(items, origin().into()).await.unwrap();
        assert_eq!(tree.delete(&[item(1, "").id, item(9, "").id], origin()).await.unwrap(), 1);
        assert_eq!(tree.get_all().await.unwrap().len(), 6, "the copy went along");
        assert!(matches!(tree.delete_by_filter(&Filter::Everything, origin()).await, Err(MemoryError::Invalid(_))));
        let in_a = Filter::equals("session_id", "a").and(Filter::equals("memory_type", "LongTermMemory"));
        assert_eq!(tree.delete_by_filter(&in_a, origin()).await.unwrap(), 1);
        assert_eq!(tree.delete_by_filter(&in_a, origin()).await.unwrap(), 0);
        assert_eq!(on_shelf(&tree, MemoryType::LongTerm).await, ["dog three", "dog four"]);
        assert_eq!(on_shelf(&tree, MemoryType::Working).await, ["dog three", "dog four"]);
        assert_eq!(tree.delete_by_files(&[], origin()).await.unwrap(), 0);
        assert_eq!(tree.delete_all(origin()).await.unwrap(), 4);
        assert!(tree.get_all().await.unwrap().is_empty() && hits(&tree, "dog", 5).await.is_empty());
        tree.add(vec![item(5, "dog five")], origin().into()).await.unwrap();
        assert_eq!(hits(&tree, "dog", 5).await.len(), 1, "the tree stays usable");
    }
}

#[tokio::test]
async fn a_graph_is_exported_by_pages_with_totals_and_edges_need_both_ends() {
    for house in House::all() {
        let tree = house.tree();
        let at = |number: u32, text: &str| {
            with(number, text, json!({"created_at": format!("2024-01-0{number}"), "memory_type": "OuterMemory"}))
        };
        tree.add(vec![at(1, "one"), at(2, "two"), at(3, "three")], origin().into()).await.unwrap();
        let edge =
            |from: u32, to: u32| Edge { source: item(from, "").id, target: item(to, "").id, kind: "RELATE".to_owned() };
        tree.add_edges(vec![edge(1, 2), edge(3, 2)], origin()).await.unwrap();
        assert!(tree.add_edges(vec![edge(1, 3), edge(1, 9)], origin()).await.is_err());
        let nameless = Edge { kind: " ".to_owned(), ..edge(1, 3) };
        assert!(matches!(tree.add_edges(vec![nameless], origin()).await, Err(MemoryError::Invalid(_))));
        let everything = Filter::Everything;
        let page = |offset: usize| tree.graph(&everything, Paging { offset, limit: 2 });
        let [first, second] = [page(0).await.unwrap(), page(2).await.unwrap()];
        assert_eq!(texts(&first.graph.nodes), ["three", "two"]);
        assert_eq!((first.graph.edges, second.graph.edges), (vec![edge(3, 2)], vec![edge(1, 2)]));
        assert_eq!((first.n_nodes, second.n_nodes, second.n_edges), (3, 3, 2));
    }
}

#[tokio::test]
async fn a_query_that_nothing_fits_returns_nothing() {
    let house = House::in_memory();
    let tree = house.tree();
    assert!(hits(&tree, "anything", 5).await.is_empty(), "an empty cube");
    tree.add(vec![item(1, "likes tea")], origin().into()).await.unwrap();
    let request = SearchRequest { filter: Filter::equals("key", "no such"), ..SearchRequest::new("tea", 5) };
    assert!(tree.search(&request).await.unwrap().hits.is_empty());
    assert_eq!(hits(&tree, "🙂", 5).await.len(), 1);
    assert_eq!(hits(&tree, &"tea ".repeat(12_000), 5).await.len(), 1);
    assert!(hits(&tree, "tea", 0).await.is_empty());
}
