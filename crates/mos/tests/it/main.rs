//! The facade over real stores, a real encoder stand-in and a scripted model server.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod activation;
mod agent;
mod backends;
mod backup;
mod chat;
mod cube_files;
mod cubes;
mod environment;
mod erase;
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
use tempfile::TempDir;

/// A facade on an empty SQLite store, with users ann and bob and a cube of ann's.
async fn house() -> (TempDir, Mos) {
    let folder = tempfile::tempdir().unwrap();
    let mos = open(folder.path()).await;
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    mos.create_cube(&ann(), NewCube::new("notes")).await.unwrap();
    (folder, mos)
}

async fn open(folder: &Path) -> Mos {
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    Mos::builder(Settings::default()).data_dir(folder).embedder(embedder).build().await.unwrap()
}

fn ann() -> UserId {
    UserId::from("ann")
}

fn bob() -> UserId {
    UserId::from("bob")
}
