//! Who may do what with a cube: every operation asks here first.
//!
//! A right is the least of what the cube was shared for and what the user's role allows: a guest only reads.

use std::sync::atomic::Ordering;

use mos_core::{Access, Cube, CubeId, Standing, User, UserId, UserRole};

use super::{CubeHandle, Mos};
use crate::error::{Error, Result};

/// What a user of a role may do with a cube that it was given a right to.
pub(super) fn effective(role: UserRole, access: Access) -> Access {
    match role {
        UserRole::Guest => access.min(Access::Reader),
        UserRole::Root | UserRole::Admin | UserRole::User => access,
    }
}

/// Refuses a user who was never seen as any other who has no right to a cube.
fn as_stranger<T>(cube: &CubeId, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| match error {
        Error::UnknownUser(user) => Error::NoAccess { user, cube: cube.clone() },
        error => error,
    })
}

fn refused_guest(user: &UserId, what: &str) -> Error {
    let what = format!("{what}: its role is GUEST, which only reads; ROOT or an ADMIN may give it another");
    Error::NotAllowed { user: user.clone(), what }
}

impl Mos {
    /// Returns the user, refused unless it exists and is active.
    pub(crate) async fn checked_user(&self, user: &UserId) -> Result<User> {
        let found = self.parts.users.user(user).await?;
        found.ok_or_else(|| Error::UnknownUser(user.clone()))
    }

    /// Refuses unless the user exists and may have cubes of its own.
    pub(crate) async fn check_may_own(&self, user: &UserId) -> Result<()> {
        match self.checked_user(user).await?.role {
            UserRole::Guest => Err(refused_guest(user, "have cubes of its own")),
            UserRole::Root | UserRole::Admin | UserRole::User => Ok(()),
        }
    }

    async fn rights(&self, user: &UserId, cube: &CubeId) -> Result<(Cube, Access, UserRole)> {
        self.rights_of(user, cube, self.parts.users.standing(user, cube).await?)
    }

    fn rights_of(&self, user: &UserId, cube: &CubeId, standing: Standing) -> Result<(Cube, Access, UserRole)> {
        let role = standing.user.ok_or_else(|| Error::UnknownUser(user.clone()))?.role;
        let refused = || Error::NoAccess { user: user.clone(), cube: cube.clone() };
        // Whoever was given less before is no worse off than a stranger.
        let access = standing.access.max(self.is_open().then_some(Access::Member)).ok_or_else(refused)?;
        let cube = standing.cube.ok_or_else(refused)?;
        Ok((cube, effective(role, access), role))
    }

    /// Returns the cube and what the user may do with it, refused unless that is anything.
    pub(crate) async fn checked_cube(&self, user: &UserId, cube: &CubeId) -> Result<(Cube, Access)> {
        let (cube, access, _) = self.rights(user, cube).await?;
        Ok((cube, access))
    }

    /// As [`Mos::checked_cube`], refused unless the user may write to the cube.
    pub(crate) async fn writable_cube(&self, user: &UserId, cube: &CubeId) -> Result<(Cube, Access)> {
        match self.rights(user, cube).await? {
            (cube, access @ (Access::Member | Access::Owner), _) => Ok((cube, access)),
            (_, Access::Reader, UserRole::Guest) => Err(refused_guest(user, "write to cubes")),
            (cube, Access::Reader, _) => Err(Error::NotWriter { user: user.clone(), cube: cube.cube_id }),
        }
    }

    /// Refuses unless the user owns the cube.
    pub(crate) async fn owned_cube(&self, user: &UserId, cube: &CubeId) -> Result<Cube> {
        match self.rights(user, cube).await? {
            (cube, Access::Owner, _) => Ok(cube),
            (_, _, UserRole::Guest) => Err(refused_guest(user, "change cubes")),
            (cube, _, _) => Err(Error::NotOwner { user: user.clone(), cube: cube.cube_id }),
        }
    }

    /// Returns a registered cube to somebody who may read it. Whoever calls this writes nothing to it.
    pub(crate) async fn readable_cube(&self, user: &UserId, cube: &CubeId) -> Result<CubeHandle> {
        let (cube, access) = self.checked_cube(user, cube).await?;
        self.handle(user, cube, access)
    }

    /// The cube that is named, or the default one; registered, and the user may write to it.
    pub(crate) async fn target(&self, user: &UserId, cube: Option<&CubeId>) -> Result<CubeHandle> {
        match cube {
            Some(cube) => self.cube(user, cube).await,
            None => self.cube(user, &self.default_cube(user).await?).await,
        }
    }

    /// The cube that is named, or the default one; registered, and the user may read it. Whoever calls this writes nothing
    /// to it.
    pub(crate) async fn target_to_read(&self, user: &UserId, cube: Option<&CubeId>) -> Result<CubeHandle> {
        match cube {
            Some(cube) => self.readable_cube(user, cube).await,
            None => self.readable_cube(user, &self.default_cube(user).await?).await,
        }
    }

    /// Returns whether a cube has this id, whosever it is.
    pub(crate) async fn has_cube(&self, cube: &CubeId) -> Result<bool> {
        Ok(self.parts.users.cube(cube).await?.is_some())
    }

    /// Refuses unless the user may read the cube. One who was never seen is a stranger to it as any other.
    pub(crate) async fn check_reads(&self, user: &UserId, cube: &CubeId) -> Result<()> {
        let standing = self.parts.users.standing(user, cube).await?;
        as_stranger(cube, self.rights_of(user, cube, standing)).map(drop)
    }

    /// As [`Mos::check_reads`], and returns the cube; `None` when no cube has this id.
    pub(crate) async fn cube_to_read(&self, user: &UserId, cube: &CubeId) -> Result<Option<Cube>> {
        let standing = self.parts.users.standing(user, cube).await?;
        if standing.cube.is_none() {
            return Ok(None);
        }
        let (cube, _, _) = as_stranger(cube, self.rights_of(user, cube, standing))?;
        Ok(Some(cube))
    }

    /// As [`Mos::check_reads`], refused unless the user may write to the cube and it is registered.
    pub(crate) async fn check_writes(&self, user: &UserId, cube: &CubeId) -> Result<()> {
        as_stranger(cube, self.cube(user, cube).await).map(drop)
    }

    /// Lets every user read and write every cube as long as this facade and its clones live: for tests on one machine. Nobody is
    /// given a right that would stay.
    pub(crate) fn open_cubes(&self) {
        self.parts.is_open.store(true, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.parts.is_open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_only_read_and_nobody_gets_more_than_was_given() {
        for access in [Access::Reader, Access::Member, Access::Owner] {
            assert_eq!(effective(UserRole::Guest, access), Access::Reader);
            for role in [UserRole::Root, UserRole::Admin, UserRole::User] {
                assert_eq!(effective(role, access), access);
            }
        }
    }
}
