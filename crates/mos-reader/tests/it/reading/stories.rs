//! The examples of MemOS' documentation, end to end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mos_core::{FileData, MemReader, MemoryId, MemoryType, Outcome, RawFile, RawItem, ReadInput, ReadMode, Reading};
use mos_reader::{ReaderKind, ReaderParts};
use serde_json::{Value, json};

use super::{Web, model, of_type, parts, read, reader};

const REPORT: &str = "# Boot pressure test\n\nThe PMT test of workshop PM1 took place on 2024-07-20. The edge pressures did \
                      not reach 2.5 bar.\n\n## Cause\n\nThe negative terminal of the DC 24V supply had poor contact.\n";

const REPORT_URL: &str = "http://127.0.0.1:9090/report.md";

const IMAGE_URL: &str = "https://example.org/picture.jpeg";

const SUMMARY: &str = "Final Summary: During the PMT boot-pressure startup test of the PM1 workshop on July 20, 2024, the \
                       root cause was poor contact at the negative terminal of the DC 24V power supply.";

fn web() -> Web {
    let mut image = vec![0xff, 0xd8, 0xff, 0xe0];
    image.extend([0; 64]);
    Web(HashMap::from([(REPORT_URL.to_owned(), REPORT.as_bytes().to_vec()), (IMAGE_URL.to_owned(), image)]))
}

fn answer(kind: &str, asked: &str) -> String {
    let answer = match kind {
        "conversation" => json!({"memory list": [
            {"key": "Fault", "memory_type": "LongTermMemory", "type": "fact",
             "value": "The root cause of the failed PMT test of the PM1 workshop was poor contact at the negative terminal.",
             "tags": ["fault"], "messages": [asked.lines().filter(|line| line.starts_with('[')).count()]},
        ], "summary": "A report was read."}),
        "document" => json!({"key": "Test", "value": "The edge pressures of the PMT test did not reach 2.5 bar.",
            "tags": ["test"]}),
        "image" => json!({"key": "Cabinet", "description": "A PLC cabinet with a loose wire.", "text": "",
            "tags": ["hardware"]}),
        "trajectory" => json!({"correctness": "success",
            "experience": "Pass the file_id of the request to file_reader.",
            "tool_used_status": [{"used_tool": "file_reader", "success_rate": 1.0, "error_type": "", "tool_experience": ""}]}),
        _ => json!({}),
    };
    answer.to_string()
}

pub(crate) fn fine_parts() -> ReaderParts {
    let mut parts = parts();
    let model = model(answer);
    parts.model = Some(model.clone());
    parts.image_model = Some(model);
    parts.fetcher = Some(Arc::new(web()));
    parts
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn file(name: &str) -> Value {
    json!({"type": "file", "file": {"file_id": "file_123", "filename": name, "file_data": format!("@{REPORT_URL}")}})
}

/// Text and file.
fn first_example() -> Value {
    json!([
        {"role": "user", "content": [text("Please read this file, summarize the key points."), file("report.md")]},
        {"role": "assistant", "content": [text(SUMMARY)]},
    ])
}

/// System prompt with a tool schema, file, image, tool call, tool result and summary.
pub(crate) fn second_example() -> Value {
    let prompt = "You are an industrial fault analysis assistant.\n\n<tool_schema>\n[{\"name\": \"file_reader\", \
                  \"description\": \"Reads files.\", \"parameters\": [{\"name\": \"file_id\", \"type\": \"string\"}]}]\n\
                  </tool_schema>";
    let result = "{\"file_id\":\"file_123\",\"extracted_text\":\"Final fault cause: poor contact.\"}";
    json!([
        {"role": "system", "content": [text(prompt)]},
        {"role": "user", "content": [
            text("Please read this file and image, summarize the key points."),
            file("report.pdf"),
            {"type": "image_url", "image_url": {"url": IMAGE_URL}},
        ]},
        {"role": "assistant", "tool_calls": [{"id": "call_file_reader_001", "type": "function",
            "function": {"name": "file_reader", "arguments": "{\"file_id\": \"file_123\"}"}}]},
        {"role": "tool", "tool_call_id": "call_file_reader_001", "content": [text(result)]},
        {"role": "assistant", "content": [text(SUMMARY)]},
    ])
}

async fn fine(messages: Value) -> Reading {
    read(&reader(ReaderKind::MultiModal, fine_parts()), ReadInput::from_value(messages), ReadMode::Fine).await
}

fn ids(reading: &Reading) -> Vec<MemoryId> {
    let all = reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files);
    all.map(|item| item.id.clone()).collect()
}

#[tokio::test]
async fn text_and_file_become_memories_with_their_sources() {
    let reading = fine(first_example()).await;
    assert!(reading.report.items.iter().all(|item| item.outcome == Outcome::Kept), "{:#?}", reading.report);
    let notes = of_type(&reading.memories, MemoryType::LongTerm);
    let of_file = notes.iter().find(|item| item.memory.contains("2.5 bar")).unwrap();
    let source = &of_file.metadata.tree().unwrap().sources.as_ref().unwrap()[0];
    assert_eq!((source.kind.as_str(), source.doc_path.as_deref()), ("file", Some("report.md")));
    assert_eq!(source.file_info.as_ref().unwrap()["file_data"], REPORT_URL);
    assert_eq!(of_file.metadata.tree().unwrap().file_ids, ["file_123"]);
    let said = notes.iter().find(|item| item.memory.contains("root cause")).unwrap();
    let sources = said.metadata.tree().unwrap().sources.as_ref().unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].extra["index"], 1, "the second turn said it");
    assert!(!reading.raw_files.is_empty());
    let chunk = &reading.raw_files[0];
    assert!(chunk.metadata.memory_type() == Some(MemoryType::RawFile) && chunk.memory.contains("2.5 bar"));
    assert!(chunk.metadata.extra["summary_ids"][0].is_string());
}

