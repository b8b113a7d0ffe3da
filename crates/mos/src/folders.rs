//! Where data and models are kept.

use std::path::PathBuf;

use directories::ProjectDirs;
use mos_config::Settings;

use crate::error::{Error, Result};

/// Returns the folder of the data: the settings' one, else `mos` in the platform's data folder.
///
/// # Errors
/// [`Error::Invalid`] when the platform names no home folder.
pub fn data_dir(settings: &Settings) -> Result<PathBuf> {
    match &settings.data_dir {
        Some(folder) => Ok(folder.clone()),
        None => Ok(platform("MOS_DATA_DIR")?.data_dir().to_owned()),
    }
}

/// Returns the folder of fetched models: the settings' one, else `mos/models` in the platform's cache folder.
///
/// # Errors
/// [`Error::Invalid`] when the platform names no home folder.
pub fn models_dir(settings: &Settings) -> Result<PathBuf> {
    match &settings.models_dir {
        Some(folder) => Ok(folder.clone()),
        None => Ok(platform("MOS_MODELS_DIR")?.cache_dir().join("models")),
    }
}

fn platform(variable: &str) -> Result<ProjectDirs> {
    ProjectDirs::from("", "", "mos")
        .ok_or_else(|| Error::Invalid(format!("this machine names no home folder; set {variable} to a folder")))
}
