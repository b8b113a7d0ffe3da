//! Adding and searching with the requests and answers of MemOS' product API, in this process and without HTTP.
//!
//! Run `cargo run --release -- models pull` once, then
//! `cargo run --release --example add_and_search_api [-- --config FILE] [--model NAME] [--data-dir FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example shows its results")]

use mos::{FoundMemory, Mos, PREFERENCE_NOTE, Remember, Search};
use mos_core::{CubeId, MemoryId, ReadInput, ReadMode, SearchMode, UserId};
use mos_examples::Arguments;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What `POST /product/add` takes, as far as this example needs it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddRequest {
    user_id: String,
    #[serde(default)]
    writable_cube_ids: Vec<String>,
    messages: Value,
    session_id: Option<String>,
    /// `fast` keeps what was said, `fine` lets a model draw memories from it too.
    mode: Option<String>,
}

/// What `POST /product/search` takes, as far as this example needs it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchRequest {
    user_id: String,
    query: String,
    #[serde(default)]
    readable_cube_ids: Vec<String>,
    #[serde(default = "usual_top_k")]
    top_k: usize,
    #[serde(default = "usual_relativity")]
    relativity: f32,
    #[serde(default)]
    mode: Option<String>,
}

fn usual_top_k() -> usize {
    10
}

fn usual_relativity() -> f32 {
    0.45
}

/// What both answer.
#[derive(Debug, Serialize)]
struct Response {
    code: u16,
    message: &'static str,
    data: Value,
}

/// One memory in the answer to an add.
#[derive(Debug, Serialize)]
struct AddedMemory {
    memory: String,
    memory_id: MemoryId,
    memory_type: &'static str,
    cube_id: CubeId,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let house = Arguments::read("embedded.yaml", &[])?.open().await?;
    house.user_with_tree("test_user_1", "cube_test_user_1").await?;

    let add = json!({
        "user_id": "test_user_1",
        "writable_cube_ids": ["cube_test_user_1"],
        "messages": [
            {"role": "user", "content": "We spend a week in Lisbon in June. Which chain hotels are there?"},
            {"role": "assistant", "content": "Among others Ibis, Novotel and Holiday Inn."},
            {"role": "user", "content": "Then I take the Ibis hotel near the river."},
            {"role": "assistant", "content": "Good choice, the breakfast there is fine."},
        ],
        "session_id": "holidays",
        "mode": "fast",
    });
    println!("add request:\n{}", serde_json::to_string_pretty(&add)?);
    let added = add_memories(&house.mos, serde_json::from_value(add)?).await?;
    println!("add response:\n{}", serde_json::to_string_pretty(&added)?);

    let search = json!({
        "user_id": "test_user_1",
        "readable_cube_ids": ["cube_test_user_1"],
        "query": "Which hotel did I choose?",
        "relativity": 0.0,
    });
    println!("search request:\n{}", serde_json::to_string_pretty(&search)?);
    let found = search_memories(&house.mos, serde_json::from_value(search)?).await?;
    println!("search response:\n{}", serde_json::to_string_pretty(&found)?);
    Ok(())
}

/// The cubes of a request; without any, the one that has the user's name.
fn cubes(ids: &[String], user: &str) -> Vec<CubeId> {
    let mut cubes: Vec<CubeId> = Vec::new();
    for id in ids.iter().map(|id| CubeId::from(id.as_str())) {
        if !cubes.contains(&id) {
            cubes.push(id);
        }
    }
    if cubes.is_empty() { vec![CubeId::from(user)] } else { cubes }
}

async fn add_memories(mos: &Mos, request: AddRequest) -> anyhow::Result<Response> {
    let mode = match request.mode.as_deref() {
        Some("fast") => ReadMode::Fast,
        None | Some("fine") => ReadMode::Fine,
        Some(other) => anyhow::bail!("`{other}` is no mode of adding; use fast or fine"),
    };
    let user = UserId::from(request.user_id.as_str());
    let mut data = Vec::new();
    for cube in cubes(&request.writable_cube_ids, &request.user_id) {
        let input = ReadInput::from_value(request.messages.clone());
        let mut what = Remember::new(input).user(user.clone()).cube(cube.clone()).mode(mode);
        if let Some(session) = &request.session_id {
            what = what.session(session.as_str());
        }
        let remembered = mos.remember(what).await?;
        for id in remembered.ids.iter().chain(&remembered.raw_files) {
            let item = mos.get(&user, Some(&cube), id).await?;
            let memory_type = item.metadata.memory_type().map_or("LongTermMemory", |kind| kind.as_str());
            data.push(AddedMemory { memory: item.memory, memory_id: item.id, memory_type, cube_id: cube.clone() });
        }
    }
    Ok(Response { code: 200, message: "Memory added successfully", data: serde_json::to_value(data)? })
}

async fn search_memories(mos: &Mos, request: SearchRequest) -> anyhow::Result<Response> {
    let mode = request.mode.as_deref().unwrap_or("fast");
    let Some(mode) = SearchMode::parse(mode) else { anyhow::bail!("`{mode}` is no mode of searches") };
    let search = Search::new(request.query.as_str())
        .user(request.user_id.as_str())
        .cubes(cubes(&request.readable_cube_ids, &request.user_id))
        .top_k(request.top_k)
        .relevance(request.relativity)
        .mode(mode);
    let found = mos.search(search).await?;
    let buckets: Vec<Value> = found
        .text_mem
        .iter()
        .filter(|cube| !cube.memories.is_empty())
        .map(|cube| json!({"cube_id": cube.cube_id, "memories": cube.memories.iter().map(hit).collect::<Vec<_>>()}))
        .collect();
    let preferences: Vec<Value> = found
        .pref_mem
        .iter()
        .map(|cube| {
            let memories: Vec<Value> = cube.memories.iter().map(hit).collect();
            json!({"cube_id": cube.cube_id, "total_nodes": memories.len(), "memories": memories})
        })
        .collect();
    let data = json!({
        "text_mem": buckets,
        "act_mem": [],
        "para_mem": [],
        "pref_mem": preferences,
        "pref_note": PREFERENCE_NOTE,
    });
    Ok(Response { code: 200, message: "Search completed successfully", data })
}

/// A hit as the API has it: the memory, and in its metadata once more what names it and how well it fits.
fn hit(found: &FoundMemory) -> Value {
    let id = found.item.id.as_str();
    let ref_id = format!("[{}]", id.split('-').next().unwrap_or(id));
    let mut value = found.item.to_value();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("relativity".to_owned(), json!(found.relativity));
        metadata.insert("id".to_owned(), json!(id));
        metadata.insert("memory".to_owned(), json!(found.item.memory));
        metadata.insert("ref_id".to_owned(), json!(ref_id));
        metadata.insert("embedding".to_owned(), json!([]));
        metadata.insert("usage".to_owned(), json!([]));
        metadata.insert("sources".to_owned(), json!(found.sources()));
    }
    value["ref_id"] = json!(ref_id);
    value
}
