//! Connections to the server: reads, transactions, and their repetition.
//!
//! The driver bounds neither the wait for a connection nor that for TLS, and a transaction whose caller goes away stays
//! open on the server, with its locks, until its connection is used again. Here every wait has an end, a transaction runs
//! to its end in a task of its own, and one that cannot be ended takes its connection with it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use mos_core::StoreError;
use neo4rs::{Config, ConfigBuilder, Error, Graph, Query, Txn};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::fault::{BACKEND, Fault, Stage};
use super::options::Neo4jOptions;

/// Waits before work is repeated. There are as many repetitions as waits.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(160),
    Duration::from_millis(320),
    Duration::from_millis(640),
];
/// Rows that the server sends at a time.
const FETCH_SIZE: usize = 1000;
/// How long the end of a failed transaction may take.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens inside one transaction. It may run several times, each time in a new one.
#[async_trait]
pub(super) trait Work: Send + Sync + 'static {
    /// What it returns.
    type Output: Send + 'static;

    /// Does it. The transaction is committed when this returns well, and undone otherwise.
    async fn run(&self, transaction: &mut Transaction) -> Result<Self::Output, Fault>;

    /// Whether done twice it does the same as once.
    fn is_repeatable(&self) -> bool;
}

/// The connections to one database.
pub(super) struct Connection {
    config: Config,
    graph: RwLock<Graph>,
    address: String,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    /// Prepares connections to the options' database, or to the one that is named. None is made yet.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for options that cannot be right.
    pub(super) fn new(options: &Neo4jOptions, database: Option<&str>) -> Result<Self, StoreError> {
        let address = options.check()?;
        // An error means that a provider of cryptography is installed already, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = ConfigBuilder::default()
            .uri(&options.uri)
            .user(&options.user)
            .password(&options.password)
            .fetch_size(FETCH_SIZE)
            .max_connections(options.max_connections)
            .connection_timeout(options.answer_timeout);
        if let Some(database) = database.or(options.database.as_deref()) {
            builder = builder.db(database);
        }
        if let Some(path) = &options.ca_certificate {
            builder = builder.with_client_certificate(path);
        }
        let fail = |error: Error| Fault::Driver(error).into_store_error(&address);
        let config = builder.build().map_err(fail)?;
        let graph = Graph::connect(config.clone()).map_err(fail)?;
        Ok(Self {
            config,
            graph: RwLock::new(graph),
            address,
            connect_timeout: options.connect_timeout,
            answer_timeout: options.answer_timeout,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn graph(&self) -> Graph {
        self.graph.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up every idle connection. Those in use end with their use.
    fn renew(&self) {
        match Graph::connect(self.config.clone()) {
            Ok(graph) => *self.graph.write().unwrap_or_else(PoisonError::into_inner) = graph,
            Err(error) => tracing::warn!(address = self.address, %error, "the connections could not be made anew"),
        }
    }

    /// Runs one statement that only reads and returns its rows.
    pub(super) async fn read<T: DeserializeOwned>(&self, query: Query) -> Result<Vec<T>, StoreError> {
        let attempt = || self.read_once(query.clone());
        self.repeated(attempt, true).await
    }

    async fn read_once<T: DeserializeOwned>(&self, query: Query) -> Result<Vec<T>, Fault> {
        let graph = self.graph();
        let rows = async {
            let mut stream = graph.execute_read(query).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next().await? {
                rows.push(row.to()?);
            }
            Ok(rows)
        };
        within(self.connect_timeout + self.answer_timeout, Stage::Answer, rows).await
    }

    /// Runs one statement outside of a transaction of ours, as changes of the schema must be.
    pub(super) async fn execute(&self, query: Query) -> Result<(), Fault> {
        let graph = self.graph();
        let run = async { Ok(graph.run(query).await?) };
        within(self.connect_timeout + self.answer_timeout, Stage::Answer, run).await
    }

    /// Does work in a transaction, and repeats it when what failed may pass. It runs to its end even when the caller goes
    /// away.
    pub(super) async fn transact<W: Work>(self: &Arc<Self>, work: W) -> Result<W::Output, StoreError> {
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let is_repeatable = work.is_repeatable();
            this.repeated(|| this.transact_once(&work), is_repeatable).await
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(StoreError::Unavailable { backend: BACKEND, source: error.into() }),
        }
    }

    async fn transact_once<W: Work>(&self, work: &W) -> Result<W::Output, Fault> {
        let graph = self.graph();
        let begin = async { Ok(graph.start_txn().await?) };
        let txn = within(self.connect_timeout, Stage::Connection, begin).await?;
        drop(graph);
        let mut transaction = Transaction { txn, answer_timeout: self.answer_timeout };
        match work.run(&mut transaction).await {
            Ok(output) => {
                self.commit(transaction.txn).await?;
                Ok(output)
            }
            Err(fault) => {
                self.roll_back(transaction.txn).await;
                Err(fault)
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<(), Fault> {
        match timeout(self.answer_timeout, txn.commit()).await {
            Ok(Ok(())) => Ok(()),
            // The server says that it did not happen.
            Ok(Err(error @ Error::Neo4j(_))) => Err(error.into()),
            Ok(Err(error)) => Err(Fault::Unknown(error.to_string())),
            Err(_) => Err(Fault::Unknown("no answer in time".to_owned())),
        }
    }

    /// A transaction that cannot be undone by saying so is undone by closing its connection.
    async fn roll_back(&self, txn: Txn) {
        let fault = match timeout(ROLLBACK_TIMEOUT, txn.rollback()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(address = self.address, fault, "a failed transaction is ended by closing its connection");
        self.renew();
    }

    async fn repeated<T, F>(&self, attempt: impl Fn() -> F, is_repeatable: bool) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut waits = BACKOFF.iter();
        loop {
            let fault = match attempt().await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            match waits.next().filter(|_| fault.may_pass(is_repeatable)) {
                Some(wait) => {
                    tracing::debug!(address = self.address, ?fault, ?wait, "repeating work on Neo4j");
                    sleep(*wait).await;
                }
                None => return Err(fault.into_store_error(&self.address)),
            }
        }
    }
}

/// An open transaction.
pub(super) struct Transaction {
    txn: Txn,
    answer_timeout: Duration,
}

impl Transaction {
    /// Runs a statement and returns its rows.
    pub(super) async fn rows<T: DeserializeOwned>(&mut self, query: Query) -> Result<Vec<T>, Fault> {
        let txn = &mut self.txn;
        let rows = async {
            let mut stream = txn.execute(query).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next(&mut *txn).await? {
                rows.push(row.to()?);
            }
            Ok(rows)
        };
        within(self.answer_timeout, Stage::Answer, rows).await
    }

    /// Runs a statement for what it does.
    pub(super) async fn run(&mut self, query: Query) -> Result<(), Fault> {
        let txn = &mut self.txn;
        within(self.answer_timeout, Stage::Answer, async { Ok(txn.run(query).await?) }).await
    }
}

async fn within<T>(limit: Duration, stage: Stage, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or(Err(Fault::TimedOut(stage)))
}
