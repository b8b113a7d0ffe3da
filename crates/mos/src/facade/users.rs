//! Users, and who administers them.
//!
//! Methods without an actor are for the program that holds the facade: it is trusted. Those that end in `_as`, and
//! [`Mos::set_user_role`], ask whether the actor may do so.

use mos_core::{Access, Cube, CubeId, StoreError, User, UserId, UserRole};
use serde::Serialize;

use super::Mos;
use super::rights::effective;
use crate::error::{Error, Result};

/// A user and the cubes it may use, in the shape of MemOS' `get_user_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// Its id.
    pub user_id: UserId,
    /// Its name.
    pub user_name: String,
    /// What it is.
    pub role: UserRole,
    /// When it was made, ISO 8601.
    pub created_at: String,
    /// The cubes it may use, newest first.
    pub accessible_cubes: Vec<AccessibleCube>,
}

/// A cube that a user may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessibleCube {
    /// Its id.
    pub cube_id: CubeId,
    /// Its name.
    pub cube_name: String,
    /// The directory it was registered from, if any.
    pub cube_path: Option<String>,
    /// Its owner.
    pub owner_id: UserId,
    /// Whether it is registered: searches and chats use it.
    pub is_loaded: bool,
    /// What the user may do with it.
    pub access: Access,
}

/// Whether somebody of role `actor` makes, changes and deletes users of role `target`.
fn administers(actor: UserRole, target: UserRole) -> bool {
    match actor {
        UserRole::Root => true,
        UserRole::Admin => matches!(target, UserRole::User | UserRole::Guest),
        UserRole::User | UserRole::Guest => false,
    }
}

impl Mos {
    /// Makes a user and returns it. Without a name the id is the name; a user of that name that exists already is
    /// returned as it is, and one that was deleted is active again, with its cubes.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an empty or overlong id.
    pub async fn create_user(&self, id: impl Into<UserId>, name: Option<&str>) -> Result<User> {
        self.create_user_with_role(id, name, UserRole::User).await
    }

    /// As [`Mos::create_user`], with a role.
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
        self.make_user(&id, name.as_str(), role).await
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

    /// Deactivates a user and erases its keys. Its cubes stay, so that nobody's memories are lost by it.
    ///
    /// # Errors
    /// An error for an unknown user and for `root`.
    pub async fn delete_user(&self, id: &UserId) -> Result<()> {
        self.parts.users.delete_user(id).await?;
        self.remove_keys_of(id).await?;
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

    /// Returns an active user, and what it may do with which cube.
    ///
    /// # Errors
    /// [`Error::UnknownUser`].
    pub async fn user_info(&self, user: &UserId) -> Result<UserInfo> {
        let User { user_id, user_name, role, created_at, .. } = self.checked_user(user).await?;
        let mut accessible_cubes = Vec::new();
        for cube in self.parts.users.cubes(Some(user)).await? {
            // One that was taken away since it was listed is left out.
            let Some(access) = self.parts.users.access(user, &cube.cube_id).await? else { continue };
            let Cube { cube_id, cube_name, cube_path, owner_id, is_registered, .. } = cube;
            let (is_loaded, access) = (is_registered, effective(role, access));
            accessible_cubes.push(AccessibleCube { cube_id, cube_name, cube_path, owner_id, is_loaded, access });
        }
        Ok(UserInfo { user_id, user_name, role, created_at, accessible_cubes })
    }
}

/// What administrators do.
impl Mos {
    /// As [`Mos::create_user_with_role`], when `actor` may: ROOT makes any user, an ADMIN makes ordinary users and guests. One
    /// who was deleted is brought back only by who may delete a user of that role.
    ///
    /// # Errors
    /// As [`Mos::create_user_with_role`]; [`Error::UnknownUser`] for the actor; [`Error::NotAllowed`]; a conflict when a cube
    /// of the new user's name is somebody else's.
    pub async fn create_user_as(
        &self,
        actor: &UserId,
        id: impl Into<UserId>,
        name: Option<&str>,
        role: UserRole,
    ) -> Result<User> {
        let id = id.into();
        self.check_administers(actor, role, "create").await?;
        if let Some(known) = self.parts.users.known_user(&id).await?
            && !known.is_active
        {
            // With the cubes that it had, whatever role it gets.
            self.check_administers(actor, known.role, "bring back").await?;
        }
        self.check_own_name(&id).await?;
        self.create_user_with_role(id, name, role).await
    }

