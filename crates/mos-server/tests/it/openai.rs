//! `/v1/*`, with a scripted model server behind it.

use mos::keys::NewKey;
use mos_server::{AuthMode, ServerOptions};
use mos_testkit::model_server::{Fault, ModelServer, Reply};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::guarded::{Guarded, options};
use crate::house::House;
use crate::python;

/// A server for everybody, and the model behind it.
struct Talking {
    model: ModelServer,
    house: House,
    client: Client,
}

/// Settings whose chat model is this one.
fn settings(model: &ModelServer) -> Value {
    json!({"chat_model": {"backend": "vllm", "config": {
        "model_name_or_path": "scripted", "api_base": model.openai_url(), "max_retries": 0}}})
}

impl Talking {
    async fn open() -> Self {
        let model = ModelServer::start().await;
        let options = ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() };
        let house = House::with_settings(options, settings(&model)).await;
        Self { model, house, client: Client::new() }
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}/v1/{path}", self.house.url)).json(body)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        read(self.client.get(format!("{}/v1/{path}", self.house.url)).send().await.unwrap()).await
    }

    fn ask(&self, question: &str, more: Value) -> RequestBuilder {
        let mut body = json!({"model": "mos", "messages": [{"role": "user", "content": question}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("chat/completions", &body)
    }

    /// Has ann say something that is remembered when this returns.
    async fn ann_says(&self, text: &str) {
        self.model.reply(Reply::text("Noted."));
        let answered = self.ask(text, json!({})).header("X-Mos-User", "ann").send().await.unwrap();
        assert_eq!(answered.status(), 200);
        self.house.app.mos().wait_for_sending().await;
    }

    /// The messages that the model was asked last.
    fn asked(&self) -> Value {
        self.model.requests().last().unwrap().body["messages"].clone()
    }
}

async fn read(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn what_a_user_said_in_one_conversation_is_known_in_the_next() {
    let talking = Talking::open().await;
    talking.ann_says("My dog is called Max and he is three years old").await;
    talking.model.reply(Reply::text("Max."));
    let (status, answer) =
        read(talking.ask("What is my dog called?", json!({"user": "ann"})).send().await.unwrap()).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("Max.")));
    assert!(talking.asked()[0]["content"].as_str().unwrap().contains("My dog is called Max"), "{}", talking.asked());
    assert!(answer["mos"]["memories"].to_string().contains("My dog is called Max"), "{answer}");
    let off = talking.ask("What is my dog called?", json!({"user": "ann"})).header("X-Mos-Memory", "off");
    talking.model.reply(Reply::text("I do not know."));
    let (_, answer) = read(off.header("X-Mos-Explain", "off").send().await.unwrap()).await;
    assert_eq!(talking.asked(), json!([{"role": "user", "content": "What is my dog called?"}]));
    assert!(answer.get("mos").is_none());
    let other = talking.ask("What is my dog called?", json!({"user": "bob"})).send().await.unwrap();
    assert_eq!(other.status(), 200);
    assert!(!talking.asked().to_string().contains("Max"), "another user has other memories");
    talking.house.close().await;
}

#[tokio::test]
async fn a_stream_is_events_with_done_at_the_end() {
    let talking = Talking::open().await;
    talking.model.reply(Reply::text("It is Max"));
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let response = talking.ask("Who is it?", more.clone()).header("X-Mos-User", "ann").send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = response.text().await.unwrap();
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = data[..data.len() - 1].iter().map(|one| serde_json::from_str(one).unwrap()).collect();
    let said: String = chunks.iter().filter_map(|one| one["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((said.as_str(), chunks[0]["mos"]["memories"].is_array()), ("It is Max", true));
    let first = &chunks[0]["choices"][0];
    assert_eq!((&first["delta"]["role"], &first["delta"]["content"]), (&json!("assistant"), &json!("")));
    let (usage, told) = chunks.split_last().unwrap();
    assert!(usage["choices"] == json!([]) && usage["usage"]["total_tokens"].is_u64(), "{usage}");
    for chunk in told {
        assert_eq!((&chunk["object"], &chunk["id"]), (&json!("chat.completion.chunk"), &chunks[0]["id"]));
        assert!(chunk["usage"].is_null() && chunk.as_object().unwrap().contains_key("usage"), "{chunk}");
    }
    let reasons: Vec<&Value> = told.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    let (last, others) = reasons.split_last().unwrap();
    assert!(*last == "stop" && others.iter().all(|reason| reason.is_null()), "{reasons:?}");
    assert_eq!(told.last().unwrap()["choices"][0]["delta"], json!({}));
    talking.model.reply(Reply::text("It is Max"));
    let plain = talking.ask("Who is it?", json!({"stream": true})).header("X-Mos-User", "ann").send().await.unwrap();
    let plain = plain.text().await.unwrap();
    assert!(plain.trim_end().ends_with("data: [DONE]") && !plain.contains("\"usage\""), "{plain}");
    talking.model.reply(Reply::text("one two three four five"));
    talking.model.fault(Fault::CutOff(4));
    let broken = talking.ask("Count for me", more).header("X-Mos-User", "ann").send().await.unwrap();
    let text = broken.text().await.unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["error"]["type"], "server_error");
    talking.house.close().await;
}

#[tokio::test]
async fn tools_are_called_and_one_of_them_can_be_insisted_on() {
    let talking = Talking::open().await;
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for is_streamed in [false, true] {
        talking.model.reply(Reply::text("").with_tool_call("call_a", "weather", &json!({"city": "Bonn"})));
        let more = json!({"user": "ann", "tools": [tool], "tool_choice": named, "stream": is_streamed});
        let text = talking.ask("Is it warm?", more).send().await.unwrap().text().await.unwrap();
        assert!(text.contains(r#""finish_reason":"tool_calls""#) && text.contains(r#""name":"weather""#), "{text}");
        let asked = talking.model.requests();
        assert_eq!(asked.last().unwrap().body["tool_choice"], named);
    }
    let unknown =
        json!({"user": "ann", "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "time"}}});
    let (status, refused) = read(talking.ask("Is it warm?", unknown).send().await.unwrap()).await;
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("tool_choice")));
    talking.house.close().await;
}

#[tokio::test]
async fn every_error_has_openais_shape() {
    let talking = Talking::open().await;
    let ann = |request: RequestBuilder| request.header("X-Mos-User", "ann");
    let post =
        |path: &str, body: &str| talking.client.post(format!("{}/v1/{path}", talking.house.url)).body(body.to_owned());
    talking.model.fault(Fault::RateLimited(Some(7)));
    for (request, expected) in [
        (ann(talking.ask("hi there", json!({}))), (429, "rate_limit_error", json!("rate_limit_exceeded"))),
        (talking.ask("hi", json!({})), (400, "invalid_request_error", json!("invalid_value"))),
        (ann(talking.ask("hi", json!({"model": "huge"}))), (404, "invalid_request_error", json!("model_not_found"))),
        (ann(talking.ask("hi", json!({"n": 2}))), (400, "invalid_request_error", json!("unsupported_parameter"))),
        (ann(post("chat/completions", "{no json")), (400, "invalid_request_error", Value::Null)),
        (ann(post("nowhere", "{}")), (404, "invalid_request_error", Value::Null)),
        (
            talking.client.get(format!("{}/v1/chat/completions", talking.house.url)),
            (405, "invalid_request_error", Value::Null),
        ),
        (
            post("embeddings", r#"{"model": "mos", "input": [1]}"#),
            (400, "invalid_request_error", json!("invalid_value")),
        ),
    ] {
        let response = request.send().await.unwrap();
        let waits = response.headers().get("retry-after").is_some();
        let (status, body) = read(response).await;
        let error = &body["error"];
        assert_eq!((status, error["type"].as_str().unwrap(), error["code"].clone()), expected, "{body}");
        assert!(error["message"].is_string() && error.get("param").is_some(), "{body}");
        assert_eq!(waits, status == 429, "{body}");
    }
    let keys = House::open(ServerOptions::default()).await;
    let (status, body) = read(reqwest::get(format!("{}/v1/models", keys.url)).await.unwrap()).await;
    assert_eq!((status, &body["error"]["type"]), (401, &json!("authentication_error")));
    keys.close().await;
    talking.house.close().await;
}

#[tokio::test]
async fn models_are_listed_and_texts_embedded() {
    let talking = Talking::open().await;
    let (status, listed) = talking.get("models").await;
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((status, ids), (200, vec!["mos", "scripted", "words"]));
    assert_eq!(talking.get("models/scripted").await.1["object"], "model");
    assert_eq!(talking.get("models/someone/huge").await.0, 404);
    let body = json!({"model": "words", "input": "green tea"});
    let (status, answer) = read(talking.post("embeddings", &body).send().await.unwrap()).await;
    assert_eq!((status, answer["data"][0]["embedding"].as_array().map(Vec::len)), (200, Some(64)));
    let body = json!({"model": "mos", "input": ["a dog", "green tea"], "encoding_format": "base64"});
    let (_, packed) = read(talking.post("embeddings", &body).send().await.unwrap()).await;
    assert_eq!((&packed["object"], &packed["data"][1]["index"]), (&json!("list"), &json!(1)));
    // 64 numbers of four bytes.
    let texts: Vec<&str> =
        packed["data"].as_array().unwrap().iter().map(|one| one["embedding"].as_str().unwrap()).collect();
    assert!(texts.iter().all(|text| text.len() == (64 * 4_usize).div_ceil(3) * 4), "{texts:?}");
    assert!(texts[0] != texts[1] && packed["usage"]["prompt_tokens"].is_u64(), "{packed}");
    talking.house.close().await;
}

/// Chats, streams, lists models and embeds with the published package, with a key and not without, when `MOS_PYTHON` (else
/// `python3`) has it.
#[tokio::test]
async fn the_published_python_client_works_unmodified() {
    let model = ModelServer::start().await;
    model.answer_with(|body| {
        let knows = body["messages"].to_string().contains("My dog is called Max");
        let is_asked = body["messages"].to_string().contains("What is my dog called?");
        match (is_asked, knows) {
            (true, true) => Reply::text("Max."),
            (true, false) => Reply::text("I do not know."),
            _ => Reply::text("Noted, thank you very much."),
        }
    });
    let house = Guarded::with_settings(tempfile::tempdir().unwrap(), options(), None, settings(&model)).await;
    let key = house.key(NewKey::program()).await;
    python::run("openai_client.py", &format!("{}/v1", house.url), &key).await;
    house.close().await;
}
