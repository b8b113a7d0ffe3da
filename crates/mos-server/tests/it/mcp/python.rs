//! The tools at `/mcp`, used by the Python package `fastmcp`.
//!
//! The package is looked for in the Python that `MOS_PYTHON` names, else in `python3`. Where it is not installed nothing is
//! tried, and the test says so; `MOS_REQUIRE_PYTHON=1` makes that a failure.

use std::path::Path;

use mos::keys::NewKey;
use serde_json::Value;
use tokio::process::Command;

use crate::guarded::Guarded;

/// The Python that has the package, or why there is none.
async fn python() -> Result<String, String> {
    let program = std::env::var("MOS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let tried = Command::new(&program).args(["-c", "import fastmcp"]).output().await;
    match tried {
        Ok(output) if output.status.success() => Ok(program),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{program}: {}", told.lines().last().unwrap_or("cannot import fastmcp")))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

#[tokio::test]
async fn the_client_of_fastmcp_uses_the_tools() {
    let program = match python().await {
        Ok(program) => program,
        Err(why) => {
            let is_required = std::env::var_os("MOS_REQUIRE_PYTHON").is_some_and(|value| value == "1");
            assert!(!is_required, "MOS_REQUIRE_PYTHON is set and fastmcp is not there: {why}");
            eprintln!("skipped: fastmcp is not there ({why})");
            return;
        }
    };
    let house = Guarded::open().await;
    let key = house.key(NewKey::program()).await;
    let script =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests").join("python").join("mcp_client.py");
    let mut command = Command::new(program);
    command.arg(script).arg(format!("{}/mcp", house.url)).arg(key).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{errors}");
    let seen: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(seen["tools"].as_array().unwrap().len(), 20, "{seen}");
    assert_eq!(seen["added"], "Memory added successfully");
    assert_eq!((&seen["found"], &seen["undone"]), (&"My dog is called Max".into(), &"My dog is called Max".into()));
    assert_eq!(seen["changed"], "My dog is called Moritz");
    assert!(seen["refused"].as_str().is_some_and(|sentence| sentence.contains("not found")), "{seen}");
    house.close().await;
}
