//! The memories of a cube as a graph, or what lies around one of them.

use axum::Json;
use mos_core::{MemoryId, MemoryItem, Paging};
use serde_json::{Value, json};

use super::Answer;
use super::asking::Asking;

/// The most memories that are drawn.
const MAX_NODES: usize = 500;
/// The most edges between a memory and one that is drawn around it.
const MAX_DEPTH: usize = 4;
/// How much of a text goes into the graph, in characters; the whole is asked for apart.
const MAX_TEXT: usize = 300;

/// Returns the newest memories and the edges among them; with `center` what lies around that memory.
pub(super) async fn graph(asking: Asking) -> Answer {
    let cube = asking.cube()?;
    let limit = asking.number("limit", 200, MAX_NODES)?;
    if let Some(center) = asking.text("center") {
        let center = MemoryId::parse(center)?;
        let depth = asking.number("depth", 1, MAX_DEPTH)?.max(1);
        let found = asking.mos.neighbourhood(&asking.user, &cube, &center, depth, limit).await?;
        let mut nodes = vec![shown(&found.center)];
        nodes.extend(found.around.nodes.iter().map(shown));
        let n_nodes = nodes.len();
        return Ok(Json(json!({
            "nodes": nodes, "edges": found.around.edges, "total_nodes": n_nodes,
            "is_cut": found.is_cut, "center": center,
        })));
    }
    let filter = asking.conditions().listing()?;
    let paging = Paging { offset: 0, limit };
    let page = asking.mos.memory_page(&asking.user, &cube, &filter, paging).await?;
    let drawn: Vec<MemoryId> = page.entries.iter().map(|item| item.id.clone()).collect();
    let edges = asking.mos.edges_among(&asking.user, &cube, &drawn).await?;
    let nodes: Vec<Value> = page.entries.iter().map(shown).collect();
    let is_cut = page.total > nodes.len();
    Ok(Json(json!({"nodes": nodes, "edges": edges, "total_nodes": page.total, "is_cut": is_cut})))
}

fn shown(item: &MemoryItem) -> Value {
    json!({
        "id": item.id,
        "key": item.metadata.key,
        "memory": item.memory.chars().take(MAX_TEXT).collect::<String>(),
        "memory_type": item.metadata.memory_type(),
        "kind": item.metadata.kind,
        "status": item.metadata.status,
        "tags": item.metadata.tags,
        "updated_at": item.metadata.updated_at,
    })
}
