use mos::product::{Caller, DeletionStatus, Product, Scope};
use mos_core::CubeId;
use serde_json::{Value, json};

use super::{api, ask, keep, listed, note};
use crate::{ann, bob};

/// The status of a deletion.
async fn delete(product: &Product, body: Value) -> DeletionStatus {
    let reply = product.delete_memory(ask(&body)).await.unwrap();
    assert_eq!(reply.code, 200);
    reply.data.status
}

fn outer(extra: Value) -> Value {
    let mut metadata = json!({"memory_type": "OuterMemory"});
    metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    metadata
}

#[tokio::test]
async fn memories_go_by_their_ids_from_the_cubes_that_are_named() {
    let (_folder, app) = api().await;
    let fact = json!({"memory_type": "UserMemory"});
    let stored = keep(&app, "ann", &[("has a dog", fact.clone()), ("likes tea", fact.clone())]).await;
    let noted = note(&app, "buy milk").await;
    let of_bob = keep(&app, "bob", &[("has a cat", fact)]).await;
    let all = json!([stored[0], noted, of_bob[0], "00000000-0000-4000-8000-00000000ffff", "no uuid"]);
    let as_ann = app.product_as(Caller::user("ann"));
    let body = json!({"writable_cube_ids": ["ann"], "memory_ids": all});
    assert_eq!(delete(&as_ann, body).await, DeletionStatus::Success);
    let left = listed(&app, "ann").await;
    assert_eq!(left.len(), 2, "the other memory and its working copy");
    assert!(left.contains(&stored[1]) && !left.contains(&stored[0]));
    assert_eq!(listed(&app, "notes").await, std::slice::from_ref(&noted), "its cube was not named");
    assert_eq!(
        delete(&as_ann, json!({"memory_ids": all})).await,
        DeletionStatus::Success,
        "unknown ids are no failure"
    );
    assert!(listed(&app, "notes").await.is_empty(), "without cubes they are looked for");
    assert!(listed(&app, "bob").await.contains(&of_bob[0]), "never in cubes of others");
    let refused = as_ann.delete_memory(ask(&json!({"writable_cube_ids": ["bob"], "memory_ids": all}))).await;
    assert_eq!(refused.unwrap_err().status, 403);
    assert_eq!(delete(&app.product(), json!({"memory_ids": [of_bob[0]]})).await, DeletionStatus::Success);
    assert!(listed(&app, "bob").await.is_empty(), "a program deletes for everybody");
}

#[tokio::test]
async fn conditions_delete_what_meets_all_of_them_and_nothing_of_others() {
    let (_folder, app) = api().await;
    app.mos().share_cube_with_user(&ann(), &CubeId::from("ann"), &bob()).await.unwrap();
    let of = |user: &str, session: &str| outer(json!({"user_id": user, "session_id": session, "key": session}));
    let stored = keep(
        &app,
        "ann",
        &[("has a dog", of("ann", "s1")), ("likes tea", of("ann", "s2")), ("has a cat", of("bob", "s1"))],
    )
    .await;
    let of_bob = keep(&app, "bob", &[("sings", of("bob", "s1"))]).await;
    let program = app.product();
    let contradicting = json!({"user_id": "ann", "filter": {"or": [{"user_id": "bob"}, {"key": "s1"}]}});
    assert_eq!(delete(&program, contradicting).await, DeletionStatus::Failure);
    let differing = json!({"user_id": "ann", "session_id": "s1", "conversation_id": "s2"});
    assert_eq!(program.delete_memory(ask(&differing)).await.unwrap_err().status, 422);
    assert_eq!(listed(&app, "ann").await.len(), 3, "nothing has gone so far");
    let either = json!({"user_id": "ann", "conversation_id": "s1", "filter": {"or": [{"key": "s1"}, {"key": "s2"}]}});
    assert_eq!(delete(&program, either).await, DeletionStatus::Success);
    let left = listed(&app, "ann").await;
    assert!(left.len() == 2 && left.contains(&stored[1]) && left.contains(&stored[2]), "{left:?}");
    let named = json!({"writable_cube_ids": ["ann"], "filter": {"session_id": "s1"}});
    assert_eq!(delete(&program, named).await, DeletionStatus::Success);
    assert_eq!(listed(&app, "ann").await, [stored[1].clone()]);
    assert_eq!(listed(&app, "bob").await, of_bob, "its cube was not named");
    assert_eq!(
        delete(&app.product_as(Caller::user("bob")), json!({"session_id": "s1"})).await,
        DeletionStatus::Success
    );
    assert!(listed(&app, "bob").await.is_empty());
}

