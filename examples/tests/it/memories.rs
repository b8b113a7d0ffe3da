//! Memories that are added, read, found, shared, dumped and loaded.

use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};

use crate::{after, assert_told, numbers_before, run, run_fresh};

/// The first line behind a text.
fn first_line<'a>(out: &'a str, text: &str) -> &'a str {
    after(out, text).trim_start_matches('\n').lines().next().unwrap_or_default()
}

#[test]
fn quickstart() {
    let out = run_fresh("quickstart", &[], "");
    assert!(out.lines().next().unwrap().contains("notes: My dog is called Max"), "{out}");
    assert_told(&out, &["ms to the first token", "loaded 3 memories"]);
}

#[test]
fn minimal_pipeline() {
    let out = run_fresh("minimal_pipeline", &[], "");
    assert_told(
        &out,
        &[
            "Registered `tiny_cube` with 3 memories.",
            "`tiny_cube` was embedded with",
            "Embedded 3 memories anew.",
            "Added 2 memories, one for each message.",
            "Updated it: I love playing football on Sundays.",
            "Loaded 5 memories into `copy`.",
        ],
    );
    assert!(first_line(&out, "Search: Where is the spare key?").contains("blue flower pot"), "{out}");
    assert!(first_line(&out, "Search: When do you play football?").contains("on Sundays"), "{out}");
    let loved: Vec<&str> = after(&out, "Search: What do you love?").lines().take(3).collect();
    assert!(loved.iter().any(|line| line.contains("I love playing football.")), "{out}");
}

#[test]
fn minimal_pipeline_runs_a_second_time_on_the_same_data() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().display().to_string();
    run("minimal_pipeline", &["--data-dir", &folder], "");
    let out = run("minimal_pipeline", &["--data-dir", &folder], "");
    assert!(!out.contains("anew"), "the cube is embedded already: {out}");
    assert_told(&out, &["with 5 memories", "my_mem_cube was there from an earlier run and has been removed."]);
}

#[test]
fn tree_text_memory() {
    let out = run_fresh("tree_text_memory", &[], "");
    assert_told(&out, &["The reader would remember", "in the tree `childhood`, 0 were known.", "Dumped the tree to"]);
    let hits = after(&out, "Search: What did I do as a child?");
    assert!(hits.contains("cherry tree") && hits.contains("\"role\":\"user\""), "{out}");
    let (removed, loaded) = (numbers_before(after(&out, "Removed"), " memories."), after(&out, "Loaded "));
    assert!(removed[0] > 0, "{out}");
    assert!(!loaded.starts_with('0'), "{out}");
}

