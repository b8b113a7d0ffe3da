//! Corrections.

use mos::product::{AddRequest, AsyncMode, Caller, FeedbackRequest, Request};
use mos_core::{CubeId, Message, Scope};
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};

use super::{app, failure, faults, given, judging_app, scheduled_app, tell};
use crate::ann;

fn say(text: &str) -> FeedbackRequest {
    let history = vec![Message::user("Where do I live?"), Message::assistant("You live in Rome.")];
    let request = FeedbackRequest::new("ann".to_owned(), Some(history), Some(text.to_owned()));
    FeedbackRequest { async_mode: AsyncMode::Sync, ..request }
}

#[tokio::test]
async fn without_a_model_the_words_are_kept_and_the_record_of_each_cube_says_so() {
    let (_folder, app) = app().await;
    let product = app.product();
    tell(&product, "ann", "Ann lives in Rome.").await;
    let both = Some(vec!["ann".to_owned(), "work".to_owned()]);
    let reply =
        product.feedback(FeedbackRequest { writable_cube_ids: both, ..say("No, I live in Bonn.") }).await.unwrap();
    assert_eq!((reply.code, reply.message.as_str()), (200, "Memory feedback successfully"));
    let [first, second] = reply.data.as_slice() else { panic!("{:?}", reply.data) };
    assert_eq!((&first["cube_id"], &second["cube_id"]), (&json!("ann"), &json!("work")));
    for one in [first, second] {
        assert_eq!((&one["answer"], &one["record"]["update"]), (&json!(""), &json!([])));
        assert_eq!(one["record"]["add"][0]["text"], "No, I live in Bonn.");
        assert!(one["record"]["reasons"].to_string().contains("no model may judge"), "{one}");
    }
    let id = first["record"]["add"][0]["id"].as_str().unwrap();
    let stored = app.mos().get(&ann(), Some(&"ann".into()), &id.into()).await.unwrap();
    assert_eq!(stored.metadata.session_id.as_deref(), Some("default_session"));
    let blank = product.feedback(say("  ")).await.unwrap();
    assert_eq!(blank.data[0]["record"]["add"], json!([]));
}

#[tokio::test]
async fn what_a_model_decides_is_done_and_answered_again() {
    let server = ModelServer::start().await;
    server.answer_with(|request| {
        let asked = request["messages"].to_string();
        if !asked.contains("[1]") {
            return Reply::text("You live in Bonn.");
        }
        let operation =
            json!({"action": "update", "memory": 1, "text": "Ann lives in Bonn.", "reason": "the user says so"});
        Reply::text(json!({"operations": [operation]}).to_string())
    });
    let (_folder, app) = judging_app(&server).await;
    let product = app.product();
    let rome = tell(&product, "ann", "Ann lives in Rome.").await;
    let request = FeedbackRequest {
        corrected_answer: true,
        retrieved_memory_ids: Some(vec![rome.clone()]),
        ..say("No, I live in Bonn.")
    };
    let data = product.feedback(request).await.unwrap().data;
    assert_eq!((data.len(), &data[0]["answer"]), (1, &json!("You live in Bonn.")));
    let record = &data[0]["record"];
    // What was said stays what was said: the right memory takes the place of the quoted one.
    assert_eq!(record["add"][0]["text"], "Ann lives in Bonn.");
    assert_eq!(record["archive"][0]["id"], json!(rome), "{record}");
}

#[tokio::test]
async fn what_can_wait_waits_in_the_queue_under_its_task() {
    let server = ModelServer::start().await;
    let (_folder, app) = scheduled_app(&server).await;
    let product = app.product();
    let request = FeedbackRequest {
        async_mode: AsyncMode::Async,
        task_id: Some("task-7".to_owned()),
        ..say("No, I live in Bonn.")
    };
    let reply = product.feedback(request).await.unwrap();
    assert_eq!((reply.message.as_str(), reply.data), ("Memory feedback successfully", vec![json!([])]));
    let scheduler = app.mos().require_scheduler().unwrap();
    let scope = Scope::of(&CubeId::from("ann"));
    assert_eq!(scheduler.queue_status(&scope).await.unwrap().waiting, 1);
    assert_eq!(scheduler.task_status(&scope, "task-7").await.unwrap().unwrap().items.len(), 1);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn without_a_scheduler_nothing_waits() {
    let (_folder, app) = app().await;
    let request = FeedbackRequest { async_mode: AsyncMode::Async, ..say("No, I live in Bonn.") };
    let data = app.product().feedback(request).await.unwrap().data;
    assert_eq!(data[0]["record"]["add"][0]["text"], "No, I live in Bonn.");
}

#[tokio::test]
async fn an_addition_can_be_a_correction() {
    let (_folder, app) = app().await;
    let messages = json!([
        {"role": "user", "content": "Where do I live?"},
        {"role": "assistant", "content": "In Rome."},
        {"role": "user", "content": "No, in Bonn."},
    ]);
    let add = AddRequest { is_feedback: true, ..given("ann", messages) };
    let reply = app.product().add(add).await.unwrap();
    assert_eq!(reply.message, "Memory feedback successfully");
    assert_eq!(reply.data[0]["record"]["add"][0]["text"], "No, in Bonn.");
}

#[tokio::test]
async fn strangers_and_faulty_requests_are_refused() {
    let (_folder, app) = app().await;
    tell(&app.product(), "ann", "Ann lives in Rome.").await;
    tell(&app.product(), "bob", "Bob lives in Rome.").await;
    let bob = app.product_as(Caller::user("bob"));
    let of_ann = FeedbackRequest {
        writable_cube_ids: Some(vec!["ann".to_owned()]),
        user_id: "bob".to_owned(),
        ..say("Ann lives in Bonn.")
    };
    assert_eq!(failure(bob.feedback(of_ann).await).0, 403);
    assert_eq!(failure(bob.feedback(say("Ann lives in Bonn.")).await).0, 403);
    let told = faults(FeedbackRequest::from_json(&json!({"user_id": "ann", "history": "x"})));
    let expected = [("list_type", "history"), ("missing", "feedback_content")];
    assert_eq!(told, expected.map(|(kind, field)| (kind.to_owned(), json!(["body", field]))));
    let nulls = json!({"user_id": "ann", "history": null, "feedback_content": null, "session_id": null});
    let request = FeedbackRequest::from_json(&nulls).unwrap();
    assert_eq!((request.history, request.feedback_content, request.session_id), (None, None, None));
    let usual = FeedbackRequest::new("ann".to_owned(), None, None);
    let session = serde_json::to_value(&usual).unwrap()["session_id"].clone();
    assert_eq!(session, Value::from("default_session"));
}
