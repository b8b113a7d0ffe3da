use std::collections::BTreeSet;

use mos::product::{Caller, Scope};
use mos_core::CubeId;
use serde_json::{Value, json};

use super::{api, ask, ids, keep, note, on_day};
use crate::{ann, bob};

/// What was seen on a day.
fn animal(day: usize) -> String {
    let animals = ["an ant", "a beaver", "a cat", "a dolphin", "an elephant", "a fox", "a goose"];
    format!("saw {}", animals[day - 1])
}

#[tokio::test]
async fn pages_are_disjoint_newest_first_and_their_totals_are_the_same() {
    let (_folder, app) = api().await;
    let days = [3, 7, 1, 6, 2, 5, 4].map(|day| (animal(day), on_day(day)));
    let days: Vec<(&str, Value)> = days.iter().map(|(text, metadata)| (text.as_str(), metadata.clone())).collect();
    keep(&app, "ann", &days).await;
    let mut texts = Vec::new();
    for (page, length) in [(1, 3), (2, 3), (3, 1), (4, 0)] {
        let body = json!({"mem_cube_id": "ann", "page": page, "page_size": 3});
        let reply = app.product().get_memory(ask(&body)).await.unwrap();
        assert_eq!(reply.message, "Memories retrieved successfully");
        let list = &reply.data.text_mem[0];
        assert_eq!((list.memories.len(), list.total_nodes), (length, 7), "page {page}");
        texts.extend(list.memories.iter().map(|memory| memory["memory"].as_str().unwrap().to_owned()));
    }
    let falling: Vec<String> = (1..=7).rev().map(animal).collect();
    assert_eq!(texts, falling);
    let forgiven = json!({"mem_cube_id": "ann", "page": 0, "page_size": -1});
    assert_eq!(app.product().get_memory(ask(&forgiven)).await.unwrap().data.text_mem[0].memories.len(), 7);
    let unpaged = app.product().get_memory(ask(&json!({"mem_cube_id": "ann", "page": 2}))).await.unwrap();
    assert_eq!(unpaged.data.text_mem[0].memories.len(), 7, "both numbers are needed to page");
}

#[tokio::test]
async fn every_kind_is_in_its_list_and_can_be_left_out() {
    let (_folder, app) = api().await;
    let of_type = |kind: &str| json!({"memory_type": kind});
    keep(
        &app,
        "ann",
        &[
            ("drinks tea", of_type("UserMemory")),
            ("a hammer", of_type("ToolSchemaMemory")),
            ("hit a nail", of_type("ToolTrajectoryMemory")),
            ("how to build", of_type("SkillMemory")),
            ("prefers wood", of_type("PreferenceMemory")),
            ("page one", of_type("RawFileMemory")),
        ],
    )
    .await;
    let all = app.product().get_memory(ask(&json!({"mem_cube_id": "ann"}))).await.unwrap().data;
    let totals = [&all.text_mem, &all.tool_mem, &all.skill_mem, &all.pref_mem].map(|lists| lists[0].total_nodes);
    assert_eq!(totals, [2, 2, 1, 1], "the text and its working copy, no page of the file");
    assert_eq!(all.pref_mem[0].memories[0]["memory"], "prefers wood");
    let body = json!({"mem_cube_id": "ann", "include_preference": false, "include_tool_memory": false,
        "include_skill_memory": false});
    let few = serde_json::to_value(app.product().get_memory(ask(&body)).await.unwrap()).unwrap();
    assert_eq!((&few["code"], &few["data"]["text_mem"][0]["total_nodes"]), (&json!(200), &json!(2)));
    for list in ["pref_mem", "tool_mem", "skill_mem"] {
        assert_eq!(few["data"][list], json!([]), "{list}");
    }
    for cube in ["bob", "there is no such cube"] {
        let none = app.product().get_memory(ask(&json!({"mem_cube_id": cube}))).await.unwrap();
        let empty = json!([{"cube_id": cube, "memories": [], "total_nodes": 0}]);
        let lists = serde_json::to_value(&none.data).unwrap();
        assert!(lists.as_object().unwrap().values().all(|list| *list == empty), "{lists}");
    }
}

