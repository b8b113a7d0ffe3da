//! Making cubes, and asking which there are.

use std::collections::BTreeSet;

use mos::product::{
    Caller, CreateCubeRequest, ExistMemCubeIdRequest, GetUserNamesByMemoryIdsRequest, RegisterCubeRequest, Request,
};
use mos_core::CubeId;
use serde_json::json;

use super::{app, failure, faults, tell};
use crate::ann;

fn new_cube(owner: &str, id: Option<&str>) -> CreateCubeRequest {
    CreateCubeRequest {
        cube_id: id.map(str::to_owned),
        ..CreateCubeRequest::new("Recipes".to_owned(), owner.to_owned())
    }
}

#[tokio::test]
async fn a_cube_is_made_once_for_an_owner_who_is_known() {
    let (_folder, app) = app().await;
    let product = app.product();
    assert_eq!(failure(product.create_cube(new_cube("ann", Some("recipes"))).await).0, 400, "nobody knows ann");
    app.mos().ensure_user(&ann()).await.unwrap();
    let made = product.create_cube(new_cube("ann", Some("recipes"))).await.unwrap();
    assert_eq!(made.data, json!({"cube_id": "recipes", "cube_name": "Recipes", "owner_id": "ann"}));
    assert_eq!(failure(product.create_cube(new_cube("ann", Some("recipes"))).await).0, 409);
    let other = product.create_cube(new_cube("ann", None)).await.unwrap();
    assert_eq!(other.data["cube_id"].as_str().unwrap().len(), 36, "a new id");
    let bob = app.product_as(Caller::user("bob"));
    assert_eq!(failure(bob.create_cube(new_cube("ann", None)).await).0, 403);
    let told = faults(CreateCubeRequest::from_json(&json!({"cube_name": 1})));
    let expected = [("string_type", "cube_name"), ("missing", "owner_id")];
    assert_eq!(told, expected.map(|(kind, field)| (kind.to_owned(), json!(["body", field]))));
}

#[tokio::test]
async fn registering_says_what_it_was_told() {
    let (_folder, app) = app().await;
    let product = app.product();
    let request = RegisterCubeRequest::new("a/path".to_owned());
    let reply = product.register_cube(request.clone()).await.unwrap();
    assert_eq!(reply.data, json!({"cube_id": "a/path", "cube_name_or_path": "a/path"}));
    let named = RegisterCubeRequest { mem_cube_id: Some("id".to_owned()), ..request.clone() };
    assert_eq!(product.register_cube(named).await.unwrap().data["cube_id"], "id");
    let unknown = RegisterCubeRequest { user_id: Some("ann".to_owned()), ..request };
    assert_eq!(failure(product.register_cube(unknown).await).0, 400);
}

#[tokio::test]
async fn callers_see_their_own_cubes_and_memories_only() {
    let (_folder, app) = app().await;
    let product = app.product();
    let tea = tell(&product, "ann", "Ann likes tea.").await;
    let coffee = tell(&product, "bob", "Bob likes coffee.").await;
    let bob = app.product_as(Caller::user("bob"));
    let exists = |id: &str| ExistMemCubeIdRequest::new(id.to_owned());
    let reply = product.exist_mem_cube_id(exists("ann")).await.unwrap();
    assert_eq!((reply.message.as_str(), reply.data), ("Successfully", json!({"ann": true})));
    assert_eq!(product.exist_mem_cube_id(exists("nowhere")).await.unwrap().data, json!({"nowhere": false}));
    assert_eq!(bob.exist_mem_cube_id(exists("ann")).await.unwrap().data, json!({"ann": false}));
    assert_eq!(bob.exist_mem_cube_id(exists("bob")).await.unwrap().data, json!({"bob": true}));
    let ids = GetUserNamesByMemoryIdsRequest::new(vec![tea.clone(), coffee.clone(), "none".to_owned()]);
    let reply = product.get_user_names_by_memory_ids(ids.clone()).await.unwrap();
    assert_eq!(reply.message, "Successfully");
    assert_eq!((&reply.data[&tea], &reply.data[&coffee]), (&json!("ann"), &json!("bob")));
    assert_eq!(reply.data["none"], json!(null));
    let reply = bob.get_user_names_by_memory_ids(ids).await.unwrap();
    assert_eq!((&reply.data[&tea], &reply.data[&coffee]), (&json!(null), &json!("bob")));
    let mut limited = Caller::user("bob");
    limited.cubes = Some(BTreeSet::from([CubeId::from("other")]));
    let limited = app.product_as(limited).exist_mem_cube_id(exists("bob")).await.unwrap();
    assert_eq!(limited.data, json!({"bob": false}), "a key for some cubes sees these only");
    let told = faults(GetUserNamesByMemoryIdsRequest::from_json(&json!({"memory_ids": [1]})));
    assert_eq!(told, [("string_type".to_owned(), json!(["body", "memory_ids", 0]))]);
}
