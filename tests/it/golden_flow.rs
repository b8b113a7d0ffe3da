//! What upstream's recorded session shows of naive and general memories, reproduced from its files.

use std::path::Path;
use std::sync::Arc;

use mos_core::{Embedder, MemoryItem, Origin, Scope, SearchRequest, SystemClock, TextMemory, text_memory::Hit};
use mos_memory::{DEFAULT_FILE_NAME, GeneralText, GeneralTextParts, NaiveText, Recall, RecallOptions, Shelf};
use mos_stores::{ExactVectors, InMemoryStore, TextAnalyzer};
use mos_testkit::embedder::WordEmbedder;
use serde_json::{Value, json};

/// One recorded call's entry, by the key that only it has or by its call.
fn recorded(find: impl Fn(&Value) -> bool) -> Value {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("fixtures/compat/golden/mos_flow.json");
    let entries: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    entries.into_iter().find(|entry| find(entry)).unwrap()
}

/// Masked ids (`<uuid-6>`) become real ones of the same number.
fn unmask(value: &Value) -> Value {
    let mut text = value.to_string();
    for number in 0..100 {
        text = text.replace(&format!("<uuid-{number}>"), &format!("00000000-0000-4000-8000-{number:012}"));
    }
    serde_json::from_str(&text).unwrap()
}

fn shelf() -> Shelf {
    let clock = Arc::new(SystemClock);
    Shelf {
        scope: Scope { cube: "cube".into() },
        record: InMemoryStore::new(clock.clone()),
        clock,
        file_name: DEFAULT_FILE_NAME.to_owned(),
    }
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::write(folder.join(name), value.to_string()).unwrap();
}

fn read(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(DEFAULT_FILE_NAME)).unwrap()).unwrap()
}

fn texts(hits: &[Hit]) -> Value {
    hits.iter().map(|hit| hit.item.memory.clone()).collect()
}

#[tokio::test]
async fn naive_memory_ranks_and_dumps_as_recorded() {
    let ranking = recorded(|entry| entry["call"] == "naive.search")["returns"].clone();
    let dump = unmask(&recorded(|entry| entry.get("naive_dump").is_some())["naive_dump"]);
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(source.path(), DEFAULT_FILE_NAME, &dump);
    let memory = NaiveText::new(shelf());
    assert_eq!(memory.load(source.path(), Origin::new("test", "load")).await.unwrap(), 3);
    assert_eq!(texts(&memory.search(&SearchRequest::new("red sky", 2)).await.unwrap().hits), ranking);
    memory.dump(target.path()).await.unwrap();
    assert_eq!(read(target.path()), dump);
}

#[tokio::test]
async fn a_recorded_general_dump_loads_and_dumps_to_the_same() {
    let entry = recorded(|entry| entry["textual_memory.json"].as_array().is_some_and(|list| !list.is_empty()));
    let dump = unmask(&entry["textual_memory.json"]);
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(source.path(), DEFAULT_FILE_NAME, &dump);
    write(source.path(), "manifest.json", &json!({"embedding_space": {"model": "toy"}}));
    let shelf = shelf();
    let embedder: Arc<dyn Embedder> = Arc::new(WordEmbedder::new("toy", 8));
    let vectors = ExactVectors::following(shelf.record.clone());
    let analyzer = Arc::new(TextAnalyzer::new());
    let recall = Recall::following(shelf.record.clone(), vectors, analyzer, RecallOptions::default());
    let memory = GeneralText::new(GeneralTextParts { shelf, recall, embedder });
    let n_loaded = memory.load(source.path(), Origin::new("test", "load")).await.unwrap();
    assert_eq!(n_loaded, dump.as_array().unwrap().len());
    memory.dump(target.path()).await.unwrap();
    let again = read(target.path());
    for (before, after) in dump.as_array().unwrap().iter().zip(again.as_array().unwrap()) {
        assert_eq!((&before["id"], &before["payload"]), (&after["id"], &after["payload"]));
        let numbers = |value: &Value| -> Vec<f64> {
            value["vector"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        for (one, other) in numbers(before).into_iter().zip(numbers(after)) {
            assert!((one - other).abs() < 1e-6, "vectors stay as they were");
        }
        let item: MemoryItem = serde_json::from_value(after["payload"].clone()).unwrap();
        assert_eq!(item.to_value(), before["payload"]);
    }
}
