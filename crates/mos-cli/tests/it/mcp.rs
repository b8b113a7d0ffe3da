//! `mos mcp`, spoken to over its pipes: by a published client, and word by word.

use std::path::Path;
use std::process::Stdio;

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{mos, run_with_input, stdout};

/// A program that runs, and a client of it. What it logs goes to a file beside the data.
async fn start(data: &Path, arguments: &[&str]) -> (Child, RunningService<RoleClient, ()>) {
    let mut command = Command::from(mos(data, arguments));
    let log = std::fs::File::create(data.join("mcp.log")).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(log)).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let client = ().serve((output, input)).await.unwrap();
    (child, client)
}

async fn call(client: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().unwrap().clone();
    client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

async fn done(client: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(false), "{tool}: {result:?}");
    result.structured_content.unwrap()
}

#[tokio::test]
async fn a_client_on_standard_input_remembers_changes_and_takes_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let (mut child, client) = start(data, &["mcp", "-vv"]).await;
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "control_memory_scheduler"));
    let added = done(&client, "add_memory", json!({"memory_content": "My dog is called Max"})).await;
    let named = json!({"cube_id": added["cube_id"], "memory_id": added["memory_ids"][0]});
    let found = done(&client, "search_memories", json!({"query": "what is the name of my pet"})).await;
    assert_eq!(found["text_mem"][0]["memories"][0]["memory"], "My dog is called Max");
    let mut change = named.clone();
    change["memory_content"] = json!("My dog is called Moritz");
    done(&client, "update_memory", change).await;
    let history = done(&client, "memory_history", named.clone()).await;
    assert_eq!(history["versions"].as_array().unwrap().len(), 2);
    assert_eq!(done(&client, "undo_memory", named.clone()).await["memory"], "My dog is called Max");
    done(&client, "delete_memory", named.clone()).await;
    assert_eq!(call(&client, "get_memory", named.clone()).await.is_error, Some(true));
    assert_eq!(done(&client, "undo_memory", named).await["memory"], "My dog is called Max");
    client.cancel().await.unwrap();
    assert!(child.wait().await.unwrap().success(), "it ends when its client goes");
    let log = std::fs::read_to_string(data.join("mcp.log")).unwrap();
    assert!(!log.contains("dog is called"), "memories stay out of the log: {log}");
    assert!(stdout(data, &["list"]).contains("My dog is called Max"), "other commands find what was told");
}

#[tokio::test]
async fn arguments_bind_a_client_to_one_user_one_cube_and_reading() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    stdout(data, &["add", "tea is green", "--user", "ann", "--cube", "notes"]);
    stdout(data, &["add", "the safe opens with 4711", "--user", "ann", "--cube", "diary"]);
    let (mut child, client) = start(data, &["mcp", "--user", "ann", "--cube", "notes", "--read-only"]).await;
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().all(|tool| tool.name != "add_memory" && tool.name != "create_user"));
    let found = done(&client, "search_memories", json!({"query": "tea or safe"})).await.to_string();
    assert!(found.contains("tea is green") && !found.contains("4711"), "{found}");
    for (tool, arguments, told) in [
        ("add_memory", json!({"memory_content": "x"}), "lacks the scope `write`"),
        ("search_memories", json!({"query": "x", "user_id": "root"}), "another user"),
        ("search_memories", json!({"query": "x", "cube_ids": ["diary"]}), "may not use the cube"),
    ] {
        let result = call(&client, tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}");
        let error = result.structured_content.unwrap()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(told), "{tool}: {error}");
    }
    client.cancel().await.unwrap();
    assert!(child.wait().await.unwrap().success());
}

#[test]
fn standard_output_carries_the_protocol_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let said = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
            "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ];
    let input: String = said.iter().map(|message| format!("{message}\n")).collect();
    let output = run_with_input(data, &["mcp", "--user", "new", "-v"], &input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(answers.iter().all(|answer| answer["jsonrpc"] == "2.0"), "{told}");
    assert_eq!(answers[0]["result"]["serverInfo"]["name"], "mos");
    assert!(String::from_utf8_lossy(&output.stderr).contains("created user `new`"), "notes go to standard error");
    let silent = run_with_input(data, &["mcp"], "");
    assert!(silent.status.success() && silent.stdout.is_empty(), "{silent:?}");
}
