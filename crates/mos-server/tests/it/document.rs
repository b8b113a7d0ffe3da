//! The document that describes the server, and the page that shows it.

use std::collections::{BTreeMap, BTreeSet};

use mos_server::{ServerOptions, ServerState, operations};
use serde_json::{Value, json};

use crate::house::{House, open_to_all};

/// What MemOS does without and this server does not: an addition has an author.
const STRICTER: [(&str, &str); 1] = [("APIADDRequest", "user_id")];

/// What this server takes and MemOS does not: the cubes that a key may use.
const MORE: [(&str, &str); 1] = [("CreateKeyRequest", "cubes")];

/// Pages, their files and what pages ask for; the document itself; and a protocol that describes itself.
const NOT_DESCRIBED: [&str; 7] = ["/", "/assets/{path}", "/docs", "/docs/", "/docs/{rest}", "/openapi.json", "/mcp"];

/// The names of operations, parameters and fields of requests in MemOS' own document: every path and method with its
/// `operationId`, the last part of the `$ref` of its body, and `name`, `in`, `required` and `default` of its parameters; every
/// schema that a body refers to with `required`, the names of its `properties`, and their defaults that are not null.
pub(crate) fn names() -> Value {
    serde_json::from_str(include_str!("../fixtures/openapi-names.json")).unwrap()
}

async fn document() -> Value {
    let house = House::open(ServerOptions::default()).await;
    let document = reqwest::get(format!("{}/openapi.json", house.url)).await.unwrap();
    assert_eq!(document.status(), 200, "it needs no key");
    let document = document.json().await.unwrap();
    house.close().await;
    document
}

fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The default of a field, wherever its schema has it.
fn default_of(schema: &Value) -> Option<Value> {
    if let Some(default) = schema.get("default") {
        return Some(default.clone());
    }
    let parts = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|key| schema[key].as_array());
    parts.flatten().find_map(default_of)
}

/// Numbers are equal however they are written.
fn comparable(value: Value) -> Value {
    value.as_f64().map_or(value, |number| json!(number))
}

/// A parameter as the fixture has it: its name and place, whether it is required, and its default.
fn parameters(operation: &Value, is_fixture: bool) -> BTreeSet<String> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    let one = |parameter: &Value| {
        let default = if is_fixture { parameter.get("default").cloned() } else { default_of(&parameter["schema"]) };
        let default = default.filter(|default| !default.is_null()).map(comparable);
        json!([parameter["name"], parameter["in"], parameter["required"], default]).to_string()
    };
    all.map(one).collect()
}

#[tokio::test]
async fn operations_and_parameters_are_those_of_memos() {
    let (document, names) = (document().await, names());
    for (operation, expected) in names["operations"].as_object().unwrap() {
        let (method, path) = operation.split_once(' ').unwrap();
        let found = &document["paths"][path][method.to_lowercase()];
        assert!(found.is_object(), "{operation} is not there");
        assert_eq!(found["operationId"], expected["id"], "{operation}");
        assert_eq!(parameters(found, false), parameters(expected, true), "{operation}");
        let body = &found["requestBody"]["content"]["application/json"]["schema"];
        let body = match body["$ref"].as_str() {
            Some(reference) => json!(reference.rsplit('/').next()),
            None => body["type"].clone(),
        };
        assert_eq!(body, expected["body"], "{operation}");
    }
}

#[tokio::test]
async fn the_fields_of_requests_are_those_of_memos() {
    let (document, names) = (document().await, names());
    for (name, expected) in names["schemas"].as_object().unwrap() {
        let found = &document["components"]["schemas"][name];
        assert!(found.is_object(), "{name} is not there");
        let fields = found["properties"].as_object().unwrap();
        let of_this = |list: &[(&str, &str)]| -> Vec<String> {
            list.iter().filter(|(schema, _)| schema == name).map(|(_, field)| (*field).to_owned()).collect()
        };
        let mut properties = texts(&expected["properties"]);
        properties.extend(of_this(&MORE));
        assert_eq!(fields.keys().cloned().collect::<BTreeSet<_>>(), properties, "{name}");
        let mut required = texts(&expected["required"]);
        required.extend(of_this(&STRICTER));
        assert_eq!(texts(&found["required"]), required, "{name}");
        let told: BTreeMap<&String, Value> = fields
            .iter()
            .filter_map(|(field, schema)| default_of(schema).map(|default| (field, comparable(default))))
            .filter(|(_, default)| !default.is_null())
            .collect();
        let expected = expected["defaults"].as_object().unwrap();
        let expected: BTreeMap<&String, Value> =
            expected.iter().map(|(field, default)| (field, comparable(default.clone()))).collect();
        assert_eq!(told, expected, "{name}");
    }
}

