//! A cube in a repository of the Hugging Face hub.

use std::path::{Path, PathBuf};

use mos_models::fetch::{PullOptions, Silent, pull_dataset};

use crate::error::Result;

/// A data set of the hub that is a dumped cube, as MemOS publishes them.
#[derive(Clone, Debug)]
pub struct HubSource {
    /// Its name, `OWNER/NAME`.
    pub repository: String,
    /// The most bytes of all its files together.
    pub max_bytes: u64,
    /// Which hub, which token, how patient. `None`: as the environment has it.
    pub options: Option<PullOptions>,
}

impl HubSource {
    /// The most bytes, unless said otherwise: 8 GiB.
    pub const DEFAULT_MAX_BYTES: u64 = 8 << 30;

    /// Returns the cube of a repository, `OWNER/NAME`.
    pub fn new(repository: impl Into<String>) -> Self {
        Self { repository: repository.into(), max_bytes: Self::DEFAULT_MAX_BYTES, options: None }
    }

    /// Downloads the cube into `parent` and returns its folder.
    ///
    /// # Errors
    /// As [`pull_dataset`].
    pub(super) async fn fetch(&self, parent: &Path) -> Result<PathBuf> {
        let folder = parent.join("cube");
        let options = match &self.options {
            // Partial downloads end with the folder.
            Some(options) => PullOptions { models_dir: parent.to_owned(), ..options.clone() },
            None => PullOptions::from_environment(parent),
        };
        pull_dataset(&self.repository, &folder, self.max_bytes, &options, &Silent).await?;
        Ok(folder)
    }
}
