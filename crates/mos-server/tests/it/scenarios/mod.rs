//! Scenarios: requests and the shapes of their answers, written as JSON in `tests/scenarios/`.
//!
//! Each file is played twice, on servers of its own: over stores in memory, and over the database that a server has unless it
//! is told otherwise. Both have an encoder of words and a scripted chat model, and are open to everybody as `mos serve
//! --compat-open` is. A file says what the `server` has (`users`, `no_chats`, `scheduler`: `running` or `waiting`, `dream`,
//! `business_keys`; `keyed`, when it asks for keys: then `${root}` is the key of the first start), and its `steps`. A step gives
//! the `model` its next answers, sends a `request` (`method`, `path`, `query`, `headers`, `body` or a raw `text`), compares the
//! `answer` (`status`, `headers`, `body` or `frames`; see [`shape`]) and the `prompts`, which are what the model was asked
//! meanwhile, and may `save` values of the body by JSON pointers, which later steps write as `${name}`. `wait` first waits until
//! turns of chats are remembered.

mod coverage;
mod shape;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mos::config::Secret;
use mos::product::ProductOptions;
use mos_server::{ServerState, first_key};
use mos_testkit::model_server::{ModelServer, Reply};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::shape::differences;
use crate::guarded;
use crate::house::{House, open_to_all, scripted_model};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What it shows.
    about: String,
    #[serde(default)]
    server: Furnishing,
    steps: Vec<Step>,
}

/// What the server has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Furnishing {
    users: Vec<String>,
    no_chats: bool,
    scheduler: Option<Scheduler>,
    dream: bool,
    business_keys: Vec<String>,
    keyed: bool,
}

