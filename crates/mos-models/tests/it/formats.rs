//! What the formats of chat differ in: schemas, tools, images, addresses.

use std::sync::Arc;

use mos_core::{ChatModel, ChatRequest, FinishReason, Message, ModelError, Sampling, ToolChoice};
use mos_models::{
    HttpOptions, OllamaChat, OllamaOptions, OpenAiChat, OpenAiOptions, ResponsesChat, ResponsesOptions, SchemaForm,
    Secret, ServerOptions,
};
use mos_testkit::json_server::{Answer, JsonServer};
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use serde_json::{Value, json};

use crate::{KEY, server};

/// One model per format at a server.
fn all(at: &ModelServer) -> [Arc<dyn ChatModel>; 3] {
    [
        OpenAiChat::open(OpenAiOptions::new(server(at.openai_url()), "scripted")).unwrap(),
        ResponsesChat::open(ResponsesOptions::new(server(at.openai_url()), "scripted")).unwrap(),
        OllamaChat::open(OllamaOptions::new(server(at.base_url()), "scripted")).unwrap(),
    ]
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest { messages: vec![Message::user(text)], ..ChatRequest::default() }
}

fn facts() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["facts"],
           "properties": {"facts": {"type": "array", "items": {"type": "string"}}}})
}

#[tokio::test]
async fn answers_are_asked_for_by_schema() {
    let at = ModelServer::start().await;
    let request = ChatRequest { answer_schema: Some(facts()), ..ask("what do you know?") };
    for model in all(&at) {
        let (answer, _) = model.complete(request.clone()).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), json!({"facts": ["facts"]}), "{model:?}");
    }
    let [openai, responses, ollama] = &at.requests()[..] else { panic!("three requests") };
    let named = json!({"name": "answer", "schema": facts(), "strict": true});
    assert_eq!(openai.body["response_format"], json!({"type": "json_schema", "json_schema": named}));
    let format = json!({"type": "json_schema", "name": "answer", "schema": facts(), "strict": true});
    assert_eq!(responses.body["text"], json!({"format": format}));
    assert_eq!(ollama.body["format"], facts());
}

#[tokio::test]
async fn a_server_that_knows_no_schemas_is_asked_for_an_object_or_without() {
    let at = ModelServer::start().await;
    let mut options = OpenAiOptions::new(server(at.openai_url()), "deepseek-chat");
    options.schema_form = SchemaForm::AnyObject;
    let request = ChatRequest { answer_schema: Some(facts()), ..ask("json, please") };
    OpenAiChat::open(options).unwrap().complete(request.clone()).await.unwrap();
    assert_eq!(at.requests()[0].body["response_format"], json!({"type": "json_object"}));

    for (model, (key, words)) in all(&at).iter().zip([
        ("response_format", "unknown field `response_format`"),
        ("text", "invalid schema for text.format"),
        ("format", "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"),
    ]) {
        let before = at.requests().len();
        at.fault(Fault::Status(400, json!({"error": {"message": words}})));
        at.reply(Reply::text("prose"));
        assert_eq!(model.complete(request.clone()).await.unwrap().0, "prose");
        let asked: Vec<bool> = at.requests()[before..].iter().map(|request| !request.body[key].is_null()).collect();
        assert_eq!(asked, [true, false], "{key}");
        // A refusal that has nothing to do with it is not repeated.
        at.fault(Fault::Status(400, json!({"error": {"message": "too many words"}})));
        assert!(matches!(model.complete(request.clone()).await, Err(ModelError::Invalid(_))), "{key}");
        assert_eq!(at.requests().len(), before + 3, "{key}");
    }
}

