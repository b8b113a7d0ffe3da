//! Changing memories: whole, or so that changes that overlap lose nothing.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mos_core::{CubeId, MemoryError, MemoryId, MemoryItem, Origin, StoreError, UserId};
use tokio::sync::{Mutex, MutexGuard};

use super::Mos;
use crate::error::{Error, Result};

/// How often a change is made again because somebody else has changed the same memory meanwhile.
const MAX_ATTEMPTS: usize = 16;

/// How many changes of different memories of this program go on at a time.
const N_TURNS: usize = 64;

/// Lets one change at a time of a memory begin in this program: who waits for nobody would make the others try again for ever.
/// Programs elsewhere are told apart by versions alone.
#[derive(Debug)]
pub(crate) struct Turns([Mutex<()>; N_TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    /// Waits for the turn of a memory. Two memories may share one.
    async fn of(&self, id: &MemoryId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        self.0[hasher.finish() as usize % N_TURNS].lock().await
    }
}

impl Mos {
    /// Replaces text and metadata of a memory and returns it; its id stays, its earlier state is kept. It is trusted no further
    /// than before, and one that is kept apart stays so until [`Mos::release`]; a stranger's memory that reads like instructions
    /// only now is kept apart.
    ///
    /// # Errors
    /// Rights; an error for an unknown id or an empty text.
    pub async fn update(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        id: &MemoryId,
        item: MemoryItem,
    ) -> Result<MemoryItem> {
        let cube = self.target(user, cube).await?;
        let item = self.before_update(user, &cube, item).await?;
        let known = cube.text_mem().get(id).await?;
        let item = self.kept_in_check(&known, item).await?;
        self.forget_promoted_memories(&cube, Some(std::slice::from_ref(id))).await?;
        let item = cube.text_mem().update(id, item, Origin::new(user.as_str(), "update")).await?;
        self.has_changed(&cube.info().cube_id);
        Ok(item)
    }

    /// As [`Mos::update`] of the memory that `known` is, but only while it is still of that version: of two changes that were
    /// worked out from the same state, the second is refused instead of taking the first one back.
    ///
    /// # Errors
    /// As [`Mos::update`]; a conflict when the memory was changed meanwhile: read it again, and try again.
    pub async fn update_known(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        known: &MemoryItem,
        item: MemoryItem,
    ) -> Result<MemoryItem> {
        let cube = self.target(user, cube).await?;
        let item = self.before_update(user, &cube, item).await?;
        let item = self.kept_in_check(known, item).await?;
        self.forget_promoted_memories(&cube, Some(std::slice::from_ref(&known.id))).await?;
        let item = cube.text_mem().update_known(known, item, Origin::new(user.as_str(), "update")).await?;
        self.has_changed(&cube.info().cube_id);
        Ok(item)
    }

    /// Changes a memory that was read, and returns it. When somebody else has changed it meanwhile, the change is made of what
    /// it is then, so that none is lost.
    ///
    /// ```no_run
    /// # async fn run(mos: mos::Mos, id: mos_core::MemoryId) -> mos::Result<()> {
    /// let ann = mos_core::UserId::from("ann");
    /// let known = mos.get(&ann, None, &id).await?;
    /// let name = |item: &mut mos_core::MemoryItem| -> mos::Result<()> {
    ///     item.metadata.key = Some("Breakfast".to_owned());
    ///     Ok(())
    /// };
    /// println!("{:?}", mos.update_with(&ann, None, known, name).await?.metadata.key);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `change` refuses; as [`Mos::get`] and [`Mos::update`]; a conflict when others keep changing it.
    pub async fn update_with<E: From<Error>>(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        mut known: MemoryItem,
        change: impl Fn(&mut MemoryItem) -> std::result::Result<(), E> + Send + Sync,
    ) -> std::result::Result<MemoryItem, E> {
        let _turn = self.parts.changing.of(&known.id).await;
        let mut attempt = 1;
        loop {
            let mut next = known.clone();
            change(&mut next)?;
            match self.update_known(user, cube, &known, next).await {
                Err(Error::Memory(MemoryError::Store(StoreError::Conflict(_)))) if attempt < MAX_ATTEMPTS => {
                    attempt += 1;
                }
                done => return Ok(done?),
            }
            known = self.get(user, cube, &known.id).await?;
        }
    }
}
