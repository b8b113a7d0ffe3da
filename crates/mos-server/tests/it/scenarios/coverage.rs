//! Every operation that is served is in a scenario, with good and with bad input, or has tests of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mos_server::{ServerState, operations};

use super::{PLAYED, folder, read};
use crate::house::{House, open_to_all};

/// Nothing can be asked wrongly of these.
const WITHOUT_INPUT: [&str; 4] =
    ["GET /health", "GET /admin/health", "GET /product/scheduler/allstatus", "GET /dream/diary/health"];

/// What no scenario plays, by the file of this crate that tests it.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("tests/it/ready.rs", &["GET /ready"]),
    ("tests/it/metrics.rs", &["GET /metrics"]),
    ("tests/it/document.rs", &["GET /openapi.json", "GET /docs", "GET /docs/", "GET /docs/{*rest}"]),
    ("tests/it/mcp/http.rs", &["POST /mcp"]),
    (
        "tests/it/openai.rs",
        &["POST /v1/chat/completions", "POST /v1/embeddings", "GET /v1/models", "GET /v1/models/{*id}"],
    ),
    (
        "tests/it/openmem.rs",
        &[
            "POST /api/openmem/v1/add/message",
            "POST /api/openmem/v1/search/memory",
            "POST /api/openmem/v1/get/memory",
            "GET /api/openmem/v1/get/memory/{id}",
            "POST /api/openmem/v1/get/status",
            "POST /api/openmem/v1/add/feedback",
            "POST /api/openmem/v1/chat",
        ],
    ),
    (
        "tests/it/openmem_memories.rs",
        &[
            "POST /api/openmem/v1/get/message",
            "POST /api/openmem/v1/update/memory",
            "POST /api/openmem/v1/delete/memory",
            "POST /api/openmem/v1/extract/memory",
            "POST /api/openmem/v1/rerank",
            "POST /api/openmem/v1/bind/profile_template",
            "POST /api/openmem/v1/edit/profile",
            "POST /api/openmem/v1/delete/profile",
        ],
    ),
    (
        "tests/it/openmem_knowledge.rs",
        &[
            "POST /api/openmem/v1/create/knowledgebase",
            "POST /api/openmem/v1/delete/knowledgebase",
            "POST /api/openmem/v1/add/knowledgebase-file",
            "POST /api/openmem/v1/delete/knowledgebase-file",
            "POST /api/openmem/v1/get/knowledgebase-file",
        ],
    ),
    (
        "tests/it/dashboard.rs",
        &[
            "GET /",
            "GET /assets/{*path}",
            "GET /dashboard/api/session",
            "POST /dashboard/api/cubes",
            "GET /dashboard/api/memories",
            "POST /dashboard/api/memories",
            "GET /dashboard/api/memories/{id}",
            "PUT /dashboard/api/memories/{id}",
            "POST /dashboard/api/memories/{id}/release",
            "GET /dashboard/api/quarantine",
            "POST /dashboard/api/search",
            "GET /dashboard/api/preferences",
            "GET /dashboard/api/scheduler",
            "GET /dashboard/api/events",
            "GET /dashboard/api/events/stream",
            "GET /dashboard/api/caches",
            "GET /dashboard/api/usage",
        ],
    ),
    (
        "src/dashboard/tests.rs",
        &[
            "DELETE /dashboard/api/memories/{id}",
            "GET /dashboard/api/memories/{id}/history",
            "POST /dashboard/api/memories/{id}/undo",
            "GET /dashboard/api/graph",
        ],
    ),
];

fn is_of(operation: &str, method: &str, path: &str) -> bool {
    let (expected, template) = operation.split_once(' ').unwrap();
    let (parts, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    let is_part = |(template, part): (&&str, &&str)| template.starts_with('{') || template == part;
    expected == method && parts.len() == template.len() && template.iter().zip(&parts).all(is_part)
}

/// The operations that are served.
async fn served() -> BTreeSet<String> {
    let house = House::open(open_to_all()).await;
    let state = ServerState::new(house.app.clone(), open_to_all());
    let served = operations(&state).into_iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    house.close().await;
    served
}

fn elsewhere() -> impl Iterator<Item = (&'static str, &'static str)> {
    ELSEWHERE.iter().flat_map(|(file, operations)| operations.iter().map(move |operation| (*file, *operation)))
}

/// The last part of a path that no request replaces.
fn last_word(operation: &str) -> Option<&str> {
    let (_, path) = operation.split_once(' ')?;
    path.rsplit('/').find(|part| !part.is_empty() && !part.starts_with('{'))
}

#[tokio::test]
async fn every_operation_is_asked_rightly_and_wrongly() {
    let other: BTreeSet<&str> = elsewhere().map(|(_, operation)| operation).collect();
    let served = served().await;
    let mut statuses: BTreeMap<&str, Vec<u16>> = served
        .iter()
        .filter(|operation| !other.contains(operation.as_str()))
        .map(|operation| (operation.as_str(), Vec::new()))
        .collect();
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
        assert!(
            statuses.contains(&200),
            "{operation} is never asked rightly: a scenario has to, or ELSEWHERE names a test"
        );
        // An id that names nothing is answered with null.
        let is_always_right = WITHOUT_INPUT.contains(&operation) || operation.contains("{memory_id}");
        assert!(is_always_right || statuses.iter().any(|status| *status >= 400), "{operation} is never asked wrongly");
    }
}

#[tokio::test]
async fn what_is_tested_elsewhere_is_served_and_stands_in_the_file_that_is_named() {
    let served = served().await;
    let mut known = BTreeSet::new();
    for (file, operation) in elsewhere() {
        assert!(served.contains(operation), "{operation} is not served");
        assert!(known.insert(operation), "{operation} is named twice");
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(last_word(operation).is_none_or(|word| text.contains(word)), "{file} does not speak of {operation}");
    }
    assert_eq!(last_word("GET /dashboard/api/memories/{id}/history"), Some("history"));
    assert_eq!((last_word("GET /v1/models/{*id}"), last_word("GET /")), (Some("models"), None));
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
