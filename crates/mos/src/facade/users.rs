//! Users.

use mos_core::{User, UserId, UserRole};

use super::Mos;
use crate::error::{Error, Result};

impl Mos {
    /// Makes a user and returns it. Without a name the id is the name; a user of that name that exists already is
    /// returned as it is, and one that was deleted is active again, with its cubes.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an empty or overlong id.
    pub async fn create_user(&self, id: impl Into<UserId>, name: Option<&str>) -> Result<User> {
        self.create_user_with_role(id, name, UserRole::User).await
    }

    /// As [`Mos::create_user`], with a role. The role is recorded; no operation of this facade asks for it.
    ///
    /// # Errors
    /// As [`Mos::create_user`]; [`Error::Invalid`](crate::Error::Invalid) for [`UserRole::Root`], which is `root`'s alone.
    pub async fn create_user_with_role(
        &self,
        id: impl Into<UserId>,
        name: Option<&str>,
        role: UserRole,
    ) -> Result<User> {
        let id = UserId::parse(id.into().as_str())?;
        let name = UserId::parse(name.unwrap_or(id.as_str()))?;
        if role == UserRole::Root {
            return Err(Error::Invalid(
                "the role ROOT belongs to the user `root`; choose ADMIN, USER or GUEST".to_owned(),
            ));
        }
        Ok(self.parts.users.create_user(&id, name.as_str(), role).await?)
    }

    /// Returns the active user of an id, made now when the id was never used.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an empty or overlong id; a conflict when the user was deleted
    /// ([`Mos::create_user`] brings it back) or another user has the name.
    pub async fn ensure_user(&self, id: &UserId) -> Result<User> {
        Ok(self.parts.users.ensure_user(&UserId::parse(id.as_str())?).await?)
    }

    /// Returns the active users, oldest first.
    ///
    /// # Errors
    /// Store errors.
    pub async fn list_users(&self) -> Result<Vec<User>> {
        Ok(self.parts.users.users().await?)
    }

    /// Deactivates a user. Its cubes stay, so that nobody's memories are lost by it.
    ///
    /// # Errors
    /// An error for an unknown user and for `root`.
    pub async fn delete_user(&self, id: &UserId) -> Result<()> {
        self.parts.users.delete_user(id).await?;
        self.parts.transcripts.clear(id);
        Ok(())
    }

    /// Returns whether an active user has this id.
    ///
    /// # Errors
    /// Store errors.
    pub async fn has_user(&self, id: &UserId) -> Result<bool> {
        Ok(self.parts.users.user(id).await?.is_some())
    }

    /// Returns whether a cube has this id, whosever it is.
    pub(crate) async fn has_cube(&self, cube: &mos_core::CubeId) -> Result<bool> {
        Ok(self.parts.users.cube(cube).await?.is_some())
    }

    /// Refuses unless the user may read the cube.
    pub(crate) async fn check_reads(&self, user: &UserId, cube: &mos_core::CubeId) -> Result<()> {
        self.checked_cube(user, cube).await.map(drop)
    }

    /// Lets a user read and write a cube without asking its owner: for installations whose cubes are open to everybody.
    pub(crate) async fn open_cube_to(&self, user: &UserId, cube: &mos_core::CubeId) -> Result<()> {
        if self.parts.users.access(user, cube).await?.is_none() {
            self.parts.users.share(cube, user).await?;
        }
        Ok(())
    }
}
