//! The Qdrant server of a test, and a part of it that is the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mos_core::{
    EmbeddingSpace, EmbeddingWrite, Filter, MemoryId, MemoryItem, Origin, RecordStore, Scope, Scored, VectorStore,
    WriteBatch,
};
use mos_stores::{ExactVectors, QdrantOptions, QdrantVectors, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use mos_testkit::qdrant_server::QdrantServer;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::{DeleteCollection, ListCollectionsRequest, PointStruct, UpsertPoints};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The key of the tests' own servers.
pub(super) const KEY: &str = "hunter2-of-the-tests";

static N_MADE: AtomicU64 = AtomicU64::new(0);

type Keyed = InterceptedService<Channel, Box<dyn Fn(Request<()>) -> Result<Request<()>, Status> + Send + Sync>>;

/// A server with collections whose names begin so that no other test has them. They go with the value.
#[derive(Debug)]
pub(super) struct TestQdrant {
    /// Absent where the environment names a server.
    pub(super) own: Option<QdrantServer>,
    url: String,
    key: Option<String>,
    prefix: String,
    n_prefixes: AtomicU64,
}

impl TestQdrant {
    pub(super) fn new() -> Self {
        let given = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        match given("QDRANT_URL") {
            Some(url) => Self::at(None, url, given("QDRANT_API_KEY")),
            None => Self::own(),
        }
    }

    /// One of the tests' own whatever the environment names: it can be stopped and started.
    pub(super) fn own() -> Self {
        let own = QdrantServer::start(Some(KEY));
        let url = own.url();
        Self::at(Some(own), url, Some(KEY.to_owned()))
    }

    fn at(own: Option<QdrantServer>, url: String, key: Option<String>) -> Self {
        let prefix = format!("mos-test-{}-{}", std::process::id(), N_MADE.fetch_add(1, Ordering::SeqCst));
        Self { own, url, key, prefix, n_prefixes: AtomicU64::new(0) }
    }

    /// Options for the test's collections.
    pub(super) fn options(&self) -> QdrantOptions {
        QdrantOptions { api_key: self.key.clone(), prefix: self.prefix.clone(), ..QdrantOptions::at(&self.url) }
    }

    /// Returns an index over the test's collections.
    pub(super) fn index(&self, record: &Arc<dyn RecordStore>) -> Arc<QdrantVectors> {
        QdrantVectors::following(Arc::clone(record), &self.options()).unwrap()
    }

    /// Returns an index over no collections yet.
    pub(super) fn fresh(&self, record: &Arc<dyn RecordStore>) -> Arc<QdrantVectors> {
        let number = self.n_prefixes.fetch_add(1, Ordering::SeqCst);
        let options = QdrantOptions { prefix: format!("{}-{number}", self.prefix), ..self.options() };
        QdrantVectors::following(Arc::clone(record), &options).unwrap()
    }

    fn channel(&self) -> Keyed {
        let key: Option<MetadataValue<Ascii>> = self.key.as_deref().map(|key| key.parse().unwrap());
        let add_key = move |mut request: Request<()>| {
            if let Some(key) = &key {
                request.metadata_mut().insert("api-key", key.clone());
            }
            Ok(request)
        };
        let url = self.options().url;
        InterceptedService::new(Endpoint::from_shared(url).unwrap().connect_lazy(), Box::new(add_key))
    }

    /// Names of the test's collections.
    pub(super) async fn collections(&self) -> Vec<String> {
        let listed = CollectionsClient::new(self.channel()).list(ListCollectionsRequest {}).await.unwrap();
        let names = listed.into_inner().collections.into_iter().map(|collection| collection.name);
        names.filter(|name| name.starts_with(&self.prefix)).collect()
    }

    /// Removes the test's collections, as somebody would who empties the server.
    pub(super) async fn empty(&self) {
        for collection_name in self.collections().await {
            let request = DeleteCollection { collection_name, ..DeleteCollection::default() };
            CollectionsClient::new(self.channel()).delete(request).await.unwrap();
        }
    }

    pub(super) fn collections_client(&self) -> CollectionsClient<Keyed> {
        CollectionsClient::new(self.channel())
    }

    pub(super) fn points_client(&self) -> PointsClient<Keyed> {
        PointsClient::new(self.channel())
    }

    /// Writes points past the store.
    pub(super) async fn put(&self, collection_name: &str, points: Vec<PointStruct>) {
        let collection_name = collection_name.to_owned();
        let request = UpsertPoints { collection_name, wait: Some(true), points, ..UpsertPoints::default() };
        self.points_client().upsert(request).await.unwrap();
    }
}

impl Drop for TestQdrant {
    fn drop(&mut self) {
        if self.own.is_some() {
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.empty());
            });
        });
    }
}

/// Returns an empty record, in a folder that goes with the test.
pub(super) fn sqlite(folder: &tempfile::TempDir) -> Arc<SqliteStore> {
    let n_before = std::fs::read_dir(folder.path()).unwrap().count();
    let path = folder.path().join(format!("{n_before}/mos.db"));
    SqliteStore::open(SqliteOptions::at(path), Arc::new(SetClock::default())).unwrap()
}

pub(super) fn scope(cube: &str) -> Scope {
    Scope { cube: cube.into() }
}

pub(super) fn space(model: &str, dimension: usize) -> EmbeddingSpace {
    EmbeddingSpace { model: model.to_owned(), dimension }
}

pub(super) fn batch() -> WriteBatch {
    WriteBatch::new(Origin::new("ann", "test"))
}

pub(super) fn deletes(ids: &[&str]) -> WriteBatch {
    WriteBatch { delete: ids.iter().map(|id| MemoryId::new(*id)).collect(), ..batch() }
}

/// Memories with their vectors.
pub(super) fn embedded(space: &EmbeddingSpace, memories: Vec<(MemoryItem, Vec<f32>)>) -> WriteBatch {
    let vectors = memories.iter().map(|(item, vector)| (item.id.clone(), vector.clone())).collect();
    let embeddings = Some(EmbeddingWrite { space: space.clone(), vectors, made_of: None, aside: false });
    WriteBatch { put: memories.into_iter().map(|(item, _)| item).collect(), embeddings, ..batch() }
}

/// A memory and its vector.
pub(super) fn memory(id: &str, text: &str, vector: &[f32]) -> (MemoryItem, Vec<f32>) {
    (MemoryItem::new(MemoryId::new(id), text), vector.to_vec())
}

pub(super) fn names(found: &[Scored]) -> Vec<&str> {
    found.iter().map(|one| one.id.as_str()).collect()
}

/// Asserts that the index finds what the exact one finds, with the same scores, in many directions.
pub(super) async fn assert_as_exact(
    index: &QdrantVectors,
    record: &Arc<dyn RecordStore>,
    scope: &Scope,
    space: &EmbeddingSpace,
) {
    let exact = ExactVectors::following(Arc::clone(record));
    for direction in 0..2 * space.dimension {
        let mut query = vec![0.1; space.dimension];
        query[direction / 2] = if direction % 2 == 0 { 1.0 } else { -1.0 };
        for limit in [1, 10, 5000] {
            let expected = exact.nearest(scope, space, &query, limit, &Filter::Everything).await.unwrap();
            let found = index.nearest(scope, space, &query, limit, &Filter::Everything).await.unwrap();
            assert_eq!(found, expected, "{limit} in direction {direction}");
        }
    }
}
