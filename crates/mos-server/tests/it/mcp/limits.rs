//! What is wrong, and what is refused, is told with what to do.

use mos::product::Caller;
use rmcp::model::CallToolRequestParams;
use serde_json::json;

use super::{app, client_of, done, refused};

#[tokio::test]
async fn wrong_input_is_answered_with_what_there_should_be() {
    let (_folder, app) = app(json!({})).await;
    let client = client_of(&app, Caller::program()).await;
    done(&client, "add_memory", json!({"memory_content": "tea is green"})).await;
    for (tool, arguments, told) in [
        ("add_memory", json!({}), "exactly one of"),
        (
            "add_memory",
            json!({"memory_content": "a", "messages": [{"role": "user", "content": "b"}]}),
            "exactly one of",
        ),
        ("add_memory", json!({"messages": "tea"}), "a list of messages"),
        ("add_memory", json!({"messages": [{"role": "nobody", "content": "b"}]}), "cannot be read"),
        ("search_memories", json!({}), "`query` is missing"),
        ("search_memories", json!({"query": " "}), "empty"),
        ("search_memories", json!({"query": "tea", "top_k": 0}), "from 1 to 100"),
        ("search_memories", json!({"query": "tea", "mode": "slow"}), "fast, fine, mixture"),
        (
            "search_memories",
            json!({"query": "tea", "limit": 3}),
            "there is no argument `limit`; this tool takes `query`",
        ),
        ("search_memories", json!({"query": "tea", "filter": {"key": {"near": 1}}}), "the filter cannot be used"),
        ("search_memories", json!({"query": "tea", "user_id": "nobody"}), "does not exist"),
        ("get_memory", json!({"cube_id": "cube_root", "memory_id": "unknown"}), "not found"),
        ("update_memory", json!({"cube_id": "cube_root", "memory_id": "x"}), "`memory_content` is missing"),
        ("create_user", json!({"user_id": "ann", "role": "KING"}), "USER, GUEST, ADMIN"),
        ("control_memory_scheduler", json!({"action": "pause"}), "start, stop"),
    ] {
        let sentence = refused(&client, tool, arguments.clone()).await;
        assert!(sentence.contains(told), "{tool} {arguments}: {sentence}");
    }
    let unknown = client.call_tool(CallToolRequestParams::new("remember")).await.unwrap_err();
    assert!(unknown.to_string().contains("there is no tool `remember`"), "{unknown}");
}

#[tokio::test]
async fn clients_name_no_paths_of_the_server() {
    let (folder, app) = app(json!({})).await;
    let client = client_of(&app, Caller::program()).await;
    done(&client, "add_memory", json!({"memory_content": "tea is green"})).await;
    let file = folder.path().join("secret.txt");
    std::fs::write(&file, "4711").unwrap();
    let path = file.display().to_string();
    assert!(refused(&client, "add_memory", json!({"doc_path": path})).await.contains("reads no files"));
    let made = json!({"cube_name": "x", "owner_id": "root", "cube_path": folder.path().display().to_string()});
    assert!(refused(&client, "create_cube", made).await.contains("reads no files"));
    let registered = json!({"cube_name_or_path": folder.path().display().to_string()});
    assert!(refused(&client, "register_cube", registered).await.contains("does not have access"));
    for name in ["../out", "/tmp/out", "a/b", ".hidden"] {
        assert!(refused(&client, "dump_cube", json!({"dump_dir": name})).await.contains("not a path"), "{name}");
    }
    assert!(!folder.path().join("exports").exists(), "nothing was made for what was refused");
    let shown = done(&client, "get_user_info", json!({})).await;
    assert!(!shown.to_string().contains(&*folder.path().to_string_lossy()), "{shown}");
}