#[tokio::test]
async fn schema_file_image_and_tool_use_become_memories_of_their_kinds() {
    let reading = fine(second_example()).await;
    let schema = of_type(&reading.memories, MemoryType::ToolSchema);
    assert_eq!(schema[0].metadata.key.as_deref(), Some("file_reader"));
    let trajectory = of_type(&reading.memories, MemoryType::ToolTrajectory);
    assert_eq!(trajectory.len(), 1);
    assert!(trajectory[0].memory.contains("assistant calls file_reader({\"file_id\": \"file_123\"})"));
    assert_eq!(trajectory[0].metadata.extra["correctness"], "success");
    assert!(trajectory[0].metadata.extra["experience"].as_str().unwrap().contains("file_id"));
    let visual = reading.memories.iter().find(|item| item.metadata.tags.iter().flatten().any(|tag| tag == "visual"));
    assert_eq!(visual.unwrap().memory, "A PLC cabinet with a loose wire.");
    // The name says PDF, the content is Markdown.
    assert!(reading.raw_files.iter().any(|chunk| chunk.memory.contains("2.5 bar")));
    let hidden = "industrial fault analysis";
    let all = reading.raw.iter().chain(&reading.memories);
    assert!(all.into_iter().all(|item| !item.memory.contains(hidden)), "a system prompt is no memory");
}

#[tokio::test]
async fn every_drawn_memory_names_turns_that_are_kept_as_they_were() {
    let reading = fine(second_example()).await;
    let raw: HashSet<&str> = reading.raw.iter().map(|item| item.id.as_str()).collect();
    let text: String = reading.raw.iter().map(|item| item.memory.as_str()).collect();
    assert!(text.contains(SUMMARY) && text.contains("summarize the key points"));
    let drawn = reading.memories.iter().find(|item| item.memory.contains("root cause")).unwrap();
    let sources = drawn.metadata.tree().unwrap().sources.as_ref().unwrap();
    assert!(!sources.is_empty());
    assert!(sources.iter().all(|source| raw.contains(source.extra["node_id"].as_str().unwrap())));
}

#[tokio::test]
async fn neighbouring_chunks_are_linked() {
    let long: String = (0..60).map(|n| format!("Sentence {n} of the report says something. ")).collect();
    let input =
        ReadInput::file(RawFile { id: None, name: Some("long.txt".to_owned()), url: None, data: FileData::Text(long) });
    let reader = reader(ReaderKind::MultiModal, fine_parts());
    let reading = read(&reader, input, ReadMode::Fine).await;
    let chunks = &reading.raw_files;
    assert!(chunks.len() > 2);
    for pair in chunks.windows(2) {
        assert_eq!(pair[0].metadata.extra["following_id"], pair[1].id.as_str());
        assert_eq!(pair[1].metadata.extra["preceding_id"], pair[0].id.as_str());
    }
    let known: HashSet<&str> = reading.raw.iter().chain(&reading.memories).map(|item| item.id.as_str()).collect();
    for chunk in chunks {
        assert!(known.contains(chunk.metadata.extra["summary_ids"][0].as_str().unwrap()));
    }
}

#[tokio::test]
async fn the_same_input_has_the_same_ids() {
    let (once, twice) = (fine(second_example()).await, fine(second_example()).await);
    assert_eq!((ids(&once), &once.idempotency_key), (ids(&twice), &twice.idempotency_key));
    let distinct: HashSet<MemoryId> = ids(&once).into_iter().collect();
    assert_eq!(distinct.len(), once.n_memories());
    let mut known = twice;
    known.without_known(&distinct);
    assert_eq!(known.n_memories(), 0);
    assert_ne!(once.idempotency_key, fine(first_example()).await.idempotency_key);
}

#[tokio::test]
async fn an_archive_of_skills_becomes_memories() {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("pdf/SKILL.md", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut archive, b"---\nname: pdf\ndescription: Fills in forms.\n---\n1. Open it.\n")
        .unwrap();
    let bytes = archive.finish().unwrap().into_inner();
    let file = |data| RawItem::Skills(RawFile { id: None, name: Some("skills.zip".to_owned()), url: None, data });
    let input = ReadInput {
        items: vec![file(FileData::Bytes(bytes)), file(FileData::Text("no archive".to_owned()))],
        ..ReadInput::default()
    };
    let reading = reader(ReaderKind::Simple, parts()).read(input, ReadMode::Fast).await.unwrap();
    assert_eq!(reading.memories.len(), 1);
    let metadata = &reading.memories[0].metadata;
    assert_eq!(
        (metadata.memory_type(), &metadata.extra["procedure"]),
        (Some(MemoryType::Skill), &json!("1. Open it."))
    );
    let outcomes: Vec<Outcome> = reading.report.items.iter().map(|item| item.outcome).collect();
    assert_eq!(outcomes, [Outcome::Kept, Outcome::NotKept]);
}

#[tokio::test]
async fn the_plain_reader_reads_documents_too() {
    let data = FileData::Text(REPORT.to_owned());
    let file = RawFile { id: None, name: Some("report.md".to_owned()), url: None, data };
    let reading = read(&reader(ReaderKind::Simple, fine_parts()), ReadInput::file(file), ReadMode::Fine).await;
    let drawn = reading.memories.iter().find(|item| item.memory.contains("2.5 bar")).unwrap();
    assert_eq!(drawn.metadata.memory_type(), Some(MemoryType::LongTerm));
    let sources = drawn.metadata.tree().unwrap().sources.as_ref().unwrap();
    assert_eq!((sources[0].kind.as_str(), sources[0].doc_path.as_deref()), ("file", Some("report.md")));
}
