//! Clients that are published as Python packages, when `MOS_PYTHON` (else `python3`) has them. Without one a test says so and
//! passes; `MOS_REQUIRE_PYTHON=1` makes that a failure.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// What a script ends with when its package cannot be imported.
const NOT_INSTALLED: i32 = 3;

/// Runs a script of `tests/python` against a server that this key opens.
pub(crate) async fn run(script: &str, url: &str, key: &str) {
    let program = std::env::var("MOS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    // Some packages write logs where they are run.
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python").join(script);
    let output = Command::new(&program)
        .arg(path)
        .arg(url)
        .arg(key)
        .current_dir(folder.path())
        .env("MEMOS_BASE_PATH", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::null())
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(NOT_INSTALLED) => skipped(script, "its package is not installed"),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => skipped(script, &format!("{program} cannot be run: {error}")),
    }
}

fn skipped(script: &str, why: &str) {
    let is_required = std::env::var_os("MOS_REQUIRE_PYTHON").is_some_and(|value| value == "1");
    assert!(!is_required, "MOS_REQUIRE_PYTHON is set, but {script} cannot be run: {why}");
    // Past the test harness, which keeps what a passing test prints to itself.
    #[allow(clippy::print_stderr, reason = "who reads the output learns that nothing was proven")]
    {
        eprintln!("skipped: {script}: {why}");
    }
}
