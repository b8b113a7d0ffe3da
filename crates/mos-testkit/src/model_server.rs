//! A scripted model server over real HTTP, for deterministic tests.
//!
//! It speaks OpenAI's `/v1/chat/completions` and `/v1/responses` (streamed and whole), `/v1/embeddings`, `/v1/models`, the
//! same chat and embeddings below Azure's `/openai/deployments/NAME`, `/v1/rerank`, Ark's `/api/v3/embeddings` and
//! `/api/v3/embeddings/multimodal`, and Ollama's `/api/chat` and `/api/embed`. Answers come from a queue of [`Reply`]s
//! (then from a closure, then an instance of the schema that the request carries, then an echo of the last message); faults
//! come from a queue of [`Fault`]s, one per request. Every request is recorded.
//!
//! Embeddings follow one rule: every word (letters and digits, lower case) is hashed by 64-bit FNV-1a; the hash
//! modulo the dimension names a component, its top bit the sign of the 1 that is added; the sum is brought to unit
//! length. A text without words (or whose words cancel out) is the first unit vector.

mod responses;
mod schema;
mod services;
mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use schema::{instance_of, schema_of};

/// Dimensions of the embeddings unless a fault says otherwise.
pub const DIMENSION: usize = 32;

/// One scripted answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer, streamed word by word.
    pub text: String,
    /// What the model thought before, in its own field.
    pub reasoning: Option<String>,
    /// Whether the answer says that it was cut at `max_tokens`.
    pub is_cut: bool,
    /// Prompt tokens that the usage calls cached.
    pub cached_tokens: usize,
    /// Whether the answer tells its usage.
    pub has_usage: bool,
    /// What the model wants called, in OpenAI's form.
    pub tool_calls: Vec<Value>,
}

impl Reply {
    /// Returns an answer of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            reasoning: None,
            is_cut: false,
            cached_tokens: 0,
            has_usage: true,
            tool_calls: Vec::new(),
        }
    }

    /// Adds a call of a tool.
    #[must_use]
    pub fn with_tool_call(mut self, id: &str, name: &str, arguments: &Value) -> Self {
        let function = json!({"name": name, "arguments": arguments.to_string()});
        self.tool_calls.push(json!({"id": id, "type": "function", "function": function}));
        self
    }

    /// Adds reasoning in the field that servers use for it.
    #[must_use]
    pub fn with_reasoning(mut self, reasoning: impl Into<String>) -> Self {
        self.reasoning = Some(reasoning.into());
        self
    }
}

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// This status with this JSON body.
    Status(u16, Value),
    /// 429, with this `Retry-After` when given.
    RateLimited(Option<u64>),
    /// 503, with this `Retry-After`.
    Busy(u64),
    /// Nothing is sent for this long.
    SlowFirstByte(Duration),
    /// This long between any two pieces of a stream.
    SlowChunks(Duration),
    /// After so many pieces nothing comes any more, but the connection stands.
    Stall(usize),
    /// After so many pieces the connection is closed.
    CutOff(usize),
    /// After so many pieces the answer ends well-formed for HTTP, but without its end.
    EndEarly(usize),
    /// A success whose body is noise.
    Garbage,
    /// A success whose body is larger than any answer.
    Flood,
    /// After so many pieces the stream carries an error of the model.
    ErrorInStream(usize),
    /// The request is answered as a whole although a stream was asked for.
    WholeAnswer,
    /// Embeddings of this length.
    Dimension(usize),
    /// Embeddings with something that is not a number.
    NotANumber,
    /// One embedding fewer than texts.
    TooFew,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRequest {
    /// For example `/v1/chat/completions`.
    pub path: String,
    /// What stands behind the question mark of the address.
    pub query: String,
    /// Names in lower case, in the order of the request.
    pub headers: Vec<(String, String)>,
    /// The body; null when it was no JSON.
    pub body: Value,
}