#[tokio::test]
async fn the_least_values_of_numbers_are_told() {
    let document = document().await;
    let least =
        |schema: &str, field: &str| document["components"]["schemas"][schema]["properties"][field]["minimum"].as_f64();
    assert_eq!(least("APISearchRequest", "top_k"), Some(1.0));
    assert_eq!(least("APISearchRequest", "relativity"), Some(0.0));
    assert_eq!(least("APIChatCompleteRequest", "relativity"), Some(0.0));
}

/// Every text under a key, anywhere.
fn all_of<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str));
            map.values().for_each(|value| all_of(key, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| all_of(key, value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_refers_to_nothing_that_is_not_in_it() {
    let document = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut references = Vec::new();
    all_of("$ref", &document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let mut ids = Vec::new();
    all_of("operationId", &document, &mut ids);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "names of operations are given once");
}

#[tokio::test]
async fn every_operation_of_the_document_is_served() {
    let house = House::open(open_to_all()).await;
    let document: Value = reqwest::get(format!("{}/openapi.json", house.url)).await.unwrap().json().await.unwrap();
    let client = reqwest::Client::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let address = format!("{}{}", house.url, path.replace(['{', '}'], ""));
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = client.request(method.clone(), address).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert!(status != 405 && !text.contains("Not Found: "), "{method} {path}: {status} {text}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn every_operation_that_is_served_is_in_the_document() {
    let house = House::open(open_to_all()).await;
    let document: Value = reqwest::get(format!("{}/openapi.json", house.url)).await.unwrap().json().await.unwrap();
    let served = operations(&ServerState::new(house.app.clone(), open_to_all()));
    let mut missing = Vec::new();
    for route in served {
        // The router marks what may have slashes in it.
        let path = route.path.replace("{*", "{");
        let is_of_page = NOT_DESCRIBED.contains(&path.as_str()) || path.starts_with("/dashboard/api/");
        if document["paths"][&path][route.method.to_lowercase()].is_object() == is_of_page {
            missing.push(format!("{} {path}", route.method));
        }
    }
    assert!(missing.is_empty(), "not in the document, or in it and in the list of what is not: {missing:?}");
    house.close().await;
}

#[tokio::test]
async fn errors_are_described_in_the_words_of_their_dialect() {
    let document = document().await;
    let error_of = |path: &str| {
        let refused = &document["paths"][path]["post"]["responses"]["default"];
        refused["content"]["application/json"]["schema"]["$ref"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(error_of("/v1/chat/completions"), "OpenAiError");
    assert_eq!(error_of("/api/openmem/v1/chat"), "ErrorEnvelope");
    for path in ["/v1/chat/completions", "/api/openmem/v1/chat"] {
        let told = document["paths"][path]["post"]["responses"]["200"]["content"].as_object().unwrap();
        assert_eq!(told.keys().collect::<Vec<_>>(), ["application/json", "text/event-stream"], "{path}");
    }
}

#[tokio::test]
async fn the_page_shows_the_document_and_loads_nothing_from_elsewhere() {
    let house = House::open(ServerOptions::default()).await;
    let page = reqwest::get(format!("{}/docs", house.url)).await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/docs/"));
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("http"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(html.contains("swagger-ui") && !html.contains("<script>") && !html.contains("https://"), "{html}");
    for file in ["swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-initializer.js", "swagger-ui.css"]
    {
        let found = reqwest::get(format!("{}/docs/{file}", house.url)).await.unwrap();
        assert_eq!(found.status(), 200, "{file}");
        let text = found.text().await.unwrap();
        if file == "swagger-initializer.js" {
            assert!(text.contains("/openapi.json") && text.contains("\"validatorUrl\": \"none\""), "{text}");
        }
    }
    house.close().await;
}