#[tokio::test]
async fn tools_are_offered_called_and_answered() {
    let at = ModelServer::start().await;
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": parameters}});
    for model in all(&at) {
        let before = at.requests().len();
        at.reply(Reply::text("").with_tool_call("call_a", "weather", &json!({"city": "Zürich"})).with_tool_call(
            "call_b",
            "weather",
            &json!({"city": "東京"}),
        ));
        let mut request = ChatRequest { tools: vec![tool.clone()], ..ask("Is it warm?") };
        let (text, usage) = model.complete(request.clone()).await.unwrap();
        assert_eq!(text, "", "{model:?}");
        let called: Vec<(Value, Value)> = usage
            .tool_calls
            .iter()
            .map(|call| {
                let arguments = call["function"]["arguments"].as_str().unwrap();
                (call["function"]["name"].clone(), serde_json::from_str(arguments).unwrap())
            })
            .collect();
        let expected = [(json!("weather"), json!({"city": "Zürich"})), (json!("weather"), json!({"city": "東京"}))];
        assert_eq!(called, expected, "{model:?}");

        // What the model called goes back as it came, each with its result.
        let ids: Vec<String> = usage.tool_calls.iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect();
        assert_ne!(ids[0], ids[1]);
        request.messages.push(Message { content: None, tool_calls: Some(usage.tool_calls), ..Message::assistant("") });
        request.messages.extend(ids.iter().map(|id| Message::tool_result(id, "22 degrees")));
        at.reply(Reply::text("Yes, 22 degrees."));
        assert_eq!(model.complete(request).await.unwrap().0, "Yes, 22 degrees.");
        assert_eq!(at.requests().len(), before + 2);
    }
    let requests = at.requests();
    let [_, openai, _, responses, _, ollama] = &requests[..] else { panic!("six requests") };
    assert_eq!(openai.body["tools"], json!([tool]));
    assert_eq!(openai.body["messages"][1]["tool_calls"][0]["function"]["arguments"], r#"{"city":"Zürich"}"#);
    assert_eq!(openai.body["messages"][2]["tool_call_id"], "call_a");
    assert_eq!(responses.body["tools"], json!([{"name": "weather", "parameters": parameters, "type": "function"}]));
    let call = json!({"type": "function_call", "call_id": "call_a", "name": "weather",
                      "arguments": r#"{"city":"Zürich"}"#});
    assert_eq!(responses.body["input"][1], call);
    let result = json!({"type": "function_call_output", "call_id": "call_b", "output": "22 degrees"});
    assert_eq!(responses.body["input"][4], result);
    assert_eq!(ollama.body["messages"][1]["tool_calls"][1]["function"]["arguments"], json!({"city": "東京"}));
    assert_eq!(ollama.body["messages"][2]["tool_name"], "weather", "results name their tool here");
}

#[tokio::test]
async fn a_tool_that_must_be_called_is_told_or_refused() {
    let at = ModelServer::start().await;
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let request =
        |choice: ToolChoice| ChatRequest { tools: vec![tool.clone()], tool_choice: Some(choice), ..ask("Is it warm?") };
    let named = || ToolChoice::Named("weather".to_owned());
    let [openai, responses, ollama] = all(&at);
    for model in [openai, responses] {
        for choice in [ToolChoice::Any, named()] {
            at.reply(Reply::text("").with_tool_call("call_a", "weather", &json!({})));
            model.complete(request(choice)).await.unwrap();
        }
    }
    let told: Vec<Value> = at.requests().iter().map(|request| request.body["tool_choice"].clone()).collect();
    let of_chats = json!({"type": "function", "function": {"name": "weather"}});
    let of_responses = json!({"type": "function", "name": "weather"});
    assert_eq!(told, [json!("required"), of_chats, json!("required"), of_responses]);
    let refused = ollama.complete(request(named())).await.unwrap_err();
    assert!(matches!(&refused, ModelError::Invalid(why) if why.contains("Ollama")), "{refused}");
}

#[tokio::test]
async fn images_travel_with_the_message() {
    let at = ModelServer::start().await;
    let data = "data:image/png;base64,iVBORw0KGgo=";
    let request =
        ChatRequest { messages: vec![Message::user_with_images("What is it?", [data])], ..ChatRequest::default() };
    for model in all(&at) {
        at.reply(Reply::text("A cat."));
        let (_, usage) = model.complete(request.clone()).await.unwrap();
        assert_eq!(usage.prompt_tokens, 3, "the words of the text");
    }
    let images: Vec<Vec<String>> = at.requests().iter().map(|request| request.images()).collect();
    assert_eq!(images, [vec![data], vec![data], vec!["iVBORw0KGgo="]]);
    assert_eq!(at.requests()[1].body["input"][0]["content"][1]["type"], "input_image");
    let [_, _, ollama] = all(&at);
    let far = Message::user_with_images("And this?", ["https://example.org/cat.png"]);
    let refused = ollama.complete(ChatRequest { messages: vec![far], ..ChatRequest::default() }).await.unwrap_err();
    assert!(matches!(&refused, ModelError::Invalid(text) if text.contains("data:")), "{refused}");
}

#[tokio::test]
async fn the_responses_interface_is_asked_in_its_own_words() {
    let at = ModelServer::start().await;
    let options = ResponsesOptions { enable_thinking: true, ..ResponsesOptions::new(server(at.openai_url()), "gpt-5") };
    let sampling = Sampling { temperature: 0.5, max_tokens: 9, ..Sampling::default() };
    let messages =
        vec![Message::system("Be brief."), Message::user("hi"), Message::assistant("ho"), Message::user("?")];
    let request = ChatRequest { messages, sampling: Some(sampling), ..ChatRequest::default() };
    at.reply(Reply { is_cut: true, cached_tokens: 2, ..Reply::text("cut off here") });
    let (_, usage) = ResponsesChat::open(options).unwrap().complete(request).await.unwrap();
    assert_eq!((usage.finish, usage.cached_tokens, usage.prompt_tokens), (FinishReason::Length, 2, 5));
    assert_eq!(
        at.requests()[0].body,
        json!({
            "model": "gpt-5", "stream": true, "store": false, "temperature": 0.5, "top_p": 1.0, "max_output_tokens": 9,
            "reasoning": {"effort": "low", "summary": "auto"},
            "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
                      {"role": "assistant", "content": "ho"}, {"role": "user", "content": "?"}],
        })
    );
}

#[tokio::test]
async fn a_whole_response_is_understood_and_stop_texts_end_it() {
    let at = ModelServer::start().await;
    let model = ResponsesChat::open(ResponsesOptions::new(server(at.openai_url()), "scripted")).unwrap();
    at.fault(Fault::WholeAnswer);
    at.reply(Reply::text("all at once").with_reasoning("hm"));
    assert_eq!(model.complete(ask("hi")).await.unwrap().0, "<think>hm</think>all at once");
    for fault in [None, Some(Fault::WholeAnswer)] {
        at.reply(Reply::text("one two STOP three"));
        fault.into_iter().for_each(|fault| at.fault(fault));
        let sampling = Sampling { stop: vec!["STOP".to_owned()], ..Sampling::default() };
        let (text, usage) = model.complete(ChatRequest { sampling: Some(sampling), ..ask("count") }).await.unwrap();
        assert_eq!((text.as_str(), usage.finish), ("one two ", FinishReason::Stop));
    }
}

#[tokio::test]
async fn azure_is_asked_at_its_deployment() {
    let at = ModelServer::start().await;
    let http = HttpOptions { max_retries: 0, ..HttpOptions::default() };
    let azure = ServerOptions::azure(&at.base_url(), "my-gpt", "2024-03-01-preview", Secret::new(KEY));
    let model = OpenAiChat::open(OpenAiOptions::new(ServerOptions { http, ..azure }, "my-gpt")).unwrap();
    // The versions of old know no usage of streams.
    at.fault(Fault::Status(400, json!({"error": {"message": "Unrecognized request argument: stream_options"}})));
    at.reply(Reply::text("hello"));
    assert_eq!(model.complete(ask("hi")).await.unwrap().0, "hello");
    let [first, second] = &at.requests()[..] else { panic!("two requests") };
    assert_eq!(second.path, "/openai/deployments/my-gpt/chat/completions");
    assert_eq!((second.query.as_str(), second.header("api-key")), ("api-version=2024-03-01-preview", Some(KEY)));
    assert_eq!(second.header("authorization"), None);
    assert!(!first.body["stream_options"].is_null() && second.body["stream_options"].is_null());
    at.fault(Fault::Status(401, json!({"error": {"message": KEY}})));
    let denied = model.complete(ask("hi")).await.unwrap_err();
    assert!(matches!(denied, ModelError::Denied(_)));
    assert!(!format!("{denied} {model:?}").contains(KEY), "{denied}");
}

#[tokio::test]
async fn words_that_only_some_services_have_are_understood() {
    let at = JsonServer::start().await;
    let model = OpenAiChat::open(OpenAiOptions::new(server(at.url("/v1")), "m")).unwrap();
    let whole = |usage: Value| {
        let choice = json!({"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"});
        Answer::json(&json!({"choices": [choice], "usage": usage, "base_resp": {"status_code": 0, "status_msg": ""}}))
    };
    at.answer(whole(json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8})));
    let (_, usage) = model.complete(ask("hi")).await.unwrap();
    assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens), (9, 8, 1));
    let failed = |code: i64| {
        Answer::json(&json!({"choices": null, "base_resp": {"status_code": code, "status_msg": format!("no, {KEY}")}}))
    };
    at.answer(failed(1002));
    at.answer(whole(Value::Null));
    assert_eq!(model.complete(ask("hi")).await.unwrap().0, "hi", "too many requests: asked again");
    for (code, kind) in [(1004, "Denied"), (1008, "Denied"), (2013, "Invalid")] {
        at.answer(failed(code));
        let error = format!("{:?}", model.complete(ask("hi")).await.unwrap_err());
        assert!(error.starts_with(kind) && !error.contains(KEY), "{code}: {error}");
    }
}

