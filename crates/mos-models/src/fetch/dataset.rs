//! Data sets of the hub.

use std::fs;
use std::path::Path;

use mos_core::ModelError;

use super::hub::{self, Kind};
use super::{Progress, PullOptions, disk, installed};

/// The most files that are taken.
const MAX_FILES: usize = 10_000;

/// Downloads all files of a data set, `OWNER/NAME`, into a new folder and returns their names.
///
/// What describes the repository itself (`README.md`, names that begin with a dot) is left out. Partial downloads lie in
/// `.hub` of the models folder and are resumed.
///
/// # Errors
/// [`ModelError::NotFound`] for a name that is none, or is not on the hub; [`ModelError::Denied`] for a closed one;
/// [`ModelError::Unavailable`] without a network, saying what to do; [`ModelError::BadModel`] for unusable names of files, and
/// for more than `max_bytes` in all; [`ModelError::Internal`] when the disk refuses.
pub async fn pull_dataset(
    repository: &str,
    into: &Path,
    max_bytes: u64,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Vec<String>, ModelError> {
    crate::install_crypto();
    if installed::repository_folder(repository).is_none() {
        return Err(ModelError::NotFound(format!("`{repository}` is no repository of the hub; write OWNER/NAME")));
    }
    let mut files = hub::files(Kind::Dataset, repository, options).await.map_err(|error| offline(error, repository))?;
    files.retain(|path| path != "README.md" && !path.starts_with('.'));
    if let Some(path) = files.iter().find(|path| !installed::is_plain_path(path)) {
        return Err(ModelError::BadModel(format!("{repository} has a file with an unusable name: {path:?}")));
    }
    if files.len() > MAX_FILES {
        return Err(ModelError::BadModel(format!("{repository} has {} files, more than {MAX_FILES}", files.len())));
    }
    fs::create_dir_all(into).map_err(|error| disk(into, &error))?;
    let mut left = max_bytes;
    for file in &files {
        hub::fetch(Kind::Dataset, repository, std::slice::from_ref(file), options, into, left, progress)
            .await
            .map_err(|error| offline(error, repository))?;
        let path = into.join(file);
        left = left.saturating_sub(fs::metadata(&path).map_err(|error| disk(&path, &error))?.len());
    }
    Ok(files)
}

fn offline(error: ModelError, repository: &str) -> ModelError {
    match error {
        ModelError::Unavailable(said) => ModelError::Unavailable(format!(
            "{said}; try again, or without a network fetch the data set {repository} on another machine and use the folder"
        )),
        other => other,
    }
}
