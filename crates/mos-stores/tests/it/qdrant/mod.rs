//! Vectors on a Qdrant server: the one that `QDRANT_URL` names, else one of the tests' own that speaks its protocol. Where the
//! server goes away, it is one of the tests' own.

mod fault;
mod filters;
mod follow;
mod reconcile;
mod server;
mod trouble;

use std::sync::Arc;

use mos_core::{RecordStore, VectorStore};
use mos_stores::InMemoryStore;
use mos_testkit::clock::SetClock;
use mos_testkit::contracts;

use server::{TestQdrant, sqlite};

#[tokio::test(flavor = "multi_thread")]
async fn qdrant_over_sqlite_keeps_the_vectors_contract() {
    let (server, folder) = (TestQdrant::new(), tempfile::tempdir().unwrap());
    let make = async || {
        let record: Arc<dyn RecordStore> = sqlite(&folder);
        let index: Arc<dyn VectorStore> = server.fresh(&record);
        (record, index)
    };
    contracts::vectors::run(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qdrant_over_memory_keeps_the_vectors_contract() {
    let server = TestQdrant::new();
    let make = async || {
        let record: Arc<dyn RecordStore> = InMemoryStore::new(Arc::new(SetClock::default()));
        let index: Arc<dyn VectorStore> = server.fresh(&record);
        (record, index)
    };
    contracts::vectors::run(make).await;
}
