//! The server as a process: it tells where it is, answers, ends when it is told to, and loses nothing when it is killed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json as object};

use crate::{failure, json, mos, stdout, write};

/// Variables that programs need whatever they do.
const NEEDED: [&str; 6] = ["PATH", "HOME", "USERPROFILE", "SystemRoot", "TEMP", "MOS_MODELS_DIR"];

/// Longer than an answer takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port. It is killed when the test ends.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_logging(data, arguments, &[], Stdio::null())
    }

    /// As [`Serving::start`], with variables of the environment and a place for the log.
    fn start_logging(data: &Path, arguments: &[&str], variables: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = command(data, "127.0.0.1:0", arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("it told `{line}`"));
        Self { child, address: address.to_owned() }
    }

    /// Returns status and body.
    fn get(&self, path: &str) -> (u16, Value) {
        self.get_with(path, "")
    }

    /// As [`Serving::get`], with more headers, each with its end of line.
    pub(crate) fn get_with(&self, path: &str, headers: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = &self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap())
    }

    /// Tells it to end, and returns its exit code.
    #[cfg(unix)]
    pub(crate) fn signal(mut self, name: &str) -> Option<i32> {
        let told = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The server without anything of the caller's environment that could name other stores.
fn command(data: &Path, listen: &str, arguments: &[&str]) -> Command {
    let mut all = vec!["serve", "--listen", listen];
    all.extend(arguments);
    let mut command = mos(data, &all);
    command.env_clear();
    for name in NEEDED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

#[test]
fn a_server_tells_where_it_is_and_answers() {
    let data = tempfile::tempdir().unwrap();
    let told = data.path().join("told");
    let server =
        Serving::start_logging(data.path(), &["--compat-open"], &[], std::fs::File::create(&told).unwrap().into());
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.contains("warning: --compat-open") && told.contains("every web page opened on it"), "{told}");
    assert!(!server.address.ends_with(":0"), "the real port: {}", server.address);
    let (status, health) = server.get("/health");
    assert_eq!((status, &health["status"]), (200, &object!("healthy")));
    assert_eq!(server.get("/ready").0, 200);
    let data = data.path();
    stdout(data, &["add", "others may write meanwhile", "--user", "ann", "--cube", "ann"]);
    assert_eq!(server.get("/ready").0, 200);
}

#[test]
fn a_server_without_its_encoder_says_so_and_what_to_do() {
    let (data, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let told = data.path().join("told");
    let variables = [("MOS_MODELS_DIR", models.path().to_str().unwrap())];
    let log = std::fs::File::create(&told).unwrap().into();
    let server = Serving::start_logging(data.path(), &["--compat-open"], &variables, log);
    assert_eq!(server.get("/health").0, 200);
    let says_so = || std::fs::read_to_string(&told).unwrap().contains("mos models pull all-minilm-l6-v2");
    let is_told = (0..600).any(|_| {
        says_so() || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }
    });
    assert!(is_told, "{}", std::fs::read_to_string(&told).unwrap());
}

#[cfg(unix)]
#[test]
fn a_server_ends_in_good_order_when_it_is_told_to() {
    for signal in ["TERM", "INT"] {
        let data = tempfile::tempdir().unwrap();
        let server = Serving::start(data.path(), &[]);
        server.get("/health");
        assert_eq!(server.signal(signal), Some(0), "{signal}");
    }
}

/// What a server that is asked once, under a name, writes to standard error.
#[cfg(unix)]
fn log_of_a_server(variables: &[(&str, &str)]) -> String {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("mos.log");
    let file = std::fs::File::create(&path).unwrap();
    let server = Serving::start_logging(data.path(), &[], variables, file.into());
    server.get_with("/health", "x-trace-id: asked-7391\r\n");
    server.signal("TERM");
    std::fs::read_to_string(path).unwrap()
}

#[cfg(unix)]
#[test]
fn a_log_in_a_file_has_no_colours() {
    let log = log_of_a_server(&[]);
    assert!(log.contains("answered") && !log.contains('\u{1b}'), "{log}");
}

#[cfg(unix)]
#[test]
fn a_log_for_programs_is_json_in_every_line_and_names_requests() {
    let log = log_of_a_server(&[("MOS_LOG_FORMAT", "json")]);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`\n{log}")))
        .collect();
    let is_told =
        |text: &str| lines.iter().any(|line| line["message"].as_str().is_some_and(|told| told.contains(text)));
    assert!(is_told("shown this once") && is_told("stopped"), "what a person is told is there: {log}");
    let answered = lines.iter().find(|line| line["message"] == "answered").unwrap_or_else(|| panic!("{log}"));
    assert_eq!(answered["span"]["trace_id"], "asked-7391", "{answered}");
    assert_eq!(answered["status"], 200, "{answered}");
}

#[cfg(unix)]
#[test]
fn the_programs_own_name_says_what_is_logged_whatever_others_are_told() {
    for (own, others, is_told) in [("info", "error", true), ("error", "info", false), ("", "error", false)] {
        let log = log_of_a_server(&[("MOS_LOG", own), ("RUST_LOG", others)]);
        assert_eq!(log.contains("answered"), is_told, "MOS_LOG={own} RUST_LOG={others}\n{log}");
    }
}

#[test]
fn a_server_that_asks_nobody_is_refused_where_others_reach_it() {
    let data = tempfile::tempdir().unwrap();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let told = failure(data.path(), &["serve", "--compat-open", "--listen", listen]);
        assert!(told.contains("can be reached by others"), "{told}");
    }
    assert!(!data.path().join("mos.db").exists(), "nothing was opened");
    let output = mos(data.path(), &["serve", "--listen", "nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "no address at all");
}

#[test]
fn the_first_start_shows_a_key_once_and_ends_where_others_reach_it() {
    let data = tempfile::tempdir().unwrap();
    let start = || {
        let output = command(data.path(), "0.0.0.0:0", &[]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = start();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("shown this once") && told.contains("start again"), "{told}");
    let key = told.lines().map(str::trim).skip_while(|line| !line.ends_with("keep it:")).nth(2).unwrap_or_default();
    assert!(key.len() >= 32, "{told}");
    let kept = mos::files_holding(data.path(), &[key.to_owned()]).unwrap();
    assert!(kept.is_empty(), "only its hash is kept: {kept:?}");
    let server = Serving::start(data.path(), &[]);
    assert_eq!(server.get("/health").0, 200);
}

#[cfg(not(feature = "opentelemetry"))]
#[test]
fn a_server_that_cannot_send_the_traces_it_is_asked_for_does_not_begin() {
    let data = tempfile::tempdir().unwrap();
    let settings = write(
        data.path(),
        "settings.json",
        &object!({"server": {"opentelemetry": {"endpoint": "http://127.0.0.1:4317"}}}).to_string(),
    );
    let output = command(data.path(), "127.0.0.1:0", &["--config", &settings]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("build with the feature `opentelemetry`"), "{told}");
    assert!(!told.contains("shown this once"), "no key is made for it: {told}");
}

#[test]
fn a_port_that_is_taken_is_told_of() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = command(data.path(), &address, &["--compat-open"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("choose another address with --listen"), "{told}");
}

#[test]
fn what_was_acknowledged_before_server_and_program_were_killed_is_there() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let messages: Vec<Value> =
        (0..400).map(|number| object!({"role": "user", "content": format!("fact number {number}")})).collect();
    let file = write(data, "many.json", &Value::Array(messages).to_string());
    let server = Serving::start(data, &["--compat-open"]);
    let mut adding = mos(data, &["add", "--messages", &file, "--json", "--user", "ann", "--cube", "ann"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(adding.stdout.take().unwrap()).lines();
    let mut acknowledged: Vec<String> = (0..60).map(|_| lines.next().unwrap().unwrap()).collect();
    // Dropped is killed.
    drop(server);
    adding.kill().unwrap();
    adding.wait().unwrap();
    acknowledged.extend(lines.map_while(Result::ok));
    let server = Serving::start(data, &["--compat-open"]);
    assert_eq!(server.get("/ready").0, 200);
    let listing = json(data, &["list", "--user", "ann", "--cube", "ann"]);
    let memories = listing["text_mem"][0]["memories"].as_array().unwrap();
    let kept: HashSet<&str> = memories.iter().map(|memory| memory["id"].as_str().unwrap()).collect();
    for line in acknowledged.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        assert!(kept.contains(line["memory_id"].as_str().unwrap()), "lost {line}");
    }
    assert!(acknowledged.len() >= 60);
}

#[test]
fn a_backup_is_made_while_the_server_runs_and_comes_back_equal() {
    let (data, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, file) = (data.path(), place.path().join("all.tar").display().to_string());
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    let server = Serving::start(data, &["--compat-open"]);
    let made = json(data, &["backup", &file]);
    assert_eq!(made["database"]["n_memories"], 1);
    drop(server);
    let new = place.path().join("new");
    let told = stdout(&new, &["restore", &file]);
    assert!(told.contains("1 memories"), "{told}");
    let hash = |data: &Path| stdout(data, &["cube", "hash", "home", "--user", "ann"]);
    assert_eq!(hash(&new), hash(data));
    let refused = failure(&new, &["restore", &file]);
    assert!(refused.contains("empty or new folder"), "{refused}");
}

#[test]
fn an_erased_user_is_in_no_file() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "I live in quokkaburg", "--user", "zora-xq7"]);
    stdout(data, &["add", "the cat sleeps", "--user", "ann"]);
    let prove = ["user", "erase", "zora-xq7", "--also-in-shared", "--prove", "quokkaburg", "--prove", "zora-xq7"];
    let told = stdout(data, &prove);
    assert!(told.contains("erased user `zora-xq7`: 1 cubes with 1 memories"), "{told}");
    let again = failure(data, &prove);
    assert!(again.contains("zora-xq7"), "{again}");
    stdout(data, &["search", "cat", "--user", "ann"]);
    let found = failure(data, &["user", "erase", "ann", "--prove", "SQLite format 3"]);
    assert!(found.contains("still there"), "{found}");
}
