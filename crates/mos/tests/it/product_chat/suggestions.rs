use mos::product::{Caller, Request, SuggestionRequest};
use mos_testkit::model_server::Reply;
use serde_json::{Value, json};

use super::house;
use crate::bob;

fn ask(more: Value) -> SuggestionRequest {
    let mut body = json!({"user_id": "ann", "mem_cube_id": "ann", "language": "en"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    SuggestionRequest::from_json(&body).unwrap()
}

#[tokio::test]
async fn suggestions_come_from_the_newest_memories_or_from_what_was_said() {
    let house = house().await;
    house.knows("plans a trip to Oslo").await;
    house.server.answer_with(|_| Reply::text(r#"{"query": ["What is there to see in Oslo?"]}"#));
    let product = house.app.product();
    let reply = json!(product.suggestions(ask(json!({}))).await.unwrap());
    assert_eq!((&reply["code"], &reply["data"]), (&json!(200), &json!({"query": ["What is there to see in Oslo?"]})));
    assert!(house.sent(0)[1]["content"].as_str().unwrap().contains("- [user] plans a trip to Oslo"));
    let said = json!({"message": [{"role": "user", "content": "My bike is broken"}], "language": "zh"});
    product.suggestions(ask(said)).await.unwrap();
    let shown = house.sent(1)[1]["content"].as_str().unwrap().to_owned();
    assert!(shown.contains("My bike is broken") && !shown.contains("Oslo"), "{shown}");
    assert!(house.system(1).contains("中文"), "in the language that was asked for");
}

#[tokio::test]
async fn an_answer_without_suggestions_is_an_error_that_says_so() {
    let house = house().await;
    house.server.answer_with(|_| Reply::text("my secret thoughts"));
    let error = house.app.product().suggestions(ask(json!({}))).await.unwrap_err();
    assert_eq!(error.status, 500);
    assert!(error.message.contains("no suggestions") && !error.message.contains("secret"), "{}", error.message);
}

#[tokio::test]
async fn cubes_of_others_and_messages_that_are_none_are_refused() {
    let house = house().await;
    let as_bob = house.app.product_as(Caller::user(bob()));
    assert_eq!(as_bob.suggestions(ask(json!({}))).await.unwrap_err().status, 403);
    assert_eq!(as_bob.suggestions(ask(json!({"user_id": "bob"}))).await.unwrap_err().status, 403);
    let wrong = house.app.product().suggestions(ask(json!({"message": {"a": 1}}))).await.unwrap_err();
    assert_eq!(wrong.status, 400);
    assert!(SuggestionRequest::from_json(&json!({"user_id": "ann", "mem_cube_id": "ann", "language": "de"})).is_err());
    assert!(house.server.requests().is_empty());
}
