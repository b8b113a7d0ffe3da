//! `mos user erase`, and the proof that nothing is left.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::{failure, stdout, write};

/// The program with settings that say where the data are.
fn run_with_settings(settings: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mos"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("MOS_") || name.starts_with("OPENAI_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.arg("--config").arg(settings).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Settings that keep the database in another folder than everything else.
fn apart(folder: &Path) -> String {
    let settings = json!({
        "data_dir": folder.join("data"),
        "store": {"backend": "sqlite", "config": {"path": folder.join("elsewhere/real.db")}},
    });
    write(folder, "settings.json", &settings.to_string())
}

#[test]
fn a_database_that_is_elsewhere_is_searched_and_its_copies_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let settings = apart(folder.path());
    for user in ["zora-xq7", "ann"] {
        let made = run_with_settings(&settings, &["user", "create", user]);
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    std::fs::write(folder.path().join("elsewhere/real.db.v7.backup"), "an older database").unwrap();
    let proved = run_with_settings(&settings, &["user", "erase", "zora-xq7", "--prove", "zora-xq7"]);
    assert!(proved.status.success(), "{}", text(&proved.stderr));
    assert!(text(&proved.stdout).contains("real.db.v7.backup is a copy"), "{}", text(&proved.stdout));
    // Every database begins with this.
    let found = run_with_settings(&settings, &["user", "erase", "ann", "--prove", "SQLite format 3"]);
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    let error = text(&found.stderr);
    assert!(error.contains("still there: SQLite format 3 in ") && error.contains("real.db"), "{error}");
}

#[test]
fn what_a_copy_of_the_database_holds_is_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let settings = apart(folder.path());
    let made = run_with_settings(&settings, &["user", "create", "ann"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::write(folder.path().join("elsewhere/real.db.v7.backup"), "ann lives in quokkaburg").unwrap();
    let found = run_with_settings(&settings, &["user", "erase", "ann", "--prove", "quokkaburg"]);
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    assert!(text(&found.stderr).contains("real.db.v7.backup"), "{}", text(&found.stderr));
}

#[test]
fn a_database_in_the_folder_of_the_data_is_searched_once() {
    let data = tempfile::tempdir().unwrap();
    stdout(data.path(), &["user", "create", "ann"]);
    let error = failure(data.path(), &["user", "erase", "ann", "--prove", "SQLite format 3"]);
    let n_shown = error.split(", ").filter(|shown| shown.trim_end().ends_with("mos.db")).count();
    assert_eq!(n_shown, 1, "{error}");
}

#[test]
fn a_copy_beside_a_database_of_a_roundabout_name_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
    let settings = json!({
        "data_dir": folder.path().join("data"),
        "store": {"backend": "sqlite", "config": {"path": folder.path().join("elsewhere/../data/real.db")}},
    });
    let settings = write(folder.path(), "settings.json", &settings.to_string());
    let made = run_with_settings(&settings, &["user", "create", "ann"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::write(folder.path().join("data/real.db.v7.backup"), "ann lives in quokkaburg").unwrap();
    let found = run_with_settings(&settings, &["user", "erase", "ann", "--prove", "quokkaburg"]);
    let error = text(&found.stderr);
    assert_eq!(error.matches("quokkaburg in ").count(), 1, "{error}");
}

#[test]
fn files_of_a_user_who_is_there_are_left_alone_and_later_go() {
    let data = tempfile::tempdir().unwrap();
    stdout(data.path(), &["user", "create", "zora-xq7"]);
    assert!(failure(data.path(), &["user", "erase", "zora-xq7", "--files-only"]).contains("not erased yet"));
    stdout(data.path(), &["user", "erase", "zora-xq7"]);
    std::fs::create_dir_all(data.path().join("audit")).unwrap();
    let line = json!({"user": "zora-xq7", "what": "POST /product/add", "cubes": ["wallabyton"]});
    write(&data.path().join("audit"), "1.jsonl", &format!("{line}\n"));
    let arguments = ["user", "erase", "zora-xq7", "--files-only", "--erased-cube", "wallabyton"];
    let proofs = ["--prove", "zora-xq7", "--prove", "wallabyton"];
    let told = stdout(data.path(), &[&arguments[..], &proofs[..]].concat());
    assert!(told.contains("wallabyton, cube_zora-xq7 from files"), "{told}");
}
