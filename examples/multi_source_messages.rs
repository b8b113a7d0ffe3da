//! One conversation with a text, a file, an image, a tool call, its result, and a system prompt that describes the tool: what is
//! kept of each, and what is found again.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example multi_source_messages [-- --config FILE] [--model NAME] [--data-dir FOLDER] [--fine]`.
//! `--fine` lets the chat model draw memories, look at what tools did, and keep their descriptions; it takes a model that can
//! write JSON. The raw input is kept either way.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{Remember, Search};
use mos_core::{ReadInput, ReadMode};
use mos_examples::Arguments;
use serde_json::{Value, json};

/// The file, as a client sends its content.
const REPORT: &str = "# Pump station 4\n\nOn 3 March the pump did not start, because the pressure stayed below 2 bar.\n\n\
                      ## Cause\n\nA loose earth wire in cabinet B interrupted the supply of the valve.\n";

/// A picture of one pixel.
const PICTURE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read("embedded.yaml", &["--fine"])?;
    let mode = if arguments.has("--fine") { ReadMode::Fine } else { ReadMode::Fast };
    let house = arguments.open().await?;
    let mos = &house.mos;
    let (ann, cube) = house.user_with_tree("ann", "repairs").await?;

    let input = ReadInput::from_value(messages());
    println!("Remembering {} messages in {} mode.", input.items.len(), mode.as_str());
    let remembered = mos.remember(Remember::new(input).user("ann").cube(cube.clone()).mode(mode)).await?;
    println!("Report: {}.", remembered.report.summary());
    for item in &remembered.report.items {
        let outcome = serde_json::to_string(&item.outcome)?;
        println!("  {}: {} {}", item.item, outcome.trim_matches('"'), item.reason.as_deref().unwrap_or(""));
    }
    for dropped in &remembered.report.dropped {
        println!("  dropped: {} ({})", dropped.memory, dropped.reason);
    }
    for warning in &remembered.report.warnings {
        println!("  warning: {warning}");
    }

    println!("Kept {} memories and {} chunks of files:", remembered.ids.len(), remembered.raw_files.len());
    for id in remembered.ids.iter().chain(&remembered.raw_files) {
        let memory = mos.get(&ann, Some(&cube), id).await?;
        let kind = memory.metadata.memory_type().map_or("memory", |kind| kind.as_str());
        println!("  {kind}: {}", beginning(&memory.memory));
    }

    let question = "Why did the pump not start?";
    println!("Search: {question}");
    let found = mos.search(Search::new(question).user("ann").cubes([cube]).top_k(3)).await?;
    for (_, memory) in found.best() {
        println!("  {:.2} {}", memory.relativity, beginning(&memory.item.memory));
    }
    Ok(())
}

/// The conversation, as clients of OpenAI's format send it.
fn messages() -> Value {
    let prompt = "You help to repair pumps.\n<tool_schema>\n[{\"name\": \"file_reader\", \"description\": \"Reads a file.\", \
                  \"parameters\": [{\"name\": \"file_id\", \"type\": \"string\", \"required\": true}]}]\n</tool_schema>";
    let result = "{\"file_id\": \"file_7\", \"extracted_text\": \"A loose earth wire in cabinet B.\"}";
    let call = json!({"name": "file_reader", "arguments": "{\"file_id\": \"file_7\"}"});
    json!([
        {"role": "system", "content": [{"type": "text", "text": prompt}]},
        {"role": "user", "content": [
            {"type": "text", "text": "Please read this report and the picture, and tell me why the pump did not start."},
            {"type": "file", "file": {"file_id": "file_7", "filename": "report.md", "file_data": REPORT}},
            {"type": "image_url", "image_url": {"url": PICTURE}},
        ]},
        {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": result}]},
        {"role": "assistant", "content": [{"type": "text",
            "text": "The pump did not start because a loose earth wire in cabinet B cut off the valve."}]},
    ])
}

/// The first 100 characters of a text, on one line.
fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
