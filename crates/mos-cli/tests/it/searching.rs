//! `mos search` with its options, on the real encoder.

use serde_json::json as object;

use crate::{failure, json, run, stdout, write};

#[test]
fn a_search_explains_itself_and_says_why_nothing_was_found() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let nothing = run(data, &["search", "anything"]);
    assert!(nothing.status.success(), "{nothing:?}");
    for text in ["My dog is called Max", "My dog  is called max", "The meeting is on Tuesday"] {
        stdout(data, &["add", text]);
    }
    let told = stdout(data, &["search", "what is the name of my pet", "--explain"]);
    let first: Vec<&str> = told.lines().take(4).collect();
    assert!(first[0].to_lowercase().ends_with("is called max"), "{told}");
    assert!(first[1].contains("in cube_root, relativity 0."), "{told}");
    assert!(first[2].contains("signals: vector ") && first[3].ends_with("found by: the question"), "{told}");
    assert_eq!(told.matches("called").count(), 1, "the same text comes once");
    let all = json(data, &["search", "what is the name of my pet", "--dedup", "no"]);
    let memories = all["text_mem"][0]["memories"].as_array().unwrap();
    assert_eq!((memories.len(), &memories[0]["paths"]), (3, &object!(["question"])));
    let relativity = |place: usize| memories[place]["metadata"]["relativity"].as_f64().unwrap();
    assert!(relativity(0) >= relativity(1) && relativity(1) > relativity(2) && relativity(0) < 1.0);
    for how in ["sim", "mmr"] {
        let few = json(data, &["search", "my pet", "--dedup", how, "--no-rerank"]);
        assert!(!few["text_mem"][0]["memories"].as_array().unwrap().is_empty());
    }
    let few = run(data, &["search", "pet", "--relevance", "0.99"]);
    let notes = String::from_utf8_lossy(&few.stderr).into_owned();
    assert!(notes.contains("note: cube_root: ") && notes.contains("below 0.99"), "{notes}");
    assert_eq!(String::from_utf8_lossy(&few.stdout).trim(), "nothing found");
    let few = json(data, &["search", "pet", "--relevance", "0.99"]);
    assert!(few["text_mem"][0]["notes"][0].as_str().unwrap().contains("below 0.99"));
    let offline = json(data, &["search", "pet", "--internet"]);
    assert!(offline["text_mem"][0]["notes"][0].as_str().unwrap().contains("internet_retriever"));
    assert!(failure(data, &["search", "pet", "--relevance", "7"]).contains("from 0 to 1"));
    assert_eq!(run(data, &["search", "pet", "--mode", "slow"]).status.code(), Some(2));
}

#[test]
fn a_model_that_cannot_be_reached_leaves_the_fast_search_with_a_note() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let model = r#"{"chat_model": {"backend": "openai", "config":
        {"model_name_or_path": "m", "api_key": "sk-none", "api_base": "http://127.0.0.1:9/v1"}}}"#;
    let config = write(data, "settings.json", model);
    stdout(data, &["add", "My dog is called Max", "--config", &config]);
    let found = run(data, &["search", "what is the name of my pet", "--mode", "fine", "--config", &config]);
    let (told, notes) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert!(found.status.success() && told.contains("My dog is called Max"), "{told}{notes}");
    assert!(notes.contains("the model gave no goal") && !notes.contains("sk-none"), "{notes}");
}
