//! The tools at `/mcp` with keys: each request counts for its own, and changes are written down.

use mos::keys::NewKey;
use mos_core::KeyScope;
use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::json;

use super::{Client, add, done, found, refused};
use crate::guarded::Guarded;

async fn client_with(house: &Guarded, key: &str) -> Client {
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", house.url)).auth_header(key);
    ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap()
}

#[tokio::test]
async fn each_key_reaches_what_is_its_own() {
    let house = Guarded::open().await;
    let root = client_with(&house, &house.root).await;
    assert_eq!(root.list_all_tools().await.unwrap().len(), 20);
    let (ann, ben) = (house.key(NewKey::user("ann")).await, house.key(NewKey::user("ben")).await);
    let (ann, ben) = (client_with(&house, &ann).await, client_with(&house, &ben).await);
    done(&ann, "create_cube", json!({"cube_name": "notes", "owner_id": "ann", "cube_id": "notes"})).await;
    let id = add(&ann, "notes", "the safe opens with 4711").await;
    assert_eq!(found(&ann, json!({"query": "safe"})).await, ["the safe opens with 4711"]);
    assert!(found(&ben, json!({"query": "safe"})).await.is_empty());
    let told = refused(&ben, "get_memory", json!({"cube_id": "notes", "memory_id": id})).await;
    assert!(told.contains("does not have access") && !told.contains("4711"), "{told}");
    assert!(
        refused(&ben, "search_memories", json!({"query": "safe", "user_id": "ann"})).await.contains("another user")
    );
    let reader = NewKey { scopes: [KeyScope::Read].into(), ..NewKey::user("ann") };
    let reader = client_with(&house, &house.key(reader).await).await;
    assert_eq!(found(&reader, json!({"query": "safe"})).await, ["the safe opens with 4711"]);
    assert!(refused(&reader, "delete_all_memories", json!({"cube_id": "notes"})).await.contains("`write`"));
    for client in [root, ann, ben, reader] {
        client.cancel().await.unwrap();
    }
    house.close().await;
}

#[tokio::test]
async fn without_a_good_key_no_client_gets_in() {
    let house = Guarded::open().await;
    let nobody = format!("krlk_{}", "0".repeat(64));
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", house.url)).auth_header(nobody);
    assert!(().serve(StreamableHttpClientTransport::from_config(config)).await.is_err());
    let (status, body) = house.post("/mcp", "", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!((status, body.get("result")), (401, None));
    house.close().await;
}

#[tokio::test]
async fn tools_that_change_something_are_written_down_and_others_are_not() {
    let house = Guarded::open().await;
    let ann = client_with(&house, &house.key(NewKey::user("ann")).await).await;
    done(&ann, "create_cube", json!({"cube_name": "notes", "owner_id": "ann", "cube_id": "notes"})).await;
    add(&ann, "notes", "the safe opens with 4711").await;
    found(&ann, json!({"query": "safe"})).await;
    let (status, log) = house.get("/admin/audit", &house.root).await;
    assert_eq!(status, 200, "{log}");
    let entries = log["entries"].as_array().unwrap();
    let told: Vec<&str> = entries.iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["POST /mcp add_memory", "POST /mcp create_cube"], "greetings, lists and searches change nothing");
    assert_eq!((&entries[0]["cubes"], &entries[0]["user"]), (&json!(["notes"]), &json!("ann")));
    assert!(!log.to_string().contains("4711"), "{log}");
    ann.cancel().await.unwrap();
    house.close().await;
}