#[tokio::test]
async fn filters_and_users_narrow_what_is_listed_and_counted() {
    let (_folder, app) = api().await;
    app.mos().share_cube_with_user(&ann(), &CubeId::from("ann"), &bob()).await.unwrap();
    let of = |user: &str, city: &str| json!({"memory_type": "OuterMemory", "user_id": user, "info": {"city": city}});
    let stored = keep(
        &app,
        "ann",
        &[("plays chess", of("ann", "Bonn")), ("likes tea", of("bob", "Bonn")), ("has a dog", of("ann", "Rome"))],
    )
    .await;
    let list = async |body: Value| app.product().get_memory(ask(&body)).await.unwrap().data.text_mem.remove(0);
    let in_bonn = list(json!({"mem_cube_id": "ann", "filter": {"city": "Bonn"}})).await;
    let both = BTreeSet::from([stored[0].clone(), stored[1].clone()]);
    assert_eq!((BTreeSet::from_iter(ids(&in_bonn)), in_bonn.total_nodes), (both, 2));
    assert_eq!(in_bonn.memories[0]["metadata"]["city"], "Bonn", "the application's data are fields");
    let of_bob = list(json!({"mem_cube_id": "ann", "user_id": "bob"})).await;
    assert_eq!((ids(&of_bob), of_bob.total_nodes), (vec![stored[1].clone()], 1));
    let filter = json!({"and": [{"or": [{"city": "Rome"}, {"city": "Oslo"}]}, {"user_id": "ann"}]});
    assert_eq!(ids(&list(json!({"mem_cube_id": "ann", "filter": filter})).await), [stored[2].clone()]);
    let bad = json!({"mem_cube_id": "ann", "filter": {"city": {"near": "Bonn"}}});
    assert_eq!(app.product().get_memory(ask(&bad)).await.unwrap_err().status, 400);
}

