//! A server on a free port of loopback, over stores in memory unless its settings say otherwise.

use std::net::SocketAddr;

use mos::config::Setting;
use mos::product::{App, ProductOptions};
use mos::{Mos, Settings};
use mos_server::{AuthMode, Server, ServerOptions, ServerState};
use mos_testkit::embedder::WordEmbedder;
use mos_testkit::model_server::ModelServer;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs until it is stopped.
pub(crate) struct House {
    pub(crate) app: App,
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl House {
    pub(crate) async fn open(options: ServerOptions) -> Self {
        Self::with_settings(options, json!({})).await
    }

    /// A server whose settings say more.
    pub(crate) async fn with_settings(options: ServerOptions, more: Value) -> Self {
        Self::furnished(options, more, ProductOptions::default(), true).await
    }

    /// A server whose settings say more, with these options of the product API; a scheduler that they ask for handles messages
    /// when it starts.
    pub(crate) async fn furnished(
        options: ServerOptions,
        more: Value,
        product: ProductOptions,
        starts_scheduler: bool,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = json!({"store": {"backend": "memory", "config": {}}});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let settings = Settings::from_json(&settings).unwrap();
        let builder = Mos::builder(settings).data_dir(folder.path()).start_scheduler(starts_scheduler);
        let mos = builder.embedder(std::sync::Arc::new(WordEmbedder::new("words", 64))).build().await.unwrap();
        let app = App::new(mos, product);
        let options = ServerOptions { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..options };
        let server = Server::bind(ServerState::new(app.clone(), options)).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async move {
            stopped.await.ok();
        }));
        Self { app, url, stop: Some(stop), serving, _folder: folder }
    }

    /// Tells the server to stop, and does not wait for it.
    pub(crate) fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn close(mut self) {
        self.tell_to_stop();
        self.serving.await.unwrap().unwrap();
    }
}

/// Settings of a chat model that a scripted server answers for.
pub(crate) fn scripted_model(server: &ModelServer) -> Value {
    json!({"chat_model": {"backend": "openai", "config": {
        "model_name_or_path": "scripted", "api_key": "sk-test", "api_base": server.openai_url(), "max_retries": 0,
        "remove_think_prefix": false}}})
}

/// A server that everybody may call, as often as they like.
pub(crate) fn open_to_all() -> ServerOptions {
    ServerOptions { auth: AuthMode::Open, rate_limit: None, ..ServerOptions::default() }
}
