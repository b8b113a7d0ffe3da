//! `mos add --dry-run`: a look refuses what storing would refuse, and its tokens count.

use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::json as object;

use crate::{failure, json, run, stdout, write};

/// What a failed call ends with.
fn reason(told: &str) -> String {
    told.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_look_at_a_cube_that_may_not_be_written_to_is_refused_as_adding_is() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "the cat sleeps", "--user", "ann", "--cube", "home"]);
    stdout(data, &["user", "create", "bob"]);
    let of_bob = |more: &[&str], cube: &str| {
        let arguments = [&["add", "the cat wakes", "--user", "bob", "--cube", cube][..], more].concat();
        reason(&failure(data, &arguments))
    };
    assert!(of_bob(&[], "home").contains("home"), "it is another's cube");
    assert_eq!(of_bob(&["--dry-run"], "home"), of_bob(&[], "home"));
    let stranger = failure(data, &["add", "--dry-run", "the cat wakes", "--user", "eve", "--cube", "home"]);
    assert!(stranger.contains("home"), "{stranger}");
    stdout(data, &["cube", "share", "home", "bob", "--read-only", "--user", "ann"]);
    assert!(of_bob(&["--dry-run"], "home").contains("ask its owner to share it"));
    stdout(data, &["user", "role", "bob", "guest"]);
    assert_eq!(of_bob(&["--dry-run"], "new"), of_bob(&[], "new"), "a guest makes no cubes");
    let seen = stdout(data, &["add", "--dry-run", "the cat wakes", "--user", "ann", "--cube", "home"]);
    assert!(seen.contains("would remember"), "{seen}");
    assert!(!json(data, &["user", "list"]).to_string().contains("eve"), "a look makes no users");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_look_takes_of_models_is_counted_and_limited() {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text(object!({"memory list": [], "summary": ""}).to_string()));
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = object!({
        "chat_model": {"backend": "openai", "config": {
            "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}},
        "model_budget": {"user_tokens_per_day": 1},
    });
    let settings = write(data, "settings.json", &settings.to_string());
    let look =
        ["add", "--dry-run", "--fine", "I moved to Berlin in May.", "--cube", "unseen-cube", "--config", &settings];
    // Programs wait in threads of their own, so that the server goes on.
    tokio::task::block_in_place(|| run(data, &look));
    let n_asked = server.requests().len();
    assert!(n_asked > 0, "a model is asked");
    tokio::task::block_in_place(|| run(data, &look));
    assert_eq!(server.requests().len(), n_asked, "the budget is spent");
    let usage = tokio::task::block_in_place(|| json(data, &["usage", "--config", &settings]));
    assert_eq!((&usage["left_today"], usage["total"]["calls"].as_u64() > Some(0)), (&object!(0), true), "{usage}");
    let cubes = tokio::task::block_in_place(|| json(data, &["cube", "list"]));
    assert!(!cubes.to_string().contains("unseen-cube"), "{cubes}");
}
