//! Where items are: RAM, then disk, then a remote store, each with a budget in bytes.
//!
//! An item is written to every tier below RAM when it is put (write-through), so that leaving RAM loses nothing. What
//! leaves a tier is what was used longest ago; pinned items and items whose keys and values somebody holds never do.
//!
//! Invariant: an item is visible only after it is whole in every tier it belongs to, and whatever a tier gives back is
//! compared with the tokens it must have.

mod disk;
mod following;
mod options;
mod remote;
mod state;
mod unreadable;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mos_core::ActivationId;

use crate::error::KvError;
use crate::file::{Stamp, decode, encode, prepare};
use crate::item::KvCacheItem;
use disk::Disk;
pub use options::{DiskTier, RemoteTier, TierOptions, TierUsage, WhenFull};
use remote::Remote;
use state::{Entry, Key, Newcomer, Room, State};
pub use unreadable::{CheckLimits, FolderCheck, UnreadableFile, check_folder};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Ram,
    Disk,
    Remote,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Ram => "RAM",
            Self::Disk => "disk",
            Self::Remote => "remote",
        }
    }
}

/// Items of any number of tenants in up to three tiers.
///
/// A tenant (`scope`) sees its own items only; budgets are common.
#[derive(Debug)]
pub struct KvTiers {
    options: TierOptions,
    disk: Option<Disk>,
    remote: Option<Remote>,
    state: Mutex<State>,
    /// Held while something is put or removed.
    writing: Mutex<()>,
}

impl KvTiers {
    /// Opens the tiers; what disk and remote store hold from earlier is there again. Files of writers that died are
    /// removed; a file that cannot be read is left alone, with a warning ([`KvTiers::unreadable`]).
    ///
    /// # Errors
    /// [`KvError::Io`]; [`KvError::Remote`].
    pub fn open(options: TierOptions) -> Result<Arc<Self>, KvError> {
        let disk = options.disk.as_ref().map(|tier| Disk::open(&tier.folder)).transpose()?;
        let remote = options.remote.as_ref().map(Remote::open).transpose()?;
        let tiers = Self { options, disk, remote, state: Mutex::default(), writing: Mutex::default() };
        if let Some(disk) = &tiers.disk {
            tiers.adopt(Tier::Disk, disk.find(disk.names()?.into_iter()))?;
        }
        if let Some(remote) = &tiers.remote {
            tiers.adopt(Tier::Remote, remote.scan()?)?;
        }
        Ok(Arc::new(tiers))
    }

    /// Returns a number that is another one when items of a tenant went, were replaced, or came from elsewhere.
    pub(crate) fn changes(&self, scope: &str) -> u64 {
        self.state().changes(scope)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self, tier: Tier) -> u64 {
        let TierOptions { ram_bytes, disk, remote, .. } = &self.options;
        match tier {
            Tier::Ram => *ram_bytes,
            Tier::Disk => disk.as_ref().map_or(0, |tier| tier.bytes),
            Tier::Remote => remote.as_ref().map_or(0, |tier| tier.bytes),
        }
    }

