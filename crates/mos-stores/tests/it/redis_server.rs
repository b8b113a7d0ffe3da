//! A Redis server of a test's own, which it may kill.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const PASSWORD: &str = "a-password/with:marks@";
/// [`PASSWORD`] as it stands in an address.
const PASSWORD_IN_ADDRESS: &str = "a-password%2Fwith%3Amarks%40";

/// Whether tests must not be passed over for want of a server.
fn servers_are_required() -> bool {
    std::env::var_os("MOS_TEST_SERVICES").is_some_and(|value| value == "1")
}

/// Says that a test is passed over.
///
/// # Panics
/// When the environment says that no test may be.
#[allow(clippy::print_stderr, reason = "whoever runs the tests is to see it")]
pub(crate) fn pass_over(what: &str) {
    assert!(!servers_are_required(), "{what}, but MOS_TEST_SERVICES=1 wants it");
    eprintln!("passed over: {what}");
}

/// A running server with an append-only file that is synced at every write. It ends with its value.
#[derive(Debug)]
pub(crate) struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server with these settings besides; `None` where the program is not installed.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            pass_over("`redis-server` is not installed");
            return None;
        }
        for _ in 0..10 {
            let mut server = Self {
                folder: tempfile::tempdir().unwrap(),
                port: free_port(),
                settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
                child: None,
            };
            // Another program may have taken the port in between.
            if server.run() {
                return Some(server);
            }
        }
        panic!("no server could be started in ten attempts");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://:{PASSWORD_IN_ADDRESS}@127.0.0.1:{}/0", self.port)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the server again, on the same port and files.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        let patience = Instant::now();
        while !self.run() {
            assert!(patience.elapsed() < Duration::from_secs(60), "the server does not start again");
        }
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    fn run(&mut self) -> bool {
        let mut child = command(self.folder.path(), self.port).args(&self.settings).spawn().unwrap();
        let client = redis::Client::open(self.url()).unwrap();
        let patience = Instant::now();
        while patience.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none() {
            let answer = client.get_connection().and_then(|mut it| redis::cmd("PING").query::<String>(&mut it));
            if answer.is_ok() {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

fn command(folder: &Path, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", PASSWORD, "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]);
    command.arg("--dir").arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
