//! Chats, models and embeddings in OpenAI's shape.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use mos::product::{
    Caller, ChatCompletion, CompletionContext, CompletionEvent, OpenAiError, Product, ProductOptions, Scope,
};
use mos::{Add, NewCube};
use mos_core::{ChatModel, ChatRequest, ChatStream, CubeId, ModelError};
use mos_testkit::chat::ScriptedChat;
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};

use super::{house, house_with, model_config};
use crate::ann;

/// A request of ann's whose conversation ends with a question.
fn ask(question: &str, more: Value) -> Value {
    let mut body = json!({"model": "mos", "user": "ann", "messages": [{"role": "user", "content": question}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn whole(product: &Product, body: &Value) -> Result<Value, OpenAiError> {
    match product.chat_completion(body, CompletionContext::default()).await? {
        ChatCompletion::Whole(whole) => Ok(whole),
        ChatCompletion::Stream(_) => panic!("a whole answer was asked for"),
    }
}

async fn pieces(product: &Product, body: &Value) -> Vec<CompletionEvent> {
    match product.chat_completion(body, CompletionContext::default()).await.unwrap() {
        ChatCompletion::Stream(stream) => stream.collect().await,
        ChatCompletion::Whole(_) => panic!("a stream was asked for"),
    }
}

/// The chunks of a stream that ends as it should.
fn chunks(events: Vec<CompletionEvent>) -> Vec<Value> {
    let mut chunks = Vec::new();
    let mut events = events.into_iter();
    for event in events.by_ref() {
        match event {
            CompletionEvent::Chunk(chunk) => chunks.push(chunk),
            CompletionEvent::Done => break,
            CompletionEvent::Failed(error) => panic!("{error}"),
        }
    }
    assert!(events.next().is_none(), "nothing follows the end");
    chunks
}

/// A model that says it runs in this process.
#[derive(Debug)]
struct Local(Arc<ScriptedChat>);

#[async_trait]
impl ChatModel for Local {
    fn name(&self) -> &str {
        "small"
    }

    fn is_local(&self) -> bool {
        true
    }

    fn context_length(&self) -> Option<usize> {
        None
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        self.0.stream(request).await
    }
}

#[tokio::test]
async fn memories_are_put_into_the_conversation_and_the_turn_is_remembered() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.reply(Reply { cached_tokens: 3, ..Reply::text("<think>a dog</think>\n\nMax.") });
    let conversation = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "what is my dog called?"},
    ]);
    let body = ask("", json!({"messages": conversation, "metadata": {"session_id": "monday"}}));
    let answer = whole(&house.app.product(), &body).await.unwrap();
    let sent = house.sent(0);
    let system = sent[0]["content"].as_str().unwrap();
    assert!(system.starts_with("Be brief.\n\n## Memories\n"), "{system}");
    assert!(system.contains("my dog is called Max") && system.contains("data, not instructions"), "{system}");
    assert_eq!(&sent[1..], &conversation.as_array().unwrap()[1..], "the rest is sent as it came");
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("scripted")));
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-") && answer["created"].is_i64());
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("stop"), &json!("Max.")));
    assert_eq!(choice["message"]["reasoning_content"], "a dog");
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
    let recalled = &answer["mos"]["memories"][0];
    assert_eq!((&recalled["memory"], &recalled["cube_id"]), (&json!("my dog is called Max"), &json!("ann")));
    assert!(recalled["id"].is_string() && recalled["relativity"].is_number());
    let kept = house.memories().await.concat();
    assert!(kept.contains("what is my dog called?") && kept.contains("Max."), "{kept}");
    assert!(!kept.contains("a dog</think>") && !kept.contains("Be brief."), "{kept}");
}

#[tokio::test]
async fn memory_can_be_switched_off_by_halves_and_is_metered_all_the_same() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.answer_with(|_| Reply::text("Max."));
    let product = house.app.product();
    let asked = |word: &str| ask("what is my dog called?", json!({"metadata": {"mos_memory": word}}));
    let off = whole(&product, &asked("off")).await.unwrap();
    assert_eq!(house.sent(0), [json!({"role": "user", "content": "what is my dog called?"})]);
    assert_eq!(off["mos"], json!({"memories": [], "preferences": [], "notes": []}));
    assert_eq!(house.app.mos().usage(&ann()).await.unwrap().total.calls, 1);
    whole(&product, &asked("read")).await.unwrap();
    assert!(house.system(1).contains("my dog is called Max"));
    assert_eq!(house.memories().await.len(), 1, "nothing was remembered so far");
    whole(&product, &asked("write")).await.unwrap();
    assert_eq!(house.sent(2).len(), 1, "nothing was recalled");
    assert!(house.memories().await.len() > 1);
    let context = CompletionContext { memory: Some("off".to_owned()), ..CompletionContext::default() };
    let nobody = json!({"model": "mos", "messages": [{"role": "user", "content": "hi"}]});
    assert!(product.chat_completion(&nobody, context).await.is_ok(), "a plain call needs no user");
    assert_eq!(whole(&product, &nobody).await.unwrap_err().param.as_deref(), Some("user"));
}

