//! Whatever is written, the store on disk and the one in memory answer alike.

use std::sync::Arc;

use mos_core::{
    Change, Direction, Edge, EmbeddingSpace, EmbeddingWrite, Filter, MemoryId, MemoryItem, Origin, Paging, RecordStore,
    Scope, StoreError, WriteBatch,
};
use mos_stores::{ExactVectors, InMemoryStore, SqliteOptions, SqliteStore};
use mos_testkit::clock::SetClock;
use proptest::prelude::*;

const WORDS: [&str; 6] = ["dog", "dogs", "park", "足球", "running", "ann@example.com"];

/// Something a caller may ask for.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Apply(usize, Box<WriteBatch>),
    Adopt(usize, EmbeddingSpace),
}

fn id() -> impl Strategy<Value = MemoryId> {
    (0..5_u8).prop_map(|number| MemoryId::new(format!("m{number}")))
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..4).prop_map(|words| words.join(" "))
}

fn item() -> impl Strategy<Value = MemoryItem> {
    (id(), text(), proptest::option::of(0..3_i32)).prop_map(|(id, memory, confidence)| {
        let mut item = MemoryItem::new(id, memory);
        item.metadata.confidence = confidence.map(f64::from);
        item
    })
}

fn edge() -> impl Strategy<Value = Edge> {
    (id(), id(), proptest::sample::select(vec!["NEXT", "PARENT"])).prop_map(|(source, target, kind)| Edge {
        source,
        target,
        kind: kind.to_owned(),
    })
}

fn space() -> impl Strategy<Value = EmbeddingSpace> {
    // Mostly one model, so that most batches are accepted.
    prop_oneof![6 => Just(2_usize), 1 => Just(3)]
        .prop_map(|dimension| EmbeddingSpace { model: "mini".to_owned(), dimension })
}

fn embeddings() -> impl Strategy<Value = EmbeddingWrite> {
    (space(), proptest::collection::vec((id(), -2..3_i8, 0..3_i8), 0..4), proptest::bool::weighted(0.3)).prop_map(
        |(space, points, aside)| {
            let vector = |a: i8, b: i8| {
                let mut vector = vec![0.0; space.dimension];
                (vector[0], vector[1]) = (f32::from(a), f32::from(b));
                vector
            };
            let vectors = points.into_iter().map(|(id, a, b)| (id, vector(a, b))).collect();
            EmbeddingWrite { space, vectors, made_of: None, aside }
        },
    )
}

fn batch() -> impl Strategy<Value = WriteBatch> {
    let lists = (
        proptest::collection::vec(id(), 0..2),
        proptest::collection::vec(item(), 0..4),
        proptest::collection::vec(edge(), 0..2),
        proptest::collection::vec(edge(), 0..2),
    );
    let key = proptest::option::weighted(0.2, (0..3_u8).prop_map(|number| format!("key{number}")));
    // What a batch relies on is rare, so that most batches are accepted.
    let relied_on = (proptest::option::weighted(0.1, id()), proptest::option::weighted(0.1, item()));
    (lists, key, relied_on, proptest::bool::weighted(0.05), proptest::option::weighted(0.5, embeddings())).prop_map(
        |((delete, put, remove_edges, put_edges), idempotency_key, (absent, unchanged), clear, embeddings)| {
            WriteBatch {
                origin: Origin::new("ann", "test"),
                idempotency_key,
                absent: absent.into_iter().collect(),
                unchanged: unchanged.into_iter().collect(),
                clear,
                delete,
                put,
                remove_edges,
                put_edges,
                embeddings,
                jobs: Vec::new(),
            }
        },
    )
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..2_usize, batch()).prop_map(|(scope, batch)| Step::Apply(scope, Box::new(batch))),
        1 => (0..2_usize, space()).prop_map(|(scope, space)| Step::Adopt(scope, space)),
    ];
    proptest::collection::vec(step, 1..25)
}

/// The kind of an error is part of the behaviour, its words need not be.
pub(crate) fn outcome<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", std::mem::discriminant(&error)),
    }
}

/// The changes with arrivals counted from 0: a store may number them as it likes, as long as the order is right.
fn in_order_of_arrival(mut changes: Vec<Change>) -> Vec<Change> {
    let arrival_of = |change: &mut Change| match change {
        Change::Put { arrival, .. } => Some(std::mem::take(arrival)),
        Change::Deleted { .. } => None,
    };
    let mut arrivals: Vec<(u64, usize)> = Vec::new();
    for (place, change) in changes.iter_mut().enumerate() {
        arrivals.extend(arrival_of(change).map(|arrival| (arrival, place)));
    }
    arrivals.sort_unstable();
    for (rank, (_, place)) in arrivals.into_iter().enumerate() {
        if let Change::Put { arrival, .. } = &mut changes[place] {
            *arrival = rank as u64;
        }
    }
    changes
}

