//! What `cube register` takes for a directory, what for a cube, and how the cube is called then.

use std::path::{Path, PathBuf};

use crate::{failure, json, mos, stdout};

/// Dumps a cube of one memory to `name` in the data folder and returns the directory as `register` names it.
fn dumped(data: &Path, name: &str) -> PathBuf {
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    let directory = data.join(name);
    stdout(data, &["cube", "dump", "home", &directory.display().to_string(), "--user", "ann"]);
    if cfg!(windows) { directory } else { directory.canonicalize().unwrap() }
}

fn ids(data: &Path, user: &str) -> Vec<String> {
    let cubes = json(data, &["cube", "list", "--user", user]);
    let mut ids: Vec<String> =
        cubes.as_array().unwrap().iter().map(|cube| cube["cube_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn the_same_directory_gives_the_same_cube_however_it_is_written() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let directory = dumped(data, "dumped").display().to_string();
    for source in ["dumped", "./dumped", "././dumped/../dumped", &directory] {
        stdout(data, &["cube", "register", source, "--user", "ann"]);
    }
    assert_eq!(ids(data, "ann"), [directory.clone(), "home".to_owned()]);
    // Once the directory is gone, the id still names the cube.
    std::fs::remove_dir_all(&directory).unwrap();
    stdout(data, &["cube", "unregister", &directory, "--user", "ann"]);
    stdout(data, &["cube", "register", &directory, "--user", "ann"]);
    let missing = failure(data, &["cube", "register", "./nowhere", "--user", "ann"]);
    assert!(missing.contains("no directory `./nowhere`"), "{missing}");
}

#[test]
fn a_new_id_is_for_directories_only() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    dumped(data, "dumped");
    stdout(data, &["cube", "register", "dumped", "--id", "copy", "--user", "ann"]);
    stdout(data, &["cube", "unregister", "copy", "--user", "ann"]);
    let error = failure(data, &["cube", "register", "copy", "--id", "other", "--user", "ann"]);
    assert!(error.contains("keeps its id") && error.contains("leave out --id"), "{error}");
    stdout(data, &["cube", "register", "copy", "--id", "copy", "--user", "ann"]);
    assert_eq!(ids(data, "ann"), ["copy", "home"]);
}

#[test]
fn a_directory_with_the_name_of_a_cube_is_meant_and_that_is_said() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let directory = dumped(data, "home").display().to_string();
    let output = mos(data, &["cube", "register", "home", "--user", "ann"]).output().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("`home` is a directory here and the id of a cube; the directory is meant"), "{told}");
    assert_eq!(ids(data, "ann"), [directory, "home".to_owned()]);
}

#[test]
fn options_for_a_cube_that_is_here_already_are_refused_and_not_passed_over() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let directory = dumped(data, "dumped");
    let register = |more: &[&'static str]| {
        let mut line = vec!["cube", "register", "dumped", "--id", "copy", "--user", "ann"];
        line.extend(more);
        line
    };
    stdout(data, &register(&["--only", "text_mem"]));
    let again = failure(data, &register(&["--only", "text_mem"]));
    assert!(again.contains("`copy` is here already") && again.contains("mos cube load"), "{again}");
    std::fs::write(data.join("tree.json"), r#"{"text_mem": {"backend": "tree_text", "config": {}}}"#).unwrap();
    let other = failure(data, &register(&["--default-config", "tree.json"]));
    assert!(other.contains("`copy` is here already and keeps its configuration"), "{other}");
    // What the cube is already is heeded, so that a script can run twice.
    stdout(data, &register(&["--default-config", "dumped/config.json"]));
    stdout(data, &register(&[]));

    std::fs::remove_dir_all(directory).unwrap();
    let known = failure(data, &["cube", "register", "copy", "--only", "text_mem", "--user", "ann"]);
    assert!(known.contains("`copy` is here already"), "{known}");
    let listed = stdout(data, &["list", "--user", "ann", "--cube", "copy"]);
    assert_eq!(listed.matches("the cat sleeps").count(), 1, "{listed}");
}
