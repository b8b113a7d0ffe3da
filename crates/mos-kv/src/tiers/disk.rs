//! The disk tier: a folder with one file per item.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::remote::{Found, SUFFIX};
use super::unreadable::UnreadableFile;
use crate::atomic::{clean_left_overs, remove_if_there};
use crate::error::KvError;
use crate::file::{Prepared, check_item, header_len, read_head, read_item, read_tokens, write_prepared};
use crate::item::KvCacheItem;

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Files that are not understood, by their names.
    left_alone: Mutex<BTreeMap<String, LeftAlone>>,
}

/// Why a file is left alone.
#[derive(Debug)]
struct LeftAlone {
    detail: String,
    is_damaged: bool,
    /// Whether another look is worth it: its content does not change, whether it can be read may.
    may_change: bool,
}

/// Hexadecimal digits of an item's name.
const NAME_DIGITS: usize = 64;

/// Whether a file of this name was written as an item; nothing else is removed.
fn is_item_name(name: &str) -> bool {
    name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file says by its content that it cannot be used, now or later.
fn is_damage(error: &KvError) -> bool {
    matches!(error, KvError::Damaged { .. } | KvError::Truncated { .. })
}

fn is_missing(error: &KvError) -> bool {
    matches!(error, KvError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
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
        names_in(&self.folder)
    }

    /// Reads the heads of items; those that have gone meanwhile are left out. What is not understood, or cannot be read, is
    /// left alone, with one warning. An item that is cut off behind its head comes without tokens.
    pub(super) fn find(&self, names: impl Iterator<Item = String>) -> Vec<(String, Found)> {
        let mut left_alone = self.left_alone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for name in names {
            if left_alone.get(&name).is_some_and(|known| !known.may_change) {
                continue;
            }
            match read_found(&self.place(&name)) {
                Ok(item) => {
                    left_alone.remove(&name);
                    found.push((name, item));
                }
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    let may_change = matches!(error, KvError::Io { .. });
                    let (detail, is_damaged) = (error.to_string(), is_damage(&error));
                    if left_alone.insert(name, LeftAlone { detail, is_damaged, may_change }).is_none() {
                        tracing::warn!(%error, "a file of the disk tier is left alone");
                    }
                }
            }
        }
        found
    }

    /// Returns the files that are left alone and still there.
    pub(super) fn left_alone(&self) -> Result<Vec<UnreadableFile>, KvError> {
        let names = self.names()?;
        let mut left_alone = self.left_alone.lock().unwrap_or_else(PoisonError::into_inner);
        left_alone.retain(|name, _| names.contains(name));
        let told = |(name, LeftAlone { detail, is_damaged, .. }): (&String, &LeftAlone)| {
            let is_removable = *is_damaged && is_item_name(name);
            UnreadableFile { name: name.clone(), path: self.place(name), detail: detail.clone(), is_removable }
        };
        Ok(left_alone.iter().map(told).collect())
    }

    /// Removes a file when it is an item's and its content is damaged; returns whether it was there.
    pub(super) fn remove_damaged(&self, name: &str) -> Result<bool, KvError> {
        if !is_item_name(name) {
            return Ok(false);
        }
        let place = self.place(name);
        match check(&place) {
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) if is_damage(&error) => remove_if_there(&place),
            Err(error) => Err(error),
            Ok(()) => Err(KvError::Invalid(format!("{} is not damaged; remove the item in it", place.display()))),
        }
    }
}

/// Returns the names of the items in a folder.
pub(super) fn names_in(folder: &Path) -> Result<HashSet<String>, KvError> {
    let failed = |error| KvError::io("cannot list", folder, error);
    let mut names = HashSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned));
    }
    Ok(names)
}

/// Returns what is wrong with a file of a folder of items; `None` when nothing is, or it has gone. `verifies` also compares its
/// content with its checksum.
pub(super) fn problem(folder: &Path, name: &str, verifies: bool) -> Option<UnreadableFile> {
    let path = folder.join(format!("{name}{SUFFIX}"));
    let checked = if verifies { check(&path) } else { read_found(&path).map(drop) };
    let error = checked.err().filter(|error| !is_missing(error))?;
    let is_removable = is_damage(&error) && is_item_name(name);
    Some(UnreadableFile { name: name.to_owned(), path, detail: error.to_string(), is_removable })
}

fn check(path: &Path) -> Result<(), KvError> {
    read_found(path)?;
    check_item(path)
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
