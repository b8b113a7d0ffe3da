//! The product API over a real store, an encoder whose vectors can be foreseen and a scripted model server.

mod add;
mod cubes;
mod feedback;
mod opening;
mod returning;
mod search;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use mos::product::{AddMode, AddRequest, App, AsyncMode, Product, ProductOptions, ProductResult};
use mos::{Mos, Settings};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The product API on an empty SQLite store, without a scheduler and without a model that may judge.
async fn app() -> (TempDir, App) {
    let folder = tempfile::tempdir().unwrap();
    let mos = crate::open(folder.path()).await;
    (folder, App::new(mos, ProductOptions::default()))
}

/// The product API with a scripted chat model, and with a scheduler whose messages wait.
async fn scheduled_app(server: &ModelServer) -> (TempDir, App) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), server, json!({"enable_mem_scheduler": true}));
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let builder = Mos::builder(settings).data_dir(folder.path()).embedder(embedder).start_scheduler(false);
    (folder, App::new(builder.build().await.unwrap(), ProductOptions::default()))
}

/// The product API with a scripted chat model, without a scheduler.
async fn judging_app(server: &ModelServer) -> (TempDir, App) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), server, json!({}));
    let mos = crate::open_by(folder.path(), settings).await;
    (folder, App::new(mos, ProductOptions::default()))
}

fn settings(folder: &Path, server: &ModelServer, more: Value) -> Settings {
    let mut all = json!({"chat_model": crate::scripted(server)});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    crate::settings_in(folder, &all)
}

/// What is added at once, as it was given.
fn given(user: &str, messages: Value) -> AddRequest {
    AddRequest {
        messages: Some(messages),
        async_mode: AsyncMode::Sync,
        mode: Some(AddMode::Fast),
        ..AddRequest::new(user.to_owned())
    }
}

/// Adds a text to the cube of a user's name and returns its id.
async fn tell(product: &Product, user: &str, text: &str) -> String {
    let reply = product.add(given(user, json!(text))).await.unwrap();
    reply.data[0]["memory_id"].as_str().unwrap().to_owned()
}

/// The status and the text of a failure.
fn failure<T: Debug>(result: ProductResult<T>) -> (u16, String) {
    let error = result.unwrap_err();
    (error.status, error.message)
}

/// The kind and the place of every fault of a refused request.
fn faults<T: Debug>(result: ProductResult<T>) -> Vec<(String, Value)> {
    let error = result.unwrap_err();
    assert_eq!(error.status, 422, "{error}");
    error.detail.into_iter().map(|issue| (issue.kind, json!(issue.loc))).collect()
}
