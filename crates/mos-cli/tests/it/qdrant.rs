//! Vectors on a server that speaks Qdrant's protocol.

use mos_testkit::qdrant_server::QdrantServer;
use serde_json::json as object;

use crate::{failure, json, stdout, write};

#[test]
fn what_the_server_holds_too_much_is_removed_when_asked() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, other) = (data.path(), other.path());
    let error = failure(data, &["doctor", "--reconcile"]);
    assert!(error.contains("nothing to reconcile") && error.contains("vectors.backend"), "{error}");
    let server = QdrantServer::start(Some("hunter2"));
    let config = object!({"collection_name": "ours", "url": server.url(), "api_key": "hunter2"});
    let settings = object!({"vectors": {"backend": "qdrant", "config": config}}).to_string();
    let settings = write(data, "settings.json", &settings);
    stdout(data, &["add", "My dog is called Max", "--config", &settings]);
    let found = stdout(data, &["search", "What is my dog called?", "--config", &settings]);
    assert!(found.contains("Max"), "{found}");
    let report = json(data, &["doctor", "--reconcile", "--config", &settings]);
    assert!(report["facts"]["vectors: server"].as_str().unwrap().starts_with("Qdrant "), "{report}");
    assert_eq!((&report["findings"], report.get("mended")), (&object!([]), None), "{report}");
    assert_eq!(report["facts"]["vectors: points"], "2", "a memory and a cursor: {report}");
    assert!(!report.to_string().contains("hunter2"));
    // Another store, which never held the memory.
    stdout(other, &["doctor", "--reconcile", "--config", &settings]);
    let report = json(other, &["doctor", "--config", &settings]);
    assert_eq!(report["facts"]["vectors: points"], "0", "{report}");
    server.stop();
    let error = failure(data, &["doctor", "--config", &settings]);
    assert!(error.contains("problems found"), "{error}");
}
