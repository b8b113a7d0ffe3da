//! Whatever a cube comes from, as a directory.

use std::path::PathBuf;

use mos_config::GeneralMemCubeConfig;
use mos_cube::MemoryKind;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::facade::CubeSource;

/// What of a dumped cube is taken, and what lies over its configuration.
#[derive(Clone, Debug)]
pub struct RegisterOptions {
    /// The memories that are read.
    pub memories: Vec<MemoryKind>,
    /// What wins over the cube's own configuration; see [`GeneralMemCubeConfig::merged_with_default`].
    pub default_config: Option<GeneralMemCubeConfig>,
}

impl Default for RegisterOptions {
    fn default() -> Self {
        Self { memories: MemoryKind::ALL.to_vec(), default_config: None }
    }
}

/// A dumped cube that lies on this machine.
#[derive(Debug)]
pub(crate) struct OpenedCube {
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Where it came from, for people.
    pub(crate) origin: String,
    /// Its name.
    pub(crate) name: Option<String>,
    /// What is removed when it was read.
    _temporary: Option<TempDir>,
}

impl OpenedCube {
    /// Brings a dumped cube onto this machine; `None` when the source is none.
    ///
    /// # Errors
    /// Why it cannot be fetched.
    pub(crate) async fn of(source: &CubeSource) -> Result<Option<Self>> {
        match source {
            CubeSource::Known | CubeSource::Config(_) => Ok(None),
            CubeSource::Directory(path) => Ok(Some(Self::directory(path.clone(), path.display().to_string(), None))),
            CubeSource::Git(git) => {
                let folder = temporary()?;
                let directory = git.fetch(folder.path()).await?;
                let name = git.url.trim_end_matches('/').rsplit('/').next().map(|name| name.trim_end_matches(".git"));
                let mut opened = Self::directory(directory, git.url.clone(), Some(folder));
                opened.name = name.filter(|name| !name.is_empty()).map(str::to_owned);
                Ok(Some(opened))
            }
            CubeSource::Hub(hub) => {
                let folder = temporary()?;
                let directory = hub.fetch(folder.path()).await?;
                let mut opened = Self::directory(directory, hub.repository.clone(), Some(folder));
                opened.name = hub.repository.rsplit('/').next().map(str::to_owned);
                Ok(Some(opened))
            }
        }
    }

    /// A cube in a directory, which is removed with `temporary`.
    pub(crate) fn directory(directory: PathBuf, origin: String, temporary: Option<TempDir>) -> Self {
        let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
        Self { directory, origin, name, _temporary: temporary }
    }
}

/// A folder of this process, removed when it is dropped.
pub(super) fn temporary() -> Result<TempDir> {
    tempfile::Builder::new().prefix("mos-cube-").tempdir().map_err(|error| {
        Error::Invalid(format!("cannot make a temporary folder in {}: {error}", std::env::temp_dir().display()))
    })
}
