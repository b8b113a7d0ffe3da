//! Every operation is in a scenario, with good and with bad input.

use std::collections::BTreeMap;

use super::{PLAYED, folder, read};
use crate::document::names;

/// The operations that are served here by these dialects; those below `/admin` have tests of their own.
fn operations() -> Vec<String> {
    let names = names();
    let all = names["operations"].as_object().unwrap().keys();
    all.filter(|operation| !operation.contains(" /admin/")).cloned().collect()
}

/// Nothing can be asked wrongly of these.
const WITHOUT_INPUT: [&str; 3] = ["GET /health", "GET /product/scheduler/allstatus", "GET /dream/diary/health"];

fn is_of(operation: &str, method: &str, path: &str) -> bool {
    let (expected, template) = operation.split_once(' ').unwrap();
    let (parts, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    let is_part = |(template, part): (&&str, &&str)| template.starts_with('{') || template == part;
    expected == method && parts.len() == template.len() && template.iter().zip(&parts).all(is_part)
}

#[test]
fn every_operation_is_asked_rightly_and_wrongly() {
    let mut statuses: BTreeMap<String, Vec<u16>> = operations().into_iter().map(|one| (one, Vec::new())).collect();
    for name in PLAYED {
        for step in read(name).steps {
            for (operation, statuses) in &mut statuses {
                if is_of(operation, &step.request.method, &step.request.path) {
                    statuses.push(step.answer.status);
                }
            }
        }
    }
    for (operation, statuses) in statuses {
        assert!(statuses.contains(&200), "{operation} is never asked rightly");
        // An id that names nothing is answered with null.
        let is_always_right = WITHOUT_INPUT.contains(&operation.as_str()) || operation.contains("{memory_id}");
        assert!(is_always_right || statuses.iter().any(|status| *status >= 400), "{operation} is never asked wrongly");
    }
}

#[test]
fn every_file_is_played() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, PLAYED);
}

#[test]
fn paths_with_names_in_braces_stand_for_others() {
    assert!(is_of("GET /product/get_memory/{memory_id}", "GET", "/product/get_memory/${id}"));
    assert!(!is_of("GET /product/get_memory/{memory_id}", "POST", "/product/get_memory/1"));
    assert!(!is_of("POST /product/get_memory", "POST", "/product/get_memory/1"));
}

/// The examples of the documentation: the path with its query, and the body.
fn examples(text: &str) -> Vec<(String, Option<String>)> {
    // The shell puts the id where it stands outside of the quotes.
    let whole = text.replace("\\\n", " ").replace("'$ID'", "$ID");
    let example = |line: &str| {
        let address = line.split("http://localhost:8000").nth(1).unwrap_or_else(|| panic!("no address in {line}"));
        let end = address.find([' ', '"']).unwrap_or(address.len());
        let body = line.split("--json '").nth(1).map(|rest| rest.trim_end().trim_end_matches('\'').to_owned());
        (address[..end].to_owned(), body)
    };
    whole.lines().filter(|line| line.starts_with("curl ")).map(example).collect()
}

#[test]
fn every_example_of_the_documentation_is_a_step_of_a_scenario() {
    let page = include_str!("../../../../../docs/server.md");
    let steps = read("guide").steps;
    let played: Vec<(String, Option<serde_json::Value>)> = steps
        .iter()
        .map(|step| {
            let pairs: Vec<String> =
                step.request.query.iter().map(|(key, value)| format!("{key}={}", written(value))).collect();
            let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
            (format!("{}{query}", step.request.path.replace("${ID}", "$ID")), step.request.body.clone())
        })
        .collect();
    let shown = examples(page);
    assert_eq!(shown.len(), played.len(), "{shown:?}");
    for (path, body) in shown {
        let body: Option<serde_json::Value> =
            body.map(|body| serde_json::from_str(&body.replace("$ID", "${ID}")).unwrap());
        assert!(played.contains(&(path.clone(), body.clone())), "{path} {body:?}");
    }
}

fn written(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
