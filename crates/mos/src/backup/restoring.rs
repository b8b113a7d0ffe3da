//! From a backup to a data folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mos_config::{Settings, StoreConfig};
use mos_cube::{private_folder, unpack_bundle};
use serde::Serialize;

use super::files::{failed, is_restored};
use super::{About, BroughtFiles, DATABASE, DatabaseContents, KIND, bringing, describe, file_error, in_background};
use crate::error::{Error, Result};
use crate::folders;
use crate::migrate::{Endpoint, MigrateOptions, MigrateReport, Missing, migrate};

/// What folders that a restoration works in begin with.
pub(super) const STAGING: &str = ".mos-restore-";

/// What was restored, and is equal to what the backup tells.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The data folder. With servers it holds the files beside the database.
    pub data_dir: PathBuf,
    /// When the backup was made, ISO 8601.
    pub backed_up_at: String,
    /// What the database holds.
    pub database: DatabaseContents,
    /// What was moved to servers, where the settings name some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<MigrateReport>,
    /// What came to the data folder beside the database, where the settings name servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<BroughtFiles>,
    /// What did not come, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// Brings back what a backup holds to a data folder that does not exist or is empty. Its database appears last, after
/// everything was checked; what an interrupted call left is removed by the next.
///
/// # Errors
/// [`Error::Invalid`] for a folder that holds something; errors of files: the backup is damaged, cut off, or of a newer program.
/// The folder holds nothing then that it did not hold before.
pub async fn restore(file: &Path, data_dir: &Path) -> Result<Restored> {
    let (from, to) = (file.to_owned(), data_dir.to_owned());
    let (staging, bundle) = in_background(move || {
        prepare(&to)?;
        let staging = private_folder(&to, STAGING).map_err(|error| failed(&to, &error))?;
        let bundle = unpack_bundle(&from, staging.path())?;
        Ok((staging, bundle))
    })
    .await?;
    let about: About = serde_json::from_value(bundle.about)
        .map_err(|error| file_error(file, format!("is no backup of memories: {error}")))?;
    if about.kind != KIND {
        return Err(file_error(file, format!("is a `{}`, not a `{KIND}`", about.kind)));
    }
    let database = describe(&staging.path().join(DATABASE)).await?;
    check_same(file, &about.database, &database)?;
    let to = data_dir.to_owned();
    in_background(move || put_in_place(staging, &to)).await?;
    let data_dir = data_dir.to_owned();
    Ok(Restored { data_dir, backed_up_at: bundle.created_at, database, moved: None, files: None, left: Vec::new() })
}

/// As [`restore`], to the stores that the settings name: a data folder, or servers, where what is known already stays and what
/// is missing comes. Files beside the database come to the data folder in the same manner. A call that broke off is gone on with
/// by the same call.
///
/// # Errors
/// As [`restore`], and those of a migration: [`migrate`].
pub async fn restore_to(file: &Path, settings: &Settings, data_dir: &Path) -> Result<Restored> {
    let is_embedded = matches!(settings.store, StoreConfig::Sqlite(_)) && settings.user_manager.backend() == "sqlite";
    if is_embedded {
        return restore(file, data_dir).await;
    }
    let between =
        in_background(|| tempfile::tempdir().map_err(|error| file_error(&std::env::temp_dir(), error.to_string())))
            .await?;
    let mut restored = restore(file, &between.path().join("data")).await?;
    let own_folder = matches!(settings.store, StoreConfig::Sqlite(_)).then_some(data_dir);
    let from = Endpoint::open(&Settings::default(), Some(&restored.data_dir), Missing::Refuse).await?;
    let to = Endpoint::open(settings, own_folder, Missing::Make).await?;
    let options = MigrateOptions { leave_jobs: !to.keeps_jobs, ..MigrateOptions::default() };
    let moved = migrate(&from, &to, &options, |_| ()).await?;
    let (backed_up, data_dir) = (restored.data_dir, data_dir.to_owned());
    restored.data_dir = data_dir.clone();
    let files = in_background(move || bringing::bring(&backed_up, &data_dir)).await?;
    restored.left = left(&moved, &files, &restored.data_dir, to.keeps_jobs);
    (restored.moved, restored.files) = (Some(moved), Some(files));
    Ok(restored)
}

