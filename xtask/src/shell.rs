//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

/// The workspace's folder: that of the run, not of the build, because several checkouts may share a target folder.
pub(crate) fn root() -> PathBuf {
    let built_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(built_in, PathBuf::from);
    own.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The folder of what is built, measured and started.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `cargo` as it runs this program, in the workspace's folder.
///
/// What cargo tells this program of its package is kept from it: some build scripts ask for it, and would run again, with
/// everything that depends on them, whenever a build by hand follows one from here.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let is_of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(name);
        }
    }
    command
}

/// The program `mos`, built first with these arguments of cargo's.
pub(crate) fn mos(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "mos-cli"]).args(arguments).arg("--");
    command
}

/// Runs a program with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    anyhow::ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// Runs a program and returns what it printed on standard output; its errors go to the terminal.
pub(crate) fn capture(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {shown}"))?;
    anyhow::ensure!(output.status.success(), "{shown} failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed something that is not text"))
}

/// Runs a program that nobody watches and returns what it printed on standard output; when it fails, what it said is
/// in the error.
pub(crate) fn run_quietly(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Some programs report errors on standard output.
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stderr).trim(), text.trim());
    anyhow::ensure!(output.status.success(), "{} failed ({}): {}", program.display(), output.status, said.trim());
    Ok(text)
}

/// What a build of all tests has made.
#[derive(Debug)]
pub(crate) struct Built {
    /// Package name, target name, path.
    pub(crate) tests: Vec<(String, String, PathBuf)>,
    /// The program `mos`, which some of the tests start.
    pub(crate) mos: PathBuf,
}

/// Builds with `cargo ... --message-format=json`.
pub(crate) fn built_tests(command: &mut Command) -> anyhow::Result<Built> {
    let text = capture(command.arg("--message-format=json-render-diagnostics"))?;
    let (mut tests, mut mos) = (Vec::new(), None);
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let message: serde_json::Value = serde_json::from_str(line)?;
        // Programs and examples are built too; only what has a test harness is run.
        let is_test = message["profile"]["test"] == true;
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let package = package_name(message["manifest_path"].as_str().unwrap_or_default());
        let target = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        if is_test {
            tests.push((package, target, path));
        } else if target == "mos" && message["target"]["kind"] == serde_json::json!(["bin"]) {
            mos = Some(path);
        }
    }
    Ok(Built { tests, mos: mos.context("the program `mos` was not built")? })
}

fn package_name(manifest: &str) -> String {
    let folder = Path::new(manifest).parent().and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
