//! Calls to the server, each with an end, and their repetition: every call made here does the same twice as once.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use mos_core::StoreError;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status};

use super::fault::{BACKEND, Fault, fault, may_pass, unavailable};
use super::options::QdrantOptions;

/// Waits before a call is repeated. There are as many repetitions as waits.
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(80), Duration::from_millis(320), Duration::from_millis(640)];
/// The longest answer that is read: the payloads of the largest page.
const MAX_ANSWER: usize = 1 << 30;
/// How often an idle connection is tried, so that a dead one is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A channel whose calls name the key.
pub(super) type Keyed = InterceptedService<Channel, Key>;

pub(super) type Points = PointsClient<Keyed>;
pub(super) type Collections = CollectionsClient<Keyed>;
pub(super) type Root = QdrantClient<Keyed>;

/// Adds the server's key to every call.
#[derive(Clone)]
pub(super) struct Key(Option<MetadataValue<Ascii>>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

/// The connection to one server. It is made at the first call, and again when it was lost.
pub(super) struct Connection {
    points: Points,
    collections: Collections,
    root: Root,
    address: String,
    answer_timeout: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    /// Prepares the connection, within a Tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for options that cannot be right.
    pub(super) fn new(options: &QdrantOptions) -> Result<Self, StoreError> {
        let address = options.check()?;
        // An error means that a provider of cryptography is installed already, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable = |error: &dyn fmt::Display| {
            StoreError::Invalid(format!("the address of the Qdrant server {} cannot be used: {error}", address.shown))
        };
        let mut endpoint = Endpoint::from_shared(address.url.clone())
            .map_err(|error| unusable(&error))?
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(options.connect_timeout)
            .tcp_nodelay(true);
        if address.has_tls {
            let mut tls = ClientTlsConfig::new();
            tls = match &options.ca_certificate {
                None => tls.with_native_roots(),
                Some(path) => {
                    let pem = std::fs::read(path).map_err(|error| {
                        StoreError::Invalid(format!("the certificate {} cannot be read: {error}", path.display()))
                    })?;
                    tls.ca_certificate(Certificate::from_pem(pem))
                }
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| unusable(&error))?;
        }
        let key = options.api_key.as_deref().map(|key| {
            let mut value = MetadataValue::try_from(key)
                .map_err(|_| StoreError::Invalid("the key of the Qdrant server cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, StoreError>(value)
        });
        let key = Key(key.transpose()?);
        let keyed = InterceptedService::new(endpoint.connect_lazy(), key);
        Ok(Self {
            points: PointsClient::new(keyed.clone()).max_decoding_message_size(MAX_ANSWER),
            collections: CollectionsClient::new(keyed.clone()),
            root: QdrantClient::new(keyed),
            address: address.shown,
            answer_timeout: options.answer_timeout,
        })
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Makes a call about points.
    pub(super) async fn points<T, F>(&self, call: impl Fn(Points) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.repeated(|| call(self.points.clone())).await
    }

    /// Makes a call about collections.
    pub(super) async fn collections<T, F>(&self, call: impl Fn(Collections) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.repeated(|| call(self.collections.clone())).await
    }

    /// Makes a call about the server.
    pub(super) async fn root<T, F>(&self, call: impl Fn(Root) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.repeated(|| call(self.root.clone())).await
    }

    async fn repeated<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut waits = BACKOFF.iter();
        loop {
            let status = match timeout(self.answer_timeout, attempt()).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => {
                    return Err(Fault::Store(unavailable(format!(
                        "the server at {} did not answer in time; check its load and the network",
                        self.address
                    ))));
                }
            };
            match waits.next().filter(|_| may_pass(&status)) {
                Some(wait) => {
                    tracing::debug!(backend = BACKEND, address = self.address, code = ?status.code(), ?wait, "repeating");
                    sleep(*wait).await;
                }
                None => return Err(fault(&status, &self.address)),
            }
        }
    }
}
