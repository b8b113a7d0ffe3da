//! Nobody reaches what belongs to somebody else, by any tool.

use std::collections::BTreeSet;

use mos::product::{Caller, Scope};
use mos_core::CubeId;
use serde_json::{Map, Value, json};

use super::{Client, add, app, call, client_of, done, found, object, refused, text};

const SECRET: &str = "the safe opens with 4711";

/// Arguments for what a tool asks for, all of them about this cube and memory.
fn about(schema: &Map<String, Value>, cube: &str, memory: &str) -> Value {
    let mut arguments = Map::new();
    let properties = schema["properties"].as_object().unwrap();
    let required: Vec<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in properties.keys().map(String::as_str) {
        let value = match name {
            "cube_id" => json!(cube),
            "cube_ids" => json!([cube]),
            "memory_id" => json!(memory),
            "memory_content" => json!("changed by somebody else"),
            "cube_name_or_path" => json!(cube),
            "owner_id" => json!("ben"),
            "action" => json!("stop"),
            _ if required.contains(&name) => json!("safe"),
            _ => continue,
        };
        arguments.insert(name.to_owned(), value);
    }
    Value::Object(arguments)
}

#[tokio::test]
async fn no_tool_reaches_a_cube_of_somebody_else() {
    let (_folder, app) = app(json!({})).await;
    let ann = client_of(&app, Caller::user("ann")).await;
    done(&ann, "create_cube", json!({"cube_name": "notes", "owner_id": "ann", "cube_id": "notes"})).await;
    let id = add(&ann, "notes", SECRET).await;
    let ben = client_of(&app, Caller::user("ben")).await;
    add_own(&ben).await;
    let mut covered = BTreeSet::new();
    for tool in ben.list_all_tools().await.unwrap() {
        let arguments = about(&tool.input_schema, "notes", &id);
        let names_it = arguments.to_string().contains("notes");
        let result = call(&ben, &tool.name, arguments).await;
        let told = format!("{} {}", text(&result), result.structured_content.unwrap_or_default());
        assert!(!told.contains(SECRET) && !told.contains("4711"), "{}: {told}", tool.name);
        if names_it {
            assert_eq!(result.is_error, Some(true), "{}: {told}", tool.name);
            covered.insert(tool.name.into_owned());
        }
    }
    for tool in ["search_memories", "chat", "add_memory", "get_memory", "memory_history", "dump_cube", "register_cube"]
    {
        assert!(covered.contains(tool), "{tool} was not tried: {covered:?}");
    }
    assert!(found(&ben, json!({"query": SECRET})).await.iter().all(|one| one != SECRET));
    let kept = done(&ann, "memory_history", json!({"cube_id": "notes", "memory_id": id})).await;
    assert_eq!(kept["versions"].as_array().unwrap().len(), 1, "nobody changed it: {kept}");
    assert_eq!(found(&ann, json!({"query": SECRET, "cube_ids": ["notes"]})).await, [SECRET]);
}

async fn add_own(ben: &Client) {
    done(ben, "add_memory", json!({"memory_content": "ben likes coffee"})).await;
}

#[tokio::test]
async fn a_key_of_one_user_acts_for_no_other() {
    let (_folder, app) = app(json!({})).await;
    let program = client_of(&app, Caller::program()).await;
    done(&program, "create_user", json!({"user_id": "ann"})).await;
    let ben = client_of(&app, Caller::user("ben")).await;
    add_own(&ben).await;
    for tool in ben.list_all_tools().await.unwrap() {
        let schema = &tool.input_schema;
        if schema["properties"].get("user_id").is_none() {
            continue;
        }
        let mut arguments = object(about(schema, "cube_ann", "x"));
        arguments.insert("user_id".to_owned(), json!("ann"));
        // Each of its ways to name what is added alone.
        if tool.name == "add_memory" {
            arguments.retain(|name, _| ["memory_content", "user_id"].contains(&name.as_str()));
        }
        let told = refused(&ben, &tool.name, Value::Object(arguments)).await;
        assert!(told.contains("another user"), "{}: {told}", tool.name);
    }
    let made = json!({"cube_name": "x", "owner_id": "ann"});
    assert!(refused(&ben, "create_cube", made).await.contains("another user"));
}

#[tokio::test]
async fn a_key_for_reading_neither_writes_nor_administers() {
    let (_folder, app) = app(json!({})).await;
    let ann = client_of(&app, Caller::user("ann")).await;
    done(&ann, "create_cube", json!({"cube_name": "notes", "owner_id": "ann", "cube_id": "notes"})).await;
    let id = add(&ann, "notes", "tea is green").await;
    let reader = client_of(&app, Caller { scopes: [Scope::Read].into(), ..Caller::user("ann") }).await;
    assert_eq!(found(&reader, json!({"query": "tea"})).await, ["tea is green"]);
    let offered: BTreeSet<String> =
        reader.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    let program = client_of(&app, Caller::program()).await;
    let mut n_refused = 0;
    for tool in program.list_all_tools().await.unwrap() {
        let hints = tool.annotations.unwrap();
        if offered.contains(&*tool.name) {
            assert!(hints.read_only_hint == Some(true) || tool.name == "chat", "{}", tool.name);
            continue;
        }
        assert_eq!(hints.read_only_hint, Some(false), "{}", tool.name);
        let told = refused(&reader, &tool.name, about(&tool.input_schema, "notes", &id)).await;
        assert!(told.contains("lacks the scope"), "{}: {told}", tool.name);
        n_refused += 1;
    }
    assert_eq!(n_refused, 14);
    let kept = done(&reader, "memory_history", json!({"cube_id": "notes", "memory_id": id})).await;
    assert_eq!(kept["versions"].as_array().unwrap().len(), 1);
    assert!(refused(&ann, "create_user", json!({"user_id": "eve"})).await.contains("`admin`"));
}

#[tokio::test]
async fn a_key_of_some_cubes_uses_no_others() {
    let (_folder, app) = app(json!({})).await;
    let ann = client_of(&app, Caller::user("ann")).await;
    for cube in ["notes", "diary"] {
        done(&ann, "create_cube", json!({"cube_name": cube, "owner_id": "ann", "cube_id": cube})).await;
    }
    let secret = add(&ann, "diary", SECRET).await;
    add(&ann, "notes", "the safe is in the cellar").await;
    let cubes: BTreeSet<CubeId> = [CubeId::from("notes")].into();
    let narrow = client_of(&app, Caller { cubes: Some(cubes), ..Caller::user("ann") }).await;
    assert_eq!(found(&narrow, json!({"query": "the safe"})).await, ["the safe is in the cellar"]);
    let told = refused(&narrow, "get_memory", json!({"cube_id": "diary", "memory_id": secret})).await;
    assert!(told.contains("may not use the cube `diary`"), "{told}");
    assert!(
        refused(&narrow, "search_memories", json!({"query": "safe", "cube_ids": ["diary"]})).await.contains("diary")
    );
    let added = done(&narrow, "add_memory", json!({"memory_content": "more"})).await;
    assert_eq!(added["cube_id"], "notes", "the only cube is the default one");
    for tool in ["list_cubes", "get_user_info"] {
        let told = done(&narrow, tool, json!({})).await.to_string();
        assert!(told.contains("notes") && !told.contains("diary"), "{tool}: {told}");
    }
    assert!(
        refused(&narrow, "create_cube", json!({"cube_name": "x", "owner_id": "ann"})).await.contains("may not use")
    );
}