#[tokio::test]
async fn a_service_that_takes_top_k_is_sent_it() {
    let at = ModelServer::start().await;
    let mut options = OpenAiOptions::new(server(at.openai_url()), "qwen");
    options.sends_top_k = true;
    options.sampling = Sampling { top_k: 20, ..Sampling::default() };
    OpenAiChat::open(options).unwrap().complete(ask("hi")).await.unwrap();
    assert_eq!(at.requests()[0].body["top_k"], 20);
}

#[tokio::test]
async fn a_count_of_no_tokens_is_an_estimate() {
    let at = JsonServer::start().await;
    let answer = json!({"choices": [{"message": {"role": "assistant", "content": "123456"}, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}});
    at.answer(Answer::json(&answer));
    let model = OpenAiChat::open(OpenAiOptions::new(server(at.url("/v1")), "m")).unwrap();
    let (text, usage) = model.complete(ask("123456789")).await.unwrap();
    assert_eq!((text.as_str(), usage.completion_tokens), ("123456", 2));
    assert!(usage.prompt_tokens >= 3, "{usage:?}");
}

#[tokio::test]
async fn calls_that_are_not_numbered_are_told_apart_by_their_ids() {
    let at = JsonServer::start().await;
    let call = |id: &str, arguments: &str| {
        json!({"choices": [{"delta": {"tool_calls": [
            {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}]}}]})
    };
    let end = json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]});
    let events = [call("a", "{\"at\": 1}"), call("b", "{\"at\":"), call("b", " 2}"), end];
    let events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let stream = format!("{}data: [DONE]\n\n", events.concat());
    at.answer(Answer::text(stream).with_header("content-type", "text/event-stream"));
    let model = OpenAiChat::open(OpenAiOptions::new(server(at.url("/v1")), "m")).unwrap();
    let (_, usage) = model.complete(ask("Look twice.")).await.unwrap();
    let arguments: Vec<&str> =
        usage.tool_calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments, ["{\"at\": 1}", "{\"at\": 2}"]);
}