    /// Refuses a new user whose name a cube of somebody else has: what the user tells without naming a cube would have to go
    /// there, and is refused.
    pub(super) async fn check_own_name(&self, id: &UserId) -> Result<()> {
        if self.parts.users.known_user(id).await?.is_some() {
            return Ok(());
        }
        match self.parts.users.cube(&CubeId::new(id.as_str())).await? {
            Some(cube) if cube.owner_id != *id => {
                let why = format!(
                    "a cube of the name `{id}` belongs to `{}`, and a user's own cube has the user's name; delete that cube, or \
                     take another id",
                    cube.owner_id
                );
                Err(StoreError::Conflict(why).into())
            }
            _ => Ok(()),
        }
    }

    /// As [`Mos::delete_user`], when `actor` may: ROOT deletes any user but `root`, an ADMIN ordinary users and guests, and
    /// everybody themselves.
    ///
    /// # Errors
    /// As [`Mos::delete_user`]; [`Error::UnknownUser`] for the actor; [`Error::NotAllowed`].
    pub async fn delete_user_as(&self, actor: &UserId, id: &UserId) -> Result<()> {
        self.check_may_delete(actor, id).await?;
        self.delete_user(id).await
    }

    /// Refuses unless the actor may delete and erase the user.
    pub(super) async fn check_may_delete(&self, actor: &UserId, id: &UserId) -> Result<()> {
        if actor == id {
            return self.checked_user(actor).await.map(drop);
        }
        // Who is not there is told to administrators only. Who was deleted may still be erased, with all cubes.
        let role = self.parts.users.known_user(id).await?.map_or(UserRole::Guest, |user| user.role);
        self.check_administers(actor, role, "delete").await
    }

    /// As [`Mos::list_users`], when `actor` may: ROOT and ADMIN.
    ///
    /// # Errors
    /// [`Error::UnknownUser`] for the actor; [`Error::NotAllowed`].
    pub async fn list_users_as(&self, actor: &UserId) -> Result<Vec<User>> {
        self.check_administers(actor, UserRole::Guest, "list").await?;
        self.list_users().await
    }

    /// Gives a user another role and returns the user as it is now, when `actor` may: ROOT changes any user but `root`, an
    /// ADMIN makes guests of ordinary users, and ordinary users of guests.
    ///
    /// # Errors
    /// [`Error::UnknownUser`] for the actor and the user; [`Error::NotAllowed`]; [`Error::Invalid`] for `root`, which keeps its
    /// role, and for [`UserRole::Root`], which nobody else gets.
    pub async fn set_user_role(&self, actor: &UserId, id: &UserId, role: UserRole) -> Result<User> {
        self.check_administers(actor, role, "change").await?;
        let was = self.checked_user(id).await?.role;
        self.check_administers(actor, was, "change").await?;
        if role == UserRole::Root || was == UserRole::Root {
            return Err(Error::Invalid(
                "the role ROOT belongs to the user `root`, who keeps it; choose ADMIN, USER or GUEST for others"
                    .to_owned(),
            ));
        }
        Ok(self.parts.users.set_role(id, role).await?)
    }

    /// Refuses unless the actor may do this with users of a role.
    pub(super) async fn check_administers(&self, actor: &UserId, role: UserRole, what: &str) -> Result<()> {
        if administers(self.checked_user(actor).await?.role, role) {
            return Ok(());
        }
        let what = match role {
            UserRole::Root | UserRole::Admin => format!("{what} a user of the role {}; only ROOT may", role.as_str()),
            UserRole::User | UserRole::Guest => format!("{what} users; only ROOT and ADMIN may"),
        };
        Err(Error::NotAllowed { user: actor.clone(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_have_no_power_over_each_other() {
        let all = [UserRole::Root, UserRole::Admin, UserRole::User, UserRole::Guest];
        assert_eq!(all.map(|target| administers(UserRole::Root, target)), [true; 4]);
        assert_eq!(all.map(|target| administers(UserRole::Admin, target)), [false, false, true, true]);
        assert_eq!(all.map(|target| administers(UserRole::User, target)), [false; 4]);
        assert_eq!(all.map(|target| administers(UserRole::Guest, target)), [false; 4]);
    }
}
