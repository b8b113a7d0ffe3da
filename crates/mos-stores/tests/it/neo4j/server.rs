//! The Neo4j server that the environment names, and a part of it that is a test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mos_core::{Scope, SystemClock};
use mos_stores::{Neo4jOptions, Neo4jStore};
use mos_testkit::services;
use neo4rs::{Graph, Query};

static N_MADE: AtomicU64 = AtomicU64::new(0);

/// Cubes whose names begin so that no other test has them. What they hold goes with the value.
#[derive(Debug)]
pub(super) struct Neo4jServer {
    pub(super) uri: String,
    pub(super) user: String,
    pub(super) password: String,
    prefix: String,
    n_stores: AtomicU64,
}

impl Neo4jServer {
    /// Returns a part of the server; `None` where the environment names none.
    pub(super) fn given() -> Option<Self> {
        let [uri, user, password] = ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"].map(services::address);
        let (uri, user, password) = (uri?, user?, password?);
        let prefix = format!("mos-test-{}-{}/", std::process::id(), N_MADE.fetch_add(1, Ordering::SeqCst));
        Some(Self { uri, user, password, prefix, n_stores: AtomicU64::new(0) })
    }

    pub(super) fn options(&self) -> Neo4jOptions {
        Neo4jOptions { tenant_prefix: self.prefix.clone(), ..Neo4jOptions::at(&self.uri, &self.user, &self.password) }
    }

    /// Returns a store over all of the test's cubes.
    pub(super) async fn store(&self) -> Arc<Neo4jStore> {
        Neo4jStore::open(self.options(), Arc::new(SystemClock)).await.unwrap()
    }

    /// Returns options for an empty store.
    pub(super) fn fresh_options(&self) -> Neo4jOptions {
        let number = self.n_stores.fetch_add(1, Ordering::SeqCst);
        Neo4jOptions { tenant_prefix: format!("{}{number}/", self.prefix), ..self.options() }
    }

    /// Returns an empty store.
    pub(super) async fn fresh_store(&self) -> Arc<Neo4jStore> {
        Neo4jStore::open(self.fresh_options(), Arc::new(SystemClock)).await.unwrap()
    }

    /// How a cube of [`Neo4jServer::store`] is called in the database.
    pub(super) fn tenant(&self, scope: &Scope) -> String {
        format!("{}{}", self.prefix, scope.cube)
    }

    pub(super) fn graph(&self) -> Graph {
        Graph::new(&self.uri, &self.user, &self.password).unwrap()
    }

    /// Runs a statement with the parameter `tenant`.
    pub(super) async fn run(&self, scope: &Scope, statement: Query) {
        self.graph().run(statement.param("tenant", self.tenant(scope))).await.unwrap();
    }

    /// Runs a statement with the parameter `tenant` that returns one value.
    pub(super) async fn value<T: serde::de::DeserializeOwned>(&self, scope: &Scope, statement: Query) -> T {
        let statement = statement.param("tenant", self.tenant(scope));
        let mut rows = self.graph().execute(statement).await.unwrap();
        rows.next().await.unwrap().unwrap().get("value").unwrap()
    }
}

impl Drop for Neo4jServer {
    fn drop(&mut self) {
        let (graph, prefix) = (self.graph(), self.prefix.clone());
        let clean = async move {
            let text =
                "MATCH (n) WHERE n.user_name STARTS WITH $prefix OR n.tenant STARTS WITH $prefix DETACH DELETE n";
            graph.run(Query::new(text.to_owned()).param("prefix", prefix)).await
        };
        let cleaning = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), clean).await })
        });
        // A test that panics already shows its own fault.
        let done = matches!(cleaning.join(), Ok(Ok(Ok(_))));
        assert!(done || std::thread::panicking(), "the test's memories could not be removed");
    }
}
