//! How many memories a shelf takes.

use std::collections::{BTreeMap, HashSet};

use mos_core::{MemoryError, MemoryId, MemoryType, Origin, WriteBatch};

use super::TreeText;
use super::shelves::Shelved;

/// What a write brings.
#[derive(Debug, Default)]
pub(super) struct Coming {
    /// New memories per type.
    pub(super) n_new: BTreeMap<MemoryType, usize>,
    /// Known memories that it changes: they do not go.
    pub(super) spared: HashSet<MemoryId>,
}

impl TreeText {
    /// Returns the memories that have to go so that no shelf holds more than it takes, with their working copies.
    pub(super) fn surplus(&self, shelved: &Shelved, coming: &Coming) -> Vec<MemoryId> {
        let n_new = |kind: MemoryType| coming.n_new.get(&kind).copied().unwrap_or_default();
        let may_go = |id: &MemoryId| !coming.spared.contains(id);
        let mut gone: Vec<MemoryId> = Vec::new();
        for (kind, limit) in self.options.limits.iter().filter(|(kind, _)| **kind != MemoryType::Working) {
            let n_over = (shelved.count(*kind) + n_new(*kind)).saturating_sub(*limit);
            gone.extend(shelved.oldest(*kind, n_over, may_go));
        }
        if !gone.is_empty() {
            gone.extend(shelved.copies_of(&gone));
        }
        let is_gone: HashSet<MemoryId> = gone.iter().cloned().collect();
        let working = MemoryType::Working;
        let n_gone = shelved.shown().values().filter(|copy| is_gone.contains(*copy)).count();
        let n_working = shelved.count(working) - n_gone + n_new(working);
        let n_over = n_working.saturating_sub(self.options.working_limit());
        gone.extend(shelved.oldest(working, n_over, |id| may_go(id) && !is_gone.contains(id)));
        gone
    }

    /// Removes what a write has brought beyond the limits, and what others have brought at the same time. That it could not
    /// is no error of the write, which is done: the next one tries again.
    pub(super) async fn trim(&self, shelved: &mut Shelved, origin: &Origin) {
        if let Err(error) = self.try_trim(shelved, origin).await {
            tracing::warn!(cube = %self.scope().cube, %error, "memories beyond the limits could not be removed");
        }
    }

    async fn try_trim(&self, shelved: &mut Shelved, origin: &Origin) -> Result<(), MemoryError> {
        shelved.settle(self.record(), self.scope()).await?;
        let delete = self.surplus(shelved, &Coming::default());
        if !delete.is_empty() {
            let origin = Origin { reason: "limit".to_owned(), ..origin.clone() };
            self.record().apply(self.scope(), WriteBatch { delete, ..WriteBatch::new(origin) }).await?;
        }
        Ok(())
    }
}
