//! What the product API lists, draws, deletes and recovers.

mod deleting;
mod drawing;
mod listing;
mod recovering;

use mos::config::{GeneralMemCubeConfig, Setting};
use mos::product::{App, MemoryList, ProductOptions, Request};
use mos::{Add, NewCube};
use mos_core::{CubeId, IdSource, MemoryItem, Origin, RandomIds, UserId};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ann, bob, house};

/// The product API over an empty SQLite store: users ann and bob with trees of their names, and a flat cube `notes` of ann's.
async fn api() -> (TempDir, App) {
    let (folder, mos) = house().await;
    for user in [ann(), bob()] {
        let config = json!({"user_id": user, "text_mem": {"backend": "tree_text", "config": {}},
            "pref_mem": {"backend": "pref_text", "config": {}}});
        let config = GeneralMemCubeConfig::from_json(&config).unwrap();
        let new = NewCube { cube_id: CubeId::from(user.as_str()), name: None, config: Some(config) };
        mos.create_cube(&user, new).await.unwrap();
    }
    (folder, App::new(mos, ProductOptions::default()))
}

/// Stores memories of this metadata in the tree of a user and returns their ids.
async fn keep(app: &App, owner: &str, memories: &[(&str, Value)]) -> Vec<String> {
    let cube = app.mos().cube(&UserId::from(owner), &CubeId::from(owner)).await.unwrap();
    let items = memories.iter().map(|(text, metadata)| {
        let value = json!({"id": RandomIds.next_uuid(), "memory": text, "metadata": metadata});
        MemoryItem::from_value(value, String::new).unwrap()
    });
    let items: Vec<MemoryItem> = items.collect();
    let ids = cube.text_mem().add(items, Origin::new(owner, "test").into()).await.unwrap();
    ids.iter().map(ToString::to_string).collect()
}

/// Stores a memory in the flat cube of ann's and returns its id.
async fn note(app: &App, text: &str) -> String {
    let ids = app.mos().add(Add::text(text).user("ann").cube("notes")).await.unwrap();
    ids[0].to_string()
}

/// The metadata of a memory that was made on this day of a month. It has no working copy.
fn on_day(day: usize) -> Value {
    json!({"memory_type": "OuterMemory", "created_at": format!("2026-01-{day:02}T00:00:00.000000+00:00")})
}

/// The request that a JSON body is.
fn ask<R: Request>(body: &Value) -> R {
    R::from_json(body).unwrap()
}

fn ids(list: &MemoryList) -> Vec<String> {
    list.memories.iter().map(|memory| memory["id"].as_str().unwrap().to_owned()).collect()
}

/// The ids of the textual memories that a cube lists.
async fn listed(app: &App, cube: &str) -> Vec<String> {
    let lists = app.product().get_memory(ask(&json!({"mem_cube_id": cube}))).await.unwrap();
    ids(&lists.data.text_mem[0])
}
