//! Where data and models are kept.

use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use mos_config::Settings;

use crate::error::{Error, Result};

/// The database in a folder of data.
pub(crate) const DATABASE: &str = "mos.db";

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

/// Returns the folder of the tokens that models took, in a folder of data.
pub fn usage_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("usage")
}

/// Makes a folder, and those above it that are missing. Only the user that runs the program may look into what is made; what
/// is there already stays as it is.
pub(crate) fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn platform(variable: &str) -> Result<ProjectDirs> {
    ProjectDirs::from("", "", "mos")
        .ok_or_else(|| Error::Invalid(format!("this machine names no home folder; set {variable} to a folder")))
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_a_folder_that_is_made() {
        use std::os::unix::fs::PermissionsExt;

        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join("data/usage");
        super::create_private(&inner).unwrap();
        super::create_private(&inner).unwrap();
        for folder in [place.path().join("data"), inner] {
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
        }
    }
}
