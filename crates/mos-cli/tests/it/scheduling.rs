//! `mos scheduler`, over a data folder that several programs use one after another.

use serde_json::{Value, json as object};

use crate::{failure, json, stdout, write};

#[test]
fn what_one_program_sends_another_one_handles() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = write(data, "settings.json", &object!({"enable_mem_scheduler": true}).to_string());
    let with = |arguments: &[&str]| stdout(data, &[arguments, &["--config", &settings][..]].concat());
    with(&["add", "the garage code is 7391"]);
    assert!(with(&["scheduler", "status"]).starts_with("cube cube_root: 1 waiting, 0 in progress"));
    assert_eq!(with(&["scheduler", "events"]), "");

    // Also with settings that say nothing of a scheduler: who asks for it means it.
    let told = stdout(data, &["scheduler", "run", "--until-idle"]);
    assert!(told.starts_with("add\t1 done"), "{told}");
    let status: Value = json(data, &["scheduler", "status"]);
    assert_eq!((&status["waiting"], &status["n_given_up"]), (&object!(0), &object!(0)), "{status}");
    assert!(status["handlers"].as_array().unwrap().contains(&object!("add")), "{status}");
    let events = with(&["scheduler", "events"]);
    assert!(events.starts_with("1\t") && events.contains("\taddMemory"), "{events}");
    assert_eq!(with(&["scheduler", "events", "--after", "1"]), "");
    assert_eq!(stdout(data, &["scheduler", "run", "--until-idle"]), "nothing was handled\n");
}

#[test]
fn retrying_and_looking_need_a_right_and_something_to_retry() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "likes tea"]);
    let error = failure(data, &["scheduler", "retry", "nothing"]);
    assert!(error.contains("no message `nothing` was given up"), "{error}");
    assert!(stdout(data, &["scheduler", "retry", "--all"]).starts_with("0 messages wait again"));
    stdout(data, &["user", "create", "bob"]);
    let error = failure(data, &["scheduler", "status", "--user", "bob", "--cube", "cube_root"]);
    assert!(error.contains("does not have access"), "{error}");
}

#[test]
fn a_user_of_a_shared_cube_sees_no_events_of_others() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = write(data, "settings.json", &object!({"enable_mem_scheduler": true}).to_string());
    stdout(data, &["add", "the garage code is 7391", "--config", &settings]);
    stdout(data, &["user", "create", "bob"]);
    stdout(data, &["cube", "share", "cube_root", "bob"]);
    stdout(data, &["scheduler", "run", "--until-idle"]);
    assert!(stdout(data, &["scheduler", "events"]).contains("\taddMemory"));
    assert_eq!(stdout(data, &["scheduler", "events", "--user", "bob", "--cube", "cube_root"]), "");
}
