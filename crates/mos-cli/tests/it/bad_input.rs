use std::path::Path;
use std::process::Stdio;

use serde_json::json as object;

use crate::{failure, json, mos, run, stdout, write};

/// Settings with this local chat model.
fn with_chat_model(data: &Path, path: &str) -> String {
    let settings = object!({"chat_model": {"backend": "local", "config": {"model_name_or_path": path}}});
    write(data, "settings.json", &settings.to_string())
}

#[test]
fn empty_and_malformed_input_is_refused_before_anything_is_stored() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    assert!(failure(data, &["add", "  "]).contains("empty"));
    for (name, text) in [
        ("not.json", "hello"),
        ("object.json", "{}"),
        ("role.json", r#"[{"role": "king", "content": "x"}]"#),
        ("empty.json", "[]"),
        ("blank.json", r#"[{"role": "system", "content": "be kind"}, {"role": "user", "content": " "}]"#),
    ] {
        let file = write(data, name, text);
        let error = failure(data, &["add", "--messages", &file]);
        assert!(error.contains(name), "{error}");
    }
    assert!(failure(data, &["add", "--messages", "no-such-file.json"]).contains("no-such-file.json"));
    stdout(data, &["add", "only this"]);
    assert_eq!(json(data, &["list"])["text_mem"][0]["memories"].as_array().unwrap().len(), 1);
}

#[test]
fn a_conversation_without_anything_to_remember_says_why() {
    let data = tempfile::tempdir().unwrap();
    let file = write(
        data.path(),
        "calls.json",
        r#"[{"role": "assistant", "tool_calls": [{"id": "1"}]}, {"role": "system", "content": "be kind"}]"#,
    );
    let error = failure(data.path(), &["add", "--messages", &file]);
    assert!(error.contains("nothing in") && error.contains("1 of 2 messages"), "{error}");
    assert!(error.contains("have no text") && error.contains("instructions"), "{error}");
}

#[test]
fn a_deleted_user_is_not_revived_by_adding() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "a secret of the old Ann", "--user", "ann"]);
    stdout(data, &["user", "delete", "ann"]);
    let error = failure(data, &["add", "news of somebody else", "--user", "ann"]);
    assert!(error.contains("mos user create ann"), "{error}");
    let users = json(data, &["user", "list"]);
    assert!(users.as_array().unwrap().iter().all(|user| user["user_id"] != "ann"), "{users}");
    assert!(failure(data, &["search", "secret", "--user", "ann"]).contains("does not exist or is inactive"));
}

#[test]
fn unknown_names_are_errors_that_say_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    assert!(failure(data, &["list", "--user", "nobody"]).contains("does not exist"));
    assert!(failure(data, &["list", "--cube", "nothing"]).contains("does not have access"));
    assert!(failure(data, &["list"]).contains("Please register a cube first"));
    assert!(failure(data, &["user", "delete", "root"]).contains("root"));
    assert!(failure(data, &["user", "create", "x", "--role", "king"]).contains("admin, user or guest"));
    assert!(failure(data, &["cube", "register", "no-such-cube"]).contains("no-such-cube"));
}

#[test]
fn a_model_that_is_not_here_is_named_with_the_command_that_fetches_it() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = with_chat_model(data, "Qwen/Qwen3-0.6B");
    let error = failure(data, &["chat", "--once", "hi", "--config", &settings]);
    assert!(error.contains("mos models pull Qwen/Qwen3-0.6B"), "{error}");
}

#[test]
fn broken_model_files_are_named() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let models = json(data, &["models", "list"]);
    let small = models.as_array().unwrap().iter().find(|one| one["name"] == "smollm2-135m-instruct").unwrap();
    let whole = std::fs::read(small["path"].as_str().unwrap()).unwrap();
    std::fs::write(data.join("truncated.gguf"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(data.join("noise.gguf"), b"not a model at all").unwrap();
    for name in ["truncated.gguf", "noise.gguf"] {
        let path = data.join(name).display().to_string();
        let settings = with_chat_model(data, &path);
        let error = failure(data, &["chat", "--once", "hi", "--config", &settings]);
        assert!(error.contains(name), "{error}");
    }
    let folder = data.join("no-tokenizer");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.json"), r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#)
        .unwrap();
    let settings = with_chat_model(data, &folder.display().to_string());
    let error = failure(data, &["chat", "--once", "hi", "--config", &settings]);
    assert!(error.contains("no-tokenizer"), "{error}");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let data = tempfile::tempdir().unwrap();
    let file = write(data.path(), "a-file", "x");
    let error = failure(Path::new(&file), &["list"]);
    assert!(error.contains("a-file"), "{error}");
}

#[test]
fn a_data_folder_that_is_asked_for_wins_over_the_settings() {
    let (data, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = real.path().join("real.db");
    let settings = object!({"store": {"backend": "sqlite", "config": {"path": path.display().to_string()}}});
    let settings = write(real.path(), "settings.json", &settings.to_string());
    stdout(data.path(), &["user", "create", "ann", "--config", &settings]);
    assert!(data.path().join("mos.db").is_file() && !path.exists());
}

#[test]
fn data_of_a_newer_program_is_refused_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "kept"]);
    let database = data.join("mos.db");
    let mut bytes = std::fs::read(&database).unwrap();
    // The user version stands big-endian at byte 60 of the header (https://sqlite.org/fileformat2.html).
    bytes[60..64].copy_from_slice(&999_u32.to_be_bytes());
    std::fs::write(&database, &bytes).unwrap();
    let error = failure(data, &["list"]);
    assert!(error.contains("999") && error.contains("newer"), "{error}");
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
}

