use mos::product::{Caller, ChatCompleteRequest, ProductOptions, Request, Scope};
use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json};

use super::{cube, house, house_with, model_config};
use crate::{ann, bob};

fn ask(query: &str, more: Value) -> ChatCompleteRequest {
    let mut body = json!({"user_id": "ann", "query": query, "relativity": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ChatCompleteRequest::from_json(&body).unwrap()
}

#[tokio::test]
async fn an_answer_comes_from_memories_without_its_reasoning_and_the_turn_is_remembered() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.reply(Reply::text("<think>a dog</think>\n\nMax."));
    let reply = house.app.product().chat_complete(ask("what is my dog called?", json!({}))).await.unwrap();
    let expected = json!({"code": 200, "message": "Chat completed successfully",
        "data": {"response": "Max.", "reasoning": "a dog"}});
    assert_eq!(json!(reply), expected);
    assert!(house.system(0).contains("1. [user] my dog is called Max"), "{}", house.system(0));
    let kept = house.memories().await;
    let is_turn = |text: &String| text.contains("what is my dog called?") || text.contains("Max.");
    let turn: String = kept.iter().filter(|text| is_turn(text)).cloned().collect();
    assert!(turn.contains("what is my dog called?") && turn.contains("Max."), "{kept:?}");
    assert!(!turn.contains("think"), "{turn}");
}

#[tokio::test]
async fn what_is_not_to_be_remembered_is_not() {
    let house = house().await;
    house.server.answer_with(|_| Reply::text("Hello."));
    let product = house.app.product();
    product.chat_complete(ask("hello there", json!({"add_message_on_answer": false}))).await.unwrap();
    let mut reader = Caller::user("ann");
    reader.scopes = [Scope::Read].into();
    house.app.product_as(reader).chat_complete(ask("hello again", json!({}))).await.unwrap();
    assert!(house.memories().await.is_empty());
}

#[tokio::test]
async fn a_history_that_is_given_is_the_conversation_and_is_not_kept() {
    let house = house().await;
    house.server.answer_with(|_| Reply::text("Fine."));
    let product = house.app.product();
    let quiet = json!({"session_id": "s", "add_message_on_answer": false});
    product.chat_complete(ask("how are you?", quiet.clone())).await.unwrap();
    let said: Vec<Value> = (0..24).map(|n| json!({"role": "user", "content": format!("said {n}")})).collect();
    let mut with_history = quiet.clone();
    with_history["history"] = json!(said);
    product.chat_complete(ask("and now?", with_history)).await.unwrap();
    let sent = house.sent(1);
    assert_eq!(
        (sent.len(), sent[1]["content"].as_str(), sent[21]["content"].as_str()),
        (22, Some("said 4"), Some("and now?"))
    );
    product.chat_complete(ask("and then?", quiet)).await.unwrap();
    let contents: Vec<Value> = house.sent(2).iter().skip(1).map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["how are you?", "Fine.", "and then?"], "the session is kept without the other turn");
    product.chat_complete(ask("who am I?", json!({"add_message_on_answer": false}))).await.unwrap();
    assert_eq!(house.sent(3).len(), 2, "without a session every question stands alone");
    let bad = json!({"user_id": "ann", "query": "hi", "history": [{"content": "hi"}]});
    let bad = ChatCompleteRequest::from_json(&bad);
    let error = match bad {
        Ok(bad) => product.chat_complete(bad).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!((error.status, &error.detail[0].loc[1]), (422, &json!("history")));
}

#[tokio::test]
async fn a_model_is_named_and_its_sampling_changed_by_the_request() {
    let models = |server: &ModelServer| ProductOptions {
        chat_models: vec![("small".to_owned(), model_config(server, "small-model"))],
        ..ProductOptions::default()
    };
    let house = house_with(json!({}), models, |builder| builder).await;
    house.server.answer_with(|_| Reply::text("ok"));
    let product = house.app.product();
    for more in [
        json!({}),
        json!({"model_name_or_path": "small", "temperature": 0.25, "top_p": 0.5}),
        json!({"model_name_or_path": "scripted"}),
    ] {
        product.chat_complete(ask("hello there", more)).await.unwrap();
    }
    let asked: Vec<Value> = house.server.requests().iter().map(|request| request.body.clone()).collect();
    let names: Vec<&str> = asked.iter().map(|body| body["model"].as_str().unwrap()).collect();
    assert_eq!(names, ["small-model", "small-model", "scripted"]);
    assert_eq!((asked[1]["temperature"].as_f64(), asked[1]["top_p"].as_f64()), (Some(0.25), Some(0.5)));
    let error = product.chat_complete(ask("hello", json!({"model_name_or_path": "huge"}))).await.unwrap_err();
    assert_eq!(error.status, 400);
    assert!(error.message.contains("`huge`") && error.message.contains("small, scripted"), "{}", error.message);
}

#[tokio::test]
async fn instructions_and_filters_of_the_request_are_heeded() {
    let house = house().await;
    house.knows("likes green tea").await;
    house.server.answer_with(|_| Reply::text("ok"));
    let product = house.app.product();
    let quiet = |more: Value| {
        let mut all = json!({"add_message_on_answer": false, "system_prompt": "<{memories}>"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask("which tea?", all)
    };
    product.chat_complete(quiet(json!({}))).await.unwrap();
    product.chat_complete(quiet(json!({"filter": {"session_id": "no such"}}))).await.unwrap();
    product.chat_complete(quiet(json!({"filter": {"ann": {"session_id": "no such"}}}))).await.unwrap();
    let [told, none, none_of_anns] = [0, 1, 2].map(|index| house.system(index));
    assert!(told.starts_with('<') && told.ends_with("\n1. [user] likes green tea>"), "{told}");
    assert_eq!([none, none_of_anns], ["<>", "<>"]);
}

#[tokio::test]
async fn memories_below_the_threshold_stay_out_but_for_the_best_three() {
    let house = house().await;
    for toy in ["ball", "rope", "bone", "stick", "ring"] {
        house.knows(&format!("my dog likes the {toy}")).await;
    }
    house.server.answer_with(|_| Reply::text("ok"));
    let product = house.app.product();
    for threshold in [0, 1] {
        let more = json!({"threshold": threshold, "add_message_on_answer": false});
        product.chat_complete(ask("what does my dog like?", more)).await.unwrap();
    }
    let n_told = [0, 1].map(|index| house.system(index).matches("my dog likes the").count());
    assert_eq!(n_told, [5, 3]);
}

#[tokio::test]
async fn who_may_not_and_what_cannot_be_is_refused_before_a_model_is_asked() {
    let house = house().await;
    let product = house.app.product();
    let status = async |caller: Caller, request: ChatCompleteRequest| {
        house.app.product_as(caller).chat_complete(request).await.unwrap_err().status
    };
    assert_eq!(status(Caller::user(bob()), ask("hi", json!({}))).await, 403, "it is another user");
    for cubes in ["readable_cube_ids", "writable_cube_ids"] {
        let foreign = json!({"user_id": "bob", "query": "hi", cubes: [cube()]});
        let foreign = ChatCompleteRequest::from_json(&foreign).unwrap();
        assert_eq!(product.chat_complete(foreign).await.unwrap_err().status, 403, "{cubes}");
    }
    let mut elsewhere = Caller::user(ann());
    elsewhere.cubes = Some(["work".into()].into());
    assert_eq!(status(elsewhere, ask("hi", json!({}))).await, 403, "the key is for another cube");
    for (query, more) in [
        (" ", json!({})),
        ("hi", json!({"relativity": 2})),
        ("hi", json!({"temperature": 3})),
        ("hi", json!({"filter": {"key": {"near": 1}}})),
    ] {
        assert_eq!(status(Caller::program(), ask(query, more.clone())).await, 400, "{query} {more}");
    }
    assert!(house.server.requests().is_empty());
    let off =
        house_with(json!({}), |_| ProductOptions { chats: false, ..ProductOptions::default() }, |builder| builder);
    let error = off.await.app.product().chat_complete(ask("hi", json!({}))).await.unwrap_err();
    assert_eq!(error.status, 503);
}