    /// Stores an item in every tier; an earlier one of its id is replaced. Returns the tenant's items that were
    /// dropped altogether for it, which happens only with [`WhenFull::Evict`].
    ///
    /// # Errors
    /// [`KvError::BudgetTooSmall`] when the item can never fit; [`KvError::NoRoom`]; [`KvError::NoState`];
    /// [`KvError::Io`]; [`KvError::Remote`]. Then nothing of it is visible, and the earlier item stays.
    pub fn put(&self, scope: &str, item: &KvCacheItem) -> Result<Vec<ActivationId>, KvError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = &self.disk {
            // The number of this writing must be greater than that of any other process.
            self.follow_disk(disk)?;
        }
        let key = Key::new(scope, &item.id);
        let segment = Arc::clone(item.require_segment()?);
        let earlier = self.state().entries.get(&key).map(|entry| (entry.name.clone(), entry.written));
        let written = earlier.as_ref().map_or(0, |(_, written)| *written) + 1;
        let name = key.file_name(item, written)?;
        let mut taken = [None; 3];
        let mut evicted = Vec::new();
        let result = self.put_everywhere(&key, item, (&name, written), &mut taken, &mut evicted);
        let mut state = self.state();
        if let Err(error) = result {
            state.give_back(taken);
            drop(state);
            if earlier.is_none_or(|(earlier, _)| earlier != name) {
                self.remove_files(&name, taken)?;
            }
            return Err(error);
        }
        let number = state.next();
        let mut entry = Entry::new(item.head(), name.clone(), segment.tokens().into(), written, number);
        entry.bytes = taken;
        entry.segment = taken[Tier::Ram as usize].map(|_| segment);
        let stale = state.insert(key, entry).filter(|old| old.name != name);
        drop(state);
        if let Some(old) = stale {
            self.remove_files(&old.name, old.bytes)?;
        }
        Ok(evicted.into_iter().filter(|key: &Key| key.scope == scope).map(|key| key.id).collect())
    }

    fn put_everywhere(
        &self,
        key: &Key,
        item: &KvCacheItem,
        (name, written): (&str, u64),
        taken: &mut [Option<u64>; 3],
        evicted: &mut Vec<Key>,
    ) -> Result<(), KvError> {
        let ram_bytes = item.require_segment()?.bytes() as u64;
        self.check_budget(Tier::Ram, ram_bytes)?;
        let (stamp, options) = (Stamp { scope: &key.scope, written }, &self.options);
        let on_disk = options.disk.as_ref().map(|tier| prepare(item, tier.encoding, stamp)).transpose()?;
        let remote = options.remote.as_ref().map(|tier| prepare(item, tier.encoding, stamp)).transpose()?;
        for (tier, prepared) in [(Tier::Disk, &on_disk), (Tier::Remote, &remote)] {
            if let Some(prepared) = prepared {
                self.check_budget(tier, prepared.bytes())?;
            }
        }
        let newcomer = |bytes, optional| Newcomer { key, bytes, saved_seconds: item.saved_seconds, hits: 0, optional };
        if let (Some(disk), Some(prepared)) = (&self.disk, &on_disk) {
            self.enter(Tier::Disk, newcomer(prepared.bytes(), false), evicted)?;
            taken[Tier::Disk as usize] = Some(prepared.bytes());
            disk.put(name, prepared)?;
        }
        if let (Some(remote_tier), Some(prepared)) = (&self.remote, &remote) {
            self.enter(Tier::Remote, newcomer(prepared.bytes(), false), evicted)?;
            taken[Tier::Remote as usize] = Some(prepared.bytes());
            remote_tier.put(name, encode(prepared)?)?;
        }
        let optional = on_disk.is_some() || remote.is_some();
        if self.enter(Tier::Ram, newcomer(ram_bytes, optional), evicted)? {
            taken[Tier::Ram as usize] = Some(ram_bytes);
        }
        Ok(())
    }

    fn check_budget(&self, tier: Tier, item_bytes: u64) -> Result<(), KvError> {
        let budget_bytes = self.budget(tier);
        if item_bytes <= budget_bytes {
            return Ok(());
        }
        Err(KvError::BudgetTooSmall { tier: tier.name(), budget_bytes, item_bytes })
    }

    /// Makes room in a tier and counts the newcomer in; returns whether it may enter.
    fn enter(&self, tier: Tier, newcomer: Newcomer<'_>, evicted: &mut Vec<Key>) -> Result<bool, KvError> {
        let budget_bytes = self.budget(tier);
        let mut state = self.state();
        let victims = match state.make_room(tier, newcomer, budget_bytes, self.options.when_full) {
            Room::After(victims) => victims,
            Room::NotWorthIt => return Ok(false),
            Room::None if newcomer.optional => return Ok(false),
            Room::None => {
                let used_bytes = state.in_tier[tier as usize];
                return Err(KvError::NoRoom {
                    tier: tier.name(),
                    budget_bytes,
                    used_bytes,
                    item_bytes: newcomer.bytes,
                });
            }
        };
        let mut files = Vec::new();
        for key in victims {
            let Some(entry) = state.entries.get(&key) else { continue };
            files.push(entry.name.clone());
            if entry.bytes.iter().all(Option::is_none) {
                state.take(&key);
                evicted.push(key);
            }
        }
        drop(state);
        let removed = files.iter().try_for_each(|name| self.remove_file(tier, name));
        if removed.is_err() {
            // The files that stay are found again by the next look at the folder.
            self.state().in_tier[tier as usize] -= newcomer.bytes;
        }
        removed.map(|()| true)
    }

    /// Returns an item with its keys and values, from the highest tier that has it; it enters RAM again when that
    /// pays. `None` when the tenant has no such item.
    ///
    /// # Errors
    /// [`KvError::Damaged`], [`KvError::Truncated`] and [`KvError::Newer`] when the tier's copy cannot be used;
    /// [`KvError::Io`]; [`KvError::Remote`].
    pub fn get(&self, scope: &str, id: &ActivationId) -> Result<Option<KvCacheItem>, KvError> {
        let key = Key::new(scope, id);
        let (name, in_disk) = {
            let mut state = self.state();
            let now = state.next();
            let Some(entry) = state.entries.get_mut(&key) else { return Ok(None) };
            (entry.used, entry.hits) = (now, entry.hits.saturating_add(1));
            if let Some(segment) = &entry.segment {
                check_tokens(entry, segment.tokens(), id)?;
                return Ok(Some(entry.head.clone().with_segment(Arc::clone(segment))));
            }
            (entry.name.clone(), entry.is_in(Tier::Disk))
        };
        let loaded = self.load(&name, in_disk)?;
        let mut state = self.state();
        let Some(entry) = state.entries.get(&key) else { return Ok(None) };
        if entry.name != name {
            drop(state);
            // It was replaced meanwhile.
            return self.get(scope, id);
        }
        let Some(loaded) = loaded else {
            // Another process removed it, or this one is about to have removed it.
            state.take(&key);
            return Ok(None);
        };
        let segment = Arc::clone(loaded.require_segment()?);
        check_tokens(entry, segment.tokens(), id)?;
        if let Some(resident) = &entry.segment {
            return Ok(Some(entry.head.clone().with_segment(Arc::clone(resident))));
        }
        let item = entry.head.clone().with_segment(Arc::clone(&segment));
        let bytes = segment.bytes() as u64;
        let (saved_seconds, hits) = (entry.head.saved_seconds, entry.hits);
        let newcomer = Newcomer { key: &key, bytes, saved_seconds, hits, optional: true };
        let room = state.make_room(Tier::Ram, newcomer, self.budget(Tier::Ram), WhenFull::Refuse);
        if let (Room::After(_), Some(entry)) = (room, state.entries.get_mut(&key)) {
            entry.bytes[Tier::Ram as usize] = Some(bytes);
            entry.segment = Some(segment);
        }
        Ok(Some(item))
    }

    fn load(&self, name: &str, in_disk: bool) -> Result<Option<KvCacheItem>, KvError> {
        if let (Some(disk), true) = (&self.disk, in_disk)
            && let Some(item) = disk.get(name)?
        {
            return Ok(Some(item));
        }
        let Some(remote) = &self.remote else { return Ok(None) };
        let Some(bytes) = remote.get(name)? else { return Ok(None) };
        decode(&bytes, &format!("the remote item `{name}`")).map(Some)
    }

    /// Returns a tenant's items in the order in which they came, without loading any: those in RAM with their keys
    /// and values, the others without.
    pub fn list(&self, scope: &str) -> Vec<KvCacheItem> {
        let state = self.state();
        let mut entries: Vec<&Entry> =
            state.entries.iter().filter(|(key, _)| key.scope == scope).map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.number);
        let shown = |entry: &Entry| match &entry.segment {
            Some(segment) => entry.head.clone().with_segment(Arc::clone(segment)),
            None => entry.head.clone(),
        };
        entries.into_iter().map(shown).collect()
    }

    /// Returns a tenant's items, without keys and values, and their tokens.
    pub(crate) fn tokens(&self, scope: &str) -> Vec<(KvCacheItem, Arc<[u32]>)> {
        let state = self.state();
        let own = state.entries.iter().filter(|(key, _)| key.scope == scope);
        own.map(|(_, entry)| (entry.head.clone(), Arc::clone(&entry.tokens))).collect()
    }

    /// Returns a tenant's item without loading its keys and values.
    pub fn peek(&self, scope: &str, id: &ActivationId) -> Option<KvCacheItem> {
        self.state().entries.get(&Key::new(scope, id)).map(|entry| entry.head.clone())
    }

    /// Removes an item from all tiers and returns whether it was there. Whoever holds its keys and values keeps them.
    ///
    /// # Errors
    /// [`KvError::Io`]; [`KvError::Remote`]. Then the item stays.
    pub fn remove(&self, scope: &str, id: &ActivationId) -> Result<bool, KvError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key::new(scope, id);
        let Some((name, bytes)) = self.state().entries.get(&key).map(|entry| (entry.name.clone(), entry.bytes)) else {
            return Ok(false);
        };
        self.remove_files(&name, bytes)?;
        self.state().take(&key);
        Ok(true)
    }

    /// Keeps an item in RAM, once it is there, until [`KvTiers::unpin`] was called as often. Returns whether there is
    /// such an item.
    pub fn pin(&self, scope: &str, id: &ActivationId) -> bool {
        let mut state = self.state();
        state.entries.get_mut(&Key::new(scope, id)).map(|entry| entry.pins += 1).is_some()
    }

    /// Takes back one [`KvTiers::pin`]; returns whether there was one.
    pub fn unpin(&self, scope: &str, id: &ActivationId) -> bool {
        let mut state = self.state();
        match state.entries.get_mut(&Key::new(scope, id)) {
            Some(entry) if entry.pins > 0 => {
                entry.pins -= 1;
                true
            }
            _ => false,
        }
    }

    /// Returns whether an item's keys and values are in RAM.
    pub fn is_in_ram(&self, scope: &str, id: &ActivationId) -> bool {
        self.state().entries.get(&Key::new(scope, id)).is_some_and(|entry| entry.segment.is_some())
    }

    /// Returns what all tenants' items take.
    pub fn usage(&self) -> TierUsage {
        let state = self.state();
        let [ram_bytes, disk_bytes, remote_bytes] = state.in_tier;
        TierUsage { n_items: state.entries.len(), ram_bytes, disk_bytes, remote_bytes }
    }

    /// Returns the bytes of a tenant's items in RAM.
    pub fn ram_bytes_of(&self, scope: &str) -> u64 {
        let state = self.state();
        let own = state.entries.iter().filter(|(key, _)| key.scope == scope);
        own.filter_map(|(_, entry)| entry.bytes[Tier::Ram as usize]).sum()
    }

    fn remove_file(&self, tier: Tier, name: &str) -> Result<(), KvError> {
        match (tier, &self.disk, &self.remote) {
            (Tier::Disk, Some(disk), _) => disk.remove(name),
            (Tier::Remote, _, Some(remote)) => remote.remove(name),
            _ => Ok(()),
        }
    }

    fn remove_files(&self, name: &str, bytes: [Option<u64>; 3]) -> Result<(), KvError> {
        for tier in [Tier::Disk, Tier::Remote] {
            if bytes[tier as usize].is_some() {
                self.remove_file(tier, name)?;
            }
        }
        Ok(())
    }
}

fn check_tokens(entry: &Entry, tokens: &[u32], id: &ActivationId) -> Result<(), KvError> {
    if *entry.tokens == *tokens {
        return Ok(());
    }
    Err(KvError::damaged(format!("item {id}"), "its tier gave back keys and values of other tokens"))
}
