//! How each server is run from what this machine has, without containers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;

use super::server::Service;
use super::{neo4j, postgres, qdrant_edge, say};
use crate::shell;

/// Where one server is to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// An empty folder of its own, on which it is started.
    pub(super) folder: &'a Path,
    pub(super) port: u16,
    pub(super) http_port: u16,
    pub(super) password: &'a str,
}

/// A server whose programs are here.
pub(super) trait Recipe {
    /// Whether the server runs as a user who cannot enter the target folder.
    fn is_outside(&self) -> bool {
        false
    }

    /// Writes what the server needs in its folder and returns the command that runs it in the foreground.
    fn prepare(&self, place: Place<'_>) -> anyhow::Result<Command>;
}

/// Finds the programs of a service, and fetches them where that is possible. `may_build`: also where that takes minutes.
///
/// # Errors
/// What is missing, and how to get it.
pub(super) fn find(service: Service, may_build: bool) -> anyhow::Result<Box<dyn Recipe>> {
    anyhow::ensure!(cfg!(unix), "runs only in Docker on this system; or set {}", service.variable());
    Ok(match service {
        Service::Neo4j => Box::new(neo4j::Neo4j::find()?),
        Service::Postgres => Box::new(postgres::Postgres::find()?),
        Service::Redis => {
            Box::new(Redis { program: from_debian(service, "redis-server", || in_path("redis-server"))? })
        }
        Service::Qdrant => match in_path("qdrant") {
            Some(program) => Box::new(Qdrant { program }),
            None if may_build => Box::new(qdrant_edge::QdrantEdge::build()?),
            None => anyhow::bail!(
                "not here: set QDRANT_URL, run Docker, put the program `qdrant` on the PATH, or let `cargo xtask services up` \
                 build a server over Qdrant's engine, which takes minutes"
            ),
        },
    })
}

/// The signal that ends a server soon, and how long that may take. Its data is thrown away afterwards.
pub(super) fn farewell(service: Service) -> (&'static str, Duration) {
    match service {
        // It would take ten seconds to put its files in order.
        Service::Neo4j => ("KILL", Duration::from_secs(10)),
        // Ends its sessions too, and leaves nothing behind in shared memory.
        Service::Postgres => ("INT", Duration::from_secs(10)),
        Service::Redis | Service::Qdrant => ("TERM", Duration::from_secs(5)),
    }
}

struct Redis {
    program: PathBuf,
}

impl Recipe for Redis {
    fn prepare(&self, place: Place<'_>) -> anyhow::Result<Command> {
        // In a file, because everybody can read a command line.
        let settings = format!(
            "bind 127.0.0.1\nport {}\nrequirepass {}\ndir .\nsave \"\"\nappendonly no\ndaemonize no\n",
            place.port, place.password
        );
        super::state::write_private(&place.folder.join("redis.conf"), settings.as_bytes())?;
        let mut command = Command::new(&self.program);
        command.arg("redis.conf").current_dir(place.folder);
        Ok(command)
    }
}

struct Qdrant {
    program: PathBuf,
}

impl Recipe for Qdrant {
    fn prepare(&self, place: Place<'_>) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        command.arg("--disable-telemetry").current_dir(place.folder).envs([
            ("QDRANT__SERVICE__HOST", "127.0.0.1"),
            ("QDRANT__SERVICE__GRPC_PORT", &place.port.to_string()),
            ("QDRANT__SERVICE__HTTP_PORT", &place.http_port.to_string()),
            ("QDRANT__SERVICE__API_KEY", place.password),
            ("QDRANT__STORAGE__STORAGE_PATH", "storage"),
            ("QDRANT__STORAGE__SNAPSHOTS_PATH", "snapshots"),
        ]);
        Ok(command)
    }
}

/// The path of a program that the shell would find.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// What `find` finds; where it finds nothing and this is a Debian of which we are root, after installing the package.
pub(super) fn from_debian<T>(service: Service, package: &str, find: impl Fn() -> Option<T>) -> anyhow::Result<T> {
    let hint = format!("not here: install it (Debian: `apt-get install {package}`) or set {}", service.variable());
    install_from_debian(service.name(), package, &hint, find)
}

/// As [`from_debian`], for anything; `hint` says what else helps.
pub(crate) fn install_from_debian<T>(
    name: &str,
    package: &str,
    hint: &str,
    find: impl Fn() -> Option<T>,
) -> anyhow::Result<T> {
    /// One at a time: `apt-get` locks.
    static INSTALLING: Mutex<()> = Mutex::new(());
    if let Some(found) = find() {
        return Ok(found);
    }
    anyhow::ensure!(in_path("apt-get").is_some() && is_root()?, "{hint}");
    let _one = INSTALLING.lock();
    say(name, &format!("installing Debian's package {package}"));
    if install(package).is_err() {
        shell::run_quietly(Command::new("apt-get").arg("update")).with_context(|| hint.to_owned())?;
        install(package).with_context(|| hint.to_owned())?;
    }
    find().with_context(|| format!("the package {package} is installed but its program is not found"))
}

fn install(package: &str) -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["install", "--yes", "--no-install-recommends", package]).env("DEBIAN_FRONTEND", "noninteractive");
    shell::run_quietly(&mut command)
}

pub(super) fn is_root() -> anyhow::Result<bool> {
    Ok(shell::run_quietly(Command::new("id").arg("-u"))?.trim() == "0")
}