/// Where memories are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Memory,
    Database,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheduler {
    /// Messages are handled.
    Running,
    /// Messages wait.
    Waiting,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// What it shows, when that is not plain.
    #[serde(default)]
    about: String,
    #[serde(default)]
    wait: bool,
    #[serde(default)]
    model: Vec<Value>,
    request: Asked,
    answer: Answered,
    /// The requests to the model, in their order.
    prompts: Option<Value>,
    #[serde(default)]
    save: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    path: String,
    #[serde(default)]
    query: Map<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    body: Option<Value>,
    frames: Option<Value>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn read(name: &str) -> Scenario {
    let file = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl Furnishing {
    /// Opens the server and what answers for its chat model.
    async fn open(&self, store: Store) -> (House, ModelServer) {
        let model = ModelServer::start().await;
        let mut settings = scripted_model(&model);
        if store == Store::Database {
            settings["store"] = json!({"backend": "sqlite", "config": {}});
        }
        if self.scheduler.is_some() {
            settings["enable_mem_scheduler"] = json!(true);
            let config = json!({"enable_dream": self.dream});
            settings["mem_scheduler"] = json!({"backend": "general_scheduler", "config": config});
        }
        let product = ProductOptions {
            chats: !self.no_chats,
            business_chat_keys: self.business_keys.iter().map(|key| Secret::new(key.as_str())).collect(),
            is_open: !self.keyed,
            ..ProductOptions::default()
        };
        let starts = self.scheduler == Some(Scheduler::Running);
        let options = if self.keyed { guarded::options() } else { open_to_all() };
        let house = House::furnished(options, settings, product, starts).await;
        for user in &self.users {
            house.app.mos().create_user(user.as_str(), None).await.unwrap();
        }
        (house, model)
    }

    /// What steps may write before any of them has saved something.
    async fn known(&self, house: &House) -> BTreeMap<String, Value> {
        let mut known = BTreeMap::new();
        if self.keyed {
            let root = first_key(&ServerState::new(house.app.clone(), guarded::options())).await.unwrap().unwrap();
            known.insert("root".to_owned(), json!(root));
        }
        known
    }
}

/// Plays one file, and tells everything that differs.
async fn play(name: &str, store: Store) {
    let scenario = read(name);
    let (house, model) = scenario.server.open(store).await;
    let client = reqwest::Client::new();
    let mut saved = scenario.server.known(&house).await;
    let mut wrong = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        for answer in &step.model {
            let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
            model.reply(Reply::text(text));
        }
        if step.wait {
            house.app.mos().wait_for_sending().await;
        }
        let n_prompts = model.requests().len();
        let mut found = step.play(&client, &house.url, &mut saved).await;
        if let Some(expected) = &step.prompts {
            let prompts: Value = model.requests().into_iter().skip(n_prompts).map(|request| request.body).collect();
            found.extend(differences(&filled(expected, &saved), Some(&prompts), "prompts"));
        }
        let place = format!("step {} ({} {}) {}", index + 1, step.request.method, step.request.path, step.about);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", place.trim_end())));
    }
    house.close().await;
    assert!(wrong.is_empty(), "{name}, {store:?} ({}):\n{}", scenario.about, wrong.join("\n"));
}

impl Step {
    /// Returns what differs.
    async fn play(&self, client: &reqwest::Client, base: &str, saved: &mut BTreeMap<String, Value>) -> Vec<String> {
        let response = self.request.send(client, base, saved).await;
        let status = response.status().as_u16();
        let mut wrong = Vec::new();
        for (name, expected) in &self.answer.headers {
            let value = response.headers().get(name).map(|value| json!(value.to_str().unwrap()));
            wrong.extend(differences(expected, value.as_ref(), name));
        }
        let text = response.text().await.unwrap();
        if status != self.answer.status {
            wrong.push(format!("the status is {status}, not {}: {text}", self.answer.status));
        }
        if let Some(expected) = &self.answer.frames {
            wrong.extend(differences(&filled(expected, saved), Some(&Value::from(frames(&text))), ""));
        }
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if let Some(expected) = &self.answer.body {
            wrong.extend(differences(&filled(expected, saved), Some(&body), ""));
        }
        for (name, pointer) in &self.save {
            match body.pointer(pointer) {
                Some(value) => drop(saved.insert(name.clone(), value.clone())),
                None => wrong.push(format!("there is no {pointer} to save in {text}")),
            }
        }
        wrong
    }
}

impl Asked {
    async fn send(&self, client: &reqwest::Client, base: &str, saved: &BTreeMap<String, Value>) -> reqwest::Response {
        let written = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let path = written(&filled(&json!(self.path), saved));
        let query: Vec<(String, String)> =
            self.query.iter().map(|(name, value)| (name.clone(), written(&filled(value, saved)))).collect();
        let address = format!("{base}{path}");
        let url = if query.is_empty() { Url::parse(&address) } else { Url::parse_with_params(&address, &query) };
        let mut request = client.request(Method::from_bytes(self.method.as_bytes()).unwrap(), url.unwrap());
        for (name, value) in &self.headers {
            request = request.header(name, written(&filled(&json!(value), saved)));
        }
        request = match (&self.body, &self.text) {
            (Some(body), _) => request.json(&filled(body, saved)),
            (None, Some(text)) => request.header("content-type", "application/json").body(text.clone()),
            (None, None) => request,
        };
        request.send().await.unwrap()
    }
}

/// Writes saved values where `${name}` stands; alone it keeps its type.
fn filled(value: &Value, saved: &BTreeMap<String, Value>) -> Value {
    match value {
        Value::String(text) => {
            let alone = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
            if let Some(value) = alone.and_then(|name| saved.get(name)) {
                return value.clone();
            }
            let mut text = text.clone();
            for (name, value) in saved {
                let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text = text.replace(&format!("${{{name}}}"), &written);
            }
            Value::String(text)
        }
        Value::Array(items) => items.iter().map(|item| filled(item, saved)).collect(),
        Value::Object(map) => {
            let filled_in = |(key, value): (&String, &Value)| {
                let key = filled(&json!(key), saved);
                (key.as_str().map_or_else(|| key.to_string(), str::to_owned), filled(value, saved))
            };
            Value::Object(map.iter().map(filled_in).collect())
        }
        other => other.clone(),
    }
}

/// Returns the frames of a stream. Pieces of a text that follow each other are one: how a text is cut is no promise.
fn frames(text: &str) -> Vec<Value> {
    let mut frames: Vec<Value> = Vec::new();
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let frame: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{data}: {error}"));
        let is_piece = frame["type"] == "text" || frame["type"] == "reasoning";
        if let Some(last) = frames.last_mut().filter(|last| is_piece && last["type"] == frame["type"]) {
            let whole = format!("{}{}", last["data"].as_str().unwrap(), frame["data"].as_str().unwrap());
            last["data"] = json!(whole);
        } else {
            frames.push(frame);
        }
    }
    frames
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        /// Every file that is played.
        const PLAYED: &[&str] = &[$(stringify!($name)),*];

        $(
            #[tokio::test]
            async fn $name() {
                play(stringify!($name), Store::Memory).await;
            }
        )*

        /// The same files over a database.
        mod over_a_database {
            use super::{Store, play};

            $(
                #[tokio::test]
                async fn $name() {
                    play(stringify!($name), Store::Database).await;
                }
            )*
        }
    };
}

scenarios![
    add,
    admin,
    chat,
    chat_disabled,
    cubes,
    delete,
    dream,
    errors,
    feedback,
    get_all,
    get_memory,
    guide,
    records,
    scheduler,
    scheduler_absent,
    scheduler_running,
    search,
    search_filters,
    search_options,
    streams,
    suggestions,
];
