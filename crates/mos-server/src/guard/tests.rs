//! The guards around routes that only tests have: one that panics, one that never ends, one that reads JSON.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use futures::future::join_all;
use futures::{StreamExt, stream};
use mos::product::{App, Caller, ProductOptions, Scope};
use mos::{Mos, Settings};
use mos_config::Setting;
use mos_core::KeyId;
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::{around, within};
use crate::auth::KeyUsed;
use crate::extract::JsonBody;
use crate::metrics;
use crate::options::{RateLimit, ServerOptions};
use crate::state::ServerState;

async fn broken() -> &'static str {
    panic!("ann's secret is in here")
}

async fn endless() -> &'static str {
    pending().await
}

/// Reads a body itself.
async fn raw(request: Request) -> &'static str {
    match to_bytes(request.into_body(), usize::MAX).await {
        Ok(_) => "read",
        Err(_) => "broken off",
    }
}

async fn json_body(JsonBody(value): JsonBody) -> String {
    value.to_string()
}

/// Does what the layer does that looks at keys: every header `test-key` is a good key, `admin` one of an administrator.
async fn known(mut request: Request, next: Next) -> Response {
    let key = request.headers().get("test-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    if let Some(key) = key {
        let caller = match key.as_str() {
            "admin" => Caller::program(),
            // The scope outlives a role, and opens nothing then.
            "demoted" => Caller { scopes: [Scope::Admin].into(), ..Caller::user("root2") },
            _ => Caller::user("ann"),
        };
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(KeyUsed::Key(KeyId::new(key)));
    }
    next.run(request).await
}

async fn guarded(options: ServerOptions) -> (TempDir, Router) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::from_json(&json!({"store": {"backend": "memory", "config": {}}})).unwrap();
    let builder = Mos::builder(settings).data_dir(folder.path()).embedder(Arc::new(WordEmbedder::new("words", 64)));
    let app = App::new(builder.build().await.unwrap(), ProductOptions::default());
    let state = ServerState::new(app, options);
    let routes = Router::new()
        .route("/broken", get(broken))
        .route("/endless", get(endless))
        .route("/fine", get(|| async { "fine" }))
        .route("/json", post(json_body))
        .route("/raw", post(raw))
        .merge(metrics::routes().into_parts().0);
    let router = around(within(routes, &state).layer(from_fn(known)), &state).with_state(state);
    (folder, router)
}

async fn ask(router: &Router, path: &str, key: &str) -> Response {
    let request = Request::builder().uri(path).header("test-key", key).body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn send(router: &Router, body: Body) -> Response {
    router.clone().oneshot(Request::builder().method("POST").uri("/json").body(body).unwrap()).await.unwrap()
}

async fn envelope(response: Response) -> Value {
    let status = response.status();
    assert!(response.headers().contains_key("x-trace-id"), "every answer has a name");
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&value["code"], &value["data"]), (&status.as_u16().into(), &Value::Null));
    value
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_without_what_it_said() {
    let (_folder, router) = guarded(ServerOptions::default()).await;
    let response = ask(&router, "/broken", "one").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!envelope(response).await.to_string().contains("secret"));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let options = ServerOptions { request_timeout: Duration::from_millis(20), ..ServerOptions::default() };
    let (_folder, router) = guarded(options).await;
    let response = ask(&router, "/endless", "one").await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    envelope(response).await;
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_is_told_to_come_again() {
    let (_folder, router) = guarded(ServerOptions { max_concurrent_requests: 1, ..ServerOptions::default() }).await;
    let mut first = std::pin::pin!(ask(&router, "/endless", "one"));
    // It is polled first and takes the place; then the other one is answered.
    let second = tokio::select! {
        biased;
        _ = &mut first => panic!("it never ends"),
        second = ask(&router, "/broken", "one") => second,
    };
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(second.headers()["retry-after"], "1");
    envelope(second).await;
}

