//! What exists and a request reaches: cubes that it names, cubes of its user, memories by their ids. Nothing is made here.

use std::collections::HashSet;

use mos_core::{Cube, CubeId, MemoryId, MemoryItem, UserId};

use super::app::Product;
use super::caller::{Identity, Scope};
use super::error::{ProductError, ProductResult};
use crate::error::Error;

/// How many cubes are asked for ids at the same time.
const N_AT_ONCE: usize = 16;

/// The most ids that one request may name.
const MAX_IDS: usize = 1000;

/// A cube, and the user whose rights count in it.
pub(super) struct Reached {
    /// Who acts.
    pub(super) user: UserId,
    /// The cube, with rights checked.
    pub(super) cube: Cube,
}

impl Product {
    /// Returns the user that a request is for: the one that it names, else the one who calls; `None` for a program that names
    /// nobody.
    pub(super) fn acting(&self, user_id: Option<&str>) -> ProductResult<Option<UserId>> {
        match (user_id, &self.caller.identity) {
            (Some(user_id), _) => self.user(user_id).map(Some),
            (None, Identity::User(user)) => Ok(Some(user.clone())),
            (None, Identity::Program) => Ok(None),
        }
    }

    /// Returns a cube that a request names, `None` when there is none. A program that names no user acts for its owner.
    ///
    /// # Errors
    /// Status 403 for a cube that the caller or the user may not use in this way.
    pub(super) async fn existing(
        &self,
        scope: Scope,
        user_id: Option<&str>,
        cube: &CubeId,
    ) -> ProductResult<Option<Reached>> {
        self.caller.check(scope)?;
        let user = self.acting(user_id)?;
        self.caller.check_cube(cube)?;
        let Some(known) = self.mos().parts.users.cube(cube).await? else { return Ok(None) };
        let user = match user {
            Some(user) => {
                self.let_in(&user).await?;
                user
            }
            None => known.owner_id.clone(),
        };
        match scope {
            Scope::Read => self.mos().check_reads(&user, cube).await?,
            Scope::Write | Scope::Admin => drop(self.mos().cube(&user, cube).await?),
        }
        if !known.is_registered {
            return Err(Error::NotRegistered(known.cube_id).into());
        }
        Ok(Some(Reached { user, cube: known }))
    }

    /// Returns the cubes that a user owns or that were shared with it, newest first, when the caller may use them.
    pub(super) async fn cubes_of(&self, user: &UserId) -> ProductResult<Vec<Cube>> {
        let cubes = self.mos().parts.users.cubes(Some(user)).await?;
        Ok(self.usable(cubes))
    }

    /// Returns the cubes that a user may have written to, when the caller may use them: where cubes are open to everybody, that
    /// may be any. Whoever asks here looks in them for what is this user's alone.
    pub(super) async fn cubes_open_to(&self, user: &UserId) -> ProductResult<Vec<Cube>> {
        if self.app.options().is_open { self.within_reach().await } else { self.cubes_of(user).await }
    }

    /// Returns every cube that the caller may use, whoever it belongs to, newest first.
    pub(super) async fn within_reach(&self) -> ProductResult<Vec<Cube>> {
        match (&self.caller.identity, &self.caller.cubes) {
            (Identity::User(user), _) if !self.app.options().is_open => self.cubes_of(user).await,
            (_, Some(named)) => {
                let mut cubes = Vec::new();
                for cube in named {
                    cubes.extend(self.mos().parts.users.cube(cube).await?);
                }
                Ok(self.usable(cubes))
            }
            (_, None) => Ok(self.usable(self.mos().parts.users.cubes(None).await?)),
        }
    }

    fn usable(&self, mut cubes: Vec<Cube>) -> Vec<Cube> {
        cubes.retain(|cube| cube.is_registered && self.caller.check_cube(&cube.cube_id).is_ok());
        cubes
    }

    /// Returns the memories of these ids by cube, in the order of the cubes. Each cube looks its ids up; with `is_first_enough`
    /// no cube is asked any more once every id was found.
    pub(super) async fn holding(
        &self,
        cubes: Vec<Cube>,
        ids: &[MemoryId],
        is_first_enough: bool,
    ) -> ProductResult<Vec<(Cube, Vec<MemoryItem>)>> {
        let record = &self.mos().parts.record;
        let (mut held, mut missing) = (Vec::new(), ids.to_vec());
        let mut cubes = cubes.into_iter();
        loop {
            let some: Vec<Cube> = cubes.by_ref().take(N_AT_ONCE).collect();
            if some.is_empty() || missing.is_empty() {
                return Ok(held);
            }
            let wanted = missing.as_slice();
            let scopes: Vec<mos_core::Scope> = some.iter().map(|cube| mos_core::Scope::of(&cube.cube_id)).collect();
            let asked = scopes.iter().map(|scope| record.nodes(scope, wanted));
            let found = futures::future::try_join_all(asked).await?;
            let found: Vec<_> = some.into_iter().zip(found).filter(|(_, items)| !items.is_empty()).collect();
            if is_first_enough {
                let known: HashSet<&MemoryId> =
                    found.iter().flat_map(|(_, items)| items).map(|item| &item.id).collect();
                missing.retain(|id| !known.contains(id));
            }
            held.extend(found);
        }
    }
}

/// Returns the ids of memories that a request names; texts that can be none are left out.
///
/// # Errors
/// Status 400 for too many.
pub(super) fn memory_ids(texts: &[String]) -> ProductResult<Vec<MemoryId>> {
    if texts.len() > MAX_IDS {
        return Err(ProductError::bad_value(format!("at most {MAX_IDS} memories can be named at once")));
    }
    let mut ids: Vec<MemoryId> = Vec::with_capacity(texts.len());
    for text in texts {
        if let Ok(id) = MemoryId::parse(text.as_str())
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}
