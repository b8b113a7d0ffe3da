//! Opening the stores that the settings name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mos_config::store::{Neo4jStore as Neo4jStoreConfig, RedisQueue as RedisQueueConfig};
use mos_config::{QueueConfig, Settings, StoreConfig};
use mos_core::{Clock, JobQueue, RecordStore, ScopeLifecycle, StateStore, StoreError, UserStore};
use mos_stores::{
    InMemoryStore, Neo4jOptions, Neo4jStore, RecordAndState, RedisOptions, RedisQueue, SqliteOptions, SqliteStore,
    StateWithScopes, Tenancy,
};

use crate::error::Result;
use crate::folders;
use crate::scheduling;

/// Returns where the database is when the record is in a file. A folder that was asked for wins over the settings: nobody
/// expects a trial to touch other data.
///
/// # Errors
/// As [`data_dir`](crate::data_dir).
pub fn database_path(settings: &Settings, data_dir: Option<&Path>) -> Result<PathBuf> {
    let configured = match &settings.store {
        StoreConfig::Sqlite(config) => config.path.clone(),
        StoreConfig::Memory(_) | StoreConfig::Neo4j(_) | StoreConfig::Neo4jCommunity(_) => None,
    };
    match (data_dir, configured) {
        (Some(folder), _) => Ok(folder.join(folders::DATABASE)),
        (None, Some(path)) => Ok(path),
        (None, None) => Ok(folders::data_dir(settings)?.join(folders::DATABASE)),
    }
}

/// The store, seen as record, as users when it keeps them, as what learns of cubes kept elsewhere, and (for its
/// self-check) as what it is.
pub(crate) struct Stores {
    /// Where it is, for people.
    pub(crate) name: String,
    pub(crate) record: Arc<dyn RecordStore>,
    pub(crate) lifecycle: Arc<dyn ScopeLifecycle>,
    pub(crate) users: Option<Arc<dyn UserStore>>,
    pub(crate) sqlite: Option<Arc<SqliteStore>>,
    /// The jobs of its cubes, when it has a queue.
    pub(crate) queue: Option<Arc<dyn JobQueue>>,
    /// Documents and logs of its cubes; beside the queue.
    pub(crate) state: Option<Arc<dyn StateStore>>,
    /// The record, when it brings jobs to a queue elsewhere.
    pub(crate) neo4j: Option<Arc<Neo4jStore>>,
}

/// What becomes of jobs that a record on a server keeps until its queue has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftJobs {
    /// They are brought to the queue, whoever left them.
    Brought,
    /// They stay: another program may work with them.
    Stay,
}

pub(crate) async fn open_stores(
    settings: &Settings,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    left_jobs: LeftJobs,
) -> Result<Stores> {
    match &settings.store {
        StoreConfig::Memory(_) => {
            let store = InMemoryStore::new(clock);
            let (record, lifecycle) = (store.clone(), store.clone());
            let (name, queue) = ("in memory".to_owned(), Some(store.clone() as Arc<dyn JobQueue>));
            let state = Some(store.clone() as Arc<dyn StateStore>);
            Ok(Stores { name, record, lifecycle, users: Some(store), sqlite: None, queue, state, neo4j: None })
        }
        StoreConfig::Neo4j(config) => open_neo4j(config, settings, clock, left_jobs).await,
        StoreConfig::Neo4jCommunity(config) => open_neo4j(&config.neo4j, settings, clock, left_jobs).await,
        StoreConfig::Sqlite(_) => {
            let opened = tokio::task::spawn_blocking(move || {
                create_folder(&path)?;
                SqliteStore::open(SqliteOptions::at(path), clock)
            });
            let store =
                opened.await.map_err(|error| StoreError::Backend { backend: "sqlite", source: error.into() })??;
            let (name, record, lifecycle) = (store.path().display().to_string(), store.clone(), store.clone());
            let queue = Some(store.clone() as Arc<dyn JobQueue>);
            let state = Some(store.clone() as Arc<dyn StateStore>);
            let (users, sqlite) = (Some(store.clone() as Arc<dyn UserStore>), Some(store));
            Ok(Stores { name, record, lifecycle, users, sqlite, queue, state, neo4j: None })
        }
    }
}