/// Everything that can be asked about a scope.
pub(crate) async fn observed(store: &Arc<dyn RecordStore>, scope: &Scope) -> Vec<String> {
    let everything = Filter::Everything;
    let ids: Vec<MemoryId> = (0..5).map(|number| MemoryId::new(format!("m{number}"))).collect();
    let mut seen = vec![
        outcome(store.list(scope, &everything, Paging::ALL).await),
        outcome(store.list(scope, &Filter::equals("confidence", 1), Paging { offset: 1, limit: 1 }).await),
        outcome(store.nodes(scope, &ids).await),
        outcome(store.all_edges(scope).await),
        outcome(store.export(scope, &everything, Paging { offset: 1, limit: 2 }).await),
        outcome(store.export(scope, &Filter::equals("confidence", 1), Paging::ALL).await),
        outcome(store.newest(scope, &everything, Paging { offset: 1, limit: 2 }).await),
        outcome(store.latest(scope, &Filter::equals("confidence", 1), Paging { offset: 0, limit: 2 }).await),
        outcome(store.kept_apart(scope, 2).await),
        outcome(store.count_by(scope, &["confidence".to_owned()], &everything).await),
        outcome(store.count_by(scope, &["memory_type".to_owned(), "status".to_owned()], &everything).await),
        outcome(store.newest(scope, &everything, Paging { offset: 1, limit: 2 }).await),
        outcome(store.latest(scope, &Filter::equals("status", "activated"), Paging { offset: 1, limit: 2 }).await),
        outcome(store.list(scope, &Filter::equals("status", "activated"), Paging { offset: 1, limit: 2 }).await),
        outcome(store.without_edges(scope, "NEXT", 2, &everything).await),
        outcome(store.edges(scope, &ids, Direction::Outgoing, None).await),
        outcome(store.subgraph(scope, &ids[0], 2, 3, &everything).await),
        outcome(store.path(scope, &ids[0], &ids[1], Direction::Any, 4).await),
        outcome(store.embedding_space(scope).await),
        outcome(store.embeddings(scope, &ids).await),
        outcome(store.changes(scope, 0, 1000).await.map(in_order_of_arrival)),
        outcome(store.changes(scope, 5, 3).await.map(in_order_of_arrival)),
    ];
    for id in &ids {
        seen.push(outcome(store.history(scope, id).await));
        seen.push(outcome(store.edges(scope, std::slice::from_ref(id), Direction::Any, Some("NEXT")).await));
    }
    for query in ["the dog runs", "足球 park", "ann@example.com"] {
        seen.push(outcome(store.full_text(scope, query, 3, &everything).await));
        seen.push(outcome(store.full_text(scope, query, 9, &Filter::equals("confidence", 1)).await));
    }
    for dimension in [2, 3] {
        let space = EmbeddingSpace { model: "mini".to_owned(), dimension };
        seen.push(outcome(store.without_embedding(scope, &space, 10).await));
        let index = ExactVectors::following(Arc::clone(store));
        let found = mos_core::VectorStore::nearest(&*index, scope, &space, &vec![1.0; dimension], 3, &everything).await;
        seen.push(outcome(found));
    }
    seen
}

async fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::at(folder.path().join("mos.db"));
    let sqlite = SqliteStore::open(options, Arc::new(SetClock::default())).unwrap();
    let stores: [Arc<dyn RecordStore>; 2] =
        [Arc::clone(&sqlite) as _, InMemoryStore::new(Arc::new(SetClock::default()))];
    let scopes = [Scope { cube: "1".into() }, Scope { cube: "11".into() }];
    for step in steps {
        let mut outcomes = Vec::new();
        for store in &stores {
            outcomes.push(match &step {
                Step::Apply(scope, batch) => outcome(store.apply(&scopes[*scope], WriteBatch::clone(batch)).await),
                Step::Adopt(scope, space) => outcome(store.adopt_space(&scopes[*scope], space).await),
            });
        }
        assert_eq!(outcomes[0], outcomes[1], "{step:?}");
    }
    for scope in &scopes {
        assert_eq!(observed(&stores[0], scope).await, observed(&stores[1], scope).await);
    }
    let findings = sqlite.check().await.unwrap();
    assert!(findings.iter().all(|finding| finding.what == "memories of an unknown cube"), "{findings:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_answer_alike(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
