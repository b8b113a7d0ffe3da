use mos::product::{Caller, DeletionStatus};
use serde_json::json;

use super::{api, ask, keep, listed};

#[tokio::test]
async fn a_cube_that_was_deleted_under_a_name_comes_back() {
    let (_folder, app) = api().await;
    let kinds = [("has a dog", json!({"memory_type": "UserMemory"})), ("cooks", json!({"memory_type": "SkillMemory"}))];
    let stored = keep(&app, "ann", &kinds).await;
    let of_bob = keep(&app, "bob", &[("has a cat", json!({"memory_type": "OuterMemory"}))]).await;
    let before = app.product().get_memory(ask(&json!({"mem_cube_id": "ann"}))).await.unwrap().data;
    let as_ann = app.product_as(Caller::user("ann"));
    let body = json!({"mem_cube_id": "ann", "record_id": "r1"});
    let reply = as_ann.delete_memory_by_record_id(ask(&body)).await.unwrap();
    assert_eq!((reply.message.as_str(), reply.data.status), ("Called Successfully", DeletionStatus::Success));
    let none = as_ann.get_memory(ask(&json!({"mem_cube_id": "ann"}))).await.unwrap().data;
    assert_eq!((none.text_mem[0].total_nodes, none.skill_mem[0].total_nodes), (0, 0));
    let marked = as_ann.get_memory_by_id(&stored[0]).await.unwrap().data.unwrap();
    assert_eq!(
        (&marked["metadata"]["status"], &marked["metadata"]["delete_record_id"]),
        (&json!("deleted"), &json!("r1"))
    );
    assert!(marked["metadata"]["delete_time"].is_string());
    assert_eq!(listed(&app, "bob").await, of_bob);
    let recover = |record: &str| json!({"mem_cube_id": "ann", "delete_record_id": record});
    as_ann.recover_memory_by_record_id(ask(&recover("another"))).await.unwrap();
    assert!(listed(&app, "ann").await.is_empty(), "another name brings nothing back");
    let reply = as_ann.recover_memory_by_record_id(ask(&recover("r1"))).await.unwrap();
    assert_eq!((reply.message.as_str(), reply.data.status), ("Called Successfully", DeletionStatus::Success));
    let after = as_ann.get_memory(ask(&json!({"mem_cube_id": "ann"}))).await.unwrap().data;
    let totals = |lists: &mos::product::MemoryLists| (lists.text_mem[0].total_nodes, lists.skill_mem[0].total_nodes);
    assert_eq!((totals(&before), totals(&after)), ((2, 1), (2, 1)));
}

#[tokio::test]
async fn only_what_was_deleted_under_a_name_is_removed_for_good() {
    let (_folder, app) = api().await;
    let outer = json!({"memory_type": "OuterMemory"});
    let old = keep(&app, "ann", &[("has a dog", outer.clone())]).await.remove(0);
    let product = app.product();
    let delete = |record: &str, hard: bool| json!({"mem_cube_id": "ann", "record_id": record, "hard_delete": hard});
    product.delete_memory_by_record_id(ask(&delete("r1", false))).await.unwrap();
    let new = keep(&app, "ann", &[("likes tea", outer)]).await;
    product.delete_memory_by_record_id(ask(&delete("r2", true))).await.unwrap();
    assert!(product.get_memory_by_id(&old).await.unwrap().data.is_some(), "it was deleted under another name");
    product.delete_memory_by_record_id(ask(&delete("r1", true))).await.unwrap();
    assert!(product.get_memory_by_id(&old).await.unwrap().data.is_none());
    assert_eq!(listed(&app, "ann").await, new);
}

#[tokio::test]
async fn deletions_of_others_cubes_are_refused() {
    let (_folder, app) = api().await;
    let stored = keep(&app, "ann", &[("has a dog", json!({"memory_type": "OuterMemory"}))]).await;
    let as_bob = app.product_as(Caller::user("bob"));
    for hard in [false, true] {
        let body = json!({"mem_cube_id": "ann", "record_id": "r", "hard_delete": hard});
        assert_eq!(as_bob.delete_memory_by_record_id(ask(&body)).await.unwrap_err().status, 403);
    }
    let body = json!({"mem_cube_id": "ann", "delete_record_id": "r"});
    assert_eq!(as_bob.recover_memory_by_record_id(ask(&body)).await.unwrap_err().status, 403);
    let unnamed = json!({"mem_cube_id": "ann", "record_id": " "});
    assert_eq!(app.product().delete_memory_by_record_id(ask(&unnamed)).await.unwrap_err().status, 400);
    let absent = json!({"mem_cube_id": "no such cube", "record_id": "r"});
    let reply = app.product().delete_memory_by_record_id(ask(&absent)).await.unwrap();
    assert_eq!(serde_json::to_value(reply).unwrap()["data"], json!({"status": "success"}));
    assert_eq!(listed(&app, "ann").await, stored);
}
