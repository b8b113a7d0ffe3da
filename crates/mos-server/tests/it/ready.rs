//! What a server says whose stores do not answer, and one that is told to stop.

use std::time::Duration;

use mos_server::ServerOptions;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::house::{House, open_to_all};

async fn ready(house: &House) -> (StatusCode, Value) {
    let answer = reqwest::get(format!("{}/ready", house.url)).await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_named_until_it_is_back() {
    let options = ServerOptions { metrics_open: true, ..open_to_all() };
    let house = House::with_settings(options, json!({"store": {"backend": "sqlite", "config": {}}})).await;
    assert_eq!(ready(&house).await, (StatusCode::OK, json!({"status": "ready"})));
    let database = house.app.mos().data_dir().join("mos.db");
    let database = rusqlite::Connection::open(database).unwrap();
    let rename = |from: &str, to: &str| database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    for (store, table) in [("records", "scopes"), ("users", "users"), ("queue", "queues")] {
        rename(table, "away");
        let (status, said) = ready(&house).await;
        assert_eq!((status, &said["unreachable"]), (StatusCode::SERVICE_UNAVAILABLE, &json!([store])), "{said}");
        assert_eq!(said["status"], "unavailable");
        assert!(!said.to_string().contains("mos.db"), "where it is, is nobody's business: {said}");
        if store == "queue" {
            let numbers = reqwest::get(format!("{}/metrics", house.url)).await.unwrap().text().await.unwrap();
            for (known, answers) in [("records", 1), ("users", 1), ("queue", 0)] {
                let line = format!("mos_store_up{{store=\"{known}\"}} {answers}\n");
                assert!(numbers.contains(&line), "{line}\n{numbers}");
            }
        }
        rename("away", table);
        assert_eq!(ready(&house).await.0, StatusCode::OK, "{store} is back");
    }
    house.close().await;
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_says_so_and_answers_until_its_notice_is_over() {
    let notice = |stop_notice| ServerOptions { stop_notice, ..open_to_all() };
    let mut house = House::open(notice(Duration::from_secs(3_600))).await;
    assert_eq!(ready(&house).await.0, StatusCode::OK);
    house.tell_to_stop();
    let told = async {
        loop {
            let (status, said) = ready(&house).await;
            if status != StatusCode::OK {
                return (status, said["status"].clone());
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await.expect("it says so");
    assert_eq!(told, (StatusCode::SERVICE_UNAVAILABLE, json!("stopping")));
    let others = reqwest::get(format!("{}/health", house.url)).await.unwrap();
    assert_eq!(others.status(), StatusCode::OK, "whoever is sent here meanwhile is answered");
    let house = House::open(notice(Duration::from_millis(10))).await;
    let url = format!("{}/health", house.url);
    house.close().await;
    assert!(reqwest::get(url).await.is_err(), "then nobody listens");
}
