//! The server over Qdrant's engine (`bench/qdrant-edge-server`), where Qdrant's own cannot be had.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use super::recipe::{Place, Recipe};
use super::say;
use crate::shell;

/// The folder of the package and, below the target folder, that of its build: with other features, what it shares with the
/// workspace would be built again and again.
const PACKAGE: &str = "bench/qdrant-edge-server";
const NAME: &str = "qdrant-edge-server";

pub(super) struct QdrantEdge {
    program: PathBuf,
}

impl QdrantEdge {
    /// Builds the server, unless it is built as its source is now.
    ///
    /// # Errors
    /// What the compiler says.
    pub(super) fn build() -> anyhow::Result<Self> {
        let program = program()?;
        if !program.is_file() {
            say("qdrant", "building a server over Qdrant's engine: once, about 7 minutes of one processor");
        }
        shell::run_quietly(&mut cargo("build")?).context("cannot build a server over Qdrant's engine")?;
        Ok(Self { program })
    }
}

impl Recipe for QdrantEdge {
    fn prepare(&self, place: Place<'_>) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(["--folder", "storage", "--port", &place.port.to_string()]);
        command.args(["--http-port", &place.http_port.to_string()]).current_dir(place.folder);
        // Not as an argument, because everybody can read a command line.
        command.env("QDRANT_API_KEY", place.password);
        Ok(command)
    }
}

/// The tests of the server itself; none where it was never built.
pub(crate) fn tests_of() -> anyhow::Result<Option<Command>> {
    Ok(if program()?.is_file() { Some(cargo("test")?) } else { None })
}

fn cargo(what: &str) -> anyhow::Result<Command> {
    let mut command = shell::cargo();
    command.args([what, "--quiet", "--release", "--manifest-path"]).arg(shell::root().join(PACKAGE).join("Cargo.toml"));
    command.arg("--target-dir").arg(target()?);
    Ok(command)
}

fn target() -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(shell::target())?.join(NAME))
}

fn program() -> anyhow::Result<PathBuf> {
    let name = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    Ok(target()?.join("release").join(name))
}
