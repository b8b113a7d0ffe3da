//! A published tool asks the server everything that its document says can be asked.

use std::io::Write;
use std::path::{Path, PathBuf};

use mos_testkit::model_server::ModelServer;
use serde_json::json;
use tokio::process::Command;

use crate::house::{House, open_to_all, scripted_model};

/// What the script ends with where the tool is not installed.
const NOT_INSTALLED: i32 = 3;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/schema_check.py")
}

fn python() -> String {
    std::env::var("MOS_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Says why nothing was compared, where that is seen when the test passes too.
fn skipped(why: &str) {
    let is_required = std::env::var_os("MOS_REQUIRE_PYTHON").is_some_and(|value| value == "1");
    assert!(!is_required, "MOS_REQUIRE_PYTHON is set: {why}");
    let mut notice = std::io::stderr();
    writeln!(notice, "skipped: answers were not compared with the document: {why}").unwrap();
}

#[tokio::test]
async fn no_request_is_an_error_inside_and_every_answer_is_as_the_document_says() {
    let model = ModelServer::start().await;
    let mut settings = scripted_model(&model);
    settings["enable_mem_scheduler"] = json!(true);
    settings["mem_scheduler"] = json!({"backend": "general_scheduler", "config": {"enable_dream": true}});
    let house = House::with_settings(open_to_all(), settings).await;
    let folder = tempfile::tempdir().unwrap();
    // The tool keeps what it has seen where it was started.
    let command = Command::new(python()).arg(script()).arg(&house.url).current_dir(folder.path()).output().await;
    house.close().await;
    let output = match command {
        Ok(output) => output,
        Err(error) => return skipped(&format!("{} cannot be started: {error}", python())),
    };
    if output.status.code() == Some(NOT_INSTALLED) {
        return skipped("schemathesis is not installed");
    }
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
}
