//! Which cubes a user may mean without naming one, which it may make, and what is open where everything is.

use mos::keys::NewKey;
use mos::product::{
    AddRequest, App, Caller, CreateCubeRequest, DeleteMemoryRequest, GetMemoryDashboardRequest, ProductOptions,
    Request, SearchRequest,
};
use mos::{Error, NewCube};
use mos_core::{Access, CubeId, UserId, UserRole};
use serde_json::json;

use super::{app, failure, given, tell};
use crate::{ann, bob, open};

fn named(cube: &str) -> Option<Vec<String>> {
    Some(vec![cube.to_owned()])
}

fn to(user: &str, cube: Option<&str>) -> AddRequest {
    AddRequest { writable_cube_ids: cube.and_then(named), ..given(user, json!("the dog barks")) }
}

fn about_cats(user: &str, cube: Option<&str>) -> SearchRequest {
    let search = SearchRequest::new("cat".to_owned(), user.to_owned());
    SearchRequest { readable_cube_ids: cube.and_then(named), relativity: 0.0, ..search }
}

#[tokio::test]
async fn what_was_open_to_everybody_is_closed_again_when_the_program_ends() {
    let folder = tempfile::tempdir().unwrap();
    let options = ProductOptions { is_open: true, ..ProductOptions::default() };
    let opened = App::new(open(folder.path()).await, options);
    let product = opened.product();
    tell(&product, "ann", "the cat sleeps").await;
    product.add(to("bob", Some("ann"))).await.expect("bob writes to ann's cube");
    let found = product.search(about_cats("bob", Some("ann"))).await.unwrap().data;
    assert!(found.to_string().contains("the cat sleeps"), "{found}");
    let eve = opened.product_as(Caller::user("eve"));
    eve.search(about_cats("eve", Some("ann"))).await.expect("who was never seen, too");
    let shares = opened.mos().cube_shares(&ann(), &"ann".into()).await.unwrap();
    assert_eq!(shares.len(), 1, "nobody was given a right: {shares:?}");
    opened.stop().await;
    drop((product, eve, opened));

    let closed = App::new(open(folder.path()).await, ProductOptions::default());
    assert_eq!(failure(closed.product().search(about_cats("bob", Some("ann"))).await).0, 403);
    let error = closed.mos().get_all(&bob(), Some(&"ann".into())).await.unwrap_err();
    assert!(matches!(error, Error::NoAccess { .. }), "{error}");
}

#[tokio::test]
async fn what_a_user_wrote_to_an_open_cube_of_somebody_else_is_shown_and_removed_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let options = ProductOptions { is_open: true, ..ProductOptions::default() };
    let opened = App::new(open(folder.path()).await, options);
    let product = opened.product();
    tell(&product, "ann", "the cat sleeps").await;
    product.add(to("bob", Some("ann"))).await.unwrap();
    let shown = async || {
        let request = GetMemoryDashboardRequest::from_json(&json!({"user_id": "bob"})).unwrap();
        let lists = product.get_memory_dashboard(request).await.unwrap().data.lists.text_mem;
        serde_json::to_string(&lists).unwrap()
    };
    let before = shown().await;
    assert!(before.contains("the dog barks") && !before.contains("the cat sleeps"), "{before}");
    let of_bob = DeleteMemoryRequest { user_id: Some("bob".to_owned()), ..DeleteMemoryRequest::new() };
    product.delete_memory(of_bob).await.unwrap();
    let after = shown().await;
    assert!(!after.contains("the dog barks"), "{after}");
    let found = product.search(about_cats("ann", None)).await.unwrap().data.to_string();
    assert!(found.contains("the cat sleeps") && !found.contains("the dog barks"), "{found}");
}

