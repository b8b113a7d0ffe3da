//! A server that ends under load, by `kill -9` at any moment or because it is told to: what it acknowledged is there when it is
//! started again.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json as object};
use tokio::runtime::Runtime;

use crate::serving::{PATIENCE, Serving};
use crate::{json, write};

const CLIENTS: usize = 6;

/// Each has a cube of its own.
const USERS: [&str; 2] = ["ann", "bob"];

/// Memories on a page of a listing.
const PAGE: usize = 1_000;

/// Longer than the longest pause before a server ends, in milliseconds.
const LONGEST_PAUSE: u64 = 400;

/// An addition that the server said is stored.
#[derive(Debug)]
struct Acknowledged {
    id: String,
    /// A word that no other memory has.
    marker: String,
    /// Whether a model refines it in the background.
    is_async: bool,
}

/// Clients that add and search until the server is gone.
struct Load {
    address: String,
    round: u64,
    /// Whether connections may break off.
    is_ending: AtomicBool,
    acknowledged: Mutex<Vec<Acknowledged>>,
}

impl Load {
    fn client(&self, client: usize) {
        let user = USERS[client % USERS.len()];
        for number in 0_u64.. {
            let marker = format!("m{}x{client}x{number}", self.round);
            let asked = match number % 5 {
                4 => self.search(user, &marker),
                kind => self.add(user, marker, kind == 3),
            };
            if let Err(error) = asked {
                assert!(self.is_ending.load(Ordering::SeqCst), "a connection broke off: {error}");
                return;
            }
        }
    }

    fn add(&self, user: &str, marker: String, is_async: bool) -> io::Result<()> {
        let content = format!("Note {marker} is about the garden behind the house.");
        let mut request = object!({"user_id": user, "messages": [{"role": "user", "content": content}]});
        if !is_async {
            request["async_mode"] = "sync".into();
            request["mode"] = "fast".into();
        }
        let answer = ask(&self.address, "/product/add", &request)?;
        let id = answer["data"][0]["memory_id"].as_str().unwrap().to_owned();
        self.acknowledged.lock().unwrap().push(Acknowledged { id, marker, is_async });
        Ok(())
    }

    fn search(&self, user: &str, marker: &str) -> io::Result<()> {
        let request = object!({"user_id": user, "query": format!("What is said about {marker}?"), "relativity": 0});
        ask(&self.address, "/product/search", &request).map(drop)
    }

    /// Waits until so many additions were acknowledged; returns false when that takes too long.
    fn has_acknowledged(&self, n_least: usize) -> bool {
        let begun = Instant::now();
        while self.acknowledged.lock().unwrap().len() < n_least {
            if begun.elapsed() > PATIENCE {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

/// Returns the answer to a request that must succeed.
///
/// # Errors
/// When the connection did not live until the answer was whole.
fn ask(address: &str, path: &str, body: &Value) -> io::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    // What was cut off is no JSON.
    serde_json::from_str(body).map_err(io::Error::other)
}

/// Loads a server, ends it in the middle, and returns what it acknowledged until then.
fn load_until(server: Serving, round: u64, end: impl FnOnce(Serving)) -> Vec<Acknowledged> {
    let load = Load {
        address: server.address.clone(),
        round,
        is_ending: AtomicBool::new(false),
        acknowledged: Mutex::default(),
    };
    let has_begun = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(client));
        }
        let has_begun = load.has_acknowledged(20);
        // Numbers that look random and are the same in every run.
        let random = (round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        thread::sleep(Duration::from_millis(random % LONGEST_PAUSE));
        load.is_ending.store(true, Ordering::SeqCst);
        end(server);
        has_begun
    });
    assert!(has_begun, "nothing was acknowledged for a long time");
    load.acknowledged.into_inner().unwrap()
}

/// Returns the memories of a cube, texts by ids.
fn listed(address: &str, cube: &str) -> HashMap<String, String> {
    let (mut listed, mut page) = (HashMap::new(), 1);
    loop {
        let request = object!({"mem_cube_id": cube, "page": page, "page_size": PAGE});
        let answer = ask(address, "/product/get_memory", &request).unwrap();
        let memories = answer["data"]["text_mem"][0]["memories"].as_array().unwrap();
        let text = |memory: &Value, field: &str| memory[field].as_str().unwrap().to_owned();
        listed.extend(memories.iter().map(|memory| (text(memory, "id"), text(memory, "memory"))));
        if memories.len() < PAGE {
            return listed;
        }
        page += 1;
    }
}

