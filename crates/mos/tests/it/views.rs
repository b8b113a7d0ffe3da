//! One or several cubes used as one.

use std::sync::Arc;

use mos::{Add, Chat, CubeView, Error, Mos, NewCube, Remember, Search, Settings};
use mos_core::{Access, CubeId, ReadInput, UserId};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::ModelServer;
use serde_json::json;

use crate::rights::talking;
use crate::{ann, bob, house};

fn cubes(names: &[&str]) -> Vec<CubeId> {
    names.iter().map(|name| CubeId::from(*name)).collect()
}

/// What a user reads in each cube of a view, in order.
async fn texts(view: &CubeView) -> Vec<(String, Vec<String>)> {
    let all = view.get_all().await.unwrap().text_mem.into_iter();
    all.map(|cube| (cube.cube_id.to_string(), cube.memories.into_iter().map(|item| item.memory).collect())).collect()
}

fn cube_of(name: &str, texts: &[&str]) -> (String, Vec<String>) {
    (name.to_owned(), texts.iter().map(|text| (*text).to_owned()).collect())
}

#[tokio::test]
async fn what_is_written_goes_to_every_cube_and_hits_name_theirs() {
    let (_folder, mos) = house().await;
    mos.create_cube(&ann(), NewCube::new("work")).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("other")).await.unwrap();
    let view = mos.view(&ann(), cubes(&["work", "notes", "work"])).await.unwrap();
    assert_eq!((view.cubes(), view.user()), (cubes(&["work", "notes"]).as_slice(), &ann()));
    // User and cube of the request do not count.
    let written = view.add(Add::text("a dog").user("bob").cube("other")).await.unwrap();
    let stored: Vec<(&str, usize)> =
        written.iter().map(|one| (one.cube_id.as_str(), one.stored.as_ref().unwrap().ids.len())).collect();
    assert_eq!(stored, [("work", 1), ("notes", 1)]);
    let input = ReadInput::from_value(json!([{"role": "user", "content": "My cat Tom is three years old."}]));
    let remembered = view.remember(Remember::new(input)).await.unwrap();
    assert!(remembered.iter().all(|one| one.stored.as_ref().unwrap().ids.len() == 1), "{remembered:?}");
    mos.add(Add::text("the dog of work").user("ann").cube("work")).await.unwrap();
    let all = texts(&view).await;
    assert_eq!(
        all.iter().map(|(cube, texts)| (cube.as_str(), texts.len())).collect::<Vec<_>>(),
        [("work", 3), ("notes", 2)]
    );
    let found = view.search(Search::new("dog").user("bob").cubes(cubes(&["other"]))).await.unwrap();
    let mut hits: Vec<(&str, &str)> = found
        .best()
        .into_iter()
        .map(|(cube, hit)| (cube.as_str(), hit.item.memory.as_str()))
        .filter(|(_, text)| text.contains("dog"))
        .collect();
    hits.sort_unstable();
    assert_eq!(hits, [("notes", "a dog"), ("work", "a dog"), ("work", "the dog of work")]);
    let other = mos.view(&ann(), cubes(&["other"])).await.unwrap();
    assert_eq!(texts(&other).await, [cube_of("other", &[])], "a view of one cube is that cube");
}

#[tokio::test]
async fn a_view_is_of_cubes_that_its_user_may_read() {
    let (_folder, mos) = house().await;
    mos.create_cube(&bob(), NewCube::new("bob's")).await.unwrap();
    let view = |user: UserId, names: &'static [&'static str]| {
        let mos = mos.clone();
        async move { mos.view(&user, cubes(names)).await }
    };
    assert!(matches!(view(bob(), &["bob's", "notes"]).await, Err(Error::NoAccess { .. })));
    assert!(matches!(view(bob(), &["bob's", "no such cube"]).await, Err(Error::NoAccess { .. })));
    assert!(matches!(view(bob(), &[]).await, Err(Error::Invalid(_))));
    assert!(matches!(view("nobody".into(), &["notes"]).await, Err(Error::UnknownUser(_))));
    let many = (0..101).map(|number| CubeId::from(format!("c{number}").as_str()));
    assert!(matches!(mos.view(&bob(), many).await, Err(Error::Invalid(_))));
    mos.share_cube_with(&ann(), &"notes".into(), &bob(), Access::Reader).await.unwrap();
    let both = view(bob(), &["bob's", "notes"]).await.unwrap();
    assert_eq!(texts(&both).await.len(), 2);
    mos.unshare_cube(&ann(), &"notes".into(), &bob()).await.unwrap();
    assert!(matches!(both.get_all().await, Err(Error::NoAccess { .. })), "rights are those of the moment");
    assert!(matches!(both.search(Search::new("dog")).await, Err(Error::NoAccess { .. })));
    mos.unregister_mem_cube(&bob(), &"bob's".into()).await.unwrap();
    assert!(matches!(view(bob(), &["bob's"]).await, Err(Error::NotRegistered(_))));
}

