//! Whatever is written, the store on the server and the one in memory answer alike.

use std::sync::Arc;

use mos_core::{EmbeddingSpace, RecordStore, Scope, WriteBatch};
use mos_stores::{InMemoryStore, Neo4jStore};
use mos_testkit::clock::SetClock;
use proptest::prelude::*;

use super::server::Neo4jServer;
use crate::equality::{Step, observed, outcome, steps};

async fn run(server: &Neo4jServer, steps: Vec<Step>) {
    let clock = || Arc::new(SetClock::default());
    let neo4j = Neo4jStore::open(server.fresh_options(), clock()).await.unwrap();
    let stores: [Arc<dyn RecordStore>; 2] = [neo4j, InMemoryStore::new(clock())];
    // One cube only: changes are numbered per cube here, and through all cubes in memory.
    let scope = Scope { cube: "1".into() };
    for step in of_one_space_aside(steps) {
        let mut outcomes = Vec::new();
        for store in &stores {
            outcomes.push(match &step {
                Step::Apply(_, batch) => outcome(store.apply(&scope, WriteBatch::clone(batch)).await),
                Step::Adopt(_, space) => outcome(store.adopt_space(&scope, space).await),
            });
        }
        assert_eq!(outcomes[0], outcomes[1], "{step:?}");
    }
    for (ours, expected) in observed(&stores[0], &scope).await.into_iter().zip(observed(&stores[1], &scope).await) {
        assert_eq!(ours, expected);
    }
}

/// Leaves out what is written aside for another space than the first: on the server a memory has room for one vector aside, and
/// a later one takes its place; in memory there is room for one of each space.
fn of_one_space_aside(mut steps: Vec<Step>) -> Vec<Step> {
    let mut first: Option<EmbeddingSpace> = None;
    steps.retain(|step| {
        let Step::Apply(_, batch) = step else { return true };
        let Some(embeddings) = &batch.embeddings else { return true };
        !embeddings.aside || *first.get_or_insert_with(|| embeddings.space.clone()) == embeddings.space
    });
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neo4j_answers_as_memory_does(steps in steps()) {
        if let Some(server) = Neo4jServer::given() {
            tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(&server, steps));
        }
    }
}
