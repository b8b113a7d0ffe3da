//! The server, schemas of tests, and a record that can be made to fail.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mos_core::{Cube, CubeId, RecordStore, Scope, ScopeLifecycle, StoreError, UserId};
use mos_stores::{InMemoryStore, PostgresOptions, PostgresServer, PostgresUsers};
use mos_testkit::clock::SetClock;
use mos_testkit::services;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// A schema of a test's own.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) url: String,
    pub(super) name: String,
}

impl Schema {
    /// Returns an empty schema, `None` where there is no server.
    pub(super) async fn new() -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let url = services::address("DATABASE_URL")?;
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let schema = Self { url, name: format!("mos_test_{}_{number}", std::process::id()) };
        schema.run(&format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", schema.name)).await;
        Some(schema)
    }

    /// The address, with parameters after it. The name of the schema is the name of the program, so that its connections
    /// can be found.
    pub(super) fn address(&self, parameters: &str) -> String {
        let begin = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{begin}application_name={}{parameters}", self.url, self.name)
    }

    pub(super) fn options(&self) -> PostgresOptions {
        let server = PostgresServer::Url(self.address(""));
        PostgresOptions { schema: Some(self.name.clone()), ..PostgresOptions::new(server) }
    }

    pub(super) async fn open(&self, record: Arc<dyn ScopeLifecycle>) -> Result<Arc<PostgresUsers>, StoreError> {
        PostgresUsers::open(self.options(), record, Arc::new(SetClock::default())).await
    }

    /// A connection of the test's own.
    pub(super) async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query("SELECT set_config('search_path', $1, false)")
            .bind(&self.name)
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }

    /// Runs statements past the store.
    pub(super) async fn run(&self, statements: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Asks past the store.
    pub(super) async fn number(&self, question: &str) -> i64 {
        let mut connection = self.connect().await;
        let number = sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        number
    }

    /// Ends every connection of the store, as an administrator can, waits until they are gone, and returns how many there
    /// were.
    pub(super) async fn cut_connections(&self) -> i64 {
        self.number(&format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = '{}'",
            self.name
        ))
        .await
    }

    /// Removes the schema, so that a server that is used for long does not fill up.
    pub(super) async fn drop(self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

type Errand = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;
type Before = Arc<dyn Fn(&'static str) -> Errand + Send + Sync>;

/// A record that does something else before it does what it is asked; what that returns is returned.
pub(super) struct Interrupted {
    pub(super) record: Arc<InMemoryStore>,
    before: Mutex<Option<Before>>,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupted").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Interrupted {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { record: InMemoryStore::new(Arc::new(SetClock::default())), before: Mutex::new(None) })
    }

    /// Sets what comes first; it is told which call it interrupts.
    pub(super) fn before<F>(&self, errand: impl Fn(&'static str) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        *self.before.lock().unwrap() = Some(Arc::new(move |call| Box::pin(errand(call))));
    }

    /// From now on it does what it is asked.
    pub(super) fn undisturbed(&self) {
        *self.before.lock().unwrap() = None;
    }

    async fn interrupt(&self, call: &'static str) -> Result<(), StoreError> {
        let before = self.before.lock().unwrap().clone();
        match before {
            Some(before) => before(call).await,
            None => Ok(()),
        }
    }

    pub(super) async fn count(&self, cube: &str) -> usize {
        use mos_core::GraphStore;
        self.record.count(&Scope { cube: cube.into() }, &mos_core::Filter::Everything).await.unwrap()
    }

    pub(super) async fn write(&self, cube: &str) -> Result<(), StoreError> {
        let put = vec![mos_core::MemoryItem::new("a".into(), "text")];
        let batch = mos_core::WriteBatch { put, ..mos_core::WriteBatch::default() };
        self.record.apply(&Scope { cube: cube.into() }, batch).await.map(drop)
    }
}

#[async_trait]
impl ScopeLifecycle for Interrupted {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        self.record.generation(scope).await
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.interrupt("open").await?;
        self.record.open_scope(scope, generation).await
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.interrupt("close").await?;
        self.record.close_scope(scope, generation).await
    }

    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        self.interrupt("discard").await?;
        self.record.close_empty_scope(scope, generation).await
    }
}

/// A registered cube of root's.
pub(super) fn cube(name: &str) -> Cube {
    Cube {
        cube_id: CubeId::new(name),
        cube_name: name.to_owned(),
        cube_path: None,
        owner_id: UserId::new("root"),
        created_at: "2026".to_owned(),
        is_registered: true,
        config: serde_json::json!({}),
    }
}

/// Returns everything that an error says, its causes too.
pub(super) fn whole(error: &StoreError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
