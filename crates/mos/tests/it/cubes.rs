use mos::{Add, CubeSource, Error, NewCube, Search};
use mos_core::{CubeId, UserId};

use crate::{ann, bob, house, open};

fn notes() -> CubeId {
    CubeId::from("notes")
}

#[tokio::test]
async fn root_exists_from_the_start_and_creating_twice_gives_the_first() {
    let (_folder, mos) = house().await;
    let again = mos.create_user("bob2", Some("ann")).await.unwrap();
    assert_eq!(again.user_id.as_str(), "ann", "the name is taken by ann");
    let users: Vec<String> = mos.list_users().await.unwrap().iter().map(|user| user.user_id.to_string()).collect();
    assert_eq!(users, ["root", "ann", "bob"]);
    assert!(mos.create_user("", None).await.is_err());
    assert!(mos.delete_user(&UserId::from("root")).await.is_err());
}

#[tokio::test]
async fn a_deleted_user_is_refused_and_its_memories_stay() {
    let (_folder, mos) = house().await;
    mos.add(Add::text("kept").user("ann")).await.unwrap();
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    mos.delete_user(&ann()).await.unwrap();
    assert!(matches!(mos.get_all(&ann(), None).await, Err(Error::UnknownUser(_))));
    assert_eq!(mos.get_all(&bob(), Some(&notes())).await.unwrap().text_mem[0].memories.len(), 1);
}

#[tokio::test]
async fn a_shared_cube_can_be_used_but_not_given_away() {
    let (_folder, mos) = house().await;
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    mos.add(Add::text("from bob").user("bob").cube("notes")).await.unwrap();
    assert_eq!(mos.search(Search::new("bob").user("ann")).await.unwrap().best().len(), 1);
    let not_owner = |error: Error| assert!(matches!(error, Error::NotOwner { .. }), "{error}");
    not_owner(mos.share_cube_with_user(&bob(), &notes(), &UserId::from("root")).await.unwrap_err());
    not_owner(mos.unregister_mem_cube(&bob(), &notes()).await.unwrap_err());
    not_owner(mos.delete_cube(&bob(), &notes()).await.unwrap_err());
    let homeless = mos.add(Add::text("my PIN").user("bob")).await.unwrap_err();
    assert!(matches!(homeless, Error::NoCube(_)), "a shared cube is nobody else's default: {homeless}");
    mos.unregister_mem_cube(&ann(), &notes()).await.unwrap();
    not_owner(mos.register_mem_cube(&bob(), CubeSource::Known, Some(&notes())).await.unwrap_err());
    mos.register_mem_cube(&ann(), CubeSource::Known, Some(&notes())).await.unwrap();
    mos.unshare_cube(&ann(), &notes(), &bob()).await.unwrap();
    assert!(matches!(mos.get_all(&bob(), Some(&notes())).await, Err(Error::NoAccess { .. })));
}

#[tokio::test]
async fn a_cube_shared_with_you_does_not_become_the_place_where_your_memories_go() {
    let (_folder, mos) = house().await;
    mos.create_cube(&bob(), NewCube::new("bob's")).await.unwrap();
    mos.create_cube(&ann(), NewCube::new("newer")).await.unwrap();
    mos.share_cube_with_user(&ann(), &CubeId::from("newer"), &bob()).await.unwrap();
    mos.add(Add::text("private").user("bob")).await.unwrap();
    assert_eq!(mos.get_all(&bob(), None).await.unwrap().text_mem[0].cube_id.as_str(), "bob's");
    assert!(mos.search(Search::new("private").user("ann")).await.unwrap().best().is_empty());
}

#[tokio::test]
async fn an_unregistered_cube_is_out_of_sight_until_it_is_registered_again() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    mos.unregister_mem_cube(&ann(), &notes()).await.unwrap();
    assert!(mos.search(Search::new("dog").user("ann")).await.unwrap().text_mem.is_empty());
    assert!(matches!(mos.unregister_mem_cube(&ann(), &notes()).await, Err(Error::NotRegistered(_))));
    assert!(matches!(mos.get_all(&ann(), Some(&notes())).await, Err(Error::NotRegistered(_))));
    drop(mos);
    let mos = open(folder.path()).await;
    mos.register_mem_cube(&ann(), CubeSource::Known, Some(&notes())).await.unwrap();
    assert_eq!(mos.search(Search::new("dog").user("ann")).await.unwrap().best().len(), 1);
}

#[tokio::test]
async fn registering_somebody_elses_cube_is_refused() {
    let (_folder, mos) = house().await;
    for id in ["notes", "no such cube"] {
        let error = mos.register_mem_cube(&bob(), CubeSource::Known, Some(&id.into())).await.unwrap_err();
        assert!(matches!(error, Error::NoAccess { .. }), "{error}");
    }
}

