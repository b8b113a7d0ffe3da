//! Memory as tools, used by a published client of the protocol: in this process for callers of every kind, and over HTTP.

mod http;
mod journey;
mod keys;
mod limits;
mod python;
mod tenants;

use mos::config::Setting;
use mos::product::{App, Caller, ProductOptions};
use mos::{Mos, Settings};
use mos_server::McpServer;
use mos_testkit::embedder::WordEmbedder;
use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A client that is connected.
type Client = RunningService<RoleClient, ()>;

/// Memories on a store in memory, with settings besides.
async fn app(more: Value) -> (TempDir, App) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = json!({"store": {"backend": "memory", "config": {}}});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let builder = Mos::builder(Settings::from_json(&settings).unwrap()).data_dir(folder.path());
    let mos = builder.embedder(std::sync::Arc::new(WordEmbedder::new("words", 64))).build().await.unwrap();
    (folder, App::new(mos, ProductOptions::default()))
}

/// A client of the tools of one caller.
async fn client_of(app: &App, caller: Caller) -> Client {
    connect(McpServer::new(app.clone(), caller)).await
}

async fn connect(server: McpServer) -> Client {
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let running = server.serve(far).await.unwrap();
        running.waiting().await.unwrap();
    });
    ().serve(near).await.unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

async fn call(client: &Client, tool: &str, arguments: Value) -> CallToolResult {
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(object(arguments));
    client.call_tool(request).await.unwrap()
}

/// The text that models and people read.
fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str()).collect()
}

/// The object of a call that must succeed.
async fn done(client: &Client, tool: &str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(false), "{tool}: {}", text(&result));
    let value = result.structured_content.clone().unwrap();
    let told = text(&result);
    let is_readable = value["result"] == json!(told) || serde_json::from_str::<Value>(&told).unwrap() == value;
    assert!(is_readable, "{tool}: {told}");
    value
}

/// The sentence of a call that must fail.
async fn refused(client: &Client, tool: &str, arguments: Value) -> String {
    let result = call(client, tool, arguments).await;
    let told = text(&result);
    assert_eq!(result.is_error, Some(true), "{tool}: {told}");
    assert_eq!(result.structured_content.unwrap()["error"], json!(told), "{tool}");
    told
}

/// Stores a text in a cube and returns its id.
async fn add(client: &Client, cube: &str, text: &str) -> String {
    let added = done(client, "add_memory", json!({"memory_content": text, "cube_id": cube})).await;
    added["memory_ids"][0].as_str().unwrap().to_owned()
}

/// The texts that a search finds in all cubes.
async fn found(client: &Client, arguments: Value) -> Vec<String> {
    let answer = done(client, "search_memories", arguments).await;
    let cubes = answer["text_mem"].as_array().unwrap();
    let memories = cubes.iter().flat_map(|cube| cube["memories"].as_array().unwrap());
    memories.map(|memory| memory["memory"].as_str().unwrap().to_owned()).collect()
}