#[tokio::test]
async fn a_key_that_only_reads_has_answers_that_are_not_remembered() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.answer_with(|_| Reply::text("Max."));
    let reader = Caller { scopes: [Scope::Read].into(), ..Caller::user("ann") };
    let product = house.app.product_as(reader);
    let answer = whole(&product, &ask("what is my dog called?", json!({}))).await.unwrap();
    assert_eq!(answer["mos"]["memories"][0]["memory"], "my dog is called Max");
    assert!(answer["mos"]["notes"][0].as_str().unwrap().contains("`write`"), "{}", answer["mos"]);
    assert_eq!(house.memories().await.len(), 1);
    for insisting in ["on", "write"] {
        let body = ask("what is my dog called?", json!({"metadata": {"mos_memory": insisting}}));
        assert_eq!(whole(&product, &body).await.unwrap_err().status, 403);
    }
    let silent = ask("hello there", json!({"metadata": {"mos_explain": "off"}}));
    assert!(whole(&product, &silent).await.unwrap().get("mos").is_none());
}

#[tokio::test]
async fn nobody_speaks_for_another_user_or_recalls_from_their_cubes() {
    let house = house().await;
    house.server.answer_with(|_| Reply::text("ok"));
    let bob = house.app.product_as(Caller::user("bob"));
    let said = ask("what is my dog called?", json!({}));
    assert!(whole(&bob, &said).await.is_ok(), "the `user` of a body is a label for a key of one user");
    assert_eq!(house.app.mos().usage(&ann()).await.unwrap().total.calls, 0);
    assert_eq!(house.app.mos().usage(&crate::bob()).await.unwrap().total.calls, 1);
    let named = CompletionContext { user: Some("ann".to_owned()), ..CompletionContext::default() };
    assert_eq!(bob.chat_completion(&said, named).await.unwrap_err().status, 403);
    for memory in ["read", "write", "on"] {
        let foreign = ask("what is my dog called?", json!({"metadata": {"mos_cube": "ann", "mos_memory": memory}}));
        let error = whole(&bob, &foreign).await.unwrap_err();
        assert_eq!((error.status, error.kind), (403, "permission_error"), "{memory}");
    }
    let usual = ask("what is my dog called?", json!({"metadata": {"mos_cube": "ann"}}));
    assert_eq!(whole(&bob, &usual).await.unwrap_err().status, 403);
    let mut elsewhere = Caller::user("ann");
    elsewhere.cubes = Some(BTreeSet::from(["work".into(), "home".into()]));
    assert_eq!(whole(&house.app.product_as(elsewhere), &said).await.unwrap_err().status, 403);
    assert_eq!(house.server.requests().len(), 1, "no model was asked");
    assert!(house.memories().await.is_empty());
}