/// Fails unless all of these are in a listing under the id that was told, with the text that was given.
fn check_all_there(address: &str, all: &[Acknowledged]) {
    let mut missing: Vec<&Acknowledged> = all.iter().collect();
    // Work in the background may move memories between two pages of one listing; what is lost is in none.
    for _ in 0..3 {
        let listed: HashMap<String, String> = USERS.iter().flat_map(|user| listed(address, user)).collect();
        let is_there = |one: &Acknowledged| {
            listed.get(&one.id).is_some_and(|memory| memory.contains(&format!("Note {} is about", one.marker)))
        };
        missing.retain(|one| !is_there(one));
    }
    assert!(missing.is_empty(), "{} of {} are lost: {missing:?}", missing.len(), all.len());
}

/// Waits until nothing is left to be done in the background.
fn wait_until_idle(address: &str) {
    for user in USERS {
        let path = format!("/product/scheduler/wait?user_name={user}&timeout_seconds=50&poll_interval=0.05");
        // What a killed server had in its hands is done when its lease is over.
        let is_idle = (0..4).any(|_| ask(address, &path, &Value::Null).unwrap()["message"] == "idle");
        assert!(is_idle, "work for {user} is never done");
    }
}

/// A model that finds nothing in what it is shown, and remembers what that was.
struct Model {
    server: ModelServer,
    _runtime: Runtime,
}

impl Model {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(ModelServer::start());
        server.answer_with(|_| Reply::text(r#"{"memory list": [], "summary": ""}"#));
        Self { server, _runtime: runtime }
    }

    /// Writes settings with this model, and without limits of requests; returns where they are.
    fn settings(&self, folder: &Path) -> String {
        let settings = object!({
            "chat_model": {"backend": "openai", "config": {
                "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": self.server.openai_url(),
                "max_retries": 0}},
            "server": {"rate_limit": {"enabled": false}},
        });
        write(folder, "settings.json", &settings.to_string())
    }

    /// Fails unless everything that was to be refined in the background was shown.
    fn check_was_shown(&self, all: &[Acknowledged]) {
        let requests = self.server.requests();
        let messages = requests.iter().filter_map(|request| request.body["messages"].as_array()?.last());
        let shown: String = messages.map(|message| format!("{}\n", message["content"])).collect();
        for one in all.iter().filter(|one| one.is_async) {
            assert!(shown.contains(&format!("Note {} is about", one.marker)), "{one:?} was never refined");
        }
    }
}

#[test]
fn what_a_server_acknowledged_under_load_is_there_after_kill_9() {
    let is_long = std::env::var_os("MOS_TEST_LONG").is_some();
    let (data, model) = (tempfile::tempdir().unwrap(), Model::start());
    let data = data.path();
    let settings = model.settings(data);
    let start = || Serving::start(data, &["--compat-open", "--config", &settings]);
    let mut server = start();
    let mut all = Vec::new();
    let n_rounds = if is_long { 30 } else { 3 };
    for round in 0..n_rounds {
        // Dropped is killed.
        all.extend(load_until(server, round, drop));
        server = start();
        check_all_there(&server.address, &all);
    }
    for is_async in [true, false] {
        assert!(all.iter().any(|one| one.is_async == is_async), "both ways of adding were used");
    }
    if is_long {
        wait_until_idle(&server.address);
        check_all_there(&server.address, &all);
        model.check_was_shown(&all);
    }
    drop(server);
    assert_eq!(json(data, &["doctor"])["findings"], object!([]));
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_end_under_load_loses_nothing_and_does_the_rest_when_it_is_started_again() {
    let (data, model) = (tempfile::tempdir().unwrap(), Model::start());
    let data = data.path();
    let settings = model.settings(data);
    let start = || Serving::start(data, &["--compat-open", "--config", &settings]);
    let all = load_until(start(), 0, |server| assert_eq!(server.signal("TERM"), Some(0)));
    let server = start();
    check_all_there(&server.address, &all);
    wait_until_idle(&server.address);
    check_all_there(&server.address, &all);
    model.check_was_shown(&all);
}
