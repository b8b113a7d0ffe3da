//! Which cores the clients have, and which the server.

use std::path::Path;
use std::process::Command;

use crate::Failure;

/// How the cores of this process are divided.
pub(crate) struct Cores {
    /// The core of the clients and those of the server; `None` where both run anywhere.
    divided: Option<(usize, Vec<usize>)>,
}

impl Cores {
    /// Binds this process to its first core and leaves the others, or all, to the server. Where that is not possible both run
    /// anywhere.
    pub(crate) fn divide(server_has_all: bool) -> Result<Self, Failure> {
        let allowed = allowed();
        let (Some((&first, others)), true) = (allowed.split_first(), has_taskset()) else {
            return Ok(Self { divided: None });
        };
        if others.is_empty() {
            return Ok(Self { divided: None });
        }
        let process = std::process::id().to_string();
        let bound = Command::new("taskset").args(["-c", "-p", &first.to_string(), &process]).output()?;
        if !bound.status.success() {
            let why = String::from_utf8_lossy(&bound.stderr).trim().to_owned();
            return Err(format!("the clients cannot be bound to core {first}: {why}").into());
        }
        let of_server = if server_has_all { allowed.clone() } else { others.to_vec() };
        Ok(Self { divided: Some((first, of_server)) })
    }

    /// Returns a command that runs a program where the server runs.
    pub(crate) fn of_server(&self, program: &Path) -> Command {
        let Some((_, cores)) = &self.divided else { return Command::new(program) };
        let mut command = Command::new("taskset");
        command.arg("-c").arg(listed(cores)).arg(program);
        command
    }

    /// Tells who has which, as a JSON line.
    pub(crate) fn told(&self) -> String {
        match &self.divided {
            Some((first, cores)) => {
                format!("{{\"what\": \"cores\", \"clients\": \"{first}\", \"server and encoder\": \"{}\"}}", listed(cores))
            }
            None => "{\"what\": \"cores\", \"clients\": \"any\", \"server and encoder\": \"any\", \"why\": \"there is one core, \
                     or no taskset\"}"
                .to_owned(),
        }
    }
}

fn listed(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn has_taskset() -> bool {
    Command::new("taskset").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Returns the cores that this process may use; none where the system does not tell.
fn allowed() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}
