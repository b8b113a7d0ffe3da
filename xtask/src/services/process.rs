//! Processes that outlive this one, and that are ended only when they are still the ones that were started.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::shell;

/// How long a process may take to go after it was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// One process. Systems use pids again, so the time of its start belongs to its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// Opaque; equal only for the same process since the same start of the system.
    pub(super) started: String,
}

/// What became of a process that was to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ended,
    /// It had gone already.
    Gone,
    /// The pid belongs to another process now, which was left alone.
    Foreign,
}

impl Identity {
    /// The process that runs under this pid now; none when there is none, or only what its parent has not collected.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let started = if Path::new("/proc/self/stat").exists() { started_by_proc(pid) } else { started_by_ps(pid) };
        started.map(|started| Self { pid, started })
    }

    pub(super) fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends the signal (`INT`, `TERM`, `KILL`) and waits; after `patience` the process is killed.
    ///
    /// # Errors
    /// When the system refuses the signal, or the process is still there after it was killed.
    pub(super) fn end(&self, signal: &str, patience: Duration) -> anyhow::Result<End> {
        match Self::of(self.pid) {
            None => return Ok(End::Gone),
            Some(other) if other != *self => return Ok(End::Foreign),
            Some(_) => {}
        }
        self.signal(signal)?;
        if !self.goes_within(patience) {
            self.signal("KILL")?;
            anyhow::ensure!(self.goes_within(KILL_PATIENCE), "process {} does not end", self.pid);
        }
        Ok(End::Ended)
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        // The shell's own `kill`: there is a shell wherever there is Unix, a program `kill` not always.
        let mut command = Command::new("sh");
        command.args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &self.pid.to_string()]);
        match shell::run_quietly(&mut command) {
            Err(error) if self.is_running() => Err(error.context(format!("cannot end process {}", self.pid))),
            _ => Ok(()),
        }
    }

    fn goes_within(&self, patience: Duration) -> bool {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > patience {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}

/// Ticks since the system's start, with that start's own id.
fn started_by_proc(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also spaces and parentheses. After it: state, ..., start time.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, ticks) = (fields.first()?, fields.get(19)?);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    (!matches!(*state, "Z" | "X")).then(|| format!("{ticks} after start {}", boot.trim()))
}

fn started_by_ps(pid: u32) -> Option<String> {
    let output = Command::new("ps").args(["-o", "stat=", "-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (state, started) = text.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}

/// Starts the program so that neither the end of this process nor an interrupt at its terminal ends it; what it prints
/// goes to `log`.
pub(super) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Identity> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let program = command.get_program().to_owned();
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    Identity::of(child.id())
        .with_context(|| format!("{} ended at once; it said: {}", program.display(), last_lines(log)))
}

/// What a process printed last.
pub(super) fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines[lines.len().saturating_sub(15)..].join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ended and collected even when an assertion fails.
    struct Sleeper(std::process::Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("600").spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_process_is_ended_under_its_own_start_only() {
        let mut sleeper = Sleeper::start();
        let own = Identity::of(sleeper.0.id()).unwrap();
        let foreign = Identity { started: format!("{} earlier", own.started), ..own.clone() };
        assert!(own.is_running() && !foreign.is_running());

        assert_eq!(foreign.end("KILL", Duration::ZERO).unwrap(), End::Foreign);
        assert!(own.is_running(), "another process was ended");
        assert!(sleeper.0.try_wait().unwrap().is_none());

        assert_eq!(own.end("TERM", Duration::from_secs(60)).unwrap(), End::Ended);
        assert_eq!(own.end("TERM", Duration::ZERO).unwrap(), End::Gone);
    }

    #[test]
    fn what_does_not_heed_the_signal_is_killed() {
        let mut stubborn = Command::new("sh");
        stubborn.args(["-c", "trap '' TERM; echo ready; exec sleep 600"]);
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let identity = start(&mut stubborn, &log).unwrap();
        while std::fs::read_to_string(&log).unwrap().is_empty() {
            std::thread::sleep(POLL);
        }
        assert_eq!(identity.end("TERM", Duration::from_millis(200)).unwrap(), End::Ended);
        assert!(!identity.is_running());
    }
}
