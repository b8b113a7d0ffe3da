//! Streams over HTTP: when they begin, and what ends them.

use std::time::Duration;

use futures::StreamExt;
use mos::product::GetMemoryRequest;
use mos_server::ServerOptions;
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};

use crate::house::{House, open_to_all, scripted_model};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

async fn house(model: &ModelServer, options: ServerOptions) -> House {
    House::with_settings(options, scripted_model(model)).await
}

async fn ask(house: &House, path: &str) -> reqwest::Response {
    let body = json!({"user_id": "ann", "query": "count please", "business_key": ""});
    reqwest::Client::new().post(format!("{}{path}", house.url)).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn who_goes_away_ends_the_work_behind_a_stream() {
    let model = ModelServer::start().await;
    model.reply(Reply::text("one two three four five"));
    model.fault(Fault::Stall(2));
    let house = house(&model, open_to_all()).await;
    let mut stream = ask(&house, "/product/chat/stream").await.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: {\"type\":\"text\""), "{first:?}");
    drop(stream);
    tokio::time::timeout(PATIENCE, model.wait_for_abandoned(1)).await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn who_goes_away_ends_an_answer_in_openais_shape_and_nothing_of_it_is_remembered() {
    let model = ModelServer::start().await;
    model.reply(Reply::text("one two three four five"));
    model.fault(Fault::Stall(2));
    let house = house(&model, open_to_all()).await;
    let body = json!({"model": "mos", "stream": true, "user": "ann",
        "messages": [{"role": "user", "content": "count to the garage code"}]});
    let url = format!("{}/v1/chat/completions", house.url);
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    let mut stream = answer.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: {"), "{first:?}");
    drop(stream);
    tokio::time::timeout(PATIENCE, model.wait_for_abandoned(1)).await.unwrap();
    house.app.mos().wait_for_sending().await;
    let request = GetMemoryRequest::new("ann".to_owned());
    let kept = json!(house.app.product().get_memory(request).await.unwrap().data);
    assert!(!kept.to_string().contains("garage"), "{kept}");
    house.close().await;
}

#[tokio::test]
async fn a_stream_that_goes_on_is_broken_off_when_the_time_to_stop_is_up() {
    let model = ModelServer::start().await;
    model.reply(Reply::text("one two three four five"));
    model.fault(Fault::Stall(2));
    let house = house(&model, ServerOptions { drain: Duration::from_millis(50), ..open_to_all() }).await;
    let mut stream = ask(&house, "/product/chat/stream").await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, house.close()).await.expect("it stops");
    let ended = tokio::time::timeout(PATIENCE, model.wait_for_abandoned(1)).await;
    ended.expect("nothing goes on behind the stream, though somebody listens");
    drop(stream);
}

#[tokio::test]
async fn a_stream_may_take_longer_than_a_request() {
    let model = ModelServer::start().await;
    model.reply(Reply::text("one two three four"));
    model.fault(Fault::SlowChunks(Duration::from_millis(200)));
    // It is silent for longer than a connection may be between requests, too.
    let (request_timeout, header_timeout) = (Duration::from_millis(400), Duration::from_millis(100));
    let options = ServerOptions { request_timeout, header_timeout, ..open_to_all() };
    let house = house(&model, options).await;
    let text = ask(&house, "/product/chat/stream").await.text().await.unwrap();
    let frames = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let said: String = frames
        .map(|frame| serde_json::from_str::<Value>(frame).unwrap()["data"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, "one two three four");
    house.close().await;
}

#[tokio::test]
async fn a_model_that_fails_is_told_in_the_stream_without_internals() {
    let model = ModelServer::start().await;
    model.fault(Fault::Status(500, json!({"error": {"message": "secret trace"}})));
    let house = house(&model, open_to_all()).await;
    let answer = ask(&house, "/product/chat/stream").await;
    assert_eq!(answer.status(), 200, "it has begun already");
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"type\":\"error\"") && text.contains("\"content\":"), "{text}");
    let shows = ["secret", "127.0.0.1", "sk-test"].into_iter().find(|word| text.contains(word));
    assert_eq!(shows, None, "{text}");
    model.fault(Fault::Status(500, json!({"error": {"message": "secret trace"}})));
    let answer = ask(&house, "/product/chat/complete").await;
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert!((500..=503).contains(&status) && !text.contains("secret") && !text.contains("sk-test"), "{status} {text}");
    house.close().await;
}
