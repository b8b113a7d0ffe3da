//! Removing many memories at once, and removals that can be taken back.

use mos_core::{CubeId, Filter, MemoryId, Origin, Paging, StoreError, UserId};

use super::{CubeHandle, Mos};
use crate::error::{Error, Result};

/// How many memories are read and removed at a time: a filter may mean a whole cube.
const PORTION: usize = 10_000;

/// How often a deletion starts anew because somebody changed what it is about.
const MAX_ATTEMPTS: usize = 8;

/// The longest name of a deletion, in bytes.
const MAX_RECORD_BYTES: usize = 512;

impl Mos {
    /// Removes memories and preferences of a cube (without an id the default one) and returns how many there were; unknown ids
    /// are no error.
    ///
    /// # Errors
    /// Rights; store errors.
    pub async fn delete_many(&self, user: &UserId, cube: Option<&CubeId>, ids: &[MemoryId]) -> Result<usize> {
        let cube = self.target(user, cube).await?;
        self.remove_from(&cube, user, ids).await
    }

    /// Removes the memories and preferences that pass a filter, whatever their status, and returns how many there were. They
    /// go in portions of 10,000; after an error the portions before it are gone.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for the filter that everything passes ([`Mos::delete_all`] says that it means everything);
    /// store errors.
    pub async fn delete_by_filter(&self, user: &UserId, cube: Option<&CubeId>, filter: &Filter) -> Result<usize> {
        if *filter == Filter::Everything {
            let text = "this filter lets everything pass; delete everything with delete_all, or name what is meant";
            return Err(Error::Invalid(text.to_owned()));
        }
        let cube = self.target(user, cube).await?;
        let (scope, paging) = (cube.scope(), Paging { offset: 0, limit: PORTION });
        let (mut n_deleted, mut n_idle) = (0, 0);
        loop {
            let found = self.parts.record.list(&scope, filter, paging).await?.entries;
            let ids: Vec<MemoryId> = found.into_iter().map(|item| item.id).collect();
            let n_of_portion = self.remove_from(&cube, user, &ids).await?;
            n_deleted += n_of_portion;
            if ids.is_empty() {
                return Ok(n_deleted);
            }
            // Somebody else may have removed the same ones a moment before.
            n_idle = if n_of_portion == 0 { n_idle + 1 } else { 0 };
            if n_idle == MAX_ATTEMPTS {
                let what = "memories that should go are still there because others change the cube; try again";
                return Err(StoreError::Conflict(what.to_owned()).into());
            }
        }
    }

    async fn remove_from(&self, cube: &CubeHandle, user: &UserId, ids: &[MemoryId]) -> Result<usize> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.forget_promoted_memories(cube, Some(ids)).await?;
        let origin = Origin::new(user.as_str(), "delete");
        let mut n_deleted = match cube.pref_mem() {
            Some(preferences) => preferences.delete(ids, origin.clone()).await?,
            None => 0,
        };
        n_deleted += cube.text_mem().delete(ids, origin).await?;
        self.has_changed(&cube.info().cube_id);
        self.forget_in_monitors(cube, Some(ids)).await;
        Ok(n_deleted)
    }

    /// Marks every memory and preference of a cube (without an id the default one) as deleted and returns how many were not
    /// before. Nothing finds them then, until [`Mos::recover_deleted`] takes the deletion of this name back.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for an empty or overlong name; a conflict when others keep changing the cube.
    pub async fn soft_delete_all(&self, user: &UserId, cube: Option<&CubeId>, record: &str) -> Result<usize> {
        check_record(record)?;
        let cube = self.target(user, cube).await?;
        self.forget_promoted_memories(&cube, None).await?;
        let (scope, at) = (cube.scope(), self.parts.clock.now_text());
        let mut attempt = 1;
        let n_marked = loop {
            let origin = Origin::new(user.as_str(), "soft_delete");
            match self.parts.record.soft_delete(&scope, &Filter::Everything, record, &at, origin).await {
                Ok(n_marked) => break n_marked,
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        };
        self.has_changed(&cube.info().cube_id);
        self.forget_in_monitors(&cube, None).await;
        Ok(n_marked)
    }

    /// Takes back what [`Mos::soft_delete_all`] did under the same name and returns how many memories are there again; an
    /// unknown name brings none.
    ///
    /// # Errors
    /// As [`Mos::soft_delete_all`].
    pub async fn recover_deleted(&self, user: &UserId, cube: Option<&CubeId>, record: &str) -> Result<usize> {
        check_record(record)?;
        let cube = self.target(user, cube).await?;
        let scope = cube.scope();
        let mut attempt = 1;
        let n_recovered = loop {
            let origin = Origin::new(user.as_str(), "recover");
            match self.parts.record.recover(&scope, record, origin).await {
                Ok(n_recovered) => break n_recovered,
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        };
        self.has_changed(&cube.info().cube_id);
        Ok(n_recovered)
    }

    /// Removes for good what [`Mos::soft_delete_all`] marked under this name and returns how many memories there were.
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for an empty or overlong name; store errors.
    pub async fn erase_deleted(&self, user: &UserId, cube: Option<&CubeId>, record: &str) -> Result<usize> {
        check_record(record)?;
        let marked = Filter::equals("status", "deleted").and(Filter::equals("delete_record_id", record));
        self.delete_by_filter(user, cube, &marked).await
    }
}

fn check_record(record: &str) -> Result<()> {
    if record.trim().is_empty() || record.len() > MAX_RECORD_BYTES {
        return Err(Error::Invalid(format!(
            "the name of a deletion has 1 to {MAX_RECORD_BYTES} bytes, this one {}",
            record.len()
        )));
    }
    Ok(())
}
