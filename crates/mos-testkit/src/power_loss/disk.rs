//! Files, what of them is safe, and who holds which lock.

use std::collections::{HashMap, HashSet};
use std::ffi::c_int;

use rusqlite::ffi;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Locks in the shared memory of a write-ahead log.
const N_SHARED_LOCKS: usize = ffi::SQLITE_SHM_NLOCK as usize;

/// Names an open file.
pub(super) type HandleId = u64;

#[derive(Debug)]
pub(super) struct DiskState {
    pub(super) has_power: bool,
    /// Counts restarts; files opened before the last one are dead.
    pub(super) epoch: u64,
    pub(super) n_operations: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) fault: Option<c_int>,
    last_handle: HandleId,
    files: HashMap<String, File>,
    /// Shared memory of before a restart: dead connections may still look at it.
    graveyard: Vec<Box<[u8]>>,
}

#[derive(Debug, Default)]
struct File {
    /// What is safe; `None` for a file whose name is not safe yet.
    durable: Option<Vec<u8>>,
    /// What is seen; `None` for a removed file whose removal is not safe yet.
    current: Option<Vec<u8>>,
    unsynced: Vec<Unsynced>,
    locks: HashMap<HandleId, c_int>,
    shared_memory: Vec<Box<[u8]>>,
    shared_users: HashSet<HandleId>,
    shared_locks: [SharedLock; N_SHARED_LOCKS],
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { length: usize },
}

#[derive(Debug, Default)]
struct SharedLock {
    sharing: HashSet<HandleId>,
    exclusive: Option<HandleId>,
}

fn write_at(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Unsynced {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write_at(content, *offset, bytes),
            Self::Truncate { length } => content.truncate(*length),
        }
    }
}

/// A small generator (SplitMix64): tests must be able to repeat a failure.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

impl File {
    /// Returns what a power cut leaves of the file.
    fn survive(&mut self, chance: &mut Chance) -> Option<Vec<u8>> {
        let unsynced = std::mem::take(&mut self.unsynced);
        let Some(_) = &self.current else {
            // Removed, but the removal is not safe: it may be back.
            return if chance.one_in(2) { None } else { self.durable.take() };
        };
        let mut content = match self.durable.take() {
            Some(content) => content,
            None if chance.one_in(2) => return None,
            None => Vec::new(),
        };
        match chance.next() % 4 {
            0 => {}
            1 => {
                let n_kept = (chance.next() as usize) % (unsynced.len() + 1);
                unsynced[..n_kept].iter().for_each(|one| one.apply(&mut content));
            }
            2 => unsynced.iter().filter(|_| chance.one_in(2)).for_each(|one| one.apply(&mut content)),
            _ => unsynced.iter().for_each(|one| survive_in_sectors(one, &mut content, chance)),
        }
        Some(content)
    }
}

fn survive_in_sectors(unsynced: &Unsynced, content: &mut Vec<u8>, chance: &mut Chance) {
    let Unsynced::Write { offset, bytes } = unsynced else { return unsynced.apply(content) };
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + SECTOR - (offset + at) % SECTOR).min(bytes.len());
        if chance.one_in(2) {
            write_at(content, offset + at, &bytes[at..end]);
        }
        at = end;
    }
}

type Answer<T> = Result<T, c_int>;

impl DiskState {
    pub(super) fn new() -> Self {
        Self {
            has_power: true,
            epoch: 0,
            n_operations: 0,
            cut_at: None,
            fault: None,
            last_handle: 0,
            files: HashMap::new(),
            graveyard: Vec::new(),
        }
    }

    pub(super) fn restart(&mut self, seed: u64) {
        let mut chance = Chance(seed);
        let mut names: Vec<String> = self.files.keys().cloned().collect();
        names.sort();
        for name in names {
            let Some(mut file) = self.files.remove(&name) else { continue };
            self.graveyard.append(&mut file.shared_memory);
            if let Some(content) = file.survive(&mut chance) {
                let file = File { durable: Some(content.clone()), current: Some(content), ..File::default() };
                self.files.insert(name, file);
            }
        }
        self.has_power = true;
        self.cut_at = None;
        self.epoch += 1;
    }

    /// Whether an operation may happen; counts it when it changes something.
    pub(super) fn admit(&mut self, epoch: u64, is_change: bool) -> Answer<()> {
        if is_change && self.has_power && epoch == self.epoch {
            if self.cut_at.is_some_and(|cut_at| self.n_operations >= cut_at) {
                self.has_power = false;
            } else {
                self.n_operations += 1;
            }
        }
        if self.has_power && epoch == self.epoch { Ok(()) } else { Err(ffi::SQLITE_IOERR) }
    }

    fn file(&mut self, name: &str) -> Answer<&mut File> {
        self.files.get_mut(name).filter(|file| file.current.is_some()).ok_or(ffi::SQLITE_IOERR)
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.files.get(name).is_some_and(|file| file.current.is_some())
    }

    /// Returns a new handle; the file is made when `create` says so.
    pub(super) fn open(&mut self, name: &str, create: bool) -> Answer<HandleId> {
        if !self.exists(name) {
            if !create {
                return Err(ffi::SQLITE_CANTOPEN);
            }
            if let Some(fault) = self.fault {
                return Err(if fault == ffi::SQLITE_FULL { fault } else { ffi::SQLITE_CANTOPEN });
            }
            let file = self.files.entry(name.to_owned()).or_default();
            file.current = Some(Vec::new());
            // When the removal of an earlier file of this name was not safe, its bytes may still be there.
            file.unsynced = vec![Unsynced::Truncate { length: 0 }];
        }
        self.last_handle += 1;
        Ok(self.last_handle)
    }