#[test]
fn add_and_search_api() {
    let out = run_fresh("add_and_search_api", &[], "");
    let document = |from: &str, to: &str| -> Value {
        let text = after(&out, from).split(to).next().unwrap();
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let added = document("add response:\n", "search request:");
    assert_eq!((&added["code"], &added["message"]), (&json!(200), &json!("Memory added successfully")));
    assert_eq!(added["data"][0]["cube_id"], "cube_test_user_1");
    assert!(added["data"][0]["memory_type"].as_str().unwrap().ends_with("Memory"), "{added}");
    let found = document("search response:\n", "A request with faults");
    assert_eq!(found["message"], "Search completed successfully");
    assert_eq!(found["data"]["text_mem"][0]["cube_id"], "cube_test_user_1");
    let hit = &found["data"]["text_mem"][0]["memories"][0];
    assert!(hit["memory"].as_str().unwrap().contains("Ibis"), "{found}");
    let ids: Vec<&Value> = added["data"].as_array().unwrap().iter().map(|memory| &memory["memory_id"]).collect();
    assert!(ids.contains(&&hit["id"]), "what was added is found: {found}");
    assert!(hit["metadata"]["relativity"].is_number() && hit["metadata"]["id"] == hit["id"], "{found}");
    assert!(hit["ref_id"].as_str().unwrap().starts_with('['), "{found}");
    let refused = document("is told all of them:\n", "Another user asks");
    let kinds: Vec<&str> =
        refused["detail"].as_array().unwrap().iter().filter_map(|fault| fault["type"].as_str()).collect();
    assert_eq!((refused["code"].as_u64(), kinds), (Some(422), vec!["missing", "enum", "greater_than_equal"]));
    assert_told(&out, &["refused with 403"]);
    let asked = document("exist_mem_cube_id response:\n", "\u{0}");
    assert_eq!(asked["data"], json!({"cube_test_user_1": false}), "nobody learns which cubes others have");
}

#[test]
fn multi_source_messages() {
    let out = run_fresh("multi_source_messages", &[], "");
    assert_told(&out, &["Remembering 5 messages in fast mode.", "Report: ", "fast mode does not look at images"]);
    let kept = after(&out, "Kept ").split("Search:").next().unwrap();
    assert_told(kept, &["Pump station 4", "image"]);
    assert!(after(&out, "Search: Why did the pump not start?").contains("pump"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_source_messages_with_a_model() {
    let server = ModelServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let settings = json!({"chat_model": {"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}}});
    let file = data.path().join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    let file = file.display().to_string();
    // The program waits in a thread of its own, so that the server goes on.
    let out = tokio::task::block_in_place(|| run_fresh("multi_source_messages", &["--config", &file, "--fine"], ""));
    assert_told(&out, &["in fine mode", "ToolSchemaMemory: ", "file_reader", "image_parser_llm"]);
    assert!(!server.requests().is_empty(), "the model was asked");
}

#[test]
fn multi_cube() {
    let out = run_fresh("multi_cube", &[], "");
    assert_told(&out, &["refused: User 'bob' does not have access to cube 'ann/travel'", "Bob has 1 cube left."]);
    let both = after(&out, "Bob searches two cubes at once:").split("Without naming").next().unwrap();
    assert_told(both, &["[ann/travel] We take the night train", "[bob/home] My night shift"]);
    let all = after(&out, "all that he may use are searched:");
    assert_told(all, &["[ann/travel] We take the night train", "[bob/home] My night shift"]);
    assert!(!after(&out, "Bob asks for").contains("afraid"), "the diary stays behind its wall: {out}");
}

#[test]
fn kv_cache_memory() {
    let out = run_fresh("kv_cache_memory", &[], "");
    assert_told(
        &out,
        &[
            "30 layers",
            "All caches: 2",
            "Deleted 1 cache.",
            "After deleting: 1",
            "Loaded 1 cache.",
            "After loading: 1",
            "Kept caches that the chat begins with: 1",
        ],
    );
    let tokens = |line: &str| numbers_before(first_line(&out, line), " tokens")[0];
    let (talk, dog) = (tokens("Extracted "), numbers_before(after(&out, "Got by its id"), " tokens")[1]);
    assert_eq!(tokens("Joined as they are: "), talk + dog, "{out}");
    assert!(first_line(&out, "Joined as they are: ").ends_with("exact: false"), "{out}");
    assert!(first_line(&out, "Merged with the prefix tree: ").ends_with("exact: true"), "{out}");
    let answer = after(&out, "Kept caches that the chat begins with: 1");
    assert!(answer.contains("Max"), "{out}");
    assert!(numbers_before(answer, " of ")[0] > 0, "tokens were not computed again: {out}");
}

#[test]
fn plugin_masks_what_is_stored_unless_the_settings_switch_it_off() {
    let out = run_fresh("plugin", &[], "");
    assert_told(&out, &["redaction 1.0: masks card numbers", "stored: You reach me at [e-mail]. [redacted]"]);
    let (read, found) = (first_line(&out, "in May."), first_line(&out, "Search: Which card does the hotel charge?"));
    assert!(read.contains("charges the card [card ending in 1111] in May."), "{out}");
    assert!(read.contains("redacted") && found.contains("[card ending in 1111]"), "{out}");
    assert!(after(&out, "Search:").contains("0 hooks failed."), "{out}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.json");
    std::fs::write(&file, json!({"plugins": {"disabled": ["redaction"]}}).to_string()).unwrap();
    let out = run_fresh("plugin", &["--config", &file.display().to_string()], "");
    assert_told(&out, &["(off: the settings say so)", "stored: You reach me at ann@example.org. []"]);
}
