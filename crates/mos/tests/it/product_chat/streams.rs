use futures::StreamExt;
use mos::config::Secret;
use mos::product::{Caller, ChatBusinessRequest, ChatPlaygroundRequest, ChatRequest, ProductOptions, Request};
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};

use super::{house, house_with, kinds, read, said};
use crate::bob;

fn ask<T: Request>(query: &str, more: Value) -> T {
    let mut body = json!({"user_id": "ann", "query": query, "relativity": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    T::from_json(&body).unwrap()
}

#[tokio::test]
async fn a_stream_tells_reasoning_then_text_and_then_closes() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.reply(Reply::text("<think>is it a cat</think> It is Max"));
    let stream =
        house.app.product().chat_stream(ask::<ChatRequest>("what is my dog called?", json!({}))).await.unwrap();
    let frames = read(stream).await;
    assert_eq!(kinds(&frames), ["reasoning", "text"]);
    assert!(frames.len() > 2, "it comes in pieces: {frames:?}");
    assert_eq!((said(&frames, "reasoning"), said(&frames, "text")), ("is it a cat".to_owned(), "It is Max".to_owned()));
    let kept = house.memories().await.concat();
    assert!(kept.contains("It is Max") && !kept.contains("is it a cat"), "{kept}");
}

#[tokio::test]
async fn a_stream_whose_reader_goes_away_remembers_nothing() {
    let house = house().await;
    house.server.reply(Reply::text("one two three four five"));
    let mut stream = house.app.product().chat_stream(ask::<ChatRequest>("count please", json!({}))).await.unwrap();
    assert_eq!(stream.next().await.unwrap().kind, "text");
    drop(stream);
    assert!(house.memories().await.is_empty());
}

#[tokio::test]
async fn the_playground_tells_what_an_answer_was_made_from_in_order() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.answer_with(|request| {
        let system = request["messages"][0]["content"].as_str().unwrap_or_default();
        if system.contains("You suggest") {
            return Reply::text(json!({"query": ["How old is Max?"]}).to_string());
        }
        let mark = system.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
        Reply::text(format!("<think>the dog</think>It is Max [{mark}] indeed"))
    });
    let request = ask::<ChatPlaygroundRequest>("what is my dog called?", json!({"internet_search": true}));
    let frames = read(house.app.product().chat_stream_playground(request).await.unwrap()).await;
    let order = [
        "status",
        "reference",
        "pref_md_string",
        "status",
        "reference",
        "status",
        "reasoning",
        "status",
        "text",
        "internet_reference",
        "time",
        "suggestion",
        "end",
    ];
    assert_eq!(kinds(&frames), order);
    let states: Vec<&str> =
        frames.iter().filter(|frame| frame["type"] == "status").filter_map(|frame| frame["data"].as_str()).collect();
    assert_eq!(states, ["0", "1", "start_internet_search", "reasoning", "2"]);
    let reference = &frames.iter().find(|frame| frame["type"] == "reference").unwrap()["data"][0]["metadata"];
    assert_eq!(reference["memory"], "my dog is called Max");
    let mark = format!("[1:{}]", reference["ref_id"].as_str().unwrap());
    assert!(house.system(0).contains(&format!("{mark} [user] my dog is called Max")), "{}", house.system(0));
    let is_whole = |frame: &Value| frame["type"] == "text" && frame["data"].as_str().unwrap().contains(&mark);
    assert!(frames.iter().any(is_whole), "{frames:?}");
    let suggestion = frames.iter().find(|frame| frame["type"] == "suggestion").unwrap();
    assert_eq!(suggestion["data"], json!(["How old is Max?"]));
    assert!(house.memories().await.concat().contains("It is Max"), "the turn is remembered");
}

#[tokio::test]
async fn a_model_that_fails_ends_a_stream_with_an_error_that_shows_no_internals() {
    let house = house().await;
    let product = house.app.product();
    house.server.fault(Fault::Status(500, json!({"error": {"message": "secret trace"}})));
    let frames = read(product.chat_stream(ask::<ChatRequest>("hello there", json!({}))).await.unwrap()).await;
    assert_eq!((kinds(&frames), frames.len()), (vec!["error".to_owned()], 1));
    house.server.fault(Fault::CutOff(1));
    let request = ask::<ChatPlaygroundRequest>("hello there", json!({}));
    let played = read(product.chat_stream_playground(request).await.unwrap()).await;
    let errors: Vec<&Value> = played.iter().filter(|frame| frame["type"] == "error").collect();
    assert_eq!(errors.len(), 2);
    assert!(errors[0]["data"].is_string() && errors[1]["content"].is_string(), "{errors:?}");
    assert_eq!(played.last(), Some(errors[1]), "nothing follows");
    for told in [json!(frames).to_string(), json!(errors).to_string()] {
        let shows = ["secret", "127.0.0.1", "sk-test", "http"].into_iter().find(|word| told.contains(word));
        assert_eq!(shows, None, "{told}");
    }
    assert!(house.memories().await.is_empty(), "a broken answer is no turn");
}

#[tokio::test]
async fn a_business_chat_needs_a_key_and_searches_only_when_it_says_so() {
    let keyed = |_: &ModelServer| ProductOptions {
        business_chat_keys: vec![Secret::new("other"), Secret::new("right")],
        ..ProductOptions::default()
    };
    let house = house_with(json!({}), keyed, |builder| builder).await;
    house.knows("my dog is called Max").await;
    house.server.answer_with(|_| Reply::text("ok"));
    let product = house.app.product();
    for key in ["", "righ", "wrong"] {
        let request = ask::<ChatBusinessRequest>("what is my dog called?", json!({"business_key": key}));
        let refused = product.chat_stream_business_user(request).await.err().unwrap();
        assert_eq!(refused.status, 403, "{key}");
    }
    for needs_search in [false, true] {
        let more = json!({"business_key": "right", "need_search": needs_search, "add_message_on_answer": false});
        let request = ask::<ChatBusinessRequest>("what is my dog called?", more);
        let frames = read(product.chat_stream_business_user(request).await.unwrap()).await;
        assert_eq!(said(&frames, "text"), "ok");
    }
    assert!(!house.system(0).contains("Max") && house.system(1).contains("Max"));
}

#[tokio::test]
async fn streams_of_other_users_are_refused_before_they_begin() {
    let house = house().await;
    let product = house.app.product_as(Caller::user(bob()));
    let refused = product.chat_stream(ask::<ChatRequest>("hi", json!({}))).await.err().unwrap();
    assert_eq!(refused.status, 403);
    let request = ask::<ChatPlaygroundRequest>("hi", json!({}));
    assert_eq!(product.chat_stream_playground(request).await.err().unwrap().status, 403);
}
