use mos::{Add, Error, Search};
use mos_core::{CubeId, MemoryError, MemoryId, MemoryItem, Message, UserId};
use serde_json::{Value, json};

use crate::{ann, bob, house, open};

#[tokio::test]
async fn what_is_added_is_found_after_a_restart() {
    let (folder, mos) = house().await;
    let ids = mos.add(Add::text("my dog is called Max").user("ann")).await.unwrap();
    drop(mos);
    let mos = open(folder.path()).await;
    let found = mos.search(Search::new("what is my dog called").user("ann")).await.unwrap();
    let (cube, best) = found.best()[0];
    assert_eq!((cube.as_str(), &best.item.id), ("notes", &ids[0]));
    assert_eq!(mos.get(&ann(), None, &ids[0]).await.unwrap().memory, "my dog is called Max");
}

#[tokio::test]
async fn messages_become_one_memory_each_with_their_source_and_without_instructions() {
    let (_folder, mos) = house().await;
    let messages: Vec<Message> = serde_json::from_value(json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "I love playing football.", "message_id": "m1", "chat_time": "09:00"},
        {"role": "assistant", "content": "That's awesome!"},
    ]))
    .unwrap();
    let ids = mos.add(Add::messages(messages).user("ann").session("s1")).await.unwrap();
    assert_eq!(ids.len(), 2);
    let item = mos.get(&ann(), None, &ids[0]).await.unwrap();
    assert_eq!(item.memory, "I love playing football.");
    assert_eq!(item.metadata.session_id.as_deref(), Some("s1"));
    assert_eq!(
        Value::Object(item.metadata.info.unwrap()),
        json!({"role": "user", "chat_time": "09:00", "message_id": "m1"})
    );
}

#[tokio::test]
async fn results_have_the_shape_of_memos() {
    let (_folder, mos) = house().await;
    let none = serde_json::to_value(mos.search(Search::new("x").user("bob")).await.unwrap()).unwrap();
    assert_eq!(none, json!({"text_mem": [], "act_mem": [], "para_mem": [], "pref_mem": []}));
    mos.add(Add::text("a dog").user("ann")).await.unwrap();
    let found = serde_json::to_value(mos.search(Search::new("dog").user("ann")).await.unwrap()).unwrap();
    assert_eq!(found["text_mem"][0]["cube_id"], "notes");
    let memory = &found["text_mem"][0]["memories"][0];
    assert_eq!(memory["memory"], "a dog");
    assert_eq!(memory["metadata"]["source"], "conversation");
    assert!(memory["score"].as_f64().unwrap() > 0.0 && memory["signals"]["vector"].is_number());
    let all = serde_json::to_value(mos.get_all(&ann(), None).await.unwrap()).unwrap();
    assert_eq!((&all["para_mem"], &all["act_mem"]), (&json!([]), &json!([])));
    assert_eq!(all["text_mem"][0]["memories"][0]["memory"], "a dog");
}

