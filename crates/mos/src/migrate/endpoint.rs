//! One side of a migration: the stores of an installation, without its models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos_config::{QueueConfig, Settings, StoreConfig};
use mos_core::{JobQueue, RecordArchive, RecordStore, ScopeLifecycle, StateStore, SystemClock, UserArchive, UserStore};

use mos_stores::{InMemoryStore, QdrantOptions};

use super::arriving::Arriving;
use super::outbox::Outbox;
use crate::builder::{LeftJobs, Stores, database_path, open_stores, redis_place};
use crate::error::{Error, Result};
use crate::factories::{Factories, UserStoreParts, vectors};

/// What to do about a data folder without a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Refuse,
    /// The database is made.
    Make,
    /// It is taken for an empty one, and nothing is made.
    TakeForEmpty,
}

/// The stores of an installation.
#[derive(Debug)]
pub struct Endpoint {
    /// Where the record is, for people. Two endpoints of one name have the same record.
    pub(super) name: String,
    /// Where the users are, for people.
    pub(super) users_name: String,
    pub(super) record: Arc<dyn RecordStore>,
    pub(super) users: Arc<dyn UserStore>,
    pub(super) queue: Option<Arc<dyn JobQueue>>,
    /// Documents and logs; beside the queue.
    pub(super) state: Option<Arc<dyn StateStore>>,
    /// Jobs that the record keeps until the queue has them. They are read there and stay: programs that work with the record
    /// bring them to their queue.
    pub(super) outbox: Option<Arc<dyn Outbox>>,
    /// The server of the queue, when there is one, for people. Two endpoints of one name have the same queue.
    pub(super) queue_place: Option<String>,
    /// Whether jobs that are brought here are there when the program has ended.
    pub(crate) keeps_jobs: bool,
    /// The server of the vectors, when there is one. Not connected: a source is only read.
    pub(super) qdrant: Option<QdrantOptions>,
}

impl Endpoint {
    /// Opens the stores that the settings name. A folder that is given wins over the settings' one. The tables and indexes
    /// of servers are made in any case.
    ///
    /// # Errors
    /// [`Error::Invalid`] when nothing would be left of it, or it is missing; errors of the stores.
    pub async fn open(settings: &Settings, data_dir: Option<&Path>, missing: Missing) -> Result<Self> {
        let clock = Arc::new(SystemClock);
        let path = database_path(settings, data_dir)?;
        match &settings.store {
            StoreConfig::Memory(_) => {
                return Err(Error::Invalid(
                    "the store `memory` forgets everything when a program ends: nothing can be moved from it or to it"
                        .to_owned(),
                ));
            }
            StoreConfig::Sqlite(_) if missing == Missing::TakeForEmpty && !path.is_file() => {
                let (store, name) = (InMemoryStore::new(clock), canonical(&path));
                return Ok(Self {
                    users_name: name.clone(),
                    name,
                    record: store.clone(),
                    users: store.clone(),
                    queue: Some(store.clone()),
                    state: Some(store),
                    outbox: None,
                    queue_place: None,
                    keeps_jobs: true,
                    qdrant: None,
                });
            }
            StoreConfig::Sqlite(_) if missing == Missing::Refuse && !path.is_file() => {
                return Err(Error::Invalid(format!(
                    "there is no database at {}; name the folder of the data with --data-dir, or a settings file with \
                     --from-config",
                    path.display()
                )));
            }
            _ => {}
        }
        let Stores { name, record, lifecycle, users, queue, state, neo4j, .. } =
            open_stores(settings, path.clone(), clock.clone(), LeftJobs::Stay).await?;
        let outbox = neo4j.clone().map(|store| store as Arc<dyn Outbox>);
        let (queue_place, forgets_jobs) = match &settings.store {
            StoreConfig::Sqlite(_) => (None, false),
            _ => (redis_place(settings)?, matches!(settings.queue, Some(QueueConfig::Memory(_)))),
        };
        let keeps_jobs = queue.is_some() && !forgets_jobs;
        let name = if matches!(settings.store, StoreConfig::Sqlite(_)) { canonical(&path) } else { name };
        let config = settings.user_manager.clone();
        let lifecycle: Arc<dyn ScopeLifecycle> = match neo4j {
            Some(store) => Arc::new(Arriving::new(store.without_queue(), lifecycle)),
            None => lifecycle,
        };
        let parts = UserStoreParts { config, record: lifecycle, clock };
        let (users, users_name) = match Factories::default().user_store(parts).await? {
            Some(apart) => {
                let facts = apart.facts().await?;
                let place = facts.iter().filter(|(key, _)| key == "server" || key == "schema");
                let place: Vec<&str> = place.map(|(_, value)| value.as_str()).collect();
                (apart, place.join(", schema "))
            }
            None => {
                let users = users.ok_or_else(|| {
                    Error::Invalid(format!(
                        "the store `{}` keeps no users; set user_manager.backend to `postgres`",
                        settings.store.backend()
                    ))
                })?;
                (users, name.clone())
            }
        };
        let qdrant = vectors::server(settings)?;
        Ok(Self { name, users_name, record, users, queue, state, outbox, queue_place, keeps_jobs, qdrant })
    }

    /// Where the record is, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn record_archive(&self) -> Result<&dyn RecordArchive> {
        let archive = self.record.archive();
        archive.ok_or_else(|| Error::Invalid(format!("the memories in {} cannot be moved", self.name)))
    }

    pub(super) fn user_archive(&self) -> Result<&dyn UserArchive> {
        let archive = self.users.archive();
        archive.ok_or_else(|| Error::Invalid(format!("the users in {} cannot be moved", self.users_name)))
    }

    /// Whether both have one queue, and the documents and logs beside it: nothing of it moves then.
    pub(super) fn shares_queue(&self, other: &Self) -> bool {
        self.queue_place.is_some() && self.queue_place == other.queue_place
    }

    /// Refuses two endpoints that share a store: what is made in the target would change the source.
    pub(super) fn check_apart(&self, to: &Self) -> Result<()> {
        if self.name == to.name {
            return Err(Error::Invalid(format!(
                "the memories of both sides are in {}: name another place to move them to",
                self.name
            )));
        }
        if self.users_name == to.users_name {
            return Err(Error::Invalid(format!(
                "the users of both sides are in {}; name another schema (user_manager.config.schema_name) or database for \
                 the target, and remove the old one when all is done",
                self.users_name
            )));
        }
        // One prefix per record: two would remove each other's points.
        if let (Some(from), Some(to)) = (&self.qdrant, &to.qdrant)
            && (&from.url, &from.prefix) == (&to.url, &to.prefix)
        {
            return Err(Error::Invalid(format!(
                "the vectors of both sides are in collections `{}` of one Qdrant server; name another collection_name for \
                 the target",
                to.prefix
            )));
        }
        Ok(())
    }
}

/// Two ways to one file are one name.
fn canonical(path: &Path) -> String {
    let whole: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.display().to_string()
}
