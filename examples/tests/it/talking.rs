//! Conversations over standard input.

use crate::{after, assert_told, run, run_fresh};

#[test]
fn hybrid_tree_kv() {
    let out = run_fresh("hybrid_tree_kv", &[], "Where does my sister Mia live?\n\nexit\nnever read\n");
    assert_told(&out, &["text memory tree_text, activation memory kv_cache", "[KVCache]", "1 cache;", "Goodbye."]);
    assert_eq!(out.matches("[Assistant]").count(), 1, "{out}");
    assert!(after(&out, "[Assistant]").contains("Lisbon"), "{out}");
    assert!(!out.contains("] 0 memories of the tree"), "{out}");
}

#[test]
fn hybrid_tree_kv_ends_with_its_input() {
    let out = run_fresh("hybrid_tree_kv", &[], "");
    assert!(out.ends_with("[System] Goodbye.\n"), "{out}");
}

#[test]
fn multi_user_scheduling() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().display().to_string();
    let first = run("multi_user_scheduling", &["--data-dir", &folder], "What do I like to play?\nexit\nnever read\n");
    assert_told(&first, &["Dumped an empty cube to", "/mem_cube_5`.", "Added 2 memories.", "Stopped; 0 batches"]);
    assert_eq!(first.matches("[Assistant]").count(), 1, "{first}");
    let has = |start: &str, text: &str| first.lines().any(|line| line.starts_with(start) && line.contains(text));
    assert!(has("[WorkingMemory] ", "football"), "{first}");
    assert!(has("[KVCache] ", ""), "{first}");
    let second = run("multi_user_scheduling", &["--data-dir", &folder], "");
    assert_told(&second, &["has been removed.", "there are 3 users.", "Stopped; 0 batches"]);
}

#[test]
fn memory_scheduling() {
    let out = run("memory_scheduling", &[], "");
    assert_told(
        &out,
        &["[scheduler] ann asked: What is my dog's name?", "[scheduler] retrieved: ", "stopped; 0 batches"],
    );
    assert!(out.contains("[working memory] My dog's name is Max."), "{out}");
}

#[test]
fn chatbot() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data").display().to_string();
    let file = data.path().join("history.json");
    let lines = format!(
        "My dog is called Max.\nmem\nexport\nclear\nexport {}\nWhat is my dog called?\nbye\nnever read\n",
        file.display()
    );
    let out = run("chatbot", &["--data-dir", &folder], &lines);
    assert_told(&out, &["I remember 1:", "- My dog is called Max.", "I have written 2 messages", "0 messages", "Bye!"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[]", "the conversation was forgotten before");
    let answer = out.rsplit("mos> ").nth(1).unwrap();
    assert!(answer.contains("Max"), "what was told is remembered beyond the conversation: {out}");
    let again = run("chatbot", &["--data-dir", &folder], "mem\n");
    assert_told(&again, &["- My dog is called Max.", "Bye!"]);
}
