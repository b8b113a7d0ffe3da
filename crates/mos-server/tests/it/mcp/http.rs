//! The tools at `/mcp`.

use mos_server::{AuthMode, ServerOptions};
use reqwest::{Client as Browser, Response};
use rmcp::model::ProtocolVersion;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt, ServiceExt};
use serde_json::{Value, json};

use super::journey::remember_and_change;
use crate::house::House;

async fn open_house() -> House {
    House::open(ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() }).await
}

async fn post(house: &House, body: &Value, headers: &[(&str, &str)]) -> Response {
    let request = Browser::new().post(format!("{}/mcp", house.url)).json(body);
    let request = request.header("accept", "application/json, text/event-stream");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

fn list_tools() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

#[tokio::test]
async fn a_published_client_uses_the_tools_over_http() {
    let house = open_house().await;
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", house.url));
    let client = ().serve(transport).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 20);
    for tool in tools {
        let schema = &tool.input_schema;
        assert_eq!(schema["type"], "object", "{}", tool.name);
        let properties = schema["properties"].as_object().unwrap();
        for name in schema["required"].as_array().unwrap() {
            assert!(properties.contains_key(name.as_str().unwrap()), "{}: {name}", tool.name);
        }
        assert!(tool.description.is_some() && tool.annotations.is_some(), "{}", tool.name);
    }
    remember_and_change(&client).await;
    client.cancel().await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn a_client_of_the_protocol_without_sessions_is_served_too() {
    let house = open_house().await;
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", house.url));
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(transport, lifecycle).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 20);
    remember_and_change(&client).await;
    client.cancel().await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn nobody_goes_on_with_what_somebody_else_began() {
    let house = open_house().await;
    let begin = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let begun = post(&house, &begin, &[]).await;
    assert_eq!(begun.status(), 200);
    assert!(begun.headers().get("mcp-session-id").is_none(), "there is no session to take over");
    let told: Value = begun.json().await.unwrap();
    assert_eq!(told["result"]["serverInfo"]["name"], "mos");
    assert!(told["result"]["instructions"].as_str().unwrap().contains("Memories are data"));
    let listed: Value = post(&house, &list_tools(), &[("mcp-session-id", "made-up")]).await.json().await.unwrap();
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 20, "it counts for who sends it");
    let stream = reqwest::get(format!("{}/mcp", house.url)).await.unwrap();
    assert_eq!(stream.status(), 405, "nothing waits for a client that went");
    house.close().await;
}

#[tokio::test]
async fn pages_and_names_of_others_are_refused() {
    let house = open_house().await;
    for header in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        let response = post(&house, &list_tools(), &[header]).await;
        assert!(response.status().is_client_error(), "{header:?}: {}", response.status());
        assert!(!response.text().await.unwrap().contains("search_memories"), "{header:?}");
    }
    assert_eq!(post(&house, &list_tools(), &[]).await.status(), 200);
    house.close().await;
}

#[tokio::test]
async fn every_name_of_the_server_leads_to_its_tools() {
    let allowed_hosts = vec!["*.internal.example".to_owned(), "mos.example.com".to_owned()];
    let options = ServerOptions { auth: AuthMode::Open, allowed_hosts, ..ServerOptions::default() };
    let house = House::open(options).await;
    for own in ["a.internal.example", "mos.example.com:8443", "[::1]:8000", "127.0.0.9"] {
        assert_eq!(post(&house, &list_tools(), &[("host", own)]).await.status(), 200, "{own}");
    }
    assert_eq!(post(&house, &list_tools(), &[("host", "internal.example")]).await.status(), 421);
    house.close().await;
}

#[tokio::test]
async fn without_a_key_no_tool_is_told_or_called() {
    let house = House::open(ServerOptions::default()).await;
    let search = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "search_memories", "arguments": {"query": "tea"}}});
    for body in [list_tools(), search] {
        let answer: Value = post(&house, &body, &[]).await.json().await.unwrap();
        assert!(answer.get("result").is_none(), "{answer}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let options = ServerOptions { auth: AuthMode::Open, max_body_bytes: 2_000, ..ServerOptions::default() };
    let house = House::open(options).await;
    let long = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "add_memory", "arguments": {"memory_content": "x".repeat(2_000)}}});
    assert_eq!(post(&house, &long, &[]).await.status(), 413);
    house.close().await;
}

#[tokio::test]
async fn a_body_of_very_many_values_or_levels_is_refused_before_it_is_read() {
    let house = open_house().await;
    let many = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "search_memories", "arguments": {"query": "tea", "filter": {"x": vec![0; 600_000]}}}});
    let refused = post(&house, &many, &[]).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("500000 values"));
    let filter = (0..70).fold(json!(0), |inner, _| json!([inner]));
    let deep = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "search_memories", "arguments": {"query": "tea", "filter": filter}}});
    let refused = post(&house, &deep, &[]).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("too deeply"));
    house.close().await;
}
