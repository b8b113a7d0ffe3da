use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use mos_testkit::model_server::{ModelServer, Reply};
use serde_json::{Value, json as object};

use crate::{json, mos, run, run_with_input, stdout, write};

#[test]
fn a_conversation_goes_on_after_a_line_that_cannot_be_answered() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "My dog is called Max.", "--user", "ann"]);
    let too_long = "word ".repeat(20_000);
    let lines = format!("{too_long}\nclear\nmemories\nWhat is the name of my dog?\nbye\nnever read\n");
    let output = run_with_input(data, &["chat", "--no-remember", "--user", "ann"], &lines);
    let (out, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(errors.contains("error: the conversation has") && errors.contains("shorten it"), "{errors}");
    assert!(out.contains("My dog is called Max."), "`memories` lists them: {out}");
    assert!(out.lines().last().unwrap().contains("Max"), "the question after the long line is answered: {out}");
    assert_eq!(output.status.code(), Some(1), "a script learns that a line failed");
    assert!(errors.contains("1 lines could not be answered"), "{errors}");
    let usage = json(data, &["usage", "--user", "ann"]);
    assert_eq!((&usage["total"]["calls"], &usage["left_in_all"]), (&1.into(), &serde_json::Value::Null), "{usage}");
    assert!(usage["entries"][0]["completion_tokens"].as_u64().unwrap() > 0, "{usage}");
    assert!(stdout(data, &["usage", "--user", "ann"]).contains("1 answers"));
}

#[test]
fn a_conversation_ends_with_its_input() {
    let data = tempfile::tempdir().unwrap();
    let output = run_with_input(data.path(), &["chat", "--user", "ann"], "memories\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_conversation_goes_on_after_a_line_that_is_no_text() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "My dog is called Max.", "--user", "ann"]);
    let output = run_with_input(data, &["chat", "--user", "ann"], b"\xff\xfe\nmemories\n");
    let (out, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(errors.contains("not UTF-8") && errors.contains("1 lines could not be answered"), "{errors}");
    assert!(out.contains("My dog is called Max."), "{out}");
    assert_eq!(output.status.code(), Some(1));
}

/// As when the program runs with `| head`, and its input has no end.
#[test]
fn a_conversation_ends_when_nobody_reads_the_answers() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "My dog is called Max.", "--user", "ann"]);
    let mut chat = mos(data, &["chat", "--user", "ann"]);
    let mut child = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"memories\n").unwrap();
    let ended = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        child.try_wait().unwrap()
    });
    if ended.is_none() {
        child.kill().unwrap();
    }
    drop(input);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

/// Answers chats, and what is asked to learn preferences from them.
fn answer(request: &Value) -> Reply {
    let system = request["messages"][0]["content"].as_str().unwrap_or_default();
    let stated = object!({"preferences": [
        {"preference": "The user prefers tea to coffee.", "evidence": "I prefer tea to coffee", "messages": [1]}]});
    Reply::text(match system {
        system if system.contains("preferences that the user states") => stated.to_string(),
        system if system.contains("without having stated them") => r#"{"preferences": []}"#.to_owned(),
        _ => "Tea it is.".to_owned(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_learns_a_preference_and_the_next_one_shows_that_it_follows_it() {
    let server = ModelServer::start().await;
    server.answer_with(answer);
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = object!({
        "chat_model": {"backend": "openai", "config": {
            "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}},
        "enable_preference_memory": true,
    });
    let settings = write(data, "settings.json", &settings.to_string());
    // Programs wait in threads of their own, so that the server goes on.
    tokio::task::block_in_place(|| {
        let chat = |question: &str| json(data, &["chat", "--once", question, "--config", &settings]);
        assert_eq!(chat("I prefer tea to coffee.")["preferences"], object!([]));
        let told = chat("Which drink do I prefer, tea or coffee?");
        assert_eq!(told["preferences"][0]["memory"]["memory"], "The user prefers tea to coffee.");
        let shown = ["chat", "--once", "Which drink do I prefer?", "--show-memories", "--config", &settings];
        let shown = run(data, &shown);
        let (out, errors) = (String::from_utf8(shown.stdout).unwrap(), String::from_utf8(shown.stderr).unwrap());
        assert_eq!(out.trim(), "Tea it is.");
        let has = |what: &str, text: &str| errors.lines().any(|line| line.starts_with(what) && line.contains(text));
        assert!(has("preference ", "The user prefers tea to coffee."), "{errors}");
        assert!(has("memory ", "I prefer tea to coffee."), "{errors}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_takes_the_options_of_searches() {
    let server = ModelServer::start().await;
    server.answer_with(|request| {
        let system = request["messages"][0]["content"].as_str().unwrap_or_default();
        let goal = object!({"memories": ["My cat is called Tom"], "keys": [], "tags": [], "goal_type": "fact",
                            "rephrased_instruction": "What is my cat called?", "internet_search": false});
        Reply::text(if system.contains("You prepare a search") { goal.to_string() } else { "Tom.".to_owned() })
    });
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let settings = object!({"chat_model": {"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}}});
    let settings = write(data, "settings.json", &settings.to_string());
    tokio::task::block_in_place(|| {
        for text in ["My dog is called Max", "My cat is called Tom"] {
            stdout(data, &["add", text, "--config", &settings]);
        }
        let asked = ["chat", "--once", "What is the name of my animal?", "--config", &settings];
        let told = json(data, &[&asked[..], &["--mode", "fine", "-k", "1"]].concat());
        let memories = told["memories"].as_array().unwrap();
        assert_eq!((memories.len(), &memories[0]["memory"]["memory"]), (1, &"My cat is called Tom".into()), "{told}");
        let narrow = run(data, &[&asked[..], &["--relevance", "1", "--internet"]].concat());
        let errors = String::from_utf8(narrow.stderr).unwrap();
        assert_eq!(String::from_utf8(narrow.stdout).unwrap().trim(), "Tom.");
        assert!(errors.contains("relativity below 1") && errors.contains("internet"), "{errors}");
    });
}