#[tokio::test]
async fn a_key_that_has_its_share_of_the_places_waits_and_another_one_does_not() {
    let options = ServerOptions { max_concurrent_requests: 8, rate_limit: None, ..ServerOptions::default() };
    let (_folder, router) = guarded(options).await;
    let mut held = Box::pin(join_all([ask(&router, "/endless", "one"), ask(&router, "/endless", "one")]));
    let others = async { (ask(&router, "/fine", "one").await, ask(&router, "/fine", "two").await) };
    // They are polled first and take their places; then the others are answered.
    let (own, other) = tokio::select! {
        biased;
        _ = &mut held => panic!("they never end"),
        answers = others => answers,
    };
    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(own.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(own.headers()["retry-after"], "1");
    assert_eq!(envelope(own).await["retry_after"], 1);
    drop(held);
    assert_eq!(ask(&router, "/fine", "one").await.status(), StatusCode::OK, "what was broken off counts no more");
    // Answers that nobody has read yet have begun, as streams do.
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(ask(&router, "/fine", "one").await);
    }
    assert!(begun.iter().all(|response| response.status() == StatusCode::OK));
}

#[tokio::test]
async fn a_body_that_does_not_go_on_is_ended_and_a_slow_one_is_read() {
    let (_folder, router) = guarded(ServerOptions::default()).await;
    tokio::time::pause();
    let piece = |text: &'static str| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes()))
    };
    let slow = StreamExt::then(stream::iter(["[1,", "2,", "3]"]), piece);
    let slow = send(&router, Body::from_stream(slow)).await;
    assert_eq!(slow.status(), StatusCode::OK);
    let begun = StreamExt::then(stream::iter(["[1,", "2,"]), piece).chain(stream::pending());
    let ended = send(&router, Body::from_stream(begun)).await;
    assert_eq!(ended.status(), StatusCode::REQUEST_TIMEOUT);
    assert!(envelope(ended).await["message"].as_str().unwrap().contains("30 seconds"));
}

#[tokio::test]
async fn json_that_is_nested_too_deeply_is_refused() {
    let (_folder, router) = guarded(ServerOptions { max_json_depth: 8, ..ServerOptions::default() }).await;
    let nested = |depth: usize| Body::from(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(send(&router, nested(8)).await.status(), StatusCode::OK);
    let deep = send(&router, nested(9)).await;
    assert_eq!(deep.status(), StatusCode::BAD_REQUEST);
    envelope(deep).await;
    let abyss = send(&router, nested(100_000)).await;
    assert_eq!(abyss.status(), StatusCode::BAD_REQUEST);
    envelope(abyss).await;
}

#[tokio::test]
async fn json_of_too_many_values_is_refused_and_a_long_text_is_not() {
    let (_folder, router) = guarded(ServerOptions::default()).await;
    let many = send(&router, Body::from(format!("[{}0]", "0,".repeat(600_000)))).await;
    assert_eq!(many.status(), StatusCode::BAD_REQUEST);
    envelope(many).await;
    let long = send(&router, Body::from(format!("[\"{}\"]", "a,".repeat(600_000)))).await;
    assert_eq!(long.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_bounded_as_well() {
    let (_folder, router) = guarded(ServerOptions { max_body_bytes: 100, ..ServerOptions::default() }).await;
    let chunks = stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"[1,2,3,4,5]"))));
    let response = send(&router, Body::from_stream(chunks)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    envelope(response).await;
    let chunks = stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"[1,2,3,4,5]"))));
    let raw = Request::builder().method("POST").uri("/raw").body(Body::from_stream(chunks)).unwrap();
    let response = router.oneshot(raw).await.unwrap();
    assert_eq!(to_bytes(response.into_body(), 1_000).await.unwrap(), "broken off", "without an extractor, too");
}

#[tokio::test]
async fn a_key_that_calls_too_often_waits_and_another_one_does_not() {
    let limit = RateLimit { requests: 1, window: Duration::from_secs(86_400) };
    let (_folder, router) = guarded(ServerOptions { rate_limit: Some(limit), ..ServerOptions::default() }).await;
    assert_eq!(ask(&router, "/metrics", "admin").await.status(), StatusCode::OK);
    let refused = ask(&router, "/metrics", "admin").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(envelope(refused).await["retry_after"].is_u64());
    let other = ask(&router, "/fine", "other").await;
    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(other.headers()["x-ratelimit-remaining"], "0");
}

#[tokio::test]
async fn metrics_are_for_administrators() {
    let (_folder, router) = guarded(ServerOptions::default()).await;
    let refused = ask(&router, "/metrics", "one").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    envelope(refused).await;
    assert!(ask(&router, "/metrics", "demoted").await.status().is_client_error());
    let shown = ask(&router, "/metrics", "admin").await;
    assert_eq!(shown.status(), StatusCode::OK);
    let text = String::from_utf8(to_bytes(shown.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(text.contains(r#"route="/metrics",status="403"} 1"#), "{text}");
}
