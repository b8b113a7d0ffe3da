//! `mos organize`, with the encoder that comes with the program and a model on a scripted server.

use std::path::Path;

use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json as object};

use crate::{failure, json, stdout, write};

/// Makes a tree with a move from Paris to Berlin and returns both ids.
fn tell_of_the_move(data: &Path, text_mem: &Value) -> [String; 2] {
    let cube = object!({"text_mem": {"backend": "tree_text", "config": text_mem}});
    let cube = write(data, "tree.json", &cube.to_string());
    stdout(data, &["cube", "create", "tree", "--from", &cube]);
    let told = [("I live in Paris", "m1", "2024-01-01T09:00:00"), ("I moved to Berlin", "m2", "2025-06-01T09:00:00")];
    told.map(|(text, message_id, chat_time)| {
        let message =
            object!([{"role": "user", "content": text, "message_id": message_id, "chat_time": chat_time}]).to_string();
        let file = write(data, "message.json", &message);
        let added: Value =
            serde_json::from_str(&stdout(data, &["add", "--messages", &file, "--cube", "tree", "--json"])).unwrap();
        added["memory_id"].as_str().unwrap().to_owned()
    })
}

fn found(data: &Path, more: &[&str]) -> Vec<String> {
    let arguments = [&["search", "Where do I live?", "--cube", "tree"][..], more].concat();
    let found = json(data, &arguments);
    let memories = found["text_mem"][0]["memories"].as_array().unwrap();
    memories.iter().map(|memory| memory["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn without_a_model_a_possible_conflict_is_marked_once() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let [paris, berlin] = tell_of_the_move(data, &object!({}));
    let told = stdout(data, &["organize", "--cube", "tree"]);
    assert!(told.starts_with("1 possible conflicts marked\n") && told.contains("note: no model was asked"), "{told}");
    assert_eq!(json(data, &["get", &berlin, "--cube", "tree"])["metadata"]["conflict_candidate"], true);
    let again = stdout(data, &["organize", "--cube", "tree", "--no-model"]);
    assert!(again.starts_with("nothing to do\n") && !again.contains("no model was asked"), "{again}");
    let now = found(data, &[]);
    let place = |id: &String| now.iter().position(|one| one == id).unwrap();
    assert!(place(&berlin) < place(&paris), "the newer one of what may contradict each other: {now:?}");
    let explained = stdout(data, &["search", "Where do I live?", "--cube", "tree", "--explain"]);
    assert!(explained.contains("conflict_candidate 1.000"), "{explained}");
    assert_eq!(found(data, &["--as-of", "2024-06-01"]), [paris]);
    stdout(data, &["add", "likes tea", "--cube", "notes"]);
    let told = stdout(data, &["organize", "--cube", "notes"]);
    assert!(told.starts_with("nothing to do\n") && told.contains("`general_text`: topics and links"), "{told}");
    assert!(failure(data, &["organize", "--cube", "nowhere"]).contains("nowhere"));
}

#[test]
fn the_readme_shows_how_a_tree_is_made_and_organised() {
    let readme = include_str!("../../../../README.md");
    let shown = readme.lines().find_map(|line| line.strip_prefix("echo '")?.strip_suffix("' > tree.json")).unwrap();
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let file = write(data, "tree.json", shown);
    for line in ["mos cube create tree --from tree.json", "mos organize --cube tree"] {
        assert!(readme.contains(line), "{line}");
    }
    stdout(data, &["cube", "create", "tree", "--from", &file]);
    stdout(data, &["add", "I live in Paris", "--cube", "tree"]);
    stdout(data, &["add", "I moved to Berlin", "--cube", "tree"]);
    let told = stdout(data, &["organize", "--cube", "tree"]);
    assert!(told.starts_with("1 possible conflicts marked\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_model_the_old_home_is_closed_and_the_history_knows_both() {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text("contradictory"));
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = object!({"chat_model": {"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}}});
    let settings = write(data, "settings.json", &settings.to_string());
    // Programs wait in threads of their own, so that the server goes on.
    tokio::task::block_in_place(|| {
        let [paris, berlin] = tell_of_the_move(data, &object!({}));
        let organize = ["organize", "--cube", "tree", "--config", &settings];
        let report = json(data, &organize);
        assert_eq!((&report["n_closed"], &report["n_model_calls"]), (&object!(1), &object!(1)), "{report}");
        assert!(stdout(data, &organize).starts_with("nothing to do\n"));
        assert_eq!(found(data, &[])[0], berlin);
        assert_eq!(found(data, &["--as-of", "2024-06-01"]), std::slice::from_ref(&paris));
        let history = stdout(data, &["history", &paris, "--cube", "tree"]);
        assert!(history.lines().count() >= 2 && history.contains("[messages: m1]"), "{history}");
        assert!(stdout(data, &["history", &berlin, "--cube", "tree"]).contains("[messages: m2]"));
    });
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_to_a_tree_that_organises_itself_waits_for_it() {
    let server = ModelServer::start().await;
    server.answer_with(|_| Reply::text("contradictory"));
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    // A server that needs no key may stand in the configuration of a cube.
    let extractor = object!({"backend": "ollama", "config": {
        "model_name_or_path": "scripted", "api_base": server.base_url()}});
    tokio::task::block_in_place(|| {
        let [paris, berlin] = tell_of_the_move(data, &object!({"reorganize": true, "extractor_llm": extractor}));
        assert_eq!(found(data, &[])[0], berlin);
        let closed = json(data, &["get", &paris, "--cube", "tree"]);
        assert!(closed["metadata"]["valid_to"].is_string(), "{closed}");
        assert!(stdout(data, &["organize", "--cube", "tree", "--no-model"]).starts_with("nothing to do\n"));
    });
    assert_eq!(server.requests().len(), 1);
}