/// Tells what stays in the backup.
fn left(moved: &MigrateReport, files: &BroughtFiles, data_dir: &Path, keeps_jobs: bool) -> Vec<String> {
    let mut left = Vec::new();
    if !keeps_jobs {
        left.push(
            "documents and logs of events, which the scheduler keeps of cubes: the settings name no queue (`queue`, backend `redis`), \
             beside which they are kept"
                .to_owned(),
        );
    }
    let n_jobs: usize = moved.cubes.iter().map(|cube| cube.n_jobs_left).sum();
    if n_jobs > 0 {
        left.push(format!(
            "{n_jobs} jobs that were not done, or were given up: the settings name no queue; name one, or restore the backup to a folder \
             to have them done"
        ));
    }
    if moved.n_keys_left > 0 {
        left.push(format!(
            "{} keys are not moved: the servers keep none, or their user is somebody else there; make new ones",
            moved.n_keys_left
        ));
    }
    if !files.kept.is_empty() {
        left.push(format!(
            "{} holds other files of the same name, which stay as they are: {}",
            data_dir.display(),
            files.kept.join(", ")
        ));
    }
    left
}

/// Makes the folder, or makes sure that nothing is in it but what an interrupted restoration left, which is removed.
fn prepare(data_dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().map_err(|error| failed(data_dir, &error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return folders::create_private(data_dir).map_err(|error| failed(data_dir, &error));
        }
        Err(error) => return Err(failed(data_dir, &error)),
    };
    let is_staging = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(STAGING);
    let was_interrupted = entries.iter().any(|entry| is_staging(&entry.file_name()));
    let is_left_over = |name: &std::ffi::OsStr| was_interrupted && (is_staging(name) || is_restored(name));
    if let Some(other) = entries.iter().map(fs::DirEntry::file_name).find(|name| !is_left_over(name)) {
        return Err(Error::Invalid(format!(
            "{} holds `{}`: a backup is restored to an empty or new folder only; name another with --data-dir, or move this \
             one away",
            data_dir.display(),
            other.to_string_lossy()
        )));
    }
    for entry in entries {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Refuses a database that does not hold what the backup tells. A newer program may have brought it up to date.
fn check_same(file: &Path, told: &DatabaseContents, found: &DatabaseContents) -> Result<()> {
    let found = DatabaseContents { schema_version: told.schema_version, ..found.clone() };
    if *told == found {
        return Ok(());
    }
    let cube = told.cubes.iter().zip(&found.cubes).find(|(told, found)| told != found);
    let which = cube.map_or("users or cubes".to_owned(), |(told, _)| format!("cube `{}`", told.cube_id));
    Err(file_error(file, format!("tells of something else than its database holds ({which}); take another backup")))
}

/// Moves everything up into the data folder, the database last. When that fails, or somebody has begun to use the folder
/// meanwhile, what came goes.
fn put_in_place(staging: tempfile::TempDir, data_dir: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(staging.path()).map_err(|error| failed(staging.path(), &error))? {
        names.push(entry.map_err(|error| failed(staging.path(), &error))?.file_name());
    }
    names.sort_by_key(|name| name == DATABASE);
    for (at, name) in names.iter().enumerate() {
        if let Err(error) = put_one(&staging.path().join(name), &data_dir.join(name)) {
            for moved in &names[..at] {
                // Back into what is removed in any case.
                fs::rename(data_dir.join(moved), staging.path().join(moved)).ok();
            }
            return Err(error);
        }
    }
    #[cfg(unix)]
    fs::File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(|error| failed(data_dir, &error))?;
    staging.close().map_err(|error| failed(data_dir, &error))
}

/// A server that is started again by itself opens an empty folder while everything is checked: its database must not lose its
/// name, and what it wrote beside it would not belong to this one.
fn put_one(from: &Path, to: &Path) -> Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(Error::Invalid(format!(
            "{} was made while the backup was restored: another program uses this folder; end it, and restore to an empty or \
             new one",
            to.display()
        )));
    }
    fs::rename(from, to).map_err(|error| failed(to, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_came_into_use_meanwhile_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let staged = || {
            let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(data).unwrap();
            fs::create_dir(staging.path().join("usage")).unwrap();
            fs::write(staging.path().join(DATABASE), "restored").unwrap();
            staging
        };
        fs::write(data.join(DATABASE), "another program's").unwrap();
        let error = put_in_place(staged(), data).unwrap_err().to_string();
        assert!(error.contains("another program uses this folder"), "{error}");
        assert_eq!(fs::read(data.join(DATABASE)).unwrap(), b"another program's");
        assert_eq!(fs::read_dir(data).unwrap().count(), 1, "what came has gone");
        fs::remove_file(data.join(DATABASE)).unwrap();
        put_in_place(staged(), data).unwrap();
        assert_eq!(fs::read(data.join(DATABASE)).unwrap(), b"restored");
        assert!(data.join("usage").is_dir());
    }
}
