//! The program, as clients of Qdrant see it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mos_testkit::qdrant_server::wire::collections_client::CollectionsClient;
use mos_testkit::qdrant_server::wire::points_client::PointsClient;
use mos_testkit::qdrant_server::wire::{self, vectors_config};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const KEY: &str = "hunter2-of-the-tests";
const COLLECTION: &str = "mos_8/of the tests";
const DIMENSION: usize = 8;
const N_PER_WRITE: u64 = 20;

type AddKey = fn(Request<()>) -> Result<Request<()>, Status>;
type Keyed = InterceptedService<Channel, AddKey>;

fn add_key(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert("api-key", KEY.parse().unwrap());
    Ok(request)
}

/// The running program. It is killed with the value.
struct Server {
    child: Child,
    channel: Channel,
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qdrant-edge-server"));
        command.arg("--folder").arg(folder).env("QDRANT_API_KEY", KEY).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let channel = Endpoint::from_shared(url.trim().to_owned()).unwrap().connect().await.unwrap();
        Self { child, channel }
    }

    fn points(&self) -> PointsClient<Keyed> {
        PointsClient::with_interceptor(self.channel.clone(), add_key as AddKey)
    }

    fn collections(&self) -> CollectionsClient<Keyed> {
        CollectionsClient::with_interceptor(self.channel.clone(), add_key as AddKey)
    }

    async fn create(&self, hnsw: wire::HnswConfigDiff, optimizers: wire::OptimizersConfigDiff) {
        let vectors = wire::VectorParams {
            size: DIMENSION as u64,
            distance: wire::Distance::Cosine as i32,
            ..wire::VectorParams::default()
        };
        let request = wire::CreateCollection {
            collection_name: COLLECTION.to_owned(),
            vectors_config: Some(wire::VectorsConfig { config: Some(vectors_config::Config::Params(vectors)) }),
            hnsw_config: Some(hnsw),
            optimizers_config: Some(optimizers),
            ..wire::CreateCollection::default()
        };
        self.collections().create(request).await.unwrap();
        let params = wire::KeywordIndexParams {
            is_tenant: Some(true),
            enable_hnsw: Some(true),
            ..wire::KeywordIndexParams::default()
        };
        let params = wire::payload_index_params::IndexParams::KeywordIndexParams(params);
        let request = wire::CreateFieldIndexCollection {
            collection_name: COLLECTION.to_owned(),
            wait: Some(true),
            field_name: "cube".to_owned(),
            field_type: Some(wire::FieldType::Keyword as i32),
            field_index_params: Some(wire::PayloadIndexParams { index_params: Some(params) }),
            ..wire::CreateFieldIndexCollection::default()
        };
        self.points().create_field_index(request).await.unwrap();
    }

    async fn info(&self) -> wire::CollectionInfo {
        let request = wire::GetCollectionInfoRequest { collection_name: COLLECTION.to_owned() };
        self.collections().get(request).await.unwrap().into_inner().result.unwrap()
    }

    async fn count(&self) -> u64 {
        let request = wire::CountPoints {
            collection_name: COLLECTION.to_owned(),
            exact: Some(true),
            ..wire::CountPoints::default()
        };
        self.points().count(request).await.unwrap().into_inner().result.unwrap().count
    }

    /// Ids of the ten points of a cube that are nearest to a vector.
    async fn nearest(&self, cube: &str, vector: Vec<f32>, is_exact: bool) -> Vec<wire::PointId> {
        let nearest =
            wire::VectorInput { variant: Some(wire::vector_input::Variant::Dense(wire::DenseVector { data: vector })) };
        let request = wire::QueryPoints {
            collection_name: COLLECTION.to_owned(),
            query: Some(wire::Query { variant: Some(wire::query::Variant::Nearest(nearest)) }),
            filter: Some(wire::Filter::must([wire::Condition::matches("cube", cube.to_owned())])),
            params: Some(wire::SearchParams { exact: Some(is_exact), ..wire::SearchParams::default() }),
            limit: Some(10),
            ..wire::QueryPoints::default()
        };
        let found = self.points().query(request).await.unwrap().into_inner().result;
        found.into_iter().filter_map(|point| point.id).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Numbers that look like chance and are always the same.
fn vector(number: u64) -> Vec<f32> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..DIMENSION).map(|_| next()).collect()
}

fn point(number: u64, version: i64) -> wire::PointStruct {
    let dense = wire::DenseVector { data: vector(number) };
    let vector = wire::Vector { vector: Some(wire::vector::Vector::Dense(dense)), ..wire::Vector::default() };
    let cube = wire::Value::from(format!("cube-{}", number % 2));
    wire::PointStruct {
        id: Some(wire::PointId::from(number)),
        payload: [("cube".to_owned(), cube), ("version".to_owned(), wire::Value::from(version))].into(),
        vectors: Some(wire::Vectors { vectors_options: Some(wire::vectors::VectorsOptions::Vector(vector)) }),
    }
}

fn upsert(points: Vec<wire::PointStruct>) -> wire::UpsertPoints {
    wire::UpsertPoints {
        collection_name: COLLECTION.to_owned(),
        wait: Some(true),
        points,
        ..wire::UpsertPoints::default()
    }
}

fn delete(ids: Vec<wire::PointId>) -> wire::DeletePoints {
    let ids = wire::PointsIdsList { ids };
    let points = wire::PointsSelector {
        points_selector_one_of: Some(wire::points_selector::PointsSelectorOneOf::Points(ids)),
    };
    wire::DeletePoints {
        collection_name: COLLECTION.to_owned(),
        wait: Some(true),
        points: Some(points),
        ..wire::DeletePoints::default()
    }
}

