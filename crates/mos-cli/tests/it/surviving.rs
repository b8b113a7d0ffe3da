use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json as object};

use crate::{json, mos, stdout, write};

fn many_messages(data: &Path, name: &str, n_messages: usize) -> String {
    let messages: Vec<Value> = (0..n_messages)
        .map(|n| object!({"role": "user", "content": format!("{name} {n} about topic {}", n % 7)}))
        .collect();
    write(data, &format!("{name}.json"), &Value::Array(messages).to_string())
}

fn kept(data: &Path) -> HashSet<String> {
    let listing = json(data, &["list", "--user", "ann", "--cube", "ann"]);
    let memories = listing["text_mem"][0]["memories"].as_array().unwrap();
    memories.iter().map(|memory| memory["id"].as_str().unwrap().to_owned()).collect()
}

/// Adds 1,000 memories, kills the program after `after` acknowledgements, and compares.
fn kill_after(after: usize) {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let file = many_messages(data, "fact", 1000);
    let mut child = mos(data, &["add", "--messages", &file, "--json", "--user", "ann", "--cube", "ann"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged: Vec<String> = (0..after).map(|_| lines.next().unwrap().unwrap()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged.extend(lines.map_while(Result::ok));
    let kept = kept(data);
    let mut n_acknowledged = 0;
    // The last line may be cut; whatever parses was acknowledged.
    for line in acknowledged.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        assert!(kept.contains(line["memory_id"].as_str().unwrap()), "lost {line}");
        n_acknowledged += 1;
    }
    assert!(n_acknowledged >= after && n_acknowledged < 1000, "killed in the middle");
    assert_eq!(json(data, &["doctor"])["findings"], object!([]));
    stdout(data, &["add", "life goes on", "--user", "ann", "--cube", "ann"]);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    kill_after(120);
    if std::env::var_os("MOS_TEST_LONG").is_some() {
        for after in [1, 16, 17, 50, 333, 600, 800] {
            kill_after(after);
        }
    }
}

#[test]
fn two_processes_see_each_others_writes() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    for round in 0..3 {
        let word = ["apple", "banana", "cherry"][round];
        stdout(data, &["add", &format!("my favourite fruit is {word}"), "--user", "ann", "--cube", "ann"]);
        let found = json(data, &["search", &format!("fruit {word}"), "--user", "ann", "--cube", "ann"]);
        let first = found["text_mem"][0]["memories"][0]["memory"].as_str().unwrap().to_owned();
        assert!(first.contains(word), "{first}");
    }
}

#[test]
fn two_processes_write_at_the_same_time_and_lose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    // Neither the data, nor the user, nor the cube is there yet: both processes want to make them.
    let ids = added_at_once(data, &[many_messages(data, "fact", 96), many_messages(data, "guess", 96)]);
    assert_eq!(ids.len(), 192);
    assert_eq!(kept(data), ids);
    assert_eq!(json(data, &["doctor"])["findings"], object!([]));
}

#[test]
fn two_processes_store_the_same_file_once() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let file = many_messages(data, "fact", 96);
    let ids = added_at_once(data, &[file.clone(), file]);
    assert_eq!(ids.len(), 96);
    assert_eq!(kept(data), ids);
}

/// Returns the ids of the memories that a process for each of these files tells of.
fn added_at_once(data: &Path, files: &[String]) -> HashSet<String> {
    let start = |file: &String| {
        let arguments = ["add", "--messages", file, "--json", "--user", "ann", "--cube", "ann"];
        mos(data, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = files.iter().map(start).collect();
    let mut ids = HashSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            ids.insert(serde_json::from_str::<Value>(line).unwrap()["memory_id"].as_str().unwrap().to_owned());
        }
    }
    ids
}
