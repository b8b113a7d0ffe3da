//! Whose requests are answered at all.

use mos_server::{AuthMode, ServerOptions};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::House;

const LISTED: &str = "https://app.example.com";

fn listed() -> ServerOptions {
    ServerOptions {
        cors_origins: vec![LISTED.to_owned()],
        allowed_hosts: vec!["mos.example.com".to_owned()],
        ..ServerOptions::default()
    }
}

async fn status(house: &House, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = Client::new().get(format!("{}/health", house.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused() {
    let house = House::open(listed()).await;
    let (refused, body) = status(&house, &[("host", "evil.example")]).await;
    assert_eq!((refused.as_u16(), &body["code"], &body["data"]), (421, &421.into(), &Value::Null));
    let port = house.url.rsplit(':').next().unwrap();
    for own in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "mos.example.com".to_owned()] {
        assert_eq!(status(&house, &[("host", &own)]).await.0, StatusCode::OK, "{own}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_foreign_page_is_refused_and_a_listed_one_is_told_that_it_may() {
    let house = House::open(listed()).await;
    let (refused, body) = status(&house, &[("origin", "https://evil.example")]).await;
    assert_eq!((refused, &body["code"]), (StatusCode::FORBIDDEN, &403.into()));
    assert_eq!(status(&house, &[("origin", "null")]).await.0, StatusCode::FORBIDDEN);
    assert_eq!(status(&house, &[("origin", &house.url)]).await.0, StatusCode::OK, "the server's own page");
    let answer = Client::new().get(format!("{}/health", house.url)).header("origin", LISTED).send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], LISTED);
    assert!(answer.headers().get("access-control-allow-credentials").is_none());
    house.close().await;
}

/// Asks as a browser does before it lets a page ask.
async fn preflight(house: &House, origin: &str) -> reqwest::Response {
    Client::new()
        .request(Method::OPTIONS, format!("{}/product/search", house.url))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_browser_that_asks_before_is_told_what_a_listed_page_may_do() {
    let house = House::open(listed()).await;
    let answer = preflight(&house, LISTED).await;
    assert!(answer.status().is_success());
    assert_eq!(answer.headers()["access-control-allow-origin"], LISTED);
    assert!(answer.headers()["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    assert_eq!(answer.headers()["access-control-allow-headers"], "authorization,content-type");
    let refused = preflight(&house, "https://evil.example").await;
    assert!(refused.headers().get("access-control-allow-origin").is_none());
    house.close().await;
}

#[tokio::test]
async fn an_open_server_lets_every_page_call_but_without_credentials() {
    let house = House::open(ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() }).await;
    let answer = preflight(&house, "https://any.example").await;
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(answer.headers().get("access-control-allow-credentials").is_none());
    let (refused, _) = status(&house, &[("host", "evil.example")]).await;
    assert_eq!(refused.as_u16(), 421, "names are looked at all the same");
    house.close().await;
}

#[tokio::test]
async fn every_answer_tells_browsers_what_not_to_do() {
    let house = House::open(ServerOptions::default()).await;
    for path in ["/health", "/nowhere"] {
        let answer = reqwest::get(format!("{}{path}", house.url)).await.unwrap();
        let headers = answer.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"), "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_request_with_two_names_is_nobodys() {
    let house = House::open(ServerOptions::default()).await;
    let address = house.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    house.close().await;
}
