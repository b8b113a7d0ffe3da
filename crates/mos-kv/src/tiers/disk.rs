//! The disk tier: a folder with one file per item.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::remote::{Found, SUFFIX};
use crate::atomic::{clean_left_overs, remove_if_there};
use crate::error::KvError;
use crate::file::{Prepared, header_len, read_head, read_item, read_tokens, write_prepared};
use crate::item::KvCacheItem;

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Names of files that are not understood.
    left_alone: Mutex<HashSet<String>>,
}

impl Disk {
    /// Opens a folder, which is made when it is missing, and removes what writers that died left there.
    pub(super) fn open(folder: &Path) -> Result<Self, KvError> {
        fs::create_dir_all(folder).map_err(|error| KvError::io("cannot make", folder, error))?;
        clean_left_overs(folder)?;
        Ok(Self { folder: folder.to_owned(), left_alone: Mutex::default() })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{SUFFIX}"))
    }

    pub(super) fn put(&self, name: &str, prepared: &Prepared<'_>) -> Result<(), KvError> {
        write_prepared(&self.place(name), prepared).map(drop)
    }

    /// Returns an item; `None` when it is not there.
    pub(super) fn get(&self, name: &str) -> Result<Option<KvCacheItem>, KvError> {
        match read_item(&self.place(name)) {
            Ok(item) => Ok(Some(item)),
            Err(KvError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn has(&self, name: &str) -> Result<bool, KvError> {
        let place = self.place(name);
        place.try_exists().map_err(|error| KvError::io("cannot look for", &place, error))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), KvError> {
        remove_if_there(&self.place(name)).map(drop)
    }

    /// Returns the names of the items that are there.
    pub(super) fn names(&self) -> Result<HashSet<String>, KvError> {
        let failed = |error| KvError::io("cannot list", &self.folder, error);
        let mut names = HashSet::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned));
        }
        Ok(names)
    }

    /// Reads the heads of items; those that have gone meanwhile are left out. What is not understood is left alone,
    /// with one warning. An item that is cut off behind its head comes without tokens.
    pub(super) fn find(&self, names: impl Iterator<Item = String>) -> Result<Vec<(String, Found)>, KvError> {
        let mut left_alone = self.left_alone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for name in names.filter(|name| !left_alone.contains(name)).collect::<Vec<_>>() {
            match read_found(&self.place(&name)) {
                Ok(item) => found.push((name, item)),
                Err(error @ (KvError::Damaged { .. } | KvError::Truncated { .. } | KvError::Newer { .. })) => {
                    tracing::warn!(%error, "a file of the disk tier is left alone");
                    left_alone.insert(name);
                }
                Err(KvError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(KvError::Io { source, what }) if source.kind() == ErrorKind::IsADirectory => {
                    tracing::warn!(what, "a folder in the disk tier is left alone");
                    left_alone.insert(name);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn read_found(path: &Path) -> Result<Found, KvError> {
    let failed = |error| KvError::io("cannot read", path, error);
    let what = path.display().to_string();
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(8).read_to_end(&mut first).map_err(failed)?;
    let length = header_len(&first, &what)? as u64;
    let truncated = || KvError::truncated(what.clone(), format!("it has {bytes} bytes"));
    if length > bytes {
        return Err(truncated());
    }
    let mut header = Vec::new();
    Read::by_ref(&mut file).take(length - 8).read_to_end(&mut header).map_err(failed)?;
    let (head, (start, end)) = read_head(&header, &what)?;
    if start > end {
        return Err(truncated());
    }
    if length.saturating_add(end as u64) > bytes {
        // Its head holds the text: whoever removes what is kept of a cube must find it. Reading it fails by name.
        tracing::warn!(what, "an item of the disk tier is cut off; remove it");
        return Ok(Found { head, tokens: Vec::new(), bytes });
    }
    file.seek(SeekFrom::Start(length + start as u64)).map_err(failed)?;
    let mut tokens = Vec::new();
    file.take((end - start) as u64).read_to_end(&mut tokens).map_err(failed)?;
    Ok(Found { head, tokens: read_tokens(&tokens), bytes })
}