#[tokio::test]
async fn who_may_read_a_cube_is_no_worse_off_than_strangers_where_all_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let options = ProductOptions { is_open: true, ..ProductOptions::default() };
    let opened = App::new(open(folder.path()).await, options);
    let product = opened.product();
    tell(&product, "ann", "the cat sleeps").await;
    opened.mos().create_user("bob", None).await.unwrap();
    opened.mos().share_cube_with(&ann(), &"ann".into(), &bob(), Access::Reader).await.unwrap();
    product.add(to("eve", Some("ann"))).await.expect("a stranger writes");
    product.add(to("bob", Some("ann"))).await.expect("and so does bob");
}

#[tokio::test]
async fn what_names_no_cube_goes_to_none_that_somebody_else_gave_the_users_name() {
    let (_folder, app) = app().await;
    let (mos, product, usual) = (app.mos(), app.product(), CubeId::from("bob"));
    mos.create_user("ann", None).await.unwrap();
    mos.create_cube(&ann(), NewCube::new(usual.clone())).await.unwrap();
    mos.create_user("bob", None).await.unwrap();
    mos.share_cube_with(&ann(), &usual, &bob(), Access::Member).await.unwrap();
    assert_eq!(failure(product.add(to("bob", None)).await).0, 403, "ann would read what bob tells");
    assert_eq!(failure(product.search(about_cats("bob", None)).await).0, 403, "and have bob read what ann wrote");
    assert!(mos.get_all(&ann(), Some(&usual)).await.unwrap().text_mem[0].memories.is_empty());
    product.add(to("bob", Some("bob"))).await.expect("who names it means it");
    product.search(about_cats("bob", Some("bob"))).await.expect("who names it means it");
    product.add(to("ann", None)).await.expect("the usual cube of others is as it was");
}

#[tokio::test]
async fn a_cube_of_a_users_name_is_that_users_to_make() {
    let (_folder, app) = app().await;
    for user in ["ann", "bob"] {
        app.mos().create_user(user, None).await.unwrap();
    }
    let as_ann = app.product_as(Caller::user(ann()));
    let (status, told) = failure(as_ann.add(to("ann", Some("bob"))).await);
    assert_eq!((status, told.contains("that user's to make")), (403, true), "{told}");
    let made =
        CreateCubeRequest { cube_id: Some("bob".to_owned()), ..CreateCubeRequest::new("x".into(), "ann".into()) };
    assert_eq!(failure(as_ann.create_cube(made.clone()).await).0, 403);
    assert_eq!(as_ann.check_cube_name(&"bob".into()).await.unwrap_err().status, 403);
    for free in ["ann", "nobody"] {
        as_ann.check_cube_name(&free.into()).await.expect("the own name, and one that no user has");
    }
    assert!(app.mos().list_cubes(&ann()).await.unwrap().is_empty(), "nothing was made");
    app.product_as(Caller::user(bob())).add(to("bob", None)).await.expect("bob makes it");
    let other =
        CreateCubeRequest { cube_id: Some("ann".to_owned()), ..CreateCubeRequest::new("x".into(), "bob".into()) };
    app.product().create_cube(other).await.expect("a program is trusted with names");
}

#[tokio::test]
async fn a_user_whose_cube_somebody_else_has_is_not_made() {
    let (_folder, app) = app().await;
    let mos = app.mos();
    mos.create_user("ann", None).await.unwrap();
    app.product_as(Caller::user(ann())).add(to("ann", Some("carl"))).await.expect("no user has the name");
    let (root, carl) = (UserId::from("root"), UserId::from("carl"));
    let refused = [
        mos.create_user_as(&root, carl.clone(), None, UserRole::User).await.unwrap_err(),
        mos.create_key_as(&root, NewKey::user(carl.clone())).await.unwrap_err(),
    ];
    for error in refused {
        assert!(error.to_string().contains("belongs to `ann`"), "{error}");
    }
    assert!(!mos.has_user(&carl).await.unwrap());
    mos.delete_cube(&ann(), &"carl".into()).await.unwrap();
    mos.create_user_as(&root, carl, None, UserRole::User).await.expect("the name is free now");
}
