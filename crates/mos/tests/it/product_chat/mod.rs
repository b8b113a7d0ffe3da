//! The product API's chats, suggestions, scheduler and diary, with a scripted model server.

mod chats;
mod openai;
mod scheduler;
mod streams;
mod suggestions;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use mos::config::{ChatModelConfig, Setting};
use mos::product::{App, Frame, ProductOptions};
use mos::{Add, Mos, MosBuilder, NewCube};
use mos_core::CubeId;
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ann, settings_in};

/// An installation with a scripted model and a cube of ann's that has her name.
struct House {
    _folder: TempDir,
    server: ModelServer,
    app: App,
}

fn model(server: &ModelServer, name: &str) -> Value {
    json!({"backend": "openai", "config": {
        "model_name_or_path": name, "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0,
        "remove_think_prefix": false}})
}

fn model_config(server: &ModelServer, name: &str) -> ChatModelConfig {
    ChatModelConfig::from_json(&model(server, name)).unwrap()
}

/// A house whose settings and parts say more, with ann and bob.
async fn house_with(
    more: Value,
    options: impl FnOnce(&ModelServer) -> ProductOptions,
    parts: impl FnOnce(MosBuilder) -> MosBuilder,
) -> House {
    let server = ModelServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut all = json!({"chat_model": model(&server, "scripted")});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let settings = settings_in(folder.path(), &all);
    let embedder = Arc::new(WordEmbedder::new("words", 64));
    let builder = Mos::builder(settings).data_dir(folder.path()).embedder(embedder);
    let mos = parts(builder).build().await.unwrap();
    for user in ["ann", "bob"] {
        mos.create_user(user, None).await.unwrap();
    }
    mos.create_cube(&ann(), NewCube::new("ann")).await.unwrap();
    let options = options(&server);
    House { _folder: folder, app: App::new(mos, options), server }
}

async fn house() -> House {
    house_with(json!({}), |_| ProductOptions::default(), |builder| builder).await
}

impl House {
    async fn knows(&self, text: &str) {
        self.app.mos().add(Add::text(text).user("ann").cube(cube())).await.unwrap();
    }

    /// The memories of ann's cube, when all that was to be remembered is.
    async fn memories(&self) -> Vec<String> {
        self.app.mos().wait_for_sending().await;
        let kept = self.app.mos().get_all(&ann(), Some(&cube())).await.unwrap();
        kept.text_mem[0].memories.iter().map(|item| item.memory.clone()).collect()
    }

    /// The messages of a request to the model.
    fn sent(&self, index: usize) -> Vec<Value> {
        self.server.requests()[index].body["messages"].as_array().unwrap().clone()
    }

    fn system(&self, index: usize) -> String {
        self.sent(index)[0]["content"].as_str().unwrap().to_owned()
    }
}

fn cube() -> CubeId {
    CubeId::from("ann")
}

/// Every frame as JSON.
async fn read(stream: BoxStream<'static, Frame>) -> Vec<Value> {
    stream.map(|frame| json!(frame)).collect().await
}

/// The kinds of frames in order, each once in a row.
fn kinds(frames: &[Value]) -> Vec<String> {
    let mut kinds: Vec<String> = frames.iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect();
    kinds.dedup();
    kinds
}

/// What frames of a kind say together.
fn said(frames: &[Value], kind: &str) -> String {
    frames.iter().filter(|frame| frame["type"] == kind).filter_map(|frame| frame["data"].as_str()).collect()
}
