//! Searching.

use mos::product::{AddRequest, App, Caller, ExistMemCubeIdRequest, Request, SearchRequest};
use mos_core::{AddRequest as Adding, MemoryItem, Origin};
use serde_json::{Value, json};

use super::{app, failure, faults, given, tell};
use crate::ann;

fn ask(query: &str) -> SearchRequest {
    SearchRequest { relativity: 0.0, ..SearchRequest::new(query.to_owned(), "ann".to_owned()) }
}

fn cubes(ids: &[&str]) -> Option<Vec<String>> {
    Some(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn texts(bucket: &Value) -> Vec<&str> {
    bucket["memories"].as_array().unwrap().iter().map(|hit| hit["memory"].as_str().unwrap()).collect()
}

/// Ann's cubes `ann` and `work`.
async fn furnished(app: &App) {
    let product = app.product();
    tell(&product, "ann", "The dog is called Max.").await;
    tell(&product, "ann", "The garage code is 7391.").await;
    let work = AddRequest { writable_cube_ids: cubes(&["work"]), ..given("ann", json!("The dog show is on Friday.")) };
    product.add(work).await.unwrap();
}

/// Stores a memory of this metadata in ann's cube.
async fn put(app: &App, number: u32, text: &str, metadata: Value) {
    let handle = app.mos().cube(&ann(), &"ann".into()).await.unwrap();
    let item = memory(number, text, metadata);
    handle.text_mem().add(vec![item], Adding::from(Origin::new("ann", "test"))).await.unwrap();
}

fn memory(number: u32, text: &str, metadata: Value) -> MemoryItem {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    MemoryItem::from_value(json!({"id": id, "memory": text, "metadata": metadata}), String::new).unwrap()
}

#[tokio::test]
async fn every_cube_has_its_entry_in_the_order_of_the_request() {
    let (_folder, app) = app().await;
    furnished(&app).await;
    let search = SearchRequest { readable_cube_ids: cubes(&["work", "ann", "work"]), ..ask("the dog") };
    let reply = app.product().search(search).await.unwrap();
    assert_eq!((reply.code, reply.message.as_str()), (200, "Search completed successfully"));
    for list in ["text_mem", "pref_mem", "tool_mem", "skill_mem"] {
        let ids: Vec<&str> =
            reply.data[list].as_array().unwrap().iter().map(|one| one["cube_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["work", "ann"], "{list}");
    }
    assert_eq!((&reply.data["act_mem"], &reply.data["para_mem"]), (&json!([]), &json!([])));
    assert_eq!(reply.data["pref_note"], "");
    assert!(reply.data.get("pref_string").is_none());
    assert_eq!(texts(&reply.data["text_mem"][0]), ["The dog show is on Friday."]);
    assert_eq!(reply.data["text_mem"][0]["total_nodes"], 1);
    let hit = &reply.data["text_mem"][1]["memories"][0];
    assert_eq!(hit["memory"], "The dog is called Max.");
    let id = hit["id"].as_str().unwrap();
    assert_eq!(hit["ref_id"].as_str().unwrap(), format!("[{}]", &id[..8]));
    let metadata = &hit["metadata"];
    assert!(metadata["relativity"].as_f64().unwrap() > 0.0);
    assert_eq!((&metadata["id"], &metadata["embedding"], &metadata["usage"]), (&json!(id), &json!([]), &json!([])));
    assert!(metadata["sources"].is_array() && metadata["memory_type"] == "LongTermMemory");
}

#[tokio::test]
async fn filters_mean_all_cubes_or_one_each_and_are_refused_when_wrong() {
    let (_folder, app) = app().await;
    furnished(&app).await;
    let product = app.product();
    let search = |filter: Value| SearchRequest {
        readable_cube_ids: cubes(&["ann", "work"]),
        filter: filter.as_object().cloned(),
        ..ask("the dog")
    };
    let found = product.search(search(json!({"memory": {"like": "Max"}}))).await.unwrap().data;
    assert_eq!((texts(&found["text_mem"][0]).len(), texts(&found["text_mem"][1]).len()), (1, 0), "{found}");
    let equal = product.search(search(json!({"session_id": "nowhere"}))).await.unwrap().data;
    assert!(texts(&equal["text_mem"][0]).is_empty(), "a plain condition is no filter of a cube");
    let own = json!({"work": {"or": [{"memory": {"like": "nothing"}}, {"memory": {"like": "none"}}]}});
    let found = product.search(search(own)).await.unwrap().data;
    assert_eq!((texts(&found["text_mem"][0]).len(), texts(&found["text_mem"][1]).len()), (2, 0), "{found}");
    let nested = json!({"and": [{"or": [{"memory": {"like": "Max"}}, {"memory": {"like": "7391"}}]},
        {"memory": {"like": "garage"}}]});
    let found = product.search(search(nested)).await.unwrap().data;
    assert_eq!(texts(&found["text_mem"][0]), ["The garage code is 7391."]);
    for wrong in [json!({"key": {"in": "x"}}), json!({"key": {"near": 1}}), json!({"and": "x"})] {
        assert_eq!(failure(product.search(search(wrong)).await).0, 400);
    }
}

#[tokio::test]
async fn what_fits_too_little_is_left_out_and_the_answer_says_so() {
    let (_folder, app) = app().await;
    furnished(&app).await;
    let strict = SearchRequest { relativity: 1.5, ..ask("the dog") };
    let found = app.product().search(strict).await.unwrap().data;
    assert!(texts(&found["text_mem"][0]).is_empty());
    assert!(found["text_mem"][0]["notes"].to_string().contains("below 1.5"), "{found}");
    let one = app.product().search(SearchRequest { top_k: 1, ..ask("the dog") }).await.unwrap().data;
    assert_eq!(texts(&one["text_mem"][0]), ["The dog is called Max."]);
}

#[tokio::test]
async fn others_cubes_are_refused_and_what_is_not_there_is_empty() {
    let (_folder, app) = app().await;
    furnished(&app).await;
    tell(&app.product(), "bob", "Bob likes coffee.").await;
    let bob = app.product_as(Caller::user("bob"));
    let of_ann = |user: &str| SearchRequest {
        readable_cube_ids: cubes(&["bob", "ann"]),
        ..SearchRequest::new("dog".to_owned(), user.to_owned())
    };
    assert_eq!(failure(bob.search(of_ann("bob")).await).0, 403);
    assert_eq!(failure(bob.search(of_ann("ann")).await).0, 403);
    let old = SearchRequest { mem_cube_id: Some("ann".to_owned()), readable_cube_ids: None, ..of_ann("bob") };
    assert_eq!(failure(bob.search(old).await).0, 403);
    let nowhere = SearchRequest { readable_cube_ids: cubes(&["nowhere", "ann", "never"]), ..ask("dog") };
    let found = app.product().search(nowhere).await.unwrap().data;
    let ids: Vec<&Value> = found["text_mem"].as_array().unwrap().iter().map(|one| &one["cube_id"]).collect();
    assert_eq!(ids, ["nowhere", "ann", "never"], "each has its place, whether it exists or not");
    let empty = |cube: &str| json!({"cube_id": cube, "memories": [], "total_nodes": 0});
    for list in ["text_mem", "pref_mem", "tool_mem", "skill_mem"] {
        assert_eq!((&found[list][0], &found[list][2]), (&empty("nowhere"), &empty("never")), "{list}");
    }
    assert!(!texts(&found["text_mem"][1]).is_empty());
    let exists = app.product().exist_mem_cube_id(ExistMemCubeIdRequest::new("nowhere".to_owned())).await.unwrap();
    assert_eq!(exists.data, json!({"nowhere": false}), "asking makes nothing");
}

#[tokio::test]
async fn faults_of_requests_are_named_with_their_places() {
    let (_folder, app) = app().await;
    let body = json!({"query": 7, "mode": "quick", "top_k": 0, "relativity": -0.1, "dedup": "all", "filter": "x",
        "pref_top_k": -1});
    let expected = [
        ("string_type", "query"),
        ("missing", "user_id"),
        ("enum", "mode"),
        ("literal_error", "dedup"),
        ("greater_than_equal", "pref_top_k"),
        ("dict_type", "filter"),
        ("greater_than_equal", "top_k"),
        ("greater_than_equal", "relativity"),
    ];
    assert_eq!(
        faults(SearchRequest::from_json(&body)),
        expected.map(|(kind, field)| (kind.to_owned(), json!(["body", field])))
    );
    let none = SearchRequest::from_json(&json!({"query": "x", "user_id": "ann", "dedup": null})).unwrap();
    assert_eq!((none.dedup, none.top_k, none.relativity, none.pref_top_k), (None, 10, 0.45, 6));
    let product = app.product();
    assert_eq!(failure(product.search(ask("  ")).await).0, 400);
    let odd = SearchRequest { search_memory_type: "Dogs".to_owned(), ..ask("dog") };
    assert!(failure(product.search(odd).await).1.contains("UserMemory"));
}

#[tokio::test]
async fn tools_skills_and_preferences_have_lists_of_their_own() {
    let (_folder, app) = app().await;
    furnished(&app).await;
    put(&app, 1, "A tool that walks the dog.", json!({"memory_type": "ToolSchemaMemory"})).await;
    put(&app, 2, "How to wash the dog.", json!({"memory_type": "SkillMemory"})).await;
    let preference = memory(
        3,
        "Ann prefers the dog park.",
        json!({"memory_type": "PreferenceMemory",
        "preference_type": "explicit_preference", "preference": "Ann prefers the dog park.", "user_id": "ann"}),
    );
    let handle = app.mos().cube(&ann(), &"ann".into()).await.unwrap();
    let adding = Adding::from(Origin::new("ann", "test"));
    handle.pref_mem().unwrap().add(vec![preference], adding).await.unwrap();
    let product = app.product();
    let found = product.search(ask("the dog")).await.unwrap().data;
    assert_eq!(texts(&found["tool_mem"][0]), ["A tool that walks the dog."]);
    assert_eq!(texts(&found["skill_mem"][0]), ["How to wash the dog."]);
    assert_eq!(texts(&found["pref_mem"][0]), ["Ann prefers the dog park."]);
    assert!(!found["text_mem"].to_string().contains("walks the dog"));
    assert!(found["pref_string"].as_str().unwrap().contains("1. [user] Ann prefers the dog park."));
    assert_eq!(found["pref_note"], mos::PREFERENCE_NOTE);
    let plain = SearchRequest {
        search_tool_memory: false,
        include_skill_memory: false,
        include_preference: false,
        ..ask("the dog")
    };
    let found = product.search(plain).await.unwrap().data;
    for list in ["tool_mem", "skill_mem", "pref_mem"] {
        assert_eq!(found[list], json!([{"cube_id": "ann", "memories": [], "total_nodes": 0}]), "{list}");
    }
    let skills = SearchRequest { search_memory_type: "SkillMemory".to_owned(), ..ask("the dog") };
    let found = product.search(skills).await.unwrap().data;
    assert!(texts(&found["text_mem"][0]).is_empty() && texts(&found["skill_mem"][0]).len() == 1, "{found}");
}

#[tokio::test]
async fn the_neighbours_of_a_chunk_come_when_they_are_asked_for() {
    let (_folder, app) = app().await;
    furnished(&app).await;
    let id = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
    let chunks = vec![
        memory(11, "Chapter one: zebras.", json!({"memory_type": "RawFileMemory", "following_id": id(12)})),
        memory(12, "Chapter two: lions.", json!({"memory_type": "RawFileMemory", "preceding_id": id(11)})),
    ];
    let handle = app.mos().cube(&ann(), &"ann".into()).await.unwrap();
    let tree = handle.text_mem().as_tree().unwrap();
    tree.add_raw_files(chunks, Adding::from(Origin::new("ann", "test"))).await.unwrap();
    let search = SearchRequest { top_k: 1, search_memory_type: "RawFileMemory".to_owned(), ..ask("zebras") };
    let alone = app.product().search(search.clone()).await.unwrap().data;
    assert_eq!(texts(&alone["text_mem"][0]), ["Chapter one: zebras."]);
    let together = SearchRequest { neighbor_discovery: true, ..search };
    let together = app.product().search(together).await.unwrap().data;
    assert_eq!(texts(&together["text_mem"][0]), ["Chapter one: zebras.", "Chapter two: lions."]);
    let summaries = SearchRequest { search_memory_type: "AllSummaryMemory".to_owned(), ..ask("zebras") };
    let summaries = app.product().search(summaries).await.unwrap().data;
    assert!(!summaries.to_string().contains("zebras."), "{summaries}");
}

#[tokio::test]
async fn memories_of_the_conversation_come_first_and_the_others_all_the_same() {
    let (_folder, app) = app().await;
    let product = app.product();
    for (session, text) in [("a", "The dog sleeps here."), ("b", "The dog sleeps there.")] {
        let add = AddRequest { session_id: Some(session.to_owned()), ..given("ann", json!(text)) };
        product.add(add).await.unwrap();
    }
    for (session, first) in [("a", "The dog sleeps here."), ("b", "The dog sleeps there.")] {
        let search = SearchRequest { session_id: Some(session.to_owned()), dedup: None, ..ask("the dog sleeps") };
        let found = product.search(search).await.unwrap().data;
        let texts = texts(&found["text_mem"][0]);
        assert_eq!((texts.len(), texts[0]), (2, first));
    }
}
