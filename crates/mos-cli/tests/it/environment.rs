//! What the environment says by MemOS' names, as commands and the server heed it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::write;

/// Variables that programs need whatever they do.
const NEEDED: [&str; 6] = ["PATH", "HOME", "USERPROFILE", "SystemRoot", "TEMP", "MOS_MODELS_DIR"];

/// The program with these variables and nothing else of the caller's environment that could change what it does.
fn mos(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mos"));
    command.env_clear().current_dir(folder).args(arguments);
    for name in NEEDED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(variables.iter().copied());
    command
}

fn stdout(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = mos(folder, variables, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Variables, arguments, and the folder that is used then.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], String);

#[test]
fn memos_name_for_the_folder_is_heeded_under_the_file_the_own_name_and_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let place = |name: &str| folder.join(name).display().to_string();
    let [base, filed, own, flagged] = ["base", "filed", "own", "flagged"].map(place);
    let settings = write(folder, "settings.json", &serde_json::json!({"data_dir": filed}).to_string());
    let memos = ("MEMOS_BASE_PATH", base.as_str());
    let cases: [Case<'_>; 4] = [
        (&[memos], &["add", "likes tea"], format!("{base}/.memos")),
        (&[memos], &["add", "likes tea", "--config", settings.as_str()], filed.clone()),
        (&[memos, ("MOS_DATA_DIR", own.as_str())], &["add", "likes tea", "--config", settings.as_str()], own.clone()),
        (
            &[memos, ("MOS_DATA_DIR", own.as_str())],
            &["add", "likes tea", "--data-dir", flagged.as_str()],
            flagged.clone(),
        ),
    ];
    for (variables, arguments, expected) in cases {
        let database = Path::new(&expected).join("mos.db");
        assert!(!database.exists(), "{expected}");
        stdout(folder, variables, arguments);
        assert!(database.is_file(), "{arguments:?} with {variables:?} does not write to {expected}");
    }
    assert!(stdout(folder, &[memos], &["list"]).contains("likes tea"), "another command finds them");
}

#[test]
fn a_variable_with_an_empty_value_counts_as_unset_and_an_empty_argument_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let base = folder.join("base").display().to_string();
    let variables = [("MEMOS_BASE_PATH", base.as_str()), ("MOS_CONFIG", ""), ("MOS_DATA_DIR", ""), ("MOS_LISTEN", "")];
    stdout(folder, &variables, &["add", "likes tea"]);
    assert!(Path::new(&base).join(".memos/mos.db").is_file());
    // The settings are missing, the command line is right.
    let cases = [(["serve", "--config", "none.json"], Some(1)), (["list", "--data-dir", ""], Some(2))];
    for (arguments, code) in cases {
        let output = mos(folder, &variables, &arguments).output().unwrap();
        assert_eq!(output.status.code(), code, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_server_begins_with_an_encoder_that_memos_names_choose_and_tells_of_a_name_once() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base").display().to_string();
    // Without the model that MemOS takes then, these would be no settings at all.
    let variables = [
        ("MEMOS_BASE_PATH", base.as_str()),
        ("MOS_EMBEDDER_BACKEND", "universal_api"),
        ("OPENAI_API_KEY", "sk-very-private"),
        ("MOS_NEO4J_SHARED_DB", "true"),
    ];
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--compat-open"];
    let mut child =
        mos(folder.path(), &variables, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(line.starts_with("listening on http://"), "{line}{told}");
    assert_eq!(told.matches("MOS_NEO4J_SHARED_DB has no effect").count(), 1, "{told}");
    assert!(!told.contains("sk-very-private"));
    assert!(Path::new(&base).join(".memos/mos.db").is_file());
}
