//! Images in documents.

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::{FileData, MemoryItem, Outcome, RawFile, ReadInput, ReadMode, Reading, Sources};
use mos_reader::{Held, ReaderKind, ReaderOptions};
use serde_json::{Value, json};

use super::{Web, model, parts, read, reader};

const CHART: &[u8] = b"\x89PNG\r\n\x1a\n of a chart";

/// `CHART` as base64.
const INLINE: &str = "data:image/png;base64,iVBORw0KGgogb2YgYSBjaGFydA==";

fn report() -> String {
    format!(
        "# Sales\n\nThe year went well, see ![the chart]({INLINE}) here.\n\n## Map\n\n![a map](https://example.org/map.png)\n\n\
         ![the plan](img/plan.png) ![gone](img/gone.png) ![secret](../secret.png)\n"
    )
}

fn answer(kind: &str, _: &str) -> String {
    match kind {
        "document" => json!({"key": "Sales", "value": "The year went well.", "tags": ["sales"]}),
        _ => json!({"key": "Chart", "description": "A chart with two bars.", "text": "", "tags": ["chart"]}),
    }
    .to_string()
}

fn sources(item: &MemoryItem) -> Vec<mos_core::memory::SourceMessage> {
    item.metadata.tree().unwrap().sources.clone().unwrap()
}

fn visual(reading: &Reading) -> Vec<&MemoryItem> {
    let is_visual = |item: &&MemoryItem| item.metadata.tags.iter().flatten().any(|tag| tag == "visual");
    reading.memories.iter().filter(is_visual).collect()
}

/// A folder with the report, an image below it, and one outside.
fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    std::fs::create_dir_all(docs.join("img")).unwrap();
    std::fs::write(docs.join("img/plan.png"), CHART).unwrap();
    std::fs::write(folder.path().join("secret.png"), CHART).unwrap();
    std::fs::write(docs.join("report.md"), report()).unwrap();
    (folder, docs.join("report.md"))
}

fn of_path(path: &std::path::Path, held: &Held) -> ReadInput {
    let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path.to_owned()) };
    let known_chunks = held.known_chunks();
    ReadInput { sources: Sources::of_owner(), user: Some("ann".into()), known_chunks, ..ReadInput::file(file) }
}

#[tokio::test]
async fn images_of_a_document_are_described_at_their_places() {
    let (_folder, path) = folder();
    let asked = model(answer);
    let mut parts = parts();
    parts.model = Some(asked.clone());
    parts.image_model = Some(asked.clone());
    parts.fetcher = Some(Arc::new(Web(HashMap::from([("https://example.org/map.png".to_owned(), CHART.to_vec())]))));
    let reader = reader(ReaderKind::MultiModal, parts);
    let reading = read(&reader, of_path(&path, &Held::default()), ReadMode::Fine).await;
    let seen = visual(&reading);
    let marks: Vec<String> = seen.iter().map(|item| sources(item)[0].content.clone().unwrap()).collect();
    let expected = ["![the chart](image 1)", "![a map](https://example.org/map.png)", "![the plan](img/plan.png)"];
    assert_eq!(marks, expected, "{:?}", reading.report);
    assert!(seen.iter().all(|item| item.memory == "A chart with two bars."));
    assert_eq!(sources(seen[1])[0].extra["headings"], json!(["Sales", "Map"]));
    assert_eq!(seen[0].metadata.tree().unwrap().file_ids, reading.raw_files[0].metadata.tree().unwrap().file_ids);
    let warnings = reading.report.warnings.join("\n");
    assert!(
        warnings.contains("there is no img/gone.png") && warnings.contains("leads out of the folder"),
        "{warnings}"
    );
    let all: Vec<&MemoryItem> = reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files).collect();
    assert!(all.iter().all(|item| !item.memory.contains("base64")), "images are no text");
    let n_asked = asked.requests().len();
    let held = Held::new(reading.memories.clone(), &"ann".into());
    let again = read(&reader, of_path(&path, &held), ReadMode::Fine).await;
    assert!(again.memories.is_empty() && asked.requests().len() == n_asked, "what was seen is not looked at again");
    assert_eq!(again.files, reading.files);
}

#[tokio::test]
async fn without_a_model_that_sees_images_are_references_in_their_text() {
    let (_folder, path) = folder();
    for mode in [ReadMode::Fast, ReadMode::Fine] {
        let mut parts = parts();
        parts.model = Some(model(answer));
        let reading = read(&reader(ReaderKind::MultiModal, parts), of_path(&path, &Held::default()), mode).await;
        assert!(visual(&reading).is_empty());
        let chunks = if mode == ReadMode::Fast { &reading.raw } else { &reading.raw_files };
        let told: Vec<Value> =
            chunks.iter().flat_map(sources).filter_map(|one| one.extra.get("images").cloned()).collect();
        let told = json!(told).to_string();
        assert!(told.contains("the chart") && told.contains("https://example.org/map.png"), "{told}");
        assert!(chunks.iter().any(|chunk| chunk.memory.contains("![the chart](image 1)")));
        let warning = &reading.report.warnings[0];
        assert!(warning.contains("report.md: 5 images are kept as references"), "{warning}");
    }
}

#[tokio::test]
async fn a_file_that_is_an_image_is_looked_at() {
    let file =
        || RawFile { id: None, name: Some("chart.txt".to_owned()), url: None, data: FileData::Bytes(CHART.to_vec()) };
    let mut parts = parts();
    parts.model = Some(model(answer));
    let blind = reader(ReaderKind::MultiModal, parts.clone());
    let reading = read(&blind, ReadInput::file(file()), ReadMode::Fine).await;
    assert_eq!((reading.memories.len(), reading.raw[0].memory.as_str()), (0, "[Filename: chart.txt]"));
    let reason = reading.report.items[0].reason.as_deref().unwrap();
    assert!(reason.contains("it is an image") && reason.contains("image_parser_llm"), "{reason}");
    parts.image_model = Some(model(answer));
    let seeing = reader(ReaderKind::MultiModal, parts);
    let reading = read(&seeing, ReadInput::file(file()), ReadMode::Fine).await;
    assert_eq!((visual(&reading).len(), reading.memories.len(), reading.raw.len()), (1, 1, 0));
    assert_eq!(sources(&reading.memories[0])[0].doc_path.as_deref(), Some("chart.txt"));
}

#[tokio::test]
async fn requests_get_no_images_of_this_machine_and_not_too_many() {
    let (_folder, path) = folder();
    let text = format!("# Plan\n\n![plan]({}) ![plan](file://{})\n\nThe plan.", path.display(), path.display());
    let file = json!({"type": "file", "file": {"filename": "a.md", "file_data": text}});
    let mut parts = parts();
    let asked = model(answer);
    parts.model = Some(asked.clone());
    parts.image_model = Some(asked);
    let options = ReaderOptions { max_document_images: 1, ..ReaderOptions::of(ReaderKind::MultiModal) };
    let reader = mos_reader::Reader::new(ReaderKind::MultiModal, options, parts);
    let reading = read(&reader, ReadInput::from_value(json!([file])), ReadMode::Fine).await;
    assert!(visual(&reading).is_empty());
    let warnings = reading.report.warnings.join("\n");
    assert!(warnings.contains("1 images are left out"), "{warnings}");
    assert!(warnings.contains("its address is relative"), "{warnings}");
    assert!(reading.report.items.iter().all(|item| item.outcome == Outcome::Kept), "{:?}", reading.report);
}
