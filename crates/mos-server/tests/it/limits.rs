//! How much a request and a caller may take.

use std::net::IpAddr;
use std::time::Duration;

use mos::keys::NewKey;
use mos_server::{AuthMode, RateLimit, ServerOptions};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::guarded::{self, Guarded};
use crate::house::House;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everybody may call, so that only limits refuse.
fn open() -> ServerOptions {
    ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() }
}

async fn call(house: &House, path: &str, forwarded: Option<&str>) -> Response {
    let request = Client::new().get(format!("{}{path}", house.url));
    let request = match forwarded {
        Some(address) => request.header("x-forwarded-for", address),
        None => request,
    };
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_in_the_envelope() {
    let house = House::open(ServerOptions { max_body_bytes: 1_000, ..open() }).await;
    let answer = Client::new().post(format!("{}/nowhere", house.url)).body("x".repeat(1_001)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["code"], &body["data"]), (&413.into(), &Value::Null));
    assert!(body["message"].as_str().unwrap().contains("1000 bytes"), "{body}");
    house.close().await;
}

#[tokio::test]
async fn an_address_or_headers_that_are_too_long_are_refused_in_the_envelope() {
    let house = House::open(open()).await;
    let long = call(&house, &format!("/health?q={}", "x".repeat(9_000)), None).await;
    assert_eq!(long.status(), StatusCode::URI_TOO_LONG);
    assert_eq!(long.json::<Value>().await.unwrap()["code"], 414);
    let heavy = call(&house, "/health", Some(&"1".repeat(40_000))).await;
    assert_eq!(heavy.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(heavy.json::<Value>().await.unwrap()["code"], 431);
    house.close().await;
}

fn two_a_day() -> ServerOptions {
    ServerOptions { rate_limit: Some(RateLimit { requests: 2, window: Duration::from_secs(86_400) }), ..open() }
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again() {
    let house = House::open(two_a_day()).await;
    for left in ["1", "0"] {
        let answer = call(&house, "/metrics", None).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            (&answer.headers()["x-ratelimit-limit"], &answer.headers()["x-ratelimit-remaining"]),
            (&"2".parse().unwrap(), &left.parse().unwrap())
        );
    }
    let refused = call(&house, "/metrics", None).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=43_200).contains(&wait), "{wait}");
    let reset: u64 = refused.headers()["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert!(reset > 1_700_000_000, "seconds since 1970: {reset}");
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["code"], &body["data"], &body["retry_after"]), (&429.into(), &Value::Null, &wait.into()));
    assert!(body["detail"].is_string());
    for watched in ["/health", "/ready"] {
        assert_eq!(call(&house, watched, None).await.status(), StatusCode::OK, "{watched}");
    }
    house.close().await;
}

#[tokio::test]
async fn nobody_becomes_another_caller_by_saying_so() {
    let house = House::open(two_a_day()).await;
    for forwarded in ["1.1.1.1", "2.2.2.2"] {
        assert_eq!(call(&house, "/metrics", Some(forwarded)).await.status(), StatusCode::OK);
    }
    assert_eq!(call(&house, "/metrics", Some("3.3.3.3")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    house.close().await;
}

#[tokio::test]
async fn a_trusted_proxy_says_who_calls() {
    let proxy = IpAddr::from([127, 0, 0, 1]);
    let house = House::open(ServerOptions { trusted_proxies: vec![proxy], ..two_a_day() }).await;
    for _ in 0..2 {
        assert_eq!(call(&house, "/metrics", Some("1.1.1.1")).await.status(), StatusCode::OK);
    }
    assert_eq!(call(&house, "/metrics", Some("1.1.1.1")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(call(&house, "/metrics", Some("2.2.2.2")).await.status(), StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn a_key_that_calls_too_often_waits_and_another_one_does_not() {
    let options = ServerOptions { rate_limit: two_a_day().rate_limit, ..guarded::options() };
    let house = Guarded::over(tempfile::tempdir().unwrap(), options, None).await;
    let other = house.key(NewKey::program()).await;
    let with_scheme = format!("Bearer {}", house.root);
    for key in [&house.root, &with_scheme] {
        assert_eq!(house.get("/admin/keys", key).await.0, 200);
    }
    for key in [&house.root, &with_scheme] {
        let (status, body) = house.get("/admin/keys", key).await;
        assert_eq!((status, &body["code"]), (429, &429.into()), "one key, however it is sent");
    }
    assert_eq!(house.get("/admin/keys", &other).await.0, 200);
    house.close().await;
}

#[tokio::test]
async fn who_only_tries_keys_is_put_off() {
    let options = ServerOptions { auth: AuthMode::Keys, ..two_a_day() };
    let house = House::open(options).await;
    for _ in 0..2 {
        assert_eq!(call(&house, "/metrics", None).await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(call(&house, "/metrics", None).await.status(), StatusCode::TOO_MANY_REQUESTS);
    house.close().await;
}

#[tokio::test]
async fn a_connection_that_sends_no_whole_head_is_closed() {
    let house = House::open(ServerOptions { header_timeout: Duration::from_millis(50), ..open() }).await;
    let mut stream = TcpStream::connect(house.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed").ok();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    house.close().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let house =
        House::open(ServerOptions { max_connections: 1, header_timeout: Duration::from_millis(50), ..open() }).await;
    let mut idle = TcpStream::connect(house.url.strip_prefix("http://").unwrap()).await.unwrap();
    let answer = timeout(PATIENCE, call(&house, "/health", None)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("it made room for the other one").ok();
    house.close().await;
}

#[tokio::test]
async fn an_address_that_has_all_its_connections_is_told_so_and_served_when_one_has_gone() {
    let house = House::open(ServerOptions { max_connections_per_address: 1, ..open() }).await;
    let address = house.url.strip_prefix("http://").unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    // An answer shows that it was accepted.
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    timeout(PATIENCE, idle.read_exact(&mut some)).await.unwrap().unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, second.read_to_string(&mut answer)).await.expect("it is closed").unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: 1"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}: {body}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["code"], &body["data"]), (&429.into(), &Value::Null));
    drop((idle, second));
    let served = async {
        // The server hears a little later that a connection has gone.
        loop {
            if let Ok(answer) = Client::new().get(format!("{}/health", house.url)).send().await
                && answer.status() == StatusCode::OK
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("there is a place again");
    house.close().await;
}

#[tokio::test]
async fn one_that_is_too_many_hears_so_whatever_it_sends() {
    let house = House::open(ServerOptions { max_connections_per_address: 1, ..open() }).await;
    let address = house.url.strip_prefix("http://").unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    timeout(PATIENCE, idle.read_exact(&mut some)).await.unwrap().unwrap();
    let mut long = b"POST /product/add HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65536\r\n\r\n".to_vec();
    long.resize(long.len() + 65_536, b'x');
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(&long).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, second.read_to_string(&mut answer)).await.expect("it is closed").expect("and not torn down");
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.ends_with('}'), "{answer}");
    house.close().await;
}

#[tokio::test]
async fn a_trusted_proxy_may_have_more_connections_than_an_address() {
    let proxy = IpAddr::from([127, 0, 0, 1]);
    let options = ServerOptions { max_connections_per_address: 1, trusted_proxies: vec![proxy], ..open() };
    let house = House::open(options).await;
    let idle = TcpStream::connect(house.url.strip_prefix("http://").unwrap()).await.unwrap();
    let answer = timeout(PATIENCE, call(&house, "/health", None)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(idle);
    house.close().await;
}
