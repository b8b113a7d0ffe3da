//! Everything of an installation as one file, made while others go on working, and back.
//!
//! ```text
//! backup.json       what is in it: users, cubes, and per cube how much it holds and hashes of that; size and BLAKE3 of each file
//! mos.db            users, cubes, memories with history, embeddings and edges, jobs, documents and logs
//! settings.json     the settings, without secrets
//! usage/            the tokens that were counted
//! audit/            who changed what through a server
//! activation/       caches of activation memory, unless they were left out
//! ```
//!
//! The database is always the embedded one. What servers keep is moved into one as `mos migrate` does it; restoring moves it back,
//! or leaves an embedded installation.
//!
//! Invariants: a backup is read back before it has its name; a data folder has its database only after everything in it was
//! compared with what the backup tells.

mod bringing;
mod files;
mod list;
mod places;
mod restoring;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mos_config::{Secrets, Setting, Settings};
use mos_core::{MemoryError, RecordStore, Scope, StoreError, SystemClock, UserStore};
use mos_cube::{check_free, pack_bundle, parent_of};
use mos_stores::{SqliteOptions, SqliteStore, UNKNOWN_CUBE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use bringing::BroughtFiles;
pub(crate) use list::backups_of;
pub use places::{check_source, restored_data_dir};
pub use restoring::{Restored, restore, restore_to};

use crate::error::{Error, Result};
use crate::facade::Mos;
use crate::folders::DATABASE;
use crate::migrate::{Endpoint, MigrateOptions, Missing, contents_of, migrate};

/// What folders and files begin with that backups and restorations work in.
pub(crate) const STAGING: [&str; 2] = [files::STAGING, restoring::STAGING];

/// The settings in a backup. In a data folder they are only for people.
const SETTINGS: &str = "settings.json";

/// What a backup's manifest calls itself.
const KIND: &str = "mos backup";

/// What is backed up, and where to.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// A file that does not exist, or a folder, which gets a file named with the time.
    pub to: PathBuf,
    /// Whether caches of activation memory are in it. Without them they are computed again when they are asked for.
    pub with_caches: bool,
}

impl BackupOptions {
    /// Returns the options of a backup of everything.
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self { to: path.into(), with_caches: true }
    }
}

/// A backup that was made and read back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackedUp {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How many files are in it.
    pub n_files: usize,
    /// What the database in it holds.
    pub database: DatabaseContents,
    /// Jobs that were on their way to a queue and found no room in the backup: they stay where they are.
    pub n_jobs_left: usize,
}

/// What a database holds, in numbers that are the same wherever it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseContents {
    /// Version of its tables.
    pub schema_version: i64,
    /// Active users.
    pub n_users: u64,
    /// Cubes.
    pub n_cubes: u64,
    /// Memories.
    pub n_memories: u64,
    /// Its cubes, in the order of their ids.
    pub cubes: Vec<CubeContents>,
}

/// What a cube holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CubeContents {
    /// Its id.
    pub cube_id: String,
    /// Its owner.
    pub owner_id: String,
    /// How many memories, edges, embeddings, earlier versions and idempotency keys there are, with hashes of each.
    pub contents: Value,
}

/// What the manifest tells besides the files.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    kind: String,
    /// Where it was, for people.
    from: String,
    database: DatabaseContents,
}

impl Mos {
    /// Writes users, cubes and all that belongs to them to one new file while others go on working, and reads it back.
    /// Everything that was acknowledged before the call is in it. The data folder lists it (`backups.jsonl`), so that
    /// [`Mos::erase_user`] can name it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for memories that end with the program, and a database that is damaged; errors of files and stores.
    pub async fn back_up(&self, options: &BackupOptions) -> Result<BackedUp> {
        let file = self.backup_file(&options.to);
        // Before everything is copied for nothing.
        check_free(&file)?;
        let parent = parent_of(&file).to_owned();
        let staging = in_background(move || files::staging(&parent)).await?;
        let folder = staging.path().to_owned();
        let n_jobs_left = self.copy_database(&folder).await?;
        let database = describe(&folder.join(DATABASE)).await?;
        let about = About { kind: KIND.to_owned(), from: self.parts.store_name.clone(), database };
        let value = json!(about);
        let settings = self.parts.settings.to_json(Secrets::Omitted);
        let (data_dir, created_at, with_caches) =
            (self.data_dir().to_owned(), self.parts.clock.now_text(), options.with_caches);
        let packed = file.clone();
        let (bytes, n_files) = in_background(move || {
            let names = files::collect(&data_dir, &folder, &settings, with_caches)?;
            list::note(&data_dir, &created_at, &packed)?;
            let bundle = pack_bundle(&folder, &names, value, created_at, &packed)?;
            let bytes = std::fs::metadata(&packed).map_err(|error| files::failed(&packed, &error))?.len();
            Ok((bytes, bundle.files.len()))
        })
        .await?;
        drop(staging);
        Ok(BackedUp { file, bytes, n_files, database: about.database, n_jobs_left })
    }