#[tokio::test]
async fn what_does_not_say_what_is_meant_deletes_nothing() {
    let (_folder, app) = api().await;
    let stored = keep(&app, "ann", &[("has a dog", outer(json!({"user_id": "ann"})))]).await;
    for body in [
        json!({}),
        json!({"writable_cube_ids": ["ann"]}),
        json!({"writable_cube_ids": ["ann"], "filter": {}}),
        json!({"writable_cube_ids": ["ann"], "filter": {"or": []}}),
        json!({"writable_cube_ids": ["ann"], "filter": {"user_id": {"near": "ann"}}}),
        json!({"memory_ids": stored, "file_ids": ["f"]}),
        json!({"memory_ids": stored, "user_id": "ann"}),
        // Conditions of a program that names neither a user nor cubes.
        json!({"filter": {"user_id": "ann"}}),
    ] {
        let reply = app.product().delete_memory(ask(&body)).await.unwrap();
        assert_eq!(reply.data.status, DeletionStatus::Failure, "{body}");
        assert_eq!(serde_json::to_value(&reply).unwrap()["data"], json!({"status": "failure"}));
    }
    let reader = Caller { scopes: [Scope::Read].into(), ..Caller::user("ann") };
    let refused = app.product_as(reader).delete_memory(ask(&json!({"memory_ids": stored}))).await;
    assert_eq!(refused.unwrap_err().status, 403);
    assert_eq!(listed(&app, "ann").await, stored);
}

#[tokio::test]
async fn memories_of_files_go_with_them() {
    let (_folder, app) = api().await;
    let of_files = |files: Value| outer(json!({"file_ids": files}));
    let stored = keep(
        &app,
        "ann",
        &[
            ("chapter one", of_files(json!(["f1"]))),
            ("both", of_files(json!(["f1", "f2"]))),
            ("epilogue", of_files(json!(["f3"]))),
        ],
    )
    .await;
    let as_bob = app.product_as(Caller::user("bob"));
    assert_eq!(delete(&as_bob, json!({"file_ids": ["f1", "f2", "f3"]})).await, DeletionStatus::Success);
    assert_eq!(listed(&app, "ann").await.len(), 3);
    let as_ann = app.product_as(Caller::user("ann"));
    assert_eq!(delete(&as_ann, json!({"file_ids": ["f2", "f1"]})).await, DeletionStatus::Success);
    assert_eq!(listed(&app, "ann").await, [stored[2].clone()]);
}

#[tokio::test]
async fn a_program_names_the_cubes_of_files_as_two_users_can_have_one_by_the_same_name() {
    let (_folder, app) = api().await;
    let of_file = outer(json!({"file_ids": ["resume.pdf"]}));
    let of_ann = keep(&app, "ann", &[("worked in Bonn", of_file.clone())]).await;
    let of_bob = keep(&app, "bob", &[("worked in Rome", of_file)]).await;
    let reply = app.product().delete_memory(ask(&json!({"file_ids": ["resume.pdf"]}))).await.unwrap();
    assert_eq!(reply.data.status, DeletionStatus::Failure);
    assert!(reply.message.contains("writable_cube_ids"), "{}", reply.message);
    assert_eq!((listed(&app, "ann").await, listed(&app, "bob").await), (of_ann, of_bob.clone()));
    let named = json!({"writable_cube_ids": ["ann"], "file_ids": ["resume.pdf"]});
    assert_eq!(delete(&app.product(), named).await, DeletionStatus::Success);
    assert_eq!((listed(&app, "ann").await, listed(&app, "bob").await), (Vec::new(), of_bob));
}

#[tokio::test]
async fn working_memories_that_a_memory_names_go_with_it_when_wanted() {
    let (_folder, app) = api().await;
    let working = keep(&app, "ann", &[("on the desk", json!({"memory_type": "WorkingMemory"}))]).await.remove(0);
    let bound = |text| (text, outer(json!({"background": format!("[working_binding:{working}] told at work")})));
    let stored = keep(&app, "ann", &[bound("has a desk"), bound("has a chair")]).await;
    let as_ann = app.product_as(Caller::user("ann"));
    assert_eq!(delete(&as_ann, json!({"memory_ids": [stored[0]]})).await, DeletionStatus::Success);
    assert!(listed(&app, "ann").await.contains(&working));
    let body = json!({"memory_ids": [stored[1]], "auto_cleanup_working": true});
    assert_eq!(delete(&as_ann, body).await, DeletionStatus::Success);
    assert!(listed(&app, "ann").await.is_empty());
}