#[tokio::test]
async fn nothing_is_written_when_one_cube_may_only_be_read() {
    let (_folder, mos) = house().await;
    mos.create_cube(&bob(), NewCube::new("bob's")).await.unwrap();
    mos.share_cube_with(&ann(), &"notes".into(), &bob(), Access::Reader).await.unwrap();
    let view = mos.view(&bob(), cubes(&["bob's", "notes"])).await.unwrap();
    let input = ReadInput::from_value(json!([{"role": "user", "content": "My cat Tom is three years old."}]));
    let refused = [
        view.add(Add::text("a dog")).await.map(drop).unwrap_err(),
        view.remember(Remember::new(input)).await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::NotWriter { .. }), "{error}");
    }
    assert_eq!(texts(&view).await, [cube_of("bob's", &[]), cube_of("notes", &[])]);
    mos.share_cube_with_user(&ann(), &"notes".into(), &bob()).await.unwrap();
    view.add(Add::text("a dog")).await.unwrap();
    assert_eq!(texts(&view).await, [cube_of("bob's", &["a dog"]), cube_of("notes", &["a dog"])]);
}

#[tokio::test]
async fn a_cube_that_takes_nothing_says_why_and_the_others_are_written_to() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    drop(mos);
    // Another encoder made what is in `notes`.
    let other = Arc::new(WordEmbedder::new("other", 32));
    let mos = Mos::builder(Settings::default()).data_dir(folder.path()).embedder(other).build().await.unwrap();
    mos.create_cube(&ann(), NewCube::new("work")).await.unwrap();
    let view = mos.view(&ann(), cubes(&["notes", "work"])).await.unwrap();
    let written = view.add(Add::text("a cat")).await.unwrap();
    let failed = written[0].stored.as_ref().unwrap_err().to_string();
    assert!(failed.contains("notes"), "{failed}");
    assert_eq!(written[1].stored.as_ref().unwrap().ids.len(), 1);
    assert_eq!(texts(&view).await, [cube_of("notes", &["a dog"]), cube_of("work", &["a cat"])]);
}

#[tokio::test]
async fn a_chat_is_answered_from_every_cube_and_remembers_in_the_first() {
    let server = ModelServer::start().await;
    let (_folder, mos) = talking(&server).await;
    mos.create_user("ann", None).await.unwrap();
    for (cube, text) in
        [("work", "my dog is called Max"), ("notes", "my dog is called Tom"), ("other", "my dog is called Bob")]
    {
        mos.create_cube(&ann(), NewCube::new(cube)).await.unwrap();
        mos.add(Add::text(text).user("ann").cube(cube)).await.unwrap();
    }
    let view = mos.view(&ann(), cubes(&["notes", "work"])).await.unwrap();
    let reply = view.chat(Chat::new("What is my dog called?").cubes(cubes(&["other"]))).await.unwrap();
    let mut told: Vec<&str> = reply.memories.iter().map(|(cube, _)| cube.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["notes", "work"]);
    assert_eq!(reply.complete().await.unwrap().0, "Tea.");
    let reply = view.chat(Chat::new("My sister lives in Oslo").remember(true)).await.unwrap();
    reply.complete().await.unwrap();
    let expected = [
        cube_of("notes", &["my dog is called Tom", "My sister lives in Oslo"]),
        cube_of("work", &["my dog is called Max"]),
    ];
    assert_eq!(texts(&view).await, expected);
}