#[tokio::test]
async fn every_operation_refuses_whom_it_must() {
    let (_folder, mos) = house().await;
    let id = mos.add(Add::text("secret").user("ann")).await.unwrap().remove(0);
    let (notes, nobody) = (CubeId::from("notes"), UserId::from("nobody"));
    let no_access = |error: Error| assert!(matches!(error, Error::NoAccess { .. }), "{error}");
    no_access(mos.add(Add::text("x").user("bob").cube("notes")).await.unwrap_err());
    no_access(mos.search(Search::new("x").user("bob").cubes([notes.clone()])).await.unwrap_err());
    no_access(mos.get(&bob(), Some(&notes), &id).await.unwrap_err());
    no_access(mos.get_all(&bob(), Some(&notes)).await.unwrap_err());
    let item = mos.get(&ann(), None, &id).await.unwrap();
    no_access(mos.update(&bob(), Some(&notes), &id, item).await.unwrap_err());
    no_access(mos.delete(&bob(), Some(&notes), &id).await.unwrap_err());
    no_access(mos.delete_all(&bob(), Some(&notes)).await.unwrap_err());
    no_access(mos.dump(&bob(), Some(&notes), "unused".as_ref()).await.unwrap_err());
    no_access(mos.load(&bob(), Some(&notes), "unused".as_ref()).await.unwrap_err());
    no_access(mos.unregister_mem_cube(&bob(), &notes).await.unwrap_err());
    no_access(mos.delete_cube(&bob(), &notes).await.unwrap_err());
    no_access(mos.share_cube_with_user(&bob(), &notes, &bob()).await.unwrap_err());
    no_access(mos.reembed_cube(&bob(), &notes, false, |_| {}).await.unwrap_err());
    no_access(mos.cube(&bob(), &notes).await.unwrap_err());
    no_access(mos.get_all(&UserId::from("root"), Some(&notes)).await.unwrap_err());
    assert!(mos.search(Search::new("secret").user("bob")).await.unwrap().text_mem.is_empty());
    let unknown = mos.search(Search::new("x").user(nobody.clone())).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownUser(_)));
    assert_eq!(unknown.to_string(), "User 'nobody' does not exist or is inactive. Please register the user first.");
    let refused = mos.get_all(&bob(), Some(&notes)).await.unwrap_err().to_string();
    let absent = mos.get_all(&bob(), Some(&CubeId::from("no such"))).await.unwrap_err().to_string();
    assert_eq!(refused.replace("notes", "no such"), absent, "nobody learns which cubes exist");
}

#[tokio::test]
async fn bad_input_is_an_error_that_helps() {
    let (_folder, mos) = house().await;
    for bad in [Add::text(" "), Add::messages(vec![]), Add::messages(vec![Message::user("ok"), Message::user("")])] {
        assert!(matches!(mos.add(bad.user("ann")).await, Err(Error::Invalid(_))));
    }
    assert!(mos.search(Search::new("").user("ann")).await.is_err());
    let missing = MemoryId::from("00000000-0000-4000-8000-000000000000");
    for error in
        [mos.get(&ann(), None, &missing).await.unwrap_err(), mos.delete(&ann(), None, &missing).await.unwrap_err()]
    {
        assert!(matches!(error, Error::Memory(MemoryError::NotFound(_))));
        assert_eq!(error.to_string(), format!("Memory with ID {missing} not found"));
    }
    let no_cube = mos.add(Add::text("x").user("bob")).await.unwrap_err();
    assert_eq!(no_cube.to_string(), "No accessible cubes found for user 'bob'. Please register a cube first.");
    assert!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.is_empty(), "nothing was kept");
}

