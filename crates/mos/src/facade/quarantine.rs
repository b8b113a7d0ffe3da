//! Memories that are kept apart, because strangers wrote them in the manner of instructions: looking at them, releasing them.

use mos_core::memory::{QUARANTINE, Quarantined};
use mos_core::{CubeId, MemoryError, MemoryId, MemoryItem, Origin, Status, UserId};

use super::{CubeHandle, Mos};
use crate::error::{Error, Result};

impl Mos {
    /// Returns at most `limit` memories of a cube (without an id the default one) that are kept apart;
    /// [`MemoryItem::quarantine_reason`] tells why. [`Mos::release`] lets one take part in searches, [`Mos::delete`] removes it.
    ///
    /// # Errors
    /// Rights; store errors.
    pub async fn quarantined(&self, user: &UserId, cube: Option<&CubeId>, limit: usize) -> Result<Vec<MemoryItem>> {
        let cube = self.target_to_read(user, cube).await?;
        Ok(self.parts.record.kept_apart(&cube.scope(), limit).await?)
    }

    /// Lets a memory that is kept apart take part in searches, and returns it. Its history tells who released it.
    ///
    /// # Errors
    /// Rights; an error for an unknown id; [`Error::Invalid`] for a memory that is not kept apart.
    pub async fn release(&self, user: &UserId, cube: Option<&CubeId>, id: &MemoryId) -> Result<MemoryItem> {
        let cube = self.target(user, cube).await?;
        let mut item = cube.text_mem().get(id).await?;
        if !item.release() {
            return Err(Error::Invalid(format!("memory `{id}` is not in quarantine; there is nothing to release")));
        }
        let item = cube.text_mem().update(id, item, Origin::new(user.as_str(), "release")).await?;
        self.has_changed(&cube.info().cube_id);
        Ok(item)
    }

    /// Keeps apart what belongs there among new memories, unless the settings say otherwise, and returns it.
    ///
    /// # Errors
    /// An error when the program is ending; the memories are lost then.
    pub(crate) async fn quarantine_new(
        &self,
        items: &mut Vec<MemoryItem>,
    ) -> std::result::Result<Vec<Quarantined>, MemoryError> {
        if !self.parts.settings.reader.quarantine {
            return Ok(Vec::new());
        }
        mos_reader::keep_all_apart(items).await
    }

    /// Returns the next state of a memory so that changing it is no way around what is known of it: it is trusted no further than
    /// before, what is kept apart stays so until [`Mos::release`], and what reads like instructions only now is kept apart,
    /// unless the settings say otherwise.
    ///
    /// # Errors
    /// An error when the program is ending; nothing is changed then.
    pub(crate) async fn kept_in_check(&self, known: &MemoryItem, mut next: MemoryItem) -> Result<MemoryItem> {
        next.metadata.trust_at_most(known.metadata.trust());
        let is_out_of_use = matches!(known.metadata.status, Some(Status::Archived | Status::Deleted));
        let reason = known.metadata.extra.get(QUARANTINE).and_then(|reason| reason.as_str());
        if let Some(reason) = reason.filter(|_| is_out_of_use) {
            let is_deleted = next.metadata.status == Some(Status::Deleted);
            next.quarantine(reason);
            if is_deleted {
                // The reason stays, for when it is brought back.
                next.metadata.status = Some(Status::Deleted);
            }
        }
        if !self.parts.settings.reader.quarantine {
            return Ok(next);
        }
        Ok(mos_reader::keep_changed_apart(&known.memory, next).await?)
    }

    /// Returns those of a reading that are kept apart now: what was read before may have been released since, or removed.
    pub(super) async fn still_quarantined(
        &self,
        cube: &CubeHandle,
        told: Vec<Quarantined>,
    ) -> Result<Vec<Quarantined>> {
        if told.is_empty() {
            return Ok(told);
        }
        let ids: Vec<MemoryId> = told.iter().map(|one| one.id.clone()).collect();
        let present = cube.text_mem().get_by_ids(&ids).await?;
        let is_apart =
            |one: &Quarantined| present.iter().any(|item| item.id == one.id && item.quarantine_reason().is_some());
        Ok(told.into_iter().filter(is_apart).collect())
    }
}