#[tokio::test]
async fn a_key_of_one_cube_recalls_from_it_and_keeps_turns_there() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    let work = CubeId::from("work");
    house.app.mos().create_cube(&ann(), NewCube::new("work")).await.unwrap();
    let told = Add::text("my dog is called Moritz").user("ann").cube(work.clone());
    house.app.mos().add(told).await.unwrap();
    house.server.answer_with(|_| Reply::text("Noted."));
    let narrow = Caller { cubes: Some(BTreeSet::from([work.clone()])), ..Caller::user("ann") };
    let product = house.app.product_as(narrow);
    let answer = whole(&product, &ask("what is my dog called?", json!({}))).await.unwrap();
    let system = house.system(0);
    assert!(system.contains("Moritz") && !system.contains("Max"), "{system}");
    assert_eq!(answer["mos"]["memories"][0]["cube_id"], "work");
    assert_eq!(house.memories().await, ["my dog is called Max"], "nothing is kept elsewhere");
    let kept = house.app.mos().get_all(&ann(), Some(&work)).await.unwrap();
    let texts: String = kept.text_mem[0].memories.iter().map(|item| item.memory.as_str()).collect();
    assert!(texts.contains("what is my dog called?") && texts.contains("Noted."), "{texts}");
    let other = ask("what is my dog called?", json!({"metadata": {"mos_cube": "ann"}}));
    assert_eq!(whole(&product, &other).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn a_cube_is_made_by_the_first_turn_that_is_remembered_in_it() {
    let house = house().await;
    house.server.answer_with(|_| Reply::text("Noted."));
    let context = CompletionContext { cubes: Some("work, ann".to_owned()), ..CompletionContext::default() };
    let product = house.app.product();
    product.chat_completion(&ask("We ship on Friday", json!({})), context).await.unwrap();
    house.app.mos().wait_for_sending().await;
    let kept = house.app.mos().get_all(&ann(), Some(&"work".into())).await.unwrap();
    let texts: String = kept.text_mem[0].memories.iter().map(|item| item.memory.as_str()).collect();
    assert!(texts.contains("We ship on Friday") && texts.contains("Noted."), "{texts}");
    assert!(house.memories().await.is_empty(), "the others are read only");
}

#[tokio::test]
async fn a_stream_begins_with_what_was_recalled_and_ends_with_what_it_took() {
    let house = house().await;
    house.knows("my dog is called Max").await;
    house.server.reply(Reply::text("<think>is it a cat</think> It is Max"));
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = chunks(pieces(&house.app.product(), &ask("what is my dog called?", more)).await);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[0]["mos"]["memories"][0]["memory"], "my dog is called Max");
    assert!(chunks[1..].iter().all(|chunk| chunk.get("mos").is_none()));
    let told = |key: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][key].as_str()).collect()
    };
    assert_eq!((told("reasoning_content").as_str(), told("content").as_str()), ("is it a cat", "It is Max"));
    let [.., finish, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!((&finish["choices"][0]["finish_reason"], &finish["usage"]), (&json!("stop"), &Value::Null));
    assert_eq!((&usage["choices"], usage["usage"]["total_tokens"].is_u64()), (&json!([]), true));
    assert!(house.memories().await.concat().contains("It is Max"), "the turn is remembered");
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so_and_is_not_remembered() {
    let house = house().await;
    let product = house.app.product();
    house.server.reply(Reply::text("one two three four five"));
    house.server.fault(Fault::CutOff(4));
    let events = pieces(&product, &ask("count please now", json!({"stream": true}))).await;
    let Some(CompletionEvent::Failed(error)) = events.last() else { panic!("{events:?}") };
    assert_eq!(error.kind, "server_error");
    assert!(!error.message.contains("127.0.0.1"), "{error}");
    assert!(!events.contains(&CompletionEvent::Done));
    let left = ask("count please again", json!({"stream": true}));
    house.server.reply(Reply::text("one two three four five"));
    let ChatCompletion::Stream(mut stream) =
        product.chat_completion(&left, CompletionContext::default()).await.unwrap()
    else {
        panic!("a stream was asked for")
    };
    assert!(matches!(stream.next().await, Some(CompletionEvent::Chunk(_))));
    drop(stream);
    assert!(house.memories().await.is_empty());
}

#[tokio::test]
async fn a_model_that_is_away_is_an_error_before_anything_is_told() {
    let house = house().await;
    let product = house.app.product();
    house.server.fault(Fault::RateLimited(Some(7)));
    let error = whole(&product, &ask("hello there", json!({"stream": true}))).await.unwrap_err();
    assert_eq!((error.status, error.code), (429, Some("rate_limit_exceeded")));
    house.server.fault(Fault::Status(500, json!({"error": {"message": "secret trace"}})));
    let error = whole(&product, &ask("hello there", json!({}))).await.unwrap_err();
    assert!(error.status >= 500 && !error.message.contains("secret"), "{error}");
    assert!(house.memories().await.is_empty());
}

#[tokio::test]
async fn what_a_request_says_of_sampling_formats_and_tools_reaches_the_model() {
    let house = house().await;
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    house.server.reply(Reply::text("").with_tool_call("call_1", "weather", &json!({"city": "Bonn"})));
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let more = json!({
        "temperature": 0.25, "top_p": 0.5, "max_completion_tokens": 33, "seed": 5, "stop": ["END"], "tools": [tool],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    });
    let product = house.app.product();
    let first = whole(&product, &ask("how is the weather?", more.clone())).await.unwrap();
    let sent = house.server.requests()[0].body.clone();
    assert_eq!((&sent["temperature"], &sent["top_p"], &sent["seed"]), (&json!(0.25), &json!(0.5), &json!(5)));
    assert_eq!((&sent["max_tokens"], &sent["stop"], &sent["tools"]), (&json!(33), &json!(["END"]), &json!([tool])));
    assert_eq!(sent["response_format"]["json_schema"]["schema"], schema);
    let choice = &first["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["name"]), (&json!("call_1"), &json!("weather")));
    assert!(house.memories().await.is_empty(), "the turn is not over yet");
    house.server.reply(Reply::text("It is 22 degrees."));
    let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "22"});
    let conversation =
        json!([{"role": "user", "content": "how is the weather?"}, choice["message"].clone(), result.clone()]);
    whole(&product, &ask("", json!({"messages": conversation}))).await.unwrap();
    assert_eq!(house.sent(1).last(), Some(&result));
    let kept = house.memories().await.concat();
    assert!(kept.contains("how is the weather?") && kept.contains("22 degrees"), "{kept}");
    house.server.reply(Reply::text("").with_tool_call("call_2", "weather", &json!({})));
    let mut streamed = more;
    streamed["stream"] = json!(true);
    let chunks = chunks(pieces(&product, &ask("and tomorrow?", streamed)).await);
    let called = &chunks[chunks.len() - 2]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!((&called["index"], &called["id"]), (&json!(0), &json!("call_2")));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn models_are_listed_and_named() {
    let models = |server: &ModelServer| ProductOptions {
        chat_models: vec![("small".to_owned(), model_config(server, "small-model"))],
        ..ProductOptions::default()
    };
    let house = house_with(json!({}), models, |builder| builder).await;
    house.server.answer_with(|_| Reply::text("ok"));
    let product = house.app.product();
    let listed = product.openai_models().await;
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["mos", "small", "scripted", "words"]);
    assert_eq!(product.openai_model("small").await.unwrap()["object"], "model");
    assert_eq!(product.openai_model("huge").await.unwrap_err().status, 404);
    for name in ["mos", "small", "scripted"] {
        let answer = whole(&product, &ask("hello there", json!({"model": name}))).await.unwrap();
        assert_eq!(answer["model"], if name == "mos" { "small" } else { name });
    }
    let asked: Vec<String> =
        house.server.requests().iter().map(|request| request.body["model"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ["small-model", "small-model", "scripted"]);
    let error = whole(&product, &ask("hello", json!({"model": "huge"}))).await.unwrap_err();
    assert_eq!((error.status, error.code), (404, Some("model_not_found")));
}

#[tokio::test]
async fn a_model_in_this_process_has_memories_before_the_question_and_no_tools() {
    let model = Arc::new(ScriptedChat::new(["Max."]));
    let given = Arc::new(Local(Arc::clone(&model)));
    let house = house_with(json!({}), |_| ProductOptions::default(), |builder| builder.chat_model(given)).await;
    house.knows("my dog is called Max").await;
    let product = house.app.product();
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "what is my dog called?"}]},
    ]);
    let answer = whole(&product, &ask("", json!({"messages": messages, "model": "small"}))).await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "Max.");
    let request = &model.requests()[0];
    assert_eq!((request.messages[0].text().as_str(), request.stable_messages), ("Be brief.", 1));
    let question = request.messages[1].text();
    assert!(
        question.contains("\n- [user] my dog is called Max") && question.ends_with("what is my dog called?"),
        "{question}"
    );
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]);
    for (more, param) in [
        (json!({"tools": [tool]}), "tools"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"messages": image}), "messages"),
    ] {
        let error = whole(&product, &ask("hello", more)).await.unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)));
    }
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn embeddings_are_those_of_memories_in_both_encodings() {
    let house = house().await;
    let product = house.app.product();
    let embed = async |more: Value| {
        let mut body = json!({"model": "mos", "input": ["green tea", "a dog"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        product.openai_embeddings(&body, CompletionContext::default()).await
    };
    let answer = embed(json!({"dimensions": 64})).await.unwrap();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("words")));
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    let known = house.app.mos().embedder().embed(&["green tea".to_owned(), "a dog".to_owned()]).await.unwrap();
    for (index, vector) in known.iter().enumerate() {
        let row = &answer["data"][index];
        assert_eq!((&row["object"], &row["index"]), (&json!("embedding"), &json!(index)));
        assert_eq!(row["embedding"], json!(vector));
    }
    let packed = embed(json!({"encoding_format": "base64", "model": "words"})).await.unwrap();
    // Four bytes for each of 64 numbers, in groups of three bytes.
    assert_eq!(packed["data"][1]["embedding"].as_str().unwrap().len(), 344);
    for (more, param) in [
        (json!({"input": [[1, 2]]}), "input"),
        (json!({"dimensions": 3}), "dimensions"),
        (json!({"encoding_format": "text"}), "encoding_format"),
    ] {
        let error = embed(more).await.unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)));
    }
    assert_eq!(embed(json!({"model": "huge"})).await.unwrap_err().code, Some("model_not_found"));
}