#[tokio::test]
async fn update_and_delete_do_what_they_say() {
    let (_folder, mos) = house().await;
    let ids = mos
        .add(Add::messages(vec![Message::user("likes tea"), Message::user("plays chess")]).user("ann"))
        .await
        .unwrap();
    let mut item = mos.get(&ann(), None, &ids[0]).await.unwrap();
    item.memory = "likes coffee".to_owned();
    let updated = mos.update(&ann(), None, &ids[0], item).await.unwrap();
    assert_eq!((updated.metadata.version, &updated.id), (2, &ids[0]));
    mos.delete(&ann(), None, &ids[1]).await.unwrap();
    assert!(mos.get(&ann(), None, &ids[1]).await.is_err());
    assert_eq!(mos.delete_all(&ann(), None).await.unwrap(), 1);
    mos.add(Add::text("still usable").user("ann")).await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_stores_nothing_twice() {
    let (_folder, mos) = house().await;
    let add = |text: &str, key: &str| mos.add(Add::text(text).user("ann").idempotency_key(key));
    let first = add("a dog", "key").await.unwrap();
    assert_eq!(add("a dog", "key").await.unwrap(), first);
    assert_ne!(add("a dog", "other key").await.unwrap(), first);
    let notes = "notes".into();
    mos.share_cube_with_user(&ann(), &notes, &bob()).await.unwrap();
    let bobs = mos.add(Add::text("from bob").user("bob").cube("notes").idempotency_key("key")).await.unwrap();
    assert_ne!(bobs, first, "keys are a user's own");
    assert_eq!(mos.get_all(&ann(), None).await.unwrap().text_mem[0].memories.len(), 3);
    assert!(matches!(add("a dog", "").await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_change_that_was_made_of_an_older_state_takes_nothing_back() {
    for kind in ["general_text", "tree_text"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = mos::Settings { text_mem_type: kind.to_owned(), ..mos::Settings::default() };
        let embedder = std::sync::Arc::new(mos_testkit::embedder::WordEmbedder::new("words", 64));
        let mos = mos::Mos::builder(settings).data_dir(folder.path()).embedder(embedder).build().await.unwrap();
        mos.create_user("ann", None).await.unwrap();
        mos.create_cube(&ann(), mos::NewCube::new("notes")).await.unwrap();
        let id = mos.add(Add::text("first").user("ann")).await.unwrap().remove(0);
        let known = mos.get(&ann(), None, &id).await.unwrap();
        let next = |text: &str| MemoryItem { memory: text.to_owned(), ..known.clone() };
        let one = mos.update_known(&ann(), None, &known, next("one")).await.unwrap();
        let refused = mos.update_known(&ann(), None, &known, next("another")).await.unwrap_err().to_string();
        assert!(refused.contains("changed meanwhile"), "{kind}: {refused}");
        assert_eq!(mos.get(&ann(), None, &id).await.unwrap().memory, "one", "{kind}");
        let later = MemoryItem { memory: "another".to_owned(), ..one.clone() };
        assert_eq!(mos.update_known(&ann(), None, &one, later).await.unwrap().metadata.version, 3, "{kind}");
    }
}

#[tokio::test]
async fn a_change_is_made_of_what_the_memory_is_by_then() {
    let (_folder, mos) = house().await;
    let id = mos.add(Add::text("first").user("ann")).await.unwrap().remove(0);
    let old = mos.get(&ann(), None, &id).await.unwrap();
    let said = |item: &mut MemoryItem| -> mos::Result<()> {
        item.memory = "second".to_owned();
        Ok(())
    };
    mos.update_with(&ann(), None, old.clone(), said).await.unwrap();
    let named = |item: &mut MemoryItem| -> mos::Result<()> {
        item.metadata.key = Some("title".to_owned());
        Ok(())
    };
    let both = mos.update_with(&ann(), None, old.clone(), named).await.unwrap();
    assert_eq!((both.memory.as_str(), both.metadata.key.as_deref()), ("second", Some("title")));
    let refused = |item: &mut MemoryItem| match item.metadata.version {
        version if version > old.metadata.version => Err(Error::Invalid("too late".to_owned())),
        _ => Ok(()),
    };
    let error = mos.update_with(&ann(), None, old.clone(), refused).await.unwrap_err();
    assert!(error.to_string().contains("too late"), "what the change refuses is told: {error}");
    assert_eq!(mos.get(&ann(), None, &id).await.unwrap().metadata.version, both.metadata.version);
}

#[tokio::test]
async fn updates_at_the_same_time_all_become_versions() {
    let (_folder, mos) = house().await;
    let id = mos.add(Add::text("first").user("ann")).await.unwrap().remove(0);
    let updates = (0..8).map(|number| {
        let (mos, id) = (mos.clone(), id.clone());
        tokio::spawn(async move {
            let item = MemoryItem::new(id.clone(), format!("text {number}"));
            mos.update(&ann(), None, &id, item).await.unwrap()
        })
    });
    let mut versions = Vec::new();
    for update in updates.collect::<Vec<_>>() {
        versions.push(update.await.unwrap().metadata.version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..=9).collect::<Vec<_>>(), "nobody overwrote somebody else unseen");
    assert_eq!(mos.get(&ann(), None, &id).await.unwrap().metadata.history.len(), 8);
}
