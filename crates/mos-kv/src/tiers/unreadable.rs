//! Files of a folder of items that are not understood, or are not what was written.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::KvTiers;
use super::disk::{names_in, problem};
use crate::error::KvError;

/// The most files with something wrong that a check tells of one by one.
const MAX_TOLD: usize = 100;

/// A file of a folder of items that cannot be used. It may hold texts, and does not say whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableFile {
    /// Its name without the ending.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
    /// Whether it is of no use to anybody, so that [`KvTiers::remove_unreadable`] takes it away. Otherwise a newer program, or
    /// another user, may be able to read it, or it is no item at all.
    pub is_removable: bool,
}

/// How far a check goes.
#[derive(Clone, Copy, Debug)]
pub struct CheckLimits {
    /// Bytes that are read to compare them with their checksums; heads are read in any case.
    pub max_bytes: u64,
    /// After this no further file is looked at.
    pub max_time: Duration,
}

/// What a check of a folder of items found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderCheck {
    /// Files.
    pub n_files: usize,
    /// Bytes of them.
    pub n_bytes: u64,
    /// Files whose heads were read.
    pub n_read: usize,
    /// Files that were compared with their checksums.
    pub n_verified: usize,
    /// Files with something wrong, by name, a hundred at most.
    pub unreadable: Vec<UnreadableFile>,
    /// Further files with something wrong.
    pub n_untold: usize,
}

/// Checks the files of a folder of items: their heads, and as far as the limits allow it their checksums. A folder that is not
/// there has none. Nothing is changed.
///
/// # Errors
/// [`KvError::Io`] when the folder cannot be listed.
pub fn check_folder(folder: &Path, limits: CheckLimits) -> Result<FolderCheck, KvError> {
    let mut found = FolderCheck::default();
    if !folder.exists() {
        return Ok(found);
    }
    let mut names: Vec<String> = names_in(folder)?.into_iter().collect();
    names.sort_unstable();
    found.n_files = names.len();
    let (started, mut left_bytes) = (Instant::now(), limits.max_bytes);
    for name in names {
        let path = folder.join(format!("{name}{}", super::remote::SUFFIX));
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        found.n_bytes = found.n_bytes.saturating_add(bytes);
        if started.elapsed() >= limits.max_time {
            continue;
        }
        let verifies = bytes <= left_bytes;
        found.n_read += 1;
        if verifies {
            left_bytes -= bytes;
            found.n_verified += 1;
        }
        match problem(folder, &name, verifies) {
            Some(problem) if found.unreadable.len() < MAX_TOLD => found.unreadable.push(problem),
            Some(_) => found.n_untold += 1,
            None => {}
        }
    }
    Ok(found)
}

impl KvTiers {
    /// Returns the files of the disk tier whose heads cannot be read, by name: no tenant's list shows them.
    ///
    /// # Errors
    /// [`KvError::Io`] when the folder cannot be listed.
    pub fn unreadable(&self) -> Result<Vec<UnreadableFile>, KvError> {
        self.disk.as_ref().map_or_else(|| Ok(Vec::new()), |disk| disk.left_alone())
    }

    /// Removes a damaged file of the disk tier by its name, and returns whether it was there.
    ///
    /// # Errors
    /// [`KvError::Invalid`] for a file that is not damaged; [`KvError::Newer`] for one of a newer program; [`KvError::Io`].
    pub fn remove_unreadable(&self, name: &str) -> Result<bool, KvError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(disk) = &self.disk else { return Ok(false) };
        let removed = disk.remove_damaged(name)?;
        // An item whose head can be read may have been listed.
        self.follow_disk(disk)?;
        Ok(removed)
    }
}
