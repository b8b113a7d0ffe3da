//! PostgreSQL from the programs of this machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::recipe::{Place, Recipe, from_debian, in_path, is_root};
use super::server::Service;
use super::state::write_private;
use crate::shell;

/// Where Debian keeps PostgreSQL: a folder per version.
const DEBIAN: &str = "/usr/lib/postgresql";

#[derive(Debug)]
pub(super) struct Postgres {
    /// The folder of `postgres` and `initdb`.
    programs: PathBuf,
    /// Whom it runs as when we are root, for whom it refuses to work.
    user: Option<User>,
}

#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    pub(super) fn find() -> anyhow::Result<Self> {
        let programs = from_debian(Service::Postgres, "postgresql", programs)?;
        let user = if is_root()? { Some(User::named("postgres")?) } else { None };
        Ok(Self { programs, user })
    }

    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(folder);
        #[cfg(unix)]
        if let Some(User { uid, gid }) = self.user {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(gid);
        }
        command
    }

    fn own(&self, path: &Path) -> anyhow::Result<()> {
        #[cfg(unix)]
        if let Some(User { uid, gid }) = self.user {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} to PostgreSQL's user", path.display()))?;
        }
        Ok(())
    }
}

impl Recipe for Postgres {
    fn is_outside(&self) -> bool {
        self.user.is_some()
    }

    fn prepare(&self, place: Place<'_>) -> anyhow::Result<Command> {
        self.own(place.folder)?;
        let secret = place.folder.join("password");
        write_private(&secret, place.password.as_bytes())?;
        self.own(&secret)?;
        let mut initialise = self.command("initdb", place.folder);
        initialise.args(["--pgdata=data", "--username=mos", "--pwfile=password", "--auth=scram-sha-256"]);
        shell::run_quietly(initialise.args(["--encoding=UTF8", "--locale=C", "--no-sync"]))?;
        std::fs::remove_file(&secret)?;
        self.create_database(place.folder)?;

        let mut command = self.command("postgres", place.folder);
        command.args(["-D", "data", "-p", &place.port.to_string()]);
        // No socket in the file system, and no waiting for a disk: the data is thrown away.
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "full_page_writes=off"] {
            command.args(["-c", setting]);
        }
        Ok(command)
    }
}

impl Postgres {
    /// Before the server starts, so that whoever can log in finds the database.
    fn create_database(&self, folder: &Path) -> anyhow::Result<()> {
        let mut alone = self.command("postgres", folder);
        alone.args(["--single", "-D", "data", "-c", "fsync=off", "postgres"]);
        alone.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = alone.spawn().context("cannot start PostgreSQL")?;
        // Dropped at once, which ends the input and with it the server.
        child.stdin.take().context("PostgreSQL has no input")?.write_all(b"CREATE DATABASE mos\n")?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // In this mode a failed statement does not fail the program.
        anyhow::ensure!(output.status.success() && !said.contains("ERROR"), "PostgreSQL makes no database: {said}");
        Ok(())
    }
}

impl User {
    fn named(name: &str) -> anyhow::Result<Self> {
        let ask = |option: &str| -> anyhow::Result<u32> {
            let text = shell::run_quietly(Command::new("id").args([option, name])).with_context(|| {
                format!("PostgreSQL refuses to run as root, and there is no user `{name}` it could run as")
            })?;
            Ok(text.trim().parse()?)
        };
        Ok(Self { uid: ask("-u")?, gid: ask("-g")? })
    }
}

/// The folder of the newest PostgreSQL here: that of the PATH, else Debian's.
fn programs() -> Option<PathBuf> {
    let is_complete = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    let in_path = in_path("postgres").and_then(|path| std::fs::canonicalize(path).ok());
    let in_path = in_path.and_then(|path| path.parent().map(Path::to_owned)).filter(is_complete);
    in_path.or_else(|| {
        let versions = std::fs::read_dir(DEBIAN).ok()?.filter_map(Result::ok);
        let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
        let newest =
            versions.map(|entry| entry.path()).filter(|folder| is_complete(&folder.join("bin"))).max_by_key(version)?;
        Some(newest.join("bin"))
    })
}