#[tokio::test]
async fn memories_of_others_are_refused_or_not_there() {
    let (_folder, app) = api().await;
    let id = keep(&app, "ann", &[("a secret", json!({"memory_type": "OuterMemory"}))]).await.remove(0);
    let as_bob = app.product_as(Caller::user("bob"));
    let ask_for = |body: Value| as_bob.get_memory(ask(&body));
    assert_eq!(ask_for(json!({"mem_cube_id": "ann"})).await.unwrap_err().status, 403);
    assert_eq!(ask_for(json!({"mem_cube_id": "ann", "user_id": "ann"})).await.unwrap_err().status, 403);
    assert_eq!(
        app.product().get_memory(ask(&json!({"mem_cube_id": "ann", "user_id": "bob"}))).await.unwrap_err().status,
        403
    );
    let dashboard = as_bob.get_memory_dashboard(ask(&json!({"mem_cube_id": "ann"}))).await;
    assert_eq!(dashboard.unwrap_err().status, 403);
    let none = as_bob.get_memory_by_id(&id).await.unwrap();
    assert_eq!((none.data, none.message), (None, format!("Memory with ID {id} not found")));
    assert!(as_bob.get_memory_by_ids(vec![id.clone()]).await.unwrap().data.memories.is_empty());
    let writer = Caller { scopes: [Scope::Write].into(), ..Caller::user("ann") };
    assert_eq!(app.product_as(writer.clone()).get_memory_by_id(&id).await.unwrap_err().status, 403);
    let of_writer = app.product_as(writer).get_memory(ask(&json!({"mem_cube_id": "ann"}))).await;
    assert_eq!(of_writer.unwrap_err().status, 403);
    let elsewhere = Caller { cubes: Some([CubeId::from("bob")].into()), ..Caller::program() };
    let elsewhere = app.product_as(elsewhere);
    assert_eq!(elsewhere.get_memory_by_id(&id).await.unwrap().data, None, "the key is for another cube");
    assert_eq!(elsewhere.get_memory(ask(&json!({"mem_cube_id": "ann"}))).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn memories_are_found_by_id_in_whatever_cube_they_are() {
    let (_folder, app) = api().await;
    let stored = keep(&app, "ann", &[("has a dog", json!({"memory_type": "UserMemory", "key": "dog"}))]).await;
    let noted = note(&app, "buy milk").await;
    let of_bob = keep(&app, "bob", &[("has a cat", json!({"memory_type": "UserMemory"}))]).await;
    let as_ann = app.product_as(Caller::user("ann"));
    let found = as_ann.get_memory_by_id(&stored[0]).await.unwrap();
    assert_eq!(found.message, "Memory retrieved successfully");
    let node = found.data.unwrap();
    assert_eq!((&node["id"], &node["memory"]), (&json!(stored[0]), &json!("has a dog")));
    assert_eq!(node["metadata"]["key"], "dog");
    assert!(node["metadata"]["embedding"].is_null());
    let unknown = "00000000-0000-4000-8000-00000000ffff".to_owned();
    let wanted = vec![noted.clone(), of_bob[0].clone(), unknown.clone(), stored[0].clone(), noted.clone()];
    let texts = |memories: Vec<Value>| -> Vec<String> {
        memories.iter().map(|memory| memory["memory"].as_str().unwrap().to_owned()).collect()
    };
    let hers = as_ann.get_memory_by_ids(wanted.clone()).await.unwrap().data.memories;
    assert_eq!(texts(hers), ["buy milk", "has a dog"]);
    let all = app.product().get_memory_by_ids(wanted).await.unwrap().data.memories;
    assert_eq!(texts(all), ["buy milk", "has a cat", "has a dog"], "a program reads for everybody");
    for missing in [unknown.as_str(), "no uuid", ""] {
        let none = app.product().get_memory_by_id(missing).await.unwrap();
        assert_eq!((none.data, none.message), (None, format!("Memory with ID {missing} not found")));
    }
    let many = vec![unknown; 1001];
    assert_eq!(app.product().get_memory_by_ids(many).await.unwrap_err().status, 400);
}

#[tokio::test]
async fn a_dashboard_goes_across_the_cubes_of_a_user() {
    let (_folder, app) = api().await;
    let days: Vec<(String, Value)> = (1..=3).map(|day| (animal(day), on_day(day))).collect();
    let days: Vec<(&str, Value)> = days.iter().map(|(text, metadata)| (text.as_str(), metadata.clone())).collect();
    let mut stored: BTreeSet<String> = keep(&app, "ann", &days).await.into_iter().collect();
    keep(&app, "ann", &[("how to cook", json!({"memory_type": "SkillMemory"}))]).await;
    for text in ["buy milk", "call the doctor"] {
        stored.insert(note(&app, text).await);
    }
    keep(&app, "bob", &[("has a cat", json!({"memory_type": "UserMemory"}))]).await;
    let as_ann = app.product_as(Caller::user("ann"));
    let mut seen = Vec::new();
    for (page, length) in [(1, 2), (2, 2), (3, 1), (4, 0)] {
        let dashboard = as_ann.get_memory_dashboard(ask(&json!({"page": page, "page_size": 2}))).await.unwrap().data;
        assert_eq!((dashboard.statistics.total_text_nodes, dashboard.statistics.total_skill_nodes), (5, 1));
        let lists = &dashboard.lists.text_mem;
        assert!(lists.iter().all(|list| list.total_nodes == list.memories.len() && list.total_nodes > 0));
        let on_page: Vec<String> = lists.iter().flat_map(ids).collect();
        assert_eq!(on_page.len(), length, "page {page}");
        seen.extend(on_page);
    }
    assert_eq!((seen.len(), BTreeSet::from_iter(seen)), (5, stored));
    let all = as_ann.get_memory_dashboard(ask(&json!({}))).await.unwrap();
    let all = serde_json::to_value(all.data).unwrap();
    let cubes: BTreeSet<&str> =
        all["text_mem"].as_array().unwrap().iter().map(|list| list["cube_id"].as_str().unwrap()).collect();
    assert_eq!(cubes, BTreeSet::from(["ann", "notes"]));
    let expected =
        json!({"total_text_nodes": 5, "total_tool_nodes": 0, "total_skill_nodes": 1, "total_preference_nodes": 0});
    assert_eq!(all["statistics"], expected);
    let everybody = app.product().get_memory_dashboard(ask(&json!({}))).await.unwrap().data;
    assert_eq!(everybody.statistics.total_text_nodes, 7, "bob's memory and its working copy too");
    let named = as_ann.get_memory_dashboard(ask(&json!({"mem_cube_id": "notes"}))).await.unwrap().data;
    assert_eq!((named.lists.text_mem.len(), named.statistics.total_text_nodes), (1, 2));
}
