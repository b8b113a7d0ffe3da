//! Searching from where no handler runs.

use mos::NewCube;
use mos::scheduler::SearchArgs;
use mos_core::{Access, UserId};
use serde_json::json;

use super::{builder, furnish, notes, tell};
use crate::{ann, bob};

#[tokio::test]
async fn the_schedulers_retriever_asks_for_the_right_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), json!({})).build().await.unwrap();
    furnish(&mos).await;
    mos.create_cube(&ann(), NewCube::new("private")).await.unwrap();
    mos.share_cube_with(&ann(), &notes(), &bob(), Access::Reader).await.unwrap();
    let id = mos.add(tell("my dog is called Max")).await.unwrap().remove(0);
    let retriever = mos.scheduler().unwrap().retriever();
    for user in [ann(), bob()] {
        let args = SearchArgs::default();
        let found = retriever.search("what is the dog called?", &user, &notes(), 3, None, args).await.unwrap();
        assert_eq!(found.hits[0].item.id, id, "{user}");
    }
    let refused = retriever.search("dog", &bob(), &"private".into(), 3, None, SearchArgs::default()).await.unwrap_err();
    assert!(refused.to_string().contains("'private'"), "{refused}");
    mos.stop().await;
}

#[tokio::test]
async fn the_schedulers_retriever_finds_no_texts_while_textual_memory_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let mos = builder(folder.path(), json!({})).build().await.unwrap();
    furnish(&mos).await;
    mos.add(tell("my dog is called Max")).await.unwrap();
    mos.stop().await;
    drop(mos);
    let mos = builder(folder.path(), json!({"enable_textual_memory": false})).build().await.unwrap();
    let retriever = mos.scheduler().unwrap().retriever();
    let search = async |user: UserId| retriever.search("dog", &user, &notes(), 3, None, SearchArgs::default()).await;
    let found = search(ann()).await.unwrap();
    assert!(found.hits.is_empty() && found.notes[0].contains("enable_textual_memory"), "{found:?}");
    assert!(search(bob()).await.is_err(), "rights are looked at first");
    mos.stop().await;
}
