//! The facade over real stores, a real encoder stand-in and a scripted model server.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod activation;
mod agent;
mod backends;
mod backup;
mod chat;
mod cube_files;
mod cubes;
mod damaged_caches;
mod environment;
mod erase;
mod erase_servers;
mod files_of_memos;
mod full;
mod habits;
mod keys;
mod looking;
mod memories;
mod migrate;
mod mixing;
mod organize;
mod organizing;
mod plugins;
mod preferences;
mod pro;
mod product;
mod product_chat;
mod product_reading;
mod qdrant;
mod quarantine;
mod remember;
mod retrieval;
mod rewrite;
mod rights;
mod scheduling;
mod searching;
mod servers;
mod skills;
mod traces;
mod trees;
mod two_programs;
mod usage;
mod users;
mod views;

use std::path::Path;
use std::sync::Arc;

use mos::{Mos, NewCube, Settings};
use mos_core::UserId;
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A facade on an empty SQLite store, with users ann and bob and a cube of ann's.
async fn house() -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path()).await;
    furnish(&mos).await;
    (folder, mos)
}

/// Ann and bob, and the cube `notes` of ann's.
async fn furnish(mos: &Mos) {
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
}

async fn open(folder: &Path) -> Mos {
    open_by(folder, Settings::default()).await
}

async fn open_by(folder: &Path, settings: Settings) -> Mos {
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    Mos::builder(settings).data_dir(folder).embedder(embedder).build().await.unwrap()
}

/// Settings that stand in a file of a folder.
fn settings_in(folder: &Path, settings: &Value) -> Settings {
    let file = folder.join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    Settings::load(Some(&file), []).unwrap().settings
}

/// A chat model that is the scripted server.
fn scripted(server: &ModelServer) -> Value {
    json!({"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0}})
}

fn ann() -> UserId {
    UserId::from("ann")
}

fn bob() -> UserId {
    UserId::from("bob")
}
