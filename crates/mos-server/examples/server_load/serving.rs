//! The server: the program itself, as a process of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::cores::Cores;

/// Nobody is told to slow down.
const SETTINGS: &str = r#"{"server": {"rate_limit": {"enabled": false}}}"#;

/// A server that runs until it is ended or dropped.
pub(crate) struct Serving {
    child: Child,
    address: String,
    key: String,
}

impl Serving {
    /// Starts the program over new data in `folder`; what it tells of itself is in `server.log` there.
    pub(crate) fn start(program: &Path, folder: &Path, cores: &Cores) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let (settings, log) = (folder.join("settings.json"), folder.join("server.log"));
        fs::write(&settings, SETTINGS)?;
        let mut command = cores.of_server(program);
        command.arg("--data-dir").arg(folder.join("data")).args(["serve", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let mut server = Self { child, address: String::new(), key: String::new() };
        let mut line = String::new();
        if let Some(told) = server.child.stdout.take() {
            BufReader::new(told).read_line(&mut line)?;
        }
        let told = fs::read_to_string(&log)?;
        let address = line.trim().strip_prefix("listening on http://");
        address.ok_or_else(|| format!("the server did not start: {}", told.trim()))?.clone_into(&mut server.address);
        // It was shown before the address.
        let key = told.lines().map(str::trim).skip_while(|line| !line.ends_with("keep it:")).nth(2);
        key.ok_or("the server showed no key; give an empty folder")?.clone_into(&mut server.key);
        Ok(server)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end, and waits until it has, in good order.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        if !cfg!(unix) {
            return Ok(());
        }
        let told = Command::new("kill").args(["-TERM", &self.process().to_string()]).status()?;
        if !told.success() {
            return Err("the server is gone before it was told to end".into());
        }
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended badly: {status}").into()) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
