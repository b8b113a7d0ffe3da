//! A server that speaks Qdrant's own gRPC protocol, for tests where no Qdrant server can be had.
//!
//! The services are those that Qdrant's client generates from Qdrant's protocol; they answer the calls that the store
//! makes, and refuse all others. Behind them is an [`Engine`]: in [`QdrantServer`] a small one of ours that compares every
//! vector, so that it tests our reading of the protocol; in the program of `bench/qdrant-edge-server` the real one. The same
//! tests run against any server that `QDRANT_URL` names.

mod conditions;
mod engine;
mod service;
mod small;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer as RootServer;
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use tonic::service::Interceptor;
use tonic::transport::Server;

pub use engine::{Engine, Listed};
/// Qdrant's messages, for engines.
pub use qdrant_client::qdrant as wire;
/// What a call that failed is answered with.
pub use tonic::Status;

use service::Service;
use small::SmallEngine;

/// How often a port that is still taken is tried again, 10 ms apart.
const MAX_BINDINGS: usize = 500;

/// A running server. It ends with the value.
#[derive(Debug)]
pub struct QdrantServer {
    engine: Arc<SmallEngine>,
    key: Option<String>,
    address: SocketAddr,
    /// A runtime of its own: when it goes, every connection breaks in the middle of what it does.
    running: Mutex<Option<Runtime>>,
}

impl QdrantServer {
    /// Starts an empty server on a free port of the loopback address; with a key, calls without it are refused.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(key: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port of the loopback address");
        let address = listener.local_addr().expect("a bound listener has an address");
        let server = Self { engine: Arc::default(), key: key.map(str::to_owned), address, running: Mutex::new(None) };
        server.serve(listener);
        server
    }

    /// The address, as settings name it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has the server tell another version.
    pub fn tell_version(&self, version: &str) {
        *self.engine.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
    }

    /// Ends the server without warning: connections break, what was acknowledged is kept.
    pub fn stop(&self) {
        if let Some(runtime) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }

    /// Starts the server again after [`QdrantServer::stop`], with its data and on its port.
    ///
    /// # Panics
    /// When the port does not become free.
    pub fn start_again(&self) {
        self.stop();
        for _ in 0..MAX_BINDINGS {
            if let Ok(listener) = TcpListener::bind(self.address) {
                return self.serve(listener);
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the port of {} did not become free", self.address);
    }

    fn serve(&self, listener: TcpListener) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let engine: Arc<dyn Engine> = self.engine.clone();
        let key = self.key.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener in a runtime");
            let served = serve(engine, key, listener, std::future::pending()).await;
            served.expect("the test's server runs until it is stopped");
        });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    }
}

impl Drop for QdrantServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Serves an engine at a listener until `end` is there, and then what has begun; with a key, calls without it are refused.
/// Wants a runtime of several threads.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    engine: Arc<dyn Engine>,
    key: Option<String>,
    listener: tokio::net::TcpListener,
    end: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let incoming = futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let (service, key) = (Service::new(engine), Key(key));
    let points = PointsServer::new(service.clone()).max_decoding_message_size(1 << 30);
    Server::builder()
        .add_service(tonic::service::interceptor::InterceptedService::new(points, key.clone()))
        .add_service(CollectionsServer::with_interceptor(service.clone(), key.clone()))
        .add_service(RootServer::with_interceptor(service, key))
        .serve_with_incoming_shutdown(incoming, end)
        .await
}

/// The answer to what an engine or the services do not know.
pub fn unknown(what: &str) -> Status {
    Status::unimplemented(format!("the test's server does not know {what}"))
}

/// Refuses calls without the key.
#[derive(Clone)]
struct Key(Option<String>);

impl Interceptor for Key {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(key) = &self.0 else { return Ok(request) };
        match request.metadata().get("api-key").map(|given| given.as_bytes() == key.as_bytes()) {
            Some(true) => Ok(request),
            Some(false) => Err(Status::permission_denied("Invalid API key or JWT")),
            None => Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token")),
        }
    }
}
