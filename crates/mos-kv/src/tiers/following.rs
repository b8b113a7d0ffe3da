//! Taking over what the tiers below RAM hold: at the start, and what other processes did since.

use std::collections::HashSet;
use std::sync::TryLockError;

use super::disk::Disk;
use super::remote::Found;
use super::state::{Entry, Key};
use super::{KvTiers, Tier};
use crate::error::KvError;

impl KvTiers {
    /// Looks at the disk tier again and takes over what other processes wrote, replaced and removed there. When
    /// something is being written from here at this moment, nothing is done.
    ///
    /// # Errors
    /// [`KvError::Io`].
    pub fn follow(&self) -> Result<(), KvError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let _writing = match self.writing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        self.follow_disk(disk)
    }

    pub(super) fn follow_disk(&self, disk: &Disk) -> Result<(), KvError> {
        let names = disk.names()?;
        let mut known = HashSet::new();
        {
            let mut state = self.state();
            let mut gone = Vec::new();
            for (key, entry) in state.entries.iter().filter(|(_, entry)| entry.is_in(Tier::Disk)) {
                if !names.contains(&entry.name) {
                    gone.push(key.clone());
                }
                known.insert(entry.name.clone());
            }
            gone.iter().for_each(|key| state.lose(Tier::Disk, key));
        }
        let new = disk.find(names.into_iter().filter(|name| !known.contains(name)));
        self.adopt(Tier::Disk, new)
    }

    /// Takes over what a tier holds. Of several files of one id the one that was written last counts: others are left
    /// by a crash, or are about to be removed by the process that replaced them.
    pub(super) fn adopt(&self, tier: Tier, mut found: Vec<(String, Found)>) -> Result<(), KvError> {
        found.sort_by(|(a_name, a), (b_name, b)| {
            (&a.head.item.records.timestamp, a_name).cmp(&(&b.head.item.records.timestamp, b_name))
        });
        for (name, Found { head, tokens, bytes }) in found {
            let key = Key::new(&head.scope, &head.item.id);
            let mut state = self.state();
            let mut counts = name.clone();
            let stale = match state.entries.get_mut(&key) {
                Some(known) if known.name == name => {
                    known.bytes[tier as usize] = Some(bytes);
                    state.in_tier[tier as usize] += bytes;
                    None
                }
                Some(known) if (known.written, &known.name) > (head.written, &name) => {
                    counts.clone_from(&known.name);
                    Some(name)
                }
                _ => {
                    let number = state.next();
                    let mut entry = Entry::new(head.item, name, tokens.into(), head.written, number);
                    entry.bytes[tier as usize] = Some(bytes);
                    state.in_tier[tier as usize] += bytes;
                    state.note_change(&key.scope);
                    state.insert(key, entry).map(|old| old.name)
                }
            };
            drop(state);
            // Others may share a remote folder: what looks stale from here need not be. Nor is it where that which counts
            // has gone meanwhile, from all tiers: somebody has begun anew.
            if let (Some(stale), Tier::Disk, Some(disk)) = (stale, tier, &self.disk)
                && self.is_below_ram(disk, &counts)?
            {
                disk.remove(&stale)?;
            }
        }
        Ok(())
    }

    /// Returns whether a tier below RAM has a file, whatever is known of it.
    fn is_below_ram(&self, disk: &Disk, name: &str) -> Result<bool, KvError> {
        if disk.has(name)? {
            return Ok(true);
        }
        self.remote.as_ref().map_or(Ok(false), |remote| remote.has(name))
    }
}
