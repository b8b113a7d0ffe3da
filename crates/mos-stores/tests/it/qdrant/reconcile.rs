//! What is wrong on the server is never found, is told, and is mended.

use std::sync::Arc;

use mos_core::{Filter, MemoryId, RecordStore, VectorStore};
use mos_stores::{Drift, InMemoryStore, QdrantVectors};
use mos_testkit::clock::SetClock;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{
    Condition, DeletePoints, Filter as Wall, PointStruct, PointsSelector, RetrievedPoint, ScrollPoints, Value,
};

use super::server::{TestQdrant, assert_as_exact, embedded, memory, names, scope, space};

struct House {
    server: TestQdrant,
    record: Arc<dyn RecordStore>,
    index: Arc<QdrantVectors>,
}

/// Ten memories of cube `c`, `0` to `9`, on the server.
async fn house() -> House {
    let server = TestQdrant::new();
    let record: Arc<dyn RecordStore> = InMemoryStore::new(Arc::new(SetClock::default()));
    let memories = (0..10).map(|number| memory(&number.to_string(), "text", &[1.0, number as f32])).collect();
    record.apply(&scope("c"), embedded(&space("mini", 2), memories)).await.unwrap();
    let index = server.index(&record);
    index.catch_up(&scope("c")).await.unwrap();
    House { server, record, index }
}

fn ids(names: &[&str]) -> Vec<MemoryId> {
    names.iter().map(|name| MemoryId::new(*name)).collect()
}

fn with_id(id: &str) -> Wall {
    Wall::must([Condition::matches("memory_id", id.to_owned())])
}

impl House {
    async fn collection(&self) -> String {
        self.server.collections().await.remove(0)
    }

    async fn point(&self, id: &str) -> RetrievedPoint {
        let request = ScrollPoints {
            collection_name: self.collection().await,
            filter: Some(with_id(id)),
            with_payload: Some(true.into()),
            ..ScrollPoints::default()
        };
        self.server.points_client().scroll(request).await.unwrap().into_inner().result.remove(0)
    }

    /// Removes a point past the store.
    async fn lose(&self, id: &str) {
        let points = PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(with_id(id))) };
        let request = DeletePoints {
            collection_name: self.collection().await,
            wait: Some(true),
            points: Some(points),
            ..DeletePoints::default()
        };
        self.server.points_client().delete(request).await.unwrap();
    }

    /// Writes a point past the store: that of a memory, with another vector, and changed.
    async fn tamper(&self, id: &str, vector: &[f32], change: impl FnOnce(&mut PointStruct)) {
        let found = self.point(id).await;
        let mut point = PointStruct { id: found.id, payload: found.payload, vectors: Some(vector.to_vec().into()) };
        change(&mut point);
        self.server.put(&self.collection().await, vec![point]).await;
    }

    async fn found(&self, limit: usize) -> Vec<String> {
        let query = [1.0, 0.0];
        let found =
            self.index.nearest(&scope("c"), &space("mini", 2), &query, limit, &Filter::Everything).await.unwrap();
        names(&found).into_iter().map(str::to_owned).collect()
    }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_told_and_mended() {
    let house = house().await;
    let ours = scope("c");
    assert_eq!(house.index.reconcile(&ours, false).await.unwrap(), Drift::default());
    house.lose("3").await;
    house.tamper("4", &[1.0, -9.0], |_| ()).await;
    let vector = [1.0, 5.0];
    house.tamper("5", &vector, |point| drop(point.payload.insert("memory".to_owned(), text("other")))).await;
    house
        .tamper("6", &[1.0, 6.0], |point| {
            point.id = Some("01234567-89ab-4def-8123-456789abcdef".into());
            point.payload.insert("memory_id".to_owned(), text("nobody's"));
        })
        .await;
    let expected = Drift { missing: ids(&["3"]), stale: ids(&["4", "5"]), extra: ids(&["nobody's"]) };
    assert_eq!(house.index.reconcile(&ours, false).await.unwrap(), expected);
    assert_eq!(expected.len(), 4);
    assert_eq!(house.index.reconcile(&ours, true).await.unwrap(), expected, "what it found and mended");
    assert_eq!(house.index.reconcile(&ours, false).await.unwrap(), Drift::default());
    assert_as_exact(&house.index, &house.record, &ours, &space("mini", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_other_cubes_are_told_and_removed() {
    let house = house().await;
    let orphan = |id: &str, cube: &'static str| {
        let id = format!("01234567-89ab-4def-8123-45678900000{id}");
        move |point: &mut PointStruct| {
            point.id = Some(id.into());
            point.payload.insert("cube".to_owned(), text(cube));
        }
    };
    house.tamper("1", &[1.0, 0.0], orphan("1", "nobody's cube")).await;
    let scopes = house.index.scopes().await.unwrap();
    assert_eq!(scopes, [scope("c"), scope("nobody's cube")]);
    let drift = house.index.reconcile(&scopes[1], true).await.unwrap();
    assert_eq!(drift, Drift { extra: ids(&["1"]), ..Drift::default() });
    assert_eq!(house.index.scopes().await.unwrap(), [scope("c")]);
    assert_eq!(house.index.count(&scope("c")).await.unwrap(), 10);
}

/// What a follower writes that was held up for long, and what nobody wrote.
#[tokio::test(flavor = "multi_thread")]
async fn searches_return_what_the_record_holds() {
    let house = house().await;
    // A point of a memory that there is not.
    house
        .tamper("0", &[1.0, 0.0], |point| {
            point.id = Some("01234567-89ab-4def-8123-456789abcdef".into());
            point.payload.insert("memory_id".to_owned(), text("nobody's"));
        })
        .await;
    assert_eq!(house.found(3).await, ["0", "1", "2"]);
    assert_eq!(house.found(99).await.len(), 10);
    assert_eq!(house.index.reconcile(&scope("c"), false).await.unwrap(), Drift::default(), "it was removed");
    // The vector of a memory is another one: it is found too early, noticed, and written again.
    house.tamper("9", &[1.0, 0.0], |_| ()).await;
    assert_eq!(house.found(3).await, ["0", "1", "2"]);
    assert_eq!(house.index.reconcile(&scope("c"), false).await.unwrap(), Drift::default(), "it was mended");
}