#[tokio::test]
async fn odd_ids_are_names_and_nothing_else() {
    let (folder, mos) = house().await;
    for id in ["root/mem_cube_kv_cache", "../../escape", "a b", "记忆", "x'; DROP TABLE nodes; --", "%_"] {
        mos.create_cube(&ann(), NewCube::new(id)).await.unwrap();
        mos.add(Add::text(format!("in {id}")).user("ann").cube(id)).await.unwrap();
        let all = mos.get_all(&ann(), Some(&id.into())).await.unwrap();
        assert_eq!(all.text_mem[0].memories.len(), 1, "{id}");
    }
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().all(|name| name.starts_with("mos.db")), "{names:?}");
}

#[tokio::test]
async fn a_dump_can_be_registered_elsewhere_and_loaded_back() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let dump = folder.path().join("dumped");
    mos.dump(&ann(), None, &dump).await.unwrap();
    let again = mos.dump(&ann(), None, &dump).await.unwrap_err().to_string();
    assert!(again.contains("is not empty"), "{again}");
    let before = mos.get_all(&ann(), None).await.unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path()).await;
    other.create_user("carol", None).await.unwrap();
    let carol = UserId::from("carol");
    let source = || CubeSource::Directory(dump.clone());
    let cube = other.register_mem_cube(&carol, source(), None).await.unwrap();
    assert_eq!(cube.cube_id.as_str(), dump.display().to_string());
    other.register_mem_cube(&carol, source(), None).await.unwrap();
    let after = other.get_all(&carol, None).await.unwrap();
    assert_eq!(after.text_mem[0].memories, before.text_mem[0].memories);
    assert_eq!(other.search(Search::new("dog").user("carol")).await.unwrap().best().len(), 1);

    mos.delete_all(&ann(), None).await.unwrap();
    assert_eq!(mos.load(&ann(), None, &dump).await.unwrap(), 1);
    assert_eq!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories, before.text_mem[0].memories);
}

#[tokio::test]
async fn a_damaged_or_foreign_dump_is_refused_and_nothing_is_registered() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let dump = folder.path().join("dumped");
    mos.dump(&ann(), None, &dump).await.unwrap();
    let file = dump.join("textual_memory.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("dog", "cat")).unwrap();
    let register = |id: &'static str| {
        let (mos, dump) = (mos.clone(), dump.clone());
        async move { mos.register_mem_cube(&ann(), CubeSource::Directory(dump), Some(&id.into())).await.unwrap_err() }
    };
    assert!(register("one").await.to_string().contains("checksum"));
    std::fs::remove_file(dump.join("manifest.json")).unwrap();
    std::fs::write(&file, "[{}]").unwrap();
    assert!(register("two").await.to_string().contains("entry 0"));
    std::fs::write(dump.join("config.json"), r#"{"model_schema": "wrong.Schema"}"#).unwrap();
    assert!(register("three").await.to_string().contains("Configuration schema mismatch"));
    std::fs::remove_file(dump.join("config.json")).unwrap();
    assert!(register("four").await.to_string().contains("has no config.json"));
    assert_eq!(mos.list_cubes(&ann()).await.unwrap().len(), 1, "no half cube is left");
}

#[tokio::test]
async fn a_registration_that_broke_off_is_finished_by_the_next_one() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let dump = folder.path().join("dumped");
    mos.dump(&ann(), None, &dump).await.unwrap();
    // What a killed registration leaves: the cube is there, not registered, without memories.
    mos.create_cube(&ann(), NewCube::new("copy")).await.unwrap();
    mos.unregister_mem_cube(&ann(), &"copy".into()).await.unwrap();
    mos.register_mem_cube(&ann(), CubeSource::Directory(dump), Some(&"copy".into())).await.unwrap();
    assert_eq!(mos.get_all(&ann(), Some(&"copy".into())).await.unwrap().text_mem[0].memories.len(), 1);
}

#[tokio::test]
async fn a_cube_without_a_textual_memory_takes_no_texts_and_says_what_to_do() {
    let (_folder, mos) = house().await;
    let config = mos::config::GeneralMemCubeConfig::new("ann", "bare", mos::config::MemoryConfig::none());
    mos.create_cube(&ann(), NewCube { cube_id: "bare".into(), name: None, config: Some(config) }).await.unwrap();
    let error = mos.add(Add::text("a dog").user("ann").cube("bare")).await.unwrap_err().to_string();
    assert!(error.contains("bare") && error.contains("text_mem"), "{error}");
    assert!(
        mos.get_all(&ann(), Some(&"bare".into())).await.unwrap().text_mem.iter().all(|cube| cube.memories.is_empty())
    );
}

