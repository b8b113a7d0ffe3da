//! Starting, answering, stopping.

use mos_server::ServerOptions;
use serde_json::Value;

use crate::house::House;

#[tokio::test]
async fn a_server_tells_that_it_lives_and_stops_when_it_is_told_to() {
    let house = House::open(ServerOptions::default()).await;
    let health: Value = reqwest::get(format!("{}/health", house.url)).await.unwrap().json().await.unwrap();
    assert_eq!((&health["status"], &health["service"]), (&"healthy".into(), &"memos".into()));
    let ready = reqwest::get(format!("{}/ready", house.url)).await.unwrap();
    assert_eq!(ready.status(), 200);
    let url = format!("{}/nowhere", house.url);
    let missing = reqwest::get(&url).await.unwrap();
    assert_eq!(missing.status(), 404);
    let body: Value = missing.json().await.unwrap();
    assert_eq!((&body["code"], &body["data"]), (&404.into(), &Value::Null));
    assert!(house.app.mos().list_users().await.is_ok());
    house.close().await;
    assert!(reqwest::get(&url).await.is_err(), "nobody listens any more");
}