    /// Returns how many bytes were read into `buffer`.
    pub(super) fn read(&mut self, name: &str, offset: usize, buffer: &mut [u8]) -> Answer<usize> {
        let content = self.file(name)?.current.as_deref().unwrap_or_default();
        let available = content.get(offset..).unwrap_or_default();
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        Ok(n)
    }

    pub(super) fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) -> Answer<()> {
        self.change(name, Unsynced::Write { offset, bytes: bytes.to_vec() })
    }

    pub(super) fn truncate(&mut self, name: &str, length: usize) -> Answer<()> {
        self.change(name, Unsynced::Truncate { length })
    }

    fn change(&mut self, name: &str, change: Unsynced) -> Answer<()> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let file = self.file(name)?;
        if let Some(content) = &mut file.current {
            change.apply(content);
        }
        file.unsynced.push(change);
        Ok(())
    }

    pub(super) fn sync(&mut self, name: &str) -> Answer<()> {
        let file = self.file(name)?;
        let is_new = file.durable.is_none();
        let durable = file.durable.get_or_insert_default();
        for change in file.unsynced.drain(..) {
            change.apply(durable);
        }
        if is_new {
            // SQLite syncs the folder together with a new file, which makes removals before it safe.
            self.files.retain(|_, file| file.current.is_some());
        }
        Ok(())
    }

    pub(super) fn length(&mut self, name: &str) -> Answer<usize> {
        Ok(self.file(name)?.current.as_ref().map_or(0, Vec::len))
    }

    pub(super) fn remove(&mut self, name: &str, sync_folder: bool) -> Answer<()> {
        if !self.exists(name) {
            return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
        }
        let file = self.file(name)?;
        file.current = None;
        file.unsynced.clear();
        if sync_folder || file.durable.is_none() {
            self.files.remove(name);
        }
        Ok(())
    }

    /// Forgets a handle's locks.
    pub(super) fn close(&mut self, name: &str, handle: HandleId) {
        if let Some(file) = self.files.get_mut(name) {
            file.locks.remove(&handle);
        }
    }

    pub(super) fn lock(&mut self, name: &str, handle: HandleId, level: c_int) -> Answer<()> {
        let locks = &mut self.file(name)?.locks;
        let highest_other =
            locks.iter().filter(|(other, _)| **other != handle).map(|(_, level)| *level).max().unwrap_or(0);
        let own = locks.get(&handle).copied().unwrap_or(ffi::SQLITE_LOCK_NONE);
        if own >= level {
            return Ok(());
        }
        let free = match level {
            ffi::SQLITE_LOCK_SHARED => highest_other < ffi::SQLITE_LOCK_PENDING,
            ffi::SQLITE_LOCK_RESERVED => highest_other < ffi::SQLITE_LOCK_RESERVED,
            _ if highest_other >= ffi::SQLITE_LOCK_RESERVED => false,
            _ => {
                // Keeps new readers out while the present ones finish.
                locks.insert(handle, ffi::SQLITE_LOCK_PENDING);
                highest_other == ffi::SQLITE_LOCK_NONE
            }
        };
        if !free {
            return Err(ffi::SQLITE_BUSY);
        }
        locks.insert(handle, level);
        Ok(())
    }

    pub(super) fn unlock(&mut self, name: &str, handle: HandleId, level: c_int) -> Answer<()> {
        let locks = &mut self.file(name)?.locks;
        if level == ffi::SQLITE_LOCK_NONE {
            locks.remove(&handle);
        } else {
            locks.insert(handle, level);
        }
        Ok(())
    }

    pub(super) fn is_reserved(&mut self, name: &str) -> Answer<bool> {
        Ok(self.file(name)?.locks.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED))
    }

    /// Returns a region of the file's shared memory; `None` when it is not there and not to be made.
    pub(super) fn map(
        &mut self,
        name: &str,
        handle: HandleId,
        region: usize,
        size: usize,
        extend: bool,
    ) -> Answer<Option<*mut u8>> {
        let file = self.file(name)?;
        file.shared_users.insert(handle);
        while extend && file.shared_memory.len() <= region {
            file.shared_memory.push(vec![0; size].into_boxed_slice());
        }
        Ok(file.shared_memory.get_mut(region).map(|memory| memory.as_mut_ptr()))
    }

    pub(super) fn unmap(&mut self, name: &str, handle: HandleId) {
        let Some(file) = self.files.get_mut(name) else { return };
        file.shared_users.remove(&handle);
        for lock in &mut file.shared_locks {
            lock.sharing.remove(&handle);
            lock.exclusive.take_if(|holder| *holder == handle);
        }
        if file.shared_users.is_empty() {
            self.graveyard.append(&mut file.shared_memory);
        }
    }

    pub(super) fn lock_shared_memory(
        &mut self,
        name: &str,
        handle: HandleId,
        slots: std::ops::Range<usize>,
        flags: c_int,
    ) -> Answer<()> {
        let locks = self.file(name)?.shared_locks.get_mut(slots).ok_or(ffi::SQLITE_MISUSE)?;
        let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            for lock in locks {
                lock.sharing.remove(&handle);
                lock.exclusive.take_if(|holder| *holder == handle);
            }
            return Ok(());
        }
        let is_taken = |lock: &SharedLock| {
            lock.exclusive.is_some_and(|holder| holder != handle)
                || (exclusive && lock.sharing.iter().any(|holder| *holder != handle))
        };
        if locks.iter().any(is_taken) {
            return Err(ffi::SQLITE_BUSY);
        }
        for lock in locks {
            if exclusive {
                lock.exclusive = Some(handle);
            } else {
                lock.sharing.insert(handle);
            }
        }
        Ok(())
    }
}