#[test]
fn a_database_that_is_none_is_named() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("mos.db"), "this is not a database, it is a letter to my aunt in Bergen").unwrap();
    let output = run(data.path(), &["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mos.db"));
}

#[test]
fn users_in_a_server_that_is_away_are_told_in_words() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://mos:geheim@127.0.0.1:{port}/mos");
    let settings = object!({"user_manager": {"backend": "postgres", "config": {"url": url}}});
    let settings = write(data, "settings.json", &settings.to_string());
    for command in [["doctor"].as_slice(), &["user", "list"]] {
        let output = run(data, &[command, &["--config", &settings]].concat());
        assert_eq!(output.status.code(), Some(1));
        // The doctor's findings are its answer.
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains(&format!("127.0.0.1:{port}")) && told.contains("start it"), "{told}");
        assert!(!told.contains("geheim"), "{told}");
    }
    let mysql = object!({"user_manager": {"backend": "mysql", "config": {}}});
    let mysql = write(data, "mysql.json", &mysql.to_string());
    let error = failure(data, &["user", "list", "--config", &mysql]);
    assert!(error.contains("`mysql`") && error.contains("postgres, sqlite"), "{error}");
}

/// As when the program runs with `2>&1 | head`.
#[test]
fn a_failure_that_nobody_listens_to_is_a_failure_and_no_panic() {
    let data = tempfile::tempdir().unwrap();
    let mut child = mos(data.path(), &["get", "unknown"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_backup_of_a_folder_that_is_not_there_is_refused_and_makes_neither() {
    let data = tempfile::tempdir().unwrap();
    let (misspelt, file) = (data.path().join("dtaa"), data.path().join("all.tar"));
    let error = failure(&misspelt, &["backup", &file.display().to_string()]);
    assert!(error.contains("no database") && error.contains("dtaa"), "{error}");
    assert!(!misspelt.exists() && !file.exists());
}

#[test]
fn the_doctor_refuses_a_folder_that_is_not_there_and_makes_none() {
    let data = tempfile::tempdir().unwrap();
    let misspelt = data.path().join("dtaa");
    let error = failure(&misspelt, &["doctor"]);
    assert!(error.contains("no folder") && error.contains("dtaa"), "{error}");
    assert!(!misspelt.exists());
    let told = || String::from_utf8(run(data.path(), &["doctor"]).stderr).unwrap();
    let (first, second) = (told(), told());
    assert!(first.contains("nothing is stored yet") && !second.contains("nothing is stored yet"), "{first}{second}");
}

#[test]
fn a_demonstration_that_cannot_be_shown_says_so_before_models_are_fetched() {
    let data = tempfile::tempdir().unwrap();
    let no_folder = write(data.path(), "a-file", "x");
    let folder = data.path().display().to_string();
    let cases: [(&[&str], &str); 2] =
        [(&["demo", "--folder", &folder], "exists already"), (&["demo", "--json"], "without --json")];
    for (arguments, said) in cases {
        let output = mos(data.path(), arguments).env("MOS_MODELS_DIR", &no_folder).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(said) && output.stdout.is_empty(), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn settings_whose_path_is_no_text_are_told_as_that() {
    use std::os::unix::ffi::OsStrExt;

    let data = tempfile::tempdir().unwrap();
    let path = data.path().join(std::ffi::OsStr::from_bytes(b"\xff.yaml"));
    // Some file systems have no such names.
    if std::fs::write(&path, "top_k: 3\n").is_err() {
        return;
    }
    let output = mos(data.path(), &["user", "list", "--config"]).arg(&path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("not UTF-8"), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_told_from_a_full_disk() {
    let data = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = mos(data.path(), &["user", "list"]).stdout(full).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("cannot write to standard output"), "{told}");
}