impl RecordedRequest {
    /// Returns the first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the images of the conversation in order: addresses as they were sent, or base64 as Ollama has it.
    pub fn images(&self) -> Vec<String> {
        let messages = ["messages", "input"].into_iter().filter_map(|key| self.body[key].as_array()).flatten();
        messages
            .flat_map(|message| {
                let parts = message["content"].as_array().into_iter().flatten();
                let of_parts =
                    parts.filter_map(|part| part["image_url"].as_str().or_else(|| part["image_url"]["url"].as_str()));
                let beside = message["images"].as_array().into_iter().flatten().filter_map(Value::as_str);
                of_parts.chain(beside).map(str::to_owned)
            })
            .collect()
    }
}

type Answerer = Box<dyn Fn(&Value) -> Reply + Send + Sync>;

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    faults: VecDeque<Fault>,
    answerer: Option<Answerer>,
    requests: Vec<RecordedRequest>,
}

struct State {
    script: Mutex<Script>,
    /// Streams that the client left before their end.
    abandoned: Mutex<usize>,
    has_abandoned: Notify,
    stop: CancellationToken,
}

impl State {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        // A panicking test must not turn the other threads' failures into poison errors.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abandon(&self) {
        *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.has_abandoned.notify_waiters();
    }

    fn abandoned(&self) -> usize {
        *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server; it stops when it is dropped.
pub struct ModelServer {
    address: SocketAddr,
    state: Arc<State>,
    _stop: DropGuard,
}

impl std::fmt::Debug for ModelServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ModelServer {
    /// Starts a server on a free port of this machine.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = CancellationToken::new();
        let state = Arc::new(State {
            script: Mutex::default(),
            abandoned: Mutex::new(0),
            has_abandoned: Notify::new(),
            stop: stop.clone(),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(wire::openai_chat))
            .route("/v1/embeddings", post(wire::openai_embeddings))
            .route("/v1/models", get(wire::openai_models))
            .route("/v1/responses", post(responses::respond))
            .route("/v1/rerank", post(services::rerank))
            .route("/openai/deployments/{deployment}/chat/completions", post(wire::openai_chat))
            .route("/openai/deployments/{deployment}/embeddings", post(wire::openai_embeddings))
            .route("/api/v3/embeddings", post(wire::openai_embeddings))
            .route("/api/v3/embeddings/multimodal", post(services::ark_multimodal))
            .route("/api/chat", post(wire::ollama_chat))
            .route("/api/embed", post(wire::ollama_embed))
            .with_state(Arc::clone(&state));
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            // The only errors are those of single connections, which their clients see.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        });
        Self { address, state, _stop: stop.drop_guard() }
    }

    /// Returns the server's address without a path, which is Ollama's base.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the base of the OpenAI format, which ends in `/v1`.
    pub fn openai_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns the address of the reranking endpoint.
    pub fn rerank_url(&self) -> String {
        format!("http://{}/v1/rerank", self.address)
    }

    /// Returns the base of Ark's format.
    pub fn ark_url(&self) -> String {
        format!("http://{}/api/v3/", self.address)
    }

    /// Queues an answer.
    pub fn reply(&self, reply: Reply) {
        self.state.script().replies.push_back(reply);
    }

    /// Answers by a closure over the request's body whenever the queue is empty.
    pub fn answer_with(&self, answerer: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
        self.state.script().answerer = Some(Box::new(answerer));
    }

    /// Queues a fault for one request; requests without one are answered.
    pub fn fault(&self, fault: Fault) {
        self.state.script().faults.push_back(fault);
    }

    /// Returns the requests so far, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.script().requests.clone()
    }

    /// Waits until clients have left so many streams before their end.
    pub async fn wait_for_abandoned(&self, count: usize) {
        loop {
            let notified = self.state.has_abandoned.notified();
            if self.state.abandoned() >= count {
                return;
            }
            notified.await;
        }
    }
}

/// Returns the embedding of a text by the rule of this module: `f32[dimension]`, unit length.
pub fn toy_embedding(text: &str, dimension: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f32; dimension];
    for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = word
            .to_lowercase()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
        sums[(hash % dimension as u64) as usize] += sign;
    }
    let length = sums.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length == 0.0 {
        sums[0] = 1.0;
        return sums;
    }
    sums.iter().map(|value| value / length).collect()
}