#[tokio::test]
async fn a_deleted_cube_leaves_nothing_behind() {
    let (_folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    mos.delete_cube(&ann(), &notes()).await.unwrap();
    assert!(mos.list_cubes(&ann()).await.unwrap().is_empty());
    mos.create_cube(&bob(), NewCube::new("notes")).await.unwrap();
    assert!(mos.get_all(&bob(), None).await.unwrap().text_mem[0].memories.is_empty(), "ids can be used again");
    assert!(mos.doctor().await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn no_secret_of_a_cube_configuration_is_kept_or_dumped() {
    let (folder, mos) = house().await;
    let source = folder.path().join("source");
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    mos.dump(&ann(), None, &source).await.unwrap();
    let path = source.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["text_mem"]["config"]["extractor_llm"] = serde_json::json!({
        "backend": "openai",
        "config": {"model_name_or_path": "m", "api_key": "sk-very-private", "api_base": "http://localhost:1/v1"}
    });
    std::fs::write(&path, config.to_string()).unwrap();
    std::fs::remove_file(source.join("manifest.json")).unwrap();
    let cube = mos.register_mem_cube(&bob(), CubeSource::Directory(source), Some(&"bob's".into())).await.unwrap();
    assert_eq!(cube.config["text_mem"]["config"]["extractor_llm"]["backend"], "openai");
    let again = folder.path().join("again");
    mos.dump(&bob(), Some(&"bob's".into()), &again).await.unwrap();
    drop(mos);
    for folder in [folder.path(), again.as_path()] {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            let bytes = std::fs::read(entry.path()).unwrap();
            let holds = bytes.windows(15).any(|window| window == b"sk-very-private");
            assert!(!holds, "{}", entry.path().display());
        }
    }
}

#[tokio::test]
async fn one_cube_that_cannot_be_searched_does_not_stand_in_the_way_of_the_others() {
    let (folder, mos) = house().await;
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    drop(mos);
    let other = std::sync::Arc::new(mos_testkit::embedder::WordEmbedder::new("other", 32));
    let builder = mos::Mos::builder(mos::Settings::default()).data_dir(folder.path()).embedder(other);
    let mos = builder.build().await.unwrap();
    mos.create_cube(&bob(), NewCube::new("bob's")).await.unwrap();
    mos.add(Add::text("a dog of bob's").user("bob")).await.unwrap();
    mos.share_cube_with_user(&ann(), &notes(), &bob()).await.unwrap();
    let found = mos.search(Search::new("dog").user("bob")).await.unwrap();
    assert_eq!(found.best().len(), 1);
    assert_eq!(found.skipped.len(), 1);
    assert!(found.skipped[0].reason.contains("mos cube reembed notes"), "{}", found.skipped[0].reason);
    assert!(serde_json::to_string(&found).unwrap().contains("skipped"));
    mos.search(Search::new("dog").user("bob").cubes([notes()])).await.expect_err("a cube that is named must answer");
    mos.search(Search::new("dog").user("ann")).await.expect_err("no cube is left");
    mos.unshare_cube(&bob(), &notes(), &bob()).await.expect("who was given a cube may give it back");
    assert!(mos.search(Search::new("dog").user("bob")).await.unwrap().skipped.is_empty());
}

#[tokio::test]
async fn a_squatted_default_cube_locks_nobody_out() {
    let (_folder, mos) = house().await;
    mos.create_cube(&ann(), NewCube::new("cube_bob")).await.unwrap();
    let cube = mos.ensure_default_cube(&bob()).await.unwrap();
    assert_ne!(cube.as_str(), "cube_bob");
    assert_eq!(mos.ensure_default_cube(&bob()).await.unwrap(), cube, "the second time it is known");
    mos.add(Add::text("private").user("bob")).await.unwrap();
    assert!(mos.search(Search::new("private").user("ann")).await.unwrap().best().is_empty());
}

#[tokio::test]
async fn a_deleted_user_comes_back_only_when_asked_for() {
    let (_folder, mos) = house().await;
    mos.delete_user(&ann()).await.unwrap();
    let error = mos.ensure_user(&ann()).await.unwrap_err().to_string();
    assert!(error.contains("mos user create ann"), "{error}");
    mos.create_user("ann", None).await.unwrap();
    assert_eq!(mos.list_cubes(&ann()).await.unwrap().len(), 1, "with its cubes");
    let root = mos.create_user_with_role("eve", None, mos_core::UserRole::Root).await;
    assert!(matches!(root, Err(Error::Invalid(_))), "{root:?}");
}
