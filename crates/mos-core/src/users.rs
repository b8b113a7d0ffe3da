//! Users, cubes, and who may use which cube.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::UserArchive;
use crate::error::StoreError;
use crate::id::{CubeId, UserId};
use crate::keys::KeyStore;

/// The user that exists from the start.
pub const ROOT_USER: &str = "root";

/// What a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UserRole {
    /// The owner of the installation.
    Root,
    /// An administrator.
    Admin,
    /// An ordinary user.
    User,
    /// A user who only reads, whatever was shared.
    Guest,
}

impl UserRole {
    /// The word that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "ROOT",
            Self::Admin => "ADMIN",
            Self::User => "USER",
            Self::Guest => "GUEST",
        }
    }

    /// Returns the role for a word in any case, `None` for an unknown one.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Root, Self::Admin, Self::User, Self::Guest]
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(word))
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub user_id: UserId,
    /// Its name; unique.
    pub user_name: String,
    /// What it is.
    pub role: UserRole,
    /// When it was made, ISO 8601.
    pub created_at: String,
    /// False once deleted.
    pub is_active: bool,
}

/// A cube as the user database knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cube {
    /// Its id.
    pub cube_id: CubeId,
    /// Its name.
    pub cube_name: String,
    /// The directory it was registered from, if any.
    pub cube_path: Option<String>,
    /// Its owner.
    pub owner_id: UserId,
    /// When it was made, ISO 8601.
    pub created_at: String,
    /// Whether it is registered: searches and chats use it.
    pub is_registered: bool,
    /// Its configuration (a `GeneralMemCubeConfig`) as JSON.
    pub config: Value,
}

/// What a user may do with a cube; each right holds the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Search, read, chat and dump.
    Reader,
    /// Read and write.
    Member,
    /// Also share, unregister and delete.
    Owner,
}

impl Access {
    /// The word that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Owner => "owner",
        }
    }

    /// Returns the right that a stored word names, `None` for an unknown one.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Reader, Self::Member, Self::Owner].into_iter().find(|access| access.as_str() == word)
    }
}

/// A user, a cube, and what the one may do with the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The user, `None` unless there is an active one of the id.
    pub user: Option<User>,
    /// The cube, `None` unless there is one of the id.
    pub cube: Option<Cube>,
    /// What the user may do with the cube; `None` for nothing.
    pub access: Option<Access>,
}

/// Users, cubes and shares. The user `root` exists from the start.
#[async_trait]
pub trait UserStore: fmt::Debug + Send + Sync {
    /// Makes a user and returns it. When a user with this name exists already, that one is returned.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the id belongs to a user of another name.
    async fn create_user(&self, id: &UserId, name: &str, role: UserRole) -> Result<User, StoreError>;

    /// Returns the active user of an id; when the id was never used, makes an ordinary user of that id and name.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user was deleted (nobody comes back by accident), or another one has the name.
    async fn ensure_user(&self, id: &UserId) -> Result<User, StoreError>;

    /// Returns an active user, `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Returns a user, deleted or not; `None` when the id was never used, or is no longer known.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn known_user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        match self.archive() {
            Some(archive) => Ok(archive.archived_users().await?.into_iter().find(|user| user.user_id == *id)),
            None => self.user(id).await,
        }
    }

    /// Returns the active users, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn users(&self) -> Result<Vec<User>, StoreError>;

    /// Deactivates a user; its cubes stay. Deleting a second time is no error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Invalid`] for `root`.
    async fn delete_user(&self, id: &UserId) -> Result<(), StoreError>;

    /// Removes a user for good, active or not, with its shares. Its cubes must be gone. The id may be used again, by somebody
    /// who has nothing of the former user's.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] while it owns cubes; [`StoreError::Invalid`] for `root`, and where the
    /// store cannot do this.
    async fn erase_user(&self, id: &UserId) -> Result<(), StoreError> {
        Err(StoreError::Invalid(format!("this store of users cannot erase the user `{id}`; it can be deactivated")))
    }

    /// Gives an active user another role and returns the user as it is now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Invalid`] for `root`, which keeps its role, and for [`UserRole::Root`],
    /// which nobody else gets.
    async fn set_role(&self, id: &UserId, role: UserRole) -> Result<User, StoreError>;

    /// Makes a cube. Its owner must be an active user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the id exists; [`StoreError::NotFound`] for the owner.
    async fn create_cube(&self, cube: &Cube) -> Result<(), StoreError>;

    /// Returns a cube that is not deleted, `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn cube(&self, id: &CubeId) -> Result<Option<Cube>, StoreError>;

    /// Returns the cubes a user may use, newest first; with `None` all cubes.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn cubes(&self, user: Option<&UserId>) -> Result<Vec<Cube>, StoreError>;

    /// Sets whether a cube is registered.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn set_registered(&self, id: &CubeId, is_registered: bool) -> Result<(), StoreError>;

    /// Replaces a cube's configuration.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn set_cube_config(&self, id: &CubeId, config: &Value) -> Result<(), StoreError>;

    /// Removes a cube with its shares, memories, edges, embeddings and history. A write that comes later is refused
    /// until a cube of this id is made again.
    ///
    /// It is one transaction where users and memories share a store. Otherwise the cube is out of sight for everybody
    /// before the first memory goes, and a deletion that broke off is finished later.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn delete_cube(&self, id: &CubeId) -> Result<(), StoreError>;

    /// As [`UserStore::delete_cube`], but only when the cube is not registered and has no memories; returns whether it
    /// was removed.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn discard_cube(&self, id: &CubeId) -> Result<bool, StoreError>;

    /// Lets an active user read a cube, or read and write it. Sharing again changes the right; the owner's stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user or the cube; [`StoreError::Invalid`] for [`Access::Owner`].
    async fn share(&self, id: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError>;

    /// Returns who has which right to a cube: its owner, then the active users it is shared with, by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn shares(&self, id: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError>;

    /// Takes the right away; the owner keeps it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for the owner.
    async fn unshare(&self, id: &CubeId, user: &UserId) -> Result<(), StoreError>;

    /// Returns what an active user may do with a cube that is not deleted; `None` for nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn access(&self, user: &UserId, cube: &CubeId) -> Result<Option<Access>, StoreError>;

    /// Returns what [`UserStore::user`], [`UserStore::cube`] and [`UserStore::access`] do, with one question to the store where
    /// it can be asked so: every operation begins with it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn standing(&self, user: &UserId, cube: &CubeId) -> Result<Standing, StoreError> {
        let access = self.access(user, cube).await?;
        Ok(Standing { user: self.user(user).await?, cube: self.cube(cube).await?, access })
    }

    /// Returns what there is to know of a store of users that is not the record itself: names and values, for example
    /// its address. Asks the store, so that an error tells why it cannot be used.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn facts(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(Vec::new())
    }

    /// Returns what keeps the keys of these users; `None` when the store keeps none.
    fn key_store(&self) -> Option<&dyn KeyStore> {
        None
    }

    /// Returns what moves users and cubes elsewhere and others' here; `None` when the store cannot.
    fn archive(&self) -> Option<&dyn UserArchive> {
        None
    }
}
