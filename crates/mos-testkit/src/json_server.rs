//! A scripted server over real HTTP that answers any request, for clients of services with formats of their own.
//!
//! Answers come from a queue, then from a closure; a request without either is a 500. Every request is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The parameters in its address, decoded.
    pub query: BTreeMap<String, String>,
    /// Names in lower case, in the order of the request.
    pub headers: Vec<(String, String)>,
    /// The body; null when it was no JSON.
    pub body: Value,
}

impl Request {
    /// Returns the first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    delay: Duration,
    is_cut: bool,
}

impl Answer {
    /// A success with this JSON.
    pub fn json(body: &Value) -> Self {
        Self::status(200, body)
    }

    /// This status with this JSON.
    pub fn status(status: u16, body: &Value) -> Self {
        Self { status, ..Self::text(body.to_string()) }
    }

    /// A success whose body is this text, called JSON.
    pub fn text(body: impl Into<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), delay: Duration::ZERO, is_cut: false }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends nothing for this long.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after half of the body.
    #[must_use]
    pub fn cut_off(mut self) -> Self {
        self.is_cut = true;
        self
    }
}

type Answerer = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    answerer: Option<Answerer>,
    requests: Vec<Request>,
}

/// A running server; it stops when it is dropped.
pub struct JsonServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _stop: DropGuard,
}

impl std::fmt::Debug for JsonServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl JsonServer {
    /// Starts a server on a free port of this machine.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let script = Arc::new(Mutex::new(Script::default()));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&script));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            // The only errors are those of single connections, which their clients see.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        });
        Self { address, script, _stop: stop.drop_guard() }
    }

    /// Returns an address of the server; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Queues an answer.
    pub fn answer(&self, answer: Answer) {
        lock(&self.script).answers.push_back(answer);
    }

    /// Answers by a closure whenever the queue is empty.
    pub fn answer_with(&self, answerer: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        lock(&self.script).answerer = Some(Box::new(answerer));
    }

    /// Returns the requests since the last call, oldest first.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.script).requests)
    }
}

fn lock(script: &Mutex<Script>) -> std::sync::MutexGuard<'_, Script> {
    // A panicking test must not turn the other threads' failures into poison errors.
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    Shared(script): Shared<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Request {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: parameters(uri.query().unwrap_or_default()),
        headers: headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let answer = {
        let mut script = lock(&script);
        let answer = script.answers.pop_front().or_else(|| script.answerer.as_ref().map(|answerer| answerer(&request)));
        script.requests.push(request);
        answer.unwrap_or_else(|| Answer::status(500, &Value::from("the test has no answer for this")))
    };
    tokio::time::sleep(answer.delay).await;
    respond(answer)
}

fn respond(answer: Answer) -> Response {
    let mut bytes = Bytes::from(answer.body);
    let body = if answer.is_cut {
        let half = bytes.split_to(bytes.len() / 2);
        let broken = stream::once(async {
            // Long enough for the server to write the first half.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(std::io::Error::other("the test cuts the connection"))
        });
        Body::from_stream(stream::iter([Ok(half)]).chain(broken))
    } else {
        Body::from(bytes)
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a test names a valid status");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in answer.headers {
        let name: HeaderName = name.parse().expect("a test names a valid header");
        response.headers_mut().insert(name, value.parse().expect("a test gives a valid header"));
    }
    response
}

/// Reads `a=1&b=%20+x`.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
