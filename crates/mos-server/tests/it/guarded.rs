//! A server with keys, over a database in a folder, with a clock that tests set.

use std::net::SocketAddr;
use std::sync::Arc;

use mos::config::Setting;
use mos::keys::NewKey;
use mos::product::{App, ProductOptions};
use mos::{Mos, Settings};
use mos_core::KeyHash;
use mos_server::{Server, ServerOptions, ServerState, first_key};
use mos_testkit::clock::SetClock;
use mos_testkit::embedder::WordEmbedder;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that asks for keys.
pub(crate) struct Guarded {
    pub(crate) app: App,
    pub(crate) url: String,
    pub(crate) clock: Arc<SetClock>,
    /// The key that was made at the first start.
    pub(crate) root: String,
    pub(crate) folder: TempDir,
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

/// Options under which nobody is told to slow down.
pub(crate) fn options() -> ServerOptions {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    ServerOptions { listen, rate_limit: None, ..ServerOptions::default() }
}

impl Guarded {
    pub(crate) async fn open() -> Self {
        Self::over(tempfile::tempdir().unwrap(), options(), None).await
    }

    /// A server over the data in a folder; `master` is the hash of a key that is not in the store.
    pub(crate) async fn over(folder: TempDir, options: ServerOptions, master: Option<KeyHash>) -> Self {
        Self::with_settings(folder, options, master, json!({})).await
    }

    /// As [`Guarded::over`], with settings that say more.
    pub(crate) async fn with_settings(
        folder: TempDir,
        options: ServerOptions,
        master: Option<KeyHash>,
        more: Value,
    ) -> Self {
        let clock = Arc::new(SetClock::default());
        let mut settings = json!({"models_dir": folder.path().join("models")});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let settings = Settings::from_json(&settings).unwrap();
        let builder = Mos::builder(settings).data_dir(folder.path()).clock(Arc::clone(&clock) as _);
        let mos = builder.embedder(Arc::new(WordEmbedder::new("words", 64))).build().await.unwrap();
        let app = App::new(mos, ProductOptions::default());
        let state = ServerState::with_master_key(app.clone(), options, master);
        let root = first_key(&state).await.unwrap().unwrap_or_default();
        let server = Server::bind(state).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async move {
            stopped.await.ok();
        }));
        Self { app, url, clock, root, folder, client: Client::new(), stop, serving }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Returns status and body of a request with this key.
    pub(crate) async fn ask(&self, method: Method, path: &str, key: &str, body: Value) -> (u16, Value) {
        let mut request = self.request(method, path).header("Authorization", key);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> (u16, Value) {
        self.ask(Method::GET, path, key, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, path, key, body).await
    }

    /// Makes a key past the server and returns its text.
    pub(crate) async fn key(&self, new: NewKey) -> String {
        self.app.mos().create_key(new).await.unwrap().text.expose().to_owned()
    }

    /// Stops the server and returns its folder.
    pub(crate) async fn close(self) -> TempDir {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
        self.folder
    }
}

/// Every file of a folder and of those in it, as bytes.
pub(crate) fn bytes_below(folder: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(bytes_below(&path));
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

/// Whether bytes hold a text.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
