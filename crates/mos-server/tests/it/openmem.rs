//! `/api/openmem/v1/*`: what MemOS' published SDK sends and reads.

use mos::keys::NewKey;
use mos_server::{AuthMode, ServerOptions};
use mos_testkit::model_server::{ModelServer, Reply, schema_of};
use reqwest::Client;
use serde_json::{Value, json};

use crate::guarded::{Guarded, options};
use crate::house::House;
use crate::python;

/// A server for everybody whose model answers every chat in the same way.
pub(crate) struct Talking {
    _model: ModelServer,
    pub(crate) house: House,
    pub(crate) client: Client,
}

/// A model that finds one memory in whatever it reads, and answers every chat in the same way.
async fn model_of_max() -> ModelServer {
    let model = ModelServer::start().await;
    model.answer_with(|body| match schema_of(body) {
        // It is asked what is worth remembering.
        Some(schema) if schema.to_string().contains("memory list") => {
            let memory = json!({"key": "Dog", "memory_type": "UserMemory", "tags": ["pet"],
                "value": "The user has a dog called Max, who is three years old."});
            Reply::text(json!({"memory list": [memory], "summary": "About a dog."}).to_string())
        }
        Some(_) => Reply::text(json!({"operations": []}).to_string()),
        None => Reply::text("It is Max"),
    });
    model
}

/// Settings whose chat model is this one.
fn settings(model: &ModelServer) -> Value {
    json!({"chat_model": {"backend": "vllm", "config": {
        "model_name_or_path": "scripted", "api_base": model.openai_url(), "max_retries": 0}}})
}

impl Talking {
    pub(crate) async fn open() -> Self {
        Self::with(model_of_max().await).await
    }

    /// With a model that says nothing of use.
    pub(crate) async fn silent() -> Self {
        let model = ModelServer::start().await;
        model.answer_with(|_| Reply::text("I would rather not"));
        Self::with(model).await
    }