    fn backup_file(&self, to: &Path) -> PathBuf {
        if !to.is_dir() {
            return to.to_owned();
        }
        let time: String = self.parts.clock.now_text().chars().take("2026-01-02T03:04:05".len()).collect();
        to.join(format!("mos-{}.tar", time.replace(':', "")))
    }

    /// Puts all users, cubes, memories, jobs and documents into a new database in the folder. Returns how many jobs it has no
    /// room for.
    async fn copy_database(&self, folder: &Path) -> Result<usize> {
        if let Some(store) = self.parts.sqlite.as_ref().filter(|_| !self.parts.has_users_apart) {
            store.copy_to(&folder.join(DATABASE)).await?;
            return Ok(0);
        }
        // A folder wins over the path of the settings, but its database has one name; another is found by the settings alone.
        let database = self.parts.sqlite.as_ref().map(|store| store.path());
        let own_folder = database.filter(|path| path.ends_with(DATABASE)).and_then(Path::parent);
        let from = Endpoint::open(&self.parts.settings, own_folder, Missing::Refuse).await?;
        let to = Endpoint::open(&Settings::default(), Some(folder), Missing::Make).await?;
        let moved = migrate(&from, &to, &MigrateOptions::default(), |_| ()).await?;
        Ok(moved.cubes.iter().map(|cube| cube.n_jobs_left).sum())
    }
}

/// Checks a database that nobody else uses, and returns what it holds. Afterwards the file is all there is of it.
///
/// # Errors
/// [`Error::Invalid`] for one that is damaged; errors of the store.
async fn describe(path: &Path) -> Result<DatabaseContents> {
    let at = path.to_owned();
    let store = in_background(move || Ok(SqliteStore::open(SqliteOptions::at(at), Arc::new(SystemClock))?)).await?;
    let described = describe_store(&store).await;
    in_background(move || {
        drop(store);
        Ok(())
    })
    .await?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        return Err(Error::Invalid(format!("somebody else uses {}; end that program and try again", path.display())));
    }
    described
}

async fn describe_store(store: &Arc<SqliteStore>) -> Result<DatabaseContents> {
    // A cube that is kept elsewhere is none of the database's faults.
    let faults: Vec<String> =
        store.check().await?.into_iter().filter(|one| one.what != UNKNOWN_CUBE).map(|one| one.what).collect();
    if !faults.is_empty() {
        return Err(Error::Invalid(format!(
            "the database is damaged ({}); `mos doctor` tells where, and what to do",
            faults.join(", ")
        )));
    }
    let statistics = store.statistics().await?;
    let mut known = UserStore::cubes(&**store, None).await?;
    known.sort_by(|one, other| one.cube_id.as_str().cmp(other.cube_id.as_str()));
    let mut cubes = Vec::with_capacity(known.len());
    for cube in known {
        let record: &dyn RecordStore = &**store;
        let contents = contents_of(record, &Scope::of(&cube.cube_id)).await?;
        let (cube_id, owner_id) = (cube.cube_id.to_string(), cube.owner_id.to_string());
        cubes.push(CubeContents { cube_id, owner_id, contents: json!(contents) });
    }
    Ok(DatabaseContents {
        schema_version: statistics.schema_version,
        n_users: statistics.n_users,
        n_cubes: statistics.n_cubes,
        n_memories: statistics.n_memories,
        cubes,
    })
}

/// Does what reads and writes files where that is allowed.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::Backend { backend: "files", source: error.into() }.into()),
    }
}

/// An error of a file, for people.
fn file_error(path: &Path, detail: impl Into<String>) -> Error {
    MemoryError::File { path: path.display().to_string(), detail: detail.into() }.into()
}