/// Writes batch after batch, each over half of the one before, and removes the first point of each, until the server is
/// gone. `n_written` is how many rounds were acknowledged.
async fn write_until_killed(mut client: PointsClient<Keyed>, n_written: Arc<AtomicU64>) {
    for round in 0.. {
        let first = round * N_PER_WRITE / 2;
        let points = (first..first + N_PER_WRITE).map(|number| point(number, round as i64)).collect();
        if client.upsert(upsert(points)).await.is_err() {
            return;
        }
        if client.delete(delete(vec![wire::PointId::from(first)])).await.is_err() {
            return;
        }
        n_written.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    server.create(wire::HnswConfigDiff::default(), wire::OptimizersConfigDiff::default()).await;
    let n_written = Arc::new(AtomicU64::new(0));
    let writing = tokio::spawn(write_until_killed(server.points(), Arc::clone(&n_written)));
    while n_written.load(Ordering::SeqCst) < 25 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // SIGKILL, in the middle of a write.
    drop(server);
    writing.await.unwrap();
    let n_rounds = n_written.load(Ordering::SeqCst);

    let server = Server::start(folder.path()).await;
    assert!(server.info().await.payload_schema.contains_key("cube"));
    // What a round that was not acknowledged may have touched begins here.
    let certain = n_rounds * N_PER_WRITE / 2;
    let request = wire::GetPoints {
        collection_name: COLLECTION.to_owned(),
        ids: (0..certain).map(wire::PointId::from).collect(),
        with_payload: Some(true.into()),
        with_vectors: Some(true.into()),
        ..wire::GetPoints::default()
    };
    let found = server.points().get(request).await.unwrap().into_inner().result;
    let found: std::collections::HashMap<u64, wire::RetrievedPoint> =
        found.into_iter().map(|point| (number_of(point.id.as_ref().unwrap()), point)).collect();
    for number in 0..certain {
        let round = number / (N_PER_WRITE / 2);
        // The first point of each round is gone after it.
        let is_gone = number % (N_PER_WRITE / 2) == 0;
        assert_eq!(found.contains_key(&number), !is_gone, "point {number} of {certain}");
        if let Some(point) = found.get(&number) {
            assert_eq!(point.payload["version"], wire::Value::from(round as i64), "point {number}");
            assert!(point.vectors.is_some(), "point {number}");
        }
    }
    // It goes on being written.
    let before = server.count().await;
    server.points().upsert(upsert(vec![point(1_000_000, 0)])).await.unwrap();
    assert_eq!(server.count().await, before + 1);
}

fn number_of(id: &wire::PointId) -> u64 {
    match id.point_id_options {
        Some(wire::point_id::PointIdOptions::Num(number)) => number,
        _ => panic!("{id:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_and_its_collections_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path()).await;
    server.create(wire::HnswConfigDiff::default(), wire::OptimizersConfigDiff::default()).await;
    server.points().upsert(upsert((0..5).map(|number| point(number, 0)).collect())).await.unwrap();
    let status = Command::new("sh").args(["-c", r#"kill -s TERM "$0""#, &server.child.id().to_string()]).status();
    assert!(status.unwrap().success());
    assert!(server.child.wait().unwrap().success());

    let server = Server::start(folder.path()).await;
    assert_eq!(server.count().await, 5);
    let collection_name = COLLECTION.to_owned();
    let request = wire::DeleteCollection { collection_name, ..wire::DeleteCollection::default() };
    assert!(server.collections().delete(request).await.unwrap().into_inner().result);
    let gone = server.points().upsert(upsert(vec![point(1, 0)])).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    drop(server);

    let server = Server::start(folder.path()).await;
    let listed = server.collections().list(wire::ListCollectionsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.collections, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let mut client = CollectionsClient::new(server.channel.clone());
    let refused = client.list(wire::ListCollectionsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_length_are_refused_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    server.create(wire::HnswConfigDiff::default(), wire::OptimizersConfigDiff::default()).await;
    let mut short = point(2, 0);
    let vector = wire::Vector {
        vector: Some(wire::vector::Vector::Dense(wire::DenseVector { data: vec![1.0] })),
        ..wire::Vector::default()
    };
    short.vectors = Some(wire::Vectors { vectors_options: Some(wire::vectors::VectorsOptions::Vector(vector)) });
    let refused = server.points().upsert(upsert(vec![point(1, 0), short])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(server.count().await, 0);
}

/// With thresholds that a test can pass, most vectors are found through the graph.
#[tokio::test(flavor = "multi_thread")]
async fn the_graph_finds_nearly_all() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let hnsw = wire::HnswConfigDiff {
        m: Some(16),
        payload_m: Some(16),
        full_scan_threshold: Some(10),
        ..wire::HnswConfigDiff::default()
    };
    let indexing_threshold = Some(10);
    let optimizers = wire::OptimizersConfigDiff { indexing_threshold, ..wire::OptimizersConfigDiff::default() };
    server.create(hnsw, optimizers).await;
    for first in (0..4000).step_by(500) {
        let points = (first..first + 500).map(|number| point(number, 0)).collect();
        server.points().upsert(upsert(points)).await.unwrap();
    }
    assert_eq!(server.count().await, 4000);
    let n_indexed = server.info().await.indexed_vectors_count.unwrap();
    assert!(n_indexed >= 1000, "{n_indexed} are in the graph");
    let mut n_right = 0;
    for number in 0..20 {
        let query = vector(1_000_000 + number);
        let right = server.nearest("cube-1", query.clone(), true).await;
        let found = server.nearest("cube-1", query, false).await;
        assert_eq!((right.len(), found.len()), (10, 10));
        n_right += found.iter().filter(|id| right.contains(id)).count();
    }
    assert!(n_right >= 180, "{n_right} of 200");
}