    async fn with(model: ModelServer) -> Self {
        let options = ServerOptions { auth: AuthMode::Open, ..ServerOptions::default() };
        let house = House::with_settings(options, settings(&model)).await;
        Self { _model: model, house, client: Client::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/api/openmem/v1/{path}", self.house.url)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.client.post(self.url(path)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The data of an answer, in the envelope that clients insist on.
    pub(crate) async fn ask(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!((status, &answer["code"], &answer["message"]), (200, &json!(200), &json!("ok")), "{path}: {answer}");
        answer["data"].clone()
    }

    pub(crate) async fn tell(&self, text: &str) -> Value {
        let messages = json!([{"role": "user", "content": text}]);
        self.ask("add/message", json!({"messages": messages, "user_id": "ann", "conversation_id": "monday"})).await
    }
}

#[tokio::test]
async fn what_is_added_is_found_listed_and_deleted() {
    let talking = Talking::open().await;
    let added = talking.tell("My dog is called Max and he is three years old").await;
    assert_eq!((&added["success"], &added["status"]), (&json!(true), &json!("running")));
    let status = talking.ask("get/status", json!({"task_id": added["task_id"]})).await;
    assert_eq!(
        status,
        json!({"task_id": added["task_id"], "status": "completed"}),
        "nothing works in the background here"
    );
    let question = json!({"query": "What is my dog called?", "user_id": "ann", "relativity": 0});
    let found = talking.ask("search/memory", question.clone()).await;
    let hit = &found["memory_detail_list"][0];
    assert!(hit["memory_value"].as_str().unwrap().contains("called Max"), "{found}");
    assert_eq!(hit["conversation_id"], "monday");
    assert!(hit["relativity"].is_number() && found["preference_detail_list"].is_array(), "{found}");
    assert!(found.get("preference_note").is_none_or(Value::is_string), "clients take no null: {found}");
    let page = talking.ask("get/memory", json!({"user_id": "ann", "page": 1, "size": 50})).await;
    assert_eq!((&page["current"], &page["size"], &page["pages"]), (&json!(1), &json!(50), &json!(1)));
    assert_eq!(page["total"], page["memory_detail_list"].as_array().unwrap().len());
    let id = page["memory_detail_list"][0]["id"].as_str().unwrap();
    let one: Value =
        talking.client.get(talking.url(&format!("get/memory/{id}"))).send().await.unwrap().json().await.unwrap();
    assert_eq!(one["data"]["id"], id);
    let other = json!({"query": "What is my dog called?", "user_id": "bob", "relativity": 0});
    assert_eq!(talking.ask("search/memory", other).await["memory_detail_list"], json!([]));
    assert_eq!(talking.ask("delete/memory", json!({"user_id": "ann"})).await, json!({"success": true}));
    assert_eq!(talking.ask("search/memory", question).await["memory_detail_list"], json!([]));
    talking.house.close().await;
}

#[tokio::test]
async fn a_chat_is_answered_whole_or_in_pieces_and_a_correction_is_taken() {
    let talking = Talking::open().await;
    let question = json!({"user_id": "ann", "conversation_id": "tuesday", "query": "What is my dog called?"});
    assert_eq!(talking.ask("chat", question.clone()).await, json!({"response": "It is Max"}));
    let mut streamed = question;
    streamed["stream"] = json!(true);
    let response = talking.client.post(talking.url("chat")).json(&streamed).send().await.unwrap();
    let text = response.text().await.unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let frames: Vec<Value> = data.map(|one| serde_json::from_str(one).unwrap()).collect();
    let said: String =
        frames.iter().filter(|one| one["type"] == "text").filter_map(|one| one["data"].as_str()).collect();
    assert_eq!(said, "It is Max");
    let correction =
        json!({"user_id": "ann", "conversation_id": "tuesday", "feedback_content": "My dog is four years old"});
    assert_eq!(talking.ask("add/feedback", correction).await["success"], true);
    talking.house.close().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let talking = Talking::open().await;
    let task = "ann:00000000-0000-4000-8000-000000000001";
    let said = json!([{"role": "user", "content": "hi"}]);
    for (path, body, expected) in [
        ("add/message", json!({"messages": [{"role": "user", "content": "hi"}]}), 400),
        ("add/message", json!({"user_id": "ann"}), 422),
        ("add/message", json!({"user_id": "ann", "messages": said, "async_mode": "false"}), 400),
        ("add/message", json!({"user_id": "ann", "messages": said, "info": "from Bonn"}), 400),
        ("search/memory", json!({"user_id": "ann"}), 422),
        ("get/memory", json!({"user_id": "ann", "size": 51}), 400),
        ("delete/memory", json!({"memory_ids": ["a"], "user_id": "ann"}), 400),
        ("delete/memory", json!({}), 400),
        ("get/status", json!({"task_id": "no such task"}), 404),
        ("get/status", json!({"task_id": task}), 200),
        ("add/feedback", json!({"user_id": "ann"}), 400),
        ("add/feedback", json!({"user_id": "ann", "feedback_content": "No", "info": []}), 400),
        ("add/feedback", json!({"user_id": "ann", "feedback_content": "No", "allow_knowledgebase_ids": ["kb-1"]}), 400),
        ("chat", json!({"user_id": "ann", "query": "hi", "stream": "true"}), 400),
        ("chat", json!({"user_id": "ann", "query": "hi", "filter": {"knowledgebase": "tea"}}), 400),
    ] {
        let (status, answer) = talking.post(path, body).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert_eq!(answer["code"], expected, "{path}: the code is the status");
        assert!(answer["message"].is_string(), "{answer}");
    }
    let missing = talking.client.get(talking.url("get/memory/00000000-0000-4000-8000-000000000001"));
    assert_eq!(missing.send().await.unwrap().status(), 404);
    talking.house.close().await;
}

#[tokio::test]
async fn what_the_dialect_knows_and_is_not_here_is_passed_over() {
    let talking = Talking::open().await;
    let messages = json!([{"role": "user", "content": "My dog is called Max"}]);
    let add = json!({"messages": messages, "user_id": "ann", "conversation_id": "monday", "source": "plugin",
        "allow_public": true, "allow_memory_view": true});
    assert_eq!(talking.ask("add/message", add).await["success"], true);
    let question = json!({"query": "What is my dog called?", "relativity": 0, "include_memory_view": true,
        "context_format": "text", "source": "plugin"});
    let of = |user: &str, filter: Value| {
        let mut asked = question.clone();
        asked["user_id"] = json!(user);
        asked["filter"] = filter;
        asked
    };
    let found = talking.ask("search/memory", of("ann", json!({"public": {"tags": "none"}}))).await;
    assert!(found["memory_detail_list"].as_array().is_some_and(|all| !all.is_empty()), "{found}");
    assert_eq!((&found["event_detail_list"], &found["message_detail_list"]), (&json!([]), &json!([])), "{found}");
    let others = talking.ask("search/memory", of("bob", json!({"public": {}}))).await;
    assert_eq!(others["memory_detail_list"], json!([]), "nothing is public");
    talking.house.close().await;
}

/// Adds, searches, lists, chats, corrects and deletes with the published SDK, with a key and not without.
#[tokio::test]
async fn the_published_sdk_works_unmodified() {
    let model = model_of_max().await;
    let house = Guarded::with_settings(tempfile::tempdir().unwrap(), options(), None, settings(&model)).await;
    let key = house.key(NewKey::program()).await;
    python::run("openmem_client.py", &format!("{}/api/openmem/v1", house.url), &key).await;
    house.close().await;
}
