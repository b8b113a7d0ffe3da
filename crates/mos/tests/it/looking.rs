//! Looking at a cube: pages, neighbours, preferences, caches.

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::{Add, Error, Mos, NewCube};
use mos_core::graph::kinds::RELATE;
use mos_core::{CubeId, Edge, Filter, MemoryError, MemoryId, Origin, Paging};
use serde_json::json;

use crate::{ann, bob, house};

/// A tree of three memories in a row, oldest first.
async fn row(mos: &Mos, cube: &CubeId) -> Vec<MemoryId> {
    let config = json!({
        "user_id": "ann", "text_mem": {"backend": "tree_text", "config": {}},
        "pref_mem": {"backend": "pref_text", "config": {"memory_filename": "preference_textual_memories.json"}},
    });
    let config = Some(GeneralMemCubeConfig::from_json(&config).unwrap());
    mos.create_cube(&ann(), NewCube { config, ..NewCube::new(cube.clone()) }).await.unwrap();
    let mut ids = Vec::new();
    for text in ["the kettle boils", "tea is poured", "guests arrive"] {
        ids.extend(mos.add(Add::text(text).user("ann").cube(cube.clone())).await.unwrap());
    }
    let handle = mos.cube(&ann(), cube).await.unwrap();
    let edges =
        ids.windows(2).map(|pair| Edge { source: pair[0].clone(), target: pair[1].clone(), kind: RELATE.to_owned() });
    let tree = handle.text_mem().as_tree().unwrap();
    tree.add_edges(edges.collect(), Origin::new("ann", "test")).await.unwrap();
    ids
}

fn no_copies() -> Filter {
    Filter::Not(Box::new(Filter::equals("memory_type", "WorkingMemory")))
}

#[tokio::test]
async fn a_page_tells_how_much_there_is_and_neighbours_are_bounded() {
    let (_folder, mos) = house().await;
    let cube = CubeId::from("tree");
    let ids = row(&mos, &cube).await;
    let page = mos.memory_page(&ann(), &cube, &no_copies(), Paging { offset: 1, limit: 1 }).await.unwrap();
    assert_eq!((page.total, page.entries.len()), (3, 1));
    let whole = mos.memory_page(&ann(), &cube, &no_copies(), Paging::ALL).await.unwrap();
    assert_eq!(mos.edges_among(&ann(), &cube, &ids).await.unwrap().len(), 2);
    assert_eq!(mos.edges_among(&ann(), &cube, &ids[1..]).await.unwrap().len(), 1, "both ends are meant");
    assert_eq!((whole.total, whole.entries.len()), (3, 3));

    let around = mos.neighbourhood(&ann(), &cube, &ids[0], 1, 10).await.unwrap();
    assert_eq!((&around.center.id, around.is_cut), (&ids[0], false));
    assert_eq!(around.around.nodes.iter().map(|item| &item.id).collect::<Vec<_>>(), [&ids[1]]);
    let farther = mos.neighbourhood(&ann(), &cube, &ids[0], 2, 10).await.unwrap();
    assert_eq!(farther.around.nodes.len(), 2);
    let cut = mos.neighbourhood(&ann(), &cube, &ids[1], 1, 1).await.unwrap();
    assert_eq!((cut.around.nodes.len(), cut.is_cut), (1, true));
    let unknown = mos.neighbourhood(&ann(), &cube, &MemoryId::from("nothing"), 1, 1).await.unwrap_err();
    assert!(matches!(unknown, Error::Memory(MemoryError::NotFound(_))), "{unknown}");
}

#[tokio::test]
async fn a_cube_without_a_graph_is_listed_newest_first() {
    let (_folder, mos) = house().await;
    let cube = CubeId::from("notes");
    for text in ["first", "second", "third"] {
        mos.add(Add::text(text).user("ann").cube(cube.clone())).await.unwrap();
    }
    let page = mos.memory_page(&ann(), &cube, &no_copies(), Paging { offset: 0, limit: 2 }).await.unwrap();
    let texts: Vec<&str> = page.entries.iter().map(|item| item.memory.as_str()).collect();
    assert_eq!((texts, page.total), (vec!["third", "second"], 3));
    assert_eq!(mos.preference_page(&ann(), &cube, 1, 10).await.unwrap(), None, "it keeps no preferences");
}

#[tokio::test]
async fn nobody_looks_at_what_is_not_theirs() {
    let (_folder, mos) = house().await;
    let cube = CubeId::from("tree");
    let ids = row(&mos, &cube).await;
    assert_eq!(mos.preference_page(&ann(), &cube, 1, 10).await.unwrap(), Some((Vec::new(), 0)));
    assert!(mos.kept_caches(&ann(), &cube).await.unwrap().caches.is_empty());
    let refusals = [
        mos.memory_page(&bob(), &cube, &Filter::Everything, Paging::ALL).await.map(drop),
        mos.edges_among(&bob(), &cube, &ids).await.map(drop),
        mos.neighbourhood(&bob(), &cube, &ids[0], 1, 1).await.map(drop),
        mos.preference_page(&bob(), &cube, 1, 1).await.map(drop),
        mos.kept_caches(&bob(), &cube).await.map(drop),
        mos.cube_access(&bob(), &cube).await.map(drop),
    ];
    for (at, refusal) in refusals.into_iter().enumerate() {
        assert!(matches!(refusal, Err(Error::NoAccess { .. })), "{at}: {refusal:?}");
    }
}