async fn open_neo4j(
    config: &Neo4jStoreConfig,
    settings: &Settings,
    clock: Arc<dyn Clock>,
    left_jobs: LeftJobs,
) -> Result<Stores> {
    let QueueBeside { queue, kept } = queue_beside(settings, &clock).await?;
    let options = neo4j_options(config);
    let store = match (&queue, left_jobs) {
        (Some(queue), LeftJobs::Brought) => Neo4jStore::open_with_queue(options, clock, Arc::clone(queue)).await?,
        (Some(queue), LeftJobs::Stay) => Neo4jStore::open_beside_queue(options, clock, Arc::clone(queue)).await?,
        (None, _) => Neo4jStore::open(options, clock).await?,
    };
    let database = config.db_name.as_ref().map_or(String::new(), |name| format!(", database {name}"));
    let name = format!("Neo4j at {}{database}", config.uri);
    let (record, users, sqlite, neo4j) = (store.clone(), None, None, Some(store.clone()));
    let Some(kept) = kept else {
        return Ok(Stores { name, record, lifecycle: store, users, sqlite, queue, state: None, neo4j });
    };
    let together = Arc::new(RecordAndState::new(store, kept));
    Ok(Stores { name, record, lifecycle: together.clone(), users, sqlite, queue, state: Some(together), neo4j })
}

/// A queue, and the documents and logs beside it.
#[derive(Default)]
struct QueueBeside {
    queue: Option<Arc<dyn JobQueue>>,
    kept: Option<Arc<dyn StateWithScopes>>,
}

/// The queue of a record that has none of its own.
async fn queue_beside(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<QueueBeside> {
    let clock = Arc::clone(clock);
    let redis = match &settings.queue {
        Some(QueueConfig::Redis(config)) => config.as_ref().clone(),
        Some(QueueConfig::Memory(_)) => {
            let store = InMemoryStore::new(clock);
            return Ok(QueueBeside { queue: Some(store.clone()), kept: Some(store) });
        }
        // The settings were checked: a record on a server has no queue of its own.
        Some(QueueConfig::Sqlite(_)) => return Ok(QueueBeside::default()),
        None => match scheduling::redis_of(settings)? {
            Some(config) => config,
            None => return Ok(QueueBeside::default()),
        },
    };
    let queue = RedisQueue::open(redis_options(&redis)?, clock).await?;
    let kept = queue.state();
    Ok(QueueBeside { queue: Some(queue), kept: Some(kept) })
}

/// Returns which server keeps the jobs of a record that has no queue of its own, for people; `None` without one.
pub(crate) fn redis_place(settings: &Settings) -> Result<Option<String>> {
    let config = match &settings.queue {
        Some(QueueConfig::Redis(config)) => Some(config.as_ref().clone()),
        Some(_) => None,
        None => scheduling::redis_of(settings)?,
    };
    config.map(|config| redis_options(&config).map(|options| options.place())).transpose()
}

pub(crate) fn redis_options(config: &RedisQueueConfig) -> Result<RedisOptions> {
    let mut options = match &config.url {
        Some(url) => RedisOptions::from_url(url.expose())?,
        None => RedisOptions::at(
            config.host.as_deref().unwrap_or("localhost"),
            config.port.unwrap_or(6379),
            config.db.unwrap_or(0),
            config.username.as_deref(),
            config.password.as_ref().map(mos_config::Secret::expose),
        ),
    };
    options.prefix.clone_from(&config.prefix);
    Ok(options)
}

pub(crate) fn neo4j_options(config: &Neo4jStoreConfig) -> Neo4jOptions {
    Neo4jOptions {
        database: config.db_name.clone(),
        tenancy: if config.own_database { Tenancy::OwnDatabase } else { Tenancy::Shared },
        ca_certificate: config.ca_certificate.clone(),
        max_connections: config.max_connections,
        connect_timeout: Duration::from_secs(config.connection_wait_timeout),
        ..Neo4jOptions::at(config.uri.as_str(), config.user.as_str(), config.password.expose())
    }
}

/// Makes the folder that a database is to be in.
fn create_folder(database: &Path) -> std::result::Result<(), StoreError> {
    let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    folders::create_private(folder).map_err(|error| StoreError::Storage {
        path: folder.display().to_string(),
        detail: format!("{error}; choose another folder with --data-dir or MOS_DATA_DIR"),
    })
}
